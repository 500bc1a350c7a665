/* pretokenize.h - cutting normalized text into the words that merges do not cross. */
#ifndef POL_PRETOKENIZE_H
#define POL_PRETOKENIZE_H

#include "core/model/tokenizer/normalize.h"

/* What becomes of a match: dropped, a piece of its own, joined to the piece before or after, or joined to other
 * matches. */
typedef enum pol_split_behavior {
    POL_SPLIT_REMOVED,
    POL_SPLIT_ISOLATED,
    POL_SPLIT_WITH_PREVIOUS,
    POL_SPLIT_WITH_NEXT,
    POL_SPLIT_CONTIGUOUS
} pol_split_behavior;

typedef enum pol_split_kind {
    POL_SPLIT_PATTERN,
    POL_SPLIT_PREFIX_SPACE, /* a space before a piece that does not begin with one */
    POL_SPLIT_METASPACE     /* `mark` for spaces, and before the piece as `scheme` says */
} pol_split_kind;

typedef enum pol_prepend_scheme { POL_PREPEND_ALWAYS, POL_PREPEND_FIRST, POL_PREPEND_NEVER } pol_prepend_scheme;

typedef struct pol_split_step {
    pol_split_kind kind;
    pol_pattern *pattern;
    pol_split_behavior behavior;
    bool invert; /* what lies between the matches counts as the match */
    char mark[5];
    pol_prepend_scheme scheme;
} pol_split_step;

typedef struct pol_splitter {
    pol_split_step steps[POL_MAX_STEPS];
    int n;
} pol_splitter;

/* Room to work in, one per thread. Zero-initialise with the contexts set. */
typedef struct pol_split_work {
    pol_search search;
    pol_bytes text[POL_MAX_STEPS];
} pol_split_work;

typedef pol_status (*pol_word_fn)(void *user, const char *word, size_t n);

/* Calls `emit` for every word, in order. `first`: the text begins where the whole text began. */
pol_status pol_split(const pol_splitter *sp, pol_split_work *w, const char *text, size_t n, bool first,
                     pol_word_fn emit, void *user);
pol_status pol_splitter_add_pattern(pol_context *ctx, pol_splitter *sp, const char *where, const char *regex,
                                    pol_split_behavior behavior, bool invert);
void pol_splitter_free(pol_splitter *sp);

/* The pattern of GPT-2 and of every byte-level tokenizer that names no other; of LLaMA 3; and one digit at a time. */
extern const char pol_regex_gpt2[], pol_regex_llama3[], pol_regex_digit[];

#endif
