/* stage_blocks.c - which blocks go whole, on top of an allocation: a Bernoulli variable a block. The counts of the
 * blocks that stay are scaled up to the budget, so every mask costs the same. */
#include <string.h>

#include "core/run/stage.h"

/* At the start each block stays with this probability, so that a mask of a few dozen blocks has one or two fewer. */
static const float STAYS = 0.97f;

/* Counts of the accepted allocation without the blocks that `mask` removes, in r->nested.count. */
static pol_status counts_of(pol_job *r, const uint8_t *mask)
{
    const pol_units *u = r->in.units;
    const double *accepted = pol_job_state_of(r).count;
    pol_nested *n = &r->nested;
    for (int kind = 0; kind < 2; kind++)
        for (int32_t l = 0; l < u->n_layers; l++) {
            const pol_section *block =
                pol_units_section(u, kind == POL_UNIT_GROUP ? POL_UNIT_ATTENTION : POL_UNIT_MLP, l);
            const int64_t i = (int64_t)kind * u->n_layers + l;
            const bool gone = block->count && !mask[block->first];
            n->want[i] = gone ? 0 : accepted[i];
            n->at_most[i] = gone ? 0 : pol_units_section(u, (pol_unit_kind)kind, l)->count;
        }
    return pol_nested_fill(r);
}

static pol_status look(void *user, const uint8_t *mask, const int64_t *index, int64_t n, double *loss)
{
    pol_job *r = user;
    POL_TRY(counts_of(r, mask));
    POL_TRY(pol_nested_set(r, r->nested.count));
    return pol_stage_look(r, index, n, loss);
}

static pol_status open_stage(pol_job *r)
{
    const pol_units *u = r->in.units;
    const pol_losses losses = {.look = look, .settle = pol_stage_settle, .drop = pol_stage_drop, .user = r};
    pol_learn_settings o = r->o.learn;
    o.steps = r->o.stage_steps[POL_STAGE_BLOCKS];
    o.budget = (pol_budget){.mode = POL_BUDGET_SEPARATE, .keep = {1, 1, 1, 1}}; /* the counts have the budget */
    const unsigned blocks = pol_blocks_that_may_go(&r->o);
    POL_TRY(pol_distribution_new(u, blocks, &r->dist));
    for (int64_t i = 0; i < u->n_sections; i++)
        for (int64_t k = 0; k < u->sections[i].count; k++)
            r->dist->s[u->sections[i].first + k] = blocks >> u->sections[i].kind & 1 ? STAYS : 1.0f;
    return pol_stage_trainer(r, &o, &losses);
}

/* The blocks that are more likely to stay than to go. */
static void hard_mask(pol_job *r, const float *s)
{
    for (int64_t i = 0; i < r->in.units->n; i++)
        r->mask[i] = s[i] >= 0.5f;
}

static pol_status set(pol_job *r)
{
    hard_mask(r, r->dist->s);
    POL_TRY(counts_of(r, r->mask));
    return pol_nested_set(r, r->nested.count);
}

static pol_status accept(pol_job *r, bool best)
{
    double *count = pol_job_state_of(r).count;
    hard_mask(r, best ? r->ck.best_s : r->dist->s);
    POL_TRY(counts_of(r, r->mask));
    for (int64_t i = 0; i < pol_nested_counts(r); i++)
        count[i] = (double)r->nested.count[i];
    pol_nested_probabilities(r, count, r->ck.s);
    return POL_OK;
}

const pol_stage pol_stage_blocks = {
    open_stage, pol_stage_trainer_resume, pol_stage_trainer_save, pol_stage_trainer_step, set, pol_stage_trainer_keep,
    accept,     pol_stage_trainer_close};
