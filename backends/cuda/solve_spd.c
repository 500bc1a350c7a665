/* solve_spd.c - a symmetric positive definite system of the host's, solved on the device. */
#include <math.h>

#include "backends/cuda/spd.h"

static pol_status check_right_side(cu_spd *s, const pol_solve_spd_args *a, const double *b)
{
    bool finite;
    POL_TRY(cu_spd_sum_rows(s, b, a->M, &finite));
    for (int64_t i = 0; i < a->N * a->M && !finite; i++)
        if (!isfinite(a->b[i]))
            return pol_fail(s->c->base.ctx, POL_ENUMERIC, "%s: row %lld: element %lld of the right side is %g", s->op,
                            (long long)(i / a->M), (long long)(i % a->M), a->b[i]);
    return POL_OK;
}

static pol_status solve(cu_spd *s, pol_solve_spd_args *a, double *u, double *b)
{
    const size_t bytes = (size_t)a->N * (size_t)a->M * sizeof *b;
    double norm;
    POL_TRY(cu_send(s->c, u, a->a, (size_t)a->N * (size_t)a->N * sizeof *u));
    POL_TRY(cu_spd_damp(s, a->a, u, NULL, u, &norm));
    POL_TRY(cu_send(s->c, b, a->b, bytes));
    POL_TRY(check_right_side(s, a, b));
    POL_TRY(cu_spd_factor_all(s, u, NULL));
    POL_TRY(cu_spd_condition(s, u, norm, &a->condition));
    POL_TRY(cu_spd_solve(s, u, a->N, b, a->M, a->M, true));
    POL_TRY(cu_spd_solve(s, u, a->N, b, a->M, a->M, false));
    return cu_fetch(s->c, a->b, b, bytes);
}

pol_status solve_spd_cuda(pol_backend *be, pol_solve_spd_args *a)
{
    cu *c = cu_of(be);
    cu_spd s;
    double *u, *b;
    void *block = NULL;
    cu_part parts[CU_SPD_PARTS + 2] = {{(void **)&u, (size_t)a->N * (size_t)a->N * sizeof *u},
                                       {(void **)&b, (size_t)a->N * (size_t)a->M * sizeof *b}};
    POL_TRY(cu_begin(c, CU_SOLVE_SPD));
    POL_TRY(cu_spd_open(&s, be, "solve_spd", a->N, a->damping, parts + 2));
    pol_status status = cu_take(c, s.op, parts, POL_COUNT(parts), &block);
    if (status == POL_OK)
        status = solve(&s, a, u, b);
    cu_give_back(c, block);
    cu_spd_close(&s);
    return status;
}
