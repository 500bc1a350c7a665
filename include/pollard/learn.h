/* learn.h - policy gradient on the mask distribution: settings, the estimator, and the trainer.
 *
 * The trainer asks for losses and never sees a model: pol_losses is the only tie. Estimator and update live on the
 * host, so every backend draws the same masks for the same losses.
 */
#ifndef POLLARD_LEARN_H
#define POLLARD_LEARN_H

#include "pollard/mask.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One step has K masks m_k and their losses L_k. Its gradient is
 *
 *     g_i = sum_k A_k * score_ki        A_k = (L_k - b) / divisor
 *
 *     baseline         b                                   divisor   E[g]
 *     LEAVE_ONE_OUT    mean_k L_k                          K - 1     G
 *     MOVING_AVERAGE   d <- (1 - 1/W) d + (1/W) mean_k L_k K - 1     (K - 1/W)/(K - 1) G
 *     NONE             0                                   K         G
 *
 * d is updated before use, and set to the first step's mean before that update. (L_k - mean)/(K - 1) is
 * (1/K)(L_k - mean of the other K - 1 losses), hence the name of the first.
 *
 * Normalised advantages have the divisor K sd, whatever the baseline. sd is the running deviation:
 * sd <- .9 sd + .1 std_k(L), std_k with divisor K, at the first step sd = std_k(L); where it is 0 all A_k are 0.
 *
 * The score is, with e = 1e-7,
 *     SQRT      (m_ki - s_i) / sqrt((s_i + e)(1 - s_i + e))   G = sqrt(s (1 - s)) dJ/ds, J = E[L]; variance 1
 *     TEXTBOOK  (m_ki - s_i) / ((s_i + e)(1 - s_i + e))       G = dJ/ds; the score is d log p(m) / ds
 *
 * MOVING_AVERAGE, not normalised, SQRT is the reference. The excess of its factor is the weight 1/(W K) of each loss in
 * its own baseline; at the first step, where d is the step's mean, the factor is 1. */
typedef enum pol_baseline {
    POL_BASELINE_LEAVE_ONE_OUT = 0,
    POL_BASELINE_MOVING_AVERAGE,
    POL_BASELINE_NONE
} pol_baseline;

typedef enum pol_score { POL_SCORE_SQRT = 0, POL_SCORE_TEXTBOOK } pol_score;

/* A calibration set of several texts: sequences that follow each other, drawn in proportion to the weight. */
typedef struct pol_deck_part {
    int64_t n;
    double weight; /* relative to the others' */
} pol_deck_part;

typedef enum pol_schedule { POL_SCHEDULE_COSINE = 0, POL_SCHEDULE_LINEAR, POL_SCHEDULE_CONSTANT } pol_schedule;

/* What these choices are called, by number; NULL at the end. */
POL_API extern const char *const pol_baseline_names[]; /* "leave-one-out", ... */
POL_API extern const char *const pol_score_names[];
POL_API extern const char *const pol_schedule_names[];

typedef struct pol_learn_settings {
    int32_t mask_samples;       /* K, masks of a step; 2 or more except with NONE */
    int32_t sequences_per_mask; /* nb */
    bool shared_sequences;      /* all K masks of a step see the same nb sequences; else each its own */
    pol_baseline baseline;
    int32_t baseline_window; /* W of the moving average */
    pol_score score;
    bool normalise;        /* divide advantages by the running deviation sd of a step's losses */
    double learning_rate;  /* of s; 0 (only with normalise): 6 / sqrt(passes), passes = steps * K * nb */
    pol_schedule schedule; /* learning rate over the run, to 0 */
    int64_t steps;         /* of the whole run */
    uint64_t seed;
    double smin; /* after each step s is inside [smin, 1 - smin]; 0: s = 0 is absorbing, as in the reference */
    pol_budget budget;
    const pol_deck_part *parts; /* [n_parts] of the calibration set, borrowed; NULL: one text */
    int64_t n_parts;
} pol_learn_settings;

/* Method `units` for a number of forward sequences: K = 16, 1 shared sequence, leave-one-out, sqrt score, normalised,
 * learning rate 0 (sized to the passes), cosine, smin 0.003. And the paper's code (method `reference`): K = 2, 8 shared
 * sequences, moving average W = 5, sqrt score, learning rate 2e-3, cosine, smin 0. Seed 42; budget keeps are left at 0
 * for the caller. */
POL_API void pol_learn_units(int64_t passes, pol_learn_settings *out);
POL_API void pol_learn_reference(int64_t steps, pol_learn_settings *out);
/* POL_EARG naming the setting and its value. The budget is checked against the units, by pol_trainer_new(). */
POL_API pol_status pol_learn_check(pol_context *ctx, const pol_learn_settings *o);

/* State of the baseline between steps. Zero-initialise. */
typedef struct pol_estimator {
    double baseline;  /* b of the last step; d of the moving average */
    double deviation; /* sd; 0 where advantages are not normalised */
    int64_t steps;    /* estimates made */
} pol_estimator;

