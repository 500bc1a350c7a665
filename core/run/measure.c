/* measure.c - what a mask costs and what it loses. */
#include <math.h>
#include <string.h>

#include "core/eval/eval.h"
#include "core/run/job.h"

int64_t pol_job_learnt_from(const pol_job *r) { return r->in.task ? r->in.n_learn_items : r->in.n_learn; }

int64_t pol_job_judged_by(const pol_job *r)
{
    return r->in.task ? pol_task_items(r->in.task) - pol_job_learnt_from(r) : r->o.held_out;
}

pol_status pol_job_look(pol_job *r, const int64_t *index, int64_t n, double *loss)
{
    return pol_objective_look(r->objective, index, 0, n, loss);
}

/* Of a loss that is lost: nothing is learnt from such a run, and no mean is made without it. */
static pol_status fail_numeric(pol_job *r, const char *text, bool masked, int64_t step, double loss)
{
    if (isnan(loss))
        loss = fabs(loss); /* not "-nan" */
    if (!masked)
        return pol_fail(r->ctx, POL_ENUMERIC, "%s: the dense model's loss on %s is %g", r->o.model, text, loss);
    return pol_fail(r->ctx, POL_ENUMERIC, "step %lld, hard mask: the loss on %s is %g", (long long)step, text, loss);
}

static double plain_mean(const double *loss, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += loss[i];
    return sum / (double)n;
}

/* Mean loss of n indices from `first` on under what is set; NaN where there are none. */
static pol_status mean_loss(pol_job *r, pol_objective *q, int64_t first, int64_t n, double *mean)
{
    *mean = NAN;
    if (!n)
        return POL_OK;
    double *loss = pol_alloc_array(r->ctx, n, sizeof *loss);
    if (!loss)
        return POL_ENOMEM;
    pol_status s = pol_objective_look(q, NULL, first, n, loss);
    if (s == POL_OK)
        s = pol_objective_settle(q);
    else
        pol_objective_drop(q);
    if (s == POL_OK)
        *mean = r->in.task && q == r->objective ? plain_mean(loss, n) : pol_held_out_mean(&r->in, loss, n);
    pol_free(r->ctx, loss);
    POL_TRY(s);
    r->sequences[POL_PURPOSE_HELD_OUT] += pol_objective_sequences(q, NULL, first, n);
    return POL_OK;
}

pol_status pol_job_held_out(pol_job *r, double *mean)
{
    return mean_loss(r, r->nll, r->in.n_learn, r->o.held_out, mean);
}

pol_status pol_job_judge(pol_job *r, int64_t step, double *mean)
{
    POL_TRY(mean_loss(r, r->objective, pol_job_learnt_from(r), pol_job_judged_by(r), mean));
    if (pol_job_judged_by(r) && !isfinite(*mean))
        return fail_numeric(r, "the held-out sequences", true, step, *mean);
    return POL_OK;
}

pol_status pol_job_progress(void *user, int64_t done, int64_t total)
{
    pol_job *r = user;
    if (r->watch && r->watch->progress)
        r->watch->progress(r->watch->user, done, total);
    return POL_OK;
}

pol_status pol_job_measure(pol_job *r, const uint8_t *mask, bool set, int64_t step, pol_outcome *x)
{
    pol_config left = *pol_source_config(r->in.src);
    if (mask)
        pol_mask_config(r->in.units, mask, pol_source_config(r->in.src), &left);
    *x = (pol_outcome){.params = pol_config_total_params(&left),
                       .block_params = pol_config_block_params(&left),
                       .macs = pol_config_macs(&left)};
    if (!set)
        POL_TRY(pol_replicas_set_mask(&r->replicas, mask));
    POL_TRY(pol_job_held_out(r, &x->held_out));
    if (r->o.held_out && !isfinite(x->held_out))
        return fail_numeric(r, "the held-out sequences", mask, step, x->held_out);
    if (r->in.eval.n) {
        POL_TRY(pol_eval_replicas(&r->replicas, &r->in.eval, pol_job_progress, r, &x->perplexity));
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
