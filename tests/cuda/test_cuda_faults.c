/* test_cuda_faults.c - every entry point of CUDA and cuBLASLt fails in turn during a small job, at once or late:
 * nothing crashes, nothing stays behind, the error names what failed, and what ends well has the right result. */
#include "pollard/model.h"
#include "tests/cuda/profiles.h"

enum { B = 2, S = 4, SCORED = B * (S - 1), PASSES = 3, MEMORY = 64 << 20, STAGING = 2048 };

/* Those that the backend calls; "launch" is any kernel's. */
static const char *const entries[] = {
    "cudaGetDeviceCount",
    "cudaGetDeviceProperties",
    "cudaDeviceGetAttribute",
    "cudaSetDevice",
    "cudaMemGetInfo",
    "cudaMalloc",
    "cudaFree",
    "cudaHostAlloc",
    "cudaFreeHost",
    "cudaMemsetAsync",
    "cudaMemcpyAsync",
    "cudaDeviceGetStreamPriorityRange",
    "cudaStreamCreateWithPriority",
    "cudaStreamDestroy",
    "cudaStreamSynchronize",
    "cudaStreamWaitEvent",
    "cudaEventCreateWithFlags",
    "cudaEventRecord",
    "cudaEventSynchronize",
    "cudaEventDestroy",
    "cudaStreamBeginCapture",
    "cudaStreamEndCapture",
    "cudaGraphInstantiate",
    "cudaGraphLaunch",
    "cudaGraphDestroy",
    "cudaGraphExecDestroy",
    "launch",
    "cublasLtCreate",
    "cublasLtDestroy",
    "cublasLtMatmulDescCreate",
    "cublasLtMatmulDescDestroy",
    "cublasLtMatmulDescSetAttribute",
    "cublasLtMatrixLayoutCreate",
    "cublasLtMatrixLayoutDestroy",
    "cublasLtMatmulPreferenceCreate",
    "cublasLtMatmulPreferenceDestroy",
    "cublasLtMatmulPreferenceSetAttribute",
    "cublasLtMatmulAlgoGetHeuristic",
    "cublasLtMatmul",
};

typedef struct fixture {
    pol_context *ctx;
    pol_source *src;
    pol_units *units;
    uint8_t *mask[2];
    int32_t ids[PASSES][B * S];
    float right[PASSES][SCORED]; /* to the bit: the same device */
    bool learning;
    char fault[160]; /* what is being done to it */
} fixture;

static bool is_lt(const char *entry) { return strncmp(entry, "cublas", 6) == 0; }

/* ---- the job. A part of it frees what it makes, however it ends. ---- */

/* Passes are queued and waited for once; the last of them come again, so that they are recorded and replayed. */
static pol_status forward(fixture *f, pol_forward *forward)
{
    float nll[PASSES][SCORED];
    for (int p = 0; p < PASSES; p++)
        POL_TRY(pol_forward_queue(forward, f->ids[p], B, S, nll[p], NULL));
    POL_TRY(pol_forward_settle(forward));
    if (f->learning)
        memcpy(f->right, nll, sizeof nll);
    else if (memcmp(f->right, nll, sizeof nll) != 0)
        fail_msg("%s: done, but the result is wrong", f->fault);
    return POL_OK;
}

/* Masked, then with another mask, for which rows move. */
static pol_status load_and_forward(fixture *f, pol_backend *be, bool streamed)
{
    const pol_placement placement = {.streamed = streamed, .cells = streamed ? 2 : 1};
    pol_model *m = NULL;
    pol_forward *fw = NULL;
    pol_status s = pol_model_load(f->src, be, &placement, &m);
    for (int i = 0; i < 2 && s == POL_OK; i++)
        s = pol_model_set_mask(m, f->mask[i]);
    if (s == POL_OK)
        s = pol_forward_new(m, B * S, S, &fw);
    if (s == POL_OK)
        s = forward(f, fw);
    pol_forward_free(fw);
    pol_model_free(m);
    return s;
}

