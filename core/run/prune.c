/* prune.c - a run from start to end.
 *
 * The loop's one safe point is the boundary before a step. There a snapshot is taken in memory (probabilities,
 * estimator, order of the weight rows, best so far); a checkpoint on disk is always such a snapshot, also after a stop
 * in the middle of a step. The order belongs to it because sums run in that order: with it a resumed run repeats every
 * bit.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/backend.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/run/job.h"

/* Seconds between checkpoints where no number of steps is given. */
enum { CHECKPOINT_SECONDS = 120 };

void pol_job_stage(const pol_job *r, const char *name)
{
    pol_log(r->ctx, POL_LOG_INFO, "stage %s", name);
    if (r->watch && r->watch->stage)
        r->watch->stage(r->watch->user, name);
}

static pol_status look(void *user, const uint8_t *mask, const int64_t *index, int64_t n, double *loss)
{
    pol_job *r = user;
    r->sequences[POL_PURPOSE_LEARN] += n;
    return pol_job_look(r, mask, index, 0, n, loss);
}

static pol_status settle(void *user) { return pol_replicas_settle(&((pol_job *)user)->replicas); }
static void drop(void *user) { pol_replicas_drop(&((pol_job *)user)->replicas); }

/* Its order of units is that of all. */
static const pol_model *first_model(const pol_job *r) { return r->replicas.of[0].model; }

static pol_checkpoint_shape checkpoint_shape(const pol_job *r)
{
    return (pol_checkpoint_shape){.n_units = r->in.units->n, .n_order = pol_model_order_size(first_model(r))};
}

static void snapshot(pol_job *r)
{
    if (r->trainer)
        pol_trainer_get(r->trainer, &r->ck.step, &r->ck.estimator);
    memcpy(r->ck.s, r->dist->s, (size_t)r->ck.shape.n_units * sizeof *r->ck.s);
    pol_model_get_order(first_model(r), r->ck.order);
    memcpy(r->ck.sequences, r->sequences, sizeof r->sequences);
    r->ck.seconds = pol_seconds() - r->started;
    r->begun = true;
}

/* Never ahead of the log: a checkpoint on disk has all lines of the steps before it. */
static pol_status write_checkpoint(pol_job *r)
{
    POL_TRY(pol_step_log_sync(&r->log));
    POL_TRY(pol_checkpoint_write(r->ctx, r->folder.checkpoint, &r->ck));
    r->written = pol_seconds();
    r->saved = true;
    return POL_OK;
}

/* The hard mask of the present probabilities on the held-out sequences; remembers the best. */
static pol_status judge(pol_job *r, int64_t step, double *loss)
{
    *loss = NAN;
    if (!r->o.held_out)
        return POL_OK;
    POL_TRY(pol_hard_mask(r->dist, &r->o.learn.budget, r->initial_s, r->mask));
    POL_TRY(pol_job_held_out(r, r->mask, step, loss));
    const bool best = !r->ck.has_best || *loss < r->ck.best_loss;
    if (best) {
        r->ck.has_best = true;
        r->ck.best_step = step;
        r->ck.best_loss = *loss;
        memcpy(r->ck.best_s, r->dist->s, (size_t)r->ck.shape.n_units * sizeof *r->ck.best_s);
    }
    if (r->watch && r->watch->judged)
        r->watch->judged(r->watch->user, step, *loss, best);
    return POL_OK;
}

/* Those of an earlier run; what may not go in this one stays whatever they say. */
static pol_status earlier_probabilities(pol_job *r)
{
    const pol_units *u = r->in.units;
    unsigned granularity;
    POL_TRY(pol_mask_read(r->ctx, r->in.init_mask, u, &granularity, r->mask, r->dist->s));
    for (int64_t i = 0; i < u->n_sections; i++)
        if (!(r->o.granularity & 1u << u->sections[i].kind))
            for (int64_t j = 0; j < u->sections[i].count; j++)
                r->dist->s[u->sections[i].first + j] = 1.0f;
    return POL_OK;
}

static pol_status metric_probabilities(pol_job *r)
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
        pol_init_from_metric(r->dist, r->o.init, values, r->in.init_keep);
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

