/* timing.c - what a block costs in milliseconds by the number of units that it keeps, measured here and now. */
#include "core/run/timing.h"

#include <math.h>

#include "core/base/rng.h"
#include "core/forward_state.h"
#include "core/mask/timing.h"
#include "core/run/bench.h"
#include "core/run/run.h"

enum { ROUNDS = 7, SIXTEENTHS = 16, MOST_TIMES = 256, SEED = 42 };

/* A measurement is as many runs of a block as take so long, for the clock's sake. */
static const double LEAST_SECONDS = 0.002;

/* What is measured: a block with so many units, or the rest of a pass. */
typedef struct subject {
    enum { ATTENTION = POL_UNIT_GROUP, MLP = POL_UNIT_CHANNEL, REST } what;
    int64_t units;
    int64_t times;          /* runs of one measurement */
    double seconds[ROUNDS]; /* of one run */
} subject;

typedef struct timing_run {
    pol_forward *f;
    int64_t B, S;
    int32_t *ids;     /* [B, S]; as targets too */
    int64_t *order;   /* [n] in which a round goes */
    int32_t layer[2]; /* by kind: the first that has most units */
    int64_t n;
    subject *subject;
} timing_run;

static pol_status run_once(timing_run *r, const subject *s)
{
    pol_forward *f = r->f;
    if (s->what == REST) {
        POL_TRY(pol_forward_begin(f, r->ids, r->B, r->S));
        POL_TRY(pol_forward_put_targets(f, r->ids, 1, 0));
        return pol_forward_score_row(f, 0);
    }
    pol_layer_weights w;
    POL_TRY(pol_model_layer(f->m, r->layer[s->what], &w));
    if (s->what == ATTENTION) {
        w.n_groups = s->units;
        return pol_forward_attention_of(f, &w, NULL);
    }
    w.n_channels = s->units;
    return pol_forward_mlp_of(f, &w, NULL);
}

/* Seconds of one run, over s->times of them. */
static pol_status measure(timing_run *r, const subject *s, double *seconds)
{
    pol_backend *be = r->f->m->be;
    POL_TRY(pol_check_stop(be->ctx));
    POL_TRY(pol_sync(be));
    const double start = pol_seconds();
    for (int64_t i = 0; i < s->times; i++)
        POL_TRY(run_once(r, s));
    POL_TRY(pol_sync(be));
    *seconds = (pol_seconds() - start) / (double)s->times;
    return POL_OK;
}

/* Once over all, unmeasured: what is made at first use is made, and how often a measurement runs each is found. */
static pol_status warm_up(timing_run *r)
{
    double seconds;
    for (int64_t i = 0; i < r->n; i++) {
        subject *s = &r->subject[i];
        s->times = 1;
        POL_TRY(measure(r, s, &seconds));
        POL_TRY(measure(r, s, &seconds));
        s->times = (int64_t)fmin(fmax(1, ceil(LEAST_SECONDS / fmax(seconds, 1e-9))), MOST_TIMES);
    }
    return POL_OK;
}

static pol_status measure_all(timing_run *r)
{
    POL_TRY(pol_forward_begin(r->f, r->ids, r->B, r->S));
    POL_TRY(warm_up(r));
    for (int round = 0; round < ROUNDS; round++) {
        pol_permutation(SEED, POL_STREAM_BENCH, (uint64_t)round, r->n, r->order);
        for (int64_t i = 0; i < r->n; i++) {
            subject *s = &r->subject[r->order[i]];
            POL_TRY(measure(r, s, &s->seconds[round]));
        }
    }
    return POL_OK;
}

/* Counts of a block that are measured; rising. */
static int64_t pick_counts(pol_unit_kind kind, int64_t most, int64_t count[POL_TIMING_POINTS])
{
    int64_t n = 0, last = 0;
    const int64_t steps = kind == POL_UNIT_CHANNEL ? SIXTEENTHS : pol_min_i64(most, POL_TIMING_POINTS);
    if (kind == POL_UNIT_CHANNEL && most > SIXTEENTHS)
        count[n++] = last = 1;
    for (int64_t i = 1; i <= steps; i++) {
        const int64_t at = most * i / steps;
        if (at > last)
            count[n++] = last = at;
    }
    return n;
}

/* Lists the subjects: the points of `t`, without their times yet, and the rest. `subject` may be NULL: how many. */
static int64_t list_subjects(timing_run *r, pol_timing *t, subject *list)
{
    const pol_config *c = &r->f->m->config;
    int64_t n = 0;
    for (pol_unit_kind k = POL_UNIT_GROUP; k <= POL_UNIT_CHANNEL; k++) {
        int64_t count[POL_TIMING_POINTS], most = 0;
        for (int32_t l = 0; l < c->n_layers; l++) {
            const int64_t units = k == POL_UNIT_GROUP ? c->layers[l].n_groups : c->layers[l].ffn;
            if (units > most) {
                most = units;
                r->layer[k] = l;
            }
        }
        t->n[k] = most ? pick_counts(k, most, count) : 0;
        for (int64_t i = 0; i < t->n[k]; i++) {
            t->point[k][i] = (pol_timing_point){.units = count[i]};
            if (list)
                list[n] = (subject){.what = (int)k == POL_UNIT_GROUP ? ATTENTION : MLP, .units = count[i]};
            n++;
        }
    }
    if (list)
        list[n] = (subject){.what = REST};
    return n + 1;
}

static void take_medians(timing_run *r, pol_timing *t)
{
    int64_t next = 0;
    for (pol_unit_kind k = POL_UNIT_GROUP; k <= POL_UNIT_CHANNEL; k++) {
        for (int64_t i = 0; i < t->n[k]; i++)
            t->point[k][i].ms = 1e3 * pol_bench_median(r->subject[next++].seconds, ROUNDS);
        pol_timing_smooth(t, k);
    }
    t->rest = pol_timing_round(1e3 * pol_bench_median(r->subject[next].seconds, ROUNDS));
}

pol_status pol_timing_measure(pol_forward *f, int64_t batch, int64_t seq_len, pol_timing *out)
{
    pol_context *ctx = f->m->ctx;
    timing_run r = {.f = f, .B = batch, .S = seq_len};
    *out = (pol_timing){.batch = batch, .seq_len = seq_len};
    r.n = list_subjects(&r, out, NULL);
    const int64_t tokens = pol_mul_count(batch, seq_len);
    r.ids = pol_alloc_array(ctx, tokens, sizeof *r.ids);
    r.order = pol_alloc_array(ctx, r.n, sizeof *r.order);
    r.subject = pol_alloc_array(ctx, r.n, sizeof *r.subject);
    pol_status s = r.ids && r.order && r.subject ? POL_OK : POL_ENOMEM;
    if (s == POL_OK) {
        for (int64_t i = 0; i < tokens; i++)
            r.ids[i] = (int32_t)(i % f->m->config.vocab);
        list_subjects(&r, out, r.subject);
        s = measure_all(&r);
    }
    if (s == POL_OK)
        take_medians(&r, out);
    pol_free(ctx, r.ids);
    pol_free(ctx, r.order);
    pol_free(ctx, r.subject);
    return s;
}
