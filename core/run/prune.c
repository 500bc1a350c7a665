/* prune.c - a run from start to end: what is measured before learning, learning (stages.c), what is measured and
 * written after it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/backend.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/model/source.h"
#include "core/run/mend.h"
#include "core/run/stage.h"

void pol_job_stage(const pol_job *r, const char *name)
{
    pol_log(r->ctx, POL_LOG_INFO, "stage %s", name);
    if (r->watch && r->watch->stage)
        r->watch->stage(r->watch->user, name);
}

/* Those of an earlier run; what may not go in this one stays whatever they say. */
static pol_status earlier_probabilities(pol_job *r, pol_distribution *d)
{
    const pol_units *u = r->in.units;
    unsigned granularity;
    POL_TRY(pol_mask_read(r->ctx, r->in.init_mask, u, &granularity, r->mask, d->s));
    for (int64_t i = 0; i < u->n_sections; i++)
        if (!(r->o.granularity & 1u << u->sections[i].kind))
            for (int64_t j = 0; j < u->sections[i].count; j++)
                d->s[u->sections[i].first + j] = 1.0f;
    return POL_OK;
}

static pol_status metric_probabilities(pol_job *r, pol_distribution *d)
{
    float *values = pol_alloc_array(r->ctx, r->in.units->n, sizeof *values);
    if (!values)
        return POL_ENOMEM;
    double passes = 0;
    pol_status s = pol_metric_compute(r->replicas.of[0].forward, r->o.init, &r->in.init, r->o.granularity,
                                      r->in.init_keep, r->o.learn.seed, values, &passes);
    s = pol_replicas_on(&r->replicas, 0, s);
    if (s == POL_OK)
        s = pol_replicas_follow_first(&r->replicas);
    if (s == POL_OK)
        pol_init_from_metric(d, r->o.init, values, r->in.init_keep);
    r->sequences[POL_PURPOSE_INIT] += (int64_t)passes;
    pol_free(r->ctx, values);
    return s;
}

/* Of the settings as run.json has them, for the checkpoint. */
static pol_status fingerprint(pol_job *r, char out[33])
{
    char *settings = json_dumps(json_object_get(r->json, "settings"), JSON_COMPACT | JSON_SORT_KEYS);
    if (!settings)
        return pol_fail(r->ctx, POL_ENOMEM, "no memory for the settings");
    pol_bytes_hash(settings, strlen(settings), out);
    free(settings);
    return POL_OK;
}

/* The hard mask of the metric's probabilities. */
static pol_status initial_of_metric(pol_job *r)
{
    pol_distribution *d;
    POL_TRY(pol_distribution_new(r->in.units, r->o.granularity, &d));
    pol_job_stage(r, "initial probabilities");
    pol_status s = r->in.init_mask ? earlier_probabilities(r, d) : metric_probabilities(r, d);
    if (s == POL_OK) {
        memcpy(r->initial_s, d->s, (size_t)r->in.units->n * sizeof *d->s);
        if (r->o.learn.smin > 0)
            pol_distribution_clamp(d, (float)r->o.learn.smin);
        s = pol_hard_mask(d, &r->o.learn.budget, r->initial_s, r->mask);
    }
    pol_distribution_free(d);
    return s;
}

/* The first units of each block in the nested order, as many as its share of the budget is. */
static pol_status initial_of_order(pol_job *r)
{
    double *count = pol_job_state_of(r).count;
    POL_TRY(pol_nested_open(r, false));
    POL_TRY(pol_nested_start(r, count));
    POL_TRY(pol_shape_round(&r->nested.rules, count, r->nested.count));
    for (int64_t i = 0; i < pol_nested_counts(r); i++)
        count[i] = (double)r->nested.count[i];
    pol_nested_mask(r, count, r->mask);
    pol_nested_probabilities(r, count, r->initial_s);
    return POL_OK;
}

/* Everything before the first step: the dense model, what learning begins with and its mask. */
static pol_status begin(pol_job *r)
{
    const pol_checkpoint_shape shape = pol_job_checkpoint_shape(r);
    POL_TRY(pol_checkpoint_init(r->ctx, &shape, &r->ck));
    POL_TRY(fingerprint(r, r->ck.settings));
    pol_job_stage(r, "dense model");
    POL_TRY(pol_job_measure(r, NULL, false, 0, &r->result->dense));
    POL_TRY(pol_job_prepare(r));
    POL_TRY(r->o.method == POL_METHOD_ALLOCATION ? initial_of_order(r) : initial_of_metric(r));
    pol_job_stage(r, "initial mask");
    POL_TRY(pol_mask_write(r->ctx, r->folder.initial, r->in.units, r->o.granularity, r->mask, r->initial_s));
    POL_TRY(pol_job_measure(r, r->mask, false, 0, &r->result->initial));
    memcpy(r->ck.s, r->initial_s, (size_t)shape.n_units * sizeof *r->ck.s);
    POL_TRY(pol_job_size(r));
    r->begun = true;
    POL_TRY(pol_job_write_json(r, "running"));
    return pol_job_first_checkpoint(r);
}

