/* test_cuda_pass.c - passes that come again are recorded, and do what they did when they were queued op by op. */
#include "core/base/rng.h"
#include "tests/cuda/profiles.h"

enum { T = 6, S = 3, C = 32, F = 64, KEPT = 64 /* as in pass.c */, STAGING = 1 << 14 };

static int setup(void **state)
{
    switch_on(1, 64 << 20);
    return test_context_open(state);
}

/* A little of a forward pass, with products in it. */
typedef struct fixture {
    pol_context *ctx;
    pol_backend *be;
    pol_buf *x, *y, *h, *gu, *gain, *w_up, *w_down, *scratch;
} fixture;

static pol_buf *filled(fixture *f, pol_dtype dtype, int64_t rows, int64_t row, uint32_t key)
{
    float x[2 * F * C];
    pol_buf *b;
    pol_normal(1, POL_STREAM_TEST, 0, key, rows * row, x);
    assert_ok(f->ctx, pol_buf_new_rows(f->be, dtype, rows, row, &b));
    assert_ok(f->ctx, pol_upload(f->be, b, 0, x, rows * row));
    return b;
}

static fixture open_small_pass(pol_context *ctx)
{
    fixture f = {.ctx = ctx, .be = open_small(ctx, STAGING)};
    assert_ok(ctx, pol_reserve(f.be, 64 << 10));
    f.gain = filled(&f, POL_F32, 1, C, 1);
    f.w_up = filled(&f, POL_BF16, F, 2 * C, 2);
    f.w_down = filled(&f, POL_BF16, F, C, 3);
    f.y = filled(&f, POL_BF16, 1, T * C, 4);
    f.h = filled(&f, POL_BF16, 1, T * F, 5);
    f.gu = filled(&f, POL_BF16, 1, T * F * 2, 6);
    f.x = filled(&f, POL_F32, 1, T * C, 7);
    f.scratch = filled(&f, POL_F32, 1, pol_gemm_scratch(f.be, T, 2 * F, C), 8);
    return f;
}

static void close_small_pass(fixture *f)
{
    pol_buf *const all[] = {f->x, f->y, f->h, f->gu, f->gain, f->w_up, f->w_down, f->scratch};
    for (size_t i = 0; i < POL_COUNT(all); i++)
        pol_buf_free(f->be, all[i]);
    pol_backend_close(f->be);
    assert_clean();
}

static pol_status ops(fixture *f, int64_t kept)
{
    POL_TRY(pol_rmsnorm(
        f->be,
        &(pol_rmsnorm_args){.y = {f->y, 0}, .x = {f->x, 0}, .gain = {f->gain, 0}, .T = T, .C = C, .eps = 1e-5f}));
    POL_TRY(pol_project_swiglu(f->be, &(pol_project_swiglu_args){.h = {f->h, 0},
                                                                 .gu = {f->gu, 0},
                                                                 .x = {f->y, 0},
                                                                 .w = {f->w_up, 0},
                                                                 .scratch = {f->scratch, 0},
                                                                 .T = T,
                                                                 .kept = kept,
                                                                 .padded = kept,
                                                                 .C = C}));
    return pol_project_add(f->be, &(pol_project_add_args){.x = {f->x, 0},
                                                          .h = {f->h, 0},
                                                          .w = {f->w_down, 0},
                                                          .scratch = {f->scratch, 0},
                                                          .T = T,
                                                          .N = kept,
                                                          .C = C});
}

/* One pass on what `key` fills x with. */
static pol_status pass(fixture *f, int64_t kept, uint32_t key, float got[T * C], bool *replayed)
{
    float x[T * C];
    pol_normal(1, POL_STREAM_TEST, 1, key, T * C, x);
    POL_TRY(pol_upload(f->be, f->x, 0, x, T * C));
    POL_TRY(pol_pass_begin(f->be, &kept, sizeof kept, replayed));
    if (!*replayed)
        POL_TRY(pol_pass_end(f->be, ops(f, kept)));
    return pol_download_later(f->be, f->x, 0, got, T * C);
}

