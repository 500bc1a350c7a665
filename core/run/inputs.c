/* inputs.c - opening what a run reads: model headers, tokenizer, text, devices. No weight is read here. */
#include <math.h>
#include <string.h>

#include "core/backend.h"
#include "core/base/file.h"
#include "core/base/rng.h"
#include "core/model/source.h"
#include "core/objective/objective.h"
#include "core/repair/repair.h"
#include "core/run/run.h"

/* Read here once, so that a file that does not fit is refused before any work. */
static pol_status find_init_mask(const pol_prune_settings *o, pol_inputs *in)
{
    unsigned granularity;
    in->init_mask = pol_path_is_dir(o->init_run) ? pol_path_join(in->ctx, o->init_run, POL_RUN_MASK)
                                                 : pol_strdup(in->ctx, o->init_run);
    uint8_t *mask = pol_alloc(in->ctx, (size_t)in->units->n);
    float *s = pol_alloc_array(in->ctx, in->units->n, sizeof *s);
    const pol_status status = in->init_mask && mask && s
                                  ? pol_mask_read(in->ctx, in->init_mask, in->units, &granularity, mask, s)
                                  : POL_ENOMEM;
    pol_free(in->ctx, mask);
    pol_free(in->ctx, s);
    return status;
}

/* Whether the first probabilities come from activations that are looked at for them alone. */
static bool needs_sequences(const pol_prune_settings *o)
{
    const bool sweep_gives_order = o->method == POL_METHOD_ALLOCATION && o->repair.kind == POL_REPAIR_RIDGE;
    return !o->init_run && pol_metric_passes(o->init) && !(o->init == POL_METRIC_OBS && sweep_gives_order);
}

static int64_t repair_sequences(const pol_prune_settings *o, const pol_inputs *in)
{
    return o->repair.sequences != POL_AUTO
               ? o->repair.sequences
               : pol_repair_sequences(pol_source_config(in->src), in->units, NULL, o->seq_len);
}

/* At most n chunks of `len` tokens from what is learnt from, in a seeded order. */
static pol_status recut(const pol_prune_settings *o, pol_inputs *in, int64_t len, int64_t n, pol_stream stream,
                        pol_sequences *out)
{
    const int64_t whole = in->n_learn * in->text.seq_len / len;
    *out = (pol_sequences){.ctx = in->ctx, .n = pol_min_i64(whole, n), .seq_len = len};
    out->ids = pol_alloc_array(in->ctx, out->n * len, sizeof *out->ids);
    int64_t *order = pol_alloc_array(in->ctx, whole, sizeof *order);
    if (out->ids && order) {
        pol_permutation(o->learn.seed, stream, 0, whole, order);
        for (int64_t i = 0; i < out->n; i++)
            memcpy(out->ids + i * len, in->text.ids + order[i] * len, (size_t)len * sizeof *out->ids);
        pol_bytes_hash(out->ids, (size_t)(out->n * len) * sizeof *out->ids, out->hash);
    }
    pol_free(in->ctx, order);
    return out->ids && order ? POL_OK : POL_ENOMEM;
}

static pol_status cut_for_metric(const pol_prune_settings *o, pol_inputs *in)
{
    const int64_t len = o->init_seq_len, tokens = in->n_learn * in->text.seq_len;
    if (tokens < len)
        return pol_fail(in->ctx, POL_EFORMAT,
                        "%s: %lld tokens to learn from give no sequence of %lld for the metric '%s'", o->data[0],
                        (long long)tokens, (long long)len, pol_metric_name(o->init));
    POL_TRY(recut(o, in, len, o->init_sequences, POL_STREAM_INIT, &in->init));
    if (in->init.n < o->init_sequences)
        pol_log(in->ctx, POL_LOG_WARN, "the metric sees %lld sequences of %lld tokens, %lld were asked for",
                (long long)in->init.n, (long long)len, (long long)o->init_sequences);
    return POL_OK;
}

/* For a plan without text: as many sequences as the run can see, and no ids. */
static void assume_text(const pol_prune_settings *o, pol_inputs *in)
{
    if (needs_sequences(o))
        in->init = (pol_sequences){.ctx = in->ctx, .n = o->init_sequences, .seq_len = o->init_seq_len};
    if (o->repair.kind != POL_REPAIR_NONE)
        in->repair = (pol_sequences){.ctx = in->ctx, .n = repair_sequences(o, in), .seq_len = o->seq_len};
    in->n_learn = pol_max_i64(pol_prune_draws(o), in->init.n * in->init.seq_len / o->seq_len);
    in->n_learn = pol_max_i64(in->n_learn, in->repair.n);
    in->text = (pol_sequences){.ctx = in->ctx, .n = in->n_learn + o->held_out, .seq_len = o->seq_len};
}

