/* activation_stats.c - each thread owns a block of columns, so rows are summed in order whatever the thread count. */
#include "cpu/cpu.h"
#include "cpu/simd.h"

enum { COLUMNS = 128 };

/* n of the N columns, n <= COLUMNS. */
CPU_CLONES static void sum_columns(float *restrict sum, float *restrict sumsq, const float *restrict x, int64_t T,
                                   int64_t N, int64_t n)
{
    double s[COLUMNS] = {0}, q[COLUMNS] = {0};
    for (int64_t t = 0; t < T; t++)
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            const double v = x[t * N + i];
            s[i] += v;
            q[i] += v * v;
        }
    for (int64_t i = 0; i < n; i++) {
        sum[i] = (float)s[i];
        sumsq[i] = (float)q[i];
    }
}

pol_status activation_stats_cpu(pol_backend *be, const pol_activation_stats_args *a)
{
    const int64_t T = a->T, N = a->N;
    float *sum = cpu_f32(a->sum), *sumsq = cpu_f32(a->sumsq);
    const float *x = cpu_f32(a->x);
#pragma omp parallel for num_threads(cpu_threads(be)) if (T * N > CPU_PARALLEL_MIN)
    for (int64_t first = 0; first < N; first += COLUMNS)
        sum_columns(sum + first, sumsq + first, x + first, T, N, pol_min_i64(COLUMNS, N - first));
    return POL_OK;
}
