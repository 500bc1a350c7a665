/* sizing.c - sizing the first stage by measurement: some masks, drawn as its first step would draw them, all on the
 * same sequences, say how losses vary and what masks and passes cost; pilot.c chooses.
 *
 * What was chosen goes through the record of the run even here, so that a run that goes on has the very same numbers.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/backend.h"
#include "core/base/json.h"
#include "core/run/bench.h"
#include "core/run/stage.h"
#include "pollard/pilot.h"

typedef struct measured {
    pol_job *r;
    int32_t sequences;
    int32_t masks; /* so far: of equal ones one is looked at */
    double loss[POL_PILOT_MASKS * POL_PILOT_SEQUENCES];
    double change[POL_PILOT_MASKS], pass[POL_PILOT_MASKS]; /* seconds: of the mask, of one sequence under it */
} measured;

/* Losses under a mask that has been set since `began`; all of it is waited for, so that it can be timed. */
static pol_status observe(measured *m, double began, const int64_t *index, double *loss)
{
    pol_job *r = m->r;
    for (int64_t i = 0; i < r->in.n_devices; i++)
        POL_TRY(pol_replicas_on(&r->replicas, i, pol_sync(r->in.devices[i])));
    const double set = pol_seconds();
    POL_TRY(pol_stage_look(r, index, m->sequences, loss));
    POL_TRY(pol_objective_settle(r->objective));
    m->change[m->masks] = set - began;
    m->pass[m->masks] = (pol_seconds() - set) / m->sequences;
    memcpy(m->loss + (size_t)m->masks * (size_t)m->sequences, loss, (size_t)m->sequences * sizeof *loss);
    m->masks++;
    return POL_OK;
}

static pol_status look_at_counts(void *user, const int64_t *count, const int64_t *index, int64_t n, double *loss)
{
    measured *m = user;
    const double began = pol_seconds();
    (void)n;
    POL_TRY(pol_nested_set(m->r, count));
    return observe(m, began, index, loss);
}

static pol_status look_at_mask(void *user, const uint8_t *mask, const int64_t *index, int64_t n, double *loss)
{
    measured *m = user;
    const double began = pol_seconds();
    (void)n;
    POL_TRY(pol_replicas_set_mask(&m->r->replicas, mask));
    return observe(m, began, index, loss);
}

static void drop(void *user) { pol_objective_drop(((measured *)user)->r->objective); }

/* One step of a policy that nobody goes on with. */
static pol_status try_counts(measured *m)
{
    pol_job *r = m->r;
    const pol_allocation_losses losses = {.look = look_at_counts, .drop = drop, .user = m};
    pol_allocation_settings o = r->o.allocation;
    pol_shaper *shaper;
    o.candidates = POL_PILOT_MASKS;
    o.sequences_per_candidate = m->sequences;
    POL_TRY(pol_shaper_new(r->ctx, &o, &r->nested.rules, pol_job_state_of(r).count, pol_job_learnt_from(r), &losses,
                           &shaper));
    const pol_status s = pol_shaper_step(shaper, NULL);
    pol_shaper_free(shaper);
    return s;
}

static pol_status try_masks(measured *m)
{
    pol_job *r = m->r;
    const pol_losses losses = {.look = look_at_mask, .drop = drop, .user = m};
    pol_learn_settings o = r->o.learn;
    pol_distribution *d;
    pol_trainer *trainer = NULL;
    o.mask_samples = POL_PILOT_MASKS;
    o.sequences_per_mask = m->sequences;
    o.shared_sequences = true;
    POL_TRY(pol_distribution_new(r->in.units, r->o.granularity, &d));
    memcpy(d->s, r->initial_s, (size_t)r->in.units->n * sizeof *d->s);
    if (o.smin > 0)
        pol_distribution_clamp(d, (float)o.smin);
    pol_status s = pol_trainer_new(r->ctx, &o, d, pol_job_learnt_from(r), &losses, &trainer);
    if (s == POL_OK)
        s = pol_trainer_step(trainer, NULL);
    pol_trainer_free(trainer);
    pol_distribution_free(d);
    return s;
}

/* What stands where there is nothing to compare. */
static void keep_presets(const pol_prune_settings *o, pol_pilot_choice *c)
{
    const bool counts = o->method == POL_METHOD_ALLOCATION;
    *c = (pol_pilot_choice){.candidates = counts ? o->allocation.candidates : o->learn.mask_samples,
                            .sequences = counts ? o->allocation.sequences_per_candidate : o->learn.sequences_per_mask,
                            .learning_rate = counts ? o->allocation.learning_rate : o->learn.learning_rate,
                            .spread = counts ? o->allocation.spread_channels : 0};
    strcpy(c->reason[0], "the pilot's masks do not differ, or there are no sequences to compare them by: presets stay");
}

static pol_status choose(measured *m, pol_pilot *p, pol_pilot_choice *c)
{
    const pol_job *r = m->r;
    const pol_prune_settings *o = &r->o;
    const pol_stage_kind stage = pol_prune_first_stage(o);
    pol_pilot_choice now;
    keep_presets(o, &now);
    *p = (pol_pilot){.masks = m->masks, .sequences = m->sequences};
    if (m->masks < 2 || m->sequences < 2) {
        *c = now;
        return POL_OK;
    }
    const pol_pilot_ask ask = {.allocation = stage == POL_STAGE_ALLOCATION,
                               .passes = o->stage_passes[stage],
                               .variables = pol_prune_variables(o, r->in.units, stage),
                               .candidates = o->sized & POL_SIZED_MASKS ? 0 : now.candidates,
                               .sequences = o->sized & POL_SIZED_SEQUENCES ? 0 : now.sequences,
                               .learning_rate = o->sized & POL_SIZED_RATE ? 0 : now.learning_rate,
                               .spread = o->sized & POL_SIZED_SPREAD ? 0 : now.spread};
    p->change_seconds = pol_bench_median(m->change, m->masks);
    p->pass_seconds = fmax(pol_bench_median(m->pass, m->masks), 1e-9); /* what a clock may not see */
    POL_TRY(pol_pilot_variances(r->ctx, m->loss, m->masks, m->sequences, p));
    return pol_pilot_choose(r->ctx, p, &ask, c);
}

