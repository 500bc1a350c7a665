/* measure.c - what a mask costs and what it loses. */
#include <math.h>
#include <string.h>

#include "core/eval/eval.h"
#include "core/run/job.h"

pol_status pol_job_look(pol_job *r, const uint8_t *mask, const int64_t *index, int64_t first, int64_t n, double *loss)
{
    const int64_t S = r->in.text.seq_len;
    POL_TRY(pol_replicas_set_mask(&r->replicas, mask));
    for (int64_t i = 0; i < n; i += r->o.batch) {
        const int64_t B = pol_min_i64(r->o.batch, n - i);
        POL_TRY(pol_check_stop(r->ctx));
        for (int64_t b = 0; b < B; b++) {
            const int64_t sequence = index ? index[i + b] : first + i + b;
            memcpy(r->batch_ids + b * S, r->in.text.ids + sequence * S, (size_t)S * sizeof *r->batch_ids);
        }
        POL_TRY(pol_replicas_queue(&r->replicas, r->batch_ids, B, S, NULL, loss + i));
    }
    return POL_OK;
}

/* Of a loss that is lost: nothing is learnt from such a run, and no mean is made without it. */
static pol_status fail_numeric(pol_job *r, const char *text, const uint8_t *mask, int64_t step, double loss)
{
    if (isnan(loss))
        loss = fabs(loss); /* not "-nan" */
    if (!mask)
        return pol_fail(r->ctx, POL_ENUMERIC, "%s: the dense model's loss on %s is %g", r->o.model, text, loss);
    return pol_fail(r->ctx, POL_ENUMERIC, "step %lld, hard mask: the loss on %s is %g", (long long)step, text, loss);
}

pol_status pol_job_held_out(pol_job *r, const uint8_t *mask, int64_t step, double *mean)
{
    const int64_t n = r->o.held_out;
    *mean = NAN;
    if (!n)
        return POL_OK;
    double *loss = pol_alloc_array(r->ctx, n, sizeof *loss);
    if (!loss)
        return POL_ENOMEM;
    pol_status s = pol_job_look(r, mask, NULL, r->in.n_learn, n, loss);
    if (s == POL_OK)
        s = pol_replicas_settle(&r->replicas);
    else
        pol_replicas_drop(&r->replicas);
    if (s == POL_OK)
        *mean = pol_held_out_mean(&r->in, loss, n);
    pol_free(r->ctx, loss);
    POL_TRY(s);
    r->sequences[POL_PURPOSE_HELD_OUT] += n;
    return isfinite(*mean) ? POL_OK : fail_numeric(r, "the held-out sequences", mask, step, *mean);
}

static pol_status eval_progress(void *user, int64_t done, int64_t total)
{
    pol_job *r = user;
    if (r->watch && r->watch->progress)
        r->watch->progress(r->watch->user, done, total);
    return POL_OK;
}

pol_status pol_job_measure(pol_job *r, const uint8_t *mask, int64_t step, pol_outcome *x)
{
    pol_config left = *pol_source_config(r->in.src);
    if (mask)
        pol_mask_config(r->in.units, mask, pol_source_config(r->in.src), &left);
    *x = (pol_outcome){.params = pol_config_total_params(&left),
                       .block_params = pol_config_block_params(&left),
                       .macs = pol_config_macs(&left)};
    POL_TRY(pol_job_held_out(r, mask, step, &x->held_out));
    if (r->in.eval.n) {
        POL_TRY(pol_replicas_set_mask(&r->replicas, mask));
        POL_TRY(pol_eval_replicas(&r->replicas, &r->in.eval, eval_progress, r, &x->perplexity));
        strcpy(x->perplexity.protocol, r->o.protocol->name);
        r->sequences[POL_PURPOSE_EVAL] += r->in.eval.n;
        if (x->perplexity.bad_chunks)
            return fail_numeric(r, r->o.eval_text, mask, step, x->perplexity.nll);
    }
    x->known = true;
    return POL_OK;
}

uint64_t pol_job_peak_device_bytes(const pol_job *r)
{
    uint64_t peak = 0;
    for (int64_t i = 0; i < r->in.n_devices; i++)
        peak = r->in.devices[i]->bytes_peak > peak ? r->in.devices[i]->bytes_peak : peak;
    return peak;
}
