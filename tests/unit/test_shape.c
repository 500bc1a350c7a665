/* test_shape.c - counts on the budget, against all the counts that there are. */
#include "pollard/allocation.h"

#include <math.h>

#include "core/base/base.h"
#include "core/mask/budget.h"
#include "tests/unit/learn_toy.h"

enum { MAX_LAYERS = 3, MAX_BLOCKS = 2 * MAX_LAYERS, MAX_UNITS = 9 };

/* A random model with random rules. */
typedef struct problem {
    pol_units *u;
    pol_cost *cost;
    pol_shape_rules r;
    int64_t level[MAX_BLOCKS][MAX_UNITS + 1], n_levels[MAX_BLOCKS], at_most[MAX_BLOCKS];
    const int64_t *levels[MAX_BLOCKS];
    double want[MAX_BLOCKS];
    int32_t n;
} problem;

static const pol_section *section(const problem *p, int32_t i)
{
    const int32_t L = p->u->n_layers;
    return pol_units_section(p->u, i < L ? POL_UNIT_GROUP : POL_UNIT_CHANNEL, i % L);
}

static bool shaped(const problem *p, int32_t i) { return p->r.granularity >> section(p, i)->kind & 1; }
static int64_t align(const problem *p, int32_t i)
{
    return section(p, i)->kind == POL_UNIT_CHANNEL ? p->r.align_channels : 1;
}
static bool aligned(const problem *p, int32_t i, int64_t n)
{
    return n == section(p, i)->count || n % align(p, i) == 0;
}

/* A count that a block may have, whether it is a level or not. */
static bool allowed(const problem *p, int32_t i, int64_t n)
{
    const int64_t count = section(p, i)->count;
    if (!shaped(p, i))
        return n == count && (!p->r.at_most || count <= p->r.at_most[i]);
    const int64_t floor = pol_min_i64(i < p->u->n_layers ? p->r.min_groups : p->r.min_channels, count);
    return n >= floor && n <= count && aligned(p, i, n) && (!p->r.at_most || n <= p->r.at_most[i]);
}

static int64_t most(const problem *p, int32_t i)
{
    int64_t n = section(p, i)->count;
    while (n >= 0 && !allowed(p, i, n))
        n--;
    return n;
}

static bool on_level(const problem *p, int32_t i, int64_t n)
{
    bool found = !p->r.level || !shaped(p, i) || n == most(p, i);
    for (int64_t j = 0; !found && j < p->r.n_levels[i]; j++)
        found = p->r.level[i][j] == n;
    return found && allowed(p, i, n);
}

static int64_t least(const problem *p, int32_t i)
{
    int64_t n = 0;
    while (n <= section(p, i)->count && !on_level(p, i, n))
        n++;
    return n;
}

/* All counts are allowed, and of each kind at most one is off the levels. */
static bool good(const problem *p, const int64_t *count)
{
    const int32_t L = p->u->n_layers;
    int off[2] = {0};
    for (int32_t i = 0; i < p->n; i++) {
        if (!allowed(p, i, count[i]) || count[i] < least(p, i))
            return false;
        off[i / L] += !on_level(p, i, count[i]);
    }
    return off[0] <= 1 && off[1] <= 1;
}

static void mask_of(const problem *p, const int64_t *count, uint8_t *mask)
{
    memset(mask, 1, (size_t)p->u->n);
    for (int32_t i = 0; i < p->n; i++)
        for (int64_t j = count[i]; j < section(p, i)->count; j++)
            mask[section(p, i)->first + j] = 0;
}

/* In the terms of the budget; of one kind where each has its own. */
static double used(const problem *p, int kind, const int64_t *count)
{
    uint8_t mask[256];
    const int32_t L = p->u->n_layers;
    if (p->r.budget.mode == POL_BUDGET_SEPARATE) {
        double sum = 0;
        for (int32_t i = kind * L; i < (kind + 1) * L; i++)
            sum += (double)count[i];
        return sum;
    }
    mask_of(p, count, mask);
    return p->cost ? pol_cost_mask(p->cost, mask) : (double)pol_mask_params(p->u, mask);
}

