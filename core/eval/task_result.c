/* task_result.c - which choices are taken, and how often that is the right one. */
#include <math.h>
#include <string.h>

#include "core/eval/task.h"
#include "core/forward.h"

int32_t pol_task_choose(const pol_task *t, int64_t item, const double *loglik, bool normed)
{
    const pol_task_item *x = &t->items[item];
    int32_t best = 0;
    double most = -INFINITY;
    for (int32_t i = 0; i < x->rows; i++) {
        const double v = normed ? loglik[i] / t->rows[x->first + i].characters : loglik[i];
        if (!isfinite(v))
            return -1;
        if (v > most) {
            most = v;
            best = i;
        }
    }
    return best;
}

/* Of a share of n: from the deviation of its n zeros and ones. */
static double share_error(double share, int64_t n) { return n > 1 ? sqrt(share * (1 - share) / (double)(n - 1)) : NAN; }

static void summarise(const pol_task *t, int64_t first, int64_t n, const double *loglik, pol_task_result *out)
{
    int64_t right = 0, right_normed = 0;
    *out = (pol_task_result){.how = t->how, .items = n, .choices = pol_task_rows(t, first, n)};
    for (int64_t i = first; i < first + n; i++) {
        const pol_task_item *x = &t->items[i];
        const double *own = loglik + (x->first - t->items[first].first);
        const int32_t taken = pol_task_choose(t, i, own, false);
        out->bad_items += taken < 0;
        right += taken == x->gold;
        right_normed += pol_task_choose(t, i, own, true) == x->gold;
        for (int64_t k = x->first; k < x->first + x->rows; k++)
            out->cut += t->rows[k].cut;
    }
    out->acc = out->bad_items ? NAN : (double)right / (double)n;
    out->norm = out->bad_items || !t->how->normed ? NAN : (double)right_normed / (double)n;
    out->acc_error = share_error(out->acc, n);
    out->norm_error = share_error(out->norm, n);
}

static pol_status score(pol_replicas *r, const pol_task *t, int64_t first, int64_t n, pol_eval_progress_fn fn,
                        void *user, double *loglik)
{
    pol_task_scores s;
    POL_TRY(pol_task_scores_new(t, NULL, first, n, pol_forward_max_tokens(r->of[0].forward), &s));
    pol_status e = pol_task_scores_queue(&s, r, fn, user);
    if (e == POL_OK)
        e = pol_replicas_settle(r);
    else
        pol_replicas_drop(r);
    if (e == POL_OK)
        pol_task_scores_read(&s, loglik);
    pol_task_scores_free(&s);
    return e;
}

pol_status pol_task_eval_replicas(pol_replicas *r, const pol_task *t, int64_t first, int64_t n, pol_eval_progress_fn fn,
                                  void *user, double *loglik, pol_task_result *out)
{
    memset(out, 0, sizeof *out);
    if (first < 0 || n < 1 || n > t->n || first > t->n - n)
        return pol_fail(t->ctx, POL_EARG, "%lld items from %lld on, of a task that has %lld", (long long)n,
                        (long long)first, (long long)t->n);
    double *own = loglik ? loglik : pol_alloc_array(t->ctx, pol_task_rows(t, first, n), sizeof *own);
    if (!own)
        return POL_ENOMEM;
    const pol_status s = score(r, t, first, n, fn, user, own);
    if (s == POL_OK)
        summarise(t, first, n, own, out);
    if (own != loglik)
        pol_free(t->ctx, own);
    return s;
}

pol_status pol_task_eval(pol_forward *f, const pol_task *t, int64_t first, int64_t n, pol_eval_progress_fn fn,
                         void *user, double *loglik, pol_task_result *out)
{
    pol_replica one = {pol_forward_model(f), f};
    return pol_task_eval_replicas(&(pol_replicas){.ctx = t->ctx, .of = &one, .n = 1}, t, first, n, fn, user, loglik,
                                  out);
}
