/* test_budget.c - joint budgets in every quantity, against all masks of small models and against bisection. */
#include <math.h>

#include "core/mask/budget.h"
#include "core/mask/timing.h"
#include "tests/test.h"
#include "toy.h"

enum { GROUPS = 2, CHANNELS = 3, LAYERS = 2, UNITS = 14, MASKS = 1 << UNITS };

/* Times with a step at the first unit, a flat part and a bend. */
static const pol_timing times = {
    .batch = 8,
    .seq_len = 128,
    .rest = 0.5,
    .n = {2, 3},
    .point = {{{1, 0.75}, {2, 0.875}}, {{1, 0.25}, {2, 0.25}, {3, 0.75}}},
};

/* What the tests are run for: a quantity, with embeddings or without, and biases of blocks. */
typedef struct setting {
    pol_quantity quantity;
    bool embeddings, biases;
} setting;

static const setting settings[] = {
    {POL_PARAMS, false, false}, {POL_PARAMS, true, false}, {POL_PARAMS, false, true},   {POL_PARAMS, true, true},
    {POL_BYTES, false, false},  {POL_BYTES, true, true},   {POL_KV_BYTES, false, true}, {POL_KV_BYTES, true, false},
    {POL_MACS, false, true},    {POL_MACS, true, false},   {POL_MS, false, false},      {POL_MS, true, false},
};
enum { SETTINGS = sizeof settings / sizeof settings[0] };

static const unsigned granularities[] = {
    POL_HEADS,
    POL_CHANNELS,
    POL_HEADS | POL_CHANNELS,
    POL_BLOCKS,
    POL_HEADS | 1u << POL_UNIT_MLP,
    POL_HEADS | POL_BLOCKS,
    POL_HEADS | POL_CHANNELS | POL_BLOCKS,
};
enum { GRANULARITIES = sizeof granularities / sizeof granularities[0] };

/* A model with a cost, and what every mask over it costs: bit i of a number is unit i. */
typedef struct toy {
    pol_config config;
    pol_units *units;
    pol_cost *cost;
    pol_distribution *d;
    double of[MASKS];
} toy;

static void unpack(int64_t number, uint8_t mask[UNITS])
{
    for (int i = 0; i < UNITS; i++)
        mask[i] = number >> i & 1;
}

static int64_t pack(const uint8_t *mask)
{
    int64_t number = 0;
    for (int i = 0; i < UNITS; i++)
        number |= (int64_t)(mask[i] != 0) << i;
    return number;
}

static toy *open_toy(pol_context *ctx, const setting *s, unsigned granularity)
{
    toy *t = calloc(1, sizeof *t);
    t->config = toy_config(LAYERS, GROUPS, CHANNELS);
    t->config.o_bias = t->config.mlp_bias = s->biases;
    assert_ok(ctx, pol_units_new(ctx, &t->config, &t->units));
    assert_int_equal(t->units->n, UNITS);
    assert_ok(ctx, pol_cost_new(ctx, t->units, &t->config, s->quantity,
                                &(pol_cost_options){s->embeddings, 4.5, 16, 16, &times}, &t->cost));
    assert_ok(ctx, pol_distribution_new(t->units, granularity, &t->d));
    for (int64_t m = 0; m < MASKS; m++) {
        uint8_t mask[UNITS];
        unpack(m, mask);
        t->of[m] = pol_cost_mask(t->cost, mask);
    }
    return t;
}

static void close_toy(toy *t)
{
    pol_distribution_free(t->d);
    pol_cost_free(t->cost);
    pol_units_free(t->units);
    free(t);
}

static bool moves(const toy *t, int64_t unit)
{
    for (int64_t k = 0; k < t->units->n_sections; k++) {
        const pol_section *sec = &t->units->sections[k];
        if (unit >= sec->first && unit < sec->first + sec->count)
            return t->d->granularity >> sec->kind & 1;
    }
    return false;
}

