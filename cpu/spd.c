#include "cpu/spd.h"

#include <float.h>
#include <limits.h>
#include <math.h>

/* LAPACK as Fortran has it, from the library that has BLAS. The last arguments are the
 * lengths of strings. */
void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info, size_t uplo_len);
void dpotri_(const char *uplo, const int *n, double *a, const int *lda, int *info, size_t uplo_len);
void dtrtri_(const char *uplo, const char *diag, const int *n, double *a, const int *lda, int *info, size_t uplo_len,
             size_t diag_len);
void dpocon_(const char *uplo, const int *n, const double *a, const int *lda, const double *anorm, double *rcond,
             double *work, int *iwork, int *info, size_t uplo_len);

static const char upper[] = "U";

pol_status cpu_spd_check_sizes(pol_backend *be, const char *op, int64_t N, int64_t C)
{
    if (N > INT_MAX / 3 || C > INT_MAX)
        return pol_fail(be->ctx, POL_EUNSUPPORTED, "%s: %lld rows, %lld columns: LAPACK counts in 32 bits", op,
                        (long long)N, (long long)C);
    return POL_OK;
}

static pol_status add_damping(pol_backend *be, const char *op, int64_t N, double damping, double *a)
{
    double mean = 0;
    for (int64_t i = 0; i < N; i++)
        mean += a[i * N + i] / (double)N;
    for (int64_t i = 0; i < N; i++)
        a[i * N + i] += damping * mean;
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j <= i; j++)
            if (!isfinite(a[i * N + j]))
                return pol_fail(be->ctx, POL_ENUMERIC, "%s: row %lld: element %lld of the matrix is %g", op,
                                (long long)i, (long long)j, a[i * N + j]);
    return POL_OK;
}

/* The largest sum of absolute values of a row, of all N elements; `sums` has room for N. */
static double norm1(int64_t N, const double *a, double *sums)
{
    double most = 0;
    for (int64_t i = 0; i < N; i++) {
        sums[i] = 0;
        for (int64_t j = 0; j < i; j++) {
            sums[i] += fabs(a[i * N + j]);
            sums[j] += fabs(a[i * N + j]);
        }
        sums[i] += fabs(a[i * N + i]);
    }
    for (int64_t i = 0; i < N; i++)
        most = fmax(most, sums[i]);
    return most;
}

int64_t cpu_spd_cholesky(int64_t N, double *a)
{
    const int n = (int)N;
    int info;
    dpotrf_(upper, &n, a, &n, &info, 1);
    if (info > 0)
        return info - 1;
    for (int64_t i = 0; i < N; i++)
        if (!(a[i * N + i] > 0 && a[i * N + i] <= DBL_MAX)) /* a NaN on the way is no failure to LAPACK */
            return i;
    return -1;
}

pol_status cpu_spd_factor(pol_backend *be, const char *op, int64_t N, double damping, double *a, double *condition)
{
    const int n = (int)N;
    int info;
    double reciprocal = 0, *work = pol_alloc_array(be->ctx, 3 * N, sizeof *work);
    int *iwork = work ? pol_alloc_array(be->ctx, N, sizeof *iwork) : NULL;
    pol_status s = iwork ? add_damping(be, op, N, damping, a) : POL_ENOMEM;
    if (s == POL_OK) {
        const double norm = norm1(N, a, work);
        const int64_t bad = cpu_spd_cholesky(N, a);
        if (bad >= 0)
            s = pol_fail(
                be->ctx, POL_ENUMERIC,
                "%s: row %lld: with a damping of %g the matrix is not positive definite; a larger one makes it "
                "so",
                op, (long long)bad, damping);
        else
            dpocon_(upper, &n, a, &n, &norm, &reciprocal, work, iwork, &info, 1);
        *condition = 1 / reciprocal;
    }
    pol_free(be->ctx, iwork);
    pol_free(be->ctx, work);
    return s;
}

static pol_status inverted(pol_backend *be, const char *op, int info)
{
    return info ? pol_fail(be->ctx, POL_ENUMERIC, "%s: row %d: the matrix has no inverse", op, info - 1) : POL_OK;
}

pol_status cpu_spd_invert(pol_backend *be, const char *op, int64_t N, double *a)
{
    const int n = (int)N;
    int info;
    dpotri_(upper, &n, a, &n, &info, 1);
    return inverted(be, op, info);
}

pol_status cpu_spd_invert_factor(pol_backend *be, const char *op, int64_t N, double *a)
{
    const int n = (int)N;
    int info;
    dtrtri_(upper, "N", &n, a, &n, &info, 1, 1);
    return inverted(be, op, info);
}