static double limit(const problem *p, int kind)
{
    const pol_budget *b = &p->r.budget;
    if (b->mode == POL_BUDGET_JOINT)
        return b->cost ? b->limit : (double)pol_budget_params(p->u, b->keep_params);
    const int64_t n = p->u->n_of[kind];
    return p->r.granularity >> kind & 1 ? floor(b->keep[kind] * (double)n + 1e-9) : (double)n;
}

static bool within(const problem *p, const int64_t *count)
{
    return used(p, 0, count) <= limit(p, 0) && used(p, 1, count) <= limit(p, 1);
}

/* Goes through all vectors of counts, the last block fastest; false behind the last. */
static bool advance(const problem *p, int64_t *count)
{
    for (int32_t i = p->n - 1; i >= 0; i--) {
        if (count[i] < section(p, i)->count) {
            count[i]++;
            return true;
        }
        count[i] = 0;
    }
    return false;
}

/* ---- random problems ---- */

static void random_cost(problem *p, toy_random *rnd)
{
    p->cost = NULL;
    p->r.budget.cost = NULL;
    if (p->r.budget.mode == POL_BUDGET_SEPARATE || toy_below(rnd, 3) == 0)
        return;
    const pol_config c = toy_config(1, 1, 1);
    const pol_cost_options o = {.embeddings = toy_below(rnd, 2), .weight_bits = 8, .cache_bits = 8};
    assert_ok(p->u->ctx, pol_cost_new(p->u->ctx, p->u, &c, POL_PARAMS, &o, &p->cost));
    for (int32_t i = 0; i < p->n; i++) {
        double *table = p->cost->table + p->cost->first[i];
        const int64_t plateau = 1 + toy_below(rnd, 4), scale = 1 + toy_below(rnd, 30);
        for (int64_t j = 1; j <= section(p, i)->count; j++)
            table[j] = table[j - 1] + (j % plateau ? 0 : 0x1p-20 * (double)(scale * (1 + toy_below(rnd, 1 << 20))));
    }
    p->cost->dense = pol_cost_mask(p->cost, NULL);
    p->r.budget.cost = p->cost;
}

static void random_levels(problem *p, toy_random *rnd)
{
    p->r.level = NULL;
    p->r.n_levels = NULL;
    if (toy_below(rnd, 2))
        return;
    for (int32_t i = 0; i < p->n; i++) {
        p->n_levels[i] = 0;
        p->levels[i] = p->level[i];
        const int64_t count = section(p, i)->count, step = 1 + toy_below(rnd, 4);
        for (int64_t n = 0; n <= count; n++)
            if (n == 0 || n == count || (n % step == 0 && aligned(p, i, n)))
                p->level[i][p->n_levels[i]++] = n;
    }
    p->r.level = p->levels;
    p->r.n_levels = p->n_levels;
}

/* `p` stays where it is: its rules point into it. */
static void random_problem(pol_context *ctx, toy_random *rnd, problem *p)
{
    *p = (problem){0};
    pol_config c = toy_config(1 + (int32_t)toy_below(rnd, MAX_LAYERS), 4, MAX_UNITS);
    const int64_t groups = c.n_layers == 3 ? 3 : 5, channels = c.n_layers == 3 ? 5 : MAX_UNITS + 1;
    for (int32_t l = 0; l < c.n_layers; l++)
        c.layers[l] = (pol_layer_shape){(int32_t)toy_below(rnd, groups), (int32_t)toy_below(rnd, channels)};
    c.layers[0].n_groups = (int32_t)pol_max_i64(1, c.layers[0].n_groups);
    c.layers[0].ffn = (int32_t)pol_max_i64(1, c.layers[0].ffn);
    c.o_bias = toy_below(rnd, 2);
    assert_ok(ctx, pol_units_new(ctx, &c, &p->u));
    p->n = 2 * c.n_layers;
    static const unsigned some[] = {POL_HEADS, POL_CHANNELS, POL_HEADS | POL_CHANNELS, POL_HEADS | POL_CHANNELS};
    p->r = (pol_shape_rules){.units = p->u,
                             .granularity = some[toy_below(rnd, 4)],
                             .budget = {.mode = toy_below(rnd, 3) ? POL_BUDGET_JOINT : POL_BUDGET_SEPARATE},
                             .align_channels = toy_below(rnd, 2) ? 1 : 1 + toy_below(rnd, 4),
                             .min_groups = toy_below(rnd, 2) * toy_below(rnd, 3),
                             .min_channels = toy_below(rnd, 2) * toy_below(rnd, 4)};
    random_levels(p, rnd);
    random_cost(p, rnd);
    for (int32_t i = 0; i < p->n; i++) {
        const int64_t count = section(p, i)->count;
        p->at_most[i] = shaped(p, i) ? toy_below(rnd, count + 1) : count;
        p->want[i] = (toy_uniform(rnd) * 1.6 - 0.3) * (double)count;
    }
    if (toy_below(rnd, 4) == 0)
        p->r.at_most = p->at_most;
    p->r.budget.keep_params = p->r.budget.keep[0] = fmax(0.02, toy_uniform(rnd));
    p->r.budget.keep[1] = fmax(0.02, toy_uniform(rnd));
    if (p->cost)
        p->r.budget.limit = p->r.budget.keep_params * pol_cost_mask(p->cost, NULL);
}

