/* prune.c - `pollard prune` and `pollard estimate`. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pollard/json.h"
#include "prune_options.h"

/* Where the device has memory of its own, there are two to fit. */
static void print_memory(const pol_plan *p, FILE *out)
{
    const pol_memory *m = &p->memory;
    char a[32], b[32], c[32], d[32], repair[64] = "", visits[CLI_DEVICE_BYTES];
    const double device = (double)m->weight_bytes + (double)m->activation_bytes + (double)m->repair_bytes;
    const double host = (double)m->host_bytes + (double)m->pinned_bytes;
    cli_bytes(b, (double)m->weight_bytes);
    cli_bytes(c, (double)m->activation_bytes);
    if (m->repair_bytes)
        snprintf(repair, sizeof repair, ", repair %s%s", cli_bytes(a, (double)m->repair_bytes),
                 m->level_bytes && !m->levels_resident ? " (levels are read from disk)" : "");
    if (m->shared) {
        fprintf(out, "        memory     %s: weights %s, activations %s%s, host data %s\n", cli_bytes(a, device + host),
                b, c, repair, cli_bytes(d, host));
        fprintf(out, "        available  %s\n", cli_bytes(a, (double)m->available_bytes));
        return;
    }
    fprintf(out, "        memory     %s of %s on %s device: weights %s, activations %s%s\n", cli_bytes(a, device),
            cli_bytes(d, (double)m->device_bytes), p->n_devices > 1 ? "each" : "the", b, c, repair);
    if (m->placement.streamed)
        fprintf(out, "        streamed   %s, of %lld in a step\n", cli_visits(visits, m), (long long)p->step_passes);
    fprintf(out, "        host       %s of %s that are available\n", cli_bytes(a, host),
            cli_bytes(d, (double)m->available_bytes));
}

static void print_plan(const pol_plan *p, FILE *out)
{
    char a[32], b[32], device[CLI_DEVICE_BYTES];
    if (p->n_devices > 1)
        fprintf(out, "plan    devices    %s: %s\n", p->device.backend, p->devices);
    else
        fprintf(out, "plan    device     %s\n", cli_device(device, &p->device));
    fprintf(out, "        weights    in %s%s\n", p->weights,
            p->memory.weight_bits < 32 ? ": rounded to it, where the model has more digits; sums are f32" : "");
    print_memory(p, out);
    fprintf(out, "        variables  %lld of %lld units\n", (long long)p->variables, (long long)p->units);
    fprintf(out, "        forward    %lld sequences to learn in %lld steps%s,\n",
            (long long)p->sequences[POL_PURPOSE_LEARN], (long long)p->steps,
            p->pilot ? ", or others that a pilot finds better" : "");
    fprintf(
        out,
        "                   %lld to initialise, %lld to repair, %lld to judge, %lld to evaluate; %s tokens in all\n",
        (long long)p->sequences[POL_PURPOSE_INIT], (long long)p->sequences[POL_PURPOSE_REPAIR],
        (long long)p->sequences[POL_PURPOSE_HELD_OUT], (long long)p->sequences[POL_PURPOSE_EVAL],
        cli_count(b, (double)p->tokens));
    fprintf(out, "        time       about %s\n", cli_duration(a, p->seconds));
    if (p->text_assumed)
        fputs("        text       none given (--data): enough is assumed that no sequence is seen twice\n", out);
}

typedef struct watcher {
    cli_progress progress;
    bool table; /* the plan and the closing table go to standard output */
} watcher;

static void on_plan(void *user, const pol_plan *p)
{
    watcher *w = user;
    if (w->table) {
        print_plan(p, stdout);
        fflush(stdout);
    }
}

static void on_stage(void *user, const char *name) { cli_progress_stage(&((watcher *)user)->progress, name); }

static void on_progress(void *user, int64_t done, int64_t total)
{
    cli_progress *p = &((watcher *)user)->progress;
    cli_progress_line(p, false, "%s: %lld of %lld", p->stage, (long long)done, (long long)total);
}