/* Plain, recorded, replayed: the same bits, for each of several inputs and sizes. */
static void a_recorded_pass_is_the_plain_one(void **state)
{
    enum { TIMES = 5, SIZES = 3 };
    fixture f = open_small_pass(*state);
    for (uint64_t seed = 0; seed < 5; seed++) {
        float plain[SIZES][TIMES][T * C], got[SIZES][TIMES][T * C];
        bool replayed;
        sim_seed(seed);
        for (int s = 0; s < SIZES; s++)
            for (int t = 0; t < TIMES; t++) {
                float x[T * C];
                pol_normal(1, POL_STREAM_TEST, 1, (uint32_t)t, T * C, x);
                assert_ok(f.ctx, pol_upload(f.be, f.x, 0, x, T * C));
                assert_ok(f.ctx, ops(&f, 24 + 16 * s));
                assert_ok(f.ctx, pol_download(f.be, f.x, 0, plain[s][t], T * C));
            }
        for (int t = 0; t < TIMES; t++)
            for (int s = 0; s < SIZES; s++) {
                assert_ok(f.ctx, pass(&f, 24 + 16 * s, (uint32_t)t, got[s][t], &replayed));
                assert_int_equal(replayed, seed > 0 || t > 1);
            }
        assert_ok(f.ctx, pol_sync(f.be));
        assert_memory_equal(plain, got, sizeof got);
    }
    close_small_pass(&f);
}

/* A pass that comes again is one launch of the host's, and it never waits. */
static void a_replay_is_one_launch(void **state)
{
    fixture f = open_small_pass(*state);
    float got[T * C];
    bool replayed;
    for (int i = 0; i < 2; i++)
        assert_ok(f.ctx, pass(&f, 32, 0, got, &replayed));
    assert_ok(f.ctx, pol_sync(f.be));
    sim_count_anew();
    for (int i = 0; i < 20; i++)
        assert_ok(f.ctx, pass(&f, 32, 0, got, &replayed));
    assert_int_equal(sim_counted().launches, 0);
    assert_int_equal(sim_counted().graph_launches, 20);
    assert_int_equal(sim_counted().waits, 0);
    assert_ok(f.ctx, pol_sync(f.be));
    assert_int_equal(sim_counted().waits, 1);
    close_small_pass(&f);
}

/* Only so many are kept, the latest used. */
static void passes_not_used_for_long_are_forgotten(void **state)
{
    fixture f = open_small_pass(*state);
    bool replayed;
    float got[T * C];
    for (int i = 0; i < 2; i++)
        assert_ok(f.ctx, pass(&f, 8, 0, got, &replayed));
    for (int64_t key = 100; key < 100 + 3 * KEPT; key++) {
        assert_ok(f.ctx, pol_pass_begin(f.be, &key, sizeof key, &replayed));
        assert_false(replayed);
        assert_ok(f.ctx, pol_pass_end(f.be, ops(&f, 8)));
        if (key % 16 == 0) { /* stays because it is used */
            assert_ok(f.ctx, pass(&f, 8, 0, got, &replayed));
            assert_true(replayed);
        }
    }
    for (int64_t key = 1000; key < 1000 + KEPT; key++) {
        assert_ok(f.ctx, pol_pass_begin(f.be, &key, sizeof key, &replayed));
        assert_ok(f.ctx, pol_pass_end(f.be, POL_OK));
    }
    assert_ok(f.ctx, pass(&f, 8, 0, got, &replayed));
    assert_false(replayed);
    assert_true(sim_calls("cudaGraphExecDestroy") > 0);
    close_small_pass(&f);
}

/* A key is all of its bytes, and no more. */
static void keys_differ_by_any_byte(void **state)
{
    fixture f = open_small_pass(*state);
    const char key[] = "abcdefgh";
    bool replayed;
    for (size_t n = sizeof key - 1; n > 0; n--)
        for (int i = 0; i < 3; i++) {
            assert_ok(f.ctx, pol_pass_begin(f.be, key, n, &replayed));
            assert_int_equal(replayed, i == 2);
            if (!replayed)
                assert_ok(f.ctx, pol_pass_end(f.be, ops(&f, 8)));
        }
    close_small_pass(&f);
}

/* The memory that was recorded may serve something else. */
static void freeing_a_buffer_forgets(void **state)
{
    fixture f = open_small_pass(*state);
    float before[T * C], after[T * C];
    bool replayed;
    for (int i = 0; i < 3; i++)
        assert_ok(f.ctx, pass(&f, 32, 0, before, &replayed));
    assert_true(replayed);
    pol_buf_free(f.be, f.h);
    pol_buf *in_its_place = filled(&f, POL_BF16, 1, T * F, 9);
    assert_ok(f.ctx, pol_buf_new(f.be, POL_BF16, T * F, &f.h));
    for (int i = 0; i < 3; i++) {
        assert_ok(f.ctx, pass(&f, 32, 0, after, &replayed));
        assert_int_equal(replayed, i == 2);
        assert_ok(f.ctx, pol_sync(f.be));
        assert_memory_equal(before, after, sizeof after);
    }
    pol_buf_free(f.be, in_its_place);
    close_small_pass(&f);
}

