/* export.c - `pollard export`. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "pollard/json.h"

static const char *const formats[] = {"zeros", "hf", NULL};
static const char *const dtypes[] = {"f32", "f16", "bf16", NULL};

typedef struct export_args {
    const char *out, *model;
    int format, dtype;
    uint64_t shard_size;
    bool json, quiet, bare;
} export_args;

enum { N_OPTIONS = 9 };

static void make_options(export_args *a, cli_option out[N_OPTIONS])
{
    const cli_option table[N_OPTIONS] = {
        {"format", "NAME", "original shapes with pruned weights zero, or pruned weights removed", CLI_CHOICE,
         &a->format, 0, 0, formats},
        {"out", "DIR", "folder to write; must not exist", CLI_STRING, &a->out, 0, 0, NULL},
        {"model", "PATH", "of a RUN: where its model is now, if it has moved", CLI_STRING, &a->model, 0, 0, NULL},
        {"dtype", "TYPE", "of the weights (as the source; f32 where that is quantised)", CLI_CHOICE, &a->dtype, 0, 0,
         dtypes},
        {"shard-size", "SIZE", "start a new file above this (5 GB)", CLI_SIZE, &a->shard_size, 0, 0, NULL},
        {"bare", NULL, "of a RUN: its mask alone, without repaired weights", CLI_FLAG, &a->bare, 0, 0, NULL},
        {"json", NULL, "print the result as one JSON object", CLI_FLAG, &a->json, 0, 0, NULL},
        {"quiet", NULL, "print nothing on success", CLI_FLAG, &a->quiet, 0, 0, NULL},
        {NULL, NULL, NULL, CLI_FLAG, NULL, 0, 0, NULL},
    };
    memcpy(out, table, sizeof table);
}

void help_export(void)
{
    export_args a = {0};
    cli_option options[N_OPTIONS];
    make_options(&a, options);
    cli_print_options(options);
}

/* A plain model is exported whole: a way to turn a GGUF into a folder. */
static pol_status write_model(pol_context *ctx, const char *path, const export_args *a, int64_t *params)
{
    pol_target t;
    POL_TRY(pol_target_open(ctx, path, a->model, &t));
    if (a->bare)
        pol_target_bare(&t);
    const pol_export_options o = {.format = (pol_export_format)a->format,
                                  .dtype = a->dtype >= 0 ? dtypes[a->dtype] : NULL,
                                  .shard_bytes = a->shard_size,
                                  .repaired = t.repaired};
    pol_status s = pol_export(t.src, t.units, t.mask, &o, a->out);
    if (s == POL_OK)
        *params = pol_mask_params(t.units, t.mask);
    pol_target_close(&t);
    return s;
}

int cmd_export(pol_context *ctx, int argc, char **argv)
{
    export_args a = {.format = -1, .dtype = -1};
    cli_option options[N_OPTIONS];
    const char *path;
    int n;
    make_options(&a, options);
    if (!cli_parse("export", options, argc, argv, &path, 1, &n))
        return EXIT_USAGE;
    if (n < 1)
        return cli_usage("export", "which model or run?");
    if (a.format < 0 || !a.out)
        return cli_usage("export",
                         a.out ? "--format is missing: zeros or hf" : "--out is missing: the folder to write");
    int64_t params = 0;
    cli_progress progress;
    cli_progress_init(&progress, a.quiet);
    cli_progress_log(&progress, ctx, POL_LOG_WARN);
    const pol_status s = write_model(ctx, path, &a, &params);
    if (s < 0)
        return cli_failed(ctx, "export", s);
    if (a.json)
        return cli_print_json(json_pack("{ss ss ss sI}", "run", path, "format", formats[a.format], "out", a.out,
                                        "block_params", (json_int_t)params));
    if (!a.quiet)
        printf("%s: written as %s\n", a.out, formats[a.format]);
    return EXIT_DONE;
}
