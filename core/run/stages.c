/* stages.c - the loop that learns, stage after stage.
 *
 * Its one safe point is the boundary before a step. There a snapshot is taken in memory (policy, order of the weight
 * rows, best so far); a checkpoint on disk is always such a snapshot, also after a stop in the middle of a step. The
 * order belongs to it because sums run in that order: with it a resumed run repeats every bit.
 */
#include <math.h>
#include <string.h>

#include "core/base/json.h"
#include "core/run/stage.h"

/* Seconds between checkpoints where no number of steps is given. */
enum { CHECKPOINT_SECONDS = 120, STATE_RESULTS = 3 * POL_STAGES };

static const pol_stage *const stages[POL_STAGES] = {[POL_STAGE_ALLOCATION] = &pol_stage_allocation,
                                                    [POL_STAGE_BLOCKS] = &pol_stage_blocks,
                                                    [POL_STAGE_UNITS] = &pol_stage_units};

pol_checkpoint_shape pol_job_checkpoint_shape(const pol_job *r)
{
    const int64_t n_order = pol_model_order_size(r->replicas.of[0].model);
    int64_t n_state = STATE_RESULTS;
    if (r->o.method == POL_METHOD_ALLOCATION)
        n_state += 1 + 4 * pol_nested_counts(r) + (pol_inputs_have_database(&r->o, &r->in) ? 0 : n_order);
    return (pol_checkpoint_shape){.n_units = r->in.units->n, .n_order = n_order, .n_state = n_state};
}

pol_job_state pol_job_state_of(const pol_job *r)
{
    const int64_t n = pol_nested_counts(r);
    double *at = r->ck.state + STATE_RESULTS;
    if (r->o.method != POL_METHOD_ALLOCATION)
        return (pol_job_state){.result = r->ck.state};
    return (pol_job_state){.result = r->ck.state,
                           .deviation = at,
                           .mean = at + 1,
                           .spread = at + 1 + n,
                           .best = at + 1 + 2 * n,
                           .count = at + 1 + 3 * n,
                           .order = pol_inputs_have_database(&r->o, &r->in) ? NULL : at + 1 + 4 * n};
}

static bool is_whole(double x, double most) { return x >= 0 && x <= most && x == floor(x); }

static bool has_sound_state(const pol_job *r)
{
    const pol_job_state at = pol_job_state_of(r);
    if (r->ck.stage < 0 || r->ck.stage > POL_STAGES)
        return false;
    for (int i = 0; i < POL_STAGES; i++)
        if (!is_whole(at.result[3 * i], (double)r->o.stage_steps[i]))
            return false;
    if (r->ck.stage < POL_STAGES && (r->ck.step < 0 || r->ck.step > r->o.stage_steps[r->ck.stage]))
        return false;
    for (int64_t i = 0; at.count && i < pol_nested_counts(r); i++) {
        const double most = (double)pol_nested_section(r, i)->count;
        if (!is_whole(at.count[i], most) || !is_whole(at.best[i], most))
            return false;
    }
    for (int64_t i = 0; at.order && i < r->ck.shape.n_order; i++)
        if (!is_whole(at.order[i], (double)r->ck.shape.n_order)) /* the rest of an order where it is set */
            return false;
    return true;
}

pol_status pol_job_set_saved_order(pol_job *r, const int32_t *order)
{
    const pol_status s = pol_replicas_set_order(&r->replicas, order);
    return s == POL_EARG ? pol_fail(r->ctx, POL_EFORMAT, "%s: %s", r->folder.checkpoint, pol_error_text(r->ctx)) : s;
}

pol_status pol_job_check_state(const pol_job *r)
{
    return has_sound_state(r)
               ? POL_OK
               : pol_fail(r->ctx, POL_EFORMAT, "%s: its counts are none that this run can have", r->folder.checkpoint);
}

/* Steps of the stages before this one. */
static int64_t steps_before(const pol_job *r, int64_t stage)
{
    int64_t steps = 0;
    for (int64_t i = 0; i < stage; i++)
        steps += r->o.stage_steps[i];
    return steps;
}

