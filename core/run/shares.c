/* shares.c - how the forward sequences of a run are shared out: to a pilot, and to the stages of learning. */
#include "core/run/run.h"
#include "pollard/pilot.h"

enum { PILOT_PASSES = POL_PILOT_MASKS * POL_PILOT_SEQUENCES, PILOT_SHARE = 10, LEAST_CANDIDATES = 8 };

/* An allocation has some dozens of variables and is found in about a thousand passes; what is left over goes to the
 * stages after it, in equal shares. */
static const int64_t ALLOCATION_ALONE = 2000;
static const double ALLOCATION_SHARE = 0.7;

/* With fewer forward sequences a variable than these a later stage gained nothing over the allocation, once both were
 * repaired: measured on a model of five blocks and 880 units. */
enum { LEAST_OF_UNIT = 1, LEAST_OF_BLOCK = 4 };

/* Those that are asked for, and have something to learn. */
static unsigned stages_of(const pol_prune_settings *o)
{
    return pol_blocks_that_may_go(o) ? o->stages : o->stages & ~(1u << POL_STAGE_BLOCKS);
}

pol_stage_kind pol_prune_first_stage(const pol_prune_settings *o)
{
    const unsigned stages = stages_of(o);
    pol_stage_kind i = POL_STAGE_ALLOCATION;
    while (i < POL_STAGES && !(stages >> i & 1))
        i++;
    return i;
}

/* What a pilot would choose: nothing where all that its measurements tell of is settled. */
static unsigned left_to_pilot(const pol_prune_settings *o)
{
    const pol_allocation_settings *a = &o->allocation;
    const pol_learn_settings *l = &o->learn;
    const pol_stage_kind first = pol_prune_first_stage(o);
    if (!o->pilot || o->passes < (int64_t)PILOT_SHARE * PILOT_PASSES)
        return 0;
    if (first == POL_STAGE_ALLOCATION)
        return (a->candidates ? 0 : POL_SIZED_MASKS) | (a->sequences_per_candidate ? 0 : POL_SIZED_SEQUENCES) |
               (a->learning_rate != 0 ? 0 : POL_SIZED_RATE) | (a->spread_channels != 0 ? 0 : POL_SIZED_SPREAD);
    if (first != POL_STAGE_UNITS || o->method != POL_METHOD_UNITS || (l->mask_samples && l->sequences_per_mask))
        return 0;
    return (l->mask_samples ? 0 : POL_SIZED_MASKS) | (l->sequences_per_mask ? 0 : POL_SIZED_SEQUENCES) |
           (l->learning_rate != 0 ? 0 : POL_SIZED_RATE);
}

/* What stands where nothing is measured, and until it is. */
static void fill_presets(pol_prune_settings *o)
{
    pol_allocation_settings a;
    pol_learn_settings l;
    pol_allocation_defaults(&a);
    pol_learn_units(o->passes, &l);
    if (!o->allocation.candidates)
        o->allocation.candidates = a.candidates;
    if (!o->allocation.sequences_per_candidate)
        o->allocation.sequences_per_candidate = a.sequences_per_candidate;
    if (o->allocation.learning_rate == 0)
        o->allocation.learning_rate = a.learning_rate;
    if (o->allocation.spread_channels == 0)
        o->allocation.spread_channels = a.spread_channels;
    if (!o->learn.mask_samples)
        o->learn.mask_samples = l.mask_samples;
    if (!o->learn.sequences_per_mask)
        o->learn.sequences_per_mask = l.sequences_per_mask;
}

/* Forward sequences of a step. */
static int64_t per_step(const pol_prune_settings *o, pol_stage_kind stage)
{
    return stage == POL_STAGE_ALLOCATION ? (int64_t)o->allocation.candidates * o->allocation.sequences_per_candidate
                                         : (int64_t)o->learn.mask_samples * o->learn.sequences_per_mask;
}

int64_t pol_prune_variables(const pol_prune_settings *o, const pol_units *u, pol_stage_kind stage)
{
    const unsigned kinds = stage == POL_STAGE_BLOCKS ? pol_blocks_that_may_go(o) : o->granularity;
    int64_t n = 0;
    for (int k = 0; k < POL_UNIT_KINDS; k++)
        if (kinds >> k & 1)
            n += stage == POL_STAGE_ALLOCATION ? u->n_layers : u->n_of[k];
    return n;
}

