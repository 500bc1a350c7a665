/* test_cuda_transfer.c - uploads and downloads: host memory is free at once, the ring goes round, order is kept, and
 * nothing waits that need not. */
#include <math.h>

#include "core/model/half.h"
#include "tests/cuda/profiles.h"

enum { STAGING = 1024, PARTS = 4 /* as in transfer.c */, SEEDS = 10 };

static int setup(void **state)
{
    switch_on(1, 64 << 20);
    return test_context_open(state);
}

static pol_buf *buffer(pol_backend *be, pol_dtype dtype, int64_t n)
{
    pol_buf *b;
    assert_ok(be->ctx, pol_buf_new(be, dtype, n, &b));
    return b;
}

/* Numbers of all kinds: ordinary, to be rounded, to be rounded to infinity, infinite, none. */
static float number(int64_t i)
{
    static const float special[] = {0,           -0.0f,  INFINITY, -INFINITY, NAN,   3.4e38f, 1.00390625f,
                                    1.01171875f, 1e-40f, 65519.9f, 65520,     6e-8f, -1};
    return i % 3 ? (float)(i * 2654435761 % 100003) / 777 - 50 : special[i / 3 % (int64_t)POL_COUNT(special)];
}

static float as_stored(pol_dtype dtype, float x)
{
    return dtype == POL_BF16  ? pol_bf16_to_f32(pol_f32_to_bf16(x))
           : dtype == POL_F16 ? pol_f16_to_f32(pol_f32_to_f16(x))
                              : x;
}

static void check_numbers(pol_dtype dtype, const float *got, int64_t n, int64_t first)
{
    for (int64_t i = 0; i < n; i++) {
        const float want = as_stored(dtype, number(first + i));
        if (isnan(want) ? !isnan(got[i]) : pol_f32_bits(got[i]) != pol_f32_bits(want))
            fail_msg("%s: element %lld of %lld from %lld: %g instead of %g", pol_dtype_name(dtype), (long long)i,
                     (long long)n, (long long)first, (double)got[i], (double)want);
    }
}

/* n elements from `at`, and their surroundings stay zero. */
static void check_round_trip(pol_backend *be, pol_dtype dtype, int64_t at, int64_t n)
{
    const int64_t all = at + n + 7;
    pol_buf *b = buffer(be, dtype, all);
    float *x = malloc((size_t)all * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++)
        x[i] = number(i);
    assert_ok(be->ctx, pol_upload(be, b, at, x, n));
    memset(x, 0x55, (size_t)all * sizeof *x); /* the caller's again */
    assert_ok(be->ctx, pol_download(be, b, 0, x, all));
    check_numbers(dtype, x + at, n, 0);
    for (int64_t i = 0; i < all; i++)
        if (i < at || i >= at + n)
            assert_true(x[i] == 0);
    memset(x, 0x55, (size_t)all * sizeof *x);
    if (n > 3) {
        assert_ok(be->ctx, pol_download(be, b, at + 3, x, n - 3));
        check_numbers(dtype, x, n - 3, 3);
    }
    free(x);
    pol_buf_free(be, b);
}

static void numbers_come_back_as_the_type_has_them(void **state)
{
    static const int64_t sizes[] = {1, 2, 63, 64, 65, 255, 256, 257, 511, 512, 513, 4 * 512, 4 * 512 + 1, 5000};
    pol_context *ctx = *state;
    pol_backend *be = open_small(ctx, STAGING);
    for (size_t i = 0; i < POL_COUNT(sizes); i++)
        for (int64_t at = 0; at < 4; at += 3) {
            check_round_trip(be, POL_F32, at, sizes[i]);
            check_round_trip(be, POL_BF16, at, sizes[i]);
            check_round_trip(be, POL_F16, at, sizes[i]);
        }
    pol_backend_close(be);
    assert_clean();
}

