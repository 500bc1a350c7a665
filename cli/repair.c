/* repair.c - `pollard repair`. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "pollard/json.h"

typedef struct repair_args {
    const char *out, *mask, *model, *field, *separator, *eval_text, *protocol, *backend, *device;
    int kind, target, format, bos, weights;
    int64_t seq_len, sequences, held_out, eval_limit, batch, threads;
    double refit, damping;
    uint64_t memory_limit;
    cli_list data;
    bool resume, json, quiet, verbose;
} repair_args;

static const char *const kinds[] = {"ridge", "bias", NULL};
static const char *const targets[] = {"half", "local", "both", NULL};

enum { N_OPTIONS = 31 };

static void make_options(repair_args *a, cli_option out[N_OPTIONS])
{
    const double most = 9e15;
    const cli_option table[] = {
        {"data", "FILE...", "calibration text: plain, JSONL or WikiText, also .gz and .zst", CLI_FILES, &a->data, 0, 0,
         NULL},
        {"repair", "FORM", "new rows of each block's last matrix, or an output bias a block (ridge): ridge, bias",
         CLI_CHOICE, &a->kind, 0, 0, kinds},
        {"target", "NAME",
         "of ridge: half of the way to the dense stream, the block's own output, or both and the better one (both)",
         CLI_CHOICE, &a->target, 0, 0, targets},
        {"refit-inputs", "S", "strength at which first matrices are re-fitted, too (0: not)", CLI_REAL, &a->refit, 0, 1,
         NULL},
        {"damping", "X", "of ridge, as a share of the mean diagonal (0.01)", CLI_REAL, &a->damping, 1e-9, 10, NULL},
        {"sequences", "N", "that are looked at (20 tokens a column of the widest block, 256 or more)", CLI_INT,
         &a->sequences, 1, 1 << 24, NULL},
        {"held-out", "N", "sequences behind them that judge (32)", CLI_INT, &a->held_out, 1, 1 << 30, NULL},
        {"eval", "FILE", "text to measure perplexity on: dense, masked, repaired", CLI_STRING, &a->eval_text, 0, 0,
         NULL},
        {"resume", NULL, "go on behind the last layer that an earlier call has done", CLI_FLAG, &a->resume, 0, 0, NULL},
        {"mask", "FILE", "a mask.json in place of a run: of --model, for --out", CLI_STRING, &a->mask, 0, 0, NULL},
        {"model", "PATH", "the mask's model; of a RUN: where its model is now, if it has moved", CLI_STRING, &a->model,
         0, 0, NULL},
        {"out", "RUN", "with --mask: folder that is made", CLI_STRING, &a->out, 0, 0, NULL},

        {"", NULL, "Text", CLI_HEADING, NULL, 0, 0, NULL},
        {"seq-len", "N", "tokens of a sequence (128)", CLI_INT, &a->seq_len, 2, 1 << 20, NULL},
        CLI_TEXT_ROWS(a),
        {"protocol", "NAME", "how the text of --eval is cut and scored (paper): paper, standard", CLI_STRING,
         &a->protocol, 0, 0, NULL},
        {"eval-limit", "N", "chunks of it at most (all)", CLI_INT, &a->eval_limit, 1, most, NULL},

        {"", NULL, "Machine and output", CLI_HEADING, NULL, 0, 0, NULL},
        {"batch", "N", "sequences that go through the model at a time (8)", CLI_INT, &a->batch, 1, 1 << 20, NULL},
        CLI_ONE_DEVICE_ROWS(a),
        {"json", NULL, "print the repair as one JSON object", CLI_FLAG, &a->json, 0, 0, NULL},
        {"quiet", NULL, "print nothing on success", CLI_FLAG, &a->quiet, 0, 0, NULL},
        {"verbose", NULL, "log each block: condition number and error", CLI_FLAG, &a->verbose, 0, 0, NULL},
        {NULL, NULL, NULL, CLI_FLAG, NULL, 0, 0, NULL},
    };
    _Static_assert(sizeof table / sizeof *table == N_OPTIONS, "room for the table");
    memcpy(out, table, sizeof table);
}

void help_repair(void)
{
    repair_args a = {0};
    cli_option options[N_OPTIONS];
    make_options(&a, options);
    cli_print_options(options);
}

static void print_plan(const pol_repair_plan *p)
{
    char a[32], b[32], device[CLI_DEVICE_BYTES], visits[CLI_DEVICE_BYTES];
    const pol_memory *m = &p->memory;
    const double on_device = (double)m->weight_bytes + (double)m->activation_bytes + (double)m->repair_bytes;
    const double host = (double)m->host_bytes + (double)m->pinned_bytes;
    printf("plan    device     %s\n", cli_device(device, &p->device));
    printf("        weights    in %s\n", p->weights);
    printf("        memory     %s on the device, %s of host data%s\n", cli_bytes(a, on_device), cli_bytes(b, host),
           m->shared ? ", the same memory" : "");
    if (m->placement.streamed)
        printf("        streamed   %s\n", cli_visits(visits, m));
    printf("        text       %lld sequences of %lld are looked at, %.1f tokens a column of the widest block;\n",
           (long long)p->sequences, (long long)p->seq_len,
           (double)(p->sequences * p->seq_len) / (double)(p->columns ? p->columns : 1));
    printf("                   %lld more judge, %lld chunks are scored; %s forward sequences in all\n",
           (long long)p->held_out, (long long)p->eval_chunks, cli_count(a, (double)p->passes));
    fflush(stdout);
}

typedef struct watcher {
    cli_progress progress;
    bool table; /* the plan and the closing table go to standard output */
} watcher;

