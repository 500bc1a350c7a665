/* objective.c - losses by cross entropy, KL to the dense model, or accuracy.
 *
 * What has been asked for is a list of requests: each holds what its passes are to leave on the host, and from that its
 * losses are computed when all have been waited for.
 */
#include "core/objective/objective.h"

#include <math.h>
#include <string.h>

#include "core/forward.h"
#include "core/objective/kl.h"

const char *const pol_objective_names[] = {[POL_OBJECTIVE_CROSS_ENTROPY] = "cross-entropy",
                                           [POL_OBJECTIVE_KL] = "kl",
                                           [POL_OBJECTIVE_ACCURACY] = "accuracy",
                                           NULL};

typedef struct request {
    struct request *next;
    int64_t n;
    int64_t *index; /* [n] */
    double *loss;   /* [n] the caller's */
    float *nll;     /* KL: [n, seq_len, k] */
    pol_task_scores scores;
    double *loglik; /* ACCURACY: of scores' rows */
} request;

struct pol_objective {
    pol_context *ctx;
    pol_replicas *r;
    pol_objective_kind kind;
    pol_objective_inputs in;
    pol_dense_top dense; /* KL */
    int32_t *ids;        /* [batch, seq_len] of the pass that is queued */
    int32_t *target;     /* KL: [batch, seq_len, k] */
    request *asked;      /* the latest first */
};

/* What a kind does: queue the passes of a request, which then has what finish needs to fill its losses. */
typedef struct objective_kind {
    pol_status (*queue)(pol_objective *q, request *a);
    void (*finish)(const pol_objective *q, request *a); /* NULL: the passes themselves fill them */
} objective_kind;

static void gather(const pol_objective *q, const int64_t *index, int64_t B)
{
    const int64_t S = q->in.text->seq_len;
    for (int64_t b = 0; b < B; b++)
        memcpy(q->ids + b * S, q->in.text->ids + index[b] * S, (size_t)S * sizeof *q->ids);
}

static pol_status queue_cross_entropy(pol_objective *q, request *a)
{
    for (int64_t i = 0; i < a->n; i += q->in.batch) {
        const int64_t B = pol_min_i64(q->in.batch, a->n - i);
        POL_TRY(pol_check_stop(q->ctx));
        gather(q, a->index + i, B);
        POL_TRY(pol_replicas_queue(q->r, q->ids, B, q->in.text->seq_len, NULL, a->loss + i));
    }
    return POL_OK;
}

static pol_status queue_kl(pol_objective *q, request *a)
{
    const int64_t S = q->in.text->seq_len, k = q->dense.k;
    for (int64_t i = 0; i < a->n; i++)
        if (q->dense.place[a->index[i]] < 0)
            return pol_fail(q->ctx, POL_EARG, "objective kl: sequence %lld is not prepared", (long long)a->index[i]);
    a->nll = pol_alloc_array(q->ctx, pol_mul_count(a->n, S * k), sizeof *a->nll);
    if (!a->nll)
        return POL_ENOMEM;
    for (int64_t i = 0; i < a->n; i += q->in.batch) {
        const int64_t B = pol_min_i64(q->in.batch, a->n - i);
        POL_TRY(pol_check_stop(q->ctx));
        gather(q, a->index + i, B);
        for (int64_t b = 0; b < B; b++)
            pol_dense_top_targets(&q->dense, a->index[i + b], q->target + b * S * k);
        POL_TRY(pol_replicas_queue_targets(q->r, q->ids, q->target, B, S, k, a->nll + i * S * k));
    }
    return POL_OK;
}

static void finish_kl(const pol_objective *q, request *a)
{
    for (int64_t i = 0; i < a->n; i++)
        a->loss[i] = pol_dense_top_kl(&q->dense, a->index[i], a->nll + i * q->in.text->seq_len * q->dense.k);
}

static pol_status queue_accuracy(pol_objective *q, request *a)
{
    const int64_t tokens = pol_forward_max_tokens(q->r->of[0].forward);
    POL_TRY(pol_task_scores_new(q->in.task, a->index, 0, a->n, tokens, &a->scores));
    a->loglik = pol_alloc_array(q->ctx, a->scores.n, sizeof *a->loglik);
    return a->loglik ? pol_task_scores_queue(&a->scores, q->r, NULL, NULL) : POL_ENOMEM;
}

