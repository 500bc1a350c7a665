/* budget.c - the budget of a run, once its model is known: what units cost in the quantity that was asked for, the
 * limit, and the probabilities to begin with. */
#include <math.h>

#include "core/base/json.h"
#include "core/mask/budget.h"
#include "core/mask/timing.h"
#include "core/model/source.h"
#include "core/run/job.h"
#include "core/run/timing.h"

/* Numbers in the caches of common runtimes. */
static const double CACHE_BITS = 16;

static bool is_asked(const pol_prune_settings *o) { return o->request.value > 0; }
static bool is_timed(const pol_prune_settings *o) { return is_asked(o) && o->request.quantity == POL_MS; }

/* Mean initial probability of each kind: the kind's own share; under a joint budget the share that is left for what may
 * go, and with blocks beside their contents its square root for each, since a unit stays with the product. Units that
 * cost nothing start at 1. */
static void initial_keep(const pol_prune_settings *o, pol_inputs *in)
{
    const unsigned attention = 1u << POL_UNIT_GROUP | 1u << POL_UNIT_ATTENTION;
    const unsigned mlp = 1u << POL_UNIT_CHANNEL | 1u << POL_UNIT_MLP;
    const pol_budget *b = &in->budget;
    const double share = b->mode == POL_BUDGET_JOINT ? pol_budget_share(in->units, o->granularity, b) : 1;
    const unsigned bound = b->cost ? pol_cost_kinds(b->cost) : o->granularity;
    for (int k = 0; k < POL_UNIT_KINDS; k++) {
        const unsigned pair = attention & 1u << k ? attention : mlp;
        const bool both = (o->granularity & pair) == pair;
        if (b->mode == POL_BUDGET_SEPARATE)
            in->init_keep[k] = b->keep[k];
        else
            in->init_keep[k] = !(bound & 1u << k) ? 1 : both ? sqrt(share) : share;
    }
}

pol_status pol_inputs_budget(const pol_prune_settings *o, const pol_timing *timing, pol_inputs *in)
{
    const pol_cost_options options = {
        .embeddings = is_asked(o) && o->request.embeddings,
        .weight_bits = pol_source_bits(in->src, false),
        .outside_bits = pol_source_bits(in->src, true),
        .cache_bits = CACHE_BITS,
        .timing = timing,
    };
    in->budget = o->learn.budget;
    if (is_timed(o) && !timing)
        return POL_OK;
    POL_TRY(pol_cost_new(in->ctx, in->units, pol_source_config(in->src), is_asked(o) ? o->request.quantity : POL_PARAMS,
                         &options, &in->cost));
    if (is_asked(o)) {
        in->budget.cost = in->cost;
        POL_TRY(pol_budget_limit(&o->request, in->cost, &in->budget.limit));
    }
    POL_TRY(pol_budget_check(in->units, o->granularity, &in->budget));
    initial_keep(o, in);
    return POL_OK;
}

/* The table of a run that has begun is the one it began with: on a machine no two are alike, and a mask on the one
 * would be off the other. */
static pol_status find_times(pol_job *r, const json_t *old, pol_timing *timing)
{
    const json_t *was = json_object_get(old, "timing");
    if (r->saved && was)
        return pol_timing_from_json(r->ctx, r->folder.json, was, timing);
    pol_job_stage(r, "times of blocks");
    return pol_replicas_on(&r->replicas, 0,
                           pol_timing_measure(r->replicas.of[0].forward, r->o.batch, r->in.text.seq_len, timing));
}

pol_status pol_job_budget(pol_job *r, const json_t *old)
{
    if (is_timed(&r->o)) {
        pol_timing timing;
        POL_TRY(find_times(r, old, &timing));
        json_object_set_new(r->json, "timing", pol_timing_to_json(&timing));
        POL_TRY(pol_inputs_budget(&r->o, &timing, &r->in));
    }
    r->o.learn.budget = r->in.budget;
    return POL_OK;
}

void pol_job_report_budget(const pol_job *r, const uint8_t *mask, pol_cost_report *out)
{
    pol_cost_reported(r->in.cost, r->in.budget.cost ? r->in.budget.limit : NAN, mask, out);
}
