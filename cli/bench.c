/* bench.c - `pollard bench`: how fast a model goes on this machine's devices; --tune-opencl makes it faster on one. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "pollard/json.h"

typedef struct bench_args {
    pol_bench_settings settings;
    int64_t threads;
    double tune_minutes;
    int weights;
    bool tune, json, quiet, verbose;
} bench_args;

enum { N_OPTIONS = 16 };

static void make_options(bench_args *a, cli_option out[N_OPTIONS])
{
    pol_bench_settings *o = &a->settings;
    const cli_option table[N_OPTIONS] = {
        {"keep", "SHARE", "of each layer's heads and channels that masks leave (0.5)", CLI_REAL, &o->keep, 1e-6, 1,
         NULL},
        {"batch", "N", "sequences that go through the model at a time (8)", CLI_INT, &o->batch, 1, 1 << 20, NULL},
        {"seq-len", "N", "tokens of a sequence (128)", CLI_INT, &o->seq_len, 2, 1 << 20, NULL},
        {"rounds", "N", "of which medians are taken (7)", CLI_INT, &o->rounds, 1, POL_BENCH_ROUNDS, NULL},
        {"backend", "NAME", CLI_BACKEND_HELP, CLI_STRING, (void *)&o->backend.name, 0, 0, NULL},
        {"device", "N|NAME", "index, name or part of a name, as 'pollard devices' lists them", CLI_STRING,
         (void *)&o->backend.device, 0, 0, NULL},
        {"weights", "TYPE", "what weights are stored as; 16 bits need cuda or opencl (auto: f32, with cuda bf16)",
         CLI_CHOICE, &a->weights, 0, 0, pol_weight_names},
        {"threads", "N", "CPU threads (all)", CLI_INT, &a->threads, 0, 4096, NULL},
        {"memory-limit", "SIZE", CLI_MEMORY_LIMIT_HELP, CLI_SIZE, &o->memory_limit, 0, 0, NULL},
        {"json", NULL, "print the result as one JSON object", CLI_FLAG, &a->json, 0, 0, NULL},
        {"verbose", NULL, "print the library's log", CLI_FLAG, &a->verbose, 0, 0, NULL},
        {"quiet", NULL, "print nothing on success", CLI_FLAG, &a->quiet, 0, 0, NULL},
        {"", NULL, "Tuning", CLI_HEADING, NULL, 0, 0, NULL},
        {"tune-opencl", NULL,
         "instead: look for the parameters of CLBlast that suit this model on an OpenCL device, with CLBlast's own "
         "tuners, and keep them",
         CLI_FLAG, &a->tune, 0, 0, NULL},
        {"tune-minutes", "X", "about how long that may take (10)", CLI_REAL, &a->tune_minutes, 0.01, 10000, NULL},
        {NULL, NULL, NULL, CLI_FLAG, NULL, 0, 0, NULL},
    };
    memcpy(out, table, sizeof table);
}

void help_bench(void)
{
    bench_args a = {0};
    cli_option options[N_OPTIONS];
    make_options(&a, options);
    cli_print_options(options);
}

static double tokens_per_second(const pol_bench_result *r, double seconds) { return (double)r->tokens / seconds; }

static void print_result(const bench_args *a, const pol_bench_result *r)
{
    const pol_bench_settings *o = &a->settings;
    char device[CLI_DEVICE_BYTES], visits[CLI_DEVICE_BYTES], first[32];
    printf("%s, weights in %s\n", cli_device(device, &r->device), r->weights);
    if (r->memory.placement.streamed)
        printf("streamed: %s\n", cli_visits(visits, &r->memory));
    printf("%s, %lld sequences of %lld tokens, medians of %lld rounds\n", o->model, (long long)o->batch,
           (long long)o->seq_len, (long long)o->rounds);
    printf("dense pass     %10.1f ms  %10.0f tokens/s\n", 1e3 * r->dense_seconds,
           tokens_per_second(r, r->dense_seconds));
    printf("masked pass    %10.1f ms  %10.0f tokens/s  %.3f of the dense pass, keep %g: %.1f %% of the blocks' "
           "parameters\n",
           1e3 * r->masked_seconds, tokens_per_second(r, r->masked_seconds), r->masked_over_dense, o->keep,
           100 * r->kept);
    printf("change of mask %10.1f ms  %28.3f of the masked pass\n", 1e3 * r->change_seconds, r->change_over_masked);
    printf("first round    %10s, with all that is built at first use\n", cli_duration(first, r->first_seconds));
}

static json_t *result_json(const bench_args *a, const pol_bench_result *r)
{
    const pol_bench_settings *o = &a->settings;
    return json_pack("{ss so ss so sf sI sI sI sf sf sf sf sf sf sf sf sf}", "model", o->model, "device",
                     pol_device_json(&r->device), "weights", r->weights, "placement", pol_placement_json(&r->memory),
                     "keep", o->keep, "batch", (json_int_t)o->batch, "seq_len", (json_int_t)o->seq_len, "rounds",
                     (json_int_t)o->rounds, "kept", r->kept, "dense_seconds", r->dense_seconds, "masked_seconds",
                     r->masked_seconds, "change_seconds", r->change_seconds, "dense_tokens_per_second",
                     tokens_per_second(r, r->dense_seconds), "masked_tokens_per_second",
                     tokens_per_second(r, r->masked_seconds), "masked_over_dense", r->masked_over_dense,
                     "change_over_masked", r->change_over_masked, "first_seconds", r->first_seconds);
}

static void print_tuning(const bench_args *a, const pol_tune_result *r)
{
    char device[CLI_DEVICE_BYTES], took[32];
    printf("%s\nproducts of %s: %.1f GFLOP/s with CLBlast's own parameters, %.1f with the best of %lld sets; %s\n",
           cli_device(device, &r->device), a->settings.model, 1e-9 * r->flops_before, 1e-9 * r->flops_after,
           (long long)r->tried, cli_duration(took, r->seconds));
    if (r->kept)
        printf("used from now on, kept in %s\n", r->file);
    else
        puts("none is faster by more than chance: nothing is kept");
}

static json_t *tuning_json(const bench_args *a, const pol_tune_result *r)
{
    return json_pack("{ss so sf sf sI sb so sf}", "model", a->settings.model, "device", pol_device_json(&r->device),
                     "gflops_before", 1e-9 * r->flops_before, "gflops_after", 1e-9 * r->flops_after, "tried",
                     (json_int_t)r->tried, "kept", (int)r->kept, "file", r->kept ? json_string(r->file) : json_null(),
                     "seconds", r->seconds);
}

static void on_line(void *user, const char *line) { cli_progress_line(user, true, "%s", line); }

static int measure(pol_context *ctx, const bench_args *a, cli_progress *progress)
{
    pol_bench_result r;
    const pol_status s = pol_bench(ctx, &a->settings, &(pol_bench_observer){progress, on_line}, &r);
    cli_progress_clear(progress);
    if (s < 0)
        return cli_failed(ctx, "bench", s);
    if (a->json)
        return cli_print_json(result_json(a, &r));
    if (!a->quiet)
        print_result(a, &r);
    return EXIT_DONE;
}

static int tune(pol_context *ctx, const bench_args *a, cli_progress *progress)
{
    pol_tune_result r;
    const pol_status s =
        pol_bench_tune(ctx, &a->settings, 60 * a->tune_minutes, &(pol_bench_observer){progress, on_line}, &r);
    cli_progress_clear(progress);
    if (s < 0)
        return cli_failed(ctx, "bench", s);
    if (a->json)
        return cli_print_json(tuning_json(a, &r));
    if (!a->quiet)
        print_tuning(a, &r);
    return EXIT_DONE;
}

int cmd_bench(pol_context *ctx, int argc, char **argv)
{
    bench_args a = {.tune_minutes = 10};
    pol_bench_settings *o = &a.settings;
    cli_option options[N_OPTIONS];
    int n;
    pol_bench_defaults(o);
    make_options(&a, options);
    if (!cli_parse("bench", options, argc, argv, &o->model, 1, &n))
        return EXIT_USAGE;
    if (n < 1)
        return cli_usage("bench", "which model?");
    if (a.tune && o->backend.name && strcmp(o->backend.name, "opencl") != 0)
        return cli_usage("bench", "--tune-opencl is of the backend opencl alone");
    if (a.tune)
        o->backend.name = "opencl";
    o->backend.threads = (int32_t)a.threads;
    o->backend.weights = pol_weight_names[a.weights];
    cli_progress progress;
    cli_progress_init(&progress, a.quiet);
    cli_progress_log(&progress, ctx, a.verbose ? POL_LOG_DEBUG : POL_LOG_WARN);
    return a.tune ? tune(ctx, &a, &progress) : measure(ctx, &a, &progress);
}
