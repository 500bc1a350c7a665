/* activation_stats.c - each thread owns a block of columns, so rows are summed in order whatever the thread count. */
#include "cpu/cpu.h"
#include "cpu/simd.h"

enum { COLUMNS = 128 };

CPU_CLONES static void add_columns(double *restrict sum, double *restrict sumsq, const float *restrict x, int64_t T,
                                   int64_t N, int64_t n)
{
    for (int64_t t = 0; t < T; t++)
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            const double v = x[t * N + i];
            sum[i] += v;
            sumsq[i] += v * v;
        }
}

pol_status activation_stats_cpu(pol_backend *be, const pol_activation_stats_args *a)
{
    const int64_t T = a->T, N = a->N;
    double *sum = cpu_f64(a->sum), *sumsq = cpu_f64(a->sumsq);
    const float *x = cpu_f32(a->x);
#pragma omp parallel for num_threads(cpu_threads(be)) if (T * N > CPU_PARALLEL_MIN)
    for (int64_t first = 0; first < N; first += COLUMNS)
        add_columns(sum + first, sumsq + first, x + first, T, N, pol_min_i64(COLUMNS, N - first));
    return POL_OK;
}
