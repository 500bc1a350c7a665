/* normalize.h - what a tokenizer does to the text before it cuts it. */
#ifndef POL_NORMALIZE_H
#define POL_NORMALIZE_H

#include "core/base/base.h"
#include "core/model/tokenizer/literals.h"
#include "core/model/tokenizer/pattern.h"

typedef enum pol_normal_kind {
    POL_NORMAL_PREPEND, /* `content` before a text that is not empty */
    POL_NORMAL_REPLACE, /* `content` for every match of `pattern` */
    POL_NORMAL_NFC,
    POL_NORMAL_NFD,
    POL_NORMAL_NFKC,
    POL_NORMAL_NFKD,
    POL_NORMAL_LOWER,
    POL_NORMAL_STRIP,
    POL_NORMAL_SENTENCEPIECE /* spaces as a SentencePiece model's normalizer_spec wants them */
} pol_normal_kind;

typedef struct pol_normal_step {
    pol_normal_kind kind;
    pol_pattern *pattern;
    char *content;
    size_t content_len;
    bool spaces_only; /* REPLACE: the pattern is one space, as itself */
    bool left, right; /* STRIP */
    bool prefix;      /* SENTENCEPIECE: add_dummy_prefix */
    bool collapse;    /*   remove_extra_whitespaces */
    bool mark;        /*   escape_whitespaces */
} pol_normal_step;

enum { POL_MAX_STEPS = 16 }; /* of normalizing, and of cutting */

typedef struct pol_normalizer {
    pol_normal_step steps[POL_MAX_STEPS];
    int n;
    const pol_literals *user; /* SENTENCEPIECE: user-defined pieces, which stay whole; borrowed */
} pol_normalizer;

/* Replaces the content of `out`. `begins`: the text is not the continuation of another, before which a prefix went.
 * `spare` is room to work in; `search` as in pattern.h. */
pol_status pol_normalize(const pol_normalizer *nz, pol_search *search, const char *text, size_t n, bool begins,
                         pol_bytes *out, pol_bytes *spare);
void pol_normalizer_free(pol_context *ctx, pol_normalizer *nz);

#endif
