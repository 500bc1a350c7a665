/* mend_run.c - `pollard repair`: from a run, or a mask and a model, to repaired weights beside the mask. */
#include <math.h>
#include <string.h>

#include "core/backend.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/eval/eval.h"
#include "core/model/source.h"
#include "core/run/mend_job.h"

void pol_repair_request_defaults(pol_repair_request *o)
{
    *o = (pol_repair_request){.seq_len = 128, .held_out = 32, .protocol = pol_protocol_find("paper"), .batch = 8};
    pol_repair_defaults(&o->repair);
}

static void stage(const pol_mending *w, const char *name)
{
    pol_log(w->ctx, POL_LOG_INFO, "stage %s", name);
    if (w->watch && w->watch->stage)
        w->watch->stage(w->watch->user, name);
}

static void progress(void *user, int64_t done, int64_t total)
{
    const pol_mending *w = user;
    if (w->watch && w->watch->progress)
        w->watch->progress(w->watch->user, done, total);
}

static pol_status eval_progress(void *user, int64_t done, int64_t total)
{
    progress(user, done, total);
    return POL_OK;
}

/* ---- inputs ---- */

static pol_status check(const pol_mending *w)
{
    const pol_repair_request *o = &w->o;
    const struct {
        const char *name;
        int64_t value, lo, hi;
    } ranges[] = {{"sequence length", o->seq_len, 2, 1 << 20},
                  {"held-out sequences", o->held_out, 1, 1 << 30},
                  {"evaluation chunks at most", o->eval_limit, 0, INT64_C(1) << 40},
                  {"batch", o->batch, 1, 1 << 20}};
    for (size_t i = 0; i < POL_COUNT(ranges); i++)
        if (ranges[i].value < ranges[i].lo || ranges[i].value > ranges[i].hi)
            return pol_fail(w->ctx, POL_EARG, "%s: %lld is outside %lld..%lld", ranges[i].name,
                            (long long)ranges[i].value, (long long)ranges[i].lo, (long long)ranges[i].hi);
    if (!o->n_data)
        return pol_fail(w->ctx, POL_EARG, "data: no calibration text is given");
    if (o->repair.kind == POL_REPAIR_NONE)
        return pol_fail(w->ctx, POL_EARG, "repair: 'none' leaves nothing to do");
    if (o->mask && !o->model)
        return pol_fail(w->ctx, POL_EARG, "mask: %s is given without the model that it is of", o->mask);
    pol_repair_settings known = o->repair;
    if (known.sequences == POL_AUTO)
        known.sequences = 1;
    return pol_repair_check(w->ctx, &known);
}

/* A mask from a file is a target like a run's. */
static pol_status open_target(pol_mending *w)
{
    pol_target *t = &w->target;
    if (!w->o.mask) {
        POL_TRY(pol_target_open(w->ctx, w->o.run, w->o.model, t));
        return t->mask ? POL_OK : pol_fail(w->ctx, POL_EARG, "%s: is no run: a mask is needed as well", w->o.run);
    }
    t->ctx = w->ctx;
    POL_TRY(pol_source_open(w->ctx, w->o.model, &t->src));
    POL_TRY(pol_units_new(w->ctx, pol_source_config(t->src), &t->units));
    t->mask = pol_alloc(w->ctx, (size_t)t->units->n);
    t->s = pol_alloc_array(w->ctx, t->units->n, sizeof *t->s);
    if (!t->mask || !t->s)
        return POL_ENOMEM;
    POL_TRY(pol_mask_read(w->ctx, w->o.mask, t->units, &t->granularity, t->mask, NULL));
    /* Who made the mask by other means has no probabilities. */
    if (pol_mask_read(w->ctx, w->o.mask, t->units, &t->granularity, t->mask, t->s) < 0)
        for (int64_t i = 0; i < t->units->n; i++)
            t->s[i] = t->mask[i];
    return POL_OK;
}

