/* level_errors.c - whether the rows of a level are better than none. */
#include <string.h>

#include "core/base/rng.h"
#include "core/repair/database_state.h"

enum { PROBES = 4 };

/* dst[i * stride + p] += sign * (row i of w times probe p), i < n. */
static void add_product(const float *w, int64_t n, int64_t C, const float *z, double sign, double *dst, int64_t stride)
{
    for (int64_t i = 0; i < n; i++)
        for (int p = 0; p < PROBES; p++) {
            double sum = 0;
            for (int64_t c = 0; c < C; c++)
                sum += (double)w[i * C + c] * (double)z[p * C + c];
            dst[i * stride + p] += sign * sum;
        }
}

/* d [N, (n_levels + 1) PROBES]: of removal, W z; of each level, W z less what its rows give. */
static void make_differences(const pol_level_errors_args *a, const float *z, double *d)
{
    const int64_t V = (a->n_levels + 1) * PROBES, N = a->n_units * a->unit;
    memset(d, 0, (size_t)(N * V) * sizeof *d);
    add_product(a->w, N, a->C, z, 1, d, V);
    for (int64_t i = 0; i < N; i++)
        for (int64_t l = 1; l <= a->n_levels; l++)
            memcpy(d + i * V + l * PROBES, d + i * V, PROBES * sizeof *d);
    for (int64_t l = 0; l < a->n_levels; l++)
        for (int64_t i = 0; i < a->level[l]; i++)
            add_product(a->rows[l] + i * a->unit * a->C, a->unit, a->C, z, -1,
                        d + a->order[i] * a->unit * V + (l + 1) * PROBES, V);
}

/* loss [V]: d_v^T H d_v of each column of d, by the lower triangle. */
static void square(const double *h, int64_t N, const double *d, int64_t V, double *sum, double *loss)
{
    memset(loss, 0, (size_t)V * sizeof *loss);
    for (int64_t i = 0; i < N; i++) {
        for (int64_t v = 0; v < V; v++)
            sum[v] = 0.5 * h[i * N + i] * d[i * V + v];
        for (int64_t j = 0; j < i; j++)
            for (int64_t v = 0; v < V; v++)
                sum[v] += h[i * N + j] * d[j * V + v];
        for (int64_t v = 0; v < V; v++)
            loss[v] += 2 * d[i * V + v] * sum[v];
    }
}

pol_status pol_level_errors(pol_context *ctx, const pol_level_errors_args *a)
{
    const int64_t V = (a->n_levels + 1) * PROBES, N = a->n_units * a->unit;
    float *z = pol_alloc_array(ctx, PROBES * a->C, sizeof *z);
    double *d = pol_alloc_array(ctx, N + 2, (size_t)V * sizeof *d); /* the differences, then two rows of sums */
    if (z && d) {
        double *sum = d + N * V, *loss = sum + V, of[2];
        pol_uniform(0, POL_STREAM_PROBE, 0, 0, PROBES * a->C, z);
        for (int64_t i = 0; i < PROBES * a->C; i++)
            z[i] = z[i] < 0.5f ? -1 : 1;
        make_differences(a, z, d);
        square(a->h, N, d, V, sum, loss);
        for (int64_t l = 0; l < a->n_levels; l++) {
            of[0] = of[1] = 0;
            for (int p = 0; p < PROBES; p++) {
                of[0] += loss[p];
                of[1] += loss[(l + 1) * PROBES + p];
            }
            a->error[l] = of[1] == 0 ? 0 : of[1] / of[0];
        }
    }
    const bool there = z && d;
    pol_free(ctx, z);
    pol_free(ctx, d);
    return there ? POL_OK : POL_ENOMEM;
}
