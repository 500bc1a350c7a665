/* project.c - one GEMM over the kept prefix of the weight rows. */
#include "cpu/gemm.h"

pol_status project_cpu(pol_backend *be, const pol_project_args *a)
{
    float *y = cpu_f32(a->y);
    POL_TRY(cpu_gemm(be, CPU_ROWS_OUT, a->T, a->N, a->C, cpu_f32(a->x), cpu_f32(a->w), 0.0f, y, a->N));
    cpu_add_bias(be, a->T, a->N, cpu_f32(a->bias), y);
    return POL_OK;
}
