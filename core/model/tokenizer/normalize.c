/* normalize.c - the normalizers of tokenizer.json and the one of SentencePiece. */
#include "core/model/tokenizer/normalize.h"

#include <stdlib.h>
#include <string.h>

#include "core/model/tokenizer/unicode.h"

/* Decomposing makes at most 18 characters of one, marking spaces three bytes of one. A file whose steps replace nothing
 * by much, one after the other, could ask for any amount of memory. */
static const size_t MAX_GROWTH = 64, ALWAYS_ALLOWED = 1 << 16;

static pol_status check_growth(const pol_bytes *out, size_t most)
{
    return out->len <= most
               ? POL_OK
               : pol_fail(out->ctx, POL_ELIMIT, "normalizer: it makes more than %zu bytes of a text of %zu", most,
                          (most - ALWAYS_ALLOWED) / MAX_GROWTH);
}

static pol_status replace(const pol_normal_step *st, pol_search *search, const char *text, size_t n, size_t most,
                          pol_bytes *out)
{
    pol_cut cut;
    pol_cut_start(&cut, st->pattern, search, text, n);
    for (;;) {
        pol_span span;
        bool more;
        POL_TRY(pol_cut_next(&cut, &span, &more));
        if (!more)
            return POL_OK;
        POL_TRY(span.match ? pol_bytes_add(out, st->content, st->content_len)
                           : pol_bytes_add(out, text + span.start, span.end - span.start));
        POL_TRY(check_growth(out, most));
    }
}

static bool is_ascii(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((uint8_t)text[i] >= 0x80)
            return false;
    return true;
}

static pol_status compose(pol_normal_kind kind, const char *text, size_t n, pol_bytes *out)
{
    if (is_ascii(text, n)) /* the same in all four forms */
        return pol_bytes_add(out, text, n);
    const bool composed = kind == POL_NORMAL_NFC || kind == POL_NORMAL_NFKC;
    const bool compatible = kind == POL_NORMAL_NFKC || kind == POL_NORMAL_NFKD;
    utf8proc_uint8_t *form = NULL;
    const utf8proc_ssize_t len =
        utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, &form,
                     (utf8proc_option_t)(UTF8PROC_STABLE | (composed ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                                         (compatible ? UTF8PROC_COMPAT : 0)));
    pol_status s =
        len < 0 ? pol_fail(out->ctx, len == UTF8PROC_ERROR_NOMEM ? POL_ENOMEM : POL_EFORMAT,
                           "text of %zu bytes cannot be brought to a Unicode normal form: %s", n, utf8proc_errmsg(len))
                : pol_bytes_add(out, form, (size_t)len);
    free(form);
    return s;
}

static pol_status lower(const char *text, size_t n, pol_bytes *out)
{
    for (size_t i = 0; i < n; i += pol_utf8_length(text + i)) {
        const int32_t c = pol_utf8_first(text + i);
        utf8proc_uint8_t form[4];
        if (c == 0x130) /* the one letter whose lower case is two characters */
            POL_TRY(pol_bytes_add(out, "i\xcc\x87", 3));
        else
            POL_TRY(pol_bytes_add(out, form, (size_t)utf8proc_encode_char(utf8proc_tolower(c), form)));
    }
    return POL_OK;
}

static pol_status strip(const pol_normal_step *st, const char *text, size_t n, pol_bytes *out)
{
    size_t start = 0, end = n;
    while (st->left && start < end && pol_is_space(pol_utf8_first(text + start)))
        start += pol_utf8_length(text + start);
    while (st->right && end > start && pol_is_space(pol_utf8_last(text, end)))
        end -= pol_utf8_last_length(text, end);
    return pol_bytes_add(out, text + start, end - start);
}

