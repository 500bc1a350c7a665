/* init.c - from a metric to initial probabilities (the paper's code, utils.py: "sigmap"). */
#include <math.h>

#include "core/base/base.h"
#include "pollard/score.h"

static void sigmoid_of_z(const float *v, int64_t n, double keep, float *s)
{
    double mean = 0, var = 0, mean_s = 0;
    for (int64_t i = 0; i < n; i++)
        mean += v[i] / (double)n;
    for (int64_t i = 0; i < n; i++)
        var += (v[i] - mean) * (v[i] - mean);
    /* Unbiased; a single unit has no spread and gets s = keep. */
    const double std = n > 1 ? sqrt(var / (double)(n - 1)) : 0;
    for (int64_t i = 0; i < n; i++) {
        const double y = 1.0 / (1.0 + exp(-(v[i] - mean) / (std + 1e-8)));
        s[i] = (float)y;
        mean_s += y / (double)n;
    }
    for (int64_t i = 0; i < n; i++)
        s[i] = (float)fmin(fmax(s[i] + (keep - mean_s), 0.0), 1.0);
}

void pol_init_from_metric(pol_distribution *d, pol_metric metric, const float *values,
                          const double keep[POL_UNIT_KINDS])
{
    const pol_units *u = d->units;
    for (int64_t i = 0; i < u->n_sections; i++) {
        const pol_section *sec = &u->sections[i];
        if (!(d->granularity & 1u << sec->kind))
            continue;
        const bool has_metric =
            metric == POL_METRIC_RANDOM || (metric != POL_METRIC_UNIFORM && sec->kind <= POL_UNIT_CHANNEL);
        if (has_metric)
            sigmoid_of_z(values + sec->first, sec->count, keep[sec->kind], d->s + sec->first);
        else
            for (int64_t j = 0; j < sec->count; j++)
                d->s[sec->first + j] = (float)keep[sec->kind];
    }
}
