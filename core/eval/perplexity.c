/* perplexity.c - the model's mean negative log-likelihood over packed text. */
#include <string.h>

#include "core/base/base.h"
#include "core/eval/nll_sum.h"
#include "core/forward.h"

pol_status pol_eval_sequences(pol_forward *f, const pol_sequences *s, pol_eval_progress_fn fn, void *user,
                              pol_perplexity *out)
{
    memset(out, 0, sizeof *out);
    const int64_t targets = s->seq_len - 1;
    const int64_t batch = targets < 1 ? 0 : pol_min_i64(pol_forward_max_tokens(f) / s->seq_len, s->n);
    if (batch < 1)
        return pol_fail(s->ctx, POL_ELIMIT, "%lld sequences of %lld tokens do not fit the forward pass of %lld tokens",
                        (long long)s->n, (long long)s->seq_len, (long long)pol_forward_max_tokens(f));
    float *nll = pol_alloc_array(s->ctx, batch * targets, sizeof *nll);
    if (!nll)
        return POL_ENOMEM;
    pol_nll_sum sum = {0};
    pol_status e = POL_OK;
    for (int64_t done = 0; done < s->n && e == POL_OK;) {
        const int64_t B = pol_min_i64(batch, s->n - done);
        e = pol_check_stop(s->ctx);
        if (e == POL_OK)
            e = pol_forward_nll(f, s->ids + done * s->seq_len, B, s->seq_len, nll, NULL);
        if (e < 0)
            break;
        pol_nll_sum_add(&sum, nll, B, targets);
        done += B;
        if (fn)
            e = fn(user, done, s->n);
    }
    pol_free(s->ctx, nll);
    POL_TRY(e);
    pol_nll_sum_result(&sum, out);
    out->seq_len = s->seq_len;
    out->bos = s->bos;
    out->format = s->format;
    return POL_OK;
}
