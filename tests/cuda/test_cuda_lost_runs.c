/* test_cuda_lost_runs.c - runs of the program under which a simulated device fails: what it says, and that the run goes
 * on from its last checkpoint and ends where it would have ended.
 */
#include "tests/cuda/simulated.h"

#define RUN "prune " SETTINGS "--quiet "

/* What a call failed with: one line, which has all parts. */
#define said(t, ...)                                                          \
    do {                                                                      \
        const char *const said_[] = {__VA_ARGS__, NULL};                      \
        if (lines_of((t)->err) != 1 || strncmp((t)->err, "pollard ", 8) != 0) \
            fail_msg("it said: %s", (t)->err);                                \
        for (int said_i_ = 0; said_[said_i_]; said_i_++)                      \
            assert_says((t)->err, said_[said_i_]);                            \
        assert_string_equal((t)->out, "");                                    \
    } while (0)

/* ENTRY:NTH:CODE of sim_fail(); whose number in a run that goes well is the report's of `counted`. */
typedef struct fault {
    const char *entry, *counted;
    int code;
    const char *part; /* of what is said */
} fault;

static const fault ecc = {"late", "operations", 214, "cudaErrorECCUncorrectable (214): the device's memory is damaged"};

static bool in_the_middle(const cli *t) { return log_has(t, "run", 1) && !log_has(t, "run", STEPS); }

/* Makes @/run by a call that the fault ends in the middle of learning, about half way of the one that @/report is of:
 * not to the operation, because a run measures how long products take as often as it finds time to. */
static void lose(cli *t, const fault *f, const char *call)
{
    const int64_t n = reported(t, "report", f->counted);
    assert_true(n > 100);
    for (int64_t tenths = 5; tenths < 10; tenths++) {
        char variable[64];
        snprintf(variable, sizeof variable, "%s:%lld:%d", f->entry, (long long)(n * tenths / 10), f->code);
        const int code = call_under(t, "POLLARD_SIM_FAIL", variable, call);
        if (code == 1 && in_the_middle(t)) {
            said(t, "pollard prune: cuda", f->part);
            assert_true(there(t, "run/checkpoint.bin") && !there(t, "run/mask.json"));
            json_t *run = load_json(t, "run/run.json");
            assert_string_equal(text(run, "status"), "failed");
            json_decref(run);
            return;
        }
        assert_ok(t->ctx, pol_remove_tree(t->ctx, path(t, "run")));
    }
    fail_msg("no fault of %s was in the middle of learning", f->entry);
}

static void a_run_whose_device_fails_goes_on(void **state)
{
    const fault faults[] = {
        {"launch", "launch", 719, "cudaErrorLaunchFailure (719): a kernel failed on the device"},
        {"cudaMemcpyAsync", "cudaMemcpyAsync", 999, "cudaErrorUnknown (999): the driver may have lost the device"},
        ecc,
    };
    cli *t = *state;
    assert_call_under(t, "POLLARD_SIM_REPORT", path(t, "report"), 0, RUN "--backend cuda --out @/whole");
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        lose(t, &faults[i], RUN "--backend cuda --out @/run");
        assert_int_equal(pollard(t, "inspect @/run"), 3); /* no run with a result, and says so */
        assert_call(t, 0, RUN "--backend cuda --out @/run --resume");
        assert_same_numbers(t, "whole", "run");
        assert_ok(t->ctx, pol_remove_tree(t->ctx, path(t, "run")));
    }
}

/* Masks of steps that are yet to come depend on the losses before, which differ a little; of the next they do not. */
static void the_cpu_goes_on(void **state)
{
    cli *t = *state;
    assert_call_under(t, "POLLARD_SIM_REPORT", path(t, "report"), 0, RUN "--backend cuda --out @/whole");
    lose(t, &ecc, RUN "--backend cuda --out @/run");
    int done = 1;
    while (log_has(t, "run", done + 1))
        done++;
    assert_call(t, 0, RUN "--backend cpu --weights f32 --out @/run --resume");
    assert_true(there(t, "run/mask.json"));
    assert_true(logged(t, "run", done, "kept") == logged(t, "whole", done, "kept"));
    assert_near(logged(t, "run", done, "loss") / logged(t, "whole", done, "loss"), 1, 5e-3);
}

/* The device is named, and the other goes on alone. */
static void one_of_two_fails(void **state)
{
    cli *t = *state;
    setenv("POLLARD_SIM_DEVICES", "2", 1);
    assert_call_under(t, "POLLARD_SIM_REPORT", path(t, "report"), 0, RUN "--device all --out @/whole");
    lose(t, &ecc, RUN "--device all --out @/run");
    assert_says(t->err, " (Simulated sm_80): cuda: ");
    const bool second = strstr(t->err, "prune: cuda 1 (") != NULL;
    assert_true(second || strstr(t->err, "prune: cuda 0 ("));
    assert_call(t, 0,
                second ? RUN "--backend cuda --device 0 --resume --out @/run"
                       : RUN "--backend cuda --device 1 --resume --out @/run");
    assert_same_numbers(t, "whole", "run");
}

/* Nothing is left behind. */
static void a_failure_at_the_start_is_an_error(void **state)
{
    static const struct {
        const char *fault, *part;
    } faults[] = {
        {"cudaMalloc:2:2", "cudaMalloc: cudaErrorMemoryAllocation (2): the device is out of memory; fewer or shorter"},
        {"cudaHostAlloc:1:2", "cudaHostAlloc: cudaErrorMemoryAllocation (2)"},
        {"cudaStreamCreateWithPriority:2:46", "cudaStreamCreateWithPriority: cudaErrorDevicesUnavailable (46)"},
        {"cublasLtCreate:1:1", "cublasLtCreate: CUBLAS_STATUS_NOT_INITIALIZED (1)"},
        {"cudaMemcpyAsync:2:214", "cudaErrorECCUncorrectable (214)"},
        {"launch:3:209", "cudaErrorNoKernelImageForDevice (209): the library holds no code"},
        {"late:20:700", "cudaErrorIllegalAddress (700)"},
    };
    cli *t = *state;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        assert_call_under(t, "POLLARD_SIM_FAIL", faults[i].fault, 1, RUN "--backend cuda --out @/run");
        said(t, "pollard prune: cuda: ", faults[i].part);
        assert_false(there(t, "run"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_run_whose_device_fails_goes_on, simulated_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(the_cpu_goes_on, simulated_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(one_of_two_fails, simulated_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_failure_at_the_start_is_an_error, simulated_setup, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
