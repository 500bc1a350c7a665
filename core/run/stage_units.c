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
    POL_TRY(pol_job_set_saved_order(r, r->ck.order));
    return pol_stage_trainer_resume(r);
}

/* The first `count` units by probability, then by what it was at first, then by number. */
static pol_status keep_most_probable(pol_job *r, const float *s, const pol_section *sec, int64_t count, uint8_t *mask)
{
    float *value = pol_alloc_array(r->ctx, sec->count, sizeof *value);
    int32_t *first = pol_alloc_array(r->ctx, sec->count, sizeof *first),
            *order = pol_alloc_array(r->ctx, sec->count, sizeof *order);
    pol_status status = value && first && order
                            ? pol_order_by_metric(r->ctx, r->initial_s + sec->first, sec->count, first)
                            : POL_ENOMEM;
    for (int64_t k = 0; status == POL_OK && k < sec->count; k++)
        value[k] = s[sec->first + first[k]];
    if (status == POL_OK)
        status = pol_order_by_metric(r->ctx, value, sec->count, order);
    for (int64_t k = 0; status == POL_OK && k < sec->count; k++)
        mask[sec->first + first[order[k]]] = k < count;
    pol_free(r->ctx, value);
    pol_free(r->ctx, first);
    pol_free(r->ctx, order);
    return status;
}

/* The hard mask's counts, brought to the rules that those of an allocation have. */
static pol_status keep_rules(pol_job *r, const float *s, uint8_t *mask)
{
    pol_nested *n = &r->nested;
    pol_shape_rules rules = n->rules;
    rules.level = NULL;
    for (int64_t i = 0; i < pol_nested_counts(r); i++) {
        const pol_section *sec = pol_nested_section(r, i);
        n->want[i] = 0;
        for (int64_t k = 0; k < sec->count; k++)
            n->want[i] += mask[sec->first + k];
    }
    POL_TRY(pol_shape_round(&rules, n->want, n->count));
    for (int64_t i = 0; i < pol_nested_counts(r); i++)
        POL_TRY(keep_most_probable(r, s, pol_nested_section(r, i), n->count[i], mask));
    return POL_OK;
}

pol_status pol_stage_units_mask(pol_job *r, const pol_distribution *d, uint8_t *mask)
{
    POL_TRY(pol_hard_mask(d, &r->o.learn.budget, r->initial_s, mask));
    const bool ruled = r->o.method == POL_METHOD_ALLOCATION && (r->o.align_channels > 1 || r->o.min_groups > 0);
    return ruled ? keep_rules(r, d->s, mask) : POL_OK;
}

static pol_status set(pol_job *r)
{
    POL_TRY(pol_stage_units_mask(r, r->dist, r->mask));
    return pol_replicas_set_mask(&r->replicas, r->mask);
}

static pol_status accept(pol_job *r, bool best)
{
    if (r->o.method == POL_METHOD_ALLOCATION && best && r->ck.best_step == 0) { /* the counts stand */
        pol_nested_probabilities(r, pol_job_state_of(r).count, r->ck.s);
        return POL_OK;
    }
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
