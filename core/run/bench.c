/* bench.c - what a pass, a masked pass and a change of the mask cost on a device: medians over interleaved rounds,
 * because what else a machine does comes and goes. */
#include "core/run/bench.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/rng.h"
#include "core/run/run.h"
#include "pollard/memory.h"

enum {
    SEED = 3,
    CELLS = 16 /* passes of a step of method `units`, for models whose layers visit */
};

void pol_bench_defaults(pol_bench_settings *o)
{
    *o = (pol_bench_settings){.keep = 0.5, .batch = 8, .seq_len = 128, .rounds = 7};
}

static pol_status check_settings(pol_context *ctx, const pol_bench_settings *o)
{
    if (!(o->keep > 0 && o->keep <= 1))
        return pol_fail(ctx, POL_EARG, "bench: keep %g is not within 0..1", o->keep);
    if (o->batch < 1 || o->batch > 1 << 20 || o->seq_len < 2 || o->seq_len > 1 << 20)
        return pol_fail(ctx, POL_EARG, "bench: %lld sequences of %lld tokens: at least one of two is needed",
                        (long long)o->batch, (long long)o->seq_len);
    if (o->rounds < 1 || o->rounds > POL_BENCH_ROUNDS)
        return pol_fail(ctx, POL_EARG, "bench: %lld rounds are not within 1..%d", (long long)o->rounds,
                        POL_BENCH_ROUNDS);
    return POL_OK;
}

static pol_status load(pol_bench_run *r)
{
    const pol_config *c = pol_source_config(r->src);
    const int64_t S = r->o->seq_len, T = r->o->batch * S;
    const pol_memory_request request = {.max_tokens = T,
                                        .max_seq_len = S,
                                        .cells = CELLS,
                                        .host_bytes = pol_model_host_bytes(c) + (uint64_t)T * sizeof *r->ids,
                                        .limit = r->o->memory_limit};
    pol_memory_plan(c, r->be, &request, &r->memory);
    POL_TRY(pol_memory_check(r->ctx, r->o->model, &r->memory));
    POL_TRY(pol_memory_reserve(r->be, &r->memory));
    POL_TRY(pol_model_load(r->src, r->be, &r->memory.placement, &r->model));
    return pol_forward_new(r->model, T, S, &r->forward);
}

/* Any text would do: no op looks at what it computes. */
static pol_status make_input(pol_bench_run *r)
{
    const pol_units *u = pol_model_units(r->model);
    const int64_t T = r->o->batch * r->o->seq_len, vocab = pol_model_config(r->model)->vocab;
    int64_t longest = 0;
    for (int64_t i = 0; i < u->n_sections; i++)
        longest = pol_max_i64(longest, u->sections[i].count);
    r->ids = pol_alloc_array(r->ctx, T, sizeof *r->ids);
    r->loss = pol_alloc_array(r->ctx, r->o->batch, sizeof *r->loss);
    r->order = pol_alloc_array(r->ctx, longest, sizeof *r->order);
    r->mask = pol_alloc(r->ctx, (size_t)u->n);
    if (!r->ids || !r->loss || !r->order || !r->mask)
        return POL_ENOMEM;
    for (int64_t i = 0; i < T; i++)
        r->ids[i] = (int32_t)((i * 7919 + 13) % vocab);
    return POL_OK;
}

static pol_status open_run(pol_bench_run *r)
{
    const pol_bench_settings *o = r->o;
    POL_TRY(check_settings(r->ctx, o));
    POL_TRY(pol_source_open(r->ctx, o->model, &r->src));
    if (!r->be)
        POL_TRY(pol_backend_open(r->ctx, &o->backend, &r->be));
    POL_TRY(load(r));
    return make_input(r);
}

pol_status pol_bench_open(pol_context *ctx, const pol_bench_settings *o, pol_backend *be, pol_bench_run *r)
{
    *r = (pol_bench_run){.ctx = ctx, .o = o, .be = be};
    const pol_status s = open_run(r);
    if (s < 0)
        pol_bench_close(r);
    return s;
}

void pol_bench_close(pol_bench_run *r)
{
    if (!r->ctx)
        return;
    pol_forward_free(r->forward);
    pol_model_free(r->model);
    pol_backend_close(r->be);
    pol_source_close(r->src);
    void *blocks[] = {r->ids, r->loss, r->order, r->mask};
    for (size_t i = 0; i < POL_COUNT(blocks); i++)
        pol_free(r->ctx, blocks[i]);
    memset(r, 0, sizeof *r);
}

/* Half of three groups is one and two in turn, layer by layer. */
static int64_t kept_of(double keep, int64_t count, int64_t layer)
{
    return (int64_t)(keep * (double)count + (layer % 2 ? 0.499 : 0.501));
}

/* Of each section of groups and channels, `keep` of its units at random. */
static void draw_mask(pol_bench_run *r, uint64_t round)
{
    const pol_units *u = pol_model_units(r->model);
    memset(r->mask, 1, (size_t)u->n);
    for (int64_t i = 0; i < u->n_sections; i++) {
        const pol_section *sec = &u->sections[i];
        if (sec->kind > POL_UNIT_CHANNEL)
            continue;
        const int64_t kept = kept_of(r->o->keep, sec->count, sec->layer);
        pol_permutation(SEED, POL_STREAM_BENCH, round * (uint64_t)u->n_sections + (uint64_t)i, sec->count, r->order);
        for (int64_t j = kept; j < sec->count; j++)
            r->mask[sec->first + r->order[j]] = 0;
    }
}

