/* perplexity.c - the model's mean negative log-likelihood over packed text. */
#include <string.h>

#include "core/base/base.h"
#include "core/eval/eval.h"
#include "core/eval/nll_sum.h"
#include "core/forward.h"

/* A stretch of batches is queued before any value is waited for. */
typedef struct stretch {
    pol_replicas *r;
    const pol_sequences *s;
    int64_t batch, room; /* sequences of a pass, of a stretch */
    int64_t n;           /* queued */
    float *nll;          /* [room, seq_len - 1] */
} stretch;

static pol_status queue_batch(stretch *t, int64_t first)
{
    const int64_t S = t->s->seq_len, B = pol_min_i64(t->batch, t->s->n - first);
    POL_TRY(pol_check_stop(t->s->ctx));
    POL_TRY(pol_replicas_queue(t->r, t->s->ids + first * S, B, S, t->nll + t->n * (S - 1), NULL));
    t->n += B;
    return POL_OK;
}

static pol_status settle(stretch *t, pol_nll_sum *sum)
{
    POL_TRY(pol_replicas_settle(t->r));
    pol_nll_sum_add(sum, t->nll, t->n, t->s->seq_len - 1);
    t->n = 0;
    return POL_OK;
}

static pol_status run(stretch *t, pol_eval_progress_fn fn, void *user, pol_nll_sum *sum)
{
    for (int64_t done = 0; done < t->s->n;) {
        POL_TRY(queue_batch(t, done));
        done = pol_min_i64(done + t->batch, t->s->n);
        if (t->n == t->room || done == t->s->n)
            POL_TRY(settle(t, sum));
        if (fn)
            POL_TRY(fn(user, done, t->s->n));
    }
    return POL_OK;
}

pol_status pol_eval_replicas(pol_replicas *r, const pol_sequences *s, pol_eval_progress_fn fn, void *user,
                             pol_perplexity *out)
{
    const pol_forward *f = r->of[0].forward;
    memset(out, 0, sizeof *out);
    const int64_t targets = s->seq_len - 1;
    const int64_t batch = targets < 1 ? 0 : pol_min_i64(pol_forward_max_tokens(f) / s->seq_len, s->n);
    if (batch < 1)
        return pol_fail(s->ctx, POL_ELIMIT, "%lld sequences of %lld tokens do not fit the forward pass of %lld tokens",
                        (long long)s->n, (long long)s->seq_len, (long long)pol_forward_max_tokens(f));
    stretch t = {.r = r, .s = s, .batch = batch, .room = batch * pol_forward_max_pending(f) * r->n};
    t.nll = pol_alloc_array(s->ctx, pol_min_i64(t.room, s->n) * targets, sizeof *t.nll);
    if (!t.nll)
        return POL_ENOMEM;
    pol_nll_sum sum = {0};
    const pol_status e = run(&t, fn, user, &sum);
    if (e < 0)
        pol_replicas_drop(r);
    pol_free(s->ctx, t.nll);
    POL_TRY(e);
    pol_nll_sum_result(&sum, out);
    out->seq_len = s->seq_len;
    out->bos = s->bos;
    out->format = s->format;
    return POL_OK;
}

pol_status pol_eval_sequences(pol_forward *f, const pol_sequences *s, pol_eval_progress_fn fn, void *user,
                              pol_perplexity *out)
{
    pol_replica one = {pol_forward_model(f), f};
    return pol_eval_replicas(&(pol_replicas){.ctx = s->ctx, .of = &one, .n = 1}, s, fn, user, out);
}
