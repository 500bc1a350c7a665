/* bench_start.c - what the caches of built programs save at the start of the OpenCL backend: seconds from the start of
 * a process to its first forward pass, each start a process of its own, by what the caches hold:
 *
 *   first     both are empty
 *   second    as the first one left them
 *   ours      the program cache as the first one left it, the driver's empty: what is left is CLBlast's, which builds
 * its programs itself driver's  the driver's as the first one left it, no program cache
 *
 * Ratios are taken within a round, all of which begins with new folders. A driver that keeps its cache where none of
 * the variables below leads never has it empty: `first` and `ours` are then too good.
 *
 *   bench_start MODEL [--rounds 3] [--device 0]
 */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"
#include "core/base/file.h"
#include "pollard/pollard.h"

enum { MAX_ROUNDS = 32, B = 4, S = 32, PATH = 256 };

static const char *const driver_variables[] = {"POCL_CACHE_DIR", "CUDA_CACHE_PATH", "XDG_CACHE_HOME"};

/* The child: opens, loads, one forward pass; prints the seconds since `start`, a bench_seconds() of the parent. */
static pol_status first_pass(pol_context *ctx, const char *model_path, const char *device)
{
    pol_source *src = NULL;
    pol_backend *be = NULL;
    pol_model *model = NULL;
    pol_forward *forward = NULL;
    int32_t ids[B * S];
    double loss[B];
    pol_status s = pol_source_open(ctx, model_path, &src);
    if (s == POL_OK)
        s = pol_backend_open(ctx, &(pol_backend_options){.name = "opencl", .device = device}, &be);
    if (s == POL_OK)
        s = pol_model_load(src, be, NULL, &model);
    if (s == POL_OK)
        s = pol_forward_new(model, B * S, S, &forward);
    for (int i = 0; s == POL_OK && i < B * S; i++)
        ids[i] = (int32_t)((i * 7919 + 13) % pol_model_config(model)->vocab);
    if (s == POL_OK)
        s = pol_forward_nll(forward, ids, B, S, NULL, loss);
    pol_forward_free(forward);
    pol_model_free(model);
    pol_backend_close(be);
    pol_source_close(src);
    return s;
}

static int child_main(const char *model, const char *device, double start)
{
    pol_context *ctx;
    if (pol_context_new(NULL, &ctx) < 0)
        return 1;
    const pol_status s = first_pass(ctx, model, device);
    if (s < 0)
        fprintf(stderr, "bench_start: %s\n", pol_error_text(ctx));
    else
        printf("%.6f\n", bench_seconds() - start);
    pol_context_free(ctx);
    return s < 0;
}

typedef struct settings {
    const char *model, *device;
    int rounds;
} settings;

/* A start with these folders, `ours` "" for no program cache: its seconds, below 0 where it failed. */
static double start_process(const settings *o, const char *ours, const char *drivers)
{
    int ends[2];
    char start[32], answer[64] = "";
    if (pipe(ends) < 0)
        return -1;
    snprintf(start, sizeof start, "%.6f", bench_seconds());
    const pid_t child = fork();
    if (child == 0) {
        setenv("POLLARD_CACHE_DIR", ours, 1);
        for (size_t i = 0; i < POL_COUNT(driver_variables); i++)
            setenv(driver_variables[i], drivers, 1);
        dup2(ends[1], STDOUT_FILENO);
        execl("/proc/self/exe", "bench_start", o->model, "--device", o->device, "--child", start, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    FILE *f = fdopen(ends[0], "r");
    int status = 1;
    if (f && !fgets(answer, sizeof answer, f))
        answer[0] = 0;
    if (f)
        fclose(f);
    if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0 || !answer[0])
        return -1;
    return atof(answer);
}

typedef struct times {
    double first, second, ours, drivers;
} times;

static bool run_round(const settings *o, const char *dir, int round, times *t)
{
    char ours[PATH], driver_kept[PATH], driver_new[PATH];
    snprintf(ours, sizeof ours, "%s/ours-%d", dir, round);
    snprintf(driver_kept, sizeof driver_kept, "%s/kept-%d", dir, round);
    snprintf(driver_new, sizeof driver_new, "%s/new-%d", dir, round);
    t->first = start_process(o, ours, driver_kept);
    t->second = t->first < 0 ? -1 : start_process(o, ours, driver_kept);
    t->ours = t->second < 0 ? -1 : start_process(o, ours, driver_new);
    t->drivers = t->ours < 0 ? -1 : start_process(o, "", driver_kept);
    return t->drivers >= 0;
}

static void report(const char *name, const times *t, int n, size_t which)
{
    double seconds[MAX_ROUNDS], ratio[MAX_ROUNDS];
    for (int i = 0; i < n; i++) {
        memcpy(&seconds[i], (const char *)&t[i] + which, sizeof *seconds);
        ratio[i] = seconds[i] / t[i].first;
    }
    printf("%-10s %8.3f s   %.3f of the first\n", name, pol_bench_median(seconds, n), pol_bench_median(ratio, n));
}

static int measure(const settings *o, const char *dir)
{
    times t[MAX_ROUNDS];
    for (int i = 0; i < o->rounds; i++)
        if (!run_round(o, dir, i, &t[i]))
            return 1;
    printf("%s: medians of %d rounds\n", o->model, o->rounds);
    report("first", t, o->rounds, offsetof(times, first));
    report("second", t, o->rounds, offsetof(times, second));
    report("ours", t, o->rounds, offsetof(times, ours));
    report("driver's", t, o->rounds, offsetof(times, drivers));
    return 0;
}

int main(int argc, char **argv)
{
    settings o = {.rounds = 3, .device = "0"};
    const char *start = NULL;
    for (int i = 1; i < argc; i++) {
        const char *v = i + 1 < argc ? argv[i + 1] : "";
        if (argv[i][0] != '-') {
            o.model = argv[i];
            continue;
        }
        if (!strcmp(argv[i], "--rounds"))
            o.rounds = atoi(v);
        else if (!strcmp(argv[i], "--device"))
            o.device = v;
        else if (!strcmp(argv[i], "--child"))
            start = v;
        i++;
    }
    if (!o.model || o.rounds < 1 || o.rounds > MAX_ROUNDS) {
        fputs("usage: bench_start MODEL [--rounds 3] [--device 0]\n", stderr);
        return 2;
    }
    if (start)
        return child_main(o.model, o.device, atof(start));
    char dir[] = "/tmp/bench-start-XXXXXX";
    pol_context *ctx;
    if (!mkdtemp(dir) || pol_context_new(NULL, &ctx) < 0)
        return 1;
    const int failed = measure(&o, dir);
    if (pol_remove_tree(ctx, dir) < 0)
        fprintf(stderr, "bench_start: %s\n", pol_error_text(ctx));
    pol_context_free(ctx);
    return failed;
}
