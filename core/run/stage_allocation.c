/* stage_allocation.c - counts of units, learnt in the repaired model where there is one. */
#include <string.h>

#include "core/run/stage.h"

static pol_status look(void *user, const int64_t *count, const int64_t *index, int64_t n, double *loss)
{
    pol_job *r = user;
    POL_TRY(pol_nested_set(r, count));
    return pol_stage_look(r, index, n, loss);
}

static pol_status open_stage(pol_job *r)
{
    const pol_allocation_losses losses = {.look = look, .settle = pol_stage_settle, .drop = pol_stage_drop, .user = r};
    return pol_shaper_new(r->ctx, &r->o.allocation, &r->nested.rules, pol_job_state_of(r).count, pol_job_learnt_from(r),
                          &losses, &r->shaper);
}

static pol_status resume(pol_job *r)
{
    const pol_job_state at = pol_job_state_of(r);
    const pol_allocation_state s = {
        .next = r->ck.step, .deviation = *at.deviation, .mean = at.mean, .spread = at.spread};
    return pol_shaper_set(r->shaper, &s);
}

static void save(pol_job *r)
{
    const pol_job_state at = pol_job_state_of(r);
    const pol_allocation_state *s = pol_shaper_state(r->shaper);
    r->ck.step = s->next;
    *at.deviation = s->deviation;
    memcpy(at.mean, s->mean, (size_t)pol_nested_counts(r) * sizeof *s->mean);
    memcpy(at.spread, s->spread, (size_t)pol_nested_counts(r) * sizeof *s->spread);
}

static pol_status step(pol_job *r, pol_step_report *report) { return pol_shaper_step(r->shaper, report); }

static pol_status set(pol_job *r)
{
    pol_shaper_counts(r->shaper, r->nested.count);
    return pol_nested_set(r, r->nested.count);
}

/* Counts, not means: what was judged. */
static void keep(pol_job *r)
{
    double *best = pol_job_state_of(r).best;
    for (int64_t i = 0; i < pol_nested_counts(r); i++)
        best[i] = (double)r->nested.count[i];
}

static pol_status accept(pol_job *r, bool best)
{
    const pol_job_state at = pol_job_state_of(r);
    if (!best) {
        POL_TRY(set(r));
        keep(r);
    }
    memcpy(at.count, at.best, (size_t)pol_nested_counts(r) * sizeof *at.count);
    pol_nested_probabilities(r, at.count, r->ck.s);
    return POL_OK;
}

static void close_stage(pol_job *r)
{
    pol_shaper_free(r->shaper);
    r->shaper = NULL;
}

const pol_stage pol_stage_allocation = {open_stage, resume, save, step, set, keep, accept, close_stage};