/* Where a run stopped; its record agrees with this call. */
static pol_status restore(pol_job *r, const json_t *old)
{
    const pol_units *u = r->in.units;
    const pol_checkpoint_shape shape = pol_job_checkpoint_shape(r);
    unsigned granularity;
    char settings[33];
    POL_TRY(pol_job_read_results(r, old));
    POL_TRY(pol_mask_read(r->ctx, r->folder.initial, u, &granularity, r->mask, r->initial_s));
    POL_TRY(pol_checkpoint_read(r->ctx, r->folder.checkpoint, &shape, &r->ck));
    POL_TRY(fingerprint(r, settings));
    POL_TRY(pol_checkpoint_check_settings(r->ctx, r->folder.checkpoint, &r->ck, settings));
    POL_TRY(pol_job_check_state(r));
    memcpy(r->sequences, r->ck.sequences, sizeof r->sequences);
    r->started -= r->ck.seconds;
    POL_TRY(pol_job_prepare(r));
    if (r->o.method == POL_METHOD_ALLOCATION)
        POL_TRY(pol_nested_open(r, true));
    POL_TRY(pol_job_set_saved_order(r, r->ck.order));
    POL_TRY(pol_job_note_devices(r, old));
    r->begun = true;
    return pol_job_write_json(r, "running"); /* a checkpoint is never of devices that the record does not name */
}

/* The mask that was learnt: of the last stage that gained something, and before all of them the one that learning began
 * with. */
static pol_status learnt_mask(pol_job *r)
{
    const bool units = pol_job_stage_result(r, POL_STAGE_UNITS).chosen_step > 0;
    if (r->o.method == POL_METHOD_ALLOCATION && !units) {
        pol_nested_mask(r, pol_job_state_of(r).count, r->mask);
        return POL_OK;
    }
    pol_distribution d = {.units = r->in.units, .granularity = r->o.granularity, .s = r->ck.s};
    return pol_stage_units_mask(r, &d, r->mask);
}

/* Steps done when what was chosen last had been learnt. */
static int64_t chosen_step(const pol_job *r)
{
    int64_t before = 0, chosen = 0;
    for (int i = 0; i < POL_STAGES; i++) {
        const int64_t step = pol_job_stage_result(r, (pol_stage_kind)i).chosen_step;
        chosen = step ? before + step : chosen;
        before += r->o.stage_steps[i];
    }
    return chosen;
}

static pol_status judge_repair(void *user, double *loss)
{
    pol_job *r = user;
    return pol_job_held_out(r, loss);
}

static void repair_progress(void *user, int64_t done, int64_t total) { (void)pol_job_progress(user, done, total); }

/* Judged once each, whatever of it an earlier call has done. */
static int64_t judged_ways(const pol_repair_outcome *x)
{
    int64_t n = 0;
    for (int t = 0; t < POL_REPAIR_TARGETS; t++)
        n += !isnan(x->held_out[t]);
    return n;
}

/* What makes up for the learnt mask, kept where it does better than the mask alone. */
static pol_status repair(pol_job *r)
{
    char model[33];
    const pol_repair_outcome earlier = r->result->repair; /* of the record of a run that goes on */
    const int64_t judged = r->sequences[POL_PURPOSE_HELD_OUT];
    pol_job_stage(r, "repair");
    POL_TRY(pol_source_hash(r->in.src, model));
    pol_repair_settings how = r->o.repair;
    how.sequences = r->in.repair.n; /* all that were cut for it: as planned, whatever the mask */
    const pol_mend_job j = {.ctx = r->ctx,
                            .replicas = &r->replicas,
                            .host = pol_job_host(r),
                            .mask = r->mask,
                            .cal = &r->in.repair,
                            .n = r->in.repair.n,
                            .o = how,
                            .model_hash = model,
                            .folder = r->folder.path,
                            .resume = true,
                            .masked = r->result->learnt.held_out,
                            .judge = r->o.held_out ? judge_repair : NULL,
                            .layers = repair_progress,
                            .user = r};
    POL_TRY(pol_mend(&j, &earlier, &r->result->repair));
    r->sequences[POL_PURPOSE_REPAIR] += r->result->repair.passes;
    r->sequences[POL_PURPOSE_HELD_OUT] = judged + judged_ways(&r->result->repair) * r->o.held_out;
    if (r->result->repair.kind == POL_REPAIR_NONE)
        return POL_OK;
    POL_TRY(pol_job_write_json(r, "running")); /* what was judged: the weights of one way alone stay */
    pol_job_stage(r, "repaired model");
    return pol_job_measure(r, r->mask, true, r->result->chosen_step, &r->result->repaired);
}

