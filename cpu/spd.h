/* spd.h - symmetric positive definite matrices in f64, by LAPACK: what solve_spd and obs_sweep share.
 *
 * A matrix is [N,N], row-major, of which the elements (i, j) with j <= i are meant. LAPACK counts columns first: what
 * is the lower triangle here is the upper one there. */
#ifndef POL_CPU_SPD_H
#define POL_CPU_SPD_H

#include "cpu/cpu.h"

/* Sizes that LAPACK, which counts in 32 bits, can be given. */
pol_status cpu_spd_check_sizes(pol_backend *be, const char *op, int64_t N, int64_t C);

/* a += damping * mean(diag a) I, then a = L with L L^T = a, and an estimate of the condition number. POL_ENUMERIC for a
 * matrix that holds what is not finite or is not positive definite, naming the row. Between cpu_blas_enter and _leave.
 */
pol_status cpu_spd_factor(pol_backend *be, const char *op, int64_t N, double damping, double *a, double *condition);

/* In place of L, what was factored inverted; or L^-1. */
pol_status cpu_spd_invert(pol_backend *be, const char *op, int64_t N, double *a);
pol_status cpu_spd_invert_factor(pol_backend *be, const char *op, int64_t N, double *a);

/* a = L alone; the first row where a is not positive definite, -1 where it is. */
int64_t cpu_spd_cholesky(int64_t N, double *a);

#endif