/* Units that no mask of the granularity removes. */
static int64_t fixed_units(const toy *t)
{
    int64_t fixed = 0;
    for (int64_t i = 0; i < UNITS; i++)
        fixed |= moves(t, i) ? 0 : (int64_t)1 << i;
    return fixed;
}

static void random_s(toy_random *random, toy *t, int64_t levels)
{
    for (int64_t i = 0; i < UNITS; i++)
        t->d->s[i] = moves(t, i) ? (float)toy_below(random, levels + 1) / (float)levels : 1;
}

/* The number of a mask with the bits of `order`'s units in its order, the first one highest. */
static int64_t ranked_number(int64_t mask, const int *order, int n)
{
    int64_t number = 0;
    for (int i = 0; i < n; i++)
        number = number << 1 | (mask >> order[i] & 1);
    return number;
}

/* Where blocks and contents do not both go, filling in order gives, of all masks that fit, the one that is greatest
 * when compared unit by unit in that order. */
static int64_t greatest(const toy *t, double limit)
{
    int order[UNITS], n = 0;
    for (int i = 0; i < UNITS; i++)
        if (moves(t, i))
            order[n++] = i;
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && t->d->s[order[j]] > t->d->s[order[j - 1]]; j--) {
            const int swapped = order[j];
            order[j] = order[j - 1];
            order[j - 1] = swapped;
        }
    int64_t best = -1;
    const int64_t fixed = fixed_units(t);
    for (int64_t m = 0; m < MASKS; m++)
        if ((m & fixed) == fixed && t->of[m] <= limit &&
            (best < 0 || ranked_number(m, order, n) > ranked_number(best, order, n)))
            best = m;
    return best;
}

static bool is_coupled(const toy *t)
{
    return pol_is_coupled(t->d->granularity, POL_UNIT_GROUP) || pol_is_coupled(t->d->granularity, POL_UNIT_CHANNEL);
}

/* Nothing that could still be kept beside the rest fits: contents of blocks that are there, units of other kinds. */
static void check_full(const toy *t, int64_t m, double limit)
{
    const pol_units *u = t->units;
    for (int64_t k = 0; k < u->n_sections; k++) {
        const pol_section *sec = &u->sections[k];
        const bool block = sec->kind >= POL_UNIT_ATTENTION;
        const pol_unit_kind contents = block ? (pol_unit_kind)(sec->kind - 2) : sec->kind;
        const int64_t of = pol_units_section(u, (pol_unit_kind)(contents + 2), sec->layer)->first;
        const bool coupled = pol_is_coupled(t->d->granularity, contents);
        for (int64_t i = sec->first; i < sec->first + sec->count; i++) {
            if (m >> i & 1 || (coupled && (block || !(m >> of & 1))))
                continue;
            assert_true(t->of[m | (int64_t)1 << i] > limit);
        }
    }
}

static void test_hard_mask(void **state)
{
    pol_context *ctx = *state;
    toy_random random = {.seed = 31};
    for (int x = 0; x < SETTINGS * GRANULARITIES; x++) {
        toy *t = open_toy(ctx, &settings[x % SETTINGS], granularities[x / SETTINGS]);
        for (int round = 0; round < 12; round++) {
            random_s(&random, t, round % 3 ? 5 : 1000);
            /* Also limits that a mask meets to the last bit. */
            const double limit = round % 2 ? t->cost->dense * toy_uniform(&random) : t->of[toy_below(&random, MASKS)];
            const pol_budget b = {.mode = POL_BUDGET_JOINT, .cost = t->cost, .limit = limit};
            uint8_t mask[UNITS], effective[UNITS];
            if (pol_budget_check(t->units, t->d->granularity, &b) != POL_OK)
                continue;
            assert_ok(ctx, pol_hard_mask(t->d, &b, NULL, mask));
            const int64_t m = pack(mask), fixed = fixed_units(t);
            assert_true((m & fixed) == fixed);
            assert_true(t->of[m] <= limit);
            check_full(t, m, limit);
            if (!is_coupled(t))
                assert_int_equal(m, greatest(t, limit));
            pol_mask_effective(t->units, mask, effective);
            if (is_coupled(t) && (t->d->granularity & (POL_HEADS | POL_CHANNELS)) == (POL_HEADS | POL_CHANNELS))
                assert_memory_equal(mask, effective, UNITS);
        }
        close_toy(t);
    }
}

