/* pretokenize.c - the steps of a pre-tokenizer, each cutting the pieces that the one before left. */
#include "core/model/tokenizer/pretokenize.h"

#include <string.h>

#include "core/model/tokenizer/unicode.h"

const char pol_regex_gpt2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const char pol_regex_llama3[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
                                " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char pol_regex_digit[] = "\\p{N}";

typedef struct run {
    const pol_splitter *sp;
    pol_split_work *w;
    pol_word_fn emit;
    void *user;
} run;

static pol_status go(const run *r, int step, const char *text, size_t n, bool first);

static pol_status go_span(const run *r, int step, const char *text, pol_span span, bool first)
{
    return span.start == span.end ? POL_OK
                                  : go(r, step, text + span.start, span.end - span.start, first && span.start == 0);
}

/* One span is held back until it is known whether the next one joins it. */
static pol_status go_pattern(const run *r, int step, const char *text, size_t n, bool first)
{
    const pol_split_step *st = &r->sp->steps[step];
    pol_cut cut;
    pol_cut_start(&cut, st->pattern, &r->w->search, text, n);
    pol_span held = {0, 0, false};
    bool holding = false, last_match = false;
    for (;;) {
        pol_span span;
        bool more;
        POL_TRY(pol_cut_next(&cut, &span, &more));
        if (!more)
            break;
        span.match ^= st->invert;
        bool joins = false;
        switch (st->behavior) {
        case POL_SPLIT_REMOVED:
            if (span.match)
                continue;
            break;
        case POL_SPLIT_ISOLATED: break;
        case POL_SPLIT_WITH_PREVIOUS: joins = span.match && !last_match; break;
        case POL_SPLIT_WITH_NEXT: joins = !span.match && last_match; break;
        case POL_SPLIT_CONTIGUOUS: joins = span.match == last_match; break;
        }
        last_match = span.match;
        if (holding && joins) {
            held.end = span.end;
            continue;
        }
        if (holding)
            POL_TRY(go_span(r, step + 1, text, held, first));
        held = span;
        holding = true;
    }
    return holding ? go_span(r, step + 1, text, held, first) : POL_OK;
}

static pol_status go_metaspace(const run *r, int step, const char *text, size_t n, bool first)
{
    const pol_split_step *st = &r->sp->steps[step];
    const size_t width = strlen(st->mark);
    pol_bytes *b = &r->w->text[step];
    b->len = 0;
    const bool marked = text[0] == ' ' || (n >= width && memcmp(text, st->mark, width) == 0);
    if (!marked && (st->scheme == POL_PREPEND_ALWAYS || (st->scheme == POL_PREPEND_FIRST && first)))
        POL_TRY(pol_bytes_add(b, st->mark, width));
    for (size_t i = 0; i < n; i++)
        POL_TRY(text[i] == ' ' ? pol_bytes_add(b, st->mark, width) : pol_bytes_add(b, text + i, 1));
    return go(r, step + 1, b->data, b->len, first);
}

static pol_status go_prefix_space(const run *r, int step, const char *text, size_t n, bool first)
{
    if (text[0] == ' ')
        return go(r, step + 1, text, n, first);
    pol_bytes *b = &r->w->text[step];
    b->len = 0;
    POL_TRY(pol_bytes_add(b, " ", 1));
    POL_TRY(pol_bytes_add(b, text, n));
    return go(r, step + 1, b->data, b->len, first);
}

/* n > 0. A step's buffer stays as it is while the steps after it run. */
static pol_status go(const run *r, int step, const char *text, size_t n, bool first)
{
    if (step == r->sp->n)
        return r->emit(r->user, text, n);
    switch (r->sp->steps[step].kind) {
    case POL_SPLIT_PATTERN: return go_pattern(r, step, text, n, first);
    case POL_SPLIT_PREFIX_SPACE: return go_prefix_space(r, step, text, n, first);
    case POL_SPLIT_METASPACE: return go_metaspace(r, step, text, n, first);
    }
    return pol_fail(r->w->search.ctx, POL_EARG, "pre-tokenizer kind %d", (int)r->sp->steps[step].kind);
}

pol_status pol_split(const pol_splitter *sp, pol_split_work *w, const char *text, size_t n, bool first,
                     pol_word_fn emit, void *user)
{
    const run r = {sp, w, emit, user};
    return n ? go(&r, 0, text, n, first) : POL_OK;
}

pol_status pol_splitter_add_pattern(pol_context *ctx, pol_splitter *sp, const char *where, const char *regex,
                                    pol_split_behavior behavior, bool invert)
{
    if (sp->n == POL_MAX_STEPS)
        return pol_fail(ctx, POL_EUNSUPPORTED, "%s: more than %d steps", where, POL_MAX_STEPS);
    pol_split_step *st = &sp->steps[sp->n];
    *st = (pol_split_step){.kind = POL_SPLIT_PATTERN, .behavior = behavior, .invert = invert};
    POL_TRY(pol_pattern_new(ctx, where, regex, strlen(regex), &st->pattern));
    sp->n++;
    return POL_OK;
}

void pol_splitter_free(pol_splitter *sp)
{
    for (int i = 0; i < sp->n; i++)
        pol_pattern_free(sp->steps[i].pattern);
    sp->n = 0;
}