/* Whatever call fails while a pass is recorded or replayed: it is said, and the next passes are right. */
static void a_failure_is_told_and_the_next_pass_is_right(void **state)
{
    static const struct {
        const char *entry;
        int nth;    /* of the pass's calls */
        int before; /* passes before */
    } faults[] = {
        {"cudaStreamBeginCapture", 1, 1},
        {"launch", 1, 1},
        {"launch", 2, 1},
        {"cublasLtMatmul", 1, 1},
        {"cudaStreamEndCapture", 1, 1},
        {"cudaGraphLaunch", 1, 1},
        {"cudaGraphInstantiate", 1, 1},
        {"cudaGraphLaunch", 1, 2},
        {"cudaGraphLaunch", 1, 5},
        {"launch", 1, 0},
    };
    for (size_t i = 0; i < POL_COUNT(faults); i++) {
        fixture f = open_small_pass(*state);
        float right[T * C], got[T * C];
        bool replayed;
        for (int64_t other = 0; other < 2; other++) /* the right result, by passes of other keys */
            assert_ok(f.ctx, pol_pass_begin(f.be, &other, sizeof other, &replayed));
        pol_pass_end(f.be, POL_OK);
        float x[T * C];
        pol_normal(1, POL_STREAM_TEST, 1, 0, T * C, x);
        assert_ok(f.ctx, pol_upload(f.be, f.x, 0, x, T * C));
        assert_ok(f.ctx, ops(&f, 32));
        assert_ok(f.ctx, pol_download(f.be, f.x, 0, right, T * C));
        for (int n = 0; n < faults[i].before; n++)
            assert_ok(f.ctx, pass(&f, 32, 0, got, &replayed));
        const bool lt = strncmp(faults[i].entry, "cublas", 6) == 0;
        sim_fail(faults[i].entry, faults[i].nth, lt ? CUBLAS_STATUS_INTERNAL_ERROR : cudaErrorInvalidValue);
        assert_fails(f.ctx, pass(&f, 32, 0, got, &replayed), POL_EDEVICE, lt ? "(14)" : "(1)");
        if (!strstr(pol_error_text(f.ctx), strcmp(faults[i].entry, "launch") ? faults[i].entry : "pol_cu_"))
            fail_msg("%s failed, and it said: %s", faults[i].entry, pol_error_text(f.ctx));
        for (int n = 0; n < 4; n++) {
            memset(got, 0, sizeof got);
            assert_ok(f.ctx, pass(&f, 32, 0, got, &replayed));
            assert_ok(f.ctx, pol_sync(f.be));
            assert_memory_equal(right, got, sizeof got);
        }
        assert_true(replayed);
        close_small_pass(&f);
    }
}

/* A pass that fails for a reason of the caller's keeps that reason. */
static void the_first_failure_is_the_one_told(void **state)
{
    fixture f = open_small_pass(*state);
    const int key = 1;
    bool replayed;
    assert_ok(f.ctx, pol_pass_begin(f.be, &key, sizeof key, &replayed));
    assert_ok(f.ctx, pol_pass_end(f.be, POL_OK));
    assert_ok(f.ctx, pol_pass_begin(f.be, &key, sizeof key, &replayed));
    sim_fail("cudaStreamEndCapture", 1, cudaErrorStreamCaptureInvalidated);
    assert_fails(f.ctx, pol_pass_end(f.be, pol_fail(f.ctx, POL_ESHAPE, "of the caller's")), POL_ESHAPE,
                 "of the caller's");
    close_small_pass(&f);
}

/* Closed in the middle of a recording. */
static void a_pass_that_never_ends(void **state)
{
    fixture f = open_small_pass(*state);
    const int key = 1;
    bool replayed;
    for (int i = 0; i < 2; i++)
        assert_ok(f.ctx, pol_pass_begin(f.be, &key, sizeof key, &replayed));
    assert_ok(f.ctx, ops(&f, 8));
    close_small_pass(&f);
}

