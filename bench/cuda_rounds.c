/* cuda_rounds.c - what a resident model's passes and changes of the mask cost: laps in which everything is measured
 * once, and medians over them of times and of ratios, so that what slows a whole lap down is not in a ratio. */
#include <string.h>

#include "bench/bench.h"
#include "bench/bench_cuda.h"
#include "core/model/weights.h"

enum { SQUARES = 8 }; /* products that the peak is measured over */
static const double settled_share = 0.02;

typedef struct lap {
    double flops;                 /* of the pass's products, what padding adds left out */
    double peak, bare;            /* seconds: a square product; the pass's products */
    double pass, plain;           /* a pass that is replayed; queued op by op */
    double pass_host, plain_host; /* processor time of queueing one */
    double step, step_host;       /* a fresh mask and a pass under it */
    double change, settled; /* device time, in their turn: to a fresh mask; to one that differs in settled_share of its
                             * units */
    double change_bytes, settled_bytes; /* read and written */
    double copy;                        /* seconds: of copy_bytes, on the device */
    double op[CU_OPS];                  /* device seconds of a pass queued op by op */
} lap;

typedef struct meter {
    session *s;
    bare *bare;
    void *from, *to;         /* copy_bytes each */
    int32_t *before, *after; /* orders of the units */
    lap laps[MAX_ROUNDS];
} meter;

static double host_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static pol_status time_products(meter *m, const pol_products *p, double *seconds)
{
    const double start = bench_seconds();
    POL_TRY(bare_cuda.run(m->bare, p));
    *seconds = bench_seconds() - start;
    return POL_OK;
}

static pol_status time_bare(meter *m, lap *r)
{
    const session *s = m->s;
    const int64_t T = s->o->batch * s->o->seq_len, n = s->o->square;
    pol_product square = {.T = n, .N = n, .K = n, .times = SQUARES};
    const pol_products squares = {.ctx = s->ctx, .list = &square, .n = 1};
    pol_products of_pass = {.ctx = s->ctx};
    pol_config left;
    pol_mask_config(pol_model_units(s->model), s->masks, pol_model_config(s->model), &left);
    r->flops = 2.0 * (double)pol_config_macs(&left) * (double)T;
    pol_status st = pol_products_add(&of_pass, &left, s->be, T, 1);
    if (st == POL_OK)
        st = time_products(m, &of_pass, &r->bare); /* chooses how to do them */
    if (st == POL_OK)
        st = time_products(m, &of_pass, &r->bare);
    pol_products_free(&of_pass);
    POL_TRY(st);
    POL_TRY(time_products(m, &squares, &r->peak));
    r->peak /= SQUARES;
    return POL_OK;
}

static pol_status time_copy(meter *m, lap *r)
{
    const session *s = m->s;
    const cudaStream_t stream = cu_of(s->be)->compute;
    const double start = bench_seconds();
    CU_TRY(s->ctx, "copy", cudaMemcpyAsync, m->to, m->from, (size_t)s->o->copy_bytes, cudaMemcpyDeviceToDevice, stream);
    CU_TRY(s->ctx, "copy", cudaStreamSynchronize, stream);
    r->copy = bench_seconds() - start;
    return POL_OK;
}

/* Passes under one mask, after two in which a pass is seen and recorded. */
static pol_status time_passes(session *s, double *seconds, double *host)
{
    const int64_t n = s->o->cells;
    POL_TRY(session_queue(s));
    POL_TRY(session_queue(s));
    POL_TRY(session_settle(s));
    const double start = bench_seconds(), host_start = host_seconds();
    for (int64_t i = 0; i < n; i++)
        POL_TRY(session_queue(s));
    *host = (host_seconds() - host_start) / (double)n;
    POL_TRY(session_settle(s));
    *seconds = (bench_seconds() - start) / (double)n;
    return POL_OK;
}

static pol_status time_plain(session *s, lap *r)
{
    cu *c = cu_of(s->be);
    cu_passes_close(c);
    POL_TRY(time_passes(s, &r->plain, &r->plain_host));
    return cu_passes_open(c);
}

/* As a run does it: each mask is new, and nobody waits before the last pass is queued. */
static pol_status time_step(session *s, lap *r)
{
    const int64_t n = s->o->cells, units = pol_model_units(s->model)->n;
    const double start = bench_seconds(), host_start = host_seconds();
    for (int64_t i = 0; i < n; i++) {
        POL_TRY(pol_model_set_mask(s->model, s->masks + i * units));
        POL_TRY(session_queue(s));
    }
    r->step_host = (host_seconds() - host_start) / (double)n;
    POL_TRY(session_settle(s));
    r->step = (bench_seconds() - start) / (double)n;
    return POL_OK;
}

