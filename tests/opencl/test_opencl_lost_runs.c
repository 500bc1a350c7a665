/* test_opencl_lost_runs.c - runs of the program under which the device fails: what it says, and that the run goes on
 * from its last checkpoint and ends where it would have ended. The shim is preloaded (shim.h). */
#include "tests/cli/stopping.h"
#include "tests/opencl/need_device.h"

enum { STEPS = 12 };

#define RUN                                                                                                                              \
    "prune @model --method units --no-repair --data @calibration --seq-len 64 --held-out 16 --init-sequences 16 --threads 1 --steps 12 " \
    "--mask-samples 4 --keep 0.6 --lr 0.05 --checkpoint-every 1 --quiet "

/* ---- the program under the shim ---- */

/* The leak checker itself dies at times when the program ends and a thread of the driver with it. That says nothing of
 * the program; none of these calls goes on with a run, so it can be made again. */
static bool checker_died(cli *t, const char *call)
{
    if (!strstr(t->err, "LeakSanitizer has encountered a fatal error"))
        return false;
    const char *out = strstr(call, "--out @/");
    if (out)
        (void)pol_remove_tree(t->ctx, path(t, out + strlen("--out @/")));
    return true;
}

/* `fail` as POLLARD_SHIM_FAIL, or NULL. A call ends with its --out. */
static int shimmed(cli *t, const char *call, const char *fail)
{
    int code, calls = 0;
    setenv("LD_PRELOAD", POL_TEST_SHIM, 1);
    if (fail)
        setenv("POLLARD_SHIM_FAIL", fail, 1);
    do
        code = pollard(t, call);
    while (checker_died(t, call) && ++calls < 3);
    unsetenv("LD_PRELOAD");
    unsetenv("POLLARD_SHIM_FAIL");
    return code;
}

/* Calls of an entry in a run that goes well, which is @/whole. Of transfers: launches are repeated where a run measures
 * how long they take. */
static long long calls_of(const cli *t, const char *entry)
{
    char *counts = slurp(path(t, "counts"), NULL), line[64];
    snprintf(line, sizeof line, "%s ", entry);
    const char *at_line = strstr(counts, line);
    const long long n = at_line ? atoll(at_line + strlen(line)) : 0;
    free(counts);
    assert_true(n > 2);
    return n;
}

static int lost_setup(void **state)
{
    if (cli_setup(state))
        return -1;
    cli *t = *state;
    /* A sanitizer's library wants to be the first; it need not be. */
    setenv("ASAN_OPTIONS", "verify_asan_link_order=0", 1);
    setenv("POLLARD_CACHE_DIR", path(t, "cache"), 1);
    setenv("POLLARD_SHIM_COUNTS", path(t, "counts"), 1);
    return 0;
}

static int lost_teardown(void **state)
{
    unsetenv("ASAN_OPTIONS");
    unsetenv("POLLARD_CACHE_DIR");
    unsetenv("POLLARD_SHIM_COUNTS");
    unsetenv("POLLARD_SHIM_LOG");
    return cli_teardown(state);
}

/* The run without a fault, @/whole; skips where there is no device. */
static void run_whole(cli *t)
{
    need_device(t);
    if (shimmed(t, RUN "--backend opencl --out @/whole", NULL) != 0)
        fail_msg("the run without a fault: %s", t->err);
}

/* One line of ours, which has all `parts`; CLBlast says something of its own faults before. */
static void assert_said(const cli *t, const char *const *parts)
{
    int ours = 0;
    for (const char *line = t->err; *line; line = strchr(line, '\n') + 1) {
        const bool theirs = !strncmp(line, "CLBlast: ", 9);
        ours += !theirs;
        if (!theirs && strncmp(line, "pollard ", 8) != 0)
            fail_msg("it said: %s", t->err);
    }
    assert_int_equal(ours, 1);
    for (; *parts; parts++)
        assert_says(t->err, *parts);
    assert_string_equal(t->out, "");
}

#define said(t, ...) assert_said(t, (const char *const[]){__VA_ARGS__, NULL})

static double last_loss(const cli *t, const char *run)
{
    char name[64];
    snprintf(name, sizeof name, "%s/log.jsonl", run);
    char *log = slurp(path(t, name), NULL), *line = log;
    assert_int_equal(lines_of(log), STEPS);
    for (int i = 1; i < STEPS; i++)
        line = strchr(line, '\n') + 1;
    json_t *j = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);
    const double loss = num(j, "loss");
    json_decref(j);
    free(log);
    return loss;
}

/* ---- in the middle of learning ---- */

/* The run is begun, fails there and goes on without the shim, once here and once on the CPU. */
static void fails_and_goes_on(cli *t, const char *fault, const char *part)
{
    const int code = shimmed(t, RUN "--backend opencl --out @/run", fault);
    if (code != 1)
        fail_msg("%s: exit code %d: %s", fault, code, t->err);
    said(t, "pollard prune: opencl: ", part);
    if (!log_has(t, "run", 1) || log_has(t, "run", STEPS))
        fail_msg("%s: that was not in the middle of learning", fault);
    assert_true(there(t, "run/checkpoint.bin") && !there(t, "run/mask.json"));
    assert_int_equal(pollard(t, "inspect @/run"), 3); /* no run with a result, and says so */

    char copy[256];
    snprintf(copy, sizeof copy, "cp -r '%s' '%s'", path(t, "run"), path(t, "on-cpu"));
    assert_int_equal(system(copy), 0);
    assert_call(t, 0, RUN "--backend opencl --out @/run --resume");
    assert_same_file(t, "whole/mask.json", "run/mask.json");
    assert_same_file(t, "whole/initial-mask.json", "run/initial-mask.json");
    assert_call(t, 0, RUN "--backend cpu --out @/on-cpu --resume");
    assert_near(last_loss(t, "on-cpu") / last_loss(t, "whole"), 1, 1e-5);
    assert_ok(t->ctx, pol_remove_tree(t->ctx, path(t, "run")));
    assert_ok(t->ctx, pol_remove_tree(t->ctx, path(t, "on-cpu")));
}

