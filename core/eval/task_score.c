/* task_score.c - log-likelihoods of choices: rows of about the same length go through the model together.
 *
 * Attention is causal, so what stands behind a row in its sequence does not reach its values: shorter rows are filled
 * up with a token that is not scored, and the numbers are exact.
 */
#include <stdlib.h>
#include <string.h>

#include "core/eval/task.h"

static int64_t width(const pol_task_scores *s, int64_t i) { return pol_max_i64(2, s->t->rows[s->rows[i].row].n - 1); }

/* Rows of the pass that begins with row i: all as wide as the first. */
static int64_t pass_rows(const pol_task_scores *s, int64_t i)
{
    return pol_min_i64(s->max_tokens / width(s, i), s->n - i);
}

typedef struct by_length {
    pol_task_scored row;
    int32_t n;
} by_length;

static int compare(const void *a, const void *b)
{
    const by_length *x = a, *y = b;
    if (x->n != y->n)
        return x->n < y->n ? 1 : -1;
    return x->row.slot < y->row.slot ? -1 : x->row.slot > y->row.slot;
}

static pol_status sort_rows(pol_task_scores *s, const int64_t *index, int64_t first, int64_t n)
{
    by_length *rows = pol_alloc_array(s->t->ctx, s->n, sizeof *rows);
    if (!rows)
        return POL_ENOMEM;
    int64_t slot = 0;
    for (int64_t i = 0; i < n; i++) {
        const pol_task_item *item = &s->t->items[index ? index[i] : first + i];
        for (int64_t k = item->first; k < item->first + item->rows; k++, slot++)
            rows[slot] = (by_length){{.row = k, .slot = slot}, s->t->rows[k].n};
    }
    qsort(rows, (size_t)s->n, sizeof *rows, compare);
    for (int64_t i = 0; i < s->n; i++)
        s->rows[i] = rows[i].row;
    pol_free(s->t->ctx, rows);
    return POL_OK;
}

/* Where the values of each row go; how many there are. */
static int64_t lay_out(pol_task_scores *s)
{
    int64_t cells = 0;
    for (int64_t i = 0, rows; i < s->n; i += rows) {
        const int64_t S = width(s, i);
        rows = pass_rows(s, i);
        for (int64_t b = 0; b < rows; b++)
            s->rows[i + b].at = cells + b * S;
        cells += rows * S;
    }
    return cells;
}

static pol_status prepare(pol_task_scores *s, const int64_t *index, int64_t first, int64_t n)
{
    pol_context *ctx = s->t->ctx;
    s->rows = pol_alloc_array(ctx, s->n, sizeof *s->rows);
    s->ids = pol_alloc_array(ctx, s->max_tokens, sizeof *s->ids);
    s->target = pol_alloc_array(ctx, s->max_tokens, sizeof *s->target);
    if (!s->rows || !s->ids || !s->target)
        return POL_ENOMEM;
    POL_TRY(sort_rows(s, index, first, n));
    s->nll = pol_alloc_array(ctx, lay_out(s), sizeof *s->nll);
    return s->nll ? POL_OK : POL_ENOMEM;
}

pol_status pol_task_scores_new(const pol_task *t, const int64_t *index, int64_t first, int64_t n, int64_t max_tokens,
                               pol_task_scores *out)
{
    *out = (pol_task_scores){.t = t, .max_tokens = max_tokens};
    if (max_tokens < t->longest)
        return pol_fail(t->ctx, POL_ELIMIT, "a choice of %lld tokens does not fit the forward pass of %lld tokens",
                        (long long)t->longest, (long long)max_tokens);
    for (int64_t i = 0; i < n; i++)
        out->n += t->items[index ? index[i] : first + i].rows;
    const pol_status s = prepare(out, index, first, n);
    if (s < 0)
        pol_task_scores_free(out);
    return s;
}

void pol_task_scores_free(pol_task_scores *s)
{
    if (!s->t)
        return;
    pol_free(s->t->ctx, s->rows);
    pol_free(s->t->ctx, s->nll);
    pol_free(s->t->ctx, s->ids);
    pol_free(s->t->ctx, s->target);
    memset(s, 0, sizeof *s);
}

static void fill_row(const pol_task *t, const pol_task_row *row, int64_t S, int32_t *ids, int32_t *target)
{
    const int32_t *from = t->ids.ids + row->at;
    for (int64_t p = 0; p < S; p++) {
        ids[p] = p < row->n - 1 ? from[p] : from[0];
        target[p] = p + 1 >= row->scored && p + 1 < row->n ? from[p + 1] : -1;
    }
}

pol_status pol_task_scores_queue(pol_task_scores *s, pol_replicas *r, pol_eval_progress_fn fn, void *user)
{
    for (int64_t i = 0, B; i < s->n; i += B) {
        const int64_t S = width(s, i);
        B = pass_rows(s, i);
        POL_TRY(pol_check_stop(s->t->ctx));
        for (int64_t b = 0; b < B; b++)
            fill_row(s->t, &s->t->rows[s->rows[i + b].row], S, s->ids + b * S, s->target + b * S);
        POL_TRY(pol_replicas_queue_targets(r, s->ids, s->target, B, S, 1, s->nll + s->rows[i].at));
        if (fn)
            POL_TRY(fn(user, i + B, s->n));
    }
    return POL_OK;
}

void pol_task_scores_read(const pol_task_scores *s, double *loglik)
{
    for (int64_t i = 0; i < s->n; i++) {
        const pol_task_scored *x = &s->rows[i];
        const int64_t n = s->t->rows[x->row].n - 1;
        double sum = 0;
        for (int64_t p = 0; p < n; p++)
            sum -= s->nll[x->at + p];
        loglik[x->slot] = sum;
    }
}