/* The least that a budget may be is what the cheapest of all masks costs that leaves something of the blocks. */
static void test_least(void **state)
{
    pol_context *ctx = *state;
    for (int x = 0; x < SETTINGS * GRANULARITIES; x++) {
        toy *t = open_toy(ctx, &settings[x % SETTINGS], granularities[x / SETTINGS]);
        const int64_t fixed = fixed_units(t);
        double least = INFINITY;
        for (int64_t m = 0; m < MASKS; m++)
            if ((m & fixed) == fixed && t->of[m] > t->cost->fixed)
                least = fmin(least, t->of[m]);
        pol_budget b = {.mode = POL_BUDGET_JOINT, .cost = t->cost, .limit = least};
        char amount[POL_AMOUNT_TEXT], part[128];
        assert_ok(ctx, pol_budget_check(t->units, t->d->granularity, &b));
        b.limit = nextafter(least, 0);
        pol_amount_text(t->cost->quantity, least, amount);
        snprintf(part, sizeof part, "the least possible is %s, a share of %.6f", amount,
                 ceil(least / t->cost->dense * 1e6) / 1e6);
        assert_fails(ctx, pol_budget_check(t->units, t->d->granularity, &b), POL_ELIMIT, part);
        uint8_t mask[UNITS];
        assert_fails(ctx, pol_hard_mask(t->d, &b, NULL, mask), POL_ELIMIT, part);
        assert_fails(ctx, pol_project_budget(t->d, &b), POL_ELIMIT, part);
        b.limit = 0;
        assert_fails(ctx, pol_budget_check(t->units, t->d->granularity, &b), POL_EARG, "it must be above 0");
        b.limit = NAN;
        assert_fails(ctx, pol_budget_check(t->units, t->d->granularity, &b), POL_EARG, "it must be above 0");
        close_toy(t);
    }
}

/* ---- projection ---- */

static long double clip(long double x) { return x < 0 ? 0 : x > 1 ? 1 : x; }

/* The cost of x units by the straight line between whole numbers of them. */
static long double line(const toy *t, pol_unit_kind k, int32_t l, long double x)
{
    const int64_t below = (int64_t)x;
    const long double at = pol_cost_block(t->cost, k, l, (double)below);
    return at + (x - below) * (pol_cost_block(t->cost, k, l, (double)below + 1) - at);
}

/* Expected cost at a shift of v, written out from the header's definition. */
static long double expected(const toy *t, const float *s, long double v)
{
    const pol_units *u = t->units;
    long double sum = t->cost->fixed;
    for (int32_t l = 0; l < LAYERS; l++)
        for (int k = 0; k < 2; k++) {
            const pol_section *in = pol_units_section(u, (pol_unit_kind)k, l);
            const pol_section *block = pol_units_section(u, (pol_unit_kind)(k + 2), l);
            const long double whole = pol_cost_block(t->cost, (pol_unit_kind)k, l, (double)in->count);
            const long double weight = whole / in->count;
            long double n = 0;
            for (int64_t i = in->first; i < in->first + in->count; i++)
                n += moves(t, i) ? clip(s[i] - v * weight) : 1;
            sum += line(t, (pol_unit_kind)k, l, n) * (moves(t, block->first) ? clip(s[block->first] - v * whole) : 1);
        }
    return sum;
}