/* One gradient from K (mask, loss) pairs: g[i] for every unit of the granularity, 0 elsewhere. masks [K][n]; loss [K],
 * each the mean over that mask's sequences; all finite (POL_ENUMERIC otherwise, naming the mask). Updates e; on failure
 * e and g are as before. */
POL_API pol_status pol_estimate(const pol_learn_settings *o, pol_estimator *e, const pol_distribution *d,
                                const uint8_t *const *masks, const double *loss, float *g);

/* Learning rate of a step: the setting, or its sized value, times (1 + cos(pi t)) / 2, 1 - t or 1, t = step / steps. */
POL_API double pol_learning_rate(const pol_learn_settings *o, int64_t step);

/* The sequences of cell (step, mask k, i-th of nb): indices into a set of n, a permutation per epoch keyed by the seed;
 * of several parts each has its own, and the draws are dealt out among them by their weights, evenly. With shared
 * sequences k plays no part. A draw is a function of its arguments alone: nothing has to be saved. pol_deck_draw fills
 * index [nb]. POL_EARG: a set of fewer than nb, parts that are not the set, a step or mask that the settings do not
 * have. */
typedef struct pol_deck_settings {
    uint64_t seed;
    int64_t steps;
    int32_t masks;              /* of a step */
    int32_t sequences;          /* of a mask: nb */
    bool shared;                /* all masks of a step see the same ones */
    const pol_deck_part *parts; /* as in pol_learn_settings; read by pol_deck_new() */
    int64_t n_parts;
} pol_deck_settings;
POL_API pol_deck_settings pol_learn_deck(const pol_learn_settings *o);
typedef struct pol_deck pol_deck;
POL_API pol_status pol_deck_new(pol_context *ctx, const pol_deck_settings *o, int64_t n, pol_deck **out);
POL_API void pol_deck_free(pol_deck *d); /* takes NULL */
POL_API pol_status pol_deck_draw(pol_deck *d, int64_t step, int32_t k, int64_t *index);

/* Where losses come from. `look` asks for loss[i] of sequence index[i] under `mask`, i < n, both read during the call;
 * it may leave loss[] to be filled when `settle` returns, so that the next mask is drawn while a device computes.
 * `drop` gives up what has been asked for since: nothing is written any more. Where look fills loss[] at once, settle
 * and drop are NULL. */
typedef struct pol_losses {
    pol_status (*look)(void *user, const uint8_t *mask, const int64_t *index, int64_t n, double *loss);
    pol_status (*settle)(void *user);
    void (*drop)(void *user);
    void *user;
} pol_losses;

typedef struct pol_step_report {
    int64_t step;     /* just done, counted from 0 */
    double loss;      /* mean over the step's cells */
    double baseline;  /* b of the step */
    double kept;      /* share of parameters the step's masks kept, mean */
    double grad_norm; /* Euclidean */
    double learning_rate;
    double mean_entropy; /* after the step, of the Bernoulli variables, nats a unit */
} pol_step_report;

/* What the forward sequences of a run are spent on. */
typedef enum pol_purpose {
    POL_PURPOSE_INIT =
        0,             /* activation statistics for the initial probabilities; the dense model's predictions for KL */
    POL_PURPOSE_LEARN, /* the masks of the trainer's steps */
    POL_PURPOSE_HELD_OUT, /* hard masks on calibration text that is not learnt from */
    POL_PURPOSE_EVAL,     /* perplexity on a text of the user's */
    POL_PURPOSE_REPAIR,   /* statistics of the nested order and of the repair; a pass of all blocks counts once */
    POL_PURPOSES
} pol_purpose;
POL_API extern const char
    *const pol_purpose_names[]; /* "initialisation", "learning", "held_out", "evaluation", "repair" */

typedef struct pol_trainer pol_trainer;
/* Everything but `o` and `losses` (copied) is borrowed. `n_sequences`: size of the calibration set. */
POL_API pol_status pol_trainer_new(pol_context *ctx, const pol_learn_settings *o, pol_distribution *d,
                                   int64_t n_sequences, const pol_losses *losses, pol_trainer **out);
POL_API void pol_trainer_free(pol_trainer *t); /* takes NULL */
/* One step: draw and look at each mask, settle, estimate, update, project, clamp. A loss that is not finite is
 * POL_ENUMERIC naming step, mask and sequence. After any failure the state is as before the step and what was asked for
 * is dropped. A stop request is seen before each mask. `report` may be NULL. */
POL_API pol_status pol_trainer_step(pol_trainer *t, pol_step_report *report);
POL_API int64_t pol_trainer_next(const pol_trainer *t); /* the step to do next; == settings.steps when done */

/* State to save and restore: next step and estimator; s is the distribution's. pol_trainer_set refuses a state that no
 * run of these settings can be in. */
POL_API void pol_trainer_get(const pol_trainer *t, int64_t *next, pol_estimator *e);
POL_API pol_status pol_trainer_set(pol_trainer *t, int64_t next, const pol_estimator *e);

#ifdef __cplusplus
}
#endif
#endif
