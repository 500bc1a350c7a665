#include <math.h>

#include "cpu/gemm.h"
#include "cpu/obs.h"
#include "cpu/spd.h"

/* Where row i of a matrix in that order comes from. */
static int64_t source_of(const pol_obs_sweep_args *a, const int32_t *order, int64_t i)
{
    return order ? order[i / a->unit] * a->unit + i % a->unit : i;
}

void obs_load(pol_backend *be, const pol_obs_sweep_args *a, const int32_t *order, obs_space *s)
{
    const int64_t N = a->n_units * a->unit, C = a->C;
#pragma omp parallel for num_threads(cpu_threads(be)) schedule(static, 8) if (N * N > CPU_PARALLEL_MIN)
    for (int64_t i = 0; i < N; i++) {
        const int64_t from = source_of(a, order, i);
        for (int64_t j = 0; j <= i; j++) {
            const int64_t other = source_of(a, order, j);
            s->p[i * N + j] = a->h[pol_max_i64(from, other) * N + pol_min_i64(from, other)];
        }
        for (int64_t c = 0; c < C; c++)
            s->w[i * C + c] = a->w[from * C + c];
    }
}

static pol_status check_weights(pol_backend *be, const pol_obs_sweep_args *a)
{
    for (int64_t i = 0; i < a->n_units * a->unit; i++)
        for (int64_t c = 0; c < a->C; c++)
            if (!isfinite(a->w[i * a->C + c]))
                return pol_fail(be->ctx, POL_ENUMERIC, "obs_sweep: row %lld: weight %lld is %g", (long long)i,
                                (long long)c, (double)a->w[i * a->C + c]);
    return POL_OK;
}

static pol_status sweep(pol_backend *be, pol_obs_sweep_args *a, obs_space *s)
{
    POL_TRY(check_weights(be, a));
    if (!a->ordered)
        POL_TRY(obs_find_order(be, a, s));
    else
        for (int64_t i = 0; i < a->n_units; i++)
            a->error[i] = 0;
    return a->ordered || a->n_levels || a->loss ? obs_solve_rows(be, a, s) : POL_OK;
}

pol_status obs_sweep_cpu(pol_backend *be, pol_obs_sweep_args *a)
{
    const int64_t N = a->n_units * a->unit;
    POL_TRY(cpu_spd_check_sizes(be, "obs_sweep", N, a->C));
    obs_space space = {.p = pol_alloc_array(be->ctx, N * N, sizeof(double))};
    space.w = space.p ? pol_alloc_array(be->ctx, N * a->C, sizeof(double)) : NULL;
    pol_status s = POL_ENOMEM;
    if (space.w) {
        const int before = cpu_blas_enter(be);
        s = sweep(be, a, &space);
        cpu_blas_leave(before);
    }
    pol_free(be->ctx, space.w);
    pol_free(be->ctx, space.p);
    return s;
}
