/* repaired.h - the file of repaired weights while it is made: a layer at a time, each of its blocks in turn.
 *
 * Of a block there are, in this order, the first matrix, where inputs are re-fitted, and the last one; of the form BIAS
 * its output bias alone. Blocks that keep nothing have no tensors.
 */
#ifndef POL_REPAIR_REPAIRED_H
#define POL_REPAIR_REPAIRED_H

#include "core/model/weights.h"
#include "core/repair/repair.h"

#define POL_REPAIRED_FORMAT "pollard-repaired"
#define POL_REPAIRED_VERSION "1"

/* What decides which tensors there are, and what the file says of itself. */
typedef struct pol_repaired_plan {
    const pol_config *left; /* what the mask leaves */
    pol_repair_kind kind;
    pol_repair_target target; /* RIDGE */
    bool refit;
    const char *identity, *mask_hash;
} pol_repaired_plan;

typedef struct pol_repaired_file pol_repaired_file;

/* Goes on with `path`.part where it is of this plan: *layers gets how many layers are surely on the disk, and the layer
 * after them is next. On success *out is yours: pol_repaired_file_finish() or pol_repaired_file_leave(). */
pol_status pol_repaired_file_open(pol_context *ctx, const char *path, const pol_repaired_plan *plan, int32_t *layers,
                                  pol_repaired_file **out);
/* Gives up layers from `layer` on, so that it is next. */
pol_status pol_repaired_file_cut(pol_repaired_file *f, int32_t layer);
/* The kept units' rows of a matrix [units, unit], in rising order; added as the next of the block, or read back of a
 * layer that is there. */
pol_status pol_repaired_file_add(pol_repaired_file *f, int32_t layer, pol_part part, const float *rows);
pol_status pol_repaired_file_get(pol_repaired_file *f, int32_t layer, pol_part part, float *rows);
/* The output bias of a block [hidden]. */
pol_status pol_repaired_file_add_bias(pol_repaired_file *f, const float *bias);
/* The layer is complete: to disk. */
pol_status pol_repaired_file_sync(pol_repaired_file *f);
/* Renames it to its place; frees f in every case. */
pol_status pol_repaired_file_finish(pol_repaired_file *f);
void pol_repaired_file_leave(pol_repaired_file *f); /* takes NULL; what there is stays, to be gone on with */

#endif