static pol_status add_marked(const pol_normal_step *st, const char *text, size_t n, pol_bytes *out)
{
    for (size_t i = 0; i < n; i++)
        POL_TRY(text[i] == ' ' && st->mark ? pol_bytes_add(out, POL_SPACE_MARK, POL_SPACE_MARK_LEN)
                                           : pol_bytes_add(out, text + i, 1));
    return POL_OK;
}

/* With `collapse`, spaces at both ends go and runs become one; a user-defined piece is taken whole, but loses leading
 * spaces after a space like any other. */
static pol_status sentencepiece(const pol_normal_step *st, const pol_literals *user, const char *text, size_t n,
                                bool begins, pol_bytes *out)
{
    size_t i = 0;
    while (st->collapse && i < n && text[i] == ' ') {
        const pol_literal *lit = user ? pol_literals_at(user, text + i, n - i) : NULL;
        if (lit && !(lit->len == 1))
            break;
        i++;
    }
    if (i == n)
        return POL_OK;
    const size_t begin = out->len;
    if (st->prefix && begins)
        POL_TRY(add_marked(st, " ", 1, out));
    bool after_space = st->collapse;
    while (i < n) {
        const pol_literal *lit = user ? pol_literals_at(user, text + i, n - i) : NULL;
        const size_t len = lit ? lit->len : pol_utf8_length(text + i);
        size_t skip = 0;
        while (after_space && skip < len && text[i + skip] == ' ')
            skip++;
        if (skip < len) {
            POL_TRY(add_marked(st, text + i + skip, len - skip, out));
            after_space = st->collapse && text[i + len - 1] == ' ';
        }
        i += len;
    }
    const char *space = st->mark ? POL_SPACE_MARK : " ";
    const size_t width = strlen(space);
    while (st->collapse && out->len >= begin + width && memcmp(out->data + out->len - width, space, width) == 0)
        out->len -= width;
    return POL_OK;
}

static pol_status apply(const pol_normalizer *nz, const pol_normal_step *st, pol_search *search, const char *text,
                        size_t n, bool begins, size_t most, pol_bytes *out)
{
    switch (st->kind) {
    case POL_NORMAL_PREPEND:
        if (!n)
            return POL_OK;
        if (begins)
            POL_TRY(pol_bytes_add(out, st->content, st->content_len));
        return pol_bytes_add(out, text, n);
    case POL_NORMAL_REPLACE: return replace(st, search, text, n, most, out);
    case POL_NORMAL_NFC:
    case POL_NORMAL_NFD:
    case POL_NORMAL_NFKC:
    case POL_NORMAL_NFKD: return compose(st->kind, text, n, out);
    case POL_NORMAL_LOWER: return lower(text, n, out);
    case POL_NORMAL_STRIP: return strip(st, text, n, out);
    case POL_NORMAL_SENTENCEPIECE: return sentencepiece(st, nz->user, text, n, begins, out);
    }
    return pol_fail(out->ctx, POL_EARG, "normalizer kind %d", (int)st->kind);
}

pol_status pol_normalize(const pol_normalizer *nz, pol_search *search, const char *text, size_t n, bool begins,
                         pol_bytes *out, pol_bytes *spare)
{
    out->len = 0;
    if (!nz->n)
        return pol_bytes_add(out, text, n);
    const size_t most = MAX_GROWTH * n + ALWAYS_ALLOWED;
    for (int i = 0; i < nz->n; i++) {
        spare->len = 0;
        POL_TRY(pol_bytes_reserve(spare, n));
        POL_TRY(apply(nz, &nz->steps[i], search, i ? out->data : text, i ? out->len : n, begins, most, spare));
        POL_TRY(check_growth(spare, most));
        const pol_bytes swap = *out;
        *out = *spare;
        *spare = swap;
    }
    return POL_OK;
}

void pol_normalizer_free(pol_context *ctx, pol_normalizer *nz)
{
    for (int i = 0; i < nz->n; i++) {
        pol_pattern_free(nz->steps[i].pattern);
        pol_free(ctx, nz->steps[i].content);
    }
    nz->n = 0;
}
