/* weights.h - the weights of a model on a device, stored unit by unit, kept units first (docs/architecture.md, "The
 * prefix layout"). */
#ifndef POL_WEIGHTS_H
#define POL_WEIGHTS_H

#include "core/backend.h"
#include "core/mask/arrangement.h"
#include "pollard/model.h"

typedef struct pol_layer_weights {
    pol_buf *attn_norm, *mlp_norm; /* [C]; NULL where the block is gone from the source */
    pol_buf *w_qkv;                /* [G, (g+2)*D, C]: a group's query rows, key rows, value rows */
    pol_buf *w_o;                  /* [G, g*D, C]: transposed at load */
    pol_buf *w_gate_up;            /* [F, 2, C]: a channel's gate row, then its up row */
    pol_buf *w_down;               /* [F, C]: transposed at load */
    pol_buf *b_qkv;                /* [G, (g+2)*D] or NULL */
    pol_buf *b_o;                  /* [C] or NULL */
    pol_buf *b_gate_up;            /* [F, 2] or NULL */
    pol_buf *b_down;               /* [C] or NULL */
    /* Kept by the current mask: the prefix that the forward pass uses; 0 = residual path. */
    int64_t n_groups, n_channels;
} pol_layer_weights;

struct pol_model {
    pol_context *ctx;
    pol_backend *be; /* borrowed */
    pol_config config;
    pol_units *units;
    pol_arrangement *arrangement;
    pol_buf *embed;       /* [V, C] */
    pol_buf *output;      /* [V, C]; == embed where tied */
    pol_buf *output_norm; /* [C] */
    pol_layer_weights *layers;
    bool torn; /* a swap failed: rows and arrangement may disagree */
};

/* POL_EARG for a torn model. */
pol_status pol_model_check_whole(const pol_model *m);

/* Bytes of the largest row of the buffers that pol_model_load makes (pol_buf). */
uint64_t pol_model_largest_row(const pol_config *c, const pol_backend *be);

/* Elements of one unit in each buffer. */
static inline int64_t pol_qkv_rows(const pol_config *c) { return (int64_t)(c->heads_per_group + 2) * c->head_dim; }
static inline int64_t pol_ctx_cols(const pol_config *c) { return (int64_t)c->heads_per_group * c->head_dim; }

#endif
