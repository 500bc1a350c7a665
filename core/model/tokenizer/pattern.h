/* pattern.h - the regular expressions of tokenizers, through PCRE2, and cutting text along their matches.
 *
 * Patterns are written for Oniguruma (Ruby syntax) or for Rust's regex. What means something else in PCRE2 is rewritten
 * (\s, \w) or refused by name, so that a pattern that compiles here cuts as the original does.
 */
#ifndef POL_PATTERN_H
#define POL_PATTERN_H

#include "core/base/base.h"

typedef struct pol_pattern pol_pattern;

/* `where` begins the messages ("tokenizer.json: pre_tokenizer.pattern"). On success *out is yours: pol_pattern_free. */
pol_status pol_pattern_new(pol_context *ctx, const char *where, const char *regex, size_t n, pol_pattern **out);
/* Matches the text itself. */
pol_status pol_pattern_new_literal(pol_context *ctx, const char *where, const char *text, size_t n, pol_pattern **out);
void pol_pattern_free(pol_pattern *p); /* takes NULL */

/* What a search needs besides the pattern; one per thread. Zero-initialise with the context set. */
typedef struct pol_search {
    pol_context *ctx;
    void *match, *limits; /* pcre2_match_data, pcre2_match_context */
} pol_search;

void pol_search_free(pol_search *s);

/* Spans of `text` (well-formed UTF-8) in order, matches and what lies between them, which together cover it. */
typedef struct pol_cut {
    const pol_pattern *pattern;
    pol_search *search;
    const char *text;
    size_t n;
    size_t done;           /* everything before has been given out */
    size_t from, last_end; /* of the search; last_end is SIZE_MAX before the first match */
    size_t start, end;     /* a match found, but not given out yet */
    bool waiting, finished;
} pol_cut;

typedef struct pol_span {
    size_t start, end;
    bool match;
} pol_span;

void pol_cut_start(pol_cut *c, const pol_pattern *p, pol_search *s, const char *text, size_t n);
/* *more is false at the end. POL_ELIMIT where the pattern backtracks without bound. */
pol_status pol_cut_next(pol_cut *c, pol_span *span, bool *more);

#endif