/* Everything before the first step: the dense model, the initial probabilities and their hard mask. */
static pol_status begin(pol_job *r)
{
    const pol_units *u = r->in.units;
    const pol_checkpoint_shape shape = checkpoint_shape(r);
    POL_TRY(pol_checkpoint_init(r->ctx, &shape, &r->ck));
    POL_TRY(fingerprint(r, r->ck.settings));
    pol_job_stage(r, "dense model");
    POL_TRY(pol_job_measure(r, NULL, 0, &r->result->dense));
    pol_job_stage(r, "initial probabilities");
    POL_TRY(r->in.init_mask ? earlier_probabilities(r) : metric_probabilities(r));
    memcpy(r->initial_s, r->dist->s, (size_t)u->n * sizeof *r->initial_s);
    if (r->o.learn.smin > 0)
        pol_distribution_clamp(r->dist, (float)r->o.learn.smin);
    pol_job_stage(r, "initial mask");
    POL_TRY(pol_hard_mask(r->dist, &r->o.learn.budget, r->initial_s, r->mask));
    POL_TRY(pol_mask_write(r->ctx, r->folder.initial, u, r->o.granularity, r->mask, r->initial_s));
    POL_TRY(pol_job_measure(r, r->mask, 0, &r->result->initial));
    if (r->o.held_out) {
        r->ck.has_best = true;
        r->ck.best_loss = r->result->initial.held_out;
        memcpy(r->ck.best_s, r->dist->s, (size_t)u->n * sizeof *r->ck.best_s);
    }
    snapshot(r);
    POL_TRY(pol_job_write_json(r, "running"));
    return write_checkpoint(r);
}

/* Where a run stopped; its record agrees with this call. */
static pol_status restore(pol_job *r, const json_t *old)
{
    const pol_units *u = r->in.units;
    unsigned granularity;
    char settings[33];
    POL_TRY(pol_job_read_results(r, old));
    POL_TRY(pol_mask_read(r->ctx, r->folder.initial, u, &granularity, r->mask, r->initial_s));
    const pol_checkpoint_shape shape = checkpoint_shape(r);
    POL_TRY(pol_checkpoint_read(r->ctx, r->folder.checkpoint, &shape, &r->ck));
    POL_TRY(fingerprint(r, settings));
    POL_TRY(pol_checkpoint_check_settings(r->ctx, r->folder.checkpoint, &r->ck, settings));
    memcpy(r->dist->s, r->ck.s, (size_t)u->n * sizeof *r->dist->s);
    memcpy(r->sequences, r->ck.sequences, sizeof r->sequences);
    r->started -= r->ck.seconds;
    if (r->trainer)
        POL_TRY(pol_trainer_set(r->trainer, r->ck.step, &r->ck.estimator));
    POL_TRY(pol_replicas_set_order(&r->replicas, r->ck.order));
    POL_TRY(pol_job_note_devices(r, old));
    r->begun = true;
    return pol_job_write_json(r, "running"); /* a checkpoint is never of devices that the record does not name */
}

static bool checkpoint_due(const pol_job *r, int64_t step)
{
    if (r->o.checkpoint_every)
        return step % r->o.checkpoint_every == 0;
    return pol_seconds() - r->written > CHECKPOINT_SECONDS;
}

static pol_status log_step(pol_job *r, const pol_step_report *rep, double tokens_per_second, double held_out)
{
    json_t *line =
        json_pack("{sI sf sf sf sf sf sf sf}", "step", (json_int_t)rep->step, "loss", rep->loss, "baseline",
                  rep->baseline, "kept", rep->kept, "grad_norm", rep->grad_norm, "learning_rate", rep->learning_rate,
                  "mean_entropy", rep->mean_entropy, "tokens_per_second", tokens_per_second);
    if (isfinite(held_out))
        json_object_set_new(line, "held_out_nll", json_real(held_out));
    pol_status s = pol_step_log_add(&r->log, line);
    json_decref(line);
    return s;
}

static pol_status learn(pol_job *r)
{
    const int64_t steps = r->o.learn.steps;
    const double tokens = (double)r->o.learn.mask_samples * r->o.learn.sequences_per_mask * (double)r->in.text.seq_len;
    const int64_t first = pol_trainer_next(r->trainer);
    const double began = pol_seconds();
    pol_job_stage(r, "learning");
    r->written = began;
    for (int64_t step = first; step < steps; step = pol_trainer_next(r->trainer)) {
        snapshot(r);
        if (step > first && checkpoint_due(r, step))
            POL_TRY(write_checkpoint(r));
        pol_step_report rep;
        const double t0 = pol_seconds();
        POL_TRY(pol_trainer_step(r->trainer, &rep));
        const double rate = tokens / fmax(pol_seconds() - t0, 1e-9);
        double held_out = NAN;
        const int64_t done = step + 1;
        if (done == steps || (r->o.eval_every && done % r->o.eval_every == 0))
            POL_TRY(judge(r, done, &held_out));
        POL_TRY(log_step(r, &rep, rate, held_out));
        if (r->watch && r->watch->step)
            r->watch->step(r->watch->user, &rep, steps, rate,
                           (pol_seconds() - began) / (double)(done - first) * (double)(steps - done));
    }
    snapshot(r);
    return write_checkpoint(r);
}

