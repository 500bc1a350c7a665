/* test_mask.c - units, what masks leave, sampling, hard masks, pictures. */
#include <math.h>

#include "core/mask/budget.h"
#include "tests/test.h"
#include "toy.h"

/* Layers of different shapes, one without attention, one without anything, all biases. */
static pol_config ragged_config(void)
{
    pol_config c = toy_config(4, 3, 5);
    c.qkv_bias = c.o_bias = c.mlp_bias = true;
    c.layers[1] = (pol_layer_shape){0, 7};
    c.layers[2] = (pol_layer_shape){0, 0};
    return c;
}

static void test_numbering(void **state)
{
    pol_context *ctx = *state;
    const pol_config c = ragged_config();
    pol_units *u;
    assert_ok(ctx, pol_units_new(ctx, &c, &u));
    assert_int_equal(u->n_of[POL_UNIT_GROUP], 6);
    assert_int_equal(u->n_of[POL_UNIT_CHANNEL], 17);
    assert_int_equal(u->n_of[POL_UNIT_ATTENTION], 2);
    assert_int_equal(u->n_of[POL_UNIT_MLP], 3);
    assert_int_equal(u->n, 28);
    int64_t next = 0;
    for (int64_t i = 0; i < u->n_sections; i++) {
        assert_ptr_equal(&u->sections[i], pol_units_section(u, u->sections[i].kind, u->sections[i].layer));
        assert_int_equal(u->sections[i].first, next);
        next += u->sections[i].count;
    }
    assert_int_equal(next, u->n);
    /* By hand: a group has (2 + 2) q, k, v heads of 4 rows and 8 columns, biases on each row, and 2 heads of w_o. */
    assert_int_equal(pol_units_section(u, POL_UNIT_GROUP, 0)->params, 4 * 4 * 8 + 4 * 4 + 2 * 4 * 8);
    assert_int_equal(pol_units_section(u, POL_UNIT_CHANNEL, 0)->params, 3 * 8 + 2);
    assert_int_equal(pol_units_section(u, POL_UNIT_ATTENTION, 0)->params, 3 * 208 + 8);
    assert_int_equal(pol_units_section(u, POL_UNIT_ATTENTION, 1)->params, 0);
    assert_int_equal(pol_mask_params(u, NULL), 2 * (3 * 208 + 8) + 17 * 26 + 3 * 8);
    assert_int_equal(pol_mask_params(u, NULL), pol_config_block_params(&c));
    pol_units_free(u);
}

static void test_config_is_checked(void **state)
{
    pol_context *ctx = *state;
    pol_units *u;
    pol_config c = toy_config(1, 1, 1);
    c.n_layers = POL_MAX_LAYERS + 1;
    assert_fails(ctx, pol_units_new(ctx, &c, &u), POL_EARG, "n_layers is 1025");
    c = toy_config(1, 1, 1);
    c.head_dim = 0;
    assert_fails(ctx, pol_units_new(ctx, &c, &u), POL_EARG, "head_dim 0");
    c = toy_config(1, 1, -1);
    assert_fails(ctx, pol_units_new(ctx, &c, &u), POL_EARG, "layer 0 has 1 groups and -1 channels");
    c = toy_config(2, 1, INT32_MAX);
    assert_fails(ctx, pol_units_new(ctx, &c, &u), POL_ELIMIT, "units");
    c = toy_config(1, INT32_MAX / 2, 1);
    c.hidden = c.head_dim = c.heads_per_group = INT32_MAX;
    assert_fails(ctx, pol_units_new(ctx, &c, &u), POL_ELIMIT, "parameters");
    assert_null(u);
}

