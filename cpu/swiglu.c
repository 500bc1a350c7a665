/* swiglu.c - gate and up lie side by side, so that one GEMM makes both and one pass reads both. */
#include "cpu/cpu.h"
#include "cpu/simd.h"

CPU_CLONES static void swiglu_row(float *restrict h, const float *restrict gu, int64_t kept)
{
#pragma omp simd
    for (int64_t i = 0; i < kept; i++) {
        const float gate = gu[2 * i], up = gu[2 * i + 1];
        h[i] = gate / (1.0f + cpu_expf(-gate)) * up;
    }
}

pol_status swiglu_cpu(pol_backend *be, const pol_swiglu_args *a)
{
    const int64_t T = a->T, kept = a->kept, padded = a->padded;
    float *h = cpu_f32(a->h);
    const float *gu = cpu_f32(a->gu);
#pragma omp parallel for num_threads(cpu_threads(be)) if (T * padded > CPU_PARALLEL_MIN)
    for (int64_t t = 0; t < T; t++) {
        swiglu_row(h + t * padded, gu + 2 * t * padded, kept);
        memset(h + t * padded + kept, 0, (size_t)(padded - kept) * sizeof *h);
    }
    return POL_OK;
}
