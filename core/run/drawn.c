/* drawn.c - the sequences that a run will look at, before it looks: what its objective has to be prepared for. A draw
 * is a function of the settings, so those of all steps are known; of a large text they are few. */
#include "core/run/job.h"

static pol_status mark(pol_job *r, const pol_deck_settings *o, bool *wanted)
{
    pol_deck *deck;
    if (o->steps < 1)
        return POL_OK;
    int64_t *index = pol_alloc_array(r->ctx, o->sequences, sizeof *index);
    pol_status s = index ? pol_deck_new(r->ctx, o, pol_job_learnt_from(r), &deck) : POL_ENOMEM;
    if (s == POL_OK) {
        for (int64_t step = 0; s == POL_OK && step < o->steps; step++)
            for (int32_t k = 0; s == POL_OK && k < (o->shared ? 1 : o->masks); k++) {
                s = pol_deck_draw(deck, step, k, index);
                for (int32_t i = 0; s == POL_OK && i < o->sequences; i++)
                    wanted[index[i]] = true;
            }
        pol_deck_free(deck);
    }
    pol_free(r->ctx, index);
    return s;
}

/* The first n draws of such decks, which do not depend on what a step has of them. */
static pol_deck_settings first_draws(pol_deck_settings o, int64_t n)
{
    o.steps = n;
    o.masks = o.sequences = 1;
    o.shared = true;
    return o;
}

/* Of each stage; those that judge are all looked at. */
static pol_status mark_all(pol_job *r, bool *wanted)
{
    pol_deck_settings counts = pol_allocation_deck(&r->o.allocation);
    pol_deck_settings masks = pol_learn_deck(&r->o.learn);
    masks.steps = pol_max_i64(r->o.stage_steps[POL_STAGE_BLOCKS], r->o.stage_steps[POL_STAGE_UNITS]);
    if (r->o.sized && r->o.method == POL_METHOD_ALLOCATION)
        counts = first_draws(counts, pol_prune_sized_draws(&r->o));
    else if (r->o.sized)
        masks = first_draws(masks, pol_prune_sized_draws(&r->o));
    if (r->o.stage_steps[POL_STAGE_ALLOCATION])
        POL_TRY(mark(r, &counts, wanted));
    POL_TRY(mark(r, &masks, wanted));
    for (int64_t i = 0; i < pol_job_judged_by(r); i++)
        wanted[pol_job_learnt_from(r) + i] = true;
    return POL_OK;
}

pol_status pol_job_prepare(pol_job *r)
{
    const int64_t n = pol_job_learnt_from(r) + pol_job_judged_by(r);
    if (r->o.objective.kind != POL_OBJECTIVE_KL)
        return POL_OK;
    pol_job_stage(r, "dense model's predictions");
    bool *wanted = pol_alloc_zero(r->ctx, (size_t)n);
    int64_t *index = pol_alloc_array(r->ctx, n, sizeof *index), count = 0;
    pol_status s = wanted && index ? mark_all(r, wanted) : POL_ENOMEM;
    for (int64_t i = 0; s == POL_OK && i < n; i++)
        if (wanted[i])
            index[count++] = i;
    if (s == POL_OK)
        s = pol_objective_prepare(r->objective, index, 0, count, pol_job_progress, r);
    if (s == POL_OK && !r->saved) /* a run that goes on has counted them */
        r->sequences[POL_PURPOSE_INIT] += count;
    pol_free(r->ctx, wanted);
    pol_free(r->ctx, index);
    return s;
}
