/* learn.h - policy gradient on the mask distribution: settings, the estimator, and the trainer.
 *
 * The trainer asks for losses and never sees a model: pol_loss_fn is the only tie. Estimator and update live on the host, so every
 * backend draws the same masks for the same losses.
 */
#ifndef POLLARD_LEARN_H
#define POLLARD_LEARN_H

#include "pollard/mask.h"

#ifdef __cplusplus
extern "C" {
#endif

/* d in the advantage L_k - d.
 * MOVING_AVERAGE (reference): d <- (1 - 1/W) d + (1/W) mean_k L_k, updated before use, set to the first step's mean at step 0. Its expected
 * gradient is (K - 1/W)/(K - 1) times the true one. LEAVE_ONE_OUT: the mean of the other K - 1 losses; factor 1. NONE: 0. */
typedef enum pol_baseline { POL_BASELINE_LEAVE_ONE_OUT = 0, POL_BASELINE_MOVING_AVERAGE, POL_BASELINE_NONE } pol_baseline;

/* SQRT (reference): (m - s) / sqrt((s + 1e-7)(1 - s + 1e-7)), unit variance whatever s is. TEXTBOOK: (m - s) / (s (1 - s)), the
 * derivative of log p(m), each factor + 1e-7 as well. */
typedef enum pol_score { POL_SCORE_SQRT = 0, POL_SCORE_TEXTBOOK } pol_score;

typedef enum pol_schedule { POL_SCHEDULE_COSINE = 0, POL_SCHEDULE_LINEAR, POL_SCHEDULE_CONSTANT } pol_schedule;

typedef struct pol_learn_settings {
    int32_t mask_samples;        /* K, masks of a step; 2 or more except with NONE */
    int32_t sequences_per_mask;  /* nb */
    bool shared_sequences;       /* all K masks of a step see the same nb sequences; else each its own */
    pol_baseline baseline;
    int32_t baseline_window;     /* W of the moving average */
    pol_score score;
    bool normalise;              /* divide advantages by the running deviation of the losses of a step:
                                    sd <- .9 sd + .1 std_k(L) (first step: sd = std); then A_k = (L_k - d) / (K sd) */
    double learning_rate;        /* of s; 0: sized to the passes, 6 / sqrt(passes) normalised, see learn.c */
    pol_schedule schedule;       /* learning rate over the run, to 0 */
    int64_t steps;               /* of the whole run */
    uint64_t seed;
    float smin;                  /* s is kept inside [smin, 1 - smin] while learning; 0: s = 0 is absorbing, as in the reference */
    pol_budget budget;
} pol_learn_settings;

/* S16 of our experiments (method `units`) for a number of forward sequences; and the paper's code (method `reference`): K = 2, 8 shared
 * sequences, moving average W = 5, sqrt score, learning rate 2e-3, cosine, smin 0. Budget keeps are left for the caller. */
POL_API void pol_learn_units(int64_t passes, pol_learn_settings *out);
POL_API void pol_learn_reference(int64_t steps, pol_learn_settings *out);
/* POL_EARG naming the setting and its value. */
POL_API pol_status pol_learn_check(pol_context *ctx, const pol_learn_settings *o);

/* State of the baseline between steps. Zero-initialise. */
typedef struct pol_estimator {
    double baseline; /* d */
    double deviation; /* sd */
    int64_t steps;
} pol_estimator;

/* One gradient from K (mask, loss) pairs: g[i] for every unit of the granularity, 0 elsewhere. masks [K][n]; loss [K], each the mean
 * over that mask's sequences; all finite (POL_ENUMERIC otherwise, naming the mask). Updates e. */
POL_API pol_status pol_estimate(const pol_learn_settings *o, pol_estimator *e, const pol_distribution *d,
                                const uint8_t *const *masks, const double *loss, float *g);

/* Learning rate of a step. */
POL_API double pol_learning_rate(const pol_learn_settings *o, int64_t step);

/* The sequences of cell (step, mask k, i-th of nb): indices into a set of n, a permutation per epoch keyed by the seed. With shared
 * sequences k plays no part. Fills index [nb]. */
typedef struct pol_deck pol_deck;
POL_API pol_status pol_deck_new(pol_context *ctx, const pol_learn_settings *o, int64_t n, pol_deck **out);
POL_API void pol_deck_free(pol_deck *d);
POL_API pol_status pol_deck_draw(pol_deck *d, int64_t step, int32_t k, int64_t *index);

/* loss[i] of sequence index[i] under `mask`, i < n. */
typedef pol_status (*pol_loss_fn)(void *user, const uint8_t *mask, const int64_t *index, int64_t n, double *loss);

typedef struct pol_step_report {
    int64_t step;       /* just done, counted from 0 */
    double loss;        /* mean over the step's cells */
    double baseline;    /* d after the step */
    double kept;        /* share of parameters the step's masks kept, mean */
    double grad_norm;   /* Euclidean */
    double learning_rate;
    double mean_entropy; /* of the Bernoulli variables, nats a unit */
} pol_step_report;

typedef struct pol_trainer pol_trainer;
/* Everything but `o` (copied) is borrowed. `n_sequences`: size of the calibration set. */
POL_API pol_status pol_trainer_new(pol_context *ctx, const pol_learn_settings *o, pol_distribution *d, int64_t n_sequences,
                                   pol_loss_fn loss, void *user, pol_trainer **out);
POL_API void pol_trainer_free(pol_trainer *t);
/* One step: draw, losses, estimate, update, clamp, project. A loss that is not finite is POL_ENUMERIC naming step, mask and sequence; the
 * state is then as before the step. */
POL_API pol_status pol_trainer_step(pol_trainer *t, pol_step_report *report);
POL_API int64_t pol_trainer_next(const pol_trainer *t); /* the step to do next; == settings.steps when done */

/* State to save and restore: next step and estimator; s is the distribution's. */
POL_API void pol_trainer_get(const pol_trainer *t, int64_t *next, pol_estimator *e);
POL_API pol_status pol_trainer_set(pol_trainer *t, int64_t next, const pol_estimator *e);

#ifdef __cplusplus
}
#endif
#endif