static void end_problem(problem *p)
{
    pol_cost_free(p->cost);
    pol_units_free(p->u);
}

/* Of all vectors: whether any meets rules and budget, and whether one that does lies above `count`. */
static void look_at_all(const problem *p, const int64_t *count, bool *any, bool *larger)
{
    int64_t v[MAX_BLOCKS] = {0};
    *any = *larger = false;
    do {
        bool above = true, same = true;
        for (int32_t i = 0; i < p->n; i++) {
            above = above && v[i] >= count[i];
            same = same && v[i] == count[i];
        }
        if ((!*any || (above && !same)) && good(p, v) && within(p, v)) {
            *any = true;
            *larger = *larger || (above && !same);
        }
    } while (advance(p, v));
}

static void test_budget_is_used_up_within_the_rules(void **state)
{
    pol_context *ctx = *state;
    toy_random rnd = {.seed = 11};
    int done = 0, refused = 0, off = 0;
    for (int t = 0; t < 20000; t++) {
        problem p;
        random_problem(ctx, &rnd, &p);
        int64_t count[MAX_BLOCKS] = {0};
        bool any, larger;
        const pol_status budget = pol_budget_check(p.u, p.r.granularity, &p.r.budget);
        const pol_status s = pol_shape_round(&p.r, p.want, count);
        assert_int_equal(pol_shape_check(&p.r), s);
        look_at_all(&p, count, &any, &larger);
        if (s == POL_OK) {
            assert_true(good(&p, count));
            assert_true(within(&p, count));
            assert_false(larger);
            done++;
            for (int32_t i = 0; i < p.n; i++)
                off += !on_level(&p, i, count[i]);
        } else if (budget == POL_OK) {
            assert_int_equal(s, POL_ELIMIT);
            assert_false(any);
            refused++;
        } else {
            assert_int_equal(s, budget);
        }
        end_problem(&p);
    }
    assert_true(done > 7000 && refused > 2500 && off > 900);
}

/* With units of one cost and no levels: the vector on the budget that is nearest to the shifted `want`. */
static void test_nearest_counts_are_taken(void **state)
{
    pol_context *ctx = *state;
    toy_random rnd = {.seed = 12};
    for (int t = 0; t < 300; t++) {
        problem p = {.u = toy_units(ctx, 3, 1, 6), .n = 6};
        p.r = (pol_shape_rules){.units = p.u,
                                .granularity = POL_CHANNELS,
                                .budget.keep = {1, 0.3 + 0.4 * toy_uniform(&rnd)},
                                .align_channels = 1};
        const double total = limit(&p, 1);
        double sum = 0, want[6];
        for (int i = 0; i < 6; i++)
            want[i] = i < 3 ? 1 : 1.5 + 3 * toy_uniform(&rnd);
        for (int i = 3; i < 6; i++)
            sum += want[i];
        int64_t count[6], v[6] = {0};
        assert_ok(ctx, pol_shape_round(&p.r, want, count));
        bool inside = true;
        for (int i = 3; i < 6; i++) {
            want[i] += (total - sum) / 3;
            inside = inside && want[i] > 0 && want[i] < 6;
        }
        double best = INFINITY, got = 0;
        for (int i = 3; i < 6; i++)
            got += ((double)count[i] - want[i]) * ((double)count[i] - want[i]);
        do {
            double d = 0;
            for (int i = 3; i < 6; i++)
                d += ((double)v[i] - want[i]) * ((double)v[i] - want[i]);
            if ((double)(v[3] + v[4] + v[5]) == total)
                best = fmin(best, d);
        } while (advance(&p, v));
        assert_true(!inside || got < best + 1e-9);
        end_problem(&p);
    }
}

