/* eval.c - `pollard eval`. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval_tasks.h"
#include "pollard/json.h"

typedef struct eval_args {
    const char *text, *model, *field, *separator, *protocol, *backend, *device;
    int format, bos, weights;
    int64_t seq_len, limit, batch, threads;
    uint64_t memory_limit;
    cli_list tasks;
    bool json, quiet, dense, bare;
} eval_args;

enum { N_OPTIONS = 21 };

static void make_options(eval_args *a, cli_option out[N_OPTIONS])
{
    const cli_option table[N_OPTIONS] = {
        {"text", "FILE", "a text, for perplexity: plain, JSONL or WikiText, also .gz and .zst", CLI_STRING, &a->text, 0,
         0, NULL},
        {"task", "NAME=FILE...",
         "multiple-choice files, for accuracy; names: piqa, openbookqa, winogrande, arc_easy, boolq, plain", CLI_FILES,
         &a->tasks, 0, 0, NULL},
        {"model", "PATH", "of a RUN: where its model is now, if it has moved", CLI_STRING, &a->model, 0, 0, NULL},
        {"protocol", "NAME", "how it is cut and scored (paper): paper, standard", CLI_STRING, &a->protocol, 0, 0, NULL},
        {"seq-len", "N", "tokens of a chunk (the protocol's)", CLI_INT, &a->seq_len, 2, 1 << 20, NULL},
        {"limit", "N", "chunks, or items of each task, at most (all)", CLI_INT, &a->limit, 1, 9e15, NULL},
        CLI_TEXT_ROWS(a),
        {"dense", NULL, "of a RUN: the model before pruning", CLI_FLAG, &a->dense, 0, 0, NULL},
        {"bare", NULL, "of a RUN: its mask alone, without repaired weights", CLI_FLAG, &a->bare, 0, 0, NULL},
        {"batch", "N", "chunks that go through the model at a time (1024 tokens' worth)", CLI_INT, &a->batch, 1,
         1 << 20, NULL},
        CLI_ONE_DEVICE_ROWS(a),
        {"json", NULL, "print the result as one JSON object", CLI_FLAG, &a->json, 0, 0, NULL},
        {"quiet", NULL, "print nothing on success", CLI_FLAG, &a->quiet, 0, 0, NULL},
        {NULL, NULL, NULL, CLI_FLAG, NULL, 0, 0, NULL},
    };
    memcpy(out, table, sizeof table);
}

void help_eval(void)
{
    eval_args a = {0};
    cli_option options[N_OPTIONS];
    make_options(&a, options);
    cli_print_options(options);
}

/* What an evaluation opens, closed in one place. */
typedef struct evaluation {
    pol_target target;
    pol_tokenizer *tok;
    pol_sequences text; /* n = 0: none */
    eval_tasks tasks;
    pol_backend *be;
    pol_memory memory;
    pol_model *model;
    pol_forward *forward;
    cli_progress progress;
} evaluation;

static pol_status on_progress(void *user, int64_t done, int64_t total)
{
    cli_progress_line(user, false, "%lld of %lld chunks", (long long)done, (long long)total);
    return POL_OK;
}

/* What goes through the model at a time: as many tokens as eight of the paper's chunks, and at least one sequence. */
static int64_t tokens_at_a_time(const eval_args *a, int64_t longest)
{
    const int64_t batch = a->batch ? a->batch : longest < 1024 ? 1024 / longest : 1;
    return batch * longest;
}

static int64_t largest(int64_t a, int64_t b) { return a > b ? a : b; }

/* Before anything is on the device. All of the text is waited for together, and all of a task. */
static pol_status load(pol_context *ctx, const char *path, const eval_args *a, evaluation *e)
{
    const pol_config *c = pol_source_config(e->target.src);
    const int64_t S = e->text.seq_len, ids = e->text.n * S, choice = eval_tasks_longest(&e->tasks);
    const int64_t text_tokens = S ? tokens_at_a_time(a, S) : 0, task_tokens = choice ? tokens_at_a_time(a, choice) : 0;
    const pol_memory_request r = {.max_tokens = largest(text_tokens, task_tokens),
                                  .max_seq_len = largest(S, choice),
                                  .cells = choice ? POL_MAX_CELLS : (ids + text_tokens - 1) / text_tokens,
                                  .host_bytes = (uint64_t)ids * sizeof *e->text.ids + eval_tasks_bytes(&e->tasks) +
                                                pol_model_host_bytes(c),
                                  .limit = a->memory_limit};
    pol_memory_plan(c, e->be, &r, &e->memory);
    POL_TRY(pol_memory_check(ctx, path, &e->memory));
    POL_TRY(pol_memory_reserve(e->be, &e->memory));
    POL_TRY(pol_model_load(e->target.src, e->be, &e->memory.placement, &e->model));
    return pol_forward_new(e->model, r.max_tokens, r.max_seq_len, &e->forward);
}

