/* gemm.h - OpenBLAS on the backend's threads: the GEMM that project, project_add and nll are made of, and the bias that
 * goes with it. */
#ifndef POL_CPU_GEMM_H
#define POL_CPU_GEMM_H

#include "cpu/cpu.h"

/* Code between the two calls OpenBLAS with the backend's thread count. OpenBLAS takes the count from the calling
 * thread's OpenMP setting, except that a count of 1 given at its start stays until it is told otherwise. leave puts the
 * caller's setting back, so that backends and the embedder do not see each other's. */
int cpu_blas_enter(const pol_backend *be);
void cpu_blas_leave(int before);

typedef enum cpu_layout { CPU_ROWS_OUT, CPU_ROWS_IN } cpu_layout;

/* y [m,n], rows `ldy` apart, = beta * y + x [m,k] times w; w is [n,k] (CPU_ROWS_OUT: a row an output) or [k,n]
 * (CPU_ROWS_IN: a row an input). On all threads of the backend; not from inside a parallel region. */
pol_status cpu_gemm(pol_backend *be, cpu_layout layout, int64_t m, int64_t n, int64_t k, const float *x, const float *w,
                    float beta, float *y, int64_t ldy);

/* y [m,n] += bias [n]; nothing where bias is NULL. */
void cpu_add_bias(pol_backend *be, int64_t m, int64_t n, const float *bias, float *y);

#endif