static double thread_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Of one pass; where layers visit, as one of as many as a visit serves. */
static pol_status time_pass(pol_bench_run *r, double *seconds, double *host)
{
    const double start = pol_seconds(), host_start = thread_seconds(), n = (double)r->memory.placement.cells;
    for (int64_t i = 0; i < r->memory.placement.cells; i++)
        POL_TRY(pol_forward_queue(r->forward, r->ids, r->o->batch, r->o->seq_len, NULL, r->loss));
    POL_TRY(pol_forward_settle(r->forward));
    *host = (thread_seconds() - host_start) / n;
    *seconds = (pol_seconds() - start) / n;
    return POL_OK;
}

pol_status pol_bench_round(pol_bench_run *r, uint64_t round, pol_bench_times *t)
{
    double ignored;
    POL_TRY(pol_check_stop(r->ctx));
    draw_mask(r, round);
    POL_TRY(pol_model_set_mask(r->model, NULL));
    POL_TRY(pol_sync(r->be));
    POL_TRY(time_pass(r, &t->dense, &ignored));

    const double start = pol_seconds();
    POL_TRY(pol_model_set_mask(r->model, r->mask));
    POL_TRY(pol_sync(r->be));
    t->change = pol_seconds() - start;

    POL_TRY(time_pass(r, &t->masked, &t->host));
    pol_mask_config(pol_model_units(r->model), r->mask, pol_model_config(r->model), &r->left);
    return POL_OK;
}

static int rising(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double pol_bench_median(double *v, int64_t n)
{
    qsort(v, (size_t)n, sizeof *v, rising);
    return n % 2 ? v[n / 2] : 0.5 * (v[n / 2 - 1] + v[n / 2]);
}

/* The rounds of a benchmark, a row each: dense, masked, change, masked / dense, change / masked. */
enum { DENSE, MASKED, CHANGE, MASKED_OVER_DENSE, CHANGE_OVER_MASKED, COLUMNS };

static pol_status run_rounds(pol_bench_run *r, double *columns, double *first)
{
    const int64_t n = r->o->rounds;
    pol_bench_times t;
    POL_TRY(pol_bench_round(r, 0, &t));
    *first = t.dense + t.change + t.masked;
    for (int64_t i = 0; i < n; i++) {
        POL_TRY(pol_bench_round(r, (uint64_t)i + 1, &t));
        columns[DENSE * n + i] = t.dense;
        columns[MASKED * n + i] = t.masked;
        columns[CHANGE * n + i] = t.change;
        columns[MASKED_OVER_DENSE * n + i] = t.masked / t.dense;
        columns[CHANGE_OVER_MASKED * n + i] = t.change / t.masked;
    }
    return POL_OK;
}

static void say(const pol_bench_observer *watch, const char *line)
{
    if (watch && watch->say)
        watch->say(watch->user, line);
}

pol_status pol_bench(pol_context *ctx, const pol_bench_settings *o, const pol_bench_observer *watch,
                     pol_bench_result *result)
{
    pol_bench_run r;
    memset(result, 0, sizeof *result);
    say(watch, "loading");
    POL_TRY(pol_bench_open(ctx, o, NULL, &r));
    const int64_t n = o->rounds;
    double *columns = pol_alloc_array(ctx, COLUMNS * n, sizeof *columns);
    say(watch, "measuring");
    pol_status s = columns ? run_rounds(&r, columns, &result->first_seconds) : POL_ENOMEM;
    if (s == POL_OK) {
        const pol_config *c = pol_model_config(r.model);
        result->device = *pol_backend_info(r.be);
        result->memory = r.memory;
        result->weights = pol_backend_weights(r.be);
        result->tokens = o->batch * o->seq_len;
        result->kept = (double)pol_config_block_params(&r.left) / (double)pol_config_block_params(c);
        result->dense_seconds = pol_bench_median(columns + DENSE * n, n);
        result->masked_seconds = pol_bench_median(columns + MASKED * n, n);
        result->change_seconds = pol_bench_median(columns + CHANGE * n, n);
        result->masked_over_dense = pol_bench_median(columns + MASKED_OVER_DENSE * n, n);
        result->change_over_masked = pol_bench_median(columns + CHANGE_OVER_MASKED * n, n);
    }
    pol_free(ctx, columns);
    pol_bench_close(&r);
    return s;
}

static void shape_left(const pol_bench_settings *o, const pol_config *c, pol_config *left)
{
    *left = *c;
    for (int32_t l = 0; l < c->n_layers; l++) {
        left->layers[l].n_groups = (int32_t)kept_of(o->keep, c->layers[l].n_groups, l);
        left->layers[l].ffn = (int32_t)kept_of(o->keep, c->layers[l].ffn, l);
    }
}

pol_status pol_bench_tune(pol_context *ctx, const pol_bench_settings *o, double seconds,
                          const pol_bench_observer *watch, pol_tune_result *result)
{
    pol_source *src;
    pol_config left;
    memset(result, 0, sizeof *result);
    POL_TRY(check_settings(ctx, o));
    POL_TRY(pol_source_open(ctx, o->model, &src));
    const pol_config *c = pol_source_config(src);
    shape_left(o, c, &left);
    const pol_tune_job job = {
        .dense = c, .masked = &left, .batch = o->batch, .seq_len = o->seq_len, .seconds = seconds, .watch = watch};
    const pol_status s = pol_backend_tune(ctx, &o->backend, &job, result);
    pol_source_close(src);
    return s;
}
