/* work.h - a repair under way: what goes from block to block, and what a block is done with.
 *
 * The units of the model lie in one order from start to end, the kept ones first and rising: a block is whole or masked
 * by its length alone, and rows of the kept units are in the order of the file. Weights that are replaced for a block
 * are put back behind it, so that all targets see the dense model.
 */
#ifndef POL_REPAIR_WORK_H
#define POL_REPAIR_WORK_H

#include "core/repair/repaired.h"
#include "core/streams.h"

/* One way to repair, with the stream of the model so repaired. */
typedef struct pol_repair_way {
    pol_repair_target target;
    pol_repaired_file *file;
    pol_streams x; /* RIDGE */
    float *first;  /* [units, unit] re-fitted first matrix of the block under way; NULL: there is no re-fit */
} pol_repair_way;

typedef struct pol_repair_work {
    const pol_repair_job *job;
    pol_context *ctx;
    pol_model *m;
    const pol_config *c;     /* dense */
    pol_config left;         /* what the mask leaves */
    int64_t *whole, *masked; /* [2 n_layers] as of pol_model_set_lengths() */
    pol_repair_way way[POL_REPAIR_TARGETS];
    int n_ways;
    int32_t done; /* layers that are in all files: they are gone through, not computed */

    pol_streams dense;  /* before a block; behind it, once it has been through */
    pol_streams before; /* dense before the block; re-fit alone */
    pol_streams aim;    /* where a way's stream shall be behind the block */
    pol_streams bare;   /* where it is without repair */
    pol_gram_sums sums;
    double *a, *b;          /* [columns, columns], [columns, C] */
    float *rows, *original; /* [columns, C] last matrix of the block: of a way, the dense model's */
    float *first_original;  /* first matrix, dense; re-fit alone */
    double *sum;            /* [columns] over tokens, of what enters the last matrix */
    pol_buf *x, *y, *z;     /* [max_tokens, C] twice, [C, C]; and what a product of them needs; re-fit alone */
    pol_buf *scratch;
} pol_repair_work;

/* The block that is worked on. */
typedef struct pol_repair_block {
    int32_t layer;
    pol_unit_kind kind;   /* of its units: GROUP, CHANNEL */
    pol_part first, last; /* its matrices */
    int64_t units, kept;
    int64_t columns, all; /* that enter the last matrix: of the kept units, of all */
    pol_layer_weights w;  /* on the device */
} pol_repair_block;

/* After the dense stream has passed. Of one way: from its stream before the block to the one behind it, and its tensors
 * in the file. */
pol_status pol_ridge_block(pol_repair_work *w, const pol_repair_block *k, pol_repair_way *way);
/* way->first from its stream and the dense one before the block. */
pol_status pol_refit_block(pol_repair_work *w, const pol_repair_block *k, pol_repair_way *way);
/* From w->sum, which is the dense model's, of all columns. */
pol_status pol_bias_block(pol_repair_work *w, const pol_repair_block *k, pol_repair_way *way);

/* Room that re-fits need on the device, made or counted. */
pol_status pol_refit_new(pol_repair_work *w);
void pol_refit_free(pol_repair_work *w);
uint64_t pol_refit_device_bytes(const pol_config *c, pol_backend *be, int64_t max_tokens);

#endif
