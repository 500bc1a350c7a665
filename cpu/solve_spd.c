/* solve_spd.c - a symmetric positive definite system by Cholesky's factors. */
#include <cblas.h>
#include <math.h>

#include "cpu/gemm.h"
#include "cpu/spd.h"

static pol_status solve(pol_backend *be, pol_solve_spd_args *a)
{
    const int N = (int)a->N, M = (int)a->M;
    POL_TRY(cpu_spd_factor(be, "solve_spd", a->N, a->damping, a->a, &a->condition));
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, N, M, 1.0, a->a, N, a->b, M);
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasTrans, CblasNonUnit, N, M, 1.0, a->a, N, a->b, M);
    return POL_OK;
}

static pol_status check_right_side(pol_backend *be, const pol_solve_spd_args *a)
{
    for (int64_t i = 0; i < a->N * a->M; i++)
        if (!isfinite(a->b[i]))
            return pol_fail(be->ctx, POL_ENUMERIC, "solve_spd: row %lld: element %lld of the right side is %g",
                            (long long)(i / a->M), (long long)(i % a->M), a->b[i]);
    return POL_OK;
}

pol_status solve_spd_cpu(pol_backend *be, pol_solve_spd_args *a)
{
    POL_TRY(cpu_spd_check_sizes(be, "solve_spd", a->N, a->M));
    POL_TRY(check_right_side(be, a));
    const int before = cpu_blas_enter(be);
    const pol_status s = solve(be, a);
    cpu_blas_leave(before);
    return s;
}
