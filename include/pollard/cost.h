/* cost.h - what units cost, in the quantity that a budget is in. */
#ifndef POLLARD_COST_H
#define POLLARD_COST_H

#include "pollard/mask.h"

#ifdef __cplusplus
extern "C" {
#endif

/* PARAMS: parameters. BYTES: of the weights in the type they are stored in. KV_BYTES: of the key/value cache, a token.
 * MACS: multiply-accumulates a token, attention scores not counted. MS: milliseconds of a forward pass, from a table
 * measured on this machine. */
typedef enum pol_quantity { POL_PARAMS = 0, POL_BYTES, POL_KV_BYTES, POL_MACS, POL_MS } pol_quantity;
POL_API extern const char *const pol_quantity_names[]; /* "params", "bytes", "kv-bytes", "macs", "ms", NULL */

/* The cost of a block by the number of units that it keeps, from 0 to all: never falling. fixed: what no mask takes
 * away. `cost` of the whole model that a mask leaves = fixed + the blocks'. */
struct pol_cost {
    pol_context *ctx;
    const pol_units *units; /* borrowed */
    pol_quantity quantity;
    bool embeddings; /* embedding and output matrices count, in `fixed` */
    double fixed;
    double dense;   /* cost of the whole model */
    int64_t *first; /* [2 * n_layers], index kind * n_layers + layer, kind GROUP or CHANNEL: into table */
    double *table;
};

POL_API double pol_cost_block(const pol_cost *c, pol_unit_kind kind, int32_t layer, int64_t n);
/* Of the model that a mask leaves (NULL: whole). */
POL_API double pol_cost_mask(const pol_cost *c, const uint8_t *mask);
/* Of one unit, on average over its block; of a block unit: the whole block. */
POL_API double pol_cost_unit(const pol_cost *c, const pol_section *sec);
POL_API void pol_cost_free(pol_cost *c); /* takes NULL */

#ifdef __cplusplus
}
#endif
#endif