static void on_plan(void *user, const pol_repair_plan *p)
{
    if (((watcher *)user)->table)
        print_plan(p);
}

static void on_stage(void *user, const char *name) { cli_progress_stage(&((watcher *)user)->progress, name); }

static void on_progress(void *user, int64_t done, int64_t total)
{
    cli_progress *p = &((watcher *)user)->progress;
    cli_progress_line(p, false, "%s: %lld of %lld", p->stage, (long long)done, (long long)total);
}

static void print_row(const char *name, const pol_outcome *x)
{
    char ppl[32] = "-";
    if (x->perplexity.tokens)
        snprintf(ppl, sizeof ppl, "%.2f", x->perplexity.perplexity);
    printf("%-16s  %12.4f  %12s\n", name, x->held_out, ppl);
}

static void print_result(const char *run, const pol_repair_result *r)
{
    char time[32], repair[32], memory[32], name[32];
    const pol_repair_outcome *x = &r->repair;
    printf("\n%-16s  %12s  %12s\n", "", "held-out NLL", "perplexity");
    print_row("dense", &r->dense);
    print_row("mask alone", &r->masked);
    for (int t = 0; t < POL_REPAIR_TARGETS; t++) {
        const bool chosen = x->kind != POL_REPAIR_NONE && t == (int)x->target;
        if (!isfinite(x->held_out[t]))
            continue;
        if (x->tried == POL_REPAIR_BIAS)
            snprintf(name, sizeof name, "bias");
        else
            snprintf(name, sizeof name, "ridge, %s%s", pol_repair_target_names[t], chosen ? " *" : "");
        print_row(name, chosen ? &r->repaired : &(pol_outcome){.held_out = x->held_out[t]});
    }
    if (x->kind == POL_REPAIR_NONE)
        puts("nothing did better than the mask alone: the run keeps no repaired weights");
    printf("repair %s, wall time %s; peak memory %s\nrun: %s\n", cli_duration(repair, x->seconds),
           cli_duration(time, r->seconds), cli_bytes(memory, (double)r->peak_bytes), run);
}

