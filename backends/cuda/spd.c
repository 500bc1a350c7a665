/* spd.c - factors, solutions and inverses in f64, by halves: what one half of a triangle gives to the other is a
 * product, by cuBLASLt, and what is left in the end are triangles of POL_CU_TRIANGLE rows, by spd.cu. Halves make large
 * products: theirs is all of the work but N times POL_CU_TRIANGLE times the columns.
 */
#include "backends/cuda/spd.h"

#include <math.h>

pol_status cu_spd_open(cu_spd *s, pol_backend *be, const char *op, int64_t N, double damping, cu_part *parts)
{
    *s = (cu_spd){.c = cu_of(be), .op = op, .N = N, .damping = damping};
    s->host = pol_alloc_array(be->ctx, N, sizeof *s->host);
    if (!s->host)
        return POL_ENOMEM;
    parts[0] = (cu_part){(void **)&s->vector, (size_t)N * sizeof(double)};
    parts[1] = (cu_part){(void **)&s->numbers, (size_t)N * sizeof(double)};
    parts[2] = (cu_part){(void **)&s->failed, sizeof *s->failed};
    parts[3] = (cu_part){&s->scratch, (size_t)gemm_scratch_cuda(be, N, N, N) * sizeof(float)};
    return POL_OK;
}

void cu_spd_close(cu_spd *s) { pol_free(s->c->base.ctx, s->host); }

/* ---- what goes in ---- */

pol_status cu_spd_sum_rows(cu_spd *s, const double *x, int64_t columns, bool *finite)
{
    const cu_row_sums k = {.sums = s->numbers, .x = x, .rows = s->N, .columns = columns, .row = columns};
    CU_TRY(s->c->base.ctx, s->op, pol_cu_row_sums, s->c->compute, &k);
    POL_TRY(cu_fetch(s->c, s->host, s->numbers, (size_t)s->N * sizeof *s->host));
    *finite = true;
    for (int64_t i = 0; i < s->N; i++)
        *finite &= isfinite(s->host[i]) != 0;
    return POL_OK;
}

/* Names the first element that is not finite; of large ones only the sum may be none, which is no failure. */
static pol_status check_elements(const cu_spd *s, const double *h, double shift)
{
    for (int64_t i = 0; i < s->N; i++)
        for (int64_t j = 0; j <= i; j++) {
            const double x = h[i * s->N + j] + (i == j ? shift : 0);
            if (!isfinite(x))
                return pol_fail(s->c->base.ctx, POL_ENUMERIC, "%s: row %lld: element %lld of the matrix is %g", s->op,
                                (long long)i, (long long)j, x);
        }
    return POL_OK;
}

pol_status cu_spd_damp(cu_spd *s, const double *host, const double *h, const int32_t *order, double *a, double *norm)
{
    cu_spread k = {.a = a, .h = h, .order = order, .N = s->N};
    bool finite;
    double mean = 0;
    for (int64_t i = 0; i < s->N; i++)
        mean += host[i * s->N + i] / (double)s->N;
    k.shift = s->damping * mean;
    CU_TRY(s->c->base.ctx, s->op, pol_cu_spread, s->c->compute, &k);
    POL_TRY(cu_spd_sum_rows(s, a, s->N, &finite));
    if (!finite)
        POL_TRY(check_elements(s, host, k.shift));
    *norm = 0;
    for (int64_t i = 0; i < s->N; i++)
        *norm = fmax(*norm, s->host[i]);
    return POL_OK;
}

/* ---- by halves ---- */

static bool is_small(int64_t n) { return n <= POL_CU_TRIANGLE; }

/* The first half of n rows, more than a triangle's: whole triangles. */
static int64_t half(int64_t n)
{
    const int64_t triangles = (n + POL_CU_TRIANGLE - 1) / POL_CU_TRIANGLE;
    return (triangles + 1) / 2 * POL_CU_TRIANGLE;
}

pol_status cu_spd_multiply(const cu_spd *s, const cu_product *p)
{
    cu_product f64 = *p;
    f64.types = CU_F64;
    f64.scratch = s->scratch;
    return cu_multiply(s->c, s->op, &f64);
}

/* What the first half of a triangle leaves of the second: a_22 -= u_12^T u_12. */
static pol_status take_off_square(const cu_spd *s, const double *u12, int64_t n1, double *a22, int64_t n2)
{
    return cu_spd_multiply(s, &(cu_product){.y = a22,
                                            .x = u12,
                                            .w = u12,
                                            .T = n2,
                                            .N = n2,
                                            .K = n1,
                                            .y_row = s->N,
                                            .x_row = s->N,
                                            .w_row = s->N,
                                            .put = CU_SUBTRACT,
                                            .x_turned = true});
}

pol_status cu_spd_factor(const cu_spd *s, double *a, int64_t n, int64_t first)
{
    if (is_small(n)) {
        const cu_factor k = {.a = a, .failed = s->failed, .n = n, .row = s->N, .first = first};
        CU_TRY(s->c->base.ctx, s->op, pol_cu_factor, s->c->compute, &k);
        return POL_OK;
    }
    const int64_t n1 = half(n), n2 = n - n1;
    double *a12 = a + n1, *a22 = a12 + n1 * s->N;
    POL_TRY(cu_spd_factor(s, a, n1, first));
    POL_TRY(cu_spd_solve(s, a, n1, a12, n2, s->N, true));
    POL_TRY(take_off_square(s, a12, n1, a22, n2));
    return cu_spd_factor(s, a22, n2, first + n1);
}

