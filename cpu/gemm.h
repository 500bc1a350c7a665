/* gemm.h - the GEMM that project, project_add and nll are made of, and the bias that goes with it. */
#ifndef POL_CPU_GEMM_H
#define POL_CPU_GEMM_H

#include "cpu/cpu.h"

typedef enum cpu_layout { CPU_ROWS_OUT, CPU_ROWS_IN } cpu_layout;

/* y [m,n], rows `ldy` apart, = beta * y + x [m,k] times w; w is [n,k] (CPU_ROWS_OUT: a row an output) or [k,n] (CPU_ROWS_IN: a row an
 * input). On all threads of the backend; not from inside a parallel region. */
pol_status cpu_gemm(pol_backend *be, cpu_layout layout, int64_t m, int64_t n, int64_t k, const float *x, const float *w, float beta, float *y,
                    int64_t ldy);

/* y [m,n] += bias [n]; nothing where bias is NULL. */
void cpu_add_bias(pol_backend *be, int64_t m, int64_t n, const float *bias, float *y);

#endif
