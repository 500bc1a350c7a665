/* settings.c - presets of the methods, what follows from what, and the settings as JSON. */
#include <string.h>

#include "core/run/run.h"

const char *const pol_method_names[] = {[POL_METHOD_UNITS] = "units", [POL_METHOD_REFERENCE] = "reference", NULL};
const char *const pol_select_names[] = {[POL_SELECT_BEST] = "best", [POL_SELECT_LAST] = "last", NULL};

const pol_granularity pol_granularities[] = {
    {"heads", POL_HEADS}, {"channels", POL_CHANNELS}, {"blocks", POL_BLOCKS}, {NULL, 0}};

/* Forward sequences of the two methods where the caller names none. The reference's are 15,000 steps of two masks that
 * see eight sequences each. */
static const int64_t UNITS_PASSES = 3000, REFERENCE_PASSES = 240000;

void pol_prune_defaults(pol_method method, pol_prune_settings *o)
{
    *o = (pol_prune_settings){
        .seq_len = 128,
        .protocol = pol_protocol_find("paper"),
        .granularity = POL_HEADS | POL_CHANNELS,
        .method = method,
        .init = POL_METRIC_WANDA_SP,
        .init_sequences = 128,
        .held_out = POL_AUTO,
        .eval_every = POL_AUTO,
        .batch = 8,
    };
    switch (method) {
    case POL_METHOD_UNITS:
        o->passes = UNITS_PASSES;
        pol_learn_units(o->passes, &o->learn);
        o->init_seq_len = POL_AUTO;
        o->select = POL_SELECT_BEST;
        break;
    case POL_METHOD_REFERENCE:
        o->passes = REFERENCE_PASSES;
        pol_learn_reference(o->passes / 16, &o->learn);
        o->init_seq_len = 1024;
        o->select = POL_SELECT_LAST;
        break;
    }
}

/* Judging costs about a tenth of the learning: a fiftieth of its sequences, five times. */
static void fill_automatic(pol_prune_settings *o)
{
    if (o->init_seq_len == POL_AUTO)
        o->init_seq_len = o->seq_len;
    if (o->held_out == POL_AUTO)
        o->held_out = pol_min_i64(pol_max_i64(o->passes / 50, 32), 128);
    if (o->eval_every == POL_AUTO)
        o->eval_every = (o->learn.steps + 4) / 5;
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
    const int64_t per_step = (int64_t)o->learn.mask_samples * o->learn.sequences_per_mask;
    if (o->passes > 0 && per_step > o->passes)
        return pol_fail(ctx, POL_EARG, "passes: %lld forward sequences are less than the %lld of one step",
                        (long long)o->passes, (long long)per_step);
    o->learn.steps = per_step > 0 ? o->passes / per_step : 0;
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
        {"steps between judgements", o->eval_every, 0, most},
        {"steps between checkpoints", o->checkpoint_every, 0, most},
        {"masks per step", o->learn.mask_samples, 1, 1 << 20},
        {"sequences per mask", o->learn.sequences_per_mask, 1, 1 << 20},
    };
    for (size_t i = 0; i < POL_COUNT(ranges); i++)
        if (ranges[i].value < ranges[i].lo || ranges[i].value > ranges[i].hi)
            return pol_fail(ctx, POL_EARG, "%s: %lld is outside %lld..%lld", ranges[i].name, (long long)ranges[i].value,
                            (long long)ranges[i].lo, (long long)ranges[i].hi);
    if (!o->granularity || (o->granularity & ~(unsigned)(POL_HEADS | POL_CHANNELS | POL_BLOCKS)))
        return pol_fail(ctx, POL_EARG, "granularity: none of heads, channels, blocks is chosen");
    if (o->select == POL_SELECT_BEST && !o->held_out)
        return pol_fail(ctx, POL_EARG, "held-out sequences: 0, but the best probabilities are to be chosen by them");
    POL_TRY(fill_budget(ctx, o));
    return o->learn.steps ? pol_learn_check(ctx, &o->learn) : POL_OK;
}

static json_t *granularity_json(unsigned granularity)
{
    json_t *a = json_array();
    for (const pol_granularity *part = pol_granularities; part->name; part++)
        if (granularity & part->kinds)
            json_array_append_new(a, json_string(part->name));
    return a;
}

static json_t *keep_json(const pol_prune_settings *o)
{
    const pol_budget *b = &o->learn.budget;
    if (o->request.value > 0)
        return pol_budget_request_json(&o->request);
    if (b->mode == POL_BUDGET_JOINT)
        return json_pack("{sf}", "params", b->keep_params);
    json_t *keep = json_object();
    for (pol_unit_kind k = 0; k < POL_UNIT_KINDS; k++)
        if (o->granularity & 1u << k)
            json_object_set_new(keep, pol_unit_kind_name(k), json_real(b->keep[k]));
    return keep;
}

static json_t *init_json(const pol_prune_settings *o)
{
    if (o->init_run)
        return json_pack("{ss}", "metric", "run");
    return json_pack("{sssIsI}", "metric", pol_metric_name(o->init), "sequences", (json_int_t)o->init_sequences,
                     "seq_len", (json_int_t)o->init_seq_len);
}

/* NULL where texts have none. */
static json_t *weights_json(const pol_prune_settings *o)
{
    json_t *a = o->data_weights ? json_array() : NULL;
    for (int64_t i = 0; a && i < o->n_data; i++)
        json_array_append_new(a, json_real(o->data_weights[i]));
    return a;
}

static json_t *text_json(const pol_prune_settings *o)
{
    return json_pack("{ss ss* ss* sI sI ss sI so*}", "format", pol_text_format_name(o->text.format), "field",
                     o->text.field, "separator", o->text.separator, "max_sequences", (json_int_t)o->max_sequences,
                     "seq_len", (json_int_t)o->seq_len, "bos", pol_bos_name(o->bos), "eval_limit",
                     (json_int_t)o->eval_limit, "weights", weights_json(o));
}

json_t *pol_settings_json(const pol_prune_settings *o)
{
    const pol_learn_settings *l = &o->learn;
    return json_pack("{ss so ss so sI sI si si sb ss si ss sb sf ss sf sI so so sI sI ss sI}", "method",
                     pol_method_names[o->method], "granularity", granularity_json(o->granularity), "budget",
                     pol_budget_mode_names[l->budget.mode], "keep", keep_json(o), "passes", (json_int_t)o->passes,
                     "steps", (json_int_t)l->steps, "mask_samples", (int)l->mask_samples, "sequences_per_mask",
                     (int)l->sequences_per_mask, "shared_sequences", (int)l->shared_sequences, "baseline",
                     pol_baseline_names[l->baseline], "baseline_window", (int)l->baseline_window, "score",
                     pol_score_names[l->score], "normalise", (int)l->normalise, "learning_rate",
                     l->steps ? pol_learning_rate(l, 0) : l->learning_rate, "schedule", pol_schedule_names[l->schedule],
                     "smin", l->smin, "seed", (json_int_t)l->seed, "text", text_json(o), "init", init_json(o),
                     "held_out", (json_int_t)o->held_out, "eval_every", (json_int_t)o->eval_every, "select",
                     pol_select_names[o->select], "batch", (json_int_t)o->batch);
}