static void test_projection(void **state)
{
    pol_context *ctx = *state;
    toy_random random = {.seed = 32};
    for (int x = 0; x < SETTINGS * GRANULARITIES; x++) {
        toy *t = open_toy(ctx, &settings[x % SETTINGS], granularities[x / SETTINGS]);
        for (int round = 0; round < 12; round++) {
            random_s(&random, t, round % 3 ? 1000 : 3);
            float before[UNITS];
            memcpy(before, t->d->s, sizeof before);
            const double limit = t->cost->dense * toy_uniform(&random);
            const pol_budget b = {.mode = POL_BUDGET_JOINT, .cost = t->cost, .limit = limit};
            if (pol_budget_check(t->units, t->d->granularity, &b) != POL_OK)
                continue;
            long double lo = 0, hi = expected(t, before, 0) <= limit ? 0 : 1e6L;
            for (int k = 0; k < 300; k++) {
                const long double mid = lo + (hi - lo) / 2;
                if (expected(t, before, mid) <= limit)
                    hi = mid;
                else
                    lo = mid;
            }
            double v;
            assert_ok(ctx, pol_budget_shift(t->d, &b, 0, &v));
            assert_near((double)expected(t, before, v), (double)fminl(limit, expected(t, before, 0)),
                        1e-12 * t->cost->dense);
            assert_near(v, (double)hi, 1e-12 * (double)hi);
            assert_ok(ctx, pol_project_budget(t->d, &b));
            for (int64_t i = 0; i < UNITS; i++) {
                const pol_section *sec = t->units->sections;
                while (i >= sec->first + sec->count)
                    sec++;
                assert_near(t->d->s[i], moves(t, i) ? (double)clip(before[i] - hi * pol_cost_unit(t->cost, sec)) : 1,
                            1e-7);
            }
        }
        close_toy(t);
    }
}

/* A budget of the cache says nothing about channels: they stay as they are, but within 0..1, and are all kept. */
static void test_cache_leaves_channels(void **state)
{
    pol_context *ctx = *state;
    toy *t = open_toy(ctx, &(setting){POL_KV_BYTES, false, false}, POL_HEADS | POL_CHANNELS | POL_BLOCKS);
    const pol_budget b = {.mode = POL_BUDGET_JOINT, .cost = t->cost, .limit = 0.5 * t->cost->dense};
    const int64_t first = pol_units_section(t->units, POL_UNIT_CHANNEL, 0)->first;
    float before[UNITS];
    uint8_t mask[UNITS];
    toy_random random = {.seed = 33};
    random_s(&random, t, 1000);
    for (int32_t l = 0; l < LAYERS; l++) /* last of all in the order */
        t->d->s[pol_units_section(t->units, POL_UNIT_MLP, l)->first] = 0;
    t->d->s[first] = -0.5f;
    t->d->s[first + 1] = 1.5f;
    memcpy(before, t->d->s, sizeof before);
    assert_ok(ctx, pol_project_budget(t->d, &b));
    for (int64_t i = first; i < first + LAYERS * CHANNELS; i++)
        assert_near(t->d->s[i], (double)clip(before[i]), 0);
    assert_ok(ctx, pol_hard_mask(t->d, &b, NULL, mask));
    pol_layer_shape left[LAYERS];
    pol_mask_layer_counts(t->units, mask, left);
    for (int l = 0; l < LAYERS; l++)
        assert_int_equal(left[l].ffn, CHANNELS);
    assert_int_equal(left[0].n_groups + left[1].n_groups, GROUPS * LAYERS / 2);
    close_toy(t);
}

/* The share that the budget leaves to what it covers: a mask that keeps it everywhere is on the budget. */
static void test_share(void **state)
{
    pol_context *ctx = *state;
    for (int x = 0; x < SETTINGS * GRANULARITIES; x++) {
        const setting *s = &settings[x % SETTINGS];
        toy *t = open_toy(ctx, s, granularities[x / SETTINGS]);
        const double untouched = t->of[fixed_units(t)], dense = t->cost->dense;
        const pol_budget b = {.mode = POL_BUDGET_JOINT, .cost = t->cost, .limit = dense - 0.25 * (dense - untouched)};
        const double share = pol_budget_share(t->units, t->d->granularity, &b);
        assert_near(share, dense > untouched ? 0.75 : 1, 1e-12);
        close_toy(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hard_mask),  cmocka_unit_test(test_least),
        cmocka_unit_test(test_projection), cmocka_unit_test(test_cache_leaves_channels),
        cmocka_unit_test(test_share),
    };
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}
