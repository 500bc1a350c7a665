/* test_cuda_devices.c - which devices are listed, what is said where there are none, and which can be opened. */
#include "tests/cuda/profiles.h"

enum { MOST = 8 };

typedef struct listing {
    pol_device_info device[MOST];
    int64_t n;
    char note[POL_NOTE_BYTES];
} listing;

static pol_status list(pol_context *ctx, listing *l)
{
    memset(l, 0, sizeof *l);
    return pol_driver_cuda.list(ctx, l->device, MOST, &l->n, l->note);
}

static void all_devices_are_listed(void **state)
{
    pol_context *ctx = *state;
    listing l;
    switch_on(3, 1 << 20);
    assert_ok(ctx, list(ctx, &l));
    assert_int_equal(l.n, 3);
    assert_string_equal(l.note, "");
    for (int i = 0; i < 3; i++) {
        const pol_device_info *d = &l.device[i];
        assert_string_equal(d->backend, "cuda");
        assert_int_equal(d->index, i);
        assert_int_equal(d->type, POL_DEVICE_GPU);
        assert_true(d->name[0] && d->usable && d->fp16 && !d->host_memory);
        assert_int_equal(d->memory_bytes, 1 << 20);
        assert_int_equal(d->max_buffer_bytes, 1 << 20);
        assert_true(strstr(d->detail, "sm_80, ") && strstr(d->detail, " multiprocessors, CUDA 13.0, cuBLASLt 13."));
    }
}

static void a_list_has_room_for_so_many(void **state)
{
    pol_context *ctx = *state;
    listing l = {.n = 1};
    switch_on(3, 0);
    assert_ok(ctx, pol_driver_cuda.list(ctx, l.device, 2, &l.n, l.note));
    assert_int_equal(l.n, 2);
    assert_string_equal(l.device[0].backend, ""); /* another's */
    assert_int_equal(l.device[1].index, 0);
}

static void check_none(pol_context *ctx, int devices, const char *part)
{
    listing l;
    switch_on(devices, 0);
    assert_ok(ctx, list(ctx, &l));
    assert_int_equal(l.n, 0);
    if (!strstr(l.note, part))
        fail_msg("the note '%s' lacks '%s'", l.note, part);
    pol_backend *be;
    assert_fails(ctx, pol_cuda_open(ctx, 0, NULL, &be), POL_EARG, part);
    assert_null(be);
}

static void no_device_is_no_failure(void **state)
{
    check_none(*state, NO_DEVICE, "finds no device");
    check_none(*state, NO_DRIVER, "no NVIDIA driver is installed: install one for CUDA 13.0 or later");
    check_none(*state, OLD_DRIVER, "and 13.0 or later is needed; a newer driver helps");
}

static void a_driver_that_fails_says_so(void **state)
{
    pol_context *ctx = *state;
    listing l;
    switch_on(1, 0);
    sim_fail("cudaGetDeviceCount", 1, cudaErrorSystemDriverMismatch);
    assert_fails(ctx, list(ctx, &l), POL_EDEVICE, "cudaGetDeviceCount: cudaErrorSystemDriverMismatch (803)");
    assert_string_equal(l.note, pol_error_text(ctx));
}

static void a_device_that_does_not_answer_is_listed(void **state)
{
    static const char *const questions[] = {"cudaGetDeviceProperties", "cudaDeviceGetAttribute"};
    pol_context *ctx = *state;
    listing l;
    for (size_t i = 0; i < POL_COUNT(questions); i++) {
        switch_on(2, 0);
        sim_fail(questions[i], 1, cudaErrorUnknown);
        assert_ok(ctx, list(ctx, &l));
        assert_int_equal(l.n, 2);
        assert_false(l.device[0].usable);
        assert_true(strstr(l.device[0].reason, questions[i]) && strstr(l.device[0].reason, "(999)"));
        assert_true(l.device[1].usable);
    }
}

