/* test_opencl_gemm.c - products: that CLBlast's own memory is the scratch and always fits it, both ways that CLBlast
 * has of multiplying, views at the start of their buffers and elsewhere, weights of 16 bits. */
#include <clblast_c.h>
#include <math.h>

#include "backends/drivers.h"
#include "core/base/rng.h"
#include "core/model/half.h"
#include "tests/opencl/profiles.h"
#include "tests/ops/conformance.h"

static pol_context *ctx;

/* CLBlast has two ways: small products are done as the matrices lie, for others it makes copies, padded and transposed.
 * `least` of a cube from which on it copies; the setting is the process's. */
enum { ALWAYS = 1, USUAL = 384, NEVER = 1 << 16 };

static void copy_from(ocl *cl, size_t least)
{
    const char *names[] = {"XGEMM_MIN_INDIRECT_SIZE"};
    assert_int_equal(CLBlastOverrideParameters(cl->device, "GemmRoutine", CLBlastPrecisionSingle, 1, names, &least),
                     CLBlastSuccess);
}

/* A backend as the device reports, but for the type and the slices of weights; skips where there is no device. */
static ocl *open_with(pol_dtype weights, int64_t slice_rows, size_t least)
{
    const test_profile own = {.name = "own", .own = true, .weights = weights};
    pol_backend *be = open_profile(ctx, &own);
    if (!be)
        skip();
    if (slice_rows)
        ocl_of(be)->profile.slice_rows = slice_rows;
    copy_from(ocl_of(be), least);
    return ocl_of(be);
}

/* Floats that CLBlast wants for the very call: y [T,n] of depth k, in rows of y_row; views at `at`. */
static int64_t wanted(ocl *cl, ocl_form form, int64_t T, int64_t n, int64_t k, size_t at, int64_t y_row)
{
    const bool out = form == OCL_ROWS_OUT;
    size_t bytes;
    assert_int_equal(CLBlastSGemmTempBufferSize(CLBlastLayoutColMajor, out ? CLBlastTransposeYes : CLBlastTransposeNo,
                                                CLBlastTransposeNo, (size_t)n, (size_t)T, (size_t)k, at,
                                                (size_t)(out ? k : n), at, (size_t)k, at, (size_t)y_row, &cl->queue,
                                                &bytes),
                     CLBlastSuccess);
    return (int64_t)(bytes / sizeof(float));
}

static const int64_t sizes[] = {1,   2,   3,   15,  33,  64,   65,   127,  128,  129,  255,  257,
                                576, 577, 767, 768, 960, 1000, 1531, 2048, 4095, 4096, 4097, 11008};

/* Whole slices and the last one, with matrices at the start of their buffers and elsewhere. */
static void check_sufficient(ocl *cl, int64_t T, int64_t N, int64_t C, int64_t scratch)
{
    const int64_t most = pol_min_i64(N, cl->profile.slice_rows), last = N % most ? N % most : most;
    const int64_t stage = cl->base.weight_dtype == POL_F32 ? 0 : most * C;
    for (size_t at = 0; at < 2; at++)
        for (int i = 0; i < 2; i++) {
            const int64_t rows = i ? most : last, out = wanted(cl, OCL_ROWS_OUT, T, rows, C, at, N),
                          in = wanted(cl, OCL_ROWS_IN, T, C, rows, at, C), more = pol_max_i64(out, in);
            const int64_t aligned = more ? (int64_t)(cl->profile.align_bytes / sizeof(float)) : 0;
            if (scratch < more + aligned + stage)
                fail_msg("T %lld N %lld C %lld: scratch of %lld, CLBlast wants %lld", (long long)T, (long long)N,
                         (long long)C, (long long)scratch, (long long)more);
        }
}

/* Whoever makes scratch for the largest product may run any smaller one in it. More rows than a slice has need no more.
 */
