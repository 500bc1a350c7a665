/* obs_sweep.c - the sweep of core/backend.h with all of its matrices on the device, and what it takes there: two of
 * [N,N] and two of [N,C] in f64. */
#include <math.h>

#include "backends/cuda/obs.h"

static pol_status send_order(cu_obs *o)
{
    const pol_obs_sweep_args *a = o->a;
    for (int64_t i = 0; i < o->spd.N; i++)
        o->rows[i] = (int32_t)(a->order[i / a->unit] * a->unit + i % a->unit);
    return cu_send(o->spd.c, o->order, o->rows, (size_t)o->spd.N * sizeof *o->rows);
}

static pol_status check_weights(cu_obs *o)
{
    const pol_obs_sweep_args *a = o->a;
    bool finite;
    POL_TRY(cu_spd_sum_rows(&o->spd, o->w, a->C, &finite));
    for (int64_t i = 0; i < o->spd.N * a->C && !finite; i++)
        if (!isfinite(a->w[i]))
            return pol_fail(o->spd.c->base.ctx, POL_ENUMERIC, "obs_sweep: row %lld: weight %lld is %g",
                            (long long)(i / a->C), (long long)(i % a->C), (double)a->w[i]);
    return POL_OK;
}

pol_status cu_obs_load(cu_obs *o, bool in_order)
{
    const pol_obs_sweep_args *a = o->a;
    cu *c = o->spd.c;
    const int64_t N = o->spd.N, C = a->C;
    const int32_t *order = in_order ? o->order : NULL;
    const cu_widen k = {.to = o->w, .from = (const float *)o->b, .order = order, .rows = N, .columns = C};
    if (in_order)
        POL_TRY(send_order(o));
    POL_TRY(cu_send(c, o->b, a->w, (size_t)N * (size_t)C * sizeof *a->w));
    CU_TRY(c->base.ctx, "obs_sweep", pol_cu_widen, c->compute, &k);
    POL_TRY(check_weights(o));
    POL_TRY(cu_send(c, o->x, a->h, (size_t)N * (size_t)N * sizeof *a->h));
    return cu_spd_damp(&o->spd, a->h, o->x, order, o->p, &o->norm);
}

pol_status cu_obs_fetch_squares(cu_obs *o, const double *x, int64_t n, const double *p)
{
    cu_spd *s = &o->spd;
    const cu_row_sums k = {.sums = s->numbers,
                           .x = x,
                           .pivot = p,
                           .rows = n,
                           .columns = o->a->C,
                           .row = o->a->C,
                           .pivot_row = s->N,
                           .squares = true};
    CU_TRY(s->c->base.ctx, s->op, pol_cu_row_sums, s->c->compute, &k);
    return cu_fetch(s->c, s->host, s->numbers, (size_t)n * sizeof *s->host);
}

static pol_status sweep(cu_obs *o)
{
    pol_obs_sweep_args *a = o->a;
    if (!a->ordered)
        POL_TRY(cu_obs_find_order(o));
    else
        for (int64_t i = 0; i < a->n_units; i++)
            a->error[i] = 0;
    return a->ordered || a->n_levels || a->loss ? cu_obs_solve_rows(o) : POL_OK;
}

static pol_status take_and_sweep(cu_obs *o, cu_part spd_parts[CU_SPD_PARTS])
{
    const pol_obs_sweep_args *a = o->a;
    const size_t N = (size_t)o->spd.N, square = N * N * sizeof(double), weights = N * (size_t)a->C * sizeof(double);
    const size_t at_once = (size_t)(pol_min_i64(a->block, a->n_units) * a->unit);
    cu_part parts[CU_SPD_PARTS + 6] = {{(void **)&o->p, square > weights / 2 ? square : weights / 2},
                                       {(void **)&o->x, square},
                                       {(void **)&o->w, weights},
                                       {(void **)&o->b, weights},
                                       {(void **)&o->order, N * sizeof *o->order},
                                       {(void **)&o->pairs, 2 * at_once * sizeof *o->pairs}};
    void *block;
    for (int i = 0; i < CU_SPD_PARTS; i++)
        parts[6 + i] = spd_parts[i];
    POL_TRY(cu_take(o->spd.c, "obs_sweep", parts, POL_COUNT(parts), &block));
    const pol_status s = sweep(o);
    cu_give_back(o->spd.c, block);
    return s;
}

pol_status obs_sweep_cuda(pol_backend *be, pol_obs_sweep_args *a)
{
    const int64_t N = a->n_units * a->unit;
    cu_part parts[CU_SPD_PARTS];
    cu_obs o = {.a = a};
    if (N > INT32_MAX)
        return pol_fail(be->ctx, POL_EUNSUPPORTED, "obs_sweep: %lld rows do not count in 32 bits", (long long)N);
    POL_TRY(cu_begin(cu_of(be), CU_OBS_SWEEP));
    POL_TRY(cu_spd_open(&o.spd, be, "obs_sweep", N, a->damping, parts));
    o.rows = pol_alloc_array(be->ctx, N, sizeof *o.rows);
    const pol_status s = o.rows ? take_and_sweep(&o, parts) : POL_ENOMEM;
    pol_free(be->ctx, o.rows);
    cu_spd_close(&o.spd);
    return s;
}
