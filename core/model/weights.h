/* weights.h - the weights of a model on a device, stored unit by unit, kept units first (docs/architecture.md, "The
 * prefix layout"); those of a streamed model in host memory, from where layers visit the device. */
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
    /* Used in place of w_o and w_down where not NULL: rows of a repaired model (pol_model_set_lengths); borrowed. */
    pol_buf *rows_o, *rows_down;
    /* Kept by the current mask: the prefix that the forward pass uses; 0 = residual path. */
    int64_t n_groups, n_channels;
} pol_layer_weights;

/* The buffers of a layer that are made of units, which change places: what a streamed layer brings along. */
typedef enum pol_part {
    POL_W_QKV = 0,
    POL_W_O,
    POL_W_GATE_UP,
    POL_W_DOWN,
    POL_B_QKV,
    POL_B_GATE_UP,
    POL_PARTS
} pol_part;

typedef struct pol_part_shape {
    pol_unit_kind kind; /* of its units */
    pol_dtype dtype;
    int64_t units, unit; /* how many, padding included; elements of one. 0 units: there is no such part */
    bool whole;          /* a bias: one row */
} pol_part_shape;

pol_part_shape pol_part_of(const pol_config *c, const pol_backend *be, int32_t layer, pol_part part);
pol_part_shape pol_part_largest(const pol_config *c, const pol_backend *be, pol_part part); /* over the layers */
pol_status pol_part_new(pol_backend *be, const pol_part_shape *s, pol_buf **out); /* NULL where there is no such part */
pol_buf **pol_part_buf(pol_layer_weights *w, pol_part part);

/* Device memory that serves the layers of a streamed model in turn. */
typedef struct pol_slot {
    pol_layer_weights w; /* the parts alone, each as large as the largest layer's */
    int32_t layer;       /* that is there or on its way; -1: none */
    bool arrived;        /* it has been waited for */
} pol_slot;

typedef struct pol_visits {
    void **home;            /* [n_layers] parts in host memory, one after the other, units at their own numbers */
    pol_slot slot[2];       /* layer l visits slot l % 2 */
    pol_arrangement *lying; /* which unit lies at which position of the slots */
} pol_visits;

struct pol_model {
    pol_context *ctx;
    pol_backend *be; /* borrowed */
    pol_config config;
    pol_units *units;
    pol_arrangement *arrangement; /* of a streamed model: what order a pass wants, when its layers visit */
    pol_buf *embed;               /* [V, C] */
    pol_buf *output;              /* [V, C]; == embed where tied */
    pol_buf *output_norm;         /* [C] */
    pol_layer_weights *layers;    /* of a streamed model without the parts */
    pol_placement placement;
    pol_visits *visits; /* NULL: the model is resident */
    bool torn;          /* a swap failed: rows and arrangement may disagree */
};

/* POL_EARG for a torn model. */
pol_status pol_model_check_whole(const pol_model *m);

/* Device bytes of one slot; host bytes of a layer's parts before `before` (POL_PARTS: of all), and of all layers'. */
uint64_t pol_model_slot_bytes(const pol_config *c, const pol_backend *be);
uint64_t pol_layer_home_bytes(const pol_config *c, const pol_backend *be, int32_t layer, pol_part before);
uint64_t pol_model_home_bytes(const pol_config *c, const pol_backend *be);

/* Bytes of the largest row of the buffers that pol_model_load makes (pol_buf). */
uint64_t pol_model_largest_row(const pol_config *c, const pol_backend *be);

/* A layer as it is on the device under the present mask. A streamed one is brought there first, which may be where
 * another layer was. */
pol_status pol_model_layer(pol_model *m, int32_t layer, pol_layer_weights *out);

/* Makes the forward pass use the first length[kind * n_layers + layer] units of each block as they lie, kind GROUP or
 * CHANNEL: a mask that moves nothing. rows [2 * n_layers], indexed alike: buffers of the weight type with at least as
 * many units, channels padded, in place of the block's own last matrix (NULL entry, or NULL for all: its own); they
 * stay the caller's, who keeps them until the next call or mask. Setting a mask or an order goes back to the model's
 * own rows. POL_EUNSUPPORTED for rows of a streamed model. A call that fails has changed nothing. */
pol_status pol_model_set_lengths(pol_model *m, const int64_t *length, pol_buf *const *rows);

/* The `n` units from position `first` on of a block's part become `values` [n, unit], f32, until the model is freed:
 * they move with their unit from then on. bias: b_o (GROUP) or b_down (CHANNEL) [hidden], made where there is none.
 * Passes that are queued have been settled. */
pol_status pol_model_put(pol_model *m, int32_t layer, pol_part part, int64_t first, int64_t n, const float *values);
pol_status pol_model_put_bias(pol_model *m, int32_t layer, pol_unit_kind kind, const float *values);

/* The last matrix of every block again as `src` has it, after pol_model_put(). The model is dense then, its units at
 * their own numbers. */
pol_status pol_model_reload_last(pol_model *m, pol_source *src);

/* Of streamed models. fetch: the layer sets out for its slot, unless it is there or on its way. visit: it has arrived,
 * its units in `order` [arrangement->size]; of *out the parts are filled in. home: a part in host memory. */
pol_status pol_model_fetch(pol_model *m, int32_t layer);
pol_status pol_model_visit(pol_model *m, int32_t layer, const int32_t *order, pol_layer_weights *out);
void *pol_visits_home(const pol_model *m, int32_t layer, pol_part part);
/* n elements of a part at home, from `at` on: in the device's type, to nearest, ties to even, as an upload rounds. */
void pol_visits_store(pol_model *m, int32_t layer, pol_part part, int64_t at, const float *src, int64_t n);
/* Nothing reads home any more, and the layer has to come again: before it is changed there. */
pol_status pol_visits_recall(pol_model *m, int32_t layer);
pol_status pol_visits_new(pol_model *m);
void pol_visits_free(pol_model *m);

/* Moves the rows of w's parts, and with them what `lying` says, until the layer's units are in `order`. */
pol_status pol_rearrange(pol_model *m, pol_arrangement *lying, int32_t layer, pol_layer_weights *w,
                         const int32_t *order);

/* Elements of one unit in each buffer. */
static inline int64_t pol_qkv_rows(const pol_config *c) { return (int64_t)(c->heads_per_group + 2) * c->head_dim; }
static inline int64_t pol_ctx_cols(const pol_config *c) { return (int64_t)c->heads_per_group * c->head_dim; }

/* What enters w_o (GROUP) or w_down (CHANNEL): columns of one unit, of a block, and at most over the layers. */
static inline int64_t pol_unit_inputs(const pol_config *c, pol_unit_kind kind)
{
    return kind == POL_UNIT_GROUP ? pol_ctx_cols(c) : 1;
}
static inline int64_t pol_block_inputs(const pol_config *c, int32_t layer, pol_unit_kind kind)
{
    return kind == POL_UNIT_GROUP ? c->layers[layer].n_groups * pol_ctx_cols(c) : c->layers[layer].ffn;
}
int64_t pol_widest_input(const pol_config *c, unsigned granularity); /* of the kinds GROUP and CHANNEL in it */

#endif
