/* settings.c - presets of the methods, what follows from what, and the settings as JSON. */
#include <math.h>
#include <string.h>

#include "core/run/run.h"

const char *pol_method_name(pol_method m) { return m == POL_METHOD_UNITS ? "units" : "reference"; }

static const char *select_name(pol_select s) { return s == POL_SELECT_BEST ? "best" : "last"; }

static const char *const baseline_names[] = {
    [POL_BASELINE_LEAVE_ONE_OUT] = "leave-one-out", [POL_BASELINE_MOVING_AVERAGE] = "moving-average", [POL_BASELINE_NONE] = "none"};
static const char *const score_names[] = {[POL_SCORE_SQRT] = "sqrt", [POL_SCORE_TEXTBOOK] = "textbook"};
static const char *const schedule_names[] = {
    [POL_SCHEDULE_COSINE] = "cosine", [POL_SCHEDULE_LINEAR] = "linear", [POL_SCHEDULE_CONSTANT] = "constant"};
static const char *const budget_names[] = {[POL_BUDGET_SEPARATE] = "separate", [POL_BUDGET_JOINT] = "joint"};

void pol_prune_defaults(pol_method method, int64_t passes, pol_prune_settings *o)
{
    memset(o, 0, sizeof *o);
    o->seq_len = 128;
    o->protocol = pol_protocol_find("paper");
    o->granularity = POL_HEADS | POL_CHANNELS;
    o->method = method;
    o->init = POL_METRIC_WANDA_SP;
    o->init_sequences = 128;
    o->batch = 8;
    switch (method) {
    case POL_METHOD_UNITS:
        o->passes = passes ? passes : 3000;
        pol_learn_units(o->passes, &o->learn);
        o->init_seq_len = o->seq_len;
        o->select = POL_SELECT_BEST;
        break;
    case POL_METHOD_REFERENCE:
        o->passes = passes ? passes : 240000;
        pol_learn_reference(o->passes / 16, &o->learn);
        o->init_seq_len = 1024;
        o->select = POL_SELECT_LAST;
        break;
    }
    /* Judging costs about a tenth of the learning. */
    o->held_out = pol_min_i64(pol_max_i64(o->passes / 50, 32), 128);
    o->eval_every = pol_max_i64(1, (o->learn.steps + 4) / 5);
}

pol_status pol_prune_resolve(pol_context *ctx, pol_prune_settings *o)
{
    const struct {
        const char *name;
        int64_t value, lo, hi;
    } ranges[] = {
        {"sequence length", o->seq_len, 2, 1 << 20},
        {"passes", o->passes, 0, INT64_C(1) << 40},
        {"batch", o->batch, 1, 1 << 20},
        {"held-out sequences", o->held_out, 0, 1 << 30},
        {"initialisation sequences", o->init_sequences, 1, 1 << 30},
        {"initialisation sequence length", o->init_seq_len, 2, 1 << 20},
        {"steps between judgements", o->eval_every, 0, INT64_C(1) << 40},
        {"steps between checkpoints", o->checkpoint_every, 0, INT64_C(1) << 40},
        {"masks per step", o->learn.mask_samples, 1, 1 << 20},
        {"sequences per mask", o->learn.sequences_per_mask, 1, 1 << 20},
    };
    for (size_t i = 0; i < POL_COUNT(ranges); i++)
        if (ranges[i].value < ranges[i].lo || ranges[i].value > ranges[i].hi)
            return pol_fail(ctx, POL_EARG, "%s: %lld is outside %lld..%lld", ranges[i].name, (long long)ranges[i].value,
                            (long long)ranges[i].lo, (long long)ranges[i].hi);
    const unsigned all = POL_HEADS | POL_CHANNELS | POL_BLOCKS;
    if (!o->granularity || (o->granularity & ~all))
        return pol_fail(ctx, POL_EARG, "granularity: none of heads, channels, blocks is chosen");
    if (o->select == POL_SELECT_BEST && !o->held_out)
        return pol_fail(ctx, POL_EARG, "held-out sequences: 0, but the best probabilities are to be chosen by them");
    const int64_t per_step = (int64_t)o->learn.mask_samples * o->learn.sequences_per_mask;
    o->learn.steps = o->passes / per_step;
    if (o->passes && !o->learn.steps)
        return pol_fail(ctx, POL_EARG, "passes: %lld forward sequences are less than the %lld of one step", (long long)o->passes,
                        (long long)per_step);
    o->learn.budget.keep_params = o->keep;
    for (int k = 0; k < POL_UNIT_KINDS; k++)
        o->learn.budget.keep[k] = o->keep_kind[k] != 0 ? o->keep_kind[k] : o->keep;
    return o->learn.steps ? pol_learn_check(ctx, &o->learn) : POL_OK;
}

static json_t *granularity_json(unsigned granularity)
{
    json_t *a = json_array();
    if (granularity & POL_HEADS)
        json_array_append_new(a, json_string("heads"));
    if (granularity & POL_CHANNELS)
        json_array_append_new(a, json_string("channels"));
    if (granularity & POL_BLOCKS)
        json_array_append_new(a, json_string("blocks"));
    return a;
}

json_t *pol_settings_json(const pol_prune_settings *o)
{
    const pol_learn_settings *l = &o->learn;
    json_t *keep = json_object();
    if (l->budget.mode == POL_BUDGET_JOINT)
        json_object_set_new(keep, "params", json_real(l->budget.keep_params));
    else
        for (int k = 0; k < POL_UNIT_KINDS; k++)
            if (o->granularity & 1u << k)
                json_object_set_new(keep, pol_unit_kind_name((pol_unit_kind)k), json_real(l->budget.keep[k]));
    json_t *init = o->init_run ? json_pack("{ss}", "run", o->init_run)
                               : json_pack("{sssIsI}", "metric", pol_metric_name(o->init), "sequences", (json_int_t)o->init_sequences,
                                           "seq_len", (json_int_t)o->init_seq_len);
    json_t *j = json_pack(
        "{ss so ss so sI sI si si sb ss si ss sb sf ss sf sI so sI sI ss sI}", "method", pol_method_name(o->method), "granularity",
        granularity_json(o->granularity), "budget", budget_names[l->budget.mode], "keep", keep, "passes", (json_int_t)o->passes, "steps",
        (json_int_t)l->steps, "mask_samples", (int)l->mask_samples, "sequences_per_mask", (int)l->sequences_per_mask, "shared_sequences",
        (int)l->shared_sequences, "baseline", baseline_names[l->baseline], "baseline_window", (int)l->baseline_window, "score",
        score_names[l->score], "normalise", (int)l->normalise, "learning_rate", l->steps ? pol_learning_rate(l, 0) : l->learning_rate,
        "schedule", schedule_names[l->schedule], "smin", (double)l->smin, "seed", (json_int_t)l->seed, "init", init, "held_out",
        (json_int_t)o->held_out, "eval_every", (json_int_t)o->eval_every, "select", select_name(o->select), "batch", (json_int_t)o->batch);
    return j;
}
