/* checkpoint.h - everything a run needs to go on where it stopped, in one file that is whole or absent.
 *
 * Little-endian, fixed layout (checkpoint.c has the table). All sizes follow from the caller's model and settings, so a
 * file of others is refused before anything is allocated. What is read back is bit for bit what was written.
 */
#ifndef POL_CHECKPOINT_H
#define POL_CHECKPOINT_H

#include "pollard/learn.h"

typedef struct pol_checkpoint_shape {
    int64_t n_units;
    int64_t n_order; /* entries of the arrangement */
    int64_t n_state; /* numbers of the policy's own; 0 where probabilities are all that it has */
} pol_checkpoint_shape;

typedef struct pol_checkpoint {
    pol_context *ctx;
    char settings[33]; /* fingerprint of the run's settings, as pol_bytes_hash() makes it */
    pol_checkpoint_shape shape;
    int64_t stage; /* of learning, counted from 0 */
    int64_t step;  /* the step to do next in it */
    pol_estimator estimator;
    float *s;      /* [n_units] probabilities */
    bool has_best; /* the best snapshot so far; where there is none, the other best_ fields play no part */
    int64_t best_step;
    double best_loss; /* held-out, nats a token */
    float *best_s;    /* [n_units] */
    int32_t *order;   /* [n_order] of the arrangement; what the numbers mean is the caller's, and his to check */
    double *state;    /* [n_state] likewise; finite */
    int64_t sequences[POL_PURPOSES]; /* forward sequences used so far */
    double seconds;                  /* wall-clock time used so far */
} pol_checkpoint;

/* Arrays of the given sizes, zeroed; step 0, no best snapshot, no settings. Yours: pol_checkpoint_free(). On failure
 * *out is zeroed. */
pol_status pol_checkpoint_init(pol_context *ctx, const pol_checkpoint_shape *shape, pol_checkpoint *out);
void pol_checkpoint_free(pol_checkpoint *c); /* takes a zeroed one */

/* Atomic: a run killed while it writes still has the checkpoint before. */
pol_status pol_checkpoint_write(pol_context *ctx, const char *path, const pol_checkpoint *c);

/* POL_EFORMAT naming file, field and value for a file that is damaged, of another version, or of another shape. On
 * success *out is yours: pol_checkpoint_free(); on failure it is zeroed. */
pol_status pol_checkpoint_read(pol_context *ctx, const char *path, const pol_checkpoint_shape *shape,
                               pol_checkpoint *out);
/* The same from memory; `name` stands for the file in messages. */
pol_status pol_checkpoint_parse(pol_context *ctx, const char *name, const void *data, size_t size,
                                const pol_checkpoint_shape *shape, pol_checkpoint *out);

/* POL_EARG naming both fingerprints where the checkpoint was made with other settings than `settings`. */
pol_status pol_checkpoint_check_settings(pol_context *ctx, const char *path, const pol_checkpoint *c,
                                         const char settings[33]);

#endif