int64_t pol_job_done_steps(const pol_job *r) { return steps_before(r, r->ck.stage) + r->ck.step; }

static void snapshot(pol_job *r, const pol_stage *s)
{
    if (s)
        s->save(r);
    pol_model_get_order(r->replicas.of[0].model, r->ck.order);
    memcpy(r->ck.sequences, r->sequences, sizeof r->sequences);
    r->ck.seconds = pol_seconds() - r->started;
    r->begun = true;
}

/* Never ahead of the log: a checkpoint on disk has all lines of the steps before it. */
pol_status pol_job_write_checkpoint(pol_job *r)
{
    POL_TRY(pol_step_log_sync(&r->log));
    POL_TRY(pol_checkpoint_write(r->ctx, r->folder.checkpoint, &r->ck));
    r->written = pol_seconds();
    r->saved = true;
    return POL_OK;
}

pol_status pol_job_first_checkpoint(pol_job *r)
{
    snapshot(r, NULL);
    return pol_job_write_checkpoint(r);
}

static void judged(pol_job *r, int64_t step, double loss, bool best)
{
    if (r->watch && r->watch->judged)
        r->watch->judged(r->watch->user, step, loss, best);
}

/* The loss of what the stage would be accepted with now. */
static void note_after(pol_job *r, double loss)
{
    pol_job_state_of(r).result[3 * r->ck.stage + 2] = r->o.select == POL_SELECT_BEST ? r->ck.best_loss : loss;
}

/* The hard mask of the present policy on the held-out sequences; remembers the best. `step` is the stage's. */
static pol_status judge(pol_job *r, const pol_stage *s, int64_t step, double *loss)
{
    *loss = NAN;
    if (!pol_job_judged_by(r))
        return POL_OK;
    POL_TRY(s->set(r));
    POL_TRY(pol_job_judge(r, steps_before(r, r->ck.stage) + step, loss));
    const bool best = !r->ck.has_best || *loss < r->ck.best_loss;
    if (best) {
        r->ck.has_best = true;
        r->ck.best_step = step;
        r->ck.best_loss = *loss;
        s->keep(r);
    }
    note_after(r, *loss);
    judged(r, steps_before(r, r->ck.stage) + step, *loss, best);
    return POL_OK;
}

/* What the stage begins with is its first candidate. Where that is the initial mask it has been measured. */
static pol_status judge_start(pol_job *r, const pol_stage *s)
{
    double loss;
    const bool measured = r->o.method != POL_METHOD_ALLOCATION && r->objective == r->nll;
    r->ck.has_best = false;
    if (!pol_job_judged_by(r))
        return POL_OK;
    if (!measured) {
        POL_TRY(judge(r, s, 0, &loss));
    } else {
        loss = r->result->initial.held_out;
        r->ck.has_best = true;
        r->ck.best_step = 0;
        r->ck.best_loss = loss;
        s->keep(r);
        note_after(r, loss);
    }
    pol_job_state_of(r).result[3 * r->ck.stage + 1] = loss;
    return POL_OK;
}

static bool checkpoint_due(const pol_job *r, int64_t step)
{
    if (r->o.checkpoint_every)
        return step % r->o.checkpoint_every == 0;
    return pol_seconds() - r->written > CHECKPOINT_SECONDS;
}

static pol_status log_step(pol_job *r, const pol_step_report *rep, double tokens_per_second, double held_out)
{
    json_t *line = json_pack("{sI ss sf sf sf sf sf sf sf}", "step", (json_int_t)rep->step, "stage",
                             pol_stage_names[r->ck.stage], "loss", rep->loss, "baseline", rep->baseline, "kept",
                             rep->kept, "grad_norm", rep->grad_norm, "learning_rate", rep->learning_rate,
                             "mean_entropy", rep->mean_entropy, "tokens_per_second", tokens_per_second);
    if (isfinite(held_out))
        json_object_set_new(line, "held_out_nll", json_real(held_out));
    pol_status s = pol_step_log_add(&r->log, line);
    json_decref(line);
    return s;
}

