/* eval_tasks.c - tasks named on the command line, their accuracies as a table and as JSON. */
#include "eval_tasks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "pollard/json.h"

int eval_tasks_parse(const cli_list *list, eval_tasks *out)
{
    *out = (eval_tasks){.of = list->n ? calloc((size_t)list->n, sizeof *out->of) : NULL};
    if (list->n && !out->of) {
        fputs("pollard eval: no memory for the tasks\n", stderr);
        return EXIT_FAILED;
    }
    for (; out->n < list->n; out->n++) {
        const int code = cli_parse_task("eval", "task", list->items[out->n], &out->of[out->n].named);
        if (code != EXIT_DONE)
            return code;
    }
    return EXIT_DONE;
}

void eval_tasks_free(eval_tasks *t)
{
    for (int64_t i = 0; i < t->n; i++)
        pol_task_free(t->of[i].task);
    free(t->of);
}

pol_status eval_tasks_read(pol_context *ctx, const pol_tokenizer *tok, const pol_config *c, pol_bos bos, int64_t limit,
                           eval_tasks *t)
{
    for (int64_t i = 0; i < t->n; i++) {
        eval_task *x = &t->of[i];
        POL_TRY(pol_task_read(ctx, tok, c, x->named.name, x->named.file, bos, limit, &x->task));
    }
    return POL_OK;
}

int64_t eval_tasks_longest(const eval_tasks *t)
{
    int64_t longest = 0;
    for (int64_t i = 0; i < t->n; i++)
        longest = pol_task_longest(t->of[i].task) > longest ? pol_task_longest(t->of[i].task) : longest;
    return longest;
}

uint64_t eval_tasks_bytes(const eval_tasks *t)
{
    uint64_t bytes = 0;
    for (int64_t i = 0; i < t->n; i++)
        bytes += pol_task_bytes(t->of[i].task);
    return bytes;
}

static pol_status on_progress(void *user, int64_t done, int64_t total)
{
    cli_progress_line(user, false, "%lld of %lld choices", (long long)done, (long long)total);
    return POL_OK;
}

pol_status eval_tasks_run(pol_forward *f, eval_tasks *t, cli_progress *p)
{
    for (int64_t i = 0; i < t->n; i++) {
        eval_task *x = &t->of[i];
        cli_progress_stage(p, x->named.name);
        POL_TRY(pol_task_eval(f, x->task, 0, pol_task_items(x->task), on_progress, p, NULL, &x->result));
    }
    return POL_OK;
}

bool eval_tasks_bad(const eval_tasks *t)
{
    bool bad = false;
    for (int64_t i = 0; i < t->n; i++) {
        const pol_task_result *r = &t->of[i].result;
        bad |= r->bad_items > 0;
        if (r->bad_items)
            fprintf(stderr, "pollard eval: %lld of %lld items of %s have a log-likelihood that is not finite\n",
                    (long long)r->bad_items, (long long)r->items, t->of[i].named.file);
    }
    return bad;
}

/* "0.6180 +- 0.0113", or what is known of it. */
static const char *share(char buf[32], double x, double error)
{
    if (isnan(x))
        snprintf(buf, 32, "-");
    else if (isnan(error))
        snprintf(buf, 32, "%.4f", x);
    else
        snprintf(buf, 32, "%.4f +- %.4f", x, error);
    return buf;
}

void eval_tasks_print(const eval_tasks *t)
{
    char acc[32], norm[32];
    if (t->n)
        printf("%-12s %-18s %-18s %7s\n", "task", "acc", "acc_norm", "items");
    for (int64_t i = 0; i < t->n; i++) {
        const pol_task_result *r = &t->of[i].result;
        printf("%-12s %-18s %-18s %7lld  %s", r->how->name, share(acc, r->acc, r->acc_error),
               share(norm, r->norm, r->norm_error), (long long)r->items, t->of[i].named.file);
        if (r->cut)
            printf(", %lld of %lld choices cut to the model's positions", (long long)r->cut, (long long)r->choices);
        putchar('\n');
    }
}

json_t *eval_tasks_json(const eval_tasks *t)
{
    json_t *a = json_array();
    for (int64_t i = 0; i < t->n; i++) {
        json_t *j = pol_task_result_json(&t->of[i].result);
        json_object_set_new(j, "file", json_string(t->of[i].named.file));
        json_array_append_new(a, j);
    }
    return a;
}
