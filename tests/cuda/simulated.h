/* simulated.h - the program with simulated devices: sim/sim_control.h has the variables that steer them. */
#ifndef POL_TEST_CUDA_SIMULATED_H
#define POL_TEST_CUDA_SIMULATED_H

#include "tests/cli/same_run.h"
#include "tests/cli/stopping.h"

/* Small: a simulated device computes a thousand tokens in some seconds. Two passes of a mask, four of a step. */
enum { STEPS = 4 };
#define SETTINGS                                                                                                        \
    "@model --data @calibration --method units --no-repair --keep 0.7 --seq-len 8 --granularity heads,channels,blocks " \
    "--mask-samples 2 --sequences-per-mask 3 --batch 2 --held-out 2 --init-sequences 2 --steps 4 --eval-every 2 "       \
    "--lr 0.05 --select last --checkpoint-every 1 --threads 1 "

static inline void forget_simulation(void)
{
    static const char *const names[] = {"POLLARD_SIM_DEVICES", "POLLARD_SIM_MEMORY", "POLLARD_SIM_ARCH",
                                        "POLLARD_SIM_SEED",    "POLLARD_SIM_FAIL",   "POLLARD_SIM_REPORT"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unsetenv(names[i]);
}

static inline int simulated_setup(void **state)
{
    forget_simulation();
    return cli_setup(state) || setenv("POLLARD_MODULE_DIR", POL_TEST_SIM_MODULE, 1);
}

/* A call under a variable, which is then gone again. */
static inline int call_under(cli *t, const char *name, const char *value, const char *call)
{
    setenv(name, value, 1);
    const int code = pollard(t, call);
    unsetenv(name);
    return code;
}

#define assert_call_under(t, name, value, code, call)                                                 \
    do {                                                                                              \
        const int under_code_ = call_under(t, name, value, call);                                     \
        if (under_code_ != (code))                                                                    \
            fail_msg("%s=%s pollard %s: exit code %d: %s", name, value, call, under_code_, (t)->err); \
    } while (0)

/* A number of the simulator's report @/NAME; 0 where it has none. */
static inline int64_t reported(const cli *t, const char *name, const char *what)
{
    char *report = slurp(path(t, name), NULL), key[80];
    int64_t n = 0;
    snprintf(key, sizeof key, "%s ", what);
    for (const char *line = report; *line; line = strchr(line, '\n') + 1)
        if (!strncmp(line, key, strlen(key)))
            n = atoll(line + strlen(key));
    free(report);
    return n;
}

/* What the simulator calls a mistake it has not seen, and all that was taken was given back. */
static inline void assert_clean_report(const cli *t, const char *name)
{
    assert_true(reported(t, name, "launches") > 0);
    assert_int_equal(reported(t, name, "misuses"), 0);
    assert_int_equal(reported(t, name, "leaks"), 0);
    assert_int_equal(reported(t, name, "pageable_copies"), 0);
}

/* One number of a step of a run's log. */
static inline double logged(const cli *t, const char *run, int step, const char *what)
{
    json_t *lines = timeless_log(t, run);
    assert_true((size_t)step < json_array_size(lines));
    const double x = num(json_array_get(lines, (size_t)step), what);
    json_decref(lines);
    return x;
}

#endif