static void finish_accuracy(const pol_objective *q, request *a)
{
    const double *loglik = a->loglik;
    pol_task_scores_read(&a->scores, a->loglik);
    for (int64_t i = 0; i < a->n; i++) {
        const pol_task_item *item = &q->in.task->items[a->index[i]];
        const int32_t taken = pol_task_choose(q->in.task, a->index[i], loglik, false);
        a->loss[i] = taken < 0 ? NAN : taken != item->gold;
        loglik += item->rows;
    }
}

static const objective_kind kinds[] = {
    [POL_OBJECTIVE_CROSS_ENTROPY] = {queue_cross_entropy, NULL},
    [POL_OBJECTIVE_KL] = {queue_kl, finish_kl},
    [POL_OBJECTIVE_ACCURACY] = {queue_accuracy, finish_accuracy},
};

pol_status pol_objective_check(pol_context *ctx, const pol_objective_settings *o)
{
    if ((size_t)o->kind >= POL_COUNT(kinds))
        return pol_fail(ctx, POL_EARG, "objective: %d is no kind of it", (int)o->kind);
    if (o->task_items < 0)
        return pol_fail(ctx, POL_EARG, "objective: %lld items to learn from", (long long)o->task_items);
    if (o->kind != POL_OBJECTIVE_ACCURACY && (o->task || o->task_file || o->task_items))
        return pol_fail(ctx, POL_EARG, "objective %s: takes no task", pol_objective_names[o->kind]);
    if (o->kind != POL_OBJECTIVE_ACCURACY)
        return POL_OK;
    if (!o->task || !o->task_file)
        return pol_fail(ctx, POL_EARG, "objective accuracy: no task is given, a name and a file");
    return pol_task_template_find(o->task)
               ? POL_OK
               : pol_fail(ctx, POL_EARG, "objective accuracy: '%s' is the name of no task", o->task);
}

pol_status pol_objective_items(const pol_objective_settings *o, const pol_task *t, int64_t *n)
{
    *n = o->task_items ? o->task_items : t->n / 2;
    if (*n < 1 || *n >= t->n)
        return pol_fail(t->ctx, POL_EFORMAT, "%s: %lld items: %lld to learn from and the rest to judge by",
                        o->task_file, (long long)t->n, (long long)*n);
    return POL_OK;
}

static pol_status make_room(pol_objective *q)
{
    if (q->kind == POL_OBJECTIVE_ACCURACY)
        return POL_OK;
    const int64_t tokens = pol_mul_count(q->in.batch, q->in.text->seq_len);
    q->ids = pol_alloc_array(q->ctx, tokens, sizeof *q->ids);
    if (!q->ids || q->kind != POL_OBJECTIVE_KL)
        return q->ids ? POL_OK : POL_ENOMEM;
    POL_TRY(pol_dense_top_new(q->in.text, pol_model_config(q->r->of[0].model)->vocab, &q->dense));
    q->target = pol_alloc_array(q->ctx, pol_mul_count(tokens, q->dense.k), sizeof *q->target);
    return q->target ? POL_OK : POL_ENOMEM;
}

pol_status pol_objective_new(pol_replicas *r, pol_objective_kind kind, const pol_objective_inputs *in,
                             pol_objective **out)
{
    *out = NULL;
    pol_objective *q = pol_alloc_zero(r->ctx, sizeof *q);
    if (!q)
        return POL_ENOMEM;
    q->ctx = r->ctx;
    q->r = r;
    q->kind = kind;
    q->in = *in;
    const pol_status s = make_room(q);
    if (s < 0) {
        pol_objective_free(q);
        return s;
    }
    *out = q;
    return POL_OK;
}

static void forget(pol_objective *q, request *a)
{
    pol_task_scores_free(&a->scores);
    pol_free(q->ctx, a->loglik);
    pol_free(q->ctx, a->nll);
    pol_free(q->ctx, a->index);
    pol_free(q->ctx, a);
}

static void forget_all(pol_objective *q)
{
    while (q->asked) {
        request *a = q->asked;
        q->asked = a->next;
        forget(q, a);
    }
}

void pol_objective_drop(pol_objective *q)
{
    pol_replicas_drop(q->r);
    forget_all(q);
}

void pol_objective_free(pol_objective *q)
{
    if (!q)
        return;
    if (q->asked)
        pol_objective_drop(q);
    pol_dense_top_free(&q->dense);
    pol_free(q->ctx, q->ids);
    pol_free(q->ctx, q->target);
    pol_free(q->ctx, q);
}

