/* settings.c - presets of the methods, and what follows from what. */
#include <string.h>

#include "core/run/run.h"

const char *const pol_method_names[] = {
    [POL_METHOD_ALLOCATION] = "allocation", [POL_METHOD_UNITS] = "units", [POL_METHOD_REFERENCE] = "reference", NULL};
const char *const pol_stage_names[] = {
    [POL_STAGE_ALLOCATION] = "allocation", [POL_STAGE_BLOCKS] = "blocks", [POL_STAGE_UNITS] = "units", NULL};
const char *const pol_select_names[] = {[POL_SELECT_BEST] = "best", [POL_SELECT_LAST] = "last", NULL};

const pol_granularity pol_granularities[] = {
    {"heads", POL_HEADS}, {"channels", POL_CHANNELS}, {"blocks", POL_BLOCKS}, {NULL, 0}};

/* Forward sequences of the methods where the caller names none. The reference's are 15,000 steps of two masks that see
 * eight sequences each. */
static const int64_t ALLOCATION_PASSES = 1000, UNITS_PASSES = 3000, REFERENCE_PASSES = 240000;

/* With masks and sequences of a step left open. */
static void learn_units(pol_prune_settings *o)
{
    pol_learn_units(o->passes, &o->learn);
    o->learn.mask_samples = o->learn.sequences_per_mask = 0;
    o->pilot = true;
}

void pol_prune_defaults(pol_method method, pol_prune_settings *o)
{
    *o = (pol_prune_settings){
        .seq_len = 128,
        .protocol = pol_protocol_find("paper"),
        .granularity = POL_HEADS | POL_CHANNELS,
        .method = method,
        .stages = 1u << POL_STAGE_UNITS,
        .levels = 16,
        .obs_block = 1,
        .align_channels = 1,
        .init = POL_METRIC_WANDA_SP,
        .init_sequences = 128,
        .init_seq_len = POL_AUTO,
        .held_out = POL_AUTO,
        .eval_every = POL_AUTO,
        .select = POL_SELECT_BEST,
        .batch = 8,
    };
    pol_allocation_defaults(&o->allocation);
    o->allocation.candidates = o->allocation.sequences_per_candidate = 0;
    o->allocation.learning_rate = o->allocation.spread_channels = 0;
    pol_repair_defaults(&o->repair);
    switch (method) {
    case POL_METHOD_ALLOCATION:
        o->passes = ALLOCATION_PASSES;
        o->stages = 1u << POL_STAGE_ALLOCATION | 1u << POL_STAGE_BLOCKS | 1u << POL_STAGE_UNITS;
        o->init = POL_METRIC_OBS;
        learn_units(o);
        break;
    case POL_METHOD_UNITS:
        o->passes = UNITS_PASSES;
        learn_units(o);
        break;
    case POL_METHOD_REFERENCE:
        o->passes = REFERENCE_PASSES;
        pol_learn_reference(o->passes / 16, &o->learn);
        o->init_seq_len = 1024;
        o->select = POL_SELECT_LAST;
        break;
    }
}

unsigned pol_blocks_that_may_go(const pol_prune_settings *o)
{
    const bool attention = o->granularity & POL_HEADS && !o->min_groups;
    return (attention ? 1u << POL_UNIT_ATTENTION : 0) | (o->granularity & POL_CHANNELS ? 1u << POL_UNIT_MLP : 0);
}

/* Judging costs about a tenth of the learning: a fiftieth of its sequences, five times (pol_prune_eval_every). */
static void fill_automatic(pol_prune_settings *o)
{
    if (o->init_seq_len == POL_AUTO)
        o->init_seq_len = o->seq_len;
    if (o->held_out == POL_AUTO)
        o->held_out = pol_min_i64(pol_max_i64(o->passes / 50, 32), 128);
}

