/* measure.c - what a mask costs and what it loses. */
#include <math.h>
#include <string.h>

#include "core/run/job.h"

pol_status pol_job_losses(pol_job *r, const uint8_t *mask, const int64_t *index, int64_t first, int64_t n, double *loss)
{
    const int64_t S = r->in.text.seq_len;
    POL_TRY(pol_model_set_mask(r->model, mask));
    for (int64_t i = 0; i < n; i += r->o.batch) {
        const int64_t B = pol_min_i64(r->o.batch, n - i);
        for (int64_t b = 0; b < B; b++)
            memcpy(r->batch_ids + b * S, r->in.text.ids + (index ? index[i + b] : first + i + b) * S, (size_t)S * sizeof *r->batch_ids);
        POL_TRY(pol_forward_nll(r->forward, r->batch_ids, B, S, NULL, loss + i));
    }
    return POL_OK;
}

static pol_status eval_progress(void *user, int64_t done, int64_t total)
{
    pol_job *r = user;
    if (r->watch && r->watch->progress)
        r->watch->progress(r->watch->user, done, total);
    return pol_check_stop(r->ctx);
}

pol_status pol_job_held_out(pol_job *r, const uint8_t *mask, double *mean)
{
    const int64_t n = r->o.held_out;
    *mean = NAN;
    if (!n)
        return POL_OK;
    double *loss = pol_alloc_array(r->ctx, n, sizeof *loss);
    if (!loss)
        return POL_ENOMEM;
    pol_status s = pol_job_losses(r, mask, NULL, r->in.n_learn, n, loss);
    double sum = 0;
    for (int64_t i = 0; s == POL_OK && i < n; i++)
        sum += loss[i];
    pol_free(r->ctx, loss);
    *mean = sum / (double)n;
    r->sequences[POL_PURPOSE_HELD_OUT] += n;
    if (s == POL_OK && !isfinite(*mean))
        return pol_fail(r->ctx, POL_ENUMERIC, "%s: the loss of the held-out sequences is %g under the %s", r->o.model, *mean,
                        mask ? "hard mask" : "dense model");
    return s;
}

pol_status pol_job_measure(pol_job *r, const uint8_t *mask, pol_outcome *x)
{
    const pol_config *dense = pol_source_config(r->in.src);
    pol_config *left = pol_alloc(r->ctx, sizeof *left);
    if (!left)
        return POL_ENOMEM;
    *left = *dense;
    if (mask)
        pol_mask_config(r->in.units, mask, dense, left);
    memset(x, 0, sizeof *x);
    x->known = true;
    x->params = pol_config_total_params(left);
    x->block_params = pol_config_block_params(left);
    x->macs = pol_config_macs(left);
    pol_free(r->ctx, left);
    POL_TRY(pol_job_held_out(r, mask, &x->held_out));
    if (!r->in.eval.n)
        return POL_OK;
    POL_TRY(pol_model_set_mask(r->model, mask));
    POL_TRY(pol_eval_sequences(r->forward, &r->in.eval, eval_progress, r, &x->perplexity));
    strcpy(x->perplexity.protocol, r->o.protocol->name);
    r->sequences[POL_PURPOSE_EVAL] += r->in.eval.n;
    return POL_OK;
}