pol_status cu_spd_factor_all(cu_spd *s, double *a, const int32_t *order)
{
    int32_t failed;
    CU_TRY(s->c->base.ctx, s->op, cudaMemsetAsync, s->failed, 0, sizeof *s->failed, s->c->compute);
    POL_TRY(cu_spd_factor(s, a, s->N, 0));
    POL_TRY(cu_fetch(s->c, &failed, s->failed, sizeof failed));
    if (!failed)
        return POL_OK;
    return pol_fail(s->c->base.ctx, POL_ENUMERIC,
                    "%s: row %d: with a damping of %g the matrix is not positive definite; a larger one makes it so",
                    s->op, order ? order[failed - 1] : failed - 1, s->damping);
}

/* What the half of b that is solved takes off the other: by u_12, or by its transpose. */
static pol_status take_off_half(const cu_spd *s, const double *u12, int64_t n1, int64_t n2, double *b, int64_t columns,
                                int64_t b_row, bool transposed)
{
    double *b2 = b + n1 * b_row;
    return cu_spd_multiply(s, &(cu_product){.y = transposed ? b2 : b,
                                            .x = u12,
                                            .w = transposed ? b : b2,
                                            .T = transposed ? n2 : n1,
                                            .N = columns,
                                            .K = transposed ? n1 : n2,
                                            .y_row = b_row,
                                            .x_row = s->N,
                                            .w_row = b_row,
                                            .put = CU_SUBTRACT,
                                            .x_turned = transposed});
}

pol_status cu_spd_solve(const cu_spd *s, const double *u, int64_t n, double *b, int64_t columns, int64_t b_row,
                        bool transposed)
{
    if (is_small(n)) {
        const cu_solve k = {
            .b = b, .u = u, .n = n, .columns = columns, .b_row = b_row, .u_row = s->N, .transposed = transposed};
        CU_TRY(s->c->base.ctx, s->op, pol_cu_solve, s->c->compute, &k);
        return POL_OK;
    }
    const int64_t n1 = half(n), n2 = n - n1;
    const double *u22 = u + n1 * (s->N + 1);
    double *b2 = b + n1 * b_row;
    if (transposed)
        POL_TRY(cu_spd_solve(s, u, n1, b, columns, b_row, true));
    else
        POL_TRY(cu_spd_solve(s, u22, n2, b2, columns, b_row, false));
    POL_TRY(take_off_half(s, u + n1, n1, n2, b, columns, b_row, transposed));
    if (transposed)
        return cu_spd_solve(s, u22, n2, b2, columns, b_row, true);
    return cu_spd_solve(s, u, n1, b, columns, b_row, false);
}

/* x, which is the identity, = U^-1: x_12 = -u_11^-1 u_12 x_22. */
static pol_status invert(const cu_spd *s, const double *u, int64_t n, double *x)
{
    if (is_small(n))
        return cu_spd_solve(s, u, n, x, n, s->N, false);
    const int64_t n1 = half(n), n2 = n - n1, second = n1 * (s->N + 1);
    POL_TRY(invert(s, u, n1, x));
    POL_TRY(invert(s, u + second, n2, x + second));
    POL_TRY(cu_spd_multiply(s, &(cu_product){.y = x + n1,
                                             .x = u + n1,
                                             .w = x + second,
                                             .T = n1,
                                             .N = n2,
                                             .K = n2,
                                             .y_row = s->N,
                                             .x_row = s->N,
                                             .w_row = s->N,
                                             .put = CU_SUBTRACT}));
    return cu_spd_solve(s, u, n1, x + n1, n2, s->N, false);
}

pol_status cu_spd_invert(const cu_spd *s, const double *u, double *x)
{
    const cu_spread identity = {.a = x, .shift = 1, .N = s->N};
    CU_TRY(s->c->base.ctx, s->op, pol_cu_spread, s->c->compute, &identity);
    return invert(s, u, s->N, x);
}

/* p [n1, n2] = or += x w^T, x [n1, K], w [n2, K]. */
static pol_status put_square(const cu_spd *s, double *p, const double *x, const double *w, int64_t n1, int64_t n2,
                             int64_t K, cu_put how)
{
    return cu_spd_multiply(s, &(cu_product){.y = p,
                                            .x = x,
                                            .w = w,
                                            .T = n1,
                                            .N = n2,
                                            .K = K,
                                            .y_row = s->N,
                                            .x_row = s->N,
                                            .w_row = s->N,
                                            .put = how,
                                            .w_turned = true});
}

/* What lies from the diagonal on of x x^T, where x has zeros below its own. */
static pol_status square(const cu_spd *s, const double *x, int64_t n, double *p)
{
    enum { WHOLE = 256 }; /* rows below which zeros cost less than products that are too small */
    if (n <= WHOLE)
        return put_square(s, p, x, x, n, n, n, CU_SET);
    const int64_t n1 = half(n), n2 = n - n1, second = n1 * (s->N + 1);
    POL_TRY(square(s, x, n1, p));
    POL_TRY(put_square(s, p, x + n1, x + n1, n1, n1, n2, CU_ADD));
    POL_TRY(put_square(s, p + n1, x + n1, x + second, n1, n2, n2, CU_SET));
    return square(s, x + second, n2, p + second);
}

pol_status cu_spd_square(const cu_spd *s, const double *x, double *p)
{
    const cu_fill_lower k = {.a = p, .N = s->N, .mirror = true};
    POL_TRY(square(s, x, s->N, p));
    CU_TRY(s->c->base.ctx, s->op, pol_cu_fill_lower, s->c->compute, &k);
    return POL_OK;
}
