/* task.h - the items of a multiple-choice file, and passes that give the log-likelihoods of their choices. */
#ifndef POL_EVAL_TASK_H
#define POL_EVAL_TASK_H

#include "core/data/reader.h"
#include "core/replicas.h"
#include "pollard/task.h"

/* A choice: tokens [at, at + n) of the task, of which those from `scored` >= 1 on are the continuation. */
typedef struct pol_task_row {
    int64_t at;
    int32_t n, scored;
    int32_t characters; /* of the choice, Unicode's */
    bool cut;           /* its beginning is left out */
} pol_task_row;

typedef struct pol_task_item {
    int64_t first; /* row */
    int32_t rows, gold;
} pol_task_item;

struct pol_task {
    pol_context *ctx;
    const pol_task_template *how;
    int64_t n, cap;       /* items: there are, fit */
    int64_t n_rows, room; /* rows likewise */
    pol_task_item *items;
    pol_task_row *rows;
    pol_token_list ids;
    int64_t longest; /* sequence that goes through the model: a row but for its last token, at least 2 */
};

/* One item as it stands in the file, with the template applied; strings are valid UTF-8, not empty but for contexts,
 * and valid during the call. */
typedef struct pol_task_record {
    int64_t line;
    int32_t n, gold;
    const char *const *context, *const *continuation; /* [n] */
    const char *const *choice;                        /* [n] what tells them apart: its length norms */
} pol_task_record;
typedef pol_status (*pol_task_record_fn)(void *user, const pol_task_record *r);

/* Calls fn once an item, in file order; a negative status stops and is passed up. */
pol_status pol_task_parse(pol_reader *r, const pol_task_template *how, pol_task_record_fn fn, void *user);

/* Rows of some items, sorted by length so that those of a pass are about as long as each other; and their values. */
typedef struct pol_task_scored {
    int64_t row, slot; /* of the task; of the items asked for */
    int64_t at;        /* where its values begin */
} pol_task_scored;

typedef struct pol_task_scores {
    const pol_task *t;
    int64_t max_tokens; /* of a pass */
    int64_t n;
    pol_task_scored *rows; /* [n] longest first */
    float *nll;            /* of each pass [B, S], one after the other */
    int32_t *ids, *target; /* [max_tokens] of the pass under way */
} pol_task_scores;

/* Of the items index[0..n) (NULL: from `first` on), which are the task's. On success *out is yours:
 * pol_task_scores_free(). */
pol_status pol_task_scores_new(const pol_task *t, const int64_t *index, int64_t first, int64_t n, int64_t max_tokens,
                               pol_task_scores *out);
void pol_task_scores_free(pol_task_scores *s); /* takes a zeroed one */
/* Queues all passes; where the replicas are settled afterwards, read gives the log-likelihoods, item by item, choice by
 * choice: loglik [s->n]. */
pol_status pol_task_scores_queue(pol_task_scores *s, pol_replicas *r, pol_eval_progress_fn fn, void *user);
void pol_task_scores_read(const pol_task_scores *s, double *loglik);

/* Which choice of an item with these log-likelihoods is taken, the first of equals; by characters where normed. -1: one
 * of them is not finite. */
int32_t pol_task_choose(const pol_task *t, int64_t item, const double *loglik, bool normed);

/* pol_task_eval with its passes dealt out. */
pol_status pol_task_eval_replicas(pol_replicas *r, const pol_task *t, int64_t first, int64_t n, pol_eval_progress_fn fn,
                                  void *user, double *loglik, pol_task_result *out);

#endif
