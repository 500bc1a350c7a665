/* learn_toy.h - the smallest models that have units, for the tests of core/learn. */
#ifndef POL_LEARN_TOY_H
#define POL_LEARN_TOY_H

#include "pollard/learn.h"
#include "tests/test.h"

/* A group costs 32 parameters, a channel 12. Unit order: all groups, all channels, two blocks a layer. */
static inline pol_units *toy_units(pol_context *ctx, int32_t layers, int32_t groups, int32_t channels)
{
    pol_config c = {.n_layers = layers, .hidden = 4, .heads_per_group = 1, .head_dim = 2, .n_groups = groups,
                    .ffn = channels, .vocab = 8, .max_positions = 8};
    for (int32_t l = 0; l < layers; l++)
        c.layers[l] = (pol_layer_shape){groups, channels};
    pol_units *u;
    assert_ok(ctx, pol_units_new(ctx, &c, &u));
    return u;
}

static inline pol_distribution *toy_distribution(const pol_units *u, unsigned granularity, float s)
{
    pol_distribution *d;
    assert_ok(u->ctx, pol_distribution_new(u, granularity, &d));
    int64_t first = 0;
    for (int kind = 0; kind < POL_UNIT_KINDS; kind++) {
        for (int64_t i = first; i < first + u->n_of[kind]; i++)
            d->s[i] = granularity & 1u << kind ? s : 1.0f;
        first += u->n_of[kind];
    }
    return d;
}

static inline int toy_setup(void **state) { return pol_context_new(NULL, (pol_context **)state) == POL_OK ? 0 : -1; }
static inline int toy_teardown(void **state)
{
    pol_context_free(*state);
    return 0;
}

#endif
