/* embed.c - a row of the table for each token. */
#include <string.h>

#include "cpu/cpu.h"

pol_status embed_cpu(pol_backend *be, const pol_embed_args *a)
{
    const int64_t T = a->T, C = a->C;
    float *x = cpu_f32(a->x);
    const float *table = cpu_f32(a->table);
    const int32_t *ids = cpu_i32(a->ids);
#pragma omp parallel for num_threads(cpu_threads(be)) if (T * C > CPU_PARALLEL_MIN)
    for (int64_t t = 0; t < T; t++)
        memcpy(x + t * C, table + ids[t] * C, (size_t)C * sizeof *x);
    return POL_OK;
}