static pol_status check_indices(const pol_objective *q, const int64_t *index, int64_t first, int64_t n)
{
    const int64_t there = q->kind == POL_OBJECTIVE_ACCURACY ? q->in.task->n : q->in.text->n;
    for (int64_t i = 0; i < n; i++) {
        const int64_t x = index ? index[i] : first + i;
        if (x < 0 || x >= there)
            return pol_fail(q->ctx, POL_EARG, "objective %s: index %lld of %lld", pol_objective_names[q->kind],
                            (long long)x, (long long)there);
    }
    return POL_OK;
}

/* The dense model's sums run in the same order whenever it is asked. */
static pol_status prepare_kl(pol_objective *q, const int64_t *index, int64_t first, int64_t n, pol_eval_progress_fn fn,
                             void *user)
{
    pol_model *m = q->r->of[0].model;
    const int64_t size = pol_model_order_size(m);
    int32_t *order = pol_alloc_array(q->ctx, size, sizeof *order);
    pol_status s = order ? POL_OK : POL_ENOMEM;
    if (s == POL_OK) {
        pol_model_get_order(m, order);
        s = pol_model_set_order(m, NULL);
    }
    if (s == POL_OK)
        s = pol_dense_top_add(&q->dense, q->r->of[0].forward, q->in.batch, index, first, n, fn, user);
    if (s == POL_OK)
        s = pol_model_set_order(m, order);
    pol_free(q->ctx, order);
    return s;
}

pol_status pol_objective_prepare(pol_objective *q, const int64_t *index, int64_t first, int64_t n,
                                 pol_eval_progress_fn fn, void *user)
{
    POL_TRY(check_indices(q, index, first, n));
    if (q->kind != POL_OBJECTIVE_KL)
        return POL_OK;
    POL_TRY(pol_replicas_on(q->r, 0, prepare_kl(q, index, first, n, fn, user)));
    return pol_replicas_set_mask(q->r, NULL);
}

static pol_status new_request(pol_objective *q, const int64_t *index, int64_t first, int64_t n, double *loss,
                              request **out)
{
    request *a = *out = pol_alloc_zero(q->ctx, sizeof *a);
    if (!a)
        return POL_ENOMEM;
    a->n = n;
    a->loss = loss;
    a->next = q->asked;
    q->asked = a;
    a->index = pol_alloc_array(q->ctx, n, sizeof *a->index);
    if (!a->index)
        return POL_ENOMEM;
    for (int64_t i = 0; i < n; i++)
        a->index[i] = index ? index[i] : first + i;
    return POL_OK;
}

pol_status pol_objective_look(pol_objective *q, const int64_t *index, int64_t first, int64_t n, double *loss)
{
    request *a;
    pol_status s = check_indices(q, index, first, n);
    if (s == POL_OK)
        s = new_request(q, index, first, n, loss, &a);
    if (s == POL_OK)
        s = kinds[q->kind].queue(q, a);
    if (s < 0)
        pol_objective_drop(q);
    return s;
}

pol_status pol_objective_settle(pol_objective *q)
{
    const pol_status s = pol_replicas_settle(q->r);
    for (request *a = q->asked; s == POL_OK && kinds[q->kind].finish && a; a = a->next)
        kinds[q->kind].finish(q, a);
    forget_all(q);
    return s;
}

int64_t pol_objective_sequences(const pol_objective *q, const int64_t *index, int64_t first, int64_t n)
{
    int64_t rows = 0;
    if (q->kind != POL_OBJECTIVE_ACCURACY)
        return n;
    for (int64_t i = 0; i < n; i++)
        rows += q->in.task->items[index ? index[i] : first + i].rows;
    return rows;
}

int64_t pol_objective_targets(pol_objective_kind kind) { return kind == POL_OBJECTIVE_KL ? POL_MAX_TARGETS : 1; }

uint64_t pol_objective_bytes(pol_objective_kind kind, int64_t seq_len, int64_t prepared, int64_t asked)
{
    const uint64_t values = (uint64_t)seq_len * (uint64_t)pol_objective_targets(kind);
    if (kind == POL_OBJECTIVE_CROSS_ENTROPY)
        return 0;
    const uint64_t kept = kind == POL_OBJECTIVE_KL ? (uint64_t)prepared * (sizeof(int32_t) + sizeof(float)) : 0;
    return values * (kept + (uint64_t)asked * sizeof(float));
}
