/* estimator.c - losses of K masks to one gradient. The formulas are in learn.h. */
#include <math.h>
#include <string.h>

#include "core/base/base.h"
#include "core/learn/update.h"

static const double EPSILON = 1e-7;       /* of the score's denominator, as in the reference */
static const double DEVIATION_KEEP = 0.9; /* sd <- keep sd + (1 - keep) std */

/* Units are taken in blocks of fixed length, the last one padded: loops whose length the compiler knows become vector
 * code, and the sums of a block stay in the first-level cache while the masks pass by. */
enum { BLOCK = 256 };

/* b and sd of this step. */
static void observe(const pol_learn_settings *o, const double *loss, pol_estimator *e)
{
    const int32_t K = o->mask_samples;
    double mean = 0.0, square = 0.0;
    for (int32_t k = 0; k < K; k++)
        mean += loss[k] / K;
    for (int32_t k = 0; k < K; k++)
        square += (loss[k] - mean) * (loss[k] - mean) / K;
    const bool first = e->steps == 0;
    switch (o->baseline) {
    case POL_BASELINE_LEAVE_ONE_OUT: e->baseline = mean; break;
    case POL_BASELINE_MOVING_AVERAGE: {
        const double w = 1.0 / o->baseline_window;
        e->baseline = (1.0 - w) * (first ? mean : e->baseline) + w * mean;
        break;
    }
    case POL_BASELINE_NONE: e->baseline = 0.0; break;
    }
    if (o->normalise)
        e->deviation = first ? sqrt(square) : DEVIATION_KEEP * e->deviation + (1.0 - DEVIATION_KEEP) * sqrt(square);
    e->steps++;
}

/* 1 / divisor of learn.h's table; 0 where no mask has ever made a difference. */
static double advantage_scale(const pol_learn_settings *o, const pol_estimator *e)
{
    const int32_t K = o->mask_samples;
    if (o->normalise)
        return e->deviation > 0.0 ? 1.0 / (K * e->deviation) : 0.0;
    return 1.0 / (o->baseline == POL_BASELINE_NONE ? K : K - 1);
}

/* g of units [first, first + n), n <= BLOCK. */
static void estimate_block(const pol_learn_settings *o, double b, double scale, const float *prob,
                           const uint8_t *const *masks, const double *loss, int64_t first, int64_t n, float *g)
{
    double s[BLOCK] = {0}, sum[BLOCK] = {0};
    uint8_t m[BLOCK] = {0};
    float out[BLOCK];
    for (int64_t j = 0; j < n; j++)
        s[j] = (double)prob[first + j];
    for (int32_t k = 0; k < o->mask_samples; k++) {
        const double advantage = (loss[k] - b) * scale;
        memcpy(m, masks[k] + first, (size_t)n);
        for (int j = 0; j < BLOCK; j++)
            sum[j] += advantage * ((double)m[j] - s[j]);
    }
    if (o->score == POL_SCORE_SQRT) {
        for (int j = 0; j < BLOCK; j++)
            out[j] = (float)(sum[j] / sqrt((s[j] + EPSILON) * (1.0 - s[j] + EPSILON)));
    } else {
        for (int j = 0; j < BLOCK; j++)
            out[j] = (float)(sum[j] / ((s[j] + EPSILON) * (1.0 - s[j] + EPSILON)));
    }
    memcpy(g + first, out, (size_t)n * sizeof *g);
}

pol_status pol_estimate(const pol_learn_settings *o, pol_estimator *e, const pol_distribution *d,
                        const uint8_t *const *masks, const double *loss, float *g)
{
    for (int32_t k = 0; k < o->mask_samples; k++)
        if (!isfinite(loss[k]))
            return pol_fail(d->units->ctx, POL_ENUMERIC, "mask %d: loss is %g", k,
                            isnan(loss[k]) ? fabs(loss[k]) : loss[k]); /* not "-nan" */
    observe(o, loss, e);
    const double scale = advantage_scale(o, e);
    memset(g, 0, (size_t)d->units->n * sizeof *g);
    for (int kind = 0; kind < POL_UNIT_KINDS; kind++) {
        const pol_range r = pol_variable_range(d, kind);
        for (int64_t i = 0; i < r.count; i += BLOCK)
            estimate_block(o, e->baseline, scale, d->s, masks, loss, r.first + i, pol_min_i64(BLOCK, r.count - i), g);
    }
    return POL_OK;
}
