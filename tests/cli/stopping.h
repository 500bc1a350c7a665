/* stopping.h - catches a run in the middle: holds it, sends it a signal. */
#ifndef POL_TEST_STOPPING_H
#define POL_TEST_STOPPING_H

#include <time.h>

#include "tests/cli/program.h"

static inline void sleep_us(int64_t us)
{
    const struct timespec time = {us / 1000000, us % 1000000 * 1000};
    nanosleep(&time, NULL);
}

static inline bool log_has(const cli *t, const char *run, int lines)
{
    char name[64];
    snprintf(name, sizeof name, "%s/log.jsonl", run);
    if (!there(t, name))
        return false;
    char *log = slurp(path(t, name), NULL);
    const int n = lines_of(log);
    free(log);
    return n >= lines;
}

static inline bool has_ended(pid_t pid)
{
    siginfo_t info = {0};
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT), 0);
    return info.si_pid == pid;
}

/* Holds a process; false where it has ended before. A signal sent meanwhile takes effect with SIGCONT. */
static inline bool hold(pid_t pid)
{
    siginfo_t info = {0};
    kill(pid, SIGSTOP);
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WSTOPPED | WNOWAIT), 0);
    return info.si_code == CLD_STOPPED;
}

/* The call, which makes the run @/RUN, held after so many steps or a few more. One that was done before is begun
 * again. */
static inline pid_t held_after(cli *t, const char *call, const char *run, int steps)
{
    for (int tries = 0; tries < 50; tries++) {
        const pid_t pid = start(t, call);
        while (!log_has(t, run, steps) && !has_ended(pid))
            sleep_us(200);
        if (hold(pid))
            return pid;
        assert_int_equal(finish(t, pid), 0);
        assert_ok(t->ctx, pol_remove_tree(t->ctx, path(t, run)));
    }
    fail_msg("no run could be held after %d steps", steps);
    return 0;
}

/* Sends a held process a signal and lets it go on: its exit code. */
static inline int signalled(cli *t, pid_t pid, int number)
{
    kill(pid, number);
    kill(pid, SIGCONT);
    return finish(t, pid);
}

#endif