static json_t *result_json(const char *run, const pol_repair_result *r)
{
    json_t *j = pol_repair_outcome_json(&r->repair);
    json_object_set_new(j, "run", json_string(run));
    json_object_set_new(j, "dense", pol_outcome_json(&r->dense));
    json_object_set_new(j, "masked", pol_outcome_json(&r->masked));
    json_object_set_new(j, "repaired", r->repaired.known ? pol_outcome_json(&r->repaired) : json_null());
    json_object_set_new(j, "forward_sequences", pol_sequences_json(r->sequences));
    json_object_set_new(j, "wall_seconds", json_real(r->seconds));
    json_object_set_new(j, "peak_memory_bytes", json_integer((json_int_t)r->peak_bytes));
    json_object_set_new(j, "peak_device_bytes", json_integer((json_int_t)r->peak_device_bytes));
    return j;
}

/* What was given goes over the defaults. EXIT_DONE, or after a line on standard error EXIT_USAGE. */
static int make_request(repair_args *a, const char *run, pol_repair_request *o)
{
    pol_repair_request_defaults(o);
    o->run = a->mask ? a->out : run;
    o->mask = a->mask;
    o->model = a->model;
    o->data = a->data.items;
    o->n_data = a->data.n;
    o->text = (pol_text_options){.format = (pol_text_format)a->format, .field = a->field, .separator = a->separator};
    o->bos = (pol_bos)a->bos;
    o->repair.kind = a->kind ? POL_REPAIR_BIAS : POL_REPAIR_RIDGE;
    o->repair.targets = a->target == POL_REPAIR_TARGETS ? o->repair.targets : 1u << a->target;
    o->repair.refit_inputs = a->refit;
    o->repair.damping = a->damping > 0 ? a->damping : o->repair.damping;
    o->repair.sequences = a->sequences ? a->sequences : o->repair.sequences;
    o->seq_len = a->seq_len ? a->seq_len : o->seq_len;
    o->held_out = a->held_out ? a->held_out : o->held_out;
    o->batch = a->batch ? a->batch : o->batch;
    o->eval_text = a->eval_text;
    o->eval_limit = a->eval_limit;
    o->backend = (pol_backend_options){.name = a->backend,
                                       .device = a->device,
                                       .threads = (int32_t)a->threads,
                                       .weights = pol_weight_names[a->weights]};
    o->memory_limit = a->memory_limit;
    o->resume = a->resume;
    if (a->protocol && !(o->protocol = cli_protocol("repair", a->protocol)))
        return EXIT_USAGE;
    if (a->mask && (!a->model || !a->out || run))
        return cli_usage("repair", run ? "--mask makes a run of its own: a RUN beside it makes no sense"
                                       : "--mask needs --model, which it is of, and --out, the folder to make");
    if (!a->mask && (!run || a->out))
        return cli_usage("repair", run ? "--out belongs to --mask" : "which run?");
    if (!a->data.n)
        return cli_usage("repair", "--data is missing: the calibration text");
    return EXIT_DONE;
}

static int repair(pol_context *ctx, const repair_args *a, const pol_repair_request *o)
{
    watcher w = {.table = !a->quiet && !a->json};
    pol_repair_result result;
    cli_progress_init(&w.progress, a->quiet);
    cli_progress_log(&w.progress, ctx, a->verbose ? POL_LOG_DEBUG : POL_LOG_WARN);
    const pol_repair_observer watch = {&w, on_plan, on_stage, on_progress};
    const pol_status s = pol_repair(ctx, o, &watch, &result);
    cli_progress_clear(&w.progress);
    if (s < 0)
        return cli_failed(ctx, "repair", s);
    if (a->json)
        return cli_print_json(result_json(o->run, &result));
    if (!a->quiet)
        print_result(o->run, &result);
    return EXIT_DONE;
}

int cmd_repair(pol_context *ctx, int argc, char **argv)
{
    repair_args a = {.target = POL_REPAIR_TARGETS};
    pol_repair_request request;
    cli_option options[N_OPTIONS];
    const char *run = NULL;
    int n, code = EXIT_USAGE;
    make_options(&a, options);
    if (cli_parse("repair", options, argc, argv, &run, 1, &n))
        code = make_request(&a, n ? run : NULL, &request);
    if (code == EXIT_DONE)
        code = repair(ctx, &a, &request);
    free((void *)a.data.items);
    return code;
}