static void test_effective_units(void **state)
{
    pol_context *ctx = *state;
    const pol_config c = ragged_config();
    pol_units *u;
    assert_ok(ctx, pol_units_new(ctx, &c, &u));
    toy_random random = {.seed = 1};
    for (int round = 0; round < 200; round++) {
        uint8_t mask[28], effective[28];
        for (int i = 0; i < 28; i++)
            mask[i] = toy_uniform(&random) < 0.6;
        pol_mask_effective(u, mask, effective);
        pol_layer_shape count[4];
        pol_mask_layer_counts(u, mask, count);
        int64_t params = 0;
        for (int32_t l = 0; l < 4; l++) {
            const pol_section *g = pol_units_section(u, POL_UNIT_GROUP, l),
                              *f = pol_units_section(u, POL_UNIT_CHANNEL, l);
            const bool attention = g->count && mask[pol_units_section(u, POL_UNIT_ATTENTION, l)->first];
            const bool mlp = f->count && mask[pol_units_section(u, POL_UNIT_MLP, l)->first];
            int32_t groups = 0, channels = 0;
            for (int64_t i = g->first; i < g->first + g->count; i++) {
                assert_int_equal(effective[i], attention && mask[i]);
                groups += effective[i];
            }
            for (int64_t i = f->first; i < f->first + f->count; i++) {
                assert_int_equal(effective[i], mlp && mask[i]);
                channels += effective[i];
            }
            assert_int_equal(count[l].n_groups, groups);
            assert_int_equal(count[l].ffn, channels);
            params += groups * 208 + (groups ? 8 : 0) + channels * 26 + (channels ? 8 : 0);
        }
        assert_int_equal(pol_mask_params(u, mask), params);
        assert_int_equal(pol_mask_params(u, effective), params);
        pol_config left;
        pol_mask_config(u, mask, &c, &left);
        assert_int_equal(pol_config_block_params(&left), params);
        pol_mask_effective(u, mask, mask); /* in place */
        assert_memory_equal(mask, effective, 28);
    }
    pol_units_free(u);
}

static void test_sampling(void **state)
{
    pol_context *ctx = *state;
    const pol_config c = toy_config(3, 4, 9);
    pol_units *u;
    pol_distribution *d, *heads;
    assert_ok(ctx, pol_units_new(ctx, &c, &u));
    assert_ok(ctx, pol_distribution_new(u, POL_HEADS | POL_CHANNELS | POL_BLOCKS, &d));
    assert_ok(ctx, pol_distribution_new(u, POL_HEADS, &heads));
    enum { N = 3 * (4 + 9 + 2), DRAWS = 20000 };
    assert_int_equal(u->n, N);
    for (int i = 0; i < N; i++)
        d->s[i] = i == 0 ? 0 : i == 1 ? 1 : (float)i / N;
    memcpy(heads->s, d->s, 12 * sizeof *d->s);
    int64_t hits[N] = {0};
    double chi2 = 0;
    uint8_t mask[N], again[N];
    for (int k = 0; k < DRAWS; k++) {
        pol_distribution_sample(d, 42, (uint64_t)(k / 2), (uint32_t)(k % 2), mask);
        for (int i = 0; i < N; i++)
            hits[i] += mask[i];
        if (k < 100) { /* a pure function of its key, and a unit's draw does not depend on what else is learnt */
            pol_distribution_sample(d, 42, (uint64_t)(k / 2), (uint32_t)(k % 2), again);
            assert_memory_equal(mask, again, N);
            pol_distribution_sample(heads, 42, (uint64_t)(k / 2), (uint32_t)(k % 2), again);
            assert_memory_equal(mask, again, 12);
            for (int i = 12; i < N; i++)
                assert_int_equal(again[i], 1);
        }
    }
    assert_int_equal(hits[0], 0);
    assert_int_equal(hits[1], DRAWS);
    for (int i = 2; i < N; i++) {
        const double p = d->s[i], z = ((double)hits[i] - DRAWS * p) / sqrt(DRAWS * p * (1 - p));
        assert_near(z, 0, 5);
        chi2 += z * z;
    }
    /* chi-square with 43 degrees of freedom: 99.99 % lie within 15.5 and 86. */
    assert_in_range((int)chi2, 15, 86);
    pol_distribution_sample(d, 43, 0, 0, again);
    pol_distribution_sample(d, 42, 0, 0, mask);
    assert_memory_not_equal(mask, again, N);

    pol_distribution_clamp(heads, 0.125f);
    for (int i = 0; i < N; i++)
        assert_true(i >= 12 ? heads->s[i] == 1 : heads->s[i] == fminf(fmaxf(d->s[i], 0.125f), 0.875f));
    pol_distribution *bad;
    assert_fails(ctx, pol_distribution_new(u, 0, &bad), POL_EARG, "granularity");
    assert_fails(ctx, pol_distribution_new(u, 16, &bad), POL_EARG, "granularity");
    pol_distribution_free(d);
    pol_distribution_free(heads);
    pol_units_free(u);
}

