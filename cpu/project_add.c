/* project_add.c - one GEMM over the kept prefix of the weight rows, added to the residual stream. */
#include "cpu/gemm.h"

pol_status project_add_cpu(pol_backend *be, const pol_project_add_args *a)
{
    float *x = cpu_f32(a->x);
    if (a->N > 0)
        POL_TRY(cpu_gemm(be, CPU_ROWS_IN, a->T, a->C, a->N, cpu_f32(a->h), cpu_f32(a->w), 1.0f, x, a->C));
    cpu_add_bias(be, a->T, a->C, cpu_f32(a->bias), x);
    return POL_OK;
}