static void check_scratch(ocl *cl)
{
    enum { SIZES = POL_COUNT(sizes) };
    static int64_t scratch[SIZES][SIZES][SIZES];
    for (size_t t = 0; t < SIZES; t++)
        for (size_t n = 0; n < SIZES; n++)
            for (size_t c = 0; c < SIZES; c++) {
                const int64_t s = pol_gemm_scratch(&cl->base, sizes[t], sizes[n], sizes[c]);
                assert_true(t == 0 || s >= scratch[t - 1][n][c]);
                assert_true(n == 0 || s >= scratch[t][n - 1][c]);
                assert_true(c == 0 || s >= scratch[t][n][c - 1]);
                assert_true(n == 0 || sizes[n - 1] < cl->profile.slice_rows || s == scratch[t][n - 1][c]);
                check_sufficient(cl, sizes[t], sizes[n], sizes[c], s);
                scratch[t][n][c] = s;
            }
}

/* What is remembered of one product is not given for another: sizes that lie in the same place of the memory. */
static void test_scratch_remembered(void **state)
{
    (void)state;
    enum { NEAR = 64, FAR = NEAR * (1 + OCL_TEMPS) };
    ocl *cl = open_with(POL_F32, FAR, ALWAYS);
    const int64_t near = pol_gemm_scratch(&cl->base, NEAR, NEAR, NEAR);
    for (int i = 0; i < 2; i++) {
        assert_true(pol_gemm_scratch(&cl->base, FAR, NEAR, NEAR) > near);
        assert_int_equal(pol_gemm_scratch(&cl->base, NEAR, NEAR, NEAR), near);
        assert_true(pol_gemm_scratch(&cl->base, NEAR, FAR, NEAR) > near);
        assert_int_equal(pol_gemm_scratch(&cl->base, NEAR, NEAR, NEAR), near);
        assert_true(pol_gemm_scratch(&cl->base, NEAR, NEAR, FAR) > near);
    }
    pol_backend_close(&cl->base);
}

static void test_scratch(void **state)
{
    (void)state;
    static const size_t ways[] = {ALWAYS, USUAL, NEVER};
    for (size_t i = 0; i < POL_COUNT(ways); i++) {
        ocl *plain = open_with(POL_F32, 0, ways[i]);
        check_scratch(plain);
        assert_true(pol_gemm_scratch(&plain->base, INT64_MAX, 7, 7) == INT64_MAX);
        assert_true(pol_gemm_scratch(&plain->base, 7, 7, INT64_MAX / 2) == INT64_MAX);
        pol_backend_close(&plain->base);
        ocl *sliced = open_with(POL_BF16, 100, ways[i]);
        check_scratch(sliced);
        pol_backend_close(&sliced->base);
    }
}

/* The tiles of other devices, as CLBlast's tables have them: which matrices are copied, and how far they are padded,
 * depends on these alone. Nothing is multiplied. */
static void test_scratch_of_other_tiles(void **state)
{
    (void)state;
    static const char *names[] = {"GEMMK", "KREG", "KWG", "KWI", "MDIMA", "MDIMC", "MWG", "NDIMB",
                                  "NDIMC", "NWG",  "SA",  "SB",  "STRM",  "STRN",  "VWM", "VWN"};
    static const size_t tiles[][POL_COUNT(names)] = {
        {0, 1, 16, 2, 8, 8, 128, 16, 8, 64, 1, 1, 0, 0, 4, 4},
        {0, 1, 32, 2, 8, 8, 32, 16, 16, 256, 0, 0, 0, 0, 1, 2},
        {1, 16, 1, 1, 2, 2, 64, 2, 2, 128, 0, 0, 0, 0, 8, 2}, /* the kernel that wants other matrices transposed */
    };
    for (size_t i = 0; i < POL_COUNT(tiles); i++) {
        ocl *cl = open_with(POL_F32, 0, ALWAYS);
        assert_int_equal(
            CLBlastOverrideParameters(cl->device, "Xgemm", CLBlastPrecisionSingle, POL_COUNT(names), names, tiles[i]),
            CLBlastSuccess);
        check_scratch(cl);
        pol_backend_close(&cl->base);
    }
}