static pol_status read_text(pol_context *ctx, const eval_args *a, int64_t seq_len, pol_bos bos, evaluation *e)
{
    const pol_config *c = pol_source_config(e->target.src);
    const pol_text_options o = {.format = (pol_text_format)a->format, .field = a->field, .separator = a->separator};
    if (seq_len > c->max_positions)
        cli_progress_note(&e->progress,
                          "warning: sequences of %lld tokens are longer than the %d positions the model was made for",
                          (long long)seq_len, c->max_positions);
    return pol_sequences_read(ctx, e->tok, c->vocab, &a->text, 1, &o, seq_len, bos, a->limit, &e->text);
}

static pol_status evaluate(pol_context *ctx, const char *path, const eval_args *a, const pol_protocol *protocol,
                           evaluation *e, pol_perplexity *p)
{
    const int64_t seq_len = a->seq_len > 0 ? a->seq_len : protocol->seq_len;
    const pol_bos bos = a->bos ? (pol_bos)a->bos : protocol->bos;
    POL_TRY(pol_target_open(ctx, path, a->model, &e->target));
    if (a->bare || a->dense)
        pol_target_bare(&e->target);
    POL_TRY(pol_tokenizer_open(e->target.src, &e->tok));
    if (a->text)
        POL_TRY(read_text(ctx, a, seq_len, bos, e));
    POL_TRY(eval_tasks_read(ctx, e->tok, pol_source_config(e->target.src), (pol_bos)a->bos, a->limit, &e->tasks));
    POL_TRY(pol_backend_open(ctx,
                             &(pol_backend_options){.name = a->backend,
                                                    .device = a->device,
                                                    .threads = (int32_t)a->threads,
                                                    .weights = pol_weight_names[a->weights]},
                             &e->be));
    POL_TRY(load(ctx, path, a, e));
    if (e->target.mask && !a->dense)
        POL_TRY(pol_target_apply(&e->target, e->model));
    if (a->text)
        POL_TRY(pol_eval_sequences(e->forward, &e->text, on_progress, &e->progress, p));
    /* A protocol with one of its parts changed is no longer it. */
    const bool as_stated = seq_len == protocol->seq_len && bos == protocol->bos;
    snprintf(p->protocol, sizeof p->protocol, "%s", as_stated ? protocol->name : "custom");
    return eval_tasks_run(e->forward, &e->tasks, &e->progress);
}

static void print_perplexity(const eval_args *a, const pol_perplexity *p)
{
    printf("perplexity %.4f  nll %.6f", p->perplexity, p->nll);
    if (isfinite(p->standard_error))
        printf(" +- %.6f", p->standard_error);
    printf("\nprotocol %s, sequences of %lld, BOS %s, %lld tokens in %lld chunks (%lld bad) of %s (%s)\n", p->protocol,
           (long long)p->seq_len, pol_bos_name(p->bos), (long long)p->tokens, (long long)p->chunks,
           (long long)p->bad_chunks, a->text, pol_text_format_name(p->format));
}

static void print_text(const char *path, const eval_args *a, const evaluation *e, const pol_perplexity *p)
{
    const bool masked = e->target.mask && !a->dense;
    char device[CLI_DEVICE_BYTES], visits[CLI_DEVICE_BYTES], form[POL_REPAIRED_TEXT_BYTES];
    if (a->text)
        print_perplexity(a, p);
    eval_tasks_print(&e->tasks);
    printf("model %s%s", path, masked ? " (pruned" : "");
    if (e->target.repaired)
        printf(", repaired: %s", pol_repaired_text(e->target.repaired, form));
    printf("%s, tokenizer %s\n%s, weights in %s\n", masked ? ")" : "", pol_tokenizer_kind(e->tok),
           cli_device(device, pol_backend_info(e->be)), pol_backend_weights(e->be));
    if (e->memory.placement.streamed)
        printf("streamed: %s\n", cli_visits(visits, &e->memory));
}