static void a_run_whose_device_fails_goes_on(void **state)
{
    static const struct {
        const char *entry, *how, *part;
    } faults[] = {
        {"clEnqueueReadBuffer", "*:-36", "CL_INVALID_COMMAND_QUEUE (-36)"}, /* lost */
        {"clEnqueueWriteBuffer", "+:-2", "CL_DEVICE_NOT_AVAILABLE (-2)"},   /* lost, said in other words */
        {"clEnqueueWriteBuffer", ":-4", "CL_MEM_OBJECT_ALLOCATION_FAILURE (-4)"},
        {"clEnqueueReadBuffer", ":-5", "CL_OUT_OF_RESOURCES (-5)"},
        {"clEnqueueReadBuffer", ":-14", "CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST (-14)"}, /* late */
        {"clEnqueueReadBuffer", ":-9999", "(-9999)"},
    };
    cli *t = *state;
    run_whole(t);
    char *counts = slurp(path(t, "counts"), NULL);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        char fault[64];
        spill_text(t, "counts", counts); /* a run that fails has written its own */
        snprintf(fault, sizeof fault, "%s:%lld%s", faults[i].entry, calls_of(t, faults[i].entry) / 2, faults[i].how);
        fails_and_goes_on(t, fault, faults[i].part);
    }
    free(counts);
}

/* ---- at the start ---- */

static void a_build_that_fails_shows_the_log(void **state)
{
    cli *t = *state;
    need_device(t);
    setenv("POLLARD_SHIM_LOG", "embed.cl:5:9: error: something is wrong\n  int c;\n      ^\n", 1);
    static const char *const eval = "eval @model --text @held-out --backend opencl";
    assert_int_equal(shimmed(t, eval, "clBuildProgram:1+:-11"), 1);
    assert_says(t->err, "opencl: embed: clBuildProgram: CL_BUILD_PROGRAM_FAILURE (-11): "
                        "embed.cl:5:9: error: something is wrong\n");
    assert_says(t->err, "  int c;\n"); /* and the rest of it */
    assert_string_equal(t->out, "");
    /* A run multiplies first, to see how long it will take: there it is CLBlast's program that fails. */
    assert_int_equal(shimmed(t, RUN "--backend opencl --out @/run", "clBuildProgram:1+:-11"), 1);
    assert_says(t->err, "pollard prune: opencl: project: CLBlast");
    assert_says(t->err, "CL_BUILD_PROGRAM_FAILURE (-11)\n");
    assert_says(t->out, "embed.cl:5:9: error: something is wrong\n"); /* which CLBlast shows by itself, there */
    assert_false(there(t, "run"));
}

static void a_device_that_is_lost_at_the_start_is_an_error(void **state)
{
    static const char *const faults[] = {"clCreateContext:1:-2",       "clCreateContext:1:-9999",
                                         "clCreateCommandQueue:1:-6",  "clCreateBuffer:3:-4",
                                         "clEnqueueWriteBuffer:2:-36", "any:60+:-36"};
    cli *t = *state;
    need_device(t);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        const int code = shimmed(t, RUN "--backend opencl --out @/run", faults[i]);
        if (code != 1)
            fail_msg("%s: exit code %d: %s", faults[i], code, t->err);
        said(t, "pollard prune: opencl: ", strrchr(faults[i], ':') + 1);
        assert_false(there(t, "run"));
    }
}

/* A driver that does not even list its devices, or not what they are, is no wrong usage. */
static void a_driver_that_does_not_answer_is_an_error(void **state)
{
    static const struct {
        const char *fault, *said;
        int code;
    } faults[] = {
        {"clGetPlatformIDs:1+:-9999", "backend opencl: clGetPlatformIDs gives no known code (-9999)", 1},
        {"clGetDeviceIDs:1+:-6", "clGetDeviceIDs gives CL_OUT_OF_HOST_MEMORY (-6)", 1},
        {"clGetDeviceInfo:1+:-2", "it does not answer: clGetDeviceInfo: CL_DEVICE_NOT_AVAILABLE (-2)", 3},
    };
    cli *t = *state;
    need_device(t);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        const int code = shimmed(t, "eval @model --text @held-out --backend opencl --quiet", faults[i].fault);
        if (code != faults[i].code)
            fail_msg("%s: exit code %d: %s", faults[i].fault, code, t->err);
        said(t, faults[i].said);
        assert_int_equal(shimmed(t, "devices", faults[i].fault), 0); /* where it is said, beside the other backends */
        assert_says(t->out, faults[i].said + (i ? 0 : strlen("backend opencl: ")));
        assert_int_equal(shimmed(t, "eval @model --text @held-out --backend cpu --quiet", faults[i].fault), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_run_whose_device_fails_goes_on, lost_setup, lost_teardown),
        cmocka_unit_test_setup_teardown(a_build_that_fails_shows_the_log, lost_setup, lost_teardown),
        cmocka_unit_test_setup_teardown(a_device_that_is_lost_at_the_start_is_an_error, lost_setup, lost_teardown),
        cmocka_unit_test_setup_teardown(a_driver_that_does_not_answer_is_an_error, lost_setup, lost_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