static pol_status with_device(fixture *f, bool streamed)
{
    cu_profile use;
    pol_backend *be;
    POL_TRY(cu_profile_of(f->ctx, 0, &use));
    use.staging_bytes = STAGING;
    use.workspace_bytes = STAGING;
    POL_TRY(pol_cuda_open(f->ctx, 0, &use, &be));
    pol_status s = pol_reserve(be, 256 << 10);
    if (s == POL_OK)
        s = load_and_forward(f, be, streamed);
    pol_backend_close(be);
    return s;
}

static pol_status resident(fixture *f) { return with_device(f, false); }
static pol_status streamed(fixture *f) { return with_device(f, true); }

/* ---- repair: moments on the device, and the ops on host arrays, which take memory of it for themselves ---- */

enum { ROWS = 40, COLUMNS = 3, LEVEL = 25, BLOCK = 12 };

typedef struct repaired {
    double moments[ROWS * ROWS], solution[ROWS * COLUMNS], error[ROWS];
    int32_t order[ROWS];
    float rows[LEVEL * COLUMNS];
} repaired;

static pol_status sum_moments(pol_backend *be, repaired *r)
{
    enum { X, A, SCRATCH, N_BUFS };
    static float x[ROWS * ROWS], pairs[2 * ROWS * ROWS];
    const pol_dtype dtype[] = {POL_BF16, POL_F32, POL_F32};
    const int64_t n[] = {POL_COUNT(x), POL_COUNT(pairs), pol_gram_scratch(be, ROWS, ROWS, 0)};
    pol_buf *buf[N_BUFS] = {NULL};
    pol_status s = POL_OK;
    for (size_t i = 0; i < POL_COUNT(x); i++)
        x[i] = (float)((int)(i * i % 23) - 11);
    for (int i = 0; i < N_BUFS && s == POL_OK; i++)
        s = pol_buf_new(be, dtype[i], n[i], &buf[i]);
    if (s == POL_OK)
        s = pol_upload(be, buf[X], 0, x, n[X]);
    if (s == POL_OK)
        s = pol_gram(be, &(pol_gram_args){
                             .a = {buf[A], 0}, .x = {buf[X], 0}, .scratch = {buf[SCRATCH], 0}, .T = ROWS, .N = ROWS});
    if (s == POL_OK)
        s = pol_download(be, buf[A], 0, pairs, n[A]);
    for (int i = 0; i < ROWS * ROWS && s == POL_OK; i++)
        r->moments[i] = i % ROWS > i / ROWS ? 0 : (double)pairs[i] + pairs[ROWS * ROWS + i];
    for (int i = 0; i < N_BUFS; i++)
        pol_buf_free(be, buf[i]);
    return s;
}

static pol_status solve_and_sweep(pol_backend *be, repaired *r)
{
    static double a[ROWS * ROWS];
    static float w[ROWS * COLUMNS];
    const int64_t level[] = {LEVEL};
    float *const rows[] = {r->rows};
    for (int i = 0; i < ROWS * COLUMNS; i++)
        r->solution[i] = w[i] = (float)(i % 7) - 3;
    memcpy(a, r->moments, sizeof a);
    POL_TRY(
        pol_solve_spd(be, &(pol_solve_spd_args){.N = ROWS, .M = COLUMNS, .damping = 0.1, .a = a, .b = r->solution}));
    return pol_obs_sweep(be, &(pol_obs_sweep_args){.n_units = ROWS,
                                                   .unit = 1,
                                                   .C = COLUMNS,
                                                   .block = BLOCK,
                                                   .damping = 0.1,
                                                   .h = r->moments,
                                                   .w = w,
                                                   .order = r->order,
                                                   .error = r->error,
                                                   .n_levels = 1,
                                                   .level = level,
                                                   .rows = rows});
}

