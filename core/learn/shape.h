/* shape.h - the rules of pol_shape_rules made ready: each block's allowed counts as a ladder, with what they cost.
 *
 * Blocks have the numbers of allocation.h, kind * n_layers + layer. A pot is a part of the budget: of the groups and of
 * the channels where they have budgets of their own (SEPARATE), of all blocks where not (JOINT).
 */
#ifndef POL_SHAPE_H
#define POL_SHAPE_H

#include "pollard/allocation.h"

/* Rising counts and their costs. Of counts that cost the same only the largest is one. */
typedef struct pol_ladder {
    int64_t n; /* 1 or more */
    int64_t *count;
    double *cost;
} pol_ladder;

typedef struct pol_block_rules {
    pol_unit_kind kind;
    int32_t layer;
    int64_t units; /* that it has */
    int64_t least; /* counts lie in [least, most]; fixed where they are equal */
    int64_t most;
    pol_ladder allowed; /* every count that it may have */
    pol_ladder level;   /* those that are preferred; `allowed` itself where none are */
} pol_block_rules;

typedef struct pol_pot {
    int32_t first, count; /* blocks */
    double limit;         /* of the sum of their costs */
} pol_pot;

typedef struct pol_shape {
    pol_context *ctx;
    pol_shape_rules rules;
    int32_t n_blocks;
    pol_block_rules *block; /* [n_blocks] */
    int32_t n_pots;
    pol_pot pot[2];
    int64_t *counts; /* what the ladders lie in */
    double *costs;
} pol_shape;

/* Checks the rules as pol_shape_check() does. On success *out is yours: pol_shape_free(). */
pol_status pol_shape_new(const pol_shape_rules *r, pol_shape **out);
void pol_shape_free(pol_shape *s); /* takes NULL */

/* What x units of a block cost the pot that it is in, on the straight line between whole numbers: units (SEPARATE), or
 * the budget's quantity (JOINT). */
double pol_shape_cost(const pol_shape *s, int32_t block, double x);
/* Parameters that counts leave in the decoder blocks. */
double pol_shape_params(const pol_shape *s, const int64_t *count);

/* Shifts x, each block by the same share of its units, then into the block's bounds, so that its cost is the pot's
 * limit or, by rounding, a little less; or all that there may be, where that is less. */
void pol_shape_centre(const pol_shape *s, double *x);
/* pol_shape_round(); `scratch` [n_blocks]. */
void pol_shape_fill(const pol_shape *s, const double *want, double *scratch, int64_t *count);

#endif
