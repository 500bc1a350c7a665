/* mask.h - the units that can be removed, masks over them, and the distribution that masks are drawn from.
 *
 * A unit is a key/value group with its query heads, an MLP channel, a whole attention block or a whole MLP block. The
 * numbering is fixed by the model alone: all groups (layer by layer), all channels, all attention blocks, all MLP
 * blocks. A mask has one byte a unit: 1 kept, 0 removed. A unit is effectively kept if its own byte and its block's
 * byte are 1.
 */
#ifndef POLLARD_MASK_H
#define POLLARD_MASK_H

#include <stdbool.h>

#include "pollard/config.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum pol_unit_kind {
    POL_UNIT_GROUP = 0,
    POL_UNIT_CHANNEL,
    POL_UNIT_ATTENTION,
    POL_UNIT_MLP,
    POL_UNIT_KINDS
} pol_unit_kind;
POL_API const char *pol_unit_kind_name(pol_unit_kind k); /* "heads", "channels", "attention_blocks", "mlp_blocks" */

/* Granularity: a set of kinds that may be removed. HEADS are groups. BLOCKS are both block kinds. */
enum {
    POL_HEADS = 1u << POL_UNIT_GROUP,
    POL_CHANNELS = 1u << POL_UNIT_CHANNEL,
    POL_BLOCKS = 1u << POL_UNIT_ATTENTION | 1u << POL_UNIT_MLP
};

typedef struct pol_section {
    pol_unit_kind kind;
    int32_t layer;
    int64_t first, count; /* units [first, first + count) */
    int64_t params;       /* of one unit; of a block unit: the whole block */
} pol_section;

typedef struct pol_units {
    pol_context *ctx;
    int32_t n_layers;
    int64_t n; /* units in all */
    int64_t n_of[POL_UNIT_KINDS];
    pol_section *sections; /* [n_sections], in unit order; each layer has one of each kind, maybe of count 0 */
    int64_t n_sections;    /* 4 * n_layers, index kind * n_layers + layer */
} pol_units;

POL_API pol_status pol_units_new(pol_context *ctx, const pol_config *c, pol_units **out); /* yours: pol_units_free() */
POL_API void pol_units_free(pol_units *u);                                                /* takes NULL */
POL_API const pol_section *pol_units_section(const pol_units *u, pol_unit_kind kind, int32_t layer);

/* What a mask leaves, by effective units; `mask` NULL keeps all. A block without contents is gone, its output bias with
 * it.
 *   effective     out [u->n] may be `mask`: contents of a removed block become 0, block bytes stay
 *   layer_counts  out [n_layers]
 *   params        decoder-block parameters
 *   config        `dense` is the one that `u` was made from */
POL_API void pol_mask_effective(const pol_units *u, const uint8_t *mask, uint8_t *out);
POL_API void pol_mask_layer_counts(const pol_units *u, const uint8_t *mask, pol_layer_shape *out);
POL_API int64_t pol_mask_params(const pol_units *u, const uint8_t *mask);
POL_API void pol_mask_config(const pol_units *u, const uint8_t *mask, const pol_config *dense, pol_config *out);

/* One line of ASCII for a layer, cut to fit n bytes with its 0: for each kind the counts, then a strip of at most 32
 * cells, units in order: '#' all kept, '+' half or more, '-' some, '.' none.
 *     layer  3  heads   2/3   ##.  channels  1210/1536  +##+-+#++..+##-#+#++-.+#+##+-#++ */
enum { POL_PICTURE_BYTES = 160 };
POL_API void pol_mask_picture(const pol_units *u, const uint8_t *mask, int32_t layer, char *dst, size_t n);

/* Bernoulli probabilities. Kinds outside the granularity are fixed at 1 and never change. */
typedef struct pol_distribution {
    const pol_units *units; /* borrowed */
    unsigned granularity;
    float *s; /* [units->n] */
} pol_distribution;

POL_API pol_status pol_distribution_new(const pol_units *u, unsigned granularity, pol_distribution **out);
POL_API void pol_distribution_free(pol_distribution *d); /* takes NULL */

/* Mask k of a step: unit i is kept iff u_i < s_i, u_i = uniform(seed, step, k, i) in [0, 1). Same on every backend. */
POL_API void pol_distribution_sample(const pol_distribution *d, uint64_t seed, uint64_t step, uint32_t k,
                                     uint8_t *mask);