/* No more of the text is read than is used: what is looked at, and behind it what is held out. */
static pol_status read_text(pol_mending *w)
{
    const pol_repair_request *o = &w->o;
    const pol_config *c = pol_source_config(w->target.src);
    const int64_t S = o->seq_len;
    const int64_t wanted = pol_mend_sequences(c, w->target.units, w->target.mask, &o->repair, S, INT64_MAX);
    POL_TRY(pol_tokenizer_open(w->target.src, &w->tok));
    POL_TRY(pol_sequences_read(w->ctx, w->tok, c->vocab, o->data, o->n_data, &o->text, S, o->bos, wanted + o->held_out,
                               &w->text));
    w->looked_at = w->text.n - o->held_out;
    if (w->looked_at < 1)
        return pol_fail(w->ctx, POL_EFORMAT, "%s: %lld sequences of %lld tokens, too few to hold %lld out", o->data[0],
                        (long long)w->text.n, (long long)S, (long long)o->held_out);
    if (w->looked_at < wanted)
        pol_log(w->ctx, POL_LOG_WARN, "the repair sees %lld sequences, %lld were to be looked at",
                (long long)w->looked_at, (long long)wanted);
    w->o.repair.sequences = w->looked_at;
    if (o->eval_text)
        POL_TRY(pol_sequences_read(w->ctx, w->tok, c->vocab, &o->eval_text, 1, &(pol_text_options){0},
                                   o->protocol->seq_len, o->protocol->bos, o->eval_limit, &w->eval));
    w->max_seq_len = pol_max_i64(S, w->eval.seq_len);
    w->max_tokens = pol_max_i64(o->batch * S, w->max_seq_len);
    w->loss = pol_alloc_array(w->ctx, o->held_out, sizeof *w->loss);
    return w->loss ? POL_OK : POL_ENOMEM;
}

/* One device is enough to repair; the others have their share of what is judged and scored. */
static pol_status open_devices(pol_mending *w)
{
    POL_TRY(pol_backend_open_all(w->ctx, &w->o.backend, &w->devices, &w->n_devices));
    w->memory = pol_alloc_zero(w->ctx, (size_t)w->n_devices * sizeof *w->memory);
    if (!w->memory)
        return POL_ENOMEM;
    return pol_can_repair(w->devices[0]) ? POL_OK : pol_backend_open_host(w->ctx, w->o.backend.threads, &w->host);
}

static pol_status plan_memory(pol_mending *w)
{
    const pol_config *c = pol_source_config(w->target.src);
    const uint64_t ids = (uint64_t)(w->text.n * w->text.seq_len + w->eval.n * w->eval.seq_len) * sizeof(int32_t);
    const uint64_t repair = pol_repair_host_bytes(c, &w->o.repair, w->looked_at, w->text.seq_len);
    const uint64_t loading = pol_model_host_bytes(c);
    for (int64_t i = 0; i < w->n_devices; i++) {
        const pol_memory_request r = {
            .max_tokens = w->max_tokens,
            .max_seq_len = w->max_seq_len,
            .cells = (w->text.n + w->o.batch - 1) / w->o.batch,
            .host_bytes = ids + (repair > loading ? repair : loading),
            .device_bytes = i ? 0 : pol_repair_device_bytes(c, w->devices[i], w->max_tokens, &w->o.repair),
            .limit = w->o.memory_limit};
        pol_memory_plan(c, w->devices[i], &r, &w->memory[i]);
        POL_TRY(pol_memory_check(w->ctx, pol_source_path(w->target.src), &w->memory[i]));
    }
    return POL_OK;
}