static pol_status repair(fixture *f)
{
    static repaired right;
    repaired r = {0};
    cu_profile use;
    pol_backend *be;
    POL_TRY(cu_profile_of(f->ctx, 0, &use));
    use.staging_bytes = STAGING;
    use.workspace_bytes = STAGING;
    POL_TRY(pol_cuda_open(f->ctx, 0, &use, &be));
    pol_status s = sum_moments(be, &r);
    if (s == POL_OK)
        s = solve_and_sweep(be, &r);
    pol_backend_close(be);
    if (s == POL_OK && !right.error[0])
        right = r;
    if (s == POL_OK && memcmp(&r, &right, sizeof r) != 0)
        fail_msg("%s: done, but the result is wrong", f->fault);
    return s;
}

/* ---- one fault ---- */

static pol_status status_of(bool lt, int code)
{
    return code == (lt ? (int)CUBLAS_STATUS_ALLOC_FAILED : (int)cudaErrorMemoryAllocation) ? POL_ENOMEM : POL_EDEVICE;
}

static void assert_told(fixture *f, pol_status s, const char *entry, int code)
{
    char number[16];
    const char *text = pol_error_text(f->ctx);
    snprintf(number, sizeof number, "(%d)", code);
    const bool unanswered = strstr(text, "it does not answer") != NULL;
    if (s != (unanswered ? POL_EDEVICE : status_of(is_lt(entry), code)))
        fail_msg("%s: %s: %s", f->fault, pol_status_name(s), text);
    if (strncmp(text, "cuda: ", 6) != 0 || !strstr(text, strcmp(entry, "launch") ? entry : "pol_cu_") ||
        !strstr(text, number))
        fail_msg("%s, and it said: %s", f->fault, text);
}

static void fails_once(fixture *f, pol_status (*job)(fixture *f), const char *entry, int64_t nth, int code)
{
    snprintf(f->fault, sizeof f->fault, "call %lld of %s gives %d", (long long)nth, entry, code);
    sim_fail(entry, nth, code);
    const pol_status s = job(f);
    if (s < 0)
        assert_told(f, s, entry, code);
    if (sim_calls(entry) < nth)
        fail_msg("%s: there is no such call", f->fault);
    if (sim_leaks() || sim_counted().misuses)
        fail_msg("%s: %lld left behind, %lld misuses", f->fault, (long long)sim_leaks(),
                 (long long)sim_counted().misuses);
    sim_count_anew();
}

/* ---- many faults ---- */

static int code_for(const char *entry, int64_t turn)
{
    static const int codes[] = {cudaErrorMemoryAllocation, cudaErrorUnknown, cudaErrorDevicesUnavailable,
                                cudaErrorLaunchFailure, cudaErrorNoKernelImageForDevice};
    static const int lt[] = {CUBLAS_STATUS_ALLOC_FAILED, CUBLAS_STATUS_NOT_SUPPORTED, CUBLAS_STATUS_INTERNAL_ERROR};
    return is_lt(entry) ? lt[turn % (int64_t)POL_COUNT(lt)] : codes[turn % (int64_t)POL_COUNT(codes)];
}

/* Of every entry point the first two calls, the last two and some between. */
static void each_entry_fails(fixture *f, pol_status (*job)(fixture *f))
{
    int64_t calls[POL_COUNT(entries)], total = 0;
    switch_on(1, MEMORY);
    assert_ok(f->ctx, job(f));
    for (size_t e = 0; e < POL_COUNT(entries); e++)
        calls[e] = sim_calls(entries[e]);
    sim_count_anew();
    for (size_t e = 0; e < POL_COUNT(entries); e++) {
        for (int64_t nth = 1; nth <= calls[e]; nth += nth < 2 || nth >= calls[e] - 1 ? 1 : (calls[e] + 2) / 3) {
            fails_once(f, job, entries[e], nth, code_for(entries[e], (int64_t)e + nth));
            total++;
        }
        if (calls[e])
            fails_once(f, job, entries[e], calls[e], code_for(entries[e], 1));
    }
    assert_true(total > 60);
}

