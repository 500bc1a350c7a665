/* task.h - the items of a multiple-choice file, and passes that give the log-likelihoods of their choices. */
#ifndef POL_EVAL_TASK_H
#define POL_EVAL_TASK_H

#include "core/data/reader.h"
#include "core/replicas.h"
#include "pollard/task.h"

/* A choice: tokens [at, at + n) of the task, of which those from `scored` on are the continuation. */
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
    int64_t n, cap, n_rows, row_cap, n_ids, id_cap;
    pol_task_item *items; /* [n] */
    pol_task_row *rows;   /* [n_rows] */
    int32_t *ids;         /* [n_ids] */
    int64_t longest;      /* sequence that goes through the model: a row but for its last token, at least 2 */
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

/* Log-likelihoods of the choices of some items, one pass after the other: rows sorted by length, batches as large as
 * fit. */
typedef struct pol_task_scores {
    pol_context *ctx;
    const pol_task *t;
    int64_t n_rows, n_cells;
    int64_t *row;   /* [n_rows] of the task, longest first */
    int64_t *at;    /* [n_rows] where its values begin in nll */
    int32_t *width; /* [n_rows] how many there are */
    float *nll;     /* [n_cells] */
} pol_task_scores;

/* What scoring the items index[0..n) (NULL: from `first` on) takes. On success *out is yours: pol_task_scores_free().
 */
pol_status pol_task_scores_new(const pol_task *t, const int64_t *index, int64_t first, int64_t n, int64_t max_tokens,
                               int64_t batch, pol_task_scores *out);
void pol_task_scores_free(pol_task_scores *s); /* takes a zeroed one */

/* Which choice of an item with these log-likelihoods is taken, the first of equals; by characters where normed. -1: one
 * of them is not finite. */
int32_t pol_task_choose(const pol_task *t, int64_t item, const double *loglik, bool normed);

#endif
