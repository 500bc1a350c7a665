/* shaper_toy.h - a model of which only the counts of its blocks matter, for the tests of the policy over counts. */
#ifndef POL_SHAPER_TOY_H
#define POL_SHAPER_TOY_H

#include <math.h>

#include "pollard/allocation.h"
#include "tests/unit/learn_toy.h"

enum { TOY_BLOCKS = 16, TOY_SEQUENCES = 24, TOY_LOOKS = 4096 };

typedef struct shaper_toy shaper_toy;
struct shaper_toy {
    pol_units *u;
    pol_shape_rules r;
    int32_t n; /* blocks */
    double (*value)(shaper_toy *, const int64_t *, int64_t sequence);
    double weight[TOY_BLOCKS], goal[TOY_BLOCKS]; /* what `value` goes by */
    double noise;                                /* of a sequence */
    bool own_sequences;                          /* each look is at a sequence of its own, whatever it is told */
    /* What was asked for, over all steps. */
    int64_t looks, settled, dropped;
    int64_t seen[TOY_LOOKS][TOY_BLOCKS], index[TOY_LOOKS];
    double loss[TOY_LOOKS];
    /* Numbers of looks; -1: none. */
    int64_t fail_look, stop_look, spoil_look;
    bool fail_settle;
};

static inline int64_t toy_units_of(const shaper_toy *t, int32_t i)
{
    const int32_t L = t->u->n_layers;
    return pol_units_section(t->u, i < L ? POL_UNIT_GROUP : POL_UNIT_CHANNEL, i % L)->count;
}

/* sum_i weight (count - goal)^2, as shares of the block */
static inline double toy_quadratic(shaper_toy *t, const int64_t *count, int64_t sequence)
{
    double sum = 0;
    for (int32_t i = 0; i < t->n; i++) {
        const double d = ((double)count[i] - t->goal[i]) / (double)toy_units_of(t, i);
        sum += t->weight[i] * d * d;
    }
    return sum + t->noise * sin(12.9898 * (double)(sequence + 1));
}

/* (sum_i weight (1 - share)^2)^2: damage in one block makes that in others worse. With a budget the best shares gone
 * are as 1 / weight. */
static inline double toy_damage(shaper_toy *t, const int64_t *count, int64_t sequence)
{
    double sum = 0;
    for (int32_t i = 0; i < t->n; i++) {
        const double gone = 1.0 - (double)count[i] / (double)toy_units_of(t, i);
        sum += t->weight[i] * gone * gone;
    }
    return sum * sum + t->noise * sin(12.9898 * (double)(sequence + 1));
}

static inline pol_status toy_look(void *user, const int64_t *count, const int64_t *index, int64_t n, double *loss)
{
    shaper_toy *t = user;
    assert_true(t->looks < TOY_LOOKS);
    const int64_t now = t->looks++;
    memcpy(t->seen[now], count, (size_t)t->n * sizeof *count);
    t->index[now] = index[0];
    if (now == t->fail_look)
        return pol_fail(t->u->ctx, POL_EDEVICE, "toy: the device is gone");
    if (now == t->stop_look)
        pol_context_stop(t->u->ctx);
    t->loss[now] = 0;
    for (int64_t i = 0; i < n; i++) {
        assert_true(index[i] >= 0 && index[i] < TOY_SEQUENCES);
        const double value = t->value(t, count, t->own_sequences ? 31 * now + i : index[i]);
        t->loss[now] += value / (double)n;
        loss[i] = now == t->spoil_look && i == n - 1 ? INFINITY : value;
    }
    return POL_OK;
}

static inline pol_status toy_settle(void *user)
{
    shaper_toy *t = user;
    t->settled++;
    return t->fail_settle ? pol_fail(t->u->ctx, POL_EDEVICE, "toy: nothing settles") : POL_OK;
}

static inline void toy_drop(void *user) { ((shaper_toy *)user)->dropped++; }

/* `layers` layers of `groups` and `channels`, half of each to be kept. */
static inline void toy_begin(pol_context *ctx, int32_t layers, int32_t groups, int32_t channels, shaper_toy *t)
{
    *t = (shaper_toy){.u = toy_units(ctx, layers, groups, channels),
                      .n = 2 * layers,
                      .value = toy_quadratic,
                      .fail_look = -1,
                      .stop_look = -1,
                      .spoil_look = -1};
    t->r = (pol_shape_rules){
        .units = t->u, .granularity = POL_HEADS | POL_CHANNELS, .budget.keep = {0.5, 0.5}, .align_channels = 1};
    for (int32_t i = 0; i < t->n; i++) {
        t->weight[i] = 1;
        t->goal[i] = 0.5 * (double)toy_units_of(t, i);
    }
}

static inline pol_shaper *toy_shaper(shaper_toy *t, const pol_allocation_settings *o, const double *start)
{
    pol_shaper *a;
    const pol_allocation_losses losses = {.look = toy_look, .settle = toy_settle, .drop = toy_drop, .user = t};
    assert_ok(t->u->ctx, pol_shaper_new(t->u->ctx, o, &t->r, start, TOY_SEQUENCES, &losses, &a));
    return a;
}

static inline pol_allocation_settings toy_settings(int32_t candidates, int64_t steps)
{
    pol_allocation_settings o;
    pol_allocation_defaults(&o);
    o.candidates = candidates;
    o.steps = steps;
    return o;
}

/* A state of one's own. */
typedef struct toy_state {
    pol_allocation_state s;
    double mean[TOY_BLOCKS], spread[TOY_BLOCKS];
} toy_state;
static inline void toy_copy_state(const pol_shaper *a, int32_t n, toy_state *out)
{
    *out = (toy_state){.s = *pol_shaper_state(a)};
    memcpy(out->mean, out->s.mean, (size_t)n * sizeof(double));
    memcpy(out->spread, out->s.spread, (size_t)n * sizeof(double));
    out->s.mean = out->mean;
    out->s.spread = out->spread;
}
static inline void toy_same_state(const pol_shaper *a, int32_t n, const toy_state *b)
{
    const pol_allocation_state *s = pol_shaper_state(a);
    assert_int_equal(s->next, b->s.next);
    assert_memory_equal(&s->deviation, &b->s.deviation, sizeof(double));
    assert_memory_equal(s->mean, b->mean, (size_t)n * sizeof(double));
    assert_memory_equal(s->spread, b->spread, (size_t)n * sizeof(double));
}

#endif