static void the_jobs_call_every_entry(void **state)
{
    fixture *f = *state;
    switch_on(1, MEMORY);
    assert_ok(f->ctx, resident(f));
    assert_ok(f->ctx, streamed(f));
    for (size_t e = 0; e < POL_COUNT(entries); e++)
        if (!sim_calls(entries[e]))
            fail_msg("%s is not called", entries[e]);
}

static void a_job_fails_cleanly(void **state) { each_entry_fails(*state, resident); }
static void a_job_of_streamed_layers_fails_cleanly(void **state) { each_entry_fails(*state, streamed); }
static void a_repair_fails_cleanly(void **state) { each_entry_fails(*state, repair); }

/* What fails on the device shows when it is waited for, and every call after it fails too: up to closing. */
static void the_device_fails(void **state)
{
    static const int codes[] = {cudaErrorECCUncorrectable, cudaErrorLaunchFailure, cudaErrorIllegalAddress,
                                cudaErrorLaunchTimeout, cudaErrorUnknown};
    fixture *f = *state;
    int64_t operations, tried = 0;
    pol_status (*const jobs[])(fixture *) = {resident, streamed, repair};
    for (size_t i = 0; i < POL_COUNT(jobs); i++) {
        pol_status (*const job)(fixture *) = jobs[i];
        switch_on(1, MEMORY);
        assert_ok(f->ctx, job(f));
        operations = sim_counted().operations;
        for (int64_t nth = 1; nth < operations * 4 / 5; nth += 1 + operations / 25, tried++) {
            const int code = codes[tried % (int64_t)POL_COUNT(codes)];
            char number[16];
            switch_on(1, MEMORY);
            snprintf(f->fault, sizeof f->fault, "operation %lld fails with %d", (long long)nth, code);
            snprintf(number, sizeof number, "(%d)", code);
            sim_fail_late(nth, code);
            const pol_status s = job(f);
            if (s != POL_EDEVICE || strncmp(pol_error_text(f->ctx), "cuda: ", 6) != 0 ||
                !strstr(pol_error_text(f->ctx), number))
                fail_msg("%s: %s: %s", f->fault, pol_status_name(s), pol_error_text(f->ctx));
            if (sim_leaks() || sim_counted().misuses)
                fail_msg("%s: %lld left behind, %lld misuses", f->fault, (long long)sim_leaks(),
                         (long long)sim_counted().misuses);
        }
    }
    assert_true(tried > 30);
}