/* The learnt mask, measured and written. */
static pol_status finish(pol_job *r)
{
    pol_job_stage(r, "learnt mask");
    int64_t step = r->o.learn.steps;
    if (r->o.select == POL_SELECT_BEST && r->ck.has_best) {
        step = r->ck.best_step;
        memcpy(r->dist->s, r->ck.best_s, (size_t)r->ck.shape.n_units * sizeof *r->dist->s);
    }
    POL_TRY(pol_hard_mask(r->dist, &r->o.learn.budget, r->initial_s, r->mask));
    POL_TRY(pol_job_measure(r, r->mask, step, &r->result->learnt));
    POL_TRY(pol_mask_write(r->ctx, r->folder.mask, r->in.units, r->o.granularity, r->mask, r->dist->s));
    pol_job_report_budget(r, r->mask, &r->result->budget);
    r->result->chosen_step = step;
    memcpy(r->result->sequences, r->sequences, sizeof r->sequences);
    r->result->seconds = pol_seconds() - r->started;
    r->result->peak_bytes = pol_memory_peak();
    r->result->peak_device_bytes = pol_job_peak_device_bytes(r);
    return pol_job_write_json(r, "done");
}

static pol_status load(pol_job *r, const json_t *old)
{
    const pol_units *u = r->in.units;
    const pol_losses losses = {.look = look, .settle = settle, .drop = drop, .user = r};
    pol_job_stage(r, "loading weights");
    POL_TRY(pol_replicas_open(r->in.src, r->in.devices, r->in.memory, r->in.n_devices, r->in.max_tokens,
                              r->in.max_seq_len, &r->replicas));
    POL_TRY(pol_job_budget(r, old));
    POL_TRY(pol_distribution_new(u, r->o.granularity, &r->dist));
    r->o.learn.parts = r->in.parts;
    r->o.learn.n_parts = r->in.n_parts;
    if (r->o.learn.steps)
        POL_TRY(pol_trainer_new(r->ctx, &r->o.learn, r->dist, r->in.n_learn, &losses, &r->trainer));
    r->initial_s = pol_alloc_array(r->ctx, u->n, sizeof *r->initial_s);
    r->mask = pol_alloc(r->ctx, (size_t)u->n);
    r->batch_ids = pol_alloc_array(r->ctx, r->o.batch * r->in.text.seq_len, sizeof *r->batch_ids);
    return r->initial_s && r->mask && r->batch_ids ? POL_OK : POL_ENOMEM;
}

static pol_status work(pol_job *r, const json_t *old)
{
    if (!r->saved) /* begun anew, also where a run was killed before it had anything to save */
        POL_TRY(pol_job_write_json(r, "running"));
    POL_TRY(load(r, old));
    POL_TRY(r->saved ? restore(r, old) : begin(r));
    POL_TRY(pol_step_log_open(r->ctx, r->folder.log, r->ck.step, &r->log));
    if (r->trainer)
        POL_TRY(learn(r));
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

/* After a stop the snapshot goes to disk. After another failure the last checkpoint stands; a new run that has none
 * leaves nothing behind. What is returned, and said, is why the run ended. */
static pol_status leave(pol_job *r, pol_status s)
{
    if (s == POL_EINTERRUPTED && r->begun) {
        memcpy(r->sequences, r->ck.sequences, sizeof r->sequences);
        POL_TRY(write_checkpoint(r));
        POL_TRY(pol_job_write_json(r, "interrupted"));
        return pol_fail(r->ctx, s, "%s: stopped before step %lld of %lld; --resume goes on", r->folder.path,
                        (long long)r->ck.step, (long long)r->o.learn.steps);
    }
    char *text = pol_strdup(r->ctx, pol_error_text(r->ctx));
    if (!r->saved && r->folder.made)
        pol_run_folder_discard(&r->folder);
    else if (r->begun)
        (void)pol_job_write_json(r, "failed");
    if (text)
        pol_fail(r->ctx, s, "%s%s", text, s == POL_EINTERRUPTED && !r->saved ? " before anything could be saved" : "");
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
    result->steps = r.o.learn.steps;
    pol_status s = run_job(&r);
    const pol_status closed = pol_step_log_close(&r.log);
    pol_trainer_free(r.trainer);
    pol_distribution_free(r.dist);
    pol_replicas_close(&r.replicas);
    pol_inputs_close(&r.in);
    pol_checkpoint_free(&r.ck);
    pol_run_folder_close(&r.folder);
    pol_free(ctx, r.initial_s);
    pol_free(ctx, r.mask);
    pol_free(ctx, r.batch_ids);
    json_decref(r.json);
    return s < 0 ? s : closed;
}
