/* plan.c - what a run will need, before it starts. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/backend.h"
#include "core/objective/objective.h"
#include "core/repair/database.h"
#include "core/repair/repair.h"
#include "core/run/run.h"
#include "core/score/score.h"
#include "pollard/model.h"

/* Multiply-accumulates a second of this device, by one projection of the model's own MLP shape. */
static pol_status measure_rate(pol_backend *be, const pol_config *c, int64_t T, double *rate)
{
    const int64_t N = pol_max_i64(2 * (int64_t)c->ffn, c->head_dim), C = c->hidden;
    const int64_t scratch_n = pol_gemm_scratch(be, T, N, C);
    pol_buf *x = NULL, *w = NULL, *y = NULL, *scratch = NULL;
    pol_status s = pol_buf_new(be, be->act_dtype, T * C, &x);
    if (s == POL_OK)
        s = pol_buf_new_rows(be, be->weight_dtype, N, C, &w);
    if (s == POL_OK)
        s = pol_buf_new(be, be->act_dtype, T * N, &y);
    if (s == POL_OK && scratch_n)
        s = pol_buf_new(be, POL_F32, scratch_n, &scratch);
    const pol_project_args a = {.y = {y, 0}, .x = {x, 0}, .w = {w, 0}, .scratch = {scratch, 0}, .T = T, .N = N, .C = C};
    double best = 0;
    /* The first call warms up; small products are repeated, lest another program's turn is measured. */
    const double start = pol_seconds();
    for (int i = 0; s == POL_OK && (i < 3 || pol_seconds() - start < 0.05); i++) {
        const double t0 = pol_seconds();
        s = pol_project(be, &a);
        if (s == POL_OK)
            s = pol_sync(be);
        const double t = pol_seconds() - t0;
        best = i == 0 || t < best ? t : best;
    }
    *rate = (double)T * (double)N * (double)C / (best > 1e-9 ? best : 1e-9);
    pol_buf_free(be, x);
    pol_buf_free(be, w);
    pol_buf_free(be, y);
    pol_buf_free(be, scratch);
    return s;
}

/* How often a stage's mask is judged: every eval_every steps and at its end; and at its start, unless that is the
 * initial mask by the loss that the table has of it. */
static int64_t judgements(const pol_prune_settings *o)
{
    int64_t n = 0;
    for (int i = 0; i < POL_STAGES; i++) {
        const int64_t steps = o->stage_steps[i], every = pol_prune_eval_every(o);
        const bool measured = o->method != POL_METHOD_ALLOCATION && o->objective.kind == POL_OBJECTIVE_CROSS_ENTROPY;
        n += steps ? 1 + (every ? (steps - 1) / every : 0) + !measured : 0;
    }
    return n;
}

/* Rows of the closing table: dense, initial, learnt, repaired; and of each ridge that is tried. */
static int64_t table_rows(const pol_prune_settings *o) { return o->repair.kind == POL_REPAIR_NONE ? 3 : 4; }

static int64_t ridges(const pol_prune_settings *o)
{
    int64_t n = 0;
    for (int t = 0; t < POL_REPAIR_TARGETS; t++)
        n += o->repair.targets >> t & 1;
    return o->repair.kind == POL_REPAIR_RIDGE ? n : 0;
}

/* Ways of repair, of which each is judged. */
static int64_t ways(const pol_prune_settings *o) { return o->repair.kind == POL_REPAIR_BIAS ? 1 : ridges(o); }

/* Whether learning looks at the repaired model, if there is room for its levels. */
static bool wants_database(const pol_prune_settings *o)
{
    return o->method == POL_METHOD_ALLOCATION && o->repair.kind == POL_REPAIR_RIDGE;
}

bool pol_inputs_have_database(const pol_prune_settings *o, const pol_inputs *in)
{
    for (int64_t i = 0; i < in->n_devices; i++)
        if (in->memory[i].placement.streamed)
            return false;
    return wants_database(o);
}

static pol_database_settings database_settings(const pol_prune_settings *o)
{
    return (pol_database_settings){
        .levels = o->levels, .align = o->align_channels, .obs_block = o->obs_block, .granularity = o->granularity};
}

