/* obs_rows.c - the least-squares rows on the first k rows of an order, for many k, from one factorisation.
 *
 * With A = L L^T in that order, and S the first k rows: A_SS = L_k L_k^T with L_k the leading block of L, and
 * A_S: W = L_k B_k with B_k the first k rows of B = L^T W. So X = (A_SS)^-1 A_S: W = L_k^-T B_k. The inverse of a
 * leading block of a triangle is the leading block of the inverse: with K = L^-1, row i of X is the sum over i <= j < k
 * of K_ji B_j. The sums for a level are those for the one before, and some more.
 */
#include <cblas.h>

#include "cpu/obs.h"
#include "cpu/spd.h"

/* x, of rows [0, k) so far, to those of [0, end). The rows of B wait in their places in x until they are needed. */
static void extend(int64_t N, int64_t C, int64_t k, int64_t end, const double *inverse, double *x)
{
    const int rows = (int)(end - k), ld = (int)N, columns = (int)C;
    const double *lower = inverse + k * N;
    double *b = x + k * C;
    if (k)
        cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)k, columns, rows, 1.0, lower, ld, b, columns, 1.0, x,
                    columns);
    cblas_dtrmm(CblasRowMajor, CblasLeft, CblasLower, CblasTrans, CblasNonUnit, rows, columns, 1.0, lower + k, ld, b,
                columns);
}

static void sum_losses(const pol_obs_sweep_args *a, const double *b)
{
    const int64_t n = a->unit * a->C;
    a->loss[a->n_units] = 0;
    for (int64_t u = a->n_units - 1; u >= 0; u--) {
        a->loss[u] = a->loss[u + 1];
        for (int64_t i = u * n; i < (u + 1) * n; i++)
            a->loss[u] += b[i] * b[i];
    }
}

pol_status obs_solve_rows(pol_backend *be, pol_obs_sweep_args *a, obs_space *s)
{
    const int64_t N = a->n_units * a->unit, C = a->C;
    obs_load(be, a, a->order, s);
    POL_TRY(cpu_spd_factor(be, "obs_sweep", N, a->damping, s->p, &a->condition));
    if (!a->n_levels && !a->loss)
        return POL_OK;
    cblas_dtrmm(CblasRowMajor, CblasLeft, CblasLower, CblasTrans, CblasNonUnit, (int)N, (int)C, 1.0, s->p, (int)N, s->w,
                (int)C);
    if (a->loss)
        sum_losses(a, s->w);
    if (!a->n_levels)
        return POL_OK;
    POL_TRY(cpu_spd_invert_factor(be, "obs_sweep", N, s->p));
    for (int64_t l = 0, k = 0; l < a->n_levels; l++) {
        POL_TRY(pol_check_stop(be->ctx));
        const int64_t end = a->level[l] * a->unit;
        extend(N, C, k, end, s->p, s->w);
        for (int64_t i = 0; i < end * C; i++)
            a->rows[l][i] = (float)s->w[i];
        k = end;
    }
    return POL_OK;
}
