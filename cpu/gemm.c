#include "cpu/gemm.h"

#include <cblas.h>
#include <limits.h>
#include <omp.h>

#include "cpu/simd.h"

int cpu_blas_enter(const pol_backend *be)
{
    const int threads = cpu_threads(be), before = omp_get_max_threads();
    if (before != threads || openblas_get_num_threads() != threads)
        openblas_set_num_threads(threads); /* sets OpenMP's too */
    return before;
}

void cpu_blas_leave(int before)
{
    if (omp_get_max_threads() != before)
        omp_set_num_threads(before);
}

pol_status cpu_gemm(pol_backend *be, cpu_layout layout, int64_t m, int64_t n, int64_t k, const float *x, const float *w,
                    float beta, float *y, int64_t ldy)
{
    if (m > INT_MAX || n > INT_MAX || k > INT_MAX || ldy > INT_MAX)
        return pol_fail(be->ctx, POL_EUNSUPPORTED, "gemm: %lld x %lld x %lld: OpenBLAS counts in 32 bits", (long long)m,
                        (long long)n, (long long)k);
    const int before = cpu_blas_enter(be);
    const bool rows_out = layout == CPU_ROWS_OUT;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, rows_out ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, 1.0f, x,
                (int)k, w, (int)(rows_out ? k : n), beta, y, (int)ldy);
    cpu_blas_leave(before);
    return POL_OK;
}

CPU_CLONES static void add_row(float *restrict y, const float *restrict bias, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] += bias[i];
}

void cpu_add_bias(pol_backend *be, int64_t m, int64_t n, const float *bias, float *y)
{
    if (!bias)
        return;
#pragma omp parallel for num_threads(cpu_threads(be)) if (m * n > CPU_PARALLEL_MIN)
    for (int64_t i = 0; i < m; i++)
        add_row(y + i * n, bias, n);
}