static void on_step(void *user, const pol_step_report *r, int64_t steps, double tokens_per_second, double seconds_left)
{
    char left[32];
    cli_progress_line(&((watcher *)user)->progress, r->step + 1 == steps,
                      "step %lld of %lld  loss %.4f  kept %.1f %%  %.0f tokens/s  %s left", (long long)(r->step + 1),
                      (long long)steps, r->loss, 100 * r->kept, tokens_per_second, cli_duration(left, seconds_left));
}

static void on_staged(void *user, pol_stage_kind stage, const pol_stage_result *x)
{
    cli_progress *p = &((watcher *)user)->progress;
    if (isfinite(x->before) && x->chosen_step)
        cli_progress_note(p, "stage %s: %.4f to %.4f on what is held out, at its step %lld", pol_stage_names[stage],
                          x->before, x->after, (long long)x->chosen_step);
    else if (isfinite(x->before))
        cli_progress_note(p, "stage %s: gained nothing over %.4f, and is dropped", pol_stage_names[stage], x->before);
}

static void on_sized(void *user, const char *line)
{
    cli_progress_note(&((watcher *)user)->progress, "sizing: %s", line);
}

static void on_judged(void *user, int64_t step, double held_out, bool best)
{
    cli_progress_note(&((watcher *)user)->progress,
                      "step %lld: the hard mask has loss %.4f on held-out calibration text%s", (long long)step,
                      held_out, best ? ", the best so far" : "");
}

/* The deviation of the perplexity by that of the mean loss; one chunk alone has none. */
static void print_perplexity(char *buf, size_t n, const pol_perplexity *p)
{
    if (isfinite(p->standard_error))
        snprintf(buf, n, "%.2f +- %.2f", p->perplexity, p->perplexity * p->standard_error);
    else
        snprintf(buf, n, "%.2f", p->perplexity);
}

static void print_row(const char *name, const pol_outcome *x, const pol_outcome *dense)
{
    char params[32], macs[32], ppl[48] = "-", held_out[32] = "-";
    if (x->perplexity.tokens)
        print_perplexity(ppl, sizeof ppl, &x->perplexity);
    if (isfinite(x->held_out))
        snprintf(held_out, sizeof held_out, "%.4f", x->held_out);
    printf("%-14s %10s %6.1f %%  %10s  %18s  %12s\n", name, cli_count(params, (double)x->params),
           100.0 * (double)x->block_params / (double)dense->block_params, cli_count(macs, (double)x->macs), ppl,
           held_out);
}

static void print_repair(const pol_repair_outcome *x)
{
    if (!x->known)
        return;
    if (x->kind == POL_REPAIR_NONE)
        puts("repair: nothing did better than the mask alone");
    for (int t = 0; x->kind == POL_REPAIR_RIDGE && t < POL_REPAIR_TARGETS; t++)
        if (isfinite(x->held_out[t]))
            printf("repair: target %s gives %.4f on held-out text%s\n", pol_repair_target_names[t], x->held_out[t],
                   t == (int)x->target ? ", kept" : "");
}

static void print_stages(const pol_prune_result *r)
{
    for (int i = 0; i < POL_STAGES; i++) {
        const pol_stage_result *x = &r->stages[i];
        if (x->steps && isfinite(x->before))
            printf("stage %-10s %6lld steps, held-out loss %.4f -> %.4f%s\n", pol_stage_names[i], (long long)x->steps,
                   x->before, x->after, x->chosen_step ? "" : ": gained nothing, dropped");
    }
}

