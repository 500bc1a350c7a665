/* test_cuda_memory.c - the arena: the plan to the byte, buffers that come and go in any order, and memory that runs
 * out. */
#include "tests/cuda/profiles.h"

enum { MANY = 64, ROUNDS = 600, STAGING = 4096 };

static size_t free_bytes(void)
{
    size_t available, total;
    assert_int_equal(cudaMemGetInfo(&available, &total), cudaSuccess);
    return available;
}

static int setup(void **state)
{
    switch_on(1, 64 << 20);
    return test_context_open(state);
}

/* A small number that tells a buffer's element from another's. */
static float value(int buffer, int64_t i) { return (float)((buffer * 31 + i) % 127); }

static pol_buf *fresh(pol_backend *be, int64_t n)
{
    pol_buf *b;
    float *x = malloc((size_t)n * sizeof *x + 1);
    assert_non_null(x);
    assert_ok(be->ctx, pol_buf_new(be, n % 2 ? POL_F32 : POL_BF16, n, &b));
    assert_ok(be->ctx, pol_download(be, b, 0, x, n));
    for (int64_t i = 0; i < n; i++)
        assert_true(x[i] == 0); /* whatever was there before */
    free(x);
    return b;
}

static pol_buf *filled(pol_backend *be, int which, int64_t n)
{
    pol_buf *b = fresh(be, n);
    float *x = malloc((size_t)n * sizeof *x + 1);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++)
        x[i] = value(which, i);
    assert_ok(be->ctx, pol_upload(be, b, 0, x, n));
    free(x);
    return b;
}

static void check_and_free(pol_backend *be, int which, pol_buf *b)
{
    const int64_t n = b->n;
    float *x = malloc((size_t)n * sizeof *x + 1);
    assert_non_null(x);
    assert_ok(be->ctx, pol_download(be, b, 0, x, n));
    for (int64_t i = 0; i < n; i++)
        if (x[i] != value(which, i))
            fail_msg("buffer %d: element %lld is %g instead of %g", which, (long long)i, (double)x[i],
                     (double)value(which, i));
    free(x);
    pol_buf_free(be, b);
}

static int64_t size_of(int i) { return 1 + (i * 389) % 1500; }

/* What the plan counts is what the buffers take: they fill the arena and nothing besides. */
static void the_plan_is_right_to_the_byte(void **state)
{
    pol_context *ctx = *state;
    pol_backend *be = open_small(ctx, STAGING);
    pol_buf *b[MANY];
    uint64_t plan = 0;
    for (int i = 0; i < MANY; i++)
        plan += pol_buf_bytes(be, size_of(i) % 2 ? POL_F32 : POL_BF16, size_of(i));
    const size_t before = free_bytes();
    assert_ok(ctx, pol_reserve(be, plan));
    assert_int_equal(before - free_bytes(), plan);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < MANY; i++)
            b[i] = filled(be, i, size_of(i));
        assert_int_equal(be->bytes_in_use, plan);
        assert_int_equal(before - free_bytes(), plan);
        for (int i = 0; i < MANY; i++) { /* forwards, backwards, and every third */
            const int which = round == 0 ? i : round == 1 ? MANY - 1 - i : i * 3 % MANY;
            check_and_free(be, which, b[which]);
        }
    }
    pol_backend_close(be);
    assert_clean();
}

/* Any order: what is free is found again, and nobody gets what is another's. */
static void buffers_come_and_go(void **state)
{
    pol_context *ctx = *state;
    pol_backend *be = open_small(ctx, STAGING);
    pol_buf *b[MANY] = {NULL};
    uint32_t random = 1;
    assert_ok(ctx, pol_reserve(be, 96 << 10));
    for (int round = 0; round < ROUNDS; round++) {
        random = random * 1664525u + 1013904223u;
        const int i = (int)(random >> 16) % MANY;
        if (b[i])
            check_and_free(be, i, b[i]);
        b[i] = b[i] ? NULL : filled(be, i, 1 + (random >> 8) % 1200);
    }
    for (int i = 0; i < MANY; i++)
        if (b[i])
            check_and_free(be, i, b[i]);
    b[0] = filled(be, 0, (96 << 10) / 2); /* all that was free is one piece again */
    assert_true(((cu_buf *)b[0])->in_arena);
    check_and_free(be, 0, b[0]);
    pol_backend_close(be);
    assert_clean();
}

