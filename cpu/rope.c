/* rope.c - rotates the query and key heads of a token, all by the same angles. */
#include "cpu/cpu.h"
#include "cpu/simd.h"

CPU_CLONES static void rope_token(float *restrict qkv, const float *restrict cos_sin, int64_t G, int64_t g, int64_t D)
{
    const int64_t half = D / 2;
    const float *cosine = cos_sin, *sine = cos_sin + half;
    for (int64_t i = 0; i < G; i++)
        for (int64_t j = 0; j < g + 1; j++) {
            float *u = qkv + (i * (g + 2) + j) * D, *v = u + half;
#pragma omp simd
            for (int64_t d = 0; d < half; d++) {
                const float a = u[d], b = v[d];
                u[d] = a * cosine[d] - b * sine[d];
                v[d] = b * cosine[d] + a * sine[d];
            }
        }
}

pol_status rope_cpu(pol_backend *be, const pol_rope_args *a)
{
    const int64_t T = a->T, row = a->G * (a->g + 2) * a->D;
    float *qkv = cpu_f32(a->qkv);
    const float *cos_sin = cpu_f32(a->cos_sin);
#pragma omp parallel for num_threads(cpu_threads(be)) if (T * row > CPU_PARALLEL_MIN)
    for (int64_t t = 0; t < T; t++)
        rope_token(qkv + t * row, cos_sin + t % a->S * a->D, a->G, a->g, a->D);
    return POL_OK;
}