static uint64_t max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* Sequences of which the objective keeps the dense model's predictions. */
static int64_t prepared_sequences(const pol_prune_settings *o, const pol_inputs *in)
{
    return o->objective.kind == POL_OBJECTIVE_KL ? pol_min_i64(in->text.n, pol_prune_draws(o) + o->held_out) : 0;
}

/* With all of a step, or all that judges, asked for at a time. */
static uint64_t objective_bytes(const pol_prune_settings *o, const pol_inputs *in)
{
    const int64_t counts = (int64_t)o->allocation.candidates * o->allocation.sequences_per_candidate;
    const int64_t masks = (int64_t)o->learn.mask_samples * o->learn.sequences_per_mask;
    return pol_objective_bytes(o->objective.kind, in->task ? pol_task_longest(in->task) : in->text.seq_len,
                               prepared_sequences(o, in), pol_max_i64(o->held_out, pol_max_i64(counts, masks)));
}

/* Host memory besides the device's: ids, a gradient, K masks, snapshots; the weights on their way, later what
 * metric or repair take. */
static uint64_t host_bytes(const pol_prune_settings *o, const pol_inputs *in, const pol_config *c)
{
    const uint64_t n = (uint64_t)in->units->n;
    const pol_sequences *const sets[] = {&in->text, &in->init, &in->repair, &in->eval};
    uint64_t ids = 0;
    for (size_t i = 0; i < POL_COUNT(sets); i++)
        ids += (uint64_t)(sets[i]->n * sets[i]->seq_len);
    uint64_t streams = in->init.n ? pol_metric_host_bytes(o->init, c, o->granularity, in->init.n, in->init.seq_len) : 0;
    if (o->repair.kind != POL_REPAIR_NONE)
        streams = max_u64(streams, pol_repair_host_bytes(c, &o->repair, in->repair.n, in->repair.seq_len));
    if (wants_database(o)) {
        const pol_database_settings db = database_settings(o);
        streams = max_u64(streams, pol_database_host_bytes(c, &db, in->repair.n, in->repair.seq_len));
    }
    const uint64_t learning = n * (8 * sizeof(float) + (uint64_t)o->learn.mask_samples);
    const uint64_t loading = pol_model_host_bytes(c);
    return ids * sizeof(int32_t) + learning + objective_bytes(o, in) + max_u64(streams, loading);
}

/* "4 x NAME"; of several kinds "2 x NAME, 2 x OTHER", as they follow each other. */
static void name_devices(const pol_inputs *in, char out[POL_DEVICES_BYTES])
{
    size_t at = 0;
    for (int64_t i = 0, n; i < in->n_devices && at < POL_DEVICES_BYTES; i += n) {
        const char *name = in->devices[i]->info.name;
        for (n = 1; i + n < in->n_devices && !strcmp(in->devices[i + n]->info.name, name);)
            n++;
        at += (size_t)snprintf(out + at, POL_DEVICES_BYTES - at, "%s%lld x %s", i ? ", " : "", (long long)n, name);
    }
}

static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

static int64_t all_step_passes(const pol_prune_settings *o)
{
    if (o->stage_steps[POL_STAGE_ALLOCATION])
        return divide_up(o->allocation.sequences_per_candidate, o->batch) * o->allocation.candidates;
    return divide_up(o->learn.sequences_per_mask, o->batch) * o->learn.mask_samples;
}

/* Passes that a device has of a step. */
static int64_t step_passes(const pol_prune_settings *o, const pol_inputs *in)
{
    return divide_up(all_step_passes(o), in->n_devices);
}

static void warn_of_idle_devices(const pol_prune_settings *o, const pol_inputs *in)
{
    const int64_t passes = all_step_passes(o), idle = in->n_devices - passes;
    if (pol_prune_steps(o) && idle > 0)
        pol_log(in->ctx, POL_LOG_WARN,
                "a step has %lld passes: %lld of %lld devices have none; a lower --batch makes more of a step with "
                "several sequences a mask",
                (long long)passes, (long long)idle, (long long)in->n_devices);
}