static void tell_plan(const pol_mending *w, const pol_config *left)
{
    const pol_repair_settings *o = &w->o.repair;
    int64_t ways = o->kind == POL_REPAIR_BIAS;
    for (int t = 0; t < POL_REPAIR_TARGETS && o->kind == POL_REPAIR_RIDGE; t++)
        ways += o->targets >> t & 1;
    const int64_t passes = o->kind == POL_REPAIR_BIAS ? 1 : 1 + 3 * ways;
    const pol_repair_plan p = {.device = w->devices[0]->info,
                               .weights = pol_backend_weights(w->devices[0]),
                               .memory = w->memory[0],
                               .sequences = w->looked_at,
                               .held_out = w->o.held_out,
                               .eval_chunks = w->eval.n,
                               .seq_len = w->text.seq_len,
                               .columns = pol_widest_input(left, 1u << POL_UNIT_GROUP | 1u << POL_UNIT_CHANNEL),
                               .passes = passes * w->looked_at + (ways + 2) * w->o.held_out + 3 * w->eval.n};
    if (w->watch && w->watch->plan)
        w->watch->plan(w->watch->user, &p);
}

static pol_status prepare(pol_mending *w)
{
    pol_config left;
    POL_TRY(check(w));
    POL_TRY(open_target(w));
    POL_TRY(read_text(w));
    pol_target_config(&w->target, &left);
    POL_TRY(pol_repair_check_tokens(w->ctx, &left, &w->o.repair, w->looked_at * w->text.seq_len));
    POL_TRY(open_devices(w));
    POL_TRY(plan_memory(w));
    POL_TRY(pol_run_folder_open(w->ctx, w->o.run, w->o.resume || !w->o.mask, &w->folder));
    POL_TRY(pol_mending_record(w));
    tell_plan(w, &left);
    return POL_OK;
}

/* ---- measuring ---- */

/* Of the replicas as they are. */
static pol_status judge(void *user, double *mean)
{
    pol_mending *w = user;
    const int64_t n = w->o.held_out, S = w->text.seq_len;
    pol_status s = POL_OK;
    for (int64_t i = 0; s == POL_OK && i < n; i += w->o.batch) {
        s = pol_check_stop(w->ctx);
        if (s == POL_OK)
            s = pol_replicas_queue(&w->replicas, w->text.ids + (w->looked_at + i) * S, pol_min_i64(w->o.batch, n - i),
                                   S, NULL, w->loss + i);
    }
    if (s == POL_OK)
        s = pol_replicas_settle(&w->replicas);
    else
        pol_replicas_drop(&w->replicas);
    POL_TRY(s);
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += w->loss[i];
    *mean = sum / (double)n;
    w->result->sequences[POL_PURPOSE_HELD_OUT] += n;
    return isfinite(*mean) ? POL_OK : pol_fail(w->ctx, POL_ENUMERIC, "the loss on held-out text is %g", fabs(*mean));
}

/* `held_out`: as judged already; NaN: not yet. */
static pol_status measure(pol_mending *w, bool masked, double held_out, pol_outcome *x)
{
    pol_config left = *pol_source_config(w->target.src);
    if (masked)
        pol_target_config(&w->target, &left);
    *x = (pol_outcome){.params = pol_config_total_params(&left),
                       .block_params = pol_config_block_params(&left),
                       .macs = pol_config_macs(&left),
                       .held_out = held_out};
    if (isnan(held_out))
        POL_TRY(judge(w, &x->held_out));
    if (w->eval.n) {
        POL_TRY(pol_eval_replicas(&w->replicas, &w->eval, eval_progress, w, &x->perplexity));
        strcpy(x->perplexity.protocol, w->o.protocol->name);
        w->result->sequences[POL_PURPOSE_EVAL] += w->eval.n;
        if (x->perplexity.bad_chunks)
            return pol_fail(w->ctx, POL_ENUMERIC, "%s: the loss on it is not finite", w->o.eval_text);
    }
    x->known = true;
    return POL_OK;
}

/* ---- the work ---- */

