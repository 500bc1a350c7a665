/* stage_units.c - a probability a unit: all that the methods `units` and `reference` learn, and the last refinement of
 * an allocation.
 *
 * An allocation's repaired rows are for its own units. Here others may come in for some of them, so the model is
 * repaired for the next larger level of each block: every unit of that level has its row, and the mask leaves some of
 * them out. */
#include <string.h>

#include "core/run/stage.h"

static pol_status look(void *user, const uint8_t *mask, const int64_t *index, int64_t n, double *loss)
{
    pol_job *r = user;
    POL_TRY(pol_replicas_set_mask(&r->replicas, mask));
    return pol_stage_look(r, index, n, loss);
}

static pol_status open_stage(pol_job *r)
{
    const pol_losses losses = {.look = look, .settle = pol_stage_settle, .drop = pol_stage_drop, .user = r};
    POL_TRY(pol_distribution_new(r->in.units, r->o.granularity, &r->dist));
    if (r->o.method == POL_METHOD_ALLOCATION) {
        POL_TRY(pol_nested_put_larger(r));
        pol_nested_probabilities(r, pol_job_state_of(r).count, r->dist->s);
    } else {
        memcpy(r->dist->s, r->initial_s, (size_t)r->in.units->n * sizeof *r->dist->s);
    }
    if (r->o.learn.smin > 0)
        pol_distribution_clamp(r->dist, (float)r->o.learn.smin);
    return pol_stage_trainer(r, &r->o.learn, &losses);
}

/* What moves rows about must find them as they were. */
static pol_status resume(pol_job *r)
{
    POL_TRY(pol_replicas_set_order(&r->replicas, r->ck.order));
    return pol_stage_trainer_resume(r);
}

static pol_status set(pol_job *r)
{
    POL_TRY(pol_hard_mask(r->dist, &r->o.learn.budget, r->initial_s, r->mask));
    return pol_replicas_set_mask(&r->replicas, r->mask);
}

static pol_status accept(pol_job *r, bool best)
{
    memcpy(r->ck.s, best ? r->ck.best_s : r->dist->s, (size_t)r->in.units->n * sizeof *r->ck.s);
    return POL_OK;
}

const pol_stage pol_stage_units = {open_stage,
                                   resume,
                                   pol_stage_trainer_save,
                                   pol_stage_trainer_step,
                                   set,
                                   pol_stage_trainer_keep,
                                   accept,
                                   pol_stage_trainer_close};