static void integers_come_back(void **state)
{
    enum { N = 3000 };
    pol_context *ctx = *state;
    pol_backend *be = open_small(ctx, STAGING);
    pol_buf *b = buffer(be, POL_I32, N);
    int32_t in[N], out[N];
    for (int i = 0; i < N; i++)
        in[i] = i % 2 ? INT32_MIN + i : INT32_MAX - 715827 * i;
    assert_ok(ctx, pol_upload(be, b, 0, in, N));
    assert_ok(ctx, pol_download(be, b, 0, out, N));
    assert_memory_equal(in, out, sizeof in);
    pol_buf_free(be, b);
    pol_backend_close(be);
    assert_clean();
}

/* Many uploads from one array that is written anew each time, larger and smaller than a part of the ring, with whatever
 * order the device takes; each must hold what the array held when it was called. */
static void host_memory_is_the_callers_at_once(void **state)
{
    enum { N = 300, TIMES = 40 };
    pol_context *ctx = *state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        pol_backend *be = open_small(ctx, STAGING);
        pol_buf *b = buffer(be, POL_F32, N * TIMES);
        float x[N], *all = malloc(sizeof(float) * N * TIMES);
        assert_non_null(all);
        sim_seed(seed);
        for (int t = 0; t < TIMES; t++) {
            const int n = t % 3 == 0 ? N : 1 + t * 7 % 100;
            for (int i = 0; i < n; i++)
                x[i] = (float)(t * N + i);
            assert_ok(ctx, pol_upload(be, b, t * N, x, n));
            memset(x, 0xff, sizeof x);
        }
        assert_ok(ctx, pol_download(be, b, 0, all, N * TIMES));
        for (int i = 0; i < N * TIMES; i++) {
            const int t = i / N, n = t % 3 == 0 ? N : 1 + t * 7 % 100;
            if (all[i] != (i % N < n ? (float)i : 0))
                fail_msg("seed %d, upload %d, element %d: %g", (int)seed, t, i % N, (double)all[i]);
        }
        free(all);
        pol_buf_free(be, b);
        pol_backend_close(be);
        assert_clean();
    }
}

/* Where there is room in the ring nothing waits; where there is none, only until the oldest part has been read. */
static void uploads_wait_for_room_alone(void **state)
{
    enum { N = STAGING / sizeof(float) };
    pol_context *ctx = *state;
    pol_backend *be = open_small(ctx, STAGING);
    pol_buf *b = buffer(be, POL_F32, N);
    float x[N] = {0};
    assert_ok(ctx, pol_sync(be));
    sim_count_anew();
    for (int i = 0; i < PARTS; i++)
        assert_ok(ctx, pol_upload(be, b, 0, x, N));
    for (int i = 0; i < 50; i++) /* losses and the like share the room */
        assert_ok(ctx, pol_download_later(be, b, 0, x, 1));
    assert_int_equal(sim_counted().operations, 0);
    for (int i = 0; i < 20 * PARTS; i++)
        assert_ok(ctx, pol_upload(be, b, 0, x, N));
    assert_true(sim_counted().operations > 0);
    assert_ok(ctx, pol_sync(be));
    assert_int_equal(sim_counted().pageable_copies, 0);
    sim_count_anew();
    for (int i = 0; i < 50; i++) /* ids and the like share a part */
        assert_ok(ctx, pol_upload(be, b, i, x, 1));
    assert_true(sim_counted().waits <= 1);
    pol_buf_free(be, b);
    pol_backend_close(be);
    assert_clean();
}