/* The header's definition, to the bit, for more units than a draw takes at a time; a unit whose s is the very number
 * drawn is removed. */
static void test_draw_by_definition(void **state)
{
    pol_context *ctx = *state;
    for (int32_t ffn = 1; ffn < 2000; ffn = 3 * ffn + 1) {
        const pol_config c = toy_config(1, 1, ffn);
        pol_units *u;
        pol_distribution *d;
        assert_ok(ctx, pol_units_new(ctx, &c, &u));
        assert_ok(ctx, pol_distribution_new(u, POL_HEADS | POL_CHANNELS | POL_BLOCKS, &d));
        float *drawn = malloc((size_t)u->n * sizeof *drawn);
        uint8_t *mask = malloc((size_t)u->n);
        for (uint32_t k = 0; k < 4; k++) {
            pol_uniform(42, POL_STREAM_MASK, 7, k, u->n, drawn);
            for (int64_t i = 0; i < u->n; i++)
                d->s[i] = i % 3 == 0 ? drawn[i] : 0.5f;
            pol_distribution_sample(d, 42, 7, k, mask);
            for (int64_t i = 0; i < u->n; i++)
                assert_int_equal(mask[i], drawn[i] < d->s[i]);
        }
        free(drawn);
        free(mask);
        pol_distribution_free(d);
        pol_units_free(u);
    }
}

/* s in `levels` steps, so that ties are many. */
static void random_s(toy_random *random, pol_distribution *d, int64_t levels)
{
    for (int64_t k = 0; k < d->units->n_sections; k++) {
        const pol_section *sec = &d->units->sections[k];
        for (int64_t i = sec->first; (d->granularity >> sec->kind & 1) && i < sec->first + sec->count; i++)
            d->s[i] = (float)toy_below(random, levels + 1) / (float)levels;
    }
}

/* Exactly the count, whatever ties there are and however few s are above 0; no removed unit ranks above a kept one. */
static void test_hard_separate(void **state)
{
    pol_context *ctx = *state;
    toy_random random = {.seed = 2};
    for (int round = 0; round < 300; round++) {
        const pol_config c = toy_config(1 + (int32_t)toy_below(&random, 4), 1 + (int32_t)toy_below(&random, 8),
                                        10 + (int32_t)toy_below(&random, 90));
        pol_units *u;
        pol_distribution *d;
        assert_ok(ctx, pol_units_new(ctx, &c, &u));
        assert_ok(ctx, pol_distribution_new(u, POL_HEADS | POL_CHANNELS, &d));
        random_s(&random, d, round % 3 == 0 ? 1 : 8);
        if (round % 5 == 0) /* slack: fewer than the budget are above 0 */
            for (int64_t i = 1; i < u->n; i++)
                d->s[i] = 0;
        const pol_budget b = {.keep = {1, 0.1 * (double)(1 + toy_below(&random, 9))}};
        float *tie = NULL;
        if (round % 2) {
            tie = malloc((size_t)u->n * sizeof *tie);
            for (int64_t i = 0; i < u->n; i++)
                tie[i] = (float)toy_below(&random, 4);
        }
        uint8_t *mask = malloc((size_t)u->n);
        assert_ok(ctx, pol_hard_mask(d, &b, tie, mask));
        const int64_t groups = u->n_of[POL_UNIT_GROUP], channels = u->n_of[POL_UNIT_CHANNEL];
        int64_t kept[2] = {0};
        for (int64_t i = 0; i < groups + channels; i++)
            kept[i >= groups] += mask[i];
        for (int64_t i = groups + channels; i < u->n; i++)
            assert_int_equal(mask[i], 1);
        assert_int_equal(kept[0], groups);
        assert_int_equal(kept[1], (int64_t)(b.keep[1] * (double)channels + 1e-9));
        for (int64_t i = groups; i < groups + channels; i++)
            for (int64_t j = groups; mask[i] && j < groups + channels; j++) {
                if (mask[j])
                    continue;
                const bool tied = d->s[i] == d->s[j] && (!tie || tie[i] == tie[j]);
                assert_true(tied ? i < j : d->s[i] == d->s[j] ? tie[i] > tie[j] : d->s[i] > d->s[j]);
            }
        free(mask);
        free(tie);
        pol_distribution_free(d);
        pol_units_free(u);
    }
    assert_true(0.29 * 100 < 29);
    assert_int_equal(pol_budget_count(0.29, 100), 29);
}