static void what_does_not_fit_lies_outside(void **state)
{
    pol_context *ctx = *state;
    pol_backend *be = open_small(ctx, STAGING);
    assert_ok(ctx, pol_reserve(be, 1024));
    pol_buf *more = filled(be, 0, 514), *much = filled(be, 1, 1023); /* the first by 4 bytes */
    assert_false(((cu_buf *)more)->in_arena);
    assert_false(((cu_buf *)much)->in_arena);
    pol_buf *small = filled(be, 2, 128);
    assert_true(((cu_buf *)small)->in_arena);
    check_and_free(be, 1, much);
    check_and_free(be, 0, more);
    check_and_free(be, 2, small);
    pol_backend_close(be);
    assert_clean();
}

static void a_second_run_reserves_anew(void **state)
{
    pol_context *ctx = *state;
    pol_backend *be = open_small(ctx, STAGING);
    const size_t before = free_bytes();
    assert_ok(ctx, pol_reserve(be, 1 << 20));
    check_and_free(be, 0, filled(be, 0, 1000));
    assert_ok(ctx, pol_reserve(be, 2 << 20));
    assert_int_equal(before - free_bytes(), 2 << 20);
    check_and_free(be, 0, filled(be, 0, 500000));
    pol_backend_close(be);
    assert_clean();
}

static void memory_runs_out(void **state)
{
    pol_context *ctx = *state;
    pol_backend *be = open_small(ctx, STAGING);
    pol_buf *b;
    assert_fails(ctx, pol_reserve(be, 65 << 20), POL_ENOMEM,
                 "68157440 bytes: cudaMalloc: cudaErrorMemoryAllocation (2): the device is out of memory");
    assert_fails(ctx, pol_buf_new(be, POL_BF16, 32 << 20, &b), POL_ENOMEM, "a buffer of 67108864 bytes: cudaMalloc");
    assert_null(b);
    assert_int_equal(be->bytes_in_use, 0);
    check_and_free(be, 0, filled(be, 0, 1000));             /* and that is all */
    assert_ok(ctx, pol_reserve(be, be->info.memory_bytes)); /* what was promised */
    check_and_free(be, 0, filled(be, 0, 1001));
    pol_backend_close(be);
    assert_clean();
}

/* No memory, and no place in a buffer either. */
static void a_buffer_of_nothing(void **state)
{
    pol_context *ctx = *state;
    pol_backend *be = open_small(ctx, STAGING);
    pol_buf *b;
    const size_t before = free_bytes();
    assert_ok(ctx, pol_buf_new(be, POL_F32, 0, &b));
    assert_int_equal(before, free_bytes());
    pol_buf_free(be, b);
    pol_buf_free(be, NULL);
    pol_backend_close(be);
    assert_clean();
}

/* Memory of a buffer that is gone may still be used by what was queued before: nothing has to wait for that. */
static void memory_serves_again_at_once(void **state)
{
    enum { N = 1000 };
    pol_context *ctx = *state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        pol_backend *be = open_small(ctx, STAGING * 4);
        float x[N], first[N];
        pol_buf *b;
        sim_seed(seed);
        assert_ok(ctx, pol_reserve(be, N * sizeof *x + 256));
        for (int i = 0; i < N; i++)
            x[i] = value(1, i);
        assert_ok(ctx, pol_buf_new(be, POL_F32, N, &b));
        assert_ok(ctx, pol_upload(be, b, 0, x, N));
        assert_ok(ctx, pol_download_later(be, b, 0, first, N));
        sim_count_anew();
        pol_buf_free(be, b);
        assert_ok(ctx, pol_buf_new(be, POL_F32, N, &b));
        assert_int_equal(sim_counted().waits, 0);
        memset(x, 0x7f, sizeof x);
        assert_ok(ctx, pol_download(be, b, 0, x, N));
        for (int i = 0; i < N; i++)
            assert_true(first[i] == value(1, i) && x[i] == 0);
        pol_buf_free(be, b);
        pol_backend_close(be);
        assert_clean();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_plan_is_right_to_the_byte),
        cmocka_unit_test(buffers_come_and_go),
        cmocka_unit_test(what_does_not_fit_lies_outside),
        cmocka_unit_test(a_second_run_reserves_anew),
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(a_buffer_of_nothing),
        cmocka_unit_test(memory_serves_again_at_once),
    };
    return cmocka_run_group_tests(tests, setup, test_context_close);
}
