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
 * normal, keyed by the seed. UNIFORM: all equal. FLAP: sample variance over the tokens of x_c times the sum of
 * W[:,c]^2, on the dense model's activations (An et al. 2023, arXiv 2312.11983); a group the mean over its columns.
 * OBS: how long optimal-brain-surgeon removal keeps a unit of its (layer, kind), on the dense model's activations: 0
 * for the one that goes first, then 1, ... Block units have no metric: 0 everywhere. */
typedef enum pol_metric {
    POL_METRIC_WANDA_SP = 0,
    POL_METRIC_MAGNITUDE,
    POL_METRIC_RANDOM,
    POL_METRIC_UNIFORM,
    POL_METRIC_FLAP,
    POL_METRIC_OBS
} pol_metric;
POL_API const char *pol_metric_name(pol_metric m); /* "wanda-sp", ... */
POL_API bool pol_metric_find(const char *name, pol_metric *out);
/* Forward sequences that it spends on each calibration sequence; 0: it looks at no text. */
POL_API int32_t pol_metric_passes(pol_metric m);

/* metric [units->n] of the forward pass's model, whose mask is dense afterwards. `calibration` is looked at by those
 * that have passes, in batches that fit f; `keep` per kind is the share of WANDA_SP's intermediate masks. OBS takes
 * kinds of the granularity alone, at least 4 tokens a column (POL_ELIMIT), and memory for a matrix of a row and a
 * column each input: on the device twice in f32, on the host twice in f64. All that have passes take host memory for
 * the residual streams, n * seq_len * hidden * 4 bytes. `passes` (may be NULL) gets the forward sequences spent. */
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
