/* score.h - metrics of single units, and the initial distribution made of them. */
#ifndef POLLARD_SCORE_H
#define POLLARD_SCORE_H

#include "pollard/data.h"
#include "pollard/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* WANDA_SP: of an input column c of o_proj or down_proj, mean over rows of |W[:,c]| times sqrt(sum over tokens of x_c^2
 * / sequences); a channel has that value, a group the sum over a head's columns, averaged over the group's query heads.
 * Layer after layer: each is scored on the stream that the already pruned layers before it give (per layer and kind the
 * top share is kept), as the paper's code does. MAGNITUDE: Euclidean norm of all weights of the unit. RANDOM: standard
 * normal, keyed by the seed. UNIFORM: all equal. Block units have no metric: 0 everywhere. */
typedef enum pol_metric {
    POL_METRIC_WANDA_SP = 0,
    POL_METRIC_MAGNITUDE,
    POL_METRIC_RANDOM,
    POL_METRIC_UNIFORM
} pol_metric;
POL_API const char *pol_metric_name(pol_metric m); /* "wanda-sp", ... */
POL_API bool pol_metric_find(const char *name, pol_metric *out);

/* metric [units->n] of the forward pass's model, whose mask is dense afterwards. `calibration` is used by WANDA_SP
 * only, in batches that fit f; `keep` per kind is the share of its intermediate masks. Host memory: the residual
 * streams, n * seq_len * hidden * 4 bytes. `passes` (may be NULL) gets the forward sequences spent: with WANDA_SP two a
 * calibration sequence, since all layers but the last are passed twice. */
POL_API pol_status pol_metric_compute(pol_forward *f, pol_metric metric, const pol_sequences *calibration,
                                      unsigned granularity, const double keep[POL_UNIT_KINDS], uint64_t seed,
                                      float *values, double *passes);

/* s of each (layer, kind) of the granularity: z = (metric - mean) / (std + 1e-8), unbiased std; s = sigmoid(z) + keep -
 * mean(sigmoid(z)), clipped to [0, 1]. UNIFORM: s = keep. The clip comes after the shift, so the sum may lie a little
 * below the budget, as in the paper's code. */
POL_API void pol_init_from_metric(pol_distribution *d, pol_metric metric, const float *values,
                                  const double keep[POL_UNIT_KINDS]);

#ifdef __cplusplus
}
#endif
#endif