/* One step and what goes with it; `done` steps of the stage are behind it then. */
static pol_status step(pol_job *r, const pol_stage *s, int64_t done, double began, int64_t first)
{
    const int64_t before = steps_before(r, r->ck.stage), steps = r->o.stage_steps[r->ck.stage];
    const int64_t looked_at = r->sequences[POL_PURPOSE_LEARN], every = pol_prune_eval_every(&r->o);
    const double start = pol_seconds();
    pol_step_report rep;
    const pol_status stepped = s->step(r, &rep);
    if (stepped == POL_ENUMERIC && r->o.method == POL_METHOD_ALLOCATION) /* whose step it is */
        return pol_fail(r->ctx, stepped, "stage %s: %s", pol_stage_names[r->ck.stage], pol_error_text(r->ctx));
    POL_TRY(stepped);
    const double tokens = (double)(r->sequences[POL_PURPOSE_LEARN] - looked_at) * (double)r->in.text.seq_len;
    const double rate = tokens / fmax(pol_seconds() - start, 1e-9);
    double held_out = NAN;
    if (done == steps || (every && done % every == 0))
        POL_TRY(judge(r, s, done, &held_out));
    rep.step += before;
    POL_TRY(log_step(r, &rep, rate, held_out));
    if (r->watch && r->watch->step) {
        const double seconds = (pol_seconds() - began) / (double)(done - first);
        r->watch->step(r->watch->user, &rep, pol_prune_steps(&r->o), rate, seconds * (double)(steps - done));
    }
    return POL_OK;
}

static pol_status learn(pol_job *r, const pol_stage *s)
{
    const int64_t first = r->ck.step, steps = r->o.stage_steps[r->ck.stage];
    const double began = pol_seconds();
    r->written = began;
    for (int64_t i = first; i < steps; i++) {
        snapshot(r, s);
        if (i > first && checkpoint_due(r, i))
            POL_TRY(pol_job_write_checkpoint(r));
        POL_TRY(step(r, s, i + 1, began, first));
    }
    snapshot(r, s);
    return POL_OK;
}

/* What the stage gained is accepted, and the next begins. */
static pol_status end(pol_job *r, const pol_stage *s)
{
    const pol_stage_kind stage = (pol_stage_kind)r->ck.stage;
    const bool best = r->o.select == POL_SELECT_BEST && r->ck.has_best;
    pol_job_state_of(r).result[3 * stage] = (double)(best ? r->ck.best_step : r->o.stage_steps[stage]);
    POL_TRY(s->accept(r, best));
    if (r->watch && r->watch->staged) {
        const pol_stage_result x = pol_job_stage_result(r, stage);
        r->watch->staged(r->watch->user, stage, &x);
    }
    return POL_OK;
}

pol_stage_result pol_job_stage_result(const pol_job *r, pol_stage_kind stage)
{
    const double *x = pol_job_state_of(r).result + 3 * stage;
    const bool judged_at_all = pol_job_judged_by(r) && r->o.stage_steps[stage];
    return (pol_stage_result){.steps = r->o.stage_steps[stage],
                              .chosen_step = (int64_t)x[0],
                              .before = judged_at_all ? x[1] : NAN,
                              .after = judged_at_all ? x[2] : NAN};
}

static pol_status run_stage(pol_job *r)
{
    const pol_stage *s = stages[r->ck.stage];
    pol_job_stage(r, r->o.method == POL_METHOD_ALLOCATION ? pol_stage_names[r->ck.stage] : "learning");
    POL_TRY(s->open(r));
    POL_TRY(r->ck.step || r->ck.has_best ? s->resume(r) : judge_start(r, s));
    POL_TRY(learn(r, s));
    return end(r, s);
}

pol_status pol_learn_stages(pol_job *r)
{
    for (; r->ck.stage < POL_STAGES; r->ck.stage++) {
        if (!r->o.stage_steps[r->ck.stage])
            continue;
        const pol_status s = run_stage(r);
        stages[r->ck.stage]->close(r);
        POL_TRY(s);
        r->ck.step = 0;
        r->ck.has_best = false;
        r->ck.estimator = (pol_estimator){0};
    }
    snapshot(r, NULL);
    return pol_job_write_checkpoint(r);
}
