/* test_opencl_gram.c - what the conformance table does not show of gram: that sums keep every digit that a pair of
 * floats has, in whatever way the device is used; and products as large as to go by in several bands and with CLBlast's
 * copies, in scratch that is enough for them. */
#include <clblast_c.h>
#include <math.h>

#include "core/base/rng.h"
#include "tests/opencl/profiles.h"
#include "tests/ops/rig.h"

/* ---- the pair ---- */

enum { N = 5, M = 3, CALLS = 200 };

/* Whole numbers whose products a float has; every eighth row, from the first on, as large as can be. */
static void fill_row(int call, int64_t n, float *row)
{
    for (int64_t i = 0; i < n; i++) {
        const int64_t size = call % 8 == 0 ? 4095 - i : (call * 31 + i * 17) % 97;
        row[i] = (float)(i % 3 == 2 ? -size : size);
    }
}

/* Sums so large that the smallest products, which are 1, are left to the low part: it has 48 bits, and a float 24. And
 * one so small that it is itself left to the low part by the first product. */
static pol_view start(rig *r, int64_t columns, double *want)
{
    float sums[2 * N * N];
    for (int64_t i = 0; i < N * columns; i++) {
        sums[i] = i % 3 == 0 ? 0.25f : i % 3 == 1 ? 0x1p46f : -0x1p46f;
        sums[N * columns + i] = i % 3 == 0 ? 0 : (float)(i * 1001);
        want[i] = (double)sums[i] + sums[N * columns + i];
    }
    return rig_values(r, POL_F32, 2 * N * columns, sums);
}

/* Exact, and as a pair should be: its high part is what a float has of the sum. */
static void check_sums(rig *r, pol_view sums, int64_t columns, bool symmetric, const double *want)
{
    double got[2 * N * N];
    rig_read(r, sums, 2 * N * columns, got);
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j < (symmetric ? i + 1 : columns); j++) {
            const int64_t at = i * columns + j;
            const double high = got[at], low = got[N * columns + at];
            if (high != (float)want[at] || low != want[at] - high)
                fail_msg("sum (%lld, %lld) of %lld: %.2f and %.2f, expected %.2f", (long long)i, (long long)j,
                         (long long)columns, high, low, want[at]);
        }
}

static void check_digits(pol_backend *be)
{
    double a[N * N], b[N * M];
    float x[N], y[M];
    rig r = rig_open(be);
    const pol_gram_args g = {.a = start(&r, N, a),
                             .b = start(&r, M, b),
                             .x = rig_zero(&r, POL_F32, N),
                             .y = rig_zero(&r, POL_F32, M),
                             .scratch = rig_zero(&r, POL_F32, pol_gram_scratch(be, 1, N, M)),
                             .T = 1,
                             .N = N,
                             .M = M};
    for (int call = 0; call < CALLS; call++) {
        fill_row(call, N, x);
        fill_row(call + 8, M, y);
        assert_ok(be->ctx, pol_upload(be, g.x.buf, g.x.at, x, N));
        assert_ok(be->ctx, pol_upload(be, g.y.buf, g.y.at, y, M));
        assert_ok(be->ctx, pol_gram(be, &g));
        for (int i = 0; i < N; i++) {
            for (int j = 0; j < N; j++)
                a[i * N + j] += (double)x[i] * x[j];
            for (int j = 0; j < M; j++)
                b[i * M + j] += (double)x[i] * y[j];
        }
    }
    check_sums(&r, g.a, N, true, a);
    check_sums(&r, g.b, M, false, b);
    rig_close(&r);
}

static void test_no_digit_is_lost(void **state)
{
    for (size_t p = 0; p < n_test_profiles; p++) {
        pol_backend *be = open_profile(*state, &test_profiles[p]);
        if (!be)
            skip();
        check_digits(be);
        pol_backend_close(be);
    }
}

/* ---- large products ---- */

enum { BAND = 512 }; /* gram.c */

/* CLBlast makes copies, padded, of products from a cube of `least` on; the setting is the process's. */
enum { ALL_COPIES = 1, NO_COPIES = 1 << 16 };

