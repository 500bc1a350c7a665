/* allocation.h - a policy over how many units each block keeps: a Gaussian around mean counts, moved by an evolution
 * strategy. Which units stay follows from the block's nested order, so the variables are two a layer.
 *
 * Indices of counts: kind * n_layers + layer, kind GROUP or CHANNEL.
 */
#ifndef POLLARD_ALLOCATION_H
#define POLLARD_ALLOCATION_H

#include "pollard/cost.h"
#include "pollard/learn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What counts may be. */
typedef struct pol_shape_rules {
    const pol_units *units;           /* borrowed */
    unsigned granularity;             /* of HEADS and CHANNELS; kinds outside it keep all */
    pol_budget budget;                /* its cost with JOINT */
    int64_t align_channels;           /* counts of channels are multiples of it, or all, or none; 1: any */
    int64_t min_groups, min_channels; /* of every block; 0: a block may go whole */
    const int64_t *const *level; /* [2 n_layers] rising counts that are preferred, 0 and all included; NULL: none are */
    const int64_t *n_levels;     /* [2 n_layers] */
    const int64_t *at_most;      /* [2 n_layers] counts of a larger model that this one lies within; NULL: none */
} pol_shape_rules;

/* POL_ELIMIT with the numbers where no counts meet rules and budget. */
POL_API pol_status pol_shape_check(const pol_shape_rules *r);
/* Real counts to whole ones within the rules that use up the budget exactly.
 *
 * The steps of a block lead from one level to the next, or from one allowed count to the next where there are no
 * levels; the largest count that the rules allow is always a level, and counts that cost the same are one. `want` is
 * first shifted onto the budget, each block by the same share of its units. Then steps are given from the lowest counts
 * up, by the number of steps still missing up to `want`, ties to the lower index; one that the budget has no room for
 * is passed over. Last, of each kind, the block with most of a step missing takes up the rest, off its levels.
 *
 * So what is left of the budget is less than the cheapest step that could still be taken: SEPARATE, with counts aligned
 * to 1, nothing. Depends on its arguments alone. */
POL_API pol_status pol_shape_round(const pol_shape_rules *r, const double *want, int64_t *count);

/* What a candidate's loss counts for: RANK: its rank among the step's K over K - 1, less one half; equal losses share
 * the mean of their ranks. NORMALISED: (loss - mean) / (sd sqrt(12)), sd the running deviation of learn.h; as large as
 * RANK on average, so that one learning rate serves both. */
typedef enum pol_advantage { POL_ADVANTAGE_RANK = 0, POL_ADVANTAGE_NORMALISED } pol_advantage;
POL_API extern const char *const pol_advantage_names[]; /* "rank", "normalised", NULL */

/* Step t of T has f = t / T. Its candidates are mean +- sigma z on the budget (pol_shape_round), with
 *     sigma = spread (1 - (1 - spread_end) f)
 *     z     Gaussian, such that the first order of what mean + sigma z costs is what the mean costs
 * and their advantages A_k move
 *     mean    by -learning_rate (1 - 0.8 f) mean_k A_k (count_k - mean), then back onto the budget
 *     spread  of all blocks of a kind, where it is adapted, by the factor
 *             exp(-0.15 mean_k,block A_k ((count_k - mean) / sigma)^2), within a factor of 4 of its start
 */
typedef struct pol_allocation_settings {
    int32_t candidates;              /* K of a step, even: K / 2 Gaussian draws and their mirror images */
    int32_t sequences_per_candidate; /* nb; all candidates of a step see the same ones */
    pol_advantage advantage;
    double spread_channels; /* standard deviation at the start, as a share of a block's channels */
    double spread_groups;   /* and of its groups; at least spread_least groups */
    double spread_least;
    double spread_end;    /* share of the spread that is left at the end of the run */
    double learning_rate; /* of the mean, in spreads */
    bool adapt_spread;    /* by the evolution strategy as well */
    int64_t steps;
    uint64_t seed;
    const pol_deck_part *parts; /* [n_parts] of the calibration set, borrowed; NULL: one text */
    int64_t n_parts;
} pol_allocation_settings;

/* K = 16 on 1 sequence, rank, spreads 0.10 and 0.20 (0.6 at least) that fall to 0.3, learning rate 3, seed 42; steps
 * are left at 0. */
POL_API void pol_allocation_defaults(pol_allocation_settings *o);
/* The draws of a run: K candidates a step, all on the same sequences. */
POL_API pol_deck_settings pol_allocation_deck(const pol_allocation_settings *o);
POL_API pol_status pol_allocation_check(pol_context *ctx, const pol_allocation_settings *o);

/* The state of the policy between steps: all that a checkpoint needs. */
typedef struct pol_allocation_state {
    int64_t next;     /* step to do */
    double deviation; /* running, of a step's losses; 0 with ranks */
    double *mean;     /* [2 n_layers] counts, real */
    double *spread;   /* [2 n_layers] standard deviations before the schedule; 0 where a block's count is fixed */
} pol_allocation_state;

/* As pol_losses, for counts in place of a mask. Of candidates of a step that are equal one is asked for. */
typedef struct pol_allocation_losses {
    pol_status (*look)(void *user, const int64_t *count, const int64_t *index, int64_t n, double *loss);
    pol_status (*settle)(void *user);
    void (*drop)(void *user);
    void *user;
} pol_allocation_losses;

typedef struct pol_shaper pol_shaper;
/* `start` [2 n_layers] are the first mean counts (NULL: the budget's share of every block). Rules are copied, what they
 * point to is borrowed. On success *out is yours: pol_shaper_free(). */
POL_API pol_status pol_shaper_new(pol_context *ctx, const pol_allocation_settings *o, const pol_shape_rules *r,
                                  const double *start, int64_t n_sequences, const pol_allocation_losses *losses,
                                  pol_shaper **out);
POL_API void pol_shaper_free(pol_shaper *a); /* takes NULL */
/* One step: candidates, their losses, mean and spread moved. As pol_trainer_step() where it fails or is stopped.
 * report->grad_norm is the length of the mean's move in spreads; mean_entropy that of the Gaussians, nats a variable.
 */
POL_API pol_status pol_shaper_step(pol_shaper *a, pol_step_report *report);
POL_API int64_t pol_shaper_next(const pol_shaper *a);
POL_API const pol_allocation_state *pol_shaper_state(const pol_shaper *a); /* lives as long as `a` */
/* POL_EARG for a state that no run of these settings and rules can be in; then `a` is as before. */
POL_API pol_status pol_shaper_set(pol_shaper *a, const pol_allocation_state *s);
/* The mean's own counts: the mask that the policy stands for. */
POL_API void pol_shaper_counts(pol_shaper *a, int64_t *count);
/* Probability that the unit of rank r (0 = kept longest) of a block is kept: of the count's Gaussian. */
POL_API double pol_allocation_probability(double mean, double spread, int64_t rank);

/* What the mean keeps, by kind (GROUP, CHANNEL), for logs. */
typedef struct pol_allocation_stats {
    double kept[2];           /* share of the kind's units */
    double least[2], most[2]; /* share of a block's, over the blocks that have any */
    double spread[2];         /* of a step now, as a share of a block's units, mean over the blocks that vary */
    int64_t candidates[2];    /* of the last step: made, and different from each other; 0 before the first */
} pol_allocation_stats;
POL_API void pol_shaper_stats(const pol_shaper *a, pol_allocation_stats *out);

#ifdef __cplusplus
}
#endif
#endif