/* Uncoupled joint budget: the greedy fill, recomputed by repeated search for the next unit. */
static void test_hard_joint(void **state)
{
    pol_context *ctx = *state;
    toy_random random = {.seed = 3};
    static const unsigned granularity[] = {POL_HEADS, POL_CHANNELS, POL_HEADS | POL_CHANNELS, POL_BLOCKS,
                                           POL_HEADS | 1u << POL_UNIT_MLP};
    for (int round = 0; round < 200; round++) {
        const pol_config c = toy_config(1 + (int32_t)toy_below(&random, 4), 1 + (int32_t)toy_below(&random, 4),
                                        8 + (int32_t)toy_below(&random, 20));
        pol_units *u;
        pol_distribution *d;
        assert_ok(ctx, pol_units_new(ctx, &c, &u));
        assert_ok(ctx, pol_distribution_new(u, granularity[round % 5], &d));
        random_s(&random, d, 6);
        const pol_budget b = {.mode = POL_BUDGET_JOINT, .keep_params = toy_uniform(&random)};
        uint8_t *mask = malloc((size_t)u->n), *want = malloc((size_t)u->n), *tried = calloc((size_t)u->n, 1);
        if (pol_budget_check(u, d->granularity, &b) == POL_OK) {
            assert_ok(ctx, pol_hard_mask(d, &b, NULL, mask));
            const double limit = b.keep_params * (double)pol_mask_params(u, NULL);
            for (int64_t i = 0; i < u->n; i++)
                want[i] = tried[i] = 1;
            for (int64_t k = 0; k < u->n_sections; k++)
                for (int64_t i = u->sections[k].first; i < u->sections[k].first + u->sections[k].count; i++)
                    want[i] = tried[i] = !(d->granularity >> u->sections[k].kind & 1);
            for (;;) {
                int64_t best = -1;
                for (int64_t i = 0; i < u->n; i++)
                    if (!tried[i] && (best < 0 || d->s[i] > d->s[best]))
                        best = i;
                if (best < 0)
                    break;
                tried[best] = want[best] = 1;
                if ((double)pol_mask_params(u, want) > limit)
                    want[best] = 0;
            }
            assert_memory_equal(mask, want, (size_t)u->n);
        }
        free(mask);
        free(want);
        free(tried);
        pol_distribution_free(d);
        pol_units_free(u);
    }
}

static int64_t cost_above(const pol_units *u, const pol_distribution *d, float theta)
{
    uint8_t mask[64];
    for (int64_t i = 0; i < u->n; i++)
        mask[i] = d->s[i] > theta;
    return pol_mask_params(u, mask);
}