static void nothing_is_recorded_where_it_is_not_wanted(void **state)
{
    pol_context *ctx = *state;
    cu_profile use;
    const int key = 1;
    bool replayed;
    assert_ok(ctx, cu_profile_of(ctx, 0, &use));
    for (int timing = 0; timing < 2; timing++) {
        pol_backend *be;
        double seconds[CU_OPS];
        use.timing = timing;
        use.graphs = timing;
        assert_ok(ctx, pol_cuda_open(ctx, 0, &use, &be));
        for (int i = 0; i < 3; i++) {
            assert_ok(ctx, pol_pass_begin(be, &key, sizeof key, &replayed));
            assert_false(replayed);
            assert_ok(ctx, pol_pass_end(be, POL_OK));
        }
        assert_ok(ctx, cu_times(cu_of(be), seconds));
        pol_backend_close(be);
    }
    assert_clean();
}

/* Time goes to the op under way; more marks than are kept at a time make no difference. */
static void time_is_told_by_op(void **state)
{
    enum { ROUNDS = 1500, MARKS = 4096 /* as in timer.c */ };
    pol_context *ctx = *state;
    cu_profile use;
    double seconds[CU_OPS];
    fixture f = {.ctx = ctx};
    assert_ok(ctx, cu_profile_of(ctx, 0, &use));
    use.timing = true;
    use.staging_bytes = STAGING;
    assert_ok(ctx, pol_cuda_open(ctx, 0, &use, &f.be));
    f.gain = filled(&f, POL_F32, 1, C, 1);
    f.x = filled(&f, POL_F32, 1, T * C, 2);
    f.y = filled(&f, POL_BF16, 1, T * C, 3);
    assert_ok(ctx, cu_times(cu_of(f.be), seconds));
    for (int i = 0; i < ROUNDS; i++) {
        const pol_rmsnorm_args a = {.y = {f.y, 0}, .x = {f.x, 0}, .gain = {f.gain, 0}, .T = T, .C = C, .eps = 1e-5f};
        assert_ok(ctx, pol_rmsnorm(f.be, &a));
        assert_ok(ctx, pol_upload(f.be, f.x, 0, (float[1]){1}, 1));
        assert_ok(ctx, pol_rmsnorm(f.be, &a));
    }
    assert_ok(ctx, cu_times(cu_of(f.be), seconds));
    assert_true(seconds[CU_RMSNORM] > 0 && seconds[CU_TRANSFER] > 0);
    for (int i = 0; i < CU_OPS; i++)
        assert_true(i == CU_RMSNORM || i == CU_TRANSFER || seconds[i] == 0);
    assert_ok(ctx, cu_times(cu_of(f.be), seconds));
    assert_true(seconds[CU_RMSNORM] == 0); /* since the last call */
    for (int i = 0; i < MARKS - 2; i++)    /* one mark is there already, and the next but one makes room */
        assert_ok(ctx, pol_upload(f.be, f.x, 0, (float[1]){1}, 1));
    assert_ok(ctx, pol_project_add(f.be, &(pol_project_add_args){.x = {f.x, 0}, .bias = {f.gain, 0}, .T = T, .C = C}));
    assert_ok(ctx, pol_upload(f.be, f.x, 0, (float[1]){1}, 1));
    assert_ok(ctx, cu_times(cu_of(f.be), seconds));
    assert_true(seconds[CU_PROJECT_ADD] > 0);
    pol_buf_free(f.be, f.gain);
    pol_buf_free(f.be, f.x);
    pol_buf_free(f.be, f.y);
    pol_backend_close(f.be);
    assert_clean();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_recorded_pass_is_the_plain_one),
        cmocka_unit_test(a_replay_is_one_launch),
        cmocka_unit_test(passes_not_used_for_long_are_forgotten),
        cmocka_unit_test(keys_differ_by_any_byte),
        cmocka_unit_test(freeing_a_buffer_forgets),
        cmocka_unit_test(a_failure_is_told_and_the_next_pass_is_right),
        cmocka_unit_test(the_first_failure_is_the_one_told),
        cmocka_unit_test(a_pass_that_never_ends),
        cmocka_unit_test(nothing_is_recorded_where_it_is_not_wanted),
        cmocka_unit_test(time_is_told_by_op),
    };
    return cmocka_run_group_tests(tests, setup, test_context_close);
}