/* A unit that changes its place is read once and written once. */
static double bytes_moved(const meter *m)
{
    const pol_model *model = m->s->model;
    const pol_config *c = &model->config;
    const int64_t rows[] = {[POL_UNIT_GROUP] = pol_qkv_rows(c) + pol_ctx_cols(c), [POL_UNIT_CHANNEL] = 3};
    double elements = 0;
    for (int64_t i = 0; i < model->arrangement->size; i++)
        if (m->before[i] != m->after[i])
            elements += (double)(rows[i >= model->units->n_of[POL_UNIT_GROUP]] * c->hidden);
    return 2 * elements * (double)pol_dtype_size(m->s->be->weight_dtype);
}

/* A pass is queued before, so that the device is still busy when the host has its lists ready. */
static pol_status time_change(meter *m, const uint8_t *mask, double *seconds, double *bytes)
{
    session *s = m->s;
    double op[CU_OPS];
    POL_TRY(session_queue(s));
    pol_model_get_order(s->model, m->before);
    POL_TRY(pol_model_set_mask(s->model, mask));
    pol_model_get_order(s->model, m->after);
    POL_TRY(cu_times(cu_of(s->be), op));
    *seconds = op[CU_SWAP_UNITS];
    *bytes = bytes_moved(m);
    return session_settle(s);
}

/* A pass under each mask: how its products are done is chosen by then. */
static pol_status warm_up(session *s, const uint8_t *const *masks, int n)
{
    double op[CU_OPS];
    for (int i = 0; i < n; i++) {
        POL_TRY(pol_model_set_mask(s->model, masks[i]));
        POL_TRY(session_queue(s));
    }
    POL_TRY(session_settle(s));
    return cu_times(cu_of(s->be), op); /* forgets them */
}

static pol_status time_ops(meter *m, lap *r)
{
    session *s = m->s;
    const int64_t units = pol_model_units(s->model)->n, n = s->o->cells;
    uint8_t *fresh = s->masks + units, *settled = fresh + units;
    session_draw(s, s->o->keep, 2, s->masks);
    memcpy(settled, fresh, (size_t)units);
    session_disturb(s, settled_share, settled);
    POL_TRY(warm_up(s, (const uint8_t *[]){settled, fresh, s->masks}, 3));
    for (int64_t i = 0; i < n; i++)
        POL_TRY(session_queue(s));
    POL_TRY(cu_times(cu_of(s->be), r->op));
    for (int i = 0; i < CU_OPS; i++)
        r->op[i] /= (double)n;
    POL_TRY(time_change(m, fresh, &r->change, &r->change_bytes));
    return time_change(m, settled, &r->settled, &r->settled_bytes);
}

/* With marks around the ops on one stream: so without recorded passes, and units move in their turn. */
static pol_status time_device(meter *m, lap *r)
{
    cu *c = cu_of(m->s->be);
    POL_TRY(pol_sync(m->s->be));
    cu_passes_close(c);
    cu_moves_close(c);
    POL_TRY(cu_timer_open(c));
    const pol_status s = time_ops(m, r);
    cu_timer_close(c);
    POL_TRY(s);
    POL_TRY(cu_moves_open(c));
    return cu_passes_open(c);
}

static pol_status run_lap(meter *m, lap *r)
{
    session *s = m->s;
    POL_TRY(pol_check_stop(s->ctx));
    session_draw(s, s->o->keep, s->o->cells, s->masks);
    POL_TRY(pol_model_set_mask(s->model, s->masks));
    POL_TRY(pol_sync(s->be));
    POL_TRY(time_bare(m, r));
    POL_TRY(time_copy(m, r));
    POL_TRY(time_passes(s, &r->pass, &r->pass_host));
    POL_TRY(time_plain(s, r));
    POL_TRY(time_step(s, r));
    return time_device(m, r);
}

/* ---- what is made of them ---- */

typedef double quantity(const session *s, const lap *r);

static double median_of(const meter *m, quantity *q)
{
    double v[MAX_ROUNDS];
    for (int64_t i = 0; i < m->s->o->rounds; i++)
        v[i] = q(m->s, &m->laps[i]);
    return pol_bench_median(v, m->s->o->rounds);
}

static double peak_rate(const session *s, const lap *r)
{
    const double n = (double)s->o->square;
    return 2 * n * n * n / r->peak;
}
static double tokens(const session *s) { return (double)(s->o->batch * s->o->seq_len); }
static double copy_rate(const session *s, const lap *r) { return 2 * (double)s->o->copy_bytes / r->copy; }
static double all_ops(const lap *r)
{
    double sum = 0;
    for (int i = 0; i < CU_OPS; i++)
        sum += r->op[i];
    return sum;
}