/* ---- by hand ---- */

static void check_round(pol_context *ctx, const pol_shape_rules *r, const double *want, const int64_t *expected)
{
    int64_t count[MAX_BLOCKS];
    assert_ok(ctx, pol_shape_round(r, want, count));
    for (int32_t i = 0; i < 2 * r->units->n_layers; i++)
        assert_int_equal(count[i], expected[i]);
}

static void test_by_hand(void **state)
{
    pol_context *ctx = *state;
    pol_units *u = toy_units(ctx, 3, 2, 10);
    pol_shape_rules r = {
        .units = u, .granularity = POL_HEADS | POL_CHANNELS, .budget.keep = {0.67, 0.5}, .align_channels = 1};
    /* 4 groups, 15 channels. Ties go to the lower index. */
    check_round(ctx, &r, (double[]){1, 1, 1, 5, 5, 5}, (int64_t[]){2, 1, 1, 5, 5, 5});
    check_round(ctx, &r, (double[]){1.2, 1.5, 1.3, 4.5, 4.4, 6.1}, (int64_t[]){1, 2, 1, 5, 4, 6});
    /* Far below, far above: a share of each block is added or taken, within its bounds. */
    check_round(ctx, &r, (double[]){-9, -9, -9, 1, 2, 3}, (int64_t[]){2, 1, 1, 4, 5, 6});
    check_round(ctx, &r, (double[]){9, 9, 9, 40, 9, 8}, (int64_t[]){2, 1, 1, 10, 3, 2});
    r.min_channels = 4;
    check_round(ctx, &r, (double[]){1, 1, 2, 40, 0, 1}, (int64_t[]){1, 1, 2, 7, 4, 4});
    /* Multiples of 4, or all: 12, and 3 that no block can take up. */
    r.min_channels = 0;
    r.align_channels = 4;
    check_round(ctx, &r, (double[]){1, 1, 2, 9, 3, 3}, (int64_t[]){1, 1, 2, 10, 4, 0});
    check_round(ctx, &r, (double[]){1, 1, 2, 5, 5, 5}, (int64_t[]){1, 1, 2, 4, 4, 4});
    pol_units_free(u);
}

static void test_rest_goes_to_one_block(void **state)
{
    pol_context *ctx = *state;
    pol_units *u = toy_units(ctx, 3, 2, 10);
    const int64_t groups[] = {0, 1, 2}, channels[] = {0, 4, 8, 10};
    const int64_t *level[] = {groups, groups, groups, channels, channels, channels};
    const int64_t n_levels[] = {3, 3, 3, 4, 4, 4}, at_most[] = {2, 1, 1, 8, 7, 8};
    pol_shape_rules r = {.units = u,
                         .granularity = POL_HEADS | POL_CHANNELS,
                         .budget.keep = {0.67, 0.5},
                         .align_channels = 1,
                         .level = level,
                         .n_levels = n_levels};
    check_round(ctx, &r, (double[]){2, 1, 1, 3.9, 7.1, 4}, (int64_t[]){2, 1, 1, 4, 7, 4});
    /* The step of 2 fits, those of 4 do not; of what is left the one with most of its step missing has it. */
    check_round(ctx, &r, (double[]){2, 1, 1, 8, 4.4, 2.6}, (int64_t[]){2, 1, 1, 10, 4, 1});
    /* Within a larger model, whose own odd count is as good as a level. */
    r.at_most = at_most;
    check_round(ctx, &r, (double[]){2, 1, 1, 4, 7.1, 4}, (int64_t[]){2, 1, 1, 4, 7, 4});
    r.budget.keep[1] = 0.4;
    check_round(ctx, &r, (double[]){2, 1, 1, 4, 9, 0}, (int64_t[]){2, 1, 1, 5, 7, 0});
    pol_units_free(u);
}

