/* spd.h - symmetric positive definite matrices on the device, in f64: what solve_spd and obs_sweep share.
 *
 * Matrices lie in device memory, row-major, of [N,N]; a part of one is a pointer to its first element and its sizes,
 * and from one row to the next are always N elements. The factor of A is U, upper triangular, with U^T U = A: the
 * leading part of U is the factor of A's.
 */
#ifndef POL_CUDA_SPD_H
#define POL_CUDA_SPD_H

#include "backends/cuda/cuda.h"

typedef struct cu_spd {
    cu *c;
    const char *op;
    int64_t N;
    double damping;
    double *vector, *numbers; /* [N], in device memory: a solution of the condition's; sums to come back */
    int32_t *failed;          /* in device memory: row + 1 of the first pivot that is not above 0; 0: none */
    void *scratch;            /* of products */
    double *host;             /* [N], in the host's memory: what came back */
} cu_spd;

/* What is needed beside matrices: `host`, and CU_SPD_PARTS parts for cu_take(). Closing frees `host`. */
enum { CU_SPD_PARTS = 4 };
pol_status cu_spd_open(cu_spd *s, pol_backend *be, const char *op, int64_t N, double damping, cu_part *parts);
void cu_spd_close(cu_spd *s);

/* a = h in that order (cu_spread) with its damping, and *norm its 1-norm. h is on the device; `host` is the same on the
 * host, where an element that is not finite is looked up: POL_ENUMERIC. */
pol_status cu_spd_damp(cu_spd *s, const double *host, const double *h, const int32_t *order, double *a, double *norm);
/* Whether all elements of x [N, columns], on the device, are finite; their sums by row are then in s->host. */
pol_status cu_spd_sum_rows(cu_spd *s, const double *x, int64_t columns, bool *finite);

/* Queued: a [n,n], from its diagonal on, = its factor. Row i is number first + i where it fails. */
pol_status cu_spd_factor(const cu_spd *s, double *a, int64_t n, int64_t first);
/* The factor of a damped one; POL_ENUMERIC where it has none, naming the row: order [N] is on the host, or NULL. */
pol_status cu_spd_factor_all(cu_spd *s, double *a, const int32_t *order);
/* A product in f64: of p, types and scratch are filled in here. */
pol_status cu_spd_multiply(const cu_spd *s, const cu_product *p);
/* b [n, columns] = U^-1 b, or U^-T b; b_row elements from one row to the next. */
pol_status cu_spd_solve(const cu_spd *s, const double *u, int64_t n, double *b, int64_t columns, int64_t b_row,
                        bool transposed);
/* x = U^-1, with zeros below its diagonal. */
pol_status cu_spd_invert(const cu_spd *s, const double *u, double *x);
/* p = x x^T, all of it. */
pol_status cu_spd_square(const cu_spd *s, const double *x, double *p);

/* spd_condition.c. Of the matrix whose factor U is and whose 1-norm is known. */
pol_status cu_spd_condition(const cu_spd *s, const double *u, double norm, double *condition);

#endif