static void an_old_device_is_listed_but_not_used(void **state)
{
    pol_context *ctx = *state;
    listing l;
    pol_backend *be;
    setenv("POLLARD_SIM_ARCH", "75", 1);
    switch_on(1, 0);
    unsetenv("POLLARD_SIM_ARCH");
    assert_ok(ctx, list(ctx, &l));
    assert_int_equal(l.n, 1);
    assert_false(l.device[0].usable);
    assert_string_equal(l.device[0].reason, "its compute capability is 7.5; 8.0 is needed");
    assert_fails(ctx, pol_cuda_open(ctx, 0, NULL, &be), POL_EDEVICE, "cannot be used: its compute capability is 7.5");
}

static void a_closed_device_is_listed_but_not_used(void **state)
{
    pol_context *ctx = *state;
    listing l;
    setenv("POLLARD_SIM_COMPUTE_MODE", "2", 1);
    switch_on(1, 0);
    unsetenv("POLLARD_SIM_COMPUTE_MODE");
    assert_ok(ctx, list(ctx, &l));
    assert_false(l.device[0].usable);
    assert_true(strstr(l.device[0].reason, "closed to computing"));
}

/* Two devices in turn, on one thread: memory, transfers and ops are each on their own. */
static void devices_do_not_mix(void **state)
{
    enum { N = 100, DEVICES = 2, TURNS = 4 };
    pol_context *ctx = *state;
    pol_backend *be[DEVICES];
    pol_buf *x[DEVICES], *bias[DEVICES];
    float sum[N], one[N], got[DEVICES][N];
    bool replayed;
    switch_on(DEVICES, 0);
    for (int i = 0; i < N; i++)
        one[i] = 1;
    for (int d = 0; d < DEVICES; d++)
        assert_ok(ctx, pol_cuda_open(ctx, d, NULL, &be[d]));
    for (int d = 0; d < DEVICES; d++) {
        assert_ok(ctx, pol_reserve(be[d], 1024));
        assert_ok(ctx, pol_buf_new(be[d], POL_F32, N, &x[d]));
        assert_ok(ctx, pol_buf_new(be[d], POL_F32, N, &bias[d]));
    }
    for (int d = 0; d < DEVICES; d++) {
        for (int i = 0; i < N; i++)
            sum[i] = (float)(1000 * d + i);
        assert_ok(ctx, pol_upload(be[d], x[d], 0, sum, N));
        assert_ok(ctx, pol_upload(be[d], bias[d], 0, one, N));
    }
    for (int turn = 0; turn < TURNS; turn++)
        for (int d = 0; d < DEVICES; d++) {
            assert_ok(ctx, pol_pass_begin(be[d], "key", 3, &replayed));
            assert_int_equal(replayed, turn > 1);
            if (!replayed)
                assert_ok(
                    ctx, pol_pass_end(
                             be[d], pol_project_add(be[d], &(pol_project_add_args){
                                                               .x = {x[d], 0}, .bias = {bias[d], 0}, .T = 1, .C = N})));
        }
    for (int d = 0; d < DEVICES; d++)
        assert_ok(ctx, pol_download_later(be[d], x[d], 0, got[d], N));
    for (int d = 0; d < DEVICES; d++)
        assert_ok(ctx, pol_sync(be[d]));
    for (int d = 0; d < DEVICES; d++)
        for (int i = 0; i < N; i++)
            assert_true(got[d][i] == (float)(1000 * d + i + TURNS));
    for (int d = 0; d < DEVICES; d++) {
        pol_buf_free(be[d], x[d]);
        pol_buf_free(be[d], bias[d]);
    }
    for (int d = 0; d < DEVICES; d++)
        pol_backend_close(be[d]);
    assert_clean();
}