static double peak_tflops(const session *s, const lap *r) { return 1e-12 * peak_rate(s, r); }
static double bare_over_peak(const session *s, const lap *r) { return r->flops / r->bare / peak_rate(s, r); }
static double pass_ms(const session *s, const lap *r) { return (void)s, 1e3 * r->pass; }
static double pass_tflops(const session *s, const lap *r) { return (void)s, 1e-12 * r->flops / r->pass; }
static double pass_over_peak(const session *s, const lap *r) { return r->flops / r->pass / peak_rate(s, r); }
static double pass_over_bare(const session *s, const lap *r) { return (void)s, r->pass / r->bare; }
static double plain_over_pass(const session *s, const lap *r) { return (void)s, r->plain / r->pass; }
static double step_ms(const session *s, const lap *r) { return (void)s, 1e3 * r->step; }
static double step_tokens(const session *s, const lap *r) { return tokens(s) / r->step; }
static double step_over_peak(const session *s, const lap *r) { return r->flops / r->step / peak_rate(s, r); }
static double other_share(const session *s, const lap *r)
{
    (void)s;
    const double products = r->op[CU_PROJECT] + r->op[CU_PROJECT_SWIGLU] + r->op[CU_PROJECT_ADD];
    return 1 - products / all_ops(r);
}
static double copy_gb(const session *s, const lap *r) { return 1e-9 * copy_rate(s, r); }
static double change_ms(const session *s, const lap *r) { return (void)s, 1e3 * r->change; }
static double change_over_pass(const session *s, const lap *r) { return (void)s, r->change / r->pass; }
/* What is left of it beside computing: a step over a pass that is queued alike, under one mask. */
static double change_share(const session *s, const lap *r) { return (void)s, 1 - r->plain / r->step; }
static double change_gb(const session *s, const lap *r) { return (void)s, 1e-9 * r->change_bytes; }
static double change_over_copy(const session *s, const lap *r) { return r->change_bytes / r->change / copy_rate(s, r); }
static double settled_over_pass(const session *s, const lap *r) { return (void)s, r->settled / r->pass; }
static double settled_gb(const session *s, const lap *r) { return (void)s, 1e-9 * r->settled_bytes; }
static double replay_host_us(const session *s, const lap *r) { return (void)s, 1e6 * r->pass_host; }
static double plain_host_us(const session *s, const lap *r) { return (void)s, 1e6 * r->plain_host; }
static double host_over_step(const session *s, const lap *r) { return (void)s, r->step_host / r->step; }

static void report_figures(const meter *m)
{
    static const struct {
        const char *name, *text, *unit;
        quantity *of;
        figure_goal is;
        double goal;
    } all[] = {
        {"peak", "bf16 peak: cuBLASLt on large squares", "TFLOP/s", peak_tflops, FIGURE_NO_GOAL, 0},
        {"copy", "copy inside the device, read and written", "GB/s", copy_gb, FIGURE_NO_GOAL, 0},
        {"bare_over_peak", "a pass's products bare, FLOP/s over peak", "", bare_over_peak, FIGURE_NO_GOAL, 0},
        {"pass", "masked pass", "ms", pass_ms, FIGURE_NO_GOAL, 0},
        {"pass_rate", "masked pass, its products' rate", "TFLOP/s", pass_tflops, FIGURE_NO_GOAL, 0},
        {"pass_over_peak", "masked pass, FLOP/s over peak", "", pass_over_peak, FIGURE_AT_LEAST, 0.65},
        {"pass_over_bare", "masked pass over its products bare", "", pass_over_bare, FIGURE_NO_GOAL, 0},
        {"other_share", "of a pass's device time, all that is no product", "", other_share, FIGURE_AT_MOST, 0.15},
        {"plain_over_replayed", "pass queued op by op over replayed", "", plain_over_pass, FIGURE_NO_GOAL, 0},
        {"step", "fresh mask and its pass, queued, waited for once", "ms", step_ms, FIGURE_NO_GOAL, 0},
        {"step_tokens", "the same", "tokens/s", step_tokens, FIGURE_NO_GOAL, 0},
        {"step_over_peak", "the same, FLOP/s over peak", "", step_over_peak, FIGURE_NO_GOAL, 0},
        {"change_share", "of a step, what a fresh mask adds to it", "", change_share, FIGURE_AT_MOST, 0.03},
        {"change", "change to a fresh mask, in its turn", "ms", change_ms, FIGURE_NO_GOAL, 0},
        {"change_over_pass", "the same over a pass", "", change_over_pass, FIGURE_NO_GOAL, 0},
        {"change_bytes", "change to a fresh mask: read and written", "GB", change_gb, FIGURE_NO_GOAL, 0},
        {"change_over_copy", "its rate over that of a copy", "", change_over_copy, FIGURE_NO_GOAL, 0},
        {"settled_over_pass", "change of 2 % of the units, in its turn, over a pass", "", settled_over_pass,
         FIGURE_AT_MOST, 0.03},
        {"settled_bytes", "change of 2 % of the units: read and written", "GB", settled_gb, FIGURE_NO_GOAL, 0},
        {"replay_host", "host time of queueing a pass, replayed", "us", replay_host_us, FIGURE_NO_GOAL, 0},
        {"plain_host", "host time of queueing a pass, op by op", "us", plain_host_us, FIGURE_NO_GOAL, 0},
        {"host_over_step", "host time of queueing a step over the step", "", host_over_step, FIGURE_NO_GOAL, 0},
    };
    for (size_t i = 0; i < POL_COUNT(all); i++)
        figures_add(m->s->out, (figure){.name = all[i].name,
                                        .text = all[i].text,
                                        .value = median_of(m, all[i].of),
                                        .unit = all[i].unit,
                                        .is = all[i].is,
                                        .goal = all[i].goal});
}

