/* rmsnorm.c - a row at a time; the second pass finds the row in the first-level cache. */
#include "cpu/cpu.h"
#include "cpu/simd.h"

CPU_CLONES static void rmsnorm_row(float *y, const float *x, const float *gain, int64_t C, float eps)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < C; c++)
        sum += x[c] * x[c];
    const float scale = 1.0f / sqrtf(sum / (float)C + eps);
#pragma omp simd
    for (int64_t c = 0; c < C; c++)
        y[c] = x[c] * scale * gain[c];
}

pol_status rmsnorm_cpu(pol_backend *be, const pol_rmsnorm_args *a)
{
    const int64_t T = a->T, C = a->C;
    float *y = cpu_f32(a->y);
    const float *x = cpu_f32(a->x), *gain = cpu_f32(a->gain);
#pragma omp parallel for num_threads(cpu_threads(be)) if (T * C > CPU_PARALLEL_MIN)
    for (int64_t t = 0; t < T; t++)
        rmsnorm_row(y + t * C, x + t * C, gain, C, a->eps);
    return POL_OK;
}