/* What device i needs, with `host` bytes besides. */
static void plan_device(const pol_prune_settings *o, const pol_inputs *in, int64_t i, uint64_t host)
{
    const pol_config *c = pol_source_config(in->src);
    pol_backend *be = in->devices[i];
    pol_memory_request r = {.max_tokens = in->max_tokens,
                            .max_seq_len = in->max_seq_len,
                            .max_targets = pol_objective_targets(o->objective.kind),
                            .cells = step_passes(o, in),
                            .host_bytes = host,
                            .limit = o->memory_limit};
    if (o->repair.kind != POL_REPAIR_NONE)
        r.device_bytes = pol_repair_device_bytes(c, be, in->max_tokens, &o->repair);
    if (in->init.n)
        r.device_bytes =
            max_u64(r.device_bytes, pol_metric_device_bytes(o->init, c, be, o->granularity, in->max_tokens));
    if (wants_database(o)) {
        r.level_bytes = pol_database_bytes(c, be, o->levels, o->align_channels, o->granularity);
        r.least_level_bytes = pol_database_least_bytes(c, be, o->levels, o->align_channels, o->granularity);
    }
    pol_memory_plan(c, be, &r, &in->memory[i]);
}

/* What the other devices take of the host's memory: all, where it is theirs; else the weights that visit them. (A need
 * that cannot be counted overflows the sum, and is refused whatever that gives.) */
static uint64_t host_bytes_of_others(const pol_inputs *in, int64_t i)
{
    uint64_t bytes = 0;
    for (int64_t k = 0; k < in->n_devices; k++) {
        const pol_memory *m = &in->memory[k];
        if (k != i)
            bytes += m->pinned_bytes + (m->shared ? m->weight_bytes + m->activation_bytes + m->repair_bytes : 0);
    }
    return bytes;
}

static pol_status check_device(const pol_prune_settings *o, const pol_inputs *in, int64_t i)
{
    const pol_device_info *d = &in->devices[i]->info;
    if (in->n_devices == 1)
        return pol_memory_check(in->ctx, o->model, &in->memory[i]);
    char *name = pol_format(in->ctx, "%s on %s %d (%s)", o->model, d->backend, d->index, d->name);
    const pol_status s = name ? pol_memory_check(in->ctx, name, &in->memory[i]) : POL_ENOMEM;
    pol_free(in->ctx, name);
    return s;
}

/* What is left of a device's memory, or of the host's where that is the same. */
static uint64_t spare(const pol_memory *m)
{
    const uint64_t need = m->weight_bytes + m->activation_bytes + m->repair_bytes;
    return m->shared ? m->available_bytes - need - m->host_bytes : m->device_bytes - need;
}

/* Of two devices, both with room: the one whose layers visit has less to spare, whatever is left. */
static bool tighter(const pol_memory *a, const pol_memory *b)
{
    return a->placement.streamed != b->placement.streamed ? a->placement.streamed : spare(a) < spare(b);
}

/* Every device has the whole model: the plan is that of the one with least to spare. */
static pol_status plan_devices(const pol_prune_settings *o, const pol_inputs *in, pol_plan *plan)
{
    const uint64_t host = host_bytes(o, in, pol_source_config(in->src));
    int64_t tightest = 0;
    for (int64_t i = 0; i < in->n_devices; i++)
        plan_device(o, in, i, 0);
    for (int64_t i = 0; i < in->n_devices; i++)
        plan_device(o, in, i, host + host_bytes_of_others(in, i));
    for (int64_t i = 0; i < in->n_devices; i++) {
        POL_TRY(check_device(o, in, i));
        tightest = tighter(&in->memory[i], &in->memory[tightest]) ? i : tightest;
    }
    plan->memory = in->memory[tightest];
    plan->device = in->devices[tightest]->info;
    plan->step_passes = step_passes(o, in);
    plan->n_devices = in->n_devices;
    plan->weights = pol_backend_weights(in->devices[0]);
    name_devices(in, plan->devices);
    warn_of_idle_devices(o, in);
    return POL_OK;
}

