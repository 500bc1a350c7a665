/* family.h - which architectures are handled, and their configuration files in one form. */
#ifndef POL_FAMILY_H
#define POL_FAMILY_H

#include <jansson.h>

#include "core/base/base.h"
#include "core/model/gguf.h"
#include "pollard/config.h"

/* One row per model_type whose decoder block is ours: what its configuration means where it is silent. */
typedef struct pol_family {
    const char *name;         /* model_type in config.json */
    const char *architecture; /* general.architecture in GGUF; NULL where such models are stored under another row's */
    int32_t groups;           /* num_key_value_heads; 0 = as many as heads */
    int32_t positions;        /* max_position_embeddings */
    bool windowed;            /* attends through a sliding window if the configuration has one */
    int32_t window;           /* sliding_window */
    bool biased;              /* attention_bias and mlp_bias are read */
    bool interleaved;         /* GGUF files store the rows of q and k in adjacent-pair order */
} pol_family;

const pol_family *pol_family_of_model_type(const char *name, size_t n);   /* NULL where unknown */
const pol_family *pol_family_of_architecture(const char *name, size_t n); /* NULL where unknown */

/* Fill *out, which need not be initialised, and check it; `where` names the file in messages. */
pol_status pol_config_from_json(pol_context *ctx, const char *where, const json_t *config, pol_config *out);
pol_status pol_config_from_gguf(pol_context *ctx, const pol_gguf *g, pol_config *out);
/* pollard.json of an exported folder: what each layer still has. *c is the dense configuration. */
pol_status pol_config_apply_pruned(pol_context *ctx, const char *where, const json_t *pruned, pol_config *c);

/* The shape as configuration files give it, in 64 bits, not yet believed. */
typedef struct pol_raw_shape {
    int64_t layers, hidden, heads, groups, head_dim, ffn, vocab, positions, window;
} pol_raw_shape;

/* Bounds and divisibility; then the dense shape goes into *c. */
pol_status pol_config_set_shape(pol_context *ctx, const char *where, const pol_raw_shape *s, pol_config *c);
/* The numbers of normalisation and rope in *c. */
pol_status pol_config_check_numbers(pol_context *ctx, const char *where, const pol_config *c);

#endif