static pol_status read_calibration(const pol_prune_settings *o, pol_inputs *in)
{
    POL_TRY(pol_texts_read(o, in));
    if (o->repair.kind != POL_REPAIR_NONE)
        POL_TRY(recut(o, in, o->seq_len, repair_sequences(o, in), POL_STREAM_REPAIR, &in->repair));
    if (o->repair.kind == POL_REPAIR_RIDGE) /* said before all work, not after it */
        POL_TRY(pol_repair_check_tokens(in->ctx, pol_source_config(in->src), &o->repair, in->repair.n * o->seq_len));
    return needs_sequences(o) ? cut_for_metric(o, in) : POL_OK;
}

static pol_status read_text(const pol_prune_settings *o, pol_inputs *in)
{
    const pol_config *c = pol_source_config(in->src);
    if (o->n_data)
        POL_TRY(read_calibration(o, in));
    else
        assume_text(o, in);
    if (o->eval_text)
        POL_TRY(pol_sequences_read(in->ctx, in->tok, c->vocab, &o->eval_text, 1, &(pol_text_options){0},
                                   o->protocol->seq_len, o->protocol->bos, o->eval_limit, &in->eval));
    const int64_t lengths[] = {o->seq_len, in->init.seq_len, in->eval.seq_len,
                               in->task ? pol_task_longest(in->task) : 0};
    for (size_t i = 0; i < POL_COUNT(lengths); i++)
        in->max_seq_len = pol_max_i64(in->max_seq_len, lengths[i]);
    if (in->max_seq_len > c->max_positions)
        pol_log(in->ctx, POL_LOG_WARN,
                "sequences of %lld tokens are longer than the %d positions the model was made for",
                (long long)in->max_seq_len, c->max_positions);
    in->max_tokens = pol_max_i64(o->batch * o->seq_len, in->max_seq_len);
    return POL_OK;
}

pol_status pol_inputs_open(pol_context *ctx, pol_prune_settings *o, pol_inputs *in)
{
    memset(in, 0, sizeof *in);
    in->ctx = ctx;
    pol_status s = pol_backend_open_all(ctx, &o->backend, &in->devices, &in->n_devices);
    if (s == POL_OK && !(in->memory = pol_alloc_zero(ctx, (size_t)in->n_devices * sizeof *in->memory)))
        s = POL_ENOMEM;
    if (s == POL_OK)
        s = pol_source_open(ctx, o->model, &in->src);
    if (s == POL_OK)
        s = pol_units_new(ctx, pol_source_config(in->src), &in->units);
    if (s == POL_OK)
        s = pol_prune_share_out(ctx, o, in->units);
    if (s == POL_OK)
        s = pol_inputs_budget(o, NULL, in);
    if (s == POL_OK && o->init_run)
        s = find_init_mask(o, in);
    if (s == POL_OK && (o->n_data || o->eval_text || o->objective.task_file))
        s = pol_tokenizer_open(in->src, &in->tok);
    if (s == POL_OK && o->objective.kind == POL_OBJECTIVE_ACCURACY)
        s = pol_task_read(ctx, in->tok, pol_source_config(in->src), o->objective.task, o->objective.task_file, o->bos,
                          0, &in->task);
    if (s == POL_OK && in->task)
        s = pol_objective_items(&o->objective, in->task, &in->n_learn_items);
    if (s == POL_OK)
        s = read_text(o, in);
    if (s < 0)
        pol_inputs_close(in);
    return s;
}

void pol_inputs_close(pol_inputs *in)
{
    if (!in->ctx)
        return;
    pol_sequences_free(&in->text);
    pol_free(in->ctx, in->parts);
    pol_free(in->ctx, in->held_weight);
    pol_sequences_free(&in->init);
    pol_sequences_free(&in->repair);
    pol_sequences_free(&in->eval);
    pol_task_free(in->task);
    pol_free(in->ctx, in->init_mask);
    pol_cost_free(in->cost);
    pol_units_free(in->units);
    pol_tokenizer_free(in->tok);
    pol_source_close(in->src);
    pol_free(in->ctx, in->memory);
    pol_backend_close_all(in->ctx, in->devices, in->n_devices);
    memset(in, 0, sizeof *in);
}