static void report_ops(const meter *m)
{
    const int64_t n = m->s->o->rounds;
    for (int i = 0; i < CU_OPS; i++) {
        double v[MAX_ROUNDS];
        char name[64], text[64];
        for (int64_t k = 0; k < n; k++)
            v[k] = 1e6 * m->laps[k].op[i];
        const double us = pol_bench_median(v, n);
        if (us <= 0)
            continue;
        snprintf(name, sizeof name, "device_%s", cu_op_names[i]);
        snprintf(text, sizeof text, "device time of a pass: %s", cu_op_names[i]);
        figures_add(m->s->out, (figure){.name = name, .text = text, .value = us, .unit = "us"});
    }
}

static void meter_close(meter *m)
{
    bare_cuda.close(m->bare);
    cudaFree(m->from);
    cudaFree(m->to);
    pol_free(m->s->ctx, m->before);
    pol_free(m->s->ctx, m->after);
    pol_free(m->s->ctx, m);
}

/* The products of the dense pass, and the square one. */
static pol_status list_products(const session *s, pol_products *p)
{
    const options *o = s->o;
    POL_TRY(pol_products_add(p, &o->config, s->be, o->batch * o->seq_len, 1));
    pol_product *more = pol_realloc(s->ctx, p->list, (size_t)(p->n + 1) * sizeof *more);
    if (!more)
        return POL_ENOMEM;
    p->list = more;
    p->cap = p->n + 1;
    p->list[p->n++] = (pol_product){.T = o->square, .N = o->square, .K = o->square, .times = SQUARES};
    return POL_OK;
}

static pol_status open_bare(meter *m)
{
    const session *s = m->s;
    pol_products all = {.ctx = s->ctx};
    pol_status st = list_products(s, &all);
    if (st == POL_OK)
        st = bare_cuda.open(s->be, &all, NULL, &m->bare);
    pol_products_free(&all);
    return st;
}

static pol_status meter_open(meter *m)
{
    const session *s = m->s;
    const int64_t size = pol_model_order_size(s->model);
    m->before = pol_alloc_array(s->ctx, size, sizeof *m->before);
    m->after = pol_alloc_array(s->ctx, size, sizeof *m->after);
    if (!m->before || !m->after)
        return POL_ENOMEM;
    POL_TRY(open_bare(m));
    CU_TRY(s->ctx, "copy", cudaMalloc, &m->from, (size_t)s->o->copy_bytes);
    CU_TRY(s->ctx, "copy", cudaMalloc, &m->to, (size_t)s->o->copy_bytes);
    CU_TRY(s->ctx, "copy", cudaMemset, m->from, 1, (size_t)s->o->copy_bytes);
    return POL_OK;
}

pol_status measure_rounds(session *s)
{
    meter *m = pol_alloc_zero(s->ctx, sizeof *m);
    if (!m)
        return POL_ENOMEM;
    m->s = s;
    pol_status st = meter_open(m);
    if (st == POL_OK)
        st = run_lap(m, &m->laps[0]); /* warms up */
    for (int64_t i = 0; i < s->o->rounds && st == POL_OK; i++)
        st = run_lap(m, &m->laps[i]);
    if (st == POL_OK) {
        report_figures(m);
        report_ops(m);
    }
    meter_close(m);
    return st;
}
