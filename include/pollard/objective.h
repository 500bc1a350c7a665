/* objective.h - what masks are judged by: the loss that learning brings down. */
#ifndef POLLARD_OBJECTIVE_H
#define POLLARD_OBJECTIVE_H

#include "pollard/task.h"

#ifdef __cplusplus
extern "C" {
#endif

/* CROSS_ENTROPY: mean negative log-likelihood of a calibration sequence's tokens. KL: mean over a sequence's positions
 * of KL(dense || masked) between next-token distributions, of which the dense model's 64 most probable tokens are told
 * apart and the rest is one event; what is lumped together can only make it smaller. ACCURACY: of an item of a
 * multiple-choice file, 0 where the right choice has the largest log-likelihood, else 1: it has no gradient, and needs
 * none. */
typedef enum pol_objective_kind {
    POL_OBJECTIVE_CROSS_ENTROPY = 0,
    POL_OBJECTIVE_KL,
    POL_OBJECTIVE_ACCURACY
} pol_objective_kind;
POL_API extern const char *const pol_objective_names[]; /* "cross-entropy", "kl", "accuracy", NULL */

/* Zero-initialised: cross entropy. */
typedef struct pol_objective_settings {
    pol_objective_kind kind;
    const char *task, *task_file; /* ACCURACY: name of a template (pollard/task.h), and the file */
    int64_t task_items; /* ACCURACY: so many of its first items are learnt from, the rest judge; 0: half of them */
} pol_objective_settings;

/* POL_EARG naming setting and value. */
POL_API pol_status pol_objective_check(pol_context *ctx, const pol_objective_settings *o);

#ifdef __cplusplus
}
#endif
#endif