static pol_status mend(pol_mending *w)
{
    char hash[33];
    POL_TRY(pol_source_hash(w->target.src, hash));
    const pol_mend_job job = {.ctx = w->ctx,
                              .replicas = &w->replicas,
                              .host = w->host ? w->host : w->devices[0],
                              .mask = w->target.mask,
                              .cal = &w->text,
                              .n = w->looked_at,
                              .o = w->o.repair,
                              .model_hash = hash,
                              .folder = w->o.run,
                              .resume = w->o.resume,
                              .masked = w->result->masked.held_out,
                              .judge = judge,
                              .layers = progress,
                              .user = w};
    stage(w, "repair");
    w->begun = true;
    POL_TRY(pol_mend(&job, NULL, &w->result->repair));
    w->result->sequences[POL_PURPOSE_REPAIR] += w->result->repair.passes;
    return POL_OK;
}

static void sum_up(pol_mending *w)
{
    pol_repair_result *r = w->result;
    r->seconds = pol_seconds() - w->started;
    r->peak_bytes = pol_memory_peak();
    for (int64_t i = 0; i < w->n_devices; i++)
        if (w->devices[i]->bytes_peak > r->peak_device_bytes)
            r->peak_device_bytes = w->devices[i]->bytes_peak;
}

static pol_status work(pol_mending *w)
{
    pol_repair_result *r = w->result;
    const pol_target *t = &w->target;
    stage(w, "loading weights");
    POL_TRY(
        pol_replicas_open(t->src, w->devices, w->memory, w->n_devices, w->max_tokens, w->max_seq_len, &w->replicas));
    stage(w, "dense model");
    POL_TRY(measure(w, false, NAN, &r->dense));
    stage(w, "mask alone");
    POL_TRY(pol_replicas_set_mask(&w->replicas, t->mask));
    POL_TRY(measure(w, true, NAN, &r->masked));
    if (w->o.mask)
        POL_TRY(pol_mask_write(w->ctx, w->folder.mask, t->units, t->granularity, t->mask, t->s));
    POL_TRY(pol_mending_write(w, "running"));
    POL_TRY(mend(w));
    if (r->repair.kind != POL_REPAIR_NONE) {
        stage(w, "repaired model");
        POL_TRY(measure(w, true, r->repair.held_out[r->repair.target], &r->repaired));
    }
    sum_up(w);
    return pol_mending_write(w, "done");
}

/* What is returned, and said, is why the repair ended. A folder that holds nothing to go on with goes. */
static pol_status leave(pol_mending *w, pol_status s)
{
    char *text = pol_strdup(w->ctx, pol_error_text(w->ctx));
    sum_up(w);
    if (!w->begun && w->folder.made)
        pol_run_folder_discard(&w->folder);
    else if (w->begun)
        (void)pol_mending_write(w, s == POL_EINTERRUPTED ? "interrupted" : "failed");
    if (text)
        pol_fail(w->ctx, s, "%s%s", text, s == POL_EINTERRUPTED && w->begun ? "; --resume goes on" : "");
    pol_free(w->ctx, text);
    return s;
}

pol_status pol_repair(pol_context *ctx, const pol_repair_request *o, const pol_repair_observer *watch,
                      pol_repair_result *result)
{
    pol_mending w = {.ctx = ctx, .o = *o, .watch = watch, .result = result, .started = pol_seconds()};
    memset(result, 0, sizeof *result);
    pol_status s = prepare(&w);
    if (s == POL_OK)
        s = work(&w);
    if (s < 0)
        s = leave(&w, s);
    pol_replicas_close(&w.replicas);
    pol_backend_close(w.host);
    pol_free(ctx, w.memory);
    pol_backend_close_all(ctx, w.devices, w.n_devices);
    pol_sequences_free(&w.text);
    pol_sequences_free(&w.eval);
    pol_tokenizer_free(w.tok);
    pol_run_folder_close(&w.folder);
    pol_target_close(&w.target);
    pol_free(ctx, w.loss);
    json_decref(w.json);
    return s;
}