/* Blocks and contents under one budget: on it, at least all of the best threshold, and nothing left that fits. */
static void test_hard_coupled(void **state)
{
    pol_context *ctx = *state;
    toy_random random = {.seed = 4};
    const pol_config c = toy_config(3, 3, 12);
    pol_units *u;
    pol_distribution *d;
    assert_ok(ctx, pol_units_new(ctx, &c, &u));
    assert_ok(ctx, pol_distribution_new(u, POL_HEADS | POL_CHANNELS | POL_BLOCKS, &d));
    assert_in_range(u->n, 1, 64);
    for (int round = 0; round < 500; round++) {
        /* Distinct values in even rounds, where the threshold says all about the beginning; ties in odd ones. */
        for (int64_t i = 0; i < u->n; i++)
            d->s[i] = round % 2 ? (float)toy_below(&random, 4) / 3 : (float)toy_uniform(&random);
        const pol_budget b = {.mode = POL_BUDGET_JOINT, .keep_params = 0.05 + 0.95 * toy_uniform(&random)};
        uint8_t mask[64], effective[64];
        assert_ok(ctx, pol_hard_mask(d, &b, NULL, mask));
        pol_mask_effective(u, mask, effective);
        assert_memory_equal(mask, effective, (size_t)u->n);
        const int64_t limit = (int64_t)(b.keep_params * (double)pol_mask_params(u, NULL));
        const int64_t kept = pol_mask_params(u, mask);
        assert_true(kept <= limit);
        assert_true(kept + TOY_GROUP > limit ||
                    kept == pol_mask_params(u, NULL)); /* what ended the beginning did not fit */
        for (int64_t i = 0; i < u->n_of[0] + u->n_of[1]; i++) {
            const bool group = i < u->n_of[0];
            const int64_t layer = group ? i / 3 : (i - u->n_of[0]) / 12;
            const int64_t block = u->n_of[0] + u->n_of[1] + (group ? 0 : u->n_of[2]) + layer;
            if (mask[block] && !mask[i])
                assert_true(kept + (group ? TOY_GROUP : TOY_CHANNEL) > limit);
        }
        if (round % 2)
            continue;
        float theta = 2; /* the smallest s that fits as a threshold */
        for (int64_t i = 0; i < u->n; i++)
            if (d->s[i] < theta && cost_above(u, d, d->s[i]) <= limit)
                theta = d->s[i];
        for (int64_t i = 0; i < u->n; i++) {
            const bool group = i < u->n_of[0], content = i < u->n_of[0] + u->n_of[1];
            const int64_t layer = group ? i / 3 : (i - u->n_of[0]) / 12;
            const int64_t block = !content ? i : u->n_of[0] + u->n_of[1] + (group ? 0 : u->n_of[2]) + layer;
            if (d->s[i] > theta && d->s[block] > theta)
                assert_int_equal(mask[i], 1);
            if (!content && d->s[i] < theta)
                assert_int_equal(mask[i], 0);
        }
    }
    /* All equal, budget 1555 of 2592: two attention blocks of 576 whole; the third ends the beginning and gets 2 groups
     * of 192. */
    for (int64_t i = 0; i < u->n; i++)
        d->s[i] = 1;
    const pol_budget b = {.mode = POL_BUDGET_JOINT, .keep_params = 0.6};
    uint8_t mask[64];
    assert_ok(ctx, pol_hard_mask(d, &b, NULL, mask));
    pol_layer_shape left[3];
    pol_mask_layer_counts(u, mask, left);
    assert_memory_equal(left, ((const pol_layer_shape[]){{3, 0}, {3, 0}, {2, 0}}), sizeof left);
    pol_distribution_free(d);
    pol_units_free(u);
}

/* An output bias comes with its block: still never above the budget, and less than a group and the biases below it. */
static void test_hard_coupled_biases(void **state)
{
    pol_context *ctx = *state;
    toy_random random = {.seed = 12};
    pol_config c = toy_config(3, 3, 12);
    c.o_bias = c.mlp_bias = true;
    pol_units *u;
    pol_distribution *d;
    assert_ok(ctx, pol_units_new(ctx, &c, &u));
    assert_ok(ctx, pol_distribution_new(u, POL_HEADS | POL_CHANNELS | POL_BLOCKS, &d));
    for (int round = 0; round < 500; round++) {
        for (int64_t i = 0; i < u->n; i++)
            d->s[i] = (float)toy_uniform(&random);
        const pol_budget b = {.mode = POL_BUDGET_JOINT, .keep_params = 0.05 + 0.95 * toy_uniform(&random)};
        uint8_t mask[64];
        assert_ok(ctx, pol_hard_mask(d, &b, NULL, mask));
        const int64_t all = pol_mask_params(u, NULL), kept = pol_mask_params(u, mask),
                      limit = (int64_t)(b.keep_params * (double)all);
        assert_true(kept <= limit && (kept + TOY_GROUP + 6 * c.hidden > limit || kept == all));
    }
    pol_distribution_free(d);
    pol_units_free(u);
}

