/* mend.h - repairing a masked model in the ways that are asked for, and choosing between them: what a run does once it
 * has its mask, and all that `pollard repair` does. */
#ifndef POL_MEND_H
#define POL_MEND_H

#include "core/repair/repair.h"
#include "core/replicas.h"

typedef struct pol_mend_job {
    pol_context *ctx;
    pol_replicas *replicas; /* weights as loaded, in whatever order; the first does the work */
    pol_backend *host;      /* has solve_spd (pol_can_repair) */
    const uint8_t *mask;
    const pol_sequences *cal; /* its first n sequences may be looked at */
    int64_t n;
    pol_repair_settings o; /* not NONE; sequences may be POL_AUTO; more than n are n */
    const char *model_hash;
    const char *folder; /* of the run: gets repaired.safetensors */
    bool resume;        /* goes on with what an earlier call has left there; else that is removed */
    double masked;      /* held-out loss of the mask alone, where that is known; NaN: it is judged first */
    /* Held-out loss of the replicas as they are: under the mask, with the weights they have. NULL: nothing is judged,
     * and one way alone may be tried. */
    pol_status (*judge)(void *user, double *loss);
    void (*layers)(void *user, int64_t done, int64_t total); /* or NULL */
    void *user;
} pol_mend_job;

/* Sequences that the job will look at. */
int64_t pol_mend_sequences(const pol_config *c, const pol_units *u, const uint8_t *mask, const pol_repair_settings *o,
                           int64_t S, int64_t n);

/* `earlier` (may be NULL): what the same job came to in an earlier call, where that is on record: taken where its
 * weights are there. Afterwards the replicas are masked and have the weights that did best, which are those of
 * folder/repaired.safetensors. Where nothing did better than the mask alone (x->kind NONE, a warning) there is no such
 * file, and the replicas are of no more use, as after a failure. After a stop, `resume` goes on behind the last layers.
 */
pol_status pol_mend(const pol_mend_job *j, const pol_repair_outcome *earlier, pol_repair_outcome *x);

/* Removes from a run's folder what repairs have left there; with `chosen` the repaired weights too. */
pol_status pol_mend_tidy(pol_context *ctx, const char *folder, bool chosen);

#endif