/* Of the first device alone, and of all: the slowest has as many passes as the others. */
static pol_status measure_rates(const pol_inputs *in, double *first, double *all)
{
    double slowest = 0, rate;
    *first = 0;
    for (int64_t i = 0; i < in->n_devices; i++) {
        POL_TRY(measure_rate(in->devices[i], pol_source_config(in->src), pol_min_i64(in->max_tokens, 1024), &rate));
        slowest = i == 0 || rate < slowest ? rate : slowest;
        if (i == 0)
            *first = rate;
    }
    *all = slowest * (double)in->n_devices;
    return POL_OK;
}

/* Bytes a second at which weights come to the device: by as many as a slot has, or enough of them. */
static pol_status measure_streaming(pol_backend *be, uint64_t slot_bytes, double *rate)
{
    const int64_t n = pol_min_i64((int64_t)(slot_bytes / sizeof(float)), 1 << 24);
    const size_t bytes = (size_t)n * sizeof(float);
    pol_buf *buf = NULL;
    void *home = NULL;
    double best = 0;
    pol_status s = pol_buf_new(be, POL_F32, n, &buf);
    if (s == POL_OK)
        s = pol_host_new(be, bytes, &home);
    if (s == POL_OK)
        memset(home, 0, bytes);
    for (int i = 0; s == POL_OK && i < 3; i++) {
        const double start = pol_seconds();
        s = pol_stream_in(be, buf, home, n);
        if (s == POL_OK)
            s = pol_stream_wait(be, buf);
        if (s == POL_OK)
            s = pol_sync(be);
        const double t = pol_seconds() - start;
        best = i == 0 || t < best ? t : best;
    }
    *rate = (double)bytes / (best > 1e-9 ? best : 1e-9);
    pol_buf_free(be, buf);
    pol_host_free(be, home);
    return s;
}

/* How often all layers come to a device: for each stretch of passes that is waited for once, as many times as its share
 * takes; and once for the metric, which does all it has to do with a layer. */
static double visits(const pol_prune_settings *o, const pol_inputs *in, const pol_memory *m)
{
    const int64_t cells = m->placement.cells, eval_batch = in->eval.n ? in->max_tokens / in->eval.seq_len : 1;
    const int64_t step = divide_up(step_passes(o, in), cells);
    const int64_t judged = divide_up(divide_up(divide_up(o->held_out, o->batch), in->n_devices), cells);
    const int64_t eval = divide_up(divide_up(divide_up(in->eval.n, eval_batch), in->n_devices), cells);
    const int64_t rows = table_rows(o);
    return (double)pol_prune_steps(o) * (double)step +
           (double)((judgements(o) + rows + ways(o)) * judged + rows * eval + (in->init.n > 0)) +
           (o->repair.kind == POL_REPAIR_NONE ? 0 : 1 + 3 * (double)ridges(o));
}

/* What the layers of the device that has most to copy are on their way; computing hides it, or it hides computing. */
static pol_status copying_seconds(const pol_prune_settings *o, const pol_inputs *in, double *seconds)
{
    *seconds = 0;
    for (int64_t i = 0; i < in->n_devices; i++) {
        const pol_memory *m = &in->memory[i];
        double rate;
        if (!m->placement.streamed)
            continue;
        POL_TRY(measure_streaming(in->devices[i], m->slot_bytes, &rate));
        *seconds = fmax(*seconds, visits(o, in, m) * (double)m->pinned_bytes / rate);
    }
    return POL_OK;
}

/* Multiply-accumulates of the moments that the repair sums, of the order and of the solutions. */
static double repair_macs(const pol_prune_settings *o, const pol_inputs *in, const pol_config *c)
{
    double macs = 0;
    const double tokens = (double)(in->repair.n * in->repair.seq_len),
                 sums = pol_inputs_have_database(o, in) + (double)ridges(o);
    if (!ridges(o))
        return 0;
    for (int32_t l = 0; l < c->n_layers; l++) {
        const double widths[2] = {(double)(c->layers[l].n_groups * c->heads_per_group * c->head_dim),
                                  (double)c->layers[l].ffn};
        for (int i = 0; i < 2; i++) {
            const double n = widths[i];
            macs +=
                sums * tokens * n * (n + (double)c->hidden) + (double)ridges(o) * n * n * (n / 3 + (double)c->hidden);
            macs += pol_inputs_have_database(o, in) ? n * n * (2 * n + (double)c->hidden) : 0;
        }
    }
    return macs;
}

