/* gram.c - second moments: OpenBLAS's products of some rows at a time, added to pairs of floats without loss.
 *
 * Adding p to a pair (high, low): s = high + p rounded, and what the rounding took, e, comes out exactly of six
 * additions (Knuth, The Art of Computer Programming, volume 2, theorem 4.2.2 B); e goes to the low part. Rounding the
 * low part is all that is lost, 2^-48 of the sum.
 */
#include <cblas.h>
#include <limits.h>

#include "cpu/gemm.h"
#include "cpu/simd.h"

/* Rows of a and b that a product is made for at a time: so that scratch is small where N is 11,008. */
enum { PANEL = 1024 };

CPU_CLONES static void add_to_pairs(float *restrict high, float *restrict low, const float *restrict p, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float sum = high[i] + p[i], of_p = sum - high[i];
        const float rest = low[i] + ((high[i] - (sum - of_p)) + (p[i] - of_p));
        const float all = sum + rest;
        low[i] = rest - (all - sum);
        high[i] = all;
    }
}

int64_t gram_scratch_cpu(pol_backend *be, int64_t T, int64_t N, int64_t M)
{
    (void)be, (void)T;
    return pol_mul_count(pol_min_i64(N, PANEL), pol_max_i64(N, M));
}

/* c [n, first + n] = the rows [first, first + n) of x^T x up to their diagonal elements; x [rows, N]. */
static void square(const float *x, int64_t rows, int64_t N, int64_t first, int64_t n, float *c)
{
    const int ld = (int)(first + n);
    if (first)
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)n, (int)first, (int)rows, 1.0f, x + first, (int)N, x,
                    (int)N, 0.0f, c, ld);
    cblas_ssyrk(CblasRowMajor, CblasLower, CblasTrans, (int)n, (int)rows, 1.0f, x + first, (int)N, 0.0f, c + first, ld);
}

static void add_square(pol_backend *be, const pol_gram_args *a, const float *x, int64_t rows)
{
    const int64_t N = a->N;
    float *high = cpu_f32(a->a), *low = high + N * N, *c = cpu_f32(a->scratch);
    for (int64_t first = 0; first < N; first += PANEL) {
        const int64_t n = pol_min_i64(PANEL, N - first), ld = first + n;
        square(x, rows, N, first, n, c);
#pragma omp parallel for num_threads(cpu_threads(be)) schedule(static, 8) if (n * ld > CPU_PARALLEL_MIN)
        for (int64_t i = 0; i < n; i++) {
            const int64_t at = (first + i) * N;
            add_to_pairs(high + at, low + at, c + i * ld, first + i + 1);
        }
    }
}

static void add_cross(pol_backend *be, const pol_gram_args *a, const float *x, const float *y, int64_t rows)
{
    const int64_t N = a->N, M = a->M;
    float *high = cpu_f32(a->b), *low = high + N * M, *c = cpu_f32(a->scratch);
    for (int64_t first = 0; first < N; first += PANEL) {
        const int64_t n = pol_min_i64(PANEL, N - first);
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)n, (int)M, (int)rows, 1.0f, x + first, (int)N, y,
                    (int)M, 0.0f, c, (int)M);
#pragma omp parallel for num_threads(cpu_threads(be)) if (n * M > CPU_PARALLEL_MIN)
        for (int64_t i = 0; i < n; i++)
            add_to_pairs(high + (first + i) * M, low + (first + i) * M, c + i * M, M);
    }
}

pol_status gram_cpu(pol_backend *be, const pol_gram_args *a)
{
    if (a->N > INT_MAX || a->M > INT_MAX)
        return pol_fail(be->ctx, POL_EUNSUPPORTED, "gram: %lld and %lld columns: OpenBLAS counts in 32 bits",
                        (long long)a->N, (long long)a->M);
    const int before = cpu_blas_enter(be);
    for (int64_t t = 0; t < a->T; t += POL_GRAM_ROWS) {
        const int64_t rows = pol_min_i64(POL_GRAM_ROWS, a->T - t);
        add_square(be, a, cpu_f32(a->x) + t * a->N, rows);
        if (a->M)
            add_cross(be, a, cpu_f32(a->x) + t * a->N, cpu_f32(a->y) + t * a->M, rows);
    }
    cpu_blas_leave(before);
    return POL_OK;
}