/* A stage after the first one: whether so many forward sequences are enough for it to gain anything. */
static bool is_enough(const pol_prune_settings *o, const pol_units *u, pol_stage_kind stage, int64_t passes)
{
    return passes >= per_step(o, stage) &&
           (!u ||
            passes / (stage == POL_STAGE_UNITS ? LEAST_OF_UNIT : LEAST_OF_BLOCK) >= pol_prune_variables(o, u, stage));
}

static void share_out(pol_prune_settings *o, const pol_units *u)
{
    const pol_stage_kind first = pol_prune_first_stage(o);
    const int64_t passes = o->passes - pol_prune_pilot_passes(o);
    const unsigned stages = stages_of(o);
    int later = 0;
    for (pol_stage_kind i = first + 1; i < POL_STAGES; i++)
        later += stages >> i & 1;
    const bool alone = !later || (first == POL_STAGE_ALLOCATION && o->passes < ALLOCATION_ALONE);
    const int64_t each = alone ? 0 : (int64_t)((1 - ALLOCATION_SHARE) / later * (double)passes + 1e-9);
    for (pol_stage_kind i = 0; i < POL_STAGES; i++)
        o->stage_passes[i] = 0;
    o->stage_passes[first] = passes;
    for (pol_stage_kind i = first + 1; i < POL_STAGES; i++)
        if (each && stages >> i & 1 && is_enough(o, u, i, each)) {
            o->stage_passes[i] = each;
            o->stage_passes[first] -= each;
        }
}

int64_t pol_prune_pilot_passes(const pol_prune_settings *o) { return o->sized ? PILOT_PASSES : 0; }

pol_status pol_prune_share_out(pol_context *ctx, pol_prune_settings *o, const pol_units *units)
{
    const pol_stage_kind first = pol_prune_first_stage(o);
    if (first == POL_STAGES || o->stages >> POL_STAGES)
        return pol_fail(ctx, POL_EARG,
                        "stages: none of allocation, blocks, units is chosen that has something to learn");
    if (!o->sized)
        o->sized = left_to_pilot(o);
    fill_presets(o);
    share_out(o, units);
    for (pol_stage_kind i = 0; i < POL_STAGES; i++)
        o->stage_steps[i] = per_step(o, i) > 0 ? o->stage_passes[i] / per_step(o, i) : 0;
    if (o->passes > 0 && !o->stage_steps[first])
        return pol_fail(ctx, POL_EARG, "passes: %lld forward sequences are less than the %lld of one step",
                        (long long)o->stage_passes[first], (long long)per_step(o, first));
    o->allocation.steps = o->stage_steps[POL_STAGE_ALLOCATION];
    o->learn.steps = o->stage_steps[POL_STAGE_UNITS];
    return POL_OK;
}

int64_t pol_prune_steps(const pol_prune_settings *o)
{
    int64_t steps = 0;
    for (int i = 0; i < POL_STAGES; i++)
        steps += o->stage_steps[i];
    return steps;
}

int64_t pol_prune_eval_every(const pol_prune_settings *o)
{
    return o->eval_every != POL_AUTO ? o->eval_every : (pol_prune_steps(o) + 4) / 5;
}

int64_t pol_prune_sized_draws(const pol_prune_settings *o)
{
    const pol_stage_kind first = pol_prune_first_stage(o);
    const int64_t given = first == POL_STAGE_ALLOCATION ? o->allocation.candidates : o->learn.mask_samples;
    const int64_t masks = o->sized & POL_SIZED_MASKS ? LEAST_CANDIDATES : given;
    const bool shared = first == POL_STAGE_ALLOCATION || o->learn.shared_sequences;
    return o->sized ? pol_max_i64(POL_PILOT_SEQUENCES, o->stage_passes[first] / (shared ? masks : 1)) : 0;
}

int64_t pol_prune_draws(const pol_prune_settings *o)
{
    const int64_t of_step = o->learn.sequences_per_mask * (o->learn.shared_sequences ? 1 : o->learn.mask_samples);
    const pol_stage_kind sized = o->sized ? pol_prune_first_stage(o) : POL_STAGES;
    int64_t draws = pol_prune_sized_draws(o);
    for (pol_stage_kind i = 0; i < POL_STAGES; i++)
        if (i != sized)
            draws += o->stage_steps[i] *
                     (i == POL_STAGE_ALLOCATION ? (int64_t)o->allocation.sequences_per_candidate : of_step);
    return draws;
}
