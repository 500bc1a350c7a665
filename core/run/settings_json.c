/* settings_json.c - the settings of a run as its record has them. Only what decides the result is there. */
#include "core/run/run.h"

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

static json_t *objective_json(const pol_objective_settings *o)
{
    json_t *j = json_pack("{ss ss*}", "kind", pol_objective_names[o->kind], "task", o->task);
    if (o->kind == POL_OBJECTIVE_ACCURACY)
        json_object_set_new(j, "items", json_integer((json_int_t)o->task_items));
    return j;
}

/* A setting, or that a pilot has it: what it chooses is no setting, and kept beside them ("sizing"). */
static json_t *setting(const pol_prune_settings *o, unsigned sized, json_t *value)
{
    if (!(o->sized & sized))
        return value;
    json_decref(value);
    return json_string("auto");
}

static json_t *whole(int64_t x) { return json_integer((json_int_t)x); }

enum { ANY = POL_SIZED_MASKS | POL_SIZED_SEQUENCES | POL_SIZED_RATE | POL_SIZED_SPREAD };

/* Of the stages that have steps. */
static json_t *stages_json(const pol_prune_settings *o)
{
    json_t *stages = json_object();
    for (pol_stage_kind i = 0; i < POL_STAGES; i++)
        if (o->stage_steps[i])
            json_object_set_new(stages, pol_stage_names[i],
                                setting(o, i == pol_prune_first_stage(o) ? ANY : 0, whole(o->stage_steps[i])));
    return stages;
}

static json_t *eval_every_json(const pol_prune_settings *o)
{
    return setting(o, o->eval_every == POL_AUTO ? ANY : 0, whole(pol_prune_eval_every(o)));
}

static json_t *allocation_json(const pol_prune_settings *o)
{
    const pol_allocation_settings *a = &o->allocation;
    return json_pack(
        "{so so ss so so sf sf so sb sI sI sI sI}", "candidates", setting(o, POL_SIZED_MASKS, whole(a->candidates)),
        "sequences_per_candidate", setting(o, POL_SIZED_SEQUENCES, whole(a->sequences_per_candidate)), "advantage",
        pol_advantage_names[a->advantage], "spread_channels",
        setting(o, POL_SIZED_SPREAD, json_real(a->spread_channels)), "spread_groups",
        setting(o, POL_SIZED_SPREAD, json_real(a->spread_groups)), "spread_least", a->spread_least, "spread_end",
        a->spread_end, "learning_rate", setting(o, POL_SIZED_RATE, json_real(a->learning_rate)), "adapt_spread",
        (int)a->adapt_spread, "levels", (json_int_t)o->levels, "obs_block", (json_int_t)o->obs_block, "align_channels",
        (json_int_t)o->align_channels, "min_groups", (json_int_t)o->min_groups);
}

/* Of the stages after an allocation, or of the one that a pilot is for. */
static json_t *learn_json(const pol_prune_settings *o)
{
    const pol_learn_settings *l = &o->learn;
    const unsigned here = o->method == POL_METHOD_ALLOCATION ? 0 : ANY;
    const double rate = l->steps ? pol_learning_rate(l, 0) : l->learning_rate;
    return json_pack("{so so sb ss si ss sb so ss sf}", "mask_samples",
                     setting(o, here & POL_SIZED_MASKS, whole(l->mask_samples)), "sequences_per_mask",
                     setting(o, here & POL_SIZED_SEQUENCES, whole(l->sequences_per_mask)), "shared_sequences",
                     (int)l->shared_sequences, "baseline", pol_baseline_names[l->baseline], "baseline_window",
                     (int)l->baseline_window, "score", pol_score_names[l->score], "normalise", (int)l->normalise,
                     "learning_rate", setting(o, here & POL_SIZED_RATE, json_real(rate)), "schedule",
                     pol_schedule_names[l->schedule], "smin", l->smin);
}

json_t *pol_settings_json(const pol_prune_settings *o)
{
    json_t *j = json_pack(
        "{ss so ss so sI so sI so so so sI so ss so sI}", "method", pol_method_names[o->method], "granularity",
        granularity_json(o->granularity), "budget", pol_budget_mode_names[o->learn.budget.mode], "keep", keep_json(o),
        "passes", (json_int_t)o->passes, "steps", stages_json(o), "seed", (json_int_t)o->learn.seed, "text",
        text_json(o), "objective", objective_json(&o->objective), "init", init_json(o), "held_out",
        (json_int_t)o->held_out, "eval_every", eval_every_json(o), "select", pol_select_names[o->select], "repair",
        pol_repair_settings_json(&o->repair), "batch", (json_int_t)o->batch);
    if (j && o->method == POL_METHOD_ALLOCATION)
        json_object_set_new(j, "allocation", allocation_json(o));
    if (j && (o->method != POL_METHOD_ALLOCATION || pol_prune_steps(o) > o->stage_steps[POL_STAGE_ALLOCATION]))
        json_object_set_new(j, "learn", learn_json(o));
    return j;
}