/* SEPARATE: each kind keeps keep[kind] of its own units, over all layers together; a unit counts by its own byte, even
 * where its block is gone. JOINT: what the whole has left is kept to `limit` in the quantity of `cost`, or without a
 * cost to the share `keep_params` of the decoder blocks' parameters; a unit weighs what it costs, and nothing where its
 * block is gone. Units that cost nothing are free: no budget takes them away. */
typedef enum pol_budget_mode { POL_BUDGET_SEPARATE = 0, POL_BUDGET_JOINT } pol_budget_mode;
POL_API extern const char *const pol_budget_mode_names[]; /* "separate", "joint", NULL */
typedef struct pol_cost pol_cost;                         /* pollard/cost.h */
typedef struct pol_budget {
    pol_budget_mode mode;
    double keep[POL_UNIT_KINDS]; /* SEPARATE */
    double keep_params;          /* JOINT without a cost: share of the decoder blocks' parameters */
    const pol_cost *cost;        /* JOINT: what units cost; borrowed; NULL = parameters */
    double limit;                /* JOINT with a cost: of the whole model, in the cost's quantity */
} pol_budget;

/* Names the value. POL_EARG: a share outside (0, 1], a limit that is not above 0. POL_ELIMIT: a budget that this model
 * cannot meet, because it keeps no unit of a kind, or because a joint one is below what the granularity must leave
 * untouched; it says what the least is. */
POL_API pol_status pol_budget_check(const pol_units *u, unsigned granularity, const pol_budget *b);

/* Euclidean projection of s onto {0 <= s <= 1, expected cost <= budget}: s <- clip(s - v c, 0, 1), v >= 0, c = 1
 * (SEPARATE) or the unit's cost over their mean (JOINT: on average over its block). v is exact to double rounding where
 * the constraint is linear (solved on the piece between two breakpoints, not bisected). It is not where blocks and
 * their contents are in one JOINT budget, or where a block's cost is not in proportion to its units: then the expected
 * cost is the sum over blocks of s_block times the cost of sum(s_unit) units, and v is the root of that monotone
 * function. Paper section 3; s = 0 stays 0 only by the caller's choice. */
POL_API pol_status pol_project_budget(pol_distribution *d, const pol_budget *b);

/* Moves s into [smin, 1 - smin] for the kinds of the granularity. */
POL_API void pol_distribution_clamp(pol_distribution *d, float smin);

/* The hard mask. All units stand in one order: falling s, then falling `tie` (NULL = none), then rising unit number.
 * SEPARATE: the first floor(keep * n + 1e-9) of each kind, exactly, whatever s is.
 * JOINT: the budget is filled in that order; a unit costs what its block's cost rises by; one that does not fit is
 * passed over, so that what is left is less than what any removed unit would add. Where a block and its contents can
 * both go (a coupled block), first the longest beginning of the order is taken that fits, with contents counting only
 * together with their block: that is the smallest theta such that "a block is kept if its s is above theta, a unit if
 * its s is above theta and its block is kept" fits. If a coupled block is what ends it, that block is kept too, empty
 * at first. Then what is left is filled, in order, from the contents of kept blocks and from units of uncoupled kinds.
 * A removed block's contents are 0. Kinds outside the granularity are 1. An s that is not finite, or a NaN tie, is
 * POL_ENUMERIC. */
POL_API pol_status pol_hard_mask(const pol_distribution *d, const pol_budget *b, const float *tie, uint8_t *mask);

/* mask.json (docs/mask.md). Writing is atomic. `s` may be NULL in both directions. Reading checks that the file fits
 * the model's units, that kept lists rise, and that probabilities lie in [0, 1], and names file, field and value with
 * POL_EFORMAT (another version: POL_EUNSUPPORTED); both arrays are [u->n], given by the caller. */
POL_API pol_status pol_mask_write(pol_context *ctx, const char *path, const pol_units *u, unsigned granularity,
                                  const uint8_t *mask, const float *s);
POL_API pol_status pol_mask_read(pol_context *ctx, const char *path, const pol_units *u, unsigned *granularity,
                                 uint8_t *mask, float *s);

#ifdef __cplusplus
}
#endif
#endif