/* The learnt mask, measured and written; then what repairs it. */
static pol_status finish(pol_job *r)
{
    pol_job_stage(r, "learnt mask");
    POL_TRY(learnt_mask(r));
    pol_nested_drop_levels(r);
    if (r->nested.db && r->o.stage_steps[POL_STAGE_UNITS])
        POL_TRY(pol_replicas_reload_last(&r->replicas, r->in.src));
    r->result->chosen_step = chosen_step(r);
    POL_TRY(pol_job_measure(r, r->mask, false, r->result->chosen_step, &r->result->learnt));
    POL_TRY(pol_mask_write(r->ctx, r->folder.mask, r->in.units, r->o.granularity, r->mask, r->ck.s));
    pol_job_report_budget(r, r->mask, &r->result->budget);
    if (r->o.repair.kind != POL_REPAIR_NONE)
        POL_TRY(repair(r));
    for (int i = 0; i < POL_STAGES; i++)
        r->result->stages[i] = pol_job_stage_result(r, (pol_stage_kind)i);
    memcpy(r->result->sequences, r->sequences, sizeof r->sequences);
    r->result->seconds = pol_seconds() - r->started;
    r->result->peak_bytes = pol_memory_peak();
    r->result->peak_device_bytes = pol_job_peak_device_bytes(r);
    POL_TRY(pol_job_write_json(r, "done"));
    if (!r->o.keep_database && r->nested.db)
        remove(r->folder.database);
    return POL_OK;
}

static pol_status load(pol_job *r, const json_t *old)
{
    const pol_units *u = r->in.units;
    pol_job_stage(r, "loading weights");
    if (!r->in.task) { /* whose items have no parts */
        r->o.learn.parts = r->o.allocation.parts = r->in.parts;
        r->o.learn.n_parts = r->o.allocation.n_parts = r->in.n_parts;
    }
    POL_TRY(pol_replicas_open(r->in.src, r->in.devices, r->in.memory, r->in.n_devices, r->in.max_tokens,
                              r->in.max_seq_len, &r->replicas));
    POL_TRY(pol_job_budget(r, old));
    POL_TRY(pol_job_open_host(r));
    r->initial_s = pol_alloc_array(r->ctx, u->n, sizeof *r->initial_s);
    r->mask = pol_alloc(r->ctx, (size_t)u->n);
    if (!r->initial_s || !r->mask)
        return POL_ENOMEM;
    const pol_objective_inputs in = {.text = &r->in.text, .task = r->in.task, .batch = r->o.batch};
    POL_TRY(pol_objective_new(&r->replicas, r->o.objective.kind, &in, &r->objective));
    r->nll = r->objective;
    if (r->o.objective.kind == POL_OBJECTIVE_CROSS_ENTROPY)
        return POL_OK;
    return pol_objective_new(&r->replicas, POL_OBJECTIVE_CROSS_ENTROPY, &in, &r->nll);
}

static pol_status work(pol_job *r, const json_t *old)
{
    if (!r->saved) /* begun anew, also where a run was killed before it had anything to save */
        POL_TRY(pol_job_write_json(r, "running"));
    POL_TRY(load(r, old));
    POL_TRY(r->saved ? restore(r, old) : begin(r));
    POL_TRY(pol_step_log_open(r->ctx, r->folder.log, pol_job_done_steps(r), &r->log));
    POL_TRY(pol_learn_stages(r));
    return finish(r);
}

/* Weights of another type are another model: without a word about it a run keeps what it has, which the backend of this
 * call may not take. */
static pol_status open_inputs(pol_job *r, const json_t *old)
{
    const json_t *device = json_object_get(old, "device");
    const char *was = json_string_value(json_object_get(device, "weights"));
    const bool keep = was && (!r->o.backend.weights || !strcmp(r->o.backend.weights, pol_weight_names[0]));
    if (keep)
        r->o.backend.weights = was;
    const pol_status s = pol_inputs_open(r->ctx, &r->o, &r->in);
    if (s != POL_EUNSUPPORTED || !keep)
        return s;
    const char *backend = json_string_value(json_object_get(device, "backend"));
    return pol_fail(r->ctx, s, "%s; the run has been with --backend %s and --weights %s so far", pol_error_text(r->ctx),
                    backend ? backend : "?", was);
}

/* Inputs and plan; and the record of what the folder holds (*old, yours; NULL where it is new), which this call must
 * agree with. */
