/* repair.h - repairing the model that a mask leaves, and keeping what that gave.
 *
 * The repaired weights are a file of safetensors beside the mask (docs/run.md): tensors by their Hugging Face names, of
 * the shape that the mask leaves, units in rising order. It has the last matrices of all blocks that keep something, or
 * their output biases, and where inputs were re-fitted the first matrices too. It grows a layer at a time, so that a
 * repair that stopped goes on behind the layers that are surely on the disk.
 */
#ifndef POL_REPAIR_H
#define POL_REPAIR_H

#include "core/forward.h"
#include "core/model/source.h"
#include "pollard/data.h"
#include "pollard/repair.h"

typedef struct pol_repair_job {
    pol_forward *f;      /* its model: weights as loaded; left so, dense, units in another order */
    pol_backend *host;   /* has solve_spd (pol_can_repair) */
    const uint8_t *mask; /* [units->n] */
    const pol_sequences *cal;
    pol_repair_settings o; /* resolved; RIDGE: all `targets` are done side by side, with one dense stream */
    /* Of the files, by target; of BIAS the first alone. One that is whole and of this identity is left as it is, what
     * grows beside it is gone on with. */
    const char *path[POL_REPAIR_TARGETS];
    char identity[33];                                          /* of model, mask, text and settings */
    void (*watch)(void *user, int64_t layer, int64_t n_layers); /* or NULL */
    void *user;
} pol_repair_job;

/* *sequences (may be NULL) gets the forward sequences spent. POL_ELIMIT where a block keeps more than a quarter as many
 * columns as there are tokens, a warning for more than a tenth. A repair that takes a block farther from its target
 * than no repair does, or has no solution, is left out with a warning. Condition numbers go to the log. */
pol_status pol_repair_run(const pol_repair_job *j, int64_t *sequences);

/* POL_ELIMIT where so many tokens are too few for the blocks of `left`, what the mask leaves, as in pol_repair_run():
 * for who wants to know it before there is work. */
pol_status pol_repair_check_tokens(pol_context *ctx, const pol_config *left, const pol_repair_settings *o,
                                   int64_t tokens);

/* Forward sequences that a repair by n sequences takes, if no part of it is there: the dense stream once, a ridge's
 * three times. */
int64_t pol_repair_passes(const pol_repair_settings *o, int64_t n);

/* settings->sequences where it is POL_AUTO, for sequences of S tokens. */
int64_t pol_repair_sequences(const pol_config *c, const pol_units *u, const uint8_t *mask, int64_t S);

/* Host bytes that it takes besides the model: streams and matrices; and device bytes besides the forward pass, with
 * those of biases that are applied later. */
uint64_t pol_repair_host_bytes(const pol_config *c, const pol_repair_settings *o, int64_t n, int64_t S);
uint64_t pol_repair_device_bytes(const pol_config *c, pol_backend *be, int64_t max_tokens,
                                 const pol_repair_settings *o);

/* What a mask's effective units are known by in the file. On failure `out` holds nothing of use. */
pol_status pol_repair_mask_hash(pol_context *ctx, const pol_units *u, const uint8_t *mask, char out[33]);

/* A file of repaired weights, opened and checked against the model's units and a mask: POL_EFORMAT naming file, tensor
 * and what is wrong; of another mask too. On success *out is yours: pol_repaired_close(). parse: of a file in memory,
 * which is borrowed and must outlive *out. */
pol_status pol_repaired_open(pol_context *ctx, const char *path, const pol_config *dense, const pol_units *u,
                             const uint8_t *mask, pol_repaired **out);
pol_status pol_repaired_parse(pol_context *ctx, const char *name, const void *data, size_t n, const pol_config *dense,
                              const pol_units *u, const uint8_t *mask, pol_repaired **out);
void pol_repaired_close(pol_repaired *r); /* takes NULL */
/* The form, its target (RIDGE), and what the file was made from. */
pol_repair_kind pol_repaired_kind(const pol_repaired *r);
pol_repair_target pol_repaired_target(const pol_repaired *r);
bool pol_repaired_refitted(const pol_repaired *r); /* first matrices, too */
const char *pol_repaired_identity(const pol_repaired *r);
bool pol_repaired_has(const pol_repaired *r, pol_tensor_kind kind, int32_t layer);
/* Puts the weights into a model that is masked by the mask. */
pol_status pol_repaired_apply(const pol_repaired *r, pol_model *m);
/* As pol_source_read() has a tensor: rows [row, row+n) of one that the file has, of the masked model's shape. */
pol_status pol_repaired_read(const pol_repaired *r, pol_tensor_kind kind, int32_t layer, int64_t row, int64_t n,
                             float *dst);

#endif
