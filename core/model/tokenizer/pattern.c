/* pattern.c - PCRE2 made to read tokenizers' patterns. */
#include "core/model/tokenizer/pattern.h"

#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "core/model/tokenizer/unicode.h"

enum {
    MAX_PATTERN = 1 << 16,
    /* Of one match: real patterns need a few for each character that they look at. */
    MAX_STEPS = 1000000,
    MAX_STEPS_PER_BYTE = 16,
    MAX_HEAP_KIB = 1 << 18
};

struct pol_pattern {
    pol_context *ctx;
    char *where;
    pcre2_code *code;
};

/* ---- from Oniguruma's dialect ---- */

/* As the inside of a class. PCRE2's own \s also takes U+180E, and its \w lacks marks and letter-like symbols.
 * Oniguruma's \w has, outside a class only, the numbers of Latin-1 that are no decimal digits. */
static const char space_class[] = "\\t-\\r\\x20\\x{85}\\p{Z}";
static const char word_class[] =
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}"
    "\\x{1F170}-\\x{1F189}";
static const char latin1_numbers[] = "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}";

static pol_status refuse(pol_context *ctx, const char *where, const char *regex, size_t n, const char *what)
{
    return pol_fail(ctx, POL_EUNSUPPORTED, "%s: pattern '%.*s': %s", where, (int)(n < 120 ? n : 120), regex, what);
}

/* The two characters regex[at], a backslash, and regex[at + 1]. */
static pol_status translate_escape(const char *where, const char *regex, size_t n, size_t at, bool in_class,
                                   pol_bytes *out)
{
    const char c = regex[at + 1];
    const char *set = c == 's' || c == 'S' ? space_class : c == 'w' || c == 'W' ? word_class : NULL;
    if (set) {
        const bool negated = c == 'S' || c == 'W';
        if (in_class && negated)
            return c == 'S' ? pol_bytes_add(out, "\\S", 2) /* U+180E apart, the same */
                            : refuse(out->ctx, where, regex, n, "\\W inside a class is not supported");
        return in_class ? pol_bytes_printf(out, "%s", set)
                        : pol_bytes_printf(out, "[%s%s%s]", negated ? "^" : "", set,
                                           set == word_class ? latin1_numbers : "");
    }
    if (c && strchr("bBhHvVRXKCGgyYOMQE", c)) /* other meanings, or not tested to be the same */
        return refuse(out->ctx, where, regex, n, "it uses an escape that is not supported");
    return pol_bytes_add(out, regex + at, 2);
}

/* Whether the brace at `close` ends an interval like {1,3}, not \p{L} or \x{20}. */
static bool ends_interval(const char *regex, size_t close)
{
    size_t open = close;
    while (open > 0 && ((regex[open - 1] >= '0' && regex[open - 1] <= '9') || regex[open - 1] == ','))
        open--;
    if (open == 0 || regex[open - 1] != '{')
        return false;
    return !(open >= 3 && regex[open - 3] == '\\' && strchr("pPx", regex[open - 2]));
}

static pol_status translate(const char *where, const char *regex, size_t n, pol_bytes *out)
{
    bool in_class = false;
    for (size_t i = 0; i < n; i++) {
        const char c = regex[i], next = i + 1 < n ? regex[i + 1] : 0;
        if (c == '\\') {
            if (i + 1 == n)
                return refuse(out->ctx, where, regex, n, "it ends in a backslash");
            POL_TRY(translate_escape(where, regex, n, i, in_class, out));
            i++;
            continue;
        }
        if (in_class) {
            if (c == '[') /* [:name:] too: the engines disagree on what is alphabetic and what is punctuation */
                return refuse(out->ctx, where, regex, n, "a class inside a class is not supported");
            if (c == '&' && next == '&')
                return refuse(out->ctx, where, regex, n, "an intersection of classes is not supported");
            in_class = c != ']';
        } else {
            if (c == '(' && next == '*')
                return refuse(out->ctx, where, regex, n, "a verb (*...) is not supported");
            if (c == '}' && next == '+' && ends_interval(regex, i))
                return refuse(out->ctx, where, regex, n, "'}+' means different things in different engines");
            if (c == '[') {
                in_class = true;
                if (next == '^' || next == ']') { /* a ']' that comes first is a member */
                    const size_t len = next == '^' && i + 2 < n && regex[i + 2] == ']' ? 3 : 2;
                    POL_TRY(pol_bytes_add(out, regex + i, len));
                    i += len - 1;
                    continue;
                }
            }
        }
        POL_TRY(pol_bytes_add(out, &c, 1));
    }
    return POL_OK;
}

/* ---- compiling ---- */