/* A scratch that could not be told is no scratch of 0: nothing more is made or computed. */
static void test_scratch_unknown(void **state)
{
    (void)state;
    ocl *cl = open_with(POL_F32, 0, USUAL);
    pol_buf *buf;
    float x = 1;
    assert_ok(ctx, pol_buf_new(&cl->base, POL_F32, 1, &buf));
    const cl_command_queue queue = cl->queue;
    cl->queue = NULL;
    assert_int_equal(pol_gemm_scratch(&cl->base, 640, 640, 640), 0);
    cl->queue = queue;
    pol_buf *none;
    const char *const what = "opencl: scratch: CLBlastSGemmTempBufferSize: CL_INVALID_COMMAND_QUEUE";
    assert_fails(ctx, pol_buf_new(&cl->base, POL_F32, 1, &none), POL_EDEVICE, what);
    assert_fails(ctx, pol_upload(&cl->base, buf, 0, &x, 1), POL_EDEVICE, what);
    assert_fails(ctx, pol_download(&cl->base, buf, 0, &x, 1), POL_EDEVICE, what);
    assert_fails(ctx, pol_sync(&cl->base), POL_EDEVICE, what);
    pol_buf_free(&cl->base, buf);
    pol_backend_close(&cl->base);
}

/* The conformance cases once more, on the way with copies: by themselves they are too small for it. */
static void test_with_copies(void **state)
{
    (void)state;
    for (size_t p = 0; p < n_test_profiles; p++) {
        pol_backend *be = open_profile(ctx, &test_profiles[p]), *reference;
        if (!be)
            skip();
        copy_from(ocl_of(be), ALWAYS);
        assert_true(pol_gemm_scratch(be, 1, 1, 1) > 0);
        assert_ok(ctx, pol_reference_open(ctx, &reference));
        for (size_t i = 0; i < n_op_cases; i++)
            if (strncmp(op_cases[i].op, "project", 7) == 0 && op_cases[i].N < 1000) /* thousands of slices are slow */
                check_case(&op_cases[i], be, reference);
        pol_backend_close(reference);
        pol_backend_close(be);
    }
}

static pol_buf *normal(pol_backend *be, pol_dtype dtype, int64_t rows, int64_t row, uint32_t which, float **host)
{
    pol_buf *buf;
    *host = malloc((size_t)(rows * row) * sizeof **host);
    pol_normal(2, POL_STREAM_TEST, 0, which, rows * row, *host);
    assert_ok(ctx, pol_buf_new_rows(be, dtype, rows, row, &buf));
    assert_ok(ctx, pol_upload(be, buf, 0, *host, rows * row));
    assert_ok(ctx, pol_download(be, buf, 0, *host, rows * row)); /* as rounded */
    return buf;
}

/* project and project_add of n units of w, as the forward pass calls them: everything at the start of its buffer. */
static void check_products(ocl *cl, int64_t T, int64_t N, int64_t C)
{
    pol_backend *be = &cl->base;
    float *x, *h, *w, *y;
    pol_buf *x_buf = normal(be, POL_F32, 1, T * C, 1, &x), *h_buf = normal(be, POL_F32, 1, T * N, 2, &h),
            *w_buf = normal(be, be->weight_dtype, N, C, 3, &w), *y_buf = normal(be, POL_F32, 1, T * N, 4, &y), *scratch;
    float *got = malloc((size_t)(T * N) * sizeof *got), *sum = malloc((size_t)(T * C) * sizeof *sum);
    assert_ok(ctx, pol_buf_new(be, POL_F32, pol_gemm_scratch(be, T, N, C), &scratch));
    assert_ok(
        ctx,
        pol_project(
            be,
            &(pol_project_args){
                .y = {y_buf, 0}, .x = {x_buf, 0}, .w = {w_buf, 0}, .scratch = {scratch, 0}, .T = T, .N = N, .C = C}));
    assert_ok(
        ctx,
        pol_project_add(
            be,
            &(pol_project_add_args){
                .x = {x_buf, 0}, .h = {h_buf, 0}, .w = {w_buf, 0}, .scratch = {scratch, 0}, .T = T, .N = N, .C = C}));
    assert_ok(ctx, pol_download(be, y_buf, 0, got, T * N));
    assert_ok(ctx, pol_download(be, x_buf, 0, sum, T * C));
    for (int64_t t = 0; t < T; t++) {
        for (int64_t n = 0; n < N; n++) {
            double want = 0;
            for (int64_t c = 0; c < C; c++)
                want += (double)x[t * C + c] * w[n * C + c];
            assert_near(got[t * N + n], want, 1e-6 * (double)C);
        }
        for (int64_t c = 0; c < C; c++) {
            double want = x[t * C + c];
            for (int64_t n = 0; n < N; n++)
                want += (double)h[t * N + n] * w[n * C + c];
            assert_near(sum[t * C + c], want, 1e-6 * (double)N);
        }
    }
    pol_buf *const made[] = {x_buf, h_buf, w_buf, y_buf, scratch};
    for (size_t i = 0; i < POL_COUNT(made); i++)
        pol_buf_free(be, made[i]);
    free(x), free(h), free(w), free(y), free(got), free(sum);
}