static void profiles_follow_the_report(void **state)
{
    pol_context *ctx = *state;
    cu_profile ampere, hopper;
    switch_on(1, 0);
    assert_ok(ctx, cu_profile_of(ctx, 0, &ampere));
    setenv("POLLARD_SIM_ARCH", "90", 1);
    switch_on(1, 0);
    unsetenv("POLLARD_SIM_ARCH");
    assert_ok(ctx, cu_profile_of(ctx, 0, &hopper));
    assert_true(ampere.workspace_bytes == 8 << 20 && hopper.workspace_bytes == 32 << 20);
    assert_true(hopper.max_shared_bytes > ampere.max_shared_bytes && ampere.max_shared_bytes > 48 << 10);
    assert_true(ampere.multiprocessors > 1 && ampere.graphs && !ampere.timing);
}

static void what_is_free_is_what_an_open_device_has(void **state)
{
    pol_context *ctx = *state;
    pol_backend *first, *second;
    switch_on(2, 64 << 20);
    assert_ok(ctx, pol_cuda_open(ctx, 1, NULL, &first));
    assert_int_equal(first->info.index, 1);
    assert_int_equal(first->info.max_buffer_bytes, 64 << 20);
    assert_true(first->info.memory_bytes < 64 << 20 && first->info.memory_bytes > 48 << 20);
    assert_ok(ctx, pol_reserve(first, 32 << 20));
    assert_ok(ctx, pol_cuda_open(ctx, 1, NULL, &second));
    assert_true(second->info.memory_bytes < 32 << 20);
    pol_backend_close(second);
    assert_ok(ctx, pol_cuda_open(ctx, 0, NULL, &second));
    assert_int_equal(second->info.memory_bytes, first->info.memory_bytes);
    pol_backend_close(second);
    pol_backend_close(first);
    assert_clean();
}

static void weights_are_bf16_alone(void **state)
{
    static const char *const served[] = {NULL, "auto", "bf16"};
    static const char *const refused[] = {"f32", "f16"};
    pol_context *ctx = *state;
    pol_backend *be;
    listing l;
    switch_on(1, 0);
    assert_ok(ctx, list(ctx, &l));
    for (size_t i = 0; i < POL_COUNT(served); i++) {
        assert_ok(ctx, pol_driver_cuda.open(ctx, l.device, &(pol_backend_options){.weights = served[i]}, &be));
        assert_int_equal(be->weight_dtype, POL_BF16);
        assert_int_equal(be->act_dtype, POL_BF16);
        assert_ok(ctx, pol_ops_check(ctx, "cuda", be->ops));
        pol_backend_close(be);
    }
    for (size_t i = 0; i < POL_COUNT(refused); i++)
        assert_fails(ctx, pol_driver_cuda.open(ctx, l.device, &(pol_backend_options){.weights = refused[i]}, &be),
                     POL_EUNSUPPORTED, refused[i]);
    assert_clean();
}

static void a_device_that_is_not_there(void **state)
{
    pol_context *ctx = *state;
    pol_backend *be;
    switch_on(2, 0);
    assert_fails(ctx, pol_cuda_open(ctx, 2, NULL, &be), POL_EARG, "device 2 is not there");
    assert_fails(ctx, pol_cuda_open(ctx, -1, NULL, &be), POL_EARG, "device -1 is not there");
    assert_clean();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_devices_are_listed),
        cmocka_unit_test(a_list_has_room_for_so_many),
        cmocka_unit_test(no_device_is_no_failure),
        cmocka_unit_test(a_driver_that_fails_says_so),
        cmocka_unit_test(a_device_that_does_not_answer_is_listed),
        cmocka_unit_test(an_old_device_is_listed_but_not_used),
        cmocka_unit_test(a_closed_device_is_listed_but_not_used),
        cmocka_unit_test(devices_do_not_mix),
        cmocka_unit_test(profiles_follow_the_report),
        cmocka_unit_test(what_is_free_is_what_an_open_device_has),
        cmocka_unit_test(weights_are_bf16_alone),
        cmocka_unit_test(a_device_that_is_not_there),
    };
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}
