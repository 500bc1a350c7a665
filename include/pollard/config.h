/* config.h - the shape of a decoder: what config.json or the GGUF metadata says, in one form. */
#ifndef POLLARD_CONFIG_H
#define POLLARD_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "pollard/context.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { POL_MAX_LAYERS = 1024 };

typedef enum pol_rope_scaling { POL_ROPE_NONE = 0, POL_ROPE_LINEAR, POL_ROPE_LLAMA3 } pol_rope_scaling;

/* What one layer still has. Dense models have the same in every layer; a pruned folder may differ; 0 means that the
 * block is gone and only its residual path is left. */
typedef struct pol_layer_shape {
    int32_t n_groups; /* key/value groups of the attention block */
    int32_t ffn;      /* channels of the MLP block */
} pol_layer_shape;

typedef struct pol_config {
    char family[32]; /* row of the family table: "llama", "mistral" */
    int32_t n_layers;
    int32_t hidden;         /* C, hidden size */
    int32_t heads_per_group; /* g, query heads per key/value group */
    int32_t head_dim;       /* D */
    int32_t n_groups;       /* G, groups of a layer before any pruning */
    int32_t ffn;            /* F, MLP width before any pruning */
    int32_t vocab;          /* V, rows of the embedding */
    int32_t max_positions;
    int32_t window; /* sliding window in tokens, 0 = none */
    float rms_eps;
    float rope_theta;
    pol_rope_scaling rope_scaling;
    float rope_factor, rope_low_freq, rope_high_freq; /* linear uses the factor only */
    int32_t rope_original_positions;
    bool tied;                            /* the output matrix is the embedding */
    bool qkv_bias, o_bias, mlp_bias;
    pol_layer_shape layers[POL_MAX_LAYERS]; /* [n_layers] */
} pol_config;

/* Parameters of all decoder blocks without norms, of what is left of them (layers[]); of everything. */
POL_API int64_t pol_config_block_params(const pol_config *c);
POL_API int64_t pol_config_total_params(const pol_config *c);
/* Multiply-accumulates of one token through the blocks and the output matrix (attention scores not counted). */
POL_API int64_t pol_config_macs(const pol_config *c);

#ifdef __cplusplus
}
#endif
#endif