static void print_result(const pol_prune_settings *o, const pol_prune_result *r)
{
    char time[32], memory[32], device[32], budget[POL_COST_TEXT];
    printf("\n%-14s %10s  %7s  %10s  %18s  %12s\n", "", "parameters", "blocks", "MACs/token", "perplexity",
           "held-out NLL");
    print_row("dense", &r->dense, &r->dense);
    print_row("initial mask", &r->initial, &r->dense);
    print_row("learnt mask", &r->learnt, &r->dense);
    if (r->repaired.known && r->repair.kind != POL_REPAIR_NONE)
        print_row("repaired", &r->repaired, &r->dense);
    pol_cost_report_text(&r->budget, budget);
    printf("budget: %s\n", budget);
    print_stages(r);
    print_repair(&r->repair);
    const pol_perplexity *p = &r->dense.perplexity;
    if (p->tokens)
        printf("perplexity: protocol %s, sequences of %lld, BOS %s, %lld tokens of %s (%s)\n", p->protocol,
               (long long)p->seq_len, pol_bos_name(p->bos), (long long)p->tokens, o->eval_text,
               pol_text_format_name(p->format));
    printf("forward sequences: %lld to learn, %lld to initialise, %lld to repair, %lld to judge, %lld to evaluate\n",
           (long long)r->sequences[POL_PURPOSE_LEARN], (long long)r->sequences[POL_PURPOSE_INIT],
           (long long)r->sequences[POL_PURPOSE_REPAIR], (long long)r->sequences[POL_PURPOSE_HELD_OUT],
           (long long)r->sequences[POL_PURPOSE_EVAL]);
    printf("mask of step %lld of %lld; wall time %s; peak memory %s, of buffers on the device %s\nrun: %s\n",
           (long long)r->chosen_step, (long long)r->steps, cli_duration(time, r->seconds),
           cli_bytes(memory, (double)r->peak_bytes), cli_bytes(device, (double)r->peak_device_bytes), o->out);
}

/* run.json as it stands, with the folder's name. */
static int print_run_json(const char *run)
{
    const size_t room = strlen(run) + sizeof "/run.json";
    char *path = malloc(room);
    json_t *j = NULL;
    if (path) {
        snprintf(path, room, "%s/run.json", run);
        j = json_load_file(path, 0, NULL);
    }
    free(path);
    if (!j) {
        fprintf(stderr, "pollard prune: %s/run.json: cannot be read back\n", run);
        return EXIT_FAILED;
    }
    json_object_set_new(j, "run", json_string(run));
    return cli_print_json(j);
}

int cmd_prune(pol_context *ctx, int argc, char **argv)
{
    cli_prune c;
    pol_prune_result result;
    int code = cli_prune_parse("prune", argc, argv, &c);
    if (code == EXIT_DONE && !c.data.n)
        code = cli_usage("prune", "--data is missing: the calibration text");
    if (code == EXIT_DONE && !c.settings.out)
        code = cli_usage("prune", "--out is missing: the folder that the run writes");
    if (code != EXIT_DONE)
        goto out;
    watcher w = {.table = !c.quiet && !c.json};
    cli_progress_init(&w.progress, c.quiet);
    cli_progress_log(&w.progress, ctx, c.verbose ? POL_LOG_DEBUG : POL_LOG_WARN);
    const pol_prune_observer watch = {&w, on_plan, on_stage, on_progress, on_step, on_judged, on_staged, on_sized};
    const pol_status s = pol_prune(ctx, &c.settings, &watch, &result);
    cli_progress_clear(&w.progress);
    if (s < 0)
        code = cli_failed(ctx, "prune", s);
    else if (c.json)
        code = print_run_json(c.settings.out);
    else if (!c.quiet)
        print_result(&c.settings, &result);
out:
    free((void *)c.data.items);
    return code;
}

int cmd_estimate(pol_context *ctx, int argc, char **argv)
{
    cli_prune c;
    pol_plan p;
    int code = cli_prune_parse("estimate", argc, argv, &c);
    if (code != EXIT_DONE)
        goto out;
    cli_progress progress;
    cli_progress_init(&progress, c.quiet);
    cli_progress_log(&progress, ctx, c.verbose ? POL_LOG_DEBUG : POL_LOG_WARN);
    const pol_status s = pol_prune_plan(ctx, &c.settings, &p);
    if (s < 0)
        code = cli_failed(ctx, "estimate", s);
    else if (c.json)
        code = cli_print_json(pol_plan_json(&p));
    else if (!c.quiet)
        print_plan(&p, stdout);
out:
    free((void *)c.data.items);
    return code;
}
