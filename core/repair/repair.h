/* repair.h - repairing the model that a mask leaves, and keeping what that gave.
 *
 * The repaired rows are a file of safetensors beside the mask (docs/run.md): tensors by their Hugging Face names, of
 * the shape that the mask leaves, units in rising order. It is written a layer at a time, so that a repair that stopped
 * goes on behind the last whole layer.
 */
#ifndef POL_REPAIR_H
#define POL_REPAIR_H

#include "core/model/source.h"
#include "core/replicas.h"
#include "pollard/repair.h"

typedef struct pol_repair_job {
    pol_forward *f;      /* its model: weights as loaded; repaired afterwards, masked by `mask` */
    pol_backend *host;   /* has solve_spd (pol_can_repair) */
    const uint8_t *mask; /* [units->n] */
    const pol_sequences *cal;
    pol_repair_settings o;
    const char *path;  /* of the file that is written, and gone on with where it is of the same identity */
    char identity[33]; /* of model, mask, text and settings */
    void (*watch)(void *user, int32_t layer, int32_t n_layers); /* or NULL */
    void *user;
} pol_repair_job;

/* Does it with one target. *sequences (may be NULL) gets the forward sequences spent. POL_ELIMIT below 4 tokens a
 * column, a warning below 10. Condition numbers go to the log. After a failure the model is of no more use. */
pol_status pol_repair_run(const pol_repair_job *j, pol_repair_target target, int64_t *sequences);

/* Host bytes that it takes besides the model: streams and matrices; and device bytes besides the forward pass. */
uint64_t pol_repair_host_bytes(const pol_config *c, const pol_repair_settings *o, int64_t n, int64_t S);
uint64_t pol_repair_device_bytes(const pol_config *c, pol_backend *be, int64_t max_tokens,
                                 const pol_repair_settings *o);

/* A file of repaired weights, opened and checked against the model's units and a mask: POL_EFORMAT naming file, tensor
 * and what is wrong; of another mask too. */
typedef struct pol_repaired pol_repaired;
pol_status pol_repaired_open(pol_context *ctx, const char *path, const pol_config *dense, const pol_units *u,
                             const uint8_t *mask, pol_repaired **out);
void pol_repaired_close(pol_repaired *r); /* takes NULL */
/* Puts the rows into a model that is masked by the mask. */
pol_status pol_repaired_apply(pol_repaired *r, pol_model *m);
/* As pol_source_read() has a tensor, for writers: false in *has where the file leaves the tensor as it is; else rows
 * [row, row+n) of the masked model's tensor. */
pol_status pol_repaired_read(pol_repaired *r, pol_tensor_kind kind, int32_t layer, int64_t row, int64_t n, float *dst,
                             bool *has);

#endif