/* Sequences of a judgement. */
static int64_t judging(const pol_prune_settings *o, const pol_inputs *in)
{
    if (!in->task)
        return o->held_out;
    return pol_task_rows(in->task, in->n_learn_items, pol_task_items(in->task) - in->n_learn_items);
}

/* All steps; of items whose choices differ in number, about. Equal candidates of a step are looked at once, so a run
 * may come to less. */
static int64_t learning(const pol_prune_settings *o, const pol_inputs *in)
{
    const int64_t draws =
        (o->learn.steps + o->stage_steps[POL_STAGE_BLOCKS]) * o->learn.mask_samples * o->learn.sequences_per_mask +
        o->allocation.steps * o->allocation.candidates * o->allocation.sequences_per_candidate +
        pol_prune_pilot_passes(o);
    if (!in->task)
        return draws;
    const double choices = (double)pol_task_rows(in->task, 0, in->n_learn_items) / (double)in->n_learn_items;
    return (int64_t)((double)draws * choices + 0.5);
}

pol_status pol_plan_make(const pol_prune_settings *o, pol_inputs *in, pol_plan *plan)
{
    const pol_config *c = pol_source_config(in->src);
    memset(plan, 0, sizeof *plan);
    plan->text_assumed = !o->n_data;
    POL_TRY(plan_devices(o, in, plan));
    plan->units = in->units->n;
    for (int k = 0; k < POL_UNIT_KINDS; k++)
        plan->variables += o->granularity & 1u << k ? in->units->n_of[k] : 0;
    plan->steps = pol_prune_steps(o);
    plan->sequences[POL_PURPOSE_INIT] = pol_metric_passes(o->init) * in->init.n + prepared_sequences(o, in);
    plan->sequences[POL_PURPOSE_LEARN] = learning(o, in);
    plan->pilot = pol_prune_pilot_passes(o);
    plan->sequences[POL_PURPOSE_HELD_OUT] = judging(o, in) * judgements(o) + o->held_out * (table_rows(o) + ways(o));
    plan->sequences[POL_PURPOSE_EVAL] = table_rows(o) * in->eval.n;
    plan->sequences[POL_PURPOSE_REPAIR] =
        (pol_inputs_have_database(o, in) ? in->repair.n : 0) + pol_repair_passes(&o->repair, in->repair.n);

    const double whole = (double)pol_config_macs(c), blocks = (double)pol_config_block_params(c);
    const double masked = whole - (1.0 - o->keep) * blocks;
    const double tokens_init = (double)(plan->sequences[POL_PURPOSE_INIT] * in->init.seq_len);
    const double tokens_masked =
        (double)((plan->sequences[POL_PURPOSE_LEARN] + plan->sequences[POL_PURPOSE_HELD_OUT]) * o->seq_len);
    const double tokens_eval = (double)(plan->sequences[POL_PURPOSE_EVAL] * in->eval.seq_len);
    const double tokens_repair = (double)(plan->sequences[POL_PURPOSE_REPAIR] * in->repair.seq_len);
    plan->tokens = (int64_t)(tokens_init + tokens_masked + tokens_eval + tokens_repair);
    double first, all, copying;
    POL_TRY(measure_rates(in, &first, &all));
    POL_TRY(copying_seconds(o, in, &copying));
    /* A quarter more than the matrix products, as measured by bench/. */
    const double products = (tokens_init + tokens_repair) * blocks / first + repair_macs(o, in, c) / first +
                            (tokens_masked * masked + tokens_eval * whole) / all;
    plan->seconds = fmax(1.25 * products, copying);
    return POL_OK;
}

pol_status pol_prune_plan(pol_context *ctx, const pol_prune_settings *o, pol_plan *plan)
{
    pol_prune_settings resolved = *o;
    POL_TRY(pol_prune_resolve(ctx, &resolved));
    pol_inputs in;
    POL_TRY(pol_inputs_open(ctx, &resolved, &in));
    pol_status s = pol_plan_make(&resolved, &in, plan);
    pol_inputs_close(&in);
    return s;
}