static void test_from_the_start(void **state)
{
    (void)state;
    static const pol_dtype types[] = {POL_F32, POL_F16, POL_BF16};
    for (size_t i = 0; i < POL_COUNT(types); i++)
        for (int64_t slice = 0; slice <= 64; slice += 64) {
            ocl *cl = open_with(types[i], slice, NEVER);
            check_products(cl, 33, 64, 128);
            pol_backend_close(&cl->base);
            cl = open_with(types[i], slice, ALWAYS);
            check_products(cl, 128, 128, 128); /* whole tiles: some matrices need no copy after all */
            check_products(cl, 65, 131, 67);
            pol_backend_close(&cl->base);
        }
}

/* Every number that 16 bits can hold, through the product that widens it: y = w * 1. NaN stays NaN. A device may take
 * subnormal floats for 0, and with them those of bf16. */
static void test_widening(void **state)
{
    (void)state;
    enum { N = 1 << 16 };
    static float all[N], y[N];
    static const pol_dtype types[] = {POL_F16, POL_BF16};
    for (size_t i = 0; i < POL_COUNT(types); i++) {
        ocl *cl = open_with(types[i], 0, USUAL);
        pol_backend *be = &cl->base;
        pol_buf *x, *w, *out, *scratch;
        for (int n = 0; n < N; n++)
            all[n] = types[i] == POL_F16 ? pol_f16_to_f32((uint16_t)n) : pol_bf16_to_f32((uint16_t)n);
        assert_ok(ctx, pol_buf_new(be, POL_F32, 1, &x));
        assert_ok(ctx, pol_buf_new_rows(be, types[i], N, 1, &w));
        assert_ok(ctx, pol_buf_new(be, POL_F32, N, &out));
        assert_ok(ctx, pol_buf_new(be, POL_F32, pol_gemm_scratch(be, 1, N, 1), &scratch));
        assert_ok(ctx, pol_upload(be, x, 0, &(float){1}, 1));
        assert_ok(ctx, pol_upload(be, w, 0, all, N));
        assert_ok(
            ctx,
            pol_project(be,
                        &(pol_project_args){
                            .y = {out, 0}, .x = {x, 0}, .w = {w, 0}, .scratch = {scratch, 0}, .T = 1, .N = N, .C = 1}));
        assert_ok(ctx, pol_download(be, out, 0, y, N));
        for (int n = 0; n < N; n++)
            if (!(y[n] == all[n] || (isnan(y[n]) && isnan(all[n])) || fpclassify(all[n]) == FP_SUBNORMAL))
                fail_msg("type %d, bits %#x: %g, expected %g", (int)types[i], n, (double)y[n], (double)all[n]);
        pol_buf *const made[] = {x, w, out, scratch};
        for (size_t j = 0; j < POL_COUNT(made); j++)
            pol_buf_free(be, made[j]);
        pol_backend_close(be);
    }
}

static int setup(void **state)
{
    (void)state;
    return pol_context_new(NULL, &ctx) == POL_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    pol_context_free(ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scratch),
        cmocka_unit_test(test_scratch_remembered),
        cmocka_unit_test(test_scratch_unknown),
        cmocka_unit_test(test_with_copies),
        cmocka_unit_test(test_from_the_start),
        cmocka_unit_test(test_widening),
        cmocka_unit_test(test_scratch_of_other_tiles), /* last: CLBlast has no way back to the device's own */
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
