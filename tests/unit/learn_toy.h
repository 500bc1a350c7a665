/* learn_toy.h - units and a distribution of a toy, for the tests of core/learn. Unit order: all groups, all channels,
 * two blocks a layer. */
#ifndef POL_LEARN_TOY_H
#define POL_LEARN_TOY_H

#include "pollard/learn.h"
#include "tests/test.h"
#include "tests/unit/toy.h"

static inline pol_units *toy_units(pol_context *ctx, int32_t layers, int32_t groups, int32_t channels)
{
    const pol_config c = toy_config(layers, groups, channels);
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

static inline pol_status toy_deck(pol_context *ctx, const pol_learn_settings *o, int64_t n, pol_deck **out)
{
    const pol_deck_settings deck = pol_learn_deck(o);
    return pol_deck_new(ctx, &deck, n, out);
}

static inline int toy_setup(void **state) { return pol_context_new(NULL, (pol_context **)state) == POL_OK ? 0 : -1; }
static inline int toy_teardown(void **state)
{
    pol_context_free(*state);
    return 0;
}

#endif