static pol_backend *open_with_copies(pol_context *ctx, size_t least, int64_t slice_rows)
{
    const char *names[] = {"XGEMM_MIN_INDIRECT_SIZE"};
    pol_backend *be = open_profile(ctx, &(test_profile){.name = "own", .own = true, .weights = POL_F32});
    if (!be)
        skip();
    if (slice_rows)
        ocl_of(be)->profile.slice_rows = slice_rows;
    assert_int_equal(
        CLBlastOverrideParameters(ocl_of(be)->device, "GemmRoutine", CLBlastPrecisionSingle, 1, names, &least),
        CLBlastSuccess);
    return be;
}

/* Columns i and j, over T rows. */
static double inner(const double *x, int64_t x_row, int64_t i, const double *y, int64_t y_row, int64_t j, int64_t T)
{
    double sum = 0;
    for (int64_t t = 0; t < T; t++)
        sum += x[t * x_row + i] * y[t * y_row + j];
    return sum;
}

/* Twice the moments, at places spread over both sums: what was in scratch, and above the diagonal, must not matter. */
static void check_moments(pol_backend *be, int64_t T, int64_t n, int64_t m)
{
    enum { STEP = 37 };
    rig r = rig_open(be);
    const pol_gram_args g = {.a = rig_zero(&r, POL_F32, 2 * n * n),
                             .b = rig_zero(&r, POL_F32, 2 * n * m),
                             .x = rig_normal(&r, POL_F32, T * n, 1),
                             .y = rig_normal(&r, POL_F32, T * m, 1),
                             .scratch = rig_normal(&r, POL_F32, pol_gram_scratch(be, T, n, m), NAN),
                             .T = T,
                             .N = n,
                             .M = m};
    assert_ok(be->ctx, pol_gram(be, &g));
    assert_ok(be->ctx, pol_gram(be, &g));
    double *x = malloc((size_t)(T * n) * sizeof *x), *y = malloc((size_t)(T * m) * sizeof *y),
           *a = malloc((size_t)(2 * n * n) * sizeof *a), *b = malloc((size_t)(2 * n * m) * sizeof *b);
    rig_read(&r, g.x, T * n, x);
    rig_read(&r, g.y, T * m, y);
    rig_read(&r, g.a, 2 * n * n, a);
    rig_read(&r, g.b, 2 * n * m, b);
    const double tolerance = 5e-6 * (double)T; /* T terms of 1 on average, one after the other in f32, twice */
    for (int64_t at = 0; at < n * n; at += STEP)
        if (at % n <= at / n)
            assert_near(a[at] + a[n * n + at], 2 * inner(x, n, at / n, x, n, at % n, T), tolerance);
    for (int64_t at = 0; at < n * m; at += STEP)
        assert_near(b[at] + b[n * m + at], 2 * inner(x, n, at / m, y, m, at % m, T), tolerance);
    free(x), free(y), free(a), free(b);
    rig_close(&r);
}

/* More rows than a call of CLBlast's takes, and more columns than a band. */
static void test_bands_and_chunks(void **state)
{
    static const size_t ways[] = {ALL_COPIES, NO_COPIES};
    for (size_t i = 0; i < POL_COUNT(ways); i++) {
        pol_backend *be = open_with_copies(*state, ways[i], 0);
        check_moments(be, POL_GRAM_ROWS + 1, 530, 20);
        pol_backend_close(be);
        be = open_with_copies(*state, ways[i], 32);
        check_moments(be, 70, 97, 130);
        pol_backend_close(be);
    }
}

/* ---- scratch ---- */

/* What CLBlast wants for a band of `rows` and so many columns, with views at `at`. */
static int64_t wanted(ocl *cl, int64_t columns, int64_t rows, int64_t T, size_t at, int64_t ld, int64_t x_ld)
{
    size_t bytes;
    assert_int_equal(CLBlastSGemmTempBufferSize(CLBlastLayoutColMajor, CLBlastTransposeNo, CLBlastTransposeYes,
                                                (size_t)columns, (size_t)rows, (size_t)T, at, (size_t)ld, at,
                                                (size_t)x_ld, at, (size_t)columns, &cl->queue, &bytes),
                     CLBlastSuccess);
    return (int64_t)(bytes / sizeof(float));
}