static void test_hard_refuses(void **state)
{
    pol_context *ctx = *state;
    const pol_config c = toy_config(2, 3, 10);
    pol_units *u;
    pol_distribution *d;
    assert_ok(ctx, pol_units_new(ctx, &c, &u));
    assert_ok(ctx, pol_distribution_new(u, POL_CHANNELS, &d));
    uint8_t mask[64];
    float tie[64] = {0};
    pol_budget b = {.keep = {0, 0.5}};
    d->s[6 + 13] = NAN;
    assert_fails(ctx, pol_hard_mask(d, &b, NULL, mask), POL_ENUMERIC, "channels layer 1 unit 3 is nan");
    assert_fails(ctx, pol_project_budget(d, &b), POL_ENUMERIC, "channels layer 1 unit 3 is nan");
    d->s[6 + 13] = 1;
    tie[2] = NAN;
    assert_fails(ctx, pol_hard_mask(d, &b, tie, mask), POL_ENUMERIC, "tie of unit 2");
    b.keep[1] = 0.04;
    assert_fails(ctx, pol_hard_mask(d, &b, NULL, mask), POL_ELIMIT, "keep of channels is 0.04: keeps none of 20");
    b.keep[1] = NAN;
    assert_fails(ctx, pol_hard_mask(d, &b, NULL, mask), POL_EARG, "keep of channels is nan");
    b.keep[1] = 1.5;
    assert_fails(ctx, pol_budget_check(u, POL_CHANNELS, &b), POL_EARG, "is 1.5");
    /* Untouched attention: 2 * 3 * 192 of 2 * (3 * 192 + 10 * 24). */
    b = (pol_budget){.mode = POL_BUDGET_JOINT, .keep_params = 0.7};
    assert_fails(ctx, pol_budget_check(u, POL_CHANNELS, &b), POL_ELIMIT, "the least share possible is 0.705883");
    b.keep_params = 0.705883;
    assert_ok(ctx, pol_budget_check(u, POL_CHANNELS, &b));
    /* Nothing is untouched: then the cheapest unit, one channel of 1632 parameters. */
    b.keep_params = 0.01;
    assert_fails(ctx, pol_budget_check(u, POL_HEADS | POL_CHANNELS | POL_BLOCKS, &b), POL_ELIMIT,
                 "possible is 0.014706");
    pol_distribution_free(d);
    pol_units_free(u);
}

static void test_picture(void **state)
{
    pol_context *ctx = *state;
    const pol_config c = toy_config(2, 3, 64);
    pol_units *u;
    assert_ok(ctx, pol_units_new(ctx, &c, &u));
    uint8_t *mask = malloc((size_t)u->n);
    memset(mask, 1, (size_t)u->n);
    mask[1] = 0;
    const int64_t first = pol_units_section(u, POL_UNIT_CHANNEL, 0)->first;
    mask[first] = mask[first + 2] = mask[first + 3] = 0;
    mask[pol_units_section(u, POL_UNIT_MLP, 1)->first] = 0;
    char text[POL_PICTURE_BYTES];
    pol_mask_picture(u, mask, 0, text, sizeof text);
    assert_string_equal(text, "layer  0  heads   2/3   #.#  channels    61/64    +.##############################");
    pol_mask_picture(u, mask, 1, text, sizeof text);
    assert_string_equal(text, "layer  1  heads   3/3   ###  channels     0/64    ................................");
    pol_mask_picture(u, NULL, 1, text, 12);
    assert_string_equal(text, "layer  1  h");
    free(mask);
    pol_units_free(u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbering),
        cmocka_unit_test(test_config_is_checked),
        cmocka_unit_test(test_effective_units),
        cmocka_unit_test(test_sampling),
        cmocka_unit_test(test_draw_by_definition),
        cmocka_unit_test(test_hard_separate),
        cmocka_unit_test(test_hard_joint),
        cmocka_unit_test(test_hard_coupled),
        cmocka_unit_test(test_hard_coupled_biases),
        cmocka_unit_test(test_hard_refuses),
        cmocka_unit_test(test_picture),
    };
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}