static pol_status compile(pol_context *ctx, const char *where, const char *regex, size_t n, uint32_t options,
                          pol_pattern **out)
{
    *out = NULL;
    pcre2_compile_context *cc = pcre2_compile_context_create(NULL);
    if (!cc)
        return pol_fail(ctx, POL_ENOMEM, "%s: no memory for a pattern", where);
    pcre2_set_newline(cc, PCRE2_NEWLINE_LF); /* not what the system's library was built with */
    pcre2_set_bsr(cc, PCRE2_BSR_UNICODE);
    int code;
    PCRE2_SIZE at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)regex, n, PCRE2_UTF | options, &code, &at, cc);
    pcre2_compile_context_free(cc);
    if (!re) {
        char why[128];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        return pol_fail(ctx, POL_EUNSUPPORTED, "%s: pattern '%.*s': %s", where, (int)(n < 120 ? n : 120), regex, why);
    }
    pcre2_jit_compile(re, PCRE2_JIT_COMPLETE); /* only speed: without it the interpreter runs */
    pol_pattern *p = pol_alloc_zero(ctx, sizeof *p);
    if (p) {
        *p = (pol_pattern){.ctx = ctx, .code = re, .where = pol_strdup(ctx, where)};
        if (p->where) {
            *out = p;
            return POL_OK;
        }
        pol_free(ctx, p);
    }
    pcre2_code_free(re);
    return POL_ENOMEM;
}

pol_status pol_pattern_new(pol_context *ctx, const char *where, const char *regex, size_t n, pol_pattern **out)
{
    *out = NULL;
    if (n > MAX_PATTERN)
        return pol_fail(ctx, POL_ELIMIT, "%s: pattern of %zu bytes: more than %d", where, n, MAX_PATTERN);
    pol_bytes pcre = {.ctx = ctx};
    pol_status s = translate(where, regex, n, &pcre);
    /* ^ and $ are of the line in Ruby's syntax. */
    if (s >= 0)
        s = compile(ctx, where, pcre.data ? pcre.data : "", pcre.len,
                    PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, out);
    pol_bytes_free(&pcre);
    return s;
}

pol_status pol_pattern_new_literal(pol_context *ctx, const char *where, const char *text, size_t n, pol_pattern **out)
{
    return compile(ctx, where, text, n, PCRE2_LITERAL, out);
}

void pol_pattern_free(pol_pattern *p)
{
    if (!p)
        return;
    pcre2_code_free(p->code);
    pol_free(p->ctx, p->where);
    pol_free(p->ctx, p);
}

/* ---- cutting ---- */

static pol_status prepare(pol_search *s)
{
    if (s->match)
        return POL_OK;
    s->match = pcre2_match_data_create(1, NULL);
    s->limits = pcre2_match_context_create(NULL);
    if (!s->match || !s->limits)
        return pol_fail(s->ctx, POL_ENOMEM, "no memory for a pattern search");
    pcre2_set_heap_limit(s->limits, MAX_HEAP_KIB);
    return POL_OK;
}

void pol_search_free(pol_search *s)
{
    pcre2_match_data_free(s->match);
    pcre2_match_context_free(s->limits);
    s->match = s->limits = NULL;
}

void pol_cut_start(pol_cut *c, const pol_pattern *p, pol_search *s, const char *text, size_t n)
{
    *c = (pol_cut){.pattern = p, .search = s, .text = text, .n = n, .last_end = SIZE_MAX};
}

/* An empty match right after the last one is passed over, as the original engines do. */
static pol_status find(pol_cut *c)
{
    POL_TRY(prepare(c->search));
    const uint64_t steps = MAX_STEPS + (uint64_t)MAX_STEPS_PER_BYTE * c->n;
    pcre2_set_match_limit(c->search->limits, steps < UINT32_MAX ? (uint32_t)steps : UINT32_MAX);
    while (c->from <= c->n) {
        int rc = pcre2_match(c->pattern->code, (PCRE2_SPTR)c->text, c->n, c->from, PCRE2_NO_UTF_CHECK, c->search->match,
                             c->search->limits);
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its stack on the heap */
            rc = pcre2_match(c->pattern->code, (PCRE2_SPTR)c->text, c->n, c->from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                             c->search->match, c->search->limits);
        if (rc == PCRE2_ERROR_NOMATCH)
            break;
        const PCRE2_SIZE *at = pcre2_get_ovector_pointer(c->search->match);
        if (rc < 0 || at[0] < c->from || at[1] < at[0])
            return pol_fail(c->search->ctx, POL_ELIMIT,
                            "%s: the pattern fails on a text of %zu bytes at byte %zu (PCRE2 code %d)",
                            c->pattern->where, c->n, c->from, rc);
        if (at[0] == at[1] && at[0] == c->last_end) {
            c->from += c->from < c->n ? pol_utf8_length(c->text + c->from) : 1;
            continue;
        }
        c->start = at[0];
        c->end = c->from = c->last_end = at[1];
        c->waiting = true;
        return POL_OK;
    }
    c->finished = true;
    return POL_OK;
}

pol_status pol_cut_next(pol_cut *c, pol_span *span, bool *more)
{
    if (!c->waiting && !c->finished)
        POL_TRY(find(c));
    *more = true;
    if (c->waiting && c->start <= c->done) {
        *span = (pol_span){c->start, c->end, true};
        c->waiting = false;
        c->done = c->end;
    } else {
        const size_t end = c->waiting ? c->start : c->n;
        *span = (pol_span){c->done, end, false};
        *more = c->done < end;
        c->done = end;
    }
    return POL_OK;
}