/* What is downloaded is what was there when it was asked for, though it comes later. */
static void downloads_later_come_with_the_next_wait(void **state)
{
    enum { N = 50, TIMES = 30 };
    pol_context *ctx = *state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        pol_backend *be = open_small(ctx, 16 * STAGING);
        pol_buf *f = buffer(be, POL_F32, N), *h = buffer(be, POL_BF16, N);
        float x[N], got[TIMES][2][N];
        sim_seed(seed);
        memset(got, 0, sizeof got);
        assert_ok(ctx, pol_sync(be));
        sim_count_anew();
        for (int t = 0; t < TIMES; t++) {
            for (int i = 0; i < N; i++)
                x[i] = (float)(t + i);
            assert_ok(ctx, pol_upload(be, f, 0, x, N));
            assert_ok(ctx, pol_upload(be, h, 0, x, N));
            assert_ok(ctx, pol_download_later(be, f, 0, got[t][0], N));
            assert_ok(ctx, pol_download_later(be, h, 1, got[t][1], N - 1));
        }
        assert_int_equal(sim_counted().waits, 0);
        assert_true(got[TIMES - 1][0][1] == 0);
        if (seed % 2)
            assert_ok(ctx, pol_sync(be));
        else
            assert_ok(ctx, pol_download(be, f, 0, x, 1));
        for (int t = 0; t < TIMES; t++)
            for (int i = 0; i < N; i++) {
                assert_true(got[t][0][i] == (float)(t + i));
                assert_true(i == N - 1 || got[t][1][i] == (float)(t + i + 1));
            }
        pol_buf_free(be, f);
        pol_buf_free(be, h);
        pol_backend_close(be);
        assert_clean();
    }
}

/* More than can be on its way, by number or by size: some comes earlier, all of it comes. */
static void check_many_downloads(pol_context *ctx, size_t staging)
{
    enum { TIMES = 2000, N = 1500 };
    pol_backend *be = open_small(ctx, staging);
    pol_buf *b = buffer(be, POL_F32, N);
    float x[N], one[TIMES], all[3][N];
    for (int i = 0; i < N; i++)
        x[i] = (float)i;
    assert_ok(ctx, pol_upload(be, b, 0, x, N));
    for (int t = 0; t < TIMES; t++)
        assert_ok(ctx, pol_download_later(be, b, t % N, &one[t], 1));
    for (int t = 0; t < 3; t++)
        assert_ok(ctx, pol_download_later(be, b, 0, all[t], N));
    assert_ok(ctx, pol_sync(be));
    for (int t = 0; t < TIMES; t++)
        assert_true(one[t] == (float)(t % N));
    for (int t = 0; t < 3; t++)
        assert_memory_equal(all[t], x, sizeof x);
    pol_buf_free(be, b);
    pol_backend_close(be);
    assert_clean();
}

static void downloads_may_be_more_than_fit(void **state)
{
    check_many_downloads(*state, STAGING);
    check_many_downloads(*state, 16 * STAGING);
}

/* Of a device that failed nothing is handed over, then or ever. */
static void nothing_arrives_from_a_lost_device(void **state)
{
    pol_context *ctx = *state;
    switch_on(1, 64 << 20);
    pol_backend *be = open_small(ctx, STAGING);
    pol_buf *b = buffer(be, POL_F32, 4);
    float x[4] = {1, 2, 3, 4};
    assert_ok(ctx, pol_sync(be));
    assert_ok(ctx, pol_download_later(be, b, 0, x, 4));
    sim_fail_late(1, cudaErrorECCUncorrectable);
    assert_ok(ctx, pol_upload(be, b, 0, x, 4));
    assert_fails(ctx, pol_sync(be), POL_EDEVICE, "sync: cudaStreamSynchronize: cudaErrorECCUncorrectable (214)");
    assert_true(x[0] == 1 && x[3] == 4);
    assert_fails(ctx, pol_sync(be), POL_EDEVICE, "(214)");
    assert_fails(ctx, pol_download(be, b, 0, x, 4), POL_EDEVICE, "(214)");
    assert_true(x[0] == 1 && x[3] == 4);
    pol_buf_free(be, b);
    pol_backend_close(be);
    assert_clean();
    switch_on(1, 64 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_come_back_as_the_type_has_them),  cmocka_unit_test(integers_come_back),
        cmocka_unit_test(host_memory_is_the_callers_at_once),      cmocka_unit_test(uploads_wait_for_room_alone),
        cmocka_unit_test(downloads_later_come_with_the_next_wait), cmocka_unit_test(downloads_may_be_more_than_fit),
        cmocka_unit_test(nothing_arrives_from_a_lost_device),
    };
    return cmocka_run_group_tests(tests, setup, test_context_close);
}