static pol_status prepare(pol_job *r, json_t **old)
{
    pol_plan plan;
    if (pol_path_exists(r->folder.json)) {
        POL_TRY(pol_run_json_read(r->ctx, r->folder.json, old));
        r->saved = pol_path_exists(r->folder.checkpoint);
    }
    POL_TRY(open_inputs(r, *old));
    POL_TRY(pol_plan_make(&r->o, &r->in, &plan));
    POL_TRY(pol_job_new_json(r, *old));
    if (*old)
        POL_TRY(pol_run_json_matches(r->ctx, r->folder.json, *old, r->json));
    if (r->saved)
        POL_TRY(pol_job_take_sizing(r, *old));
    r->result->steps = pol_prune_steps(&r->o);
    if (r->watch && r->watch->plan)
        r->watch->plan(r->watch->user, &plan);
    return POL_OK;
}

static pol_status is_done(pol_job *r, const json_t *old, bool *done)
{
    const char *status;
    POL_TRY(pol_json_str(r->ctx, r->folder.json, old, "status", &status));
    *done = !strcmp(status, "done") && pol_path_exists(r->folder.mask);
    return POL_OK;
}

/* Stopped after the first snapshot, which goes to disk. */
static pol_status leave_learning(pol_job *r)
{
    const int64_t done = pol_job_done_steps(r), steps = pol_prune_steps(&r->o);
    memcpy(r->sequences, r->ck.sequences, sizeof r->sequences);
    POL_TRY(pol_job_write_checkpoint(r));
    POL_TRY(pol_job_write_json(r, "interrupted"));
    if (done == steps && r->ck.stage == POL_STAGES)
        return pol_fail(r->ctx, POL_EINTERRUPTED, "%s: stopped after all steps; --resume goes on", r->folder.path);
    return pol_fail(r->ctx, POL_EINTERRUPTED, "%s: stopped before step %lld of %lld; --resume goes on", r->folder.path,
                    (long long)done, (long long)steps);
}

/* After another failure the last checkpoint stands, or the blocks of the database that there are; a new run that has
 * neither leaves nothing behind. What is returned, and said, is why the run ended. */
static pol_status leave(pol_job *r, pol_status s)
{
    const bool interrupted = s == POL_EINTERRUPTED, blocks = r->nested.db && pol_database_done(r->nested.db);
    if (interrupted && r->begun)
        return leave_learning(r);
    if (interrupted && blocks) {
        POL_TRY(pol_job_write_json(r, "interrupted"));
        return pol_fail(r->ctx, s, "%s: stopped before learning; --resume goes on", r->folder.path);
    }
    char *text = pol_strdup(r->ctx, pol_error_text(r->ctx));
    if (!r->saved && !blocks && r->folder.made)
        pol_run_folder_discard(&r->folder);
    else if (r->begun || blocks)
        (void)pol_job_write_json(r, "failed");
    if (text)
        pol_fail(r->ctx, s, "%s%s", text, interrupted && !r->saved ? " before anything could be saved" : "");
    pol_free(r->ctx, text);
    return s;
}

static pol_status run_job(pol_job *r)
{
    json_t *old = NULL;
    bool done = false;
    POL_TRY(pol_run_folder_open(r->ctx, r->o.out, r->o.resume, &r->folder));
    pol_status s = prepare(r, &old);
    if (s == POL_OK && old)
        s = is_done(r, old, &done);
    if (s == POL_OK)
        s = done ? pol_job_read_results(r, old) : work(r, old);
    json_decref(old);
    return s < 0 ? leave(r, s) : POL_OK;
}

pol_status pol_prune(pol_context *ctx, const pol_prune_settings *o, const pol_prune_observer *watch,
                     pol_prune_result *result)
{
    pol_job r = {.ctx = ctx, .o = *o, .watch = watch, .started = pol_seconds(), .result = result};
    memset(result, 0, sizeof *result);
    POL_TRY(pol_prune_resolve(ctx, &r.o));
    if (!o->n_data)
        return pol_fail(ctx, POL_EARG, "data: no calibration text is given");
    pol_status s = run_job(&r);
    const pol_status closed = pol_step_log_close(&r.log);
    pol_nested_close(&r);
    pol_backend_close(r.host);
    if (r.nll != r.objective)
        pol_objective_free(r.nll);
    pol_objective_free(r.objective);
    pol_replicas_close(&r.replicas);
    pol_inputs_close(&r.in);
    pol_checkpoint_free(&r.ck);
    pol_run_folder_close(&r.folder);
    pol_free(ctx, r.initial_s);
    pol_free(ctx, r.mask);
    json_decref(r.json);
    return s < 0 ? s : closed;
}