/* 6 groups of 192 parameters and 30 channels of 24: 1872 in all. */
static void test_joint_by_hand(void **state)
{
    pol_context *ctx = *state;
    pol_units *u = toy_units(ctx, 3, 2, 10);
    pol_shape_rules r = {.units = u,
                         .granularity = POL_HEADS | POL_CHANNELS,
                         .budget = {.mode = POL_BUDGET_JOINT, .keep_params = 0.5},
                         .align_channels = 1};
    assert_int_equal(pol_mask_params(u, NULL), 6 * TOY_GROUP + 30 * TOY_CHANNEL);
    /* 936: three groups leave 360, which are 15 channels. */
    check_round(ctx, &r, (double[]){1, 1, 1, 5, 5, 5}, (int64_t[]){1, 1, 1, 5, 5, 5});
    /* Two groups leave 23 channels. */
    check_round(ctx, &r, (double[]){1, 0, 1, 8, 7, 8}, (int64_t[]){1, 0, 1, 8, 7, 8});
    /* Heads alone: the channels, 720, stay, and one group fits. */
    r.granularity = POL_HEADS;
    check_round(ctx, &r, (double[]){0, 0, 1, 8, 7, 8}, (int64_t[]){0, 0, 1, 10, 10, 10});
    pol_units_free(u);
}

static void test_refusals(void **state)
{
    pol_context *ctx = *state;
    pol_units *u = toy_units(ctx, 2, 2, 10);
    const pol_shape_rules plain = {
        .units = u, .granularity = POL_HEADS | POL_CHANNELS, .budget.keep = {0.5, 0.5}, .align_channels = 1};
    pol_shape_rules r = plain;
    assert_ok(ctx, pol_shape_check(&r));
    r.min_channels = 6;
    assert_fails(ctx, pol_shape_check(&r), POL_ELIMIT,
                 "the budget leaves 10 channels, but floors, alignment and granularity keep 12");
    r.min_channels = 0;
    r.budget.keep[0] = 0.1;
    assert_fails(ctx, pol_shape_check(&r), POL_ELIMIT, "keep of heads is 0.1: keeps none of 4");
    r = plain;
    r.granularity = POL_BLOCKS;
    assert_fails(ctx, pol_shape_check(&r), POL_EARG, "neither heads nor channels");
    r = plain;
    r.align_channels = 0;
    assert_fails(ctx, pol_shape_check(&r), POL_EARG, "align_channels: 0 is below 1");
    r = plain;
    r.min_groups = -1;
    assert_fails(ctx, pol_shape_check(&r), POL_EARG, "min_groups: -1 is negative");
    r = plain;
    const int64_t at_most[] = {2, 2, 10, 3}, negative[] = {2, -1, 10, 3};
    r.at_most = at_most;
    r.min_channels = 4;
    assert_fails(ctx, pol_shape_check(&r), POL_ELIMIT,
                 "channels of layer 1: at least 4 have to stay, but the larger model has 3");
    r.at_most = negative;
    assert_fails(ctx, pol_shape_check(&r), POL_EARG, "at_most of block 1: -1 is negative");
    r = plain;
    const int64_t groups[] = {0, 1, 2}, bad[][4] = {{0, 4, 4, 10}, {0, 4, 8, 9}, {1, 4, 8, 10}, {0, 3, 8, 10}};
    const int64_t n_levels[] = {3, 3, 4, 4};
    r.n_levels = n_levels;
    r.align_channels = 4;
    for (int i = 0; i < 4; i++) {
        const int64_t *level[] = {groups, groups, bad[i], bad[i]};
        r.level = level;
        assert_fails(ctx, pol_shape_check(&r), POL_EARG, "levels of channels of layer 0 do not rise from 0 to 10");
    }
    r = plain;
    int64_t count[4];
    const double want[] = {1, NAN, 5, 5};
    assert_fails(ctx, pol_shape_round(&r, want, count), POL_ENUMERIC, "count of block 1 is not a number");
    pol_units_free(u);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, toy_setup, toy_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_budget_is_used_up_within_the_rules),
        TEST(test_nearest_counts_are_taken),
        TEST(test_by_hand),
        TEST(test_rest_goes_to_one_block),
        TEST(test_joint_by_hand),
        TEST(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