static json_t *result_json(const char *path, const eval_args *a, const evaluation *e, const pol_perplexity *p)
{
    const bool masked = e->target.mask && !a->dense;
    char form[POL_REPAIRED_TEXT_BYTES];
    pol_config measured = *pol_source_config(e->target.src);
    if (masked)
        pol_target_config(&e->target, &measured);
    json_t *j = a->text ? pol_perplexity_json(p) : json_object();
    if (a->text)
        json_object_set_new(j, "text", json_string(a->text));
    if (e->tasks.n)
        json_object_set_new(j, "tasks", eval_tasks_json(&e->tasks));
    json_object_set_new(j, "model", json_string(path));
    json_object_set_new(j, "pruned", json_boolean(masked));
    if (e->target.repaired)
        json_object_set_new(j, "repaired", json_string(pol_repaired_text(e->target.repaired, form)));
    json_object_set_new(j, "params", json_integer((json_int_t)pol_config_total_params(&measured)));
    json_object_set_new(j, "tokenizer", json_string(pol_tokenizer_kind(e->tok)));
    json_object_set_new(j, "device", pol_device_json(pol_backend_info(e->be)));
    json_object_set_new(j, "weights", json_string(pol_backend_weights(e->be)));
    json_object_set_new(j, "placement", pol_placement_json(&e->memory));
    return j;
}

/* A perplexity or accuracy that is not a number is shown as that, and is a failure. */
static int report(const char *path, const eval_args *a, const evaluation *e, const pol_perplexity *p)
{
    int code = EXIT_DONE;
    if (a->json)
        code = cli_print_json(result_json(path, a, e, p));
    else if (!a->quiet)
        print_text(path, a, e, p);
    const bool bad = eval_tasks_bad(&e->tasks);
    if (!p->bad_chunks)
        return bad ? EXIT_FAILED : code;
    fprintf(stderr, "pollard eval: %s: %lld of %lld chunks of %s have a loss that is not finite\n", path,
            (long long)p->bad_chunks, (long long)p->chunks, a->text);
    return EXIT_FAILED;
}

static int parse(int argc, char **argv, eval_args *a, const char **path, evaluation *e, const pol_protocol **protocol)
{
    cli_option options[N_OPTIONS];
    int n;
    make_options(a, options);
    if (!cli_parse("eval", options, argc, argv, path, 1, &n))
        return EXIT_USAGE;
    if (n < 1)
        return cli_usage("eval", "which model or run?");
    if (!a->text && !a->tasks.n)
        return cli_usage("eval", "--text is missing, or --task");
    *protocol = cli_protocol("eval", a->protocol ? a->protocol : "paper");
    return *protocol ? eval_tasks_parse(&a->tasks, &e->tasks) : EXIT_USAGE;
}

static int run(pol_context *ctx, const char *path, const eval_args *a, const pol_protocol *protocol, evaluation *e)
{
    pol_perplexity p = {0};
    cli_progress_init(&e->progress, a->quiet);
    cli_progress_log(&e->progress, ctx, POL_LOG_WARN);
    const pol_status s = evaluate(ctx, path, a, protocol, e, &p);
    cli_progress_clear(&e->progress);
    return s < 0 ? cli_failed(ctx, "eval", s) : report(path, a, e, &p);
}

int cmd_eval(pol_context *ctx, int argc, char **argv)
{
    eval_args a = {0};
    evaluation e = {0};
    const char *path;
    const pol_protocol *protocol = NULL;
    int code = parse(argc, argv, &a, &path, &e, &protocol);
    if (code == EXIT_DONE)
        code = run(ctx, path, &a, protocol, &e);
    pol_forward_free(e.forward);
    pol_model_free(e.model);
    pol_backend_close(e.be);
    pol_sequences_free(&e.text);
    pol_tokenizer_free(e.tok);
    pol_target_close(&e.target);
    eval_tasks_free(&e.tasks);
    free((void *)a.tasks.items);
    return code;
}