/* Every band of both sums has room for CLBlast's part, from where a sub-buffer may start, and for its product. */
static void check_sufficient(ocl *cl, int64_t T, int64_t n, int64_t m, int64_t scratch)
{
    const int64_t most = pol_min_i64(cl->profile.slice_rows, BAND);
    for (int64_t first = 0; first < n; first += most)
        for (size_t at = 0; at < 2; at++) {
            const int64_t rows = pol_min_i64(most, n - first), end = first + rows,
                          temp =
                              pol_max_i64(wanted(cl, end, rows, T, at, n, n), m ? wanted(cl, m, rows, T, at, m, n) : 0);
            assert_true(scratch >= rows * pol_max_i64(end, m) + temp +
                                       (temp ? (int64_t)(cl->profile.align_bytes / sizeof(float)) : 0));
        }
}

/* Whoever makes scratch for the largest call may make any smaller one with it. */
static void check_scratch(pol_backend *be)
{
    static const int64_t sizes[] = {1, 2, 63, 64, 65, 130, 511, 512, 513, 576, 1023, 1024, 1025, 1537, 4097};
    enum { SIZES = POL_COUNT(sizes) };
    static int64_t scratch[SIZES][SIZES][SIZES + 1];
    for (size_t t = 0; t < SIZES; t++)
        for (size_t n = 0; n < SIZES; n++)
            for (size_t m = 0; m <= SIZES; m++) {
                const int64_t columns = m ? sizes[m - 1] : 0, s = pol_gram_scratch(be, sizes[t], sizes[n], columns);
                assert_true(t == 0 || s >= scratch[t - 1][n][m]);
                assert_true(n == 0 || s >= scratch[t][n - 1][m]);
                assert_true(m == 0 || s >= scratch[t][n][m - 1]);
                assert_true(t == 0 || sizes[t - 1] < POL_GRAM_ROWS || s == scratch[t - 1][n][m]);
                if (sizes[t] <= POL_GRAM_ROWS)
                    check_sufficient(ocl_of(be), sizes[t], sizes[n], columns, s);
                scratch[t][n][m] = s;
            }
}

/* What is remembered of one product is not given for a wider one that lies in the same place of the memory. */
static void check_remembered(pol_backend *be)
{
    enum { NEAR = 64, FAR = NEAR * (1 + OCL_TEMPS) };
    const int64_t near = pol_gram_scratch(be, NEAR, NEAR, NEAR);
    check_sufficient(ocl_of(be), NEAR, NEAR, FAR, pol_gram_scratch(be, NEAR, NEAR, FAR));
    assert_int_equal(pol_gram_scratch(be, NEAR, NEAR, NEAR), near);
}

static void test_scratch(void **state)
{
    static const size_t ways[] = {ALL_COPIES, 384, NO_COPIES};
    for (size_t i = 0; i < POL_COUNT(ways); i++) {
        pol_backend *be = open_with_copies(*state, ways[i], 0);
        check_scratch(be);
        check_remembered(be);
        if (ways[i] == NO_COPIES) /* what is left is the product of one band */
            assert_true(pol_gram_scratch(be, POL_GRAM_ROWS, 4097, 7) == BAND * 4097);
        assert_true(pol_gram_scratch(be, INT64_MAX, 7, 7) == pol_gram_scratch(be, POL_GRAM_ROWS, 7, 7));
        assert_true(pol_gram_scratch(be, 7, INT64_MAX, 7) == INT64_MAX);
        assert_true(pol_gram_scratch(be, 7, 7, INT64_MAX) == INT64_MAX);
        pol_backend_close(be);
    }
}

/* More columns than the kernels count; the buffers are not looked at. */
static void test_refusals(void **state)
{
    pol_backend *be = open_with_copies(*state, 384, 0);
    assert_fails(be->ctx, gram_opencl(be, &(pol_gram_args){.T = 1, .N = INT32_MAX, .M = 1}), POL_EUNSUPPORTED,
                 "gram: N: 2147483647");
    assert_fails(be->ctx, gram_opencl(be, &(pol_gram_args){.T = 1, .N = 1, .M = INT32_MAX}), POL_EUNSUPPORTED,
                 "gram: M: 2147483647");
    pol_backend_close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_digit_is_lost),
        cmocka_unit_test(test_bands_and_chunks),
        cmocka_unit_test(test_scratch),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}