static json_t *sizing_json(const pol_pilot *p, const pol_pilot_choice *c)
{
    json_t *reasons = json_array();
    for (int i = 0; i < POL_PILOT_REASONS && c->reason[i][0]; i++)
        json_array_append_new(reasons, json_string(c->reason[i]));
    return json_pack("{si si si si sf sf sf sf sf sf sf so}", "masks", (int)p->masks, "sequences", (int)p->sequences,
                     "mask_samples", (int)c->candidates, "sequences_per_mask", (int)c->sequences, "learning_rate",
                     c->learning_rate, "spread", c->spread, "between_masks", p->between_masks, "between_sequences",
                     p->between_sequences, "residual", p->residual, "change_seconds", p->change_seconds, "pass_seconds",
                     p->pass_seconds, "reasons", reasons);
}

/* As the file will have it: with as many digits as are written. */
static pol_status as_written(pol_job *r, json_t *j, json_t **out)
{
    char *text = j ? json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(j);
    const pol_status s = text ? pol_json_parse(r->ctx, "sizing", text, strlen(text), out)
                              : pol_fail(r->ctx, POL_ENOMEM, "no memory for what the pilot chose");
    free(text);
    return s;
}

static void note_steps(const pol_prune_settings *o, json_t *sizing)
{
    json_t *steps = json_object();
    for (int i = 0; i < POL_STAGES; i++)
        if (o->stage_steps[i])
            json_object_set_new(steps, pol_stage_names[i], json_integer((json_int_t)o->stage_steps[i]));
    json_object_set_new(sizing, "steps", steps);
}

/* What the pilot had to choose, into the settings. `where` names the file in messages. */
static pol_status apply(pol_job *r, const char *where, const json_t *j)
{
    const bool counts = r->o.method == POL_METHOD_ALLOCATION;
    int32_t *masks = counts ? &r->o.allocation.candidates : &r->o.learn.mask_samples;
    int32_t *sequences = counts ? &r->o.allocation.sequences_per_candidate : &r->o.learn.sequences_per_mask;
    int64_t K, nb;
    double rate, spread;
    POL_TRY(pol_json_int(r->ctx, where, j, "mask_samples", 1, 1 << 20, &K));
    POL_TRY(pol_json_int(r->ctx, where, j, "sequences_per_mask", 1, 1 << 20, &nb));
    POL_TRY(pol_json_num(r->ctx, where, j, "learning_rate", 0, 1e3, &rate));
    POL_TRY(pol_json_num(r->ctx, where, j, "spread", 0, 1, &spread));
    if (r->o.sized & POL_SIZED_MASKS)
        *masks = (int32_t)K;
    if (r->o.sized & POL_SIZED_SEQUENCES)
        *sequences = (int32_t)nb;
    if (r->o.sized & POL_SIZED_RATE)
        *(counts ? &r->o.allocation.learning_rate : &r->o.learn.learning_rate) = rate;
    if (r->o.sized & POL_SIZED_SPREAD) {
        r->o.allocation.spread_channels = spread;
        r->o.allocation.spread_groups = fmin(2 * spread, 1);
    }
    POL_TRY(pol_prune_share_out(r->ctx, &r->o, r->in.units));
    POL_TRY(counts ? pol_allocation_check(r->ctx, &r->o.allocation) : pol_learn_check(r->ctx, &r->o.learn));
    r->result->steps = pol_prune_steps(&r->o); /* more or fewer than planned */
    return POL_OK;
}

pol_status pol_job_take_sizing(pol_job *r, const json_t *old)
{
    json_t *sizing;
    if (!r->o.sized)
        return POL_OK;
    POL_TRY(pol_json_object(r->ctx, r->folder.json, old, "sizing", &sizing));
    POL_TRY(apply(r, r->folder.json, sizing));
    json_object_set(r->json, "sizing", sizing);
    return POL_OK;
}

static void tell(const pol_job *r, const pol_pilot_choice *c)
{
    for (int i = 0; i < POL_PILOT_REASONS && c->reason[i][0]; i++) {
        pol_log(r->ctx, POL_LOG_INFO, "sizing: %s", c->reason[i]);
        if (r->watch && r->watch->sized)
            r->watch->sized(r->watch->user, c->reason[i]);
    }
}

pol_status pol_job_size(pol_job *r)
{
    pol_pilot p;
    pol_pilot_choice c;
    json_t *sizing = NULL;
    if (!r->o.sized)
        return POL_OK;
    pol_job_stage(r, "pilot");
    measured *m = pol_alloc_zero(r->ctx, sizeof *m);
    if (!m)
        return POL_ENOMEM;
    m->r = r;
    m->sequences = (int32_t)pol_min_i64(POL_PILOT_SEQUENCES, pol_job_learnt_from(r));
    pol_status s = r->o.method == POL_METHOD_ALLOCATION ? try_counts(m) : try_masks(m);
    if (s == POL_OK)
        s = choose(m, &p, &c);
    pol_free(r->ctx, m);
    POL_TRY(s);
    POL_TRY(as_written(r, sizing_json(&p, &c), &sizing));
    json_object_set_new(r->json, "sizing", sizing);
    POL_TRY(apply(r, "sizing", sizing));
    note_steps(&r->o, sizing);
    tell(r, &c);
    return POL_OK;
}