/* Shares by kind: of kinds that may go, and under a budget that has such shares. */
static pol_status fill_budget(pol_context *ctx, pol_prune_settings *o)
{
    pol_budget *b = &o->learn.budget;
    if (o->request.value > 0 && b->mode != POL_BUDGET_JOINT)
        return pol_fail(ctx, POL_EARG, "budget of %s: a separate budget has shares of units alone",
                        pol_quantity_names[o->request.quantity]);
    b->keep_params = o->keep;
    for (pol_unit_kind k = 0; k < POL_UNIT_KINDS; k++) {
        b->keep[k] = o->keep_kind[k] != 0 ? o->keep_kind[k] : o->keep;
        if (o->keep_kind[k] == 0)
            continue;
        if (b->mode == POL_BUDGET_JOINT)
            return pol_fail(ctx, POL_EARG, "keep of %s is %g: a joint budget has no shares by kind",
                            pol_unit_kind_name(k), o->keep_kind[k]);
        if (!(o->granularity & 1u << k))
            return pol_fail(ctx, POL_EARG, "keep of %s is %g: the granularity leaves them all", pol_unit_kind_name(k),
                            o->keep_kind[k]);
    }
    return POL_OK;
}

pol_status pol_prune_resolve(pol_context *ctx, pol_prune_settings *o)
{
    const int64_t most = INT64_C(1) << 40;
    POL_TRY(pol_prune_share_out(ctx, o, NULL));
    fill_automatic(o);
    const struct {
        const char *name;
        int64_t value, lo, hi;
    } ranges[] = {
        {"sequence length", o->seq_len, 2, 1 << 20},
        {"calibration sequences at most", o->max_sequences, 0, most},
        {"evaluation chunks at most", o->eval_limit, 0, most},
        {"passes", o->passes, 0, most},
        {"batch", o->batch, 1, 1 << 20},
        {"held-out sequences", o->held_out, 0, 1 << 30},
        {"initialisation sequences", o->init_sequences, 1, 1 << 20},
        {"initialisation sequence length", o->init_seq_len, 2, 1 << 20},
        {"steps between judgements", pol_prune_eval_every(o), 0, most},
        {"steps between checkpoints", o->checkpoint_every, 0, most},
        {"levels", o->levels, 2, 1 << 10},
        {"channels removed at a time", o->obs_block, 1, 1 << 16},
        {"alignment of channels", o->align_channels, 1, 1 << 16},
        {"groups at least", o->min_groups, 0, 1 << 20},
        {"masks per step", o->learn.mask_samples, 1, 1 << 20},
        {"sequences per mask", o->learn.sequences_per_mask, 1, 1 << 20},
    };
    for (size_t i = 0; i < POL_COUNT(ranges); i++)
        if (ranges[i].value < ranges[i].lo || ranges[i].value > ranges[i].hi)
            return pol_fail(ctx, POL_EARG, "%s: %lld is outside %lld..%lld", ranges[i].name, (long long)ranges[i].value,
                            (long long)ranges[i].lo, (long long)ranges[i].hi);
    if (!o->granularity || (o->granularity & ~(unsigned)(POL_HEADS | POL_CHANNELS | POL_BLOCKS)))
        return pol_fail(ctx, POL_EARG, "granularity: none of heads, channels, blocks is chosen");
    if (o->method == POL_METHOD_ALLOCATION && o->granularity & POL_BLOCKS)
        return pol_fail(ctx, POL_EARG,
                        "granularity: blocks: an allocation may leave a block nothing by itself; it takes heads and "
                        "channels");
    if (o->select == POL_SELECT_BEST && !o->held_out)
        return pol_fail(ctx, POL_EARG, "held-out sequences: 0, but the best probabilities are to be chosen by them");
    POL_TRY(fill_budget(ctx, o));
    POL_TRY(pol_objective_check(ctx, &o->objective));
    if (!o->held_out && o->repair.targets >> POL_REPAIR_HALF & 1)
        o->repair.targets = 1u << POL_REPAIR_HALF; /* nothing could choose between two */
    POL_TRY(pol_repair_check(ctx, &o->repair));
    if (o->allocation.steps)
        POL_TRY(pol_allocation_check(ctx, &o->allocation));
    pol_learn_settings masks = o->learn; /* of the stages that draw them, each with its own steps */
    masks.steps = pol_max_i64(masks.steps, o->stage_steps[POL_STAGE_BLOCKS]);
    return masks.steps ? pol_learn_check(ctx, &masks) : POL_OK;
}
