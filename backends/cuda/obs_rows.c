/* obs_rows.c - the least-squares rows on the first k rows of an order, for many k, from one factor.
 *
 * With A = U^T U in that order, S its first k rows and U_k the leading block of U: A_SS = U_k^T U_k, and A_S: W is
 * U_k^T B_k, B_k the first k rows of B = U W. So X = U_k^-1 B_k. The inverse of a leading block of a triangle is the
 * leading block of its inverse: a larger k adds the share of the rows of B up to there. All levels together take
 * N^2 C operations, but for zeros.
 */
#include "backends/cuda/obs.h"

/* p = U in the order, below its diagonal 0, and b = U w. */
static pol_status load_factor(cu_obs *o)
{
    cu_spd *s = &o->spd;
    pol_obs_sweep_args *a = o->a;
    const cu_fill_lower zeros = {.a = o->p, .N = s->N};
    POL_TRY(cu_obs_load(o, true));
    POL_TRY(cu_spd_factor_all(s, o->p, o->rows));
    if (a->ordered)
        POL_TRY(cu_spd_condition(s, o->p, o->norm, &a->condition));
    CU_TRY(s->c->base.ctx, s->op, pol_cu_fill_lower, s->c->compute, &zeros);
    return cu_spd_multiply(s, &(cu_product){.y = o->b, .x = o->p, .w = o->w, .T = s->N, .N = a->C, .K = s->N});
}

/* U (W0 - X), X on the first k rows, is 0 in those and b in the others: what is lost is the sum of their squares. */
static pol_status sum_losses(cu_obs *o)
{
    const pol_obs_sweep_args *a = o->a;
    POL_TRY(cu_obs_fetch_squares(o, o->b, o->spd.N, NULL));
    a->loss[a->n_units] = 0;
    for (int64_t u = a->n_units - 1; u >= 0; u--) {
        a->loss[u] = a->loss[u + 1];
        for (int64_t i = u * a->unit; i < (u + 1) * a->unit; i++)
            a->loss[u] += o->spd.host[i];
    }
    return POL_OK;
}

/* w, of rows [0, k) so far, to those of [0, end). */
static pol_status extend(cu_obs *o, int64_t k, int64_t end)
{
    const int64_t N = o->spd.N, C = o->a->C;
    return cu_spd_multiply(
        &o->spd,
        &(cu_product){
            .y = o->w, .x = o->x + k, .w = o->b + k * C, .T = end, .N = C, .K = end - k, .x_row = N, .put = CU_ADD});
}

static pol_status solve_levels(cu_obs *o)
{
    const pol_obs_sweep_args *a = o->a;
    const cu_spd *s = &o->spd;
    cu *c = s->c;
    POL_TRY(cu_spd_invert(s, o->p, o->x));
    CU_TRY(c->base.ctx, s->op, cudaMemsetAsync, o->w, 0, (size_t)(s->N * a->C) * sizeof *o->w, c->compute);
    for (int64_t l = 0, k = 0; l < a->n_levels; l++) {
        const int64_t end = a->level[l] * a->unit, n = end * a->C;
        const cu_narrow f32 = {.to = (float *)o->p, .from = o->w, .n = n};
        POL_TRY(pol_check_stop(c->base.ctx));
        POL_TRY(extend(o, k, end));
        CU_TRY(c->base.ctx, s->op, pol_cu_narrow, c->compute, &f32);
        POL_TRY(cu_fetch(c, a->rows[l], o->p, (size_t)n * sizeof *a->rows[l]));
        k = end;
    }
    return POL_OK;
}

pol_status cu_obs_solve_rows(cu_obs *o)
{
    POL_TRY(load_factor(o));
    if (o->a->loss)
        POL_TRY(sum_losses(o));
    return o->a->n_levels ? solve_levels(o) : POL_OK;
}