/* What to do is said where CUDA's name for a code does not tell. */
static void sentences_say_what_helps(void **state)
{
    static const struct {
        cudaError_t code;
        const char *name, *part;
    } of[] = {
        {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation (2)", "out of memory; fewer or shorter sequences"},
        {cudaErrorInsufficientDriver, "(35)", "a newer one helps"},
        {cudaErrorDevicesUnavailable, "(46)", "nvidia-smi"},
        {cudaErrorNoKernelImageForDevice, "(209)", "no code that this device"},
        {cudaErrorECCUncorrectable, "(214)", "damaged beyond correction"},
        {cudaErrorIllegalAddress, "(700)", "a kernel failed on the device"},
        {cudaErrorLaunchTimeout, "(702)", "took longer than the driver allows"},
        {cudaErrorLaunchFailure, "(719)", "report it as a bug"},
        {cudaErrorUnknown, "(999)", "dmesg"},
        {cudaErrorInvalidValue, "cudaErrorInvalidValue (1)", ""},
    };
    fixture *f = *state;
    for (size_t i = 0; i < POL_COUNT(of); i++) {
        const pol_status want = i == 0 ? POL_ENOMEM : POL_EDEVICE;
        assert_fails(f->ctx, cu_check(f->ctx, "what", "call", of[i].code), want, of[i].name);
        assert_fails(f->ctx, cu_check(f->ctx, "what", "call", of[i].code), want, of[i].part);
        assert_true(strncmp(pol_error_text(f->ctx), "cuda: what: call: ", 18) == 0);
    }
    assert_int_equal(cu_check(f->ctx, "what", "call", cudaSuccess), POL_OK);
    assert_int_equal(cu_check_lt(f->ctx, "what", "call", CUBLAS_STATUS_SUCCESS), POL_OK);
}

/* ---- the host's memory ---- */

typedef struct limited {
    int64_t left, live;
} limited;

static void *limited_realloc(void *user, void *block, size_t bytes)
{
    limited *l = user;
    if (l->left-- <= 0)
        return NULL;
    l->live += block == NULL;
    return realloc(block, bytes);
}

static void limited_free(void *user, void *block)
{
    ((limited *)user)->live--;
    free(block);
}

static pol_status small_job(pol_context *ctx)
{
    pol_backend *be;
    pol_buf *b = NULL;
    bool replayed;
    float x = 1;
    POL_TRY(pol_cuda_open(ctx, 0, NULL, &be));
    pol_status s = pol_reserve(be, 1024);
    if (s == POL_OK)
        s = pol_buf_new(be, POL_F32, 1, &b);
    if (s == POL_OK)
        s = pol_pass_begin(be, "key", 3, &replayed);
    if (s == POL_OK)
        s = pol_pass_end(be, POL_OK);
    if (s == POL_OK)
        s = pol_upload(be, b, 0, &x, 1);
    if (s == POL_OK)
        s = pol_download(be, b, 0, &x, 1);
    pol_buf_free(be, b);
    pol_backend_close(be);
    return s;
}

static void host_memory_runs_out(void **state)
{
    (void)state;
    limited l;
    pol_context *ctx;
    pol_status s = POL_ENOMEM;
    switch_on(1, MEMORY);
    for (int64_t n = 1; s == POL_ENOMEM; n++) {
        l = (limited){.left = n};
        assert_int_equal(
            pol_context_new(&(pol_allocator){.user = &l, .realloc = limited_realloc, .free = limited_free}, &ctx),
            POL_OK);
        s = small_job(ctx);
        pol_context_free(ctx);
        assert_int_equal(l.live, 0);
        assert_clean();
        assert_true(n < 100 && (s == POL_OK) == (n > 6)); /* context, backend, products, staging, passes, buffer, key */
    }
    assert_int_equal(s, POL_OK);
}

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    assert_int_equal(pol_context_new(NULL, &f->ctx), POL_OK);
    assert_ok(f->ctx, pol_source_open(f->ctx, test_file("models/llama-linear-bias"), &f->src));
    assert_ok(f->ctx, pol_units_new(f->ctx, pol_source_config(f->src), &f->units));
    const int64_t blocks = f->units->n_of[POL_UNIT_GROUP] + f->units->n_of[POL_UNIT_CHANNEL];
    for (int m = 0; m < 2; m++) {
        f->mask[m] = malloc((size_t)f->units->n);
        for (int64_t i = 0; i < f->units->n; i++)
            f->mask[m][i] = i >= blocks || i % 3 != m;
    }
    const int32_t vocab = pol_source_config(f->src)->vocab;
    for (int p = 0; p < PASSES; p++)
        for (int i = 0; i < B * S; i++)
            f->ids[p][i] = (i * 7 + p * 11) % vocab;
    switch_on(1, MEMORY);
    f->learning = true;
    assert_ok(f->ctx, resident(f));
    f->learning = false;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    free(f->mask[0]);
    free(f->mask[1]);
    pol_units_free(f->units);
    pol_source_close(f->src);
    pol_context_free(f->ctx);
    free(f);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_jobs_call_every_entry),
        cmocka_unit_test(a_job_fails_cleanly),
        cmocka_unit_test(a_job_of_streamed_layers_fails_cleanly),
        cmocka_unit_test(a_repair_fails_cleanly),
        cmocka_unit_test(the_device_fails),
        cmocka_unit_test(sentences_say_what_helps),
        cmocka_unit_test(host_memory_runs_out),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
