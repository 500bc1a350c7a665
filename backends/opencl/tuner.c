/* tuner.c - running a tuner: a child in a folder of its own, watched until it ends or its time is up. */
#include "backends/opencl/tuner.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/file.h"

extern char **environ;

enum { RESULT_MOST = 64 << 20, MOST_ARGS = 16, NUMBER = 24 };

double ocl_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Words of the call; `numbers` holds those that are numbers. */
typedef struct words {
    char numbers[MOST_ARGS][NUMBER];
    char *argv[MOST_ARGS + 1];
    int n;
} words;

static void add_option(words *w, const char *name, int64_t value)
{
    w->argv[w->n++] = (char *)name; /* argv is not written to */
    snprintf(w->numbers[w->n], NUMBER, "%lld", (long long)value);
    w->argv[w->n] = w->numbers[w->n];
    w->n++;
}

static void make_words(const ocl_tuner *t, const ocl_tuner_call *c, words *w)
{
    memset(w, 0, sizeof *w);
    w->argv[w->n++] = (char *)t->program;
    add_option(w, "-platform", c->platform);
    add_option(w, "-device", c->device);
    add_option(w, "-precision", 32);
    add_option(w, "-m", c->m);
    add_option(w, "-n", c->n);
    if (c->k)
        add_option(w, "-k", c->k);
    add_option(w, "-fraction", c->fraction);
}

/* What it prints is the file `log` of the folder: thousands of lines. */
static int start(const ocl_tuner *t, const ocl_tuner_call *c, const char *dir, pid_t *pid)
{
    words w;
    posix_spawn_file_actions_t actions;
    make_words(t, c, &w);
    int e = posix_spawn_file_actions_init(&actions);
    if (e)
        return e;
    e = posix_spawn_file_actions_addchdir_np(&actions, dir);
    if (!e)
        e = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!e)
        e = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "log", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (!e)
        e = posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    if (!e)
        e = posix_spawnp(pid, t->program, &actions, NULL, w.argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return e;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL); /* it keeps nothing that it would want to save */
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

static pol_status watch(pol_context *ctx, const ocl_tuner *t, const ocl_tuner_call *c, pid_t pid)
{
    const struct timespec pause = {0, 20 * 1000 * 1000};
    const double until = ocl_seconds() + c->seconds;
    for (;;) {
        int status;
        const pid_t ended = waitpid(pid, &status, WNOHANG);
        if (ended < 0 && errno != EINTR)
            return pol_fail(ctx, POL_EIO, "%s: %s", t->program, strerror(errno));
        if (ended == pid && WIFSIGNALED(status))
            pol_log(ctx, POL_LOG_WARN, "%s ended by signal %d; what it had found until then is used", t->program,
                    WTERMSIG(status));
        else if (ended == pid && WEXITSTATUS(status))
            pol_log(ctx, POL_LOG_WARN, "%s ended with code %d; what it had found until then is used", t->program,
                    WEXITSTATUS(status));
        if (ended == pid)
            return POL_OK;
        const pol_status stop = pol_check_stop(ctx);
        if (stop < 0 || ocl_seconds() > until) {
            end(pid);
            if (stop == POL_OK)
                pol_log(ctx, POL_LOG_WARN, "%s took too long and was ended; what it had found until then is used",
                        t->program);
            return stop;
        }
        nanosleep(&pause, NULL);
    }
}

static void read_results(pol_context *ctx, const ocl_tuner *t, const char *dir, ocl_tuner_part out[OCL_TUNER_PARTS],
                         int *n)
{
    /* As CLBlast names the parts: fixed and random sets of the first form of the kernel, then of the second. */
    static const char *const parts[OCL_TUNER_PARTS + 1] = {"", "_1", "_2", "_11", "_12"};
    *n = 0;
    for (int i = 0; i < OCL_TUNER_PARTS + 1 && *n < OCL_TUNER_PARTS; i++) {
        char *path = pol_format(ctx, "%s/clblast_%s%s_32.json", dir, t->family, parts[i]);
        pol_bytes text = {0};
        if (path && pol_path_exists(path)) {
            ocl_tuner_part *part = &out[*n];
            if (pol_file_read(ctx, path, RESULT_MOST, &text) == POL_OK &&
                ocl_tuner_result(ctx, path, text.data ? text.data : "", text.len, &part->parameters,
                                 &part->milliseconds) == POL_OK)
                (*n)++;
            else
                pol_log(ctx, POL_LOG_WARN, "%s: its result is passed over: %s", t->program, pol_error_text(ctx));
        }
        pol_bytes_free(&text);
        pol_free(ctx, path);
    }
}

static pol_status run_in(pol_context *ctx, const ocl_tuner *t, const ocl_tuner_call *call, const char *dir,
                         ocl_tuner_part out[OCL_TUNER_PARTS], int *n)
{
    pid_t pid;
    const int e = start(t, call, dir, &pid);
    if (e == ENOENT)
        return pol_fail(ctx, POL_EUNSUPPORTED,
                        "%s is not on the PATH: CLBlast's tuners are programs of their own, in Debian's and Ubuntu's "
                        "package clblast-utils",
                        t->program);
    if (e)
        return pol_fail(ctx, POL_EIO, "%s cannot be started: %s", t->program, strerror(e));
    POL_TRY(watch(ctx, t, call, pid));
    read_results(ctx, t, dir, out, n);
    return POL_OK;
}

pol_status ocl_tuner_run(pol_context *ctx, const char *folder, const ocl_tuner *t, const ocl_tuner_call *call,
                         ocl_tuner_part out[OCL_TUNER_PARTS], int *n)
{
    *n = 0;
    char *dir = pol_path_join(ctx, folder, "tune-XXXXXX");
    if (!dir)
        return POL_ENOMEM;
    pol_status s = POL_OK;
    if (!mkdtemp(dir))
        s = pol_fail(ctx, POL_EIO, "%s: a temporary folder cannot be made: %s", dir, strerror(errno));
    if (s == POL_OK) {
        s = run_in(ctx, t, call, dir, out, n);
        const pol_status removed = pol_remove_tree(ctx, dir);
        s = s < 0 ? s : removed;
    }
    pol_free(ctx, dir);
    return s;
}
