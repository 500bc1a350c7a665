/* eval_tasks.h - the multiple-choice part of `pollard eval`. */
#ifndef CLI_EVAL_TASKS_H
#define CLI_EVAL_TASKS_H

#include "cli.h"

typedef struct eval_task {
    cli_task named;
    pol_task *task;
    pol_task_result result;
} eval_task;

typedef struct eval_tasks {
    eval_task *of; /* [n] */
    int64_t n;
} eval_tasks;

/* EXIT_DONE, or the exit code of a mistake that has been reported. *out is the caller's in any case: eval_tasks_free().
 */
int eval_tasks_parse(const cli_list *list, eval_tasks *out);
void eval_tasks_free(eval_tasks *t); /* takes a zeroed one */
pol_status eval_tasks_read(pol_context *ctx, const pol_tokenizer *tok, const pol_config *c, pol_bos bos, int64_t limit,
                           eval_tasks *t);
int64_t eval_tasks_longest(const eval_tasks *t); /* sequence; 0: none */
uint64_t eval_tasks_bytes(const eval_tasks *t);
pol_status eval_tasks_run(pol_forward *f, eval_tasks *t, cli_progress *p);
bool eval_tasks_bad(const eval_tasks *t); /* one has an item whose log-likelihoods are not finite */
void eval_tasks_print(const eval_tasks *t);
json_t *eval_tasks_json(const eval_tasks *t);

#endif
