/* encode.c - the pipeline from text to ids.
 *
 * Where a tokenizer has words, they are cut out one by one, in place. SentencePiece has none, and would normalize and
 * merge a text of any size as a whole: where it makes no difference, the text goes through in pieces of many lines.
 */
#include <string.h>

#include "core/base/utf8.h"
#include "core/model/tokenizer/internal.h"
#include "core/model/tokenizer/unicode.h"

/* A piece ends with the first line that may end one after so many bytes. */
enum { PIECE_BYTES = 1 << 18 };

typedef struct encoding {
    const pol_tokenizer *tok;
    pol_context *ctx;
    pol_bpe_work bpe;
    pol_split_work split;
    pol_bytes text, spare;
    bool special;
    int64_t enough; /* ids */
    bool stopped;   /* there were enough of them before the end */
    pol_token_list *list;
} encoding;

/* Stops the encoding where there are enough ids; not a failure. */
static pol_status check_enough(encoding *e)
{
    e->stopped = e->list->n >= e->enough;
    return e->stopped ? POL_ELIMIT : POL_OK;
}

static pol_status encode_word(void *user, const char *word, size_t n)
{
    encoding *e = user;
    POL_TRY(pol_bpe_encode(&e->tok->bpe, &e->tok->vocab, &e->bpe, word, n, e->list));
    return check_enough(e);
}

static pol_status encode_normalized(encoding *e, const char *text, size_t n, bool first)
{
    size_t done = 0, from = 0, start, end;
    const pol_literal *lit;
    while ((lit = pol_literals_next(&e->tok->normalized, text, n, e->special, done, &from, &start, &end))) {
        POL_TRY(pol_split(&e->tok->splitter, &e->split, text + done, start - done, first && done == 0, encode_word, e));
        POL_TRY(pol_token_list_add(e->ctx, e->list, lit->id));
        done = end;
    }
    return pol_split(&e->tok->splitter, &e->split, text + done, n - done, first && done == 0, encode_word, e);
}

static bool ends_piece(const pol_tokenizer *t, const char *text, size_t at)
{
    return pol_bpe_may_cut(&t->bpe, &t->vocab, '\n', text[at] == ' ' ? POL_SPACE_MARK : text + at);
}

static size_t piece_end(const pol_tokenizer *t, const char *text, size_t n, size_t from)
{
    if (!t->by_lines || n - from <= PIECE_BYTES)
        return n;
    const char *at = text + from + PIECE_BYTES, *end = text + n;
    while ((at = memchr(at, '\n', (size_t)(end - at))) && ++at < end)
        if (ends_piece(t, text, (size_t)(at - text)))
            return (size_t)(at - text);
    return n;
}

static pol_status encode_fragment(encoding *e, const char *text, size_t n, bool first)
{
    if (!e->tok->normalizer.n) /* nothing to do: spare the copy */
        return encode_normalized(e, text, n, first);
    for (size_t at = 0, end; at < n; at = end) {
        end = piece_end(e->tok, text, n, at);
        POL_TRY(
            pol_normalize(&e->tok->normalizer, &e->split.search, text + at, end - at, at == 0, &e->text, &e->spare));
        POL_TRY(encode_normalized(e, e->text.data, e->text.len, first && at == 0));
    }
    return POL_OK;
}

static pol_status encode_all(encoding *e, const char *text, size_t n)
{
    size_t done = 0, from = 0, start, end;
    const pol_literal *lit;
    while ((lit = pol_literals_next(&e->tok->raw, text, n, e->special, done, &from, &start, &end))) {
        POL_TRY(encode_fragment(e, text + done, start - done, done == 0));
        POL_TRY(pol_token_list_add(e->ctx, e->list, lit->id));
        POL_TRY(check_enough(e));
        done = end;
    }
    return encode_fragment(e, text + done, n - done, done == 0);
}

pol_status pol_tokenizer_encode_until(const pol_tokenizer *tok, pol_context *ctx, const char *text, size_t n,
                                      bool parse_special, int64_t enough, pol_token_list *list)
{
    size_t bad;
    if (!pol_utf8_check(text, n, &bad))
        return pol_fail(ctx, POL_EFORMAT, "text: byte %zu (0x%02x) does not belong to UTF-8", bad, (uint8_t)text[bad]);
    encoding e = {.tok = tok,
                  .ctx = ctx,
                  .special = parse_special,
                  .enough = enough,
                  .list = list,
                  .bpe = {.ctx = ctx},
                  .split = {.search = {.ctx = ctx}},
                  .text = {.ctx = ctx},
                  .spare = {.ctx = ctx}};
    for (int i = 0; i < POL_MAX_STEPS; i++)
        e.split.text[i].ctx = ctx;
    const int64_t before = list->n;
    pol_status s = encode_all(&e, text, n);
    if (e.stopped)
        s = POL_OK;
    if (s < 0)
        list->n = before;
    pol_bpe_work_free(&e.bpe);
    pol_search_free(&e.split.search);
    for (int i = 0; i < POL_MAX_STEPS; i++)
        pol_bytes_free(&e.split.text[i]);
    pol_bytes_free(&e.text);
    pol_bytes_free(&e.spare);
    return s;
}

pol_status pol_tokenizer_encode(const pol_tokenizer *tok, pol_context *ctx, const char *text, size_t n,
                                bool parse_special, pol_token_list *list)
{
    return pol_tokenizer_encode_until(tok, ctx, text, n, parse_special, INT64_MAX, list);
}

/* ---- whether lines may be encoded apart ---- */

static bool are_within_lines(const pol_literals *l)
{
    for (int64_t i = 0; i < l->n; i++)
        if (l->items[i].lstrip || l->items[i].rstrip || memchr(l->items[i].text, '\n', l->items[i].len))
            return false;
    return true;
}

/* Every space becomes the mark, and nothing else changes. */
static bool marks_spaces(const pol_normal_step *st)
{
    return (st->kind == POL_NORMAL_SENTENCEPIECE && st->mark && !st->collapse) ||
           (st->kind == POL_NORMAL_REPLACE && st->spaces_only && strcmp(st->content, POL_SPACE_MARK) == 0);
}

bool pol_lines_are_independent(const pol_tokenizer *t)
{
    for (int i = 0; i < t->normalizer.n; i++) {
        const pol_normal_step *st = &t->normalizer.steps[i];
        if (st->kind != POL_NORMAL_PREPEND && !marks_spaces(st))
            return false;
    }
    return t->splitter.n == 0 && t->bpe.cuttable && are_within_lines(&t->raw) && are_within_lines(&t->normalized) &&
           are_within_lines(&t->user);
}
