/* evolve.c - advantages, draws and moves of the evolution strategy on counts. */
#include "core/learn/evolve.h"

#include <math.h>

#include "core/base/base.h"
#include "core/base/rng.h"

static const double DEVIATION_KEEP = 0.9; /* sd <- keep sd + (1 - keep) std, as in estimator.c */

/* Of the log of a spread, a step. One statistic a kind: the mean over its layers is less noisy than each of theirs. */
static const double WIDEN_RATE = 0.15;

double pol_evolve_deviation(double running, const double *loss, int32_t K)
{
    double mean = 0.0, square = 0.0;
    for (int32_t k = 0; k < K; k++)
        mean += loss[k] / K;
    for (int32_t k = 0; k < K; k++)
        square += (loss[k] - mean) * (loss[k] - mean) / K;
    return running < 0.0 ? sqrt(square) : DEVIATION_KEEP * running + (1.0 - DEVIATION_KEEP) * sqrt(square);
}

/* Candidates below it, and half of those that are level with it. */
static double rank_of(const double *loss, int32_t K, int32_t k)
{
    double rank = -0.5; /* it is level with itself */
    for (int32_t j = 0; j < K; j++)
        rank += loss[j] < loss[k] ? 1.0 : loss[j] == loss[k] ? 0.5 : 0.0;
    return rank;
}

void pol_evolve_advantages(pol_advantage kind, const double *loss, int32_t K, double deviation, double *A)
{
    double mean = 0.0;
    for (int32_t k = 0; k < K; k++)
        mean += loss[k] / K;
    for (int32_t k = 0; k < K; k++)
        if (kind == POL_ADVANTAGE_RANK)
            A[k] = rank_of(loss, K, k) / (K - 1) - 0.5;
        else
            A[k] = deviation > 0.0 ? (loss[k] - mean) / (deviation * sqrt(12.0)) : 0.0;
}

void pol_evolve_sigma(const pol_allocation_settings *o, int64_t step, const double *spread, int32_t n, double *sigma)
{
    const double share = 1.0 - (1.0 - o->spread_end) * (double)step / (double)o->steps;
    for (int32_t i = 0; i < n; i++)
        sigma[i] = spread[i] * share;
}

void pol_evolve_slope(const pol_shape *s, const double *mean, const double *sigma, double *slope)
{
    for (int32_t i = 0; i < s->n_blocks; i++) {
        const double lo = fmax(mean[i] - sigma[i], (double)s->block[i].least);
        const double hi = fmin(mean[i] + sigma[i], (double)s->block[i].most);
        slope[i] = hi > lo ? (pol_shape_cost(s, i, hi) - pol_shape_cost(s, i, lo)) / (hi - lo) : 0.0;
    }
}

/* An independent Gaussian a block, then the smallest change, in standard deviations, that takes slope . delta to 0:
 * what is left is that Gaussian under the condition that it is 0. */
void pol_evolve_draw(const pol_shape *s, const pol_allocation_settings *o, int64_t step, int32_t pair,
                     const double *sigma, const double *slope, double *delta)
{
    const int32_t n = s->n_blocks;
    float z[2 * POL_MAX_LAYERS];
    pol_normal(o->seed, POL_STREAM_ALLOCATION, (uint64_t)step, (uint32_t)pair, n, z);
    for (int32_t i = 0; i < n; i++)
        delta[i] = sigma[i] * (double)z[i];
    for (int32_t p = 0; p < s->n_pots; p++) {
        const pol_pot *pot = &s->pot[p];
        double cost = 0.0, square = 0.0;
        for (int32_t i = pot->first; i < pot->first + pot->count; i++) {
            cost += slope[i] * delta[i];
            square += slope[i] * slope[i] * sigma[i] * sigma[i];
        }
        for (int32_t i = pot->first; square > 0.0 && i < pot->first + pot->count; i++)
            delta[i] -= slope[i] * sigma[i] * sigma[i] * cost / square;
    }
}

void pol_evolve_move(const double *A, const int64_t *count, int32_t K, int32_t n, const double *mean, double rate,
                     double *move)
{
    for (int32_t i = 0; i < n; i++) {
        double sum = 0.0;
        for (int32_t k = 0; k < K; k++)
            sum += A[k] * ((double)count[(int64_t)k * n + i] - mean[i]);
        move[i] = -rate * sum / K;
    }
}

void pol_evolve_widen(const pol_shape *s, const double *A, const int64_t *count, int32_t K, const double *mean,
                      const double *sigma, double factor[2])
{
    const int32_t n = s->n_blocks;
    double sum[2] = {0.0};
    int64_t blocks[2] = {0};
    for (int32_t i = 0; i < n; i++) {
        if (sigma[i] == 0.0)
            continue;
        const pol_unit_kind kind = s->block[i].kind;
        blocks[kind]++;
        for (int32_t k = 0; k < K; k++) {
            const double far = ((double)count[(int64_t)k * n + i] - mean[i]) / sigma[i];
            sum[kind] += A[k] * far * far / K;
        }
    }
    for (int kind = 0; kind < 2; kind++)
        factor[kind] = blocks[kind] ? exp(-WIDEN_RATE * sum[kind] / (double)blocks[kind]) : 1.0;
}
