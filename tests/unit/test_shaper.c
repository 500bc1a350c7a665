/* test_shaper.c - the policy over counts finds what it should, within the budget, and goes on as if it never stopped.
 */
#include "core/base/base.h"
#include "core/learn/evolve.h"
#include "tests/unit/shaper_toy.h"

static void run(shaper_toy *t, pol_shaper *a, int64_t to)
{
    while (pol_shaper_next(a) < to)
        assert_ok(t->u->ctx, pol_shaper_step(a, NULL));
}

static void end(shaper_toy *t, pol_shaper *a)
{
    pol_shaper_free(a);
    pol_units_free(t->u);
}

/* ---- toys with a known best ---- */

/* Counts within one unit, or `within` of the block, of the best. */
static void check_near(shaper_toy *t, pol_shaper *a, const double *best, double within)
{
    int64_t count[TOY_BLOCKS];
    pol_shaper_counts(a, count);
    for (int32_t i = 0; i < t->n; i++)
        assert_near(count[i], best[i], fmax(1.0, within * (double)toy_units_of(t, i)));
}

/* From one end of what the budget allows to the other. */
static void test_separable_quadratic(void **state)
{
    static const double goal[8] = {1, 2, 5, 8, 20, 60, 85, 35}, start[8] = {8, 6, 1, 1, 100, 80, 10, 10};
    for (pol_advantage advantage = POL_ADVANTAGE_RANK; advantage <= POL_ADVANTAGE_NORMALISED; advantage++)
        for (int adapt = 0; adapt < 2; adapt++) {
            shaper_toy t;
            toy_begin(*state, 4, 8, 100, &t);
            memcpy(t.goal, goal, sizeof goal);
            t.noise = 1;
            pol_allocation_settings o = toy_settings(16, 120);
            o.advantage = advantage;
            o.adapt_spread = adapt;
            pol_shaper *a = toy_shaper(&t, &o, start);
            run(&t, a, o.steps);
            check_near(&t, a, goal, 0.03);
            end(&t, a);
        }
}

/* Super-additive damage; the best shares gone are as 1 / weight, 0.5 on average. */
static void test_super_additive_damage(void **state)
{
    shaper_toy t;
    toy_begin(*state, 4, 10, 100, &t);
    const double weight[4] = {1, 2, 4, 2}, start[8] = {0, 0, 10, 10, 0, 0, 100, 100};
    double best[8], sum = 0;
    t.value = toy_damage;
    t.noise = 1;
    for (int l = 0; l < 4; l++)
        sum += 1.0 / weight[l];
    for (int i = 0; i < 8; i++) {
        t.weight[i] = weight[i % 4];
        best[i] = (double)toy_units_of(&t, i) * (1.0 - 2.0 / weight[i % 4] / sum);
    }
    const pol_allocation_settings o = toy_settings(16, 150);
    pol_shaper *a = toy_shaper(&t, &o, start);
    run(&t, a, o.steps);
    check_near(&t, a, best, 0.04);
    end(&t, a);
}

/* One budget in parameters for both kinds: channels are worth more for what they cost, so groups go. With G = 8 of 192
 * and F = 64 of 24 parameters and a damage of gone^2 a block, the shares gone are as what a block costs: 1, as 1536. */
static void test_joint_budget(void **state)
{
    shaper_toy t;
    toy_begin(*state, 2, 8, 64, &t);
    t.r.budget = (pol_budget){.mode = POL_BUDGET_JOINT, .keep_params = 0.5};
    t.value = toy_damage;
    t.weight[2] = t.weight[3] = 3; /* shares gone: 3/4 of groups, 1/4 of channels */
    const double best[4] = {2, 2, 48, 48}, start[4] = {8, 8, 0, 0};
    const pol_allocation_settings o = toy_settings(16, 150);
    pol_shaper *a = toy_shaper(&t, &o, start);
    run(&t, a, o.steps);
    check_near(&t, a, best, 0.06);
    end(&t, a);
}

/* ---- the budget ---- */

/* Every candidate that was looked at, and the end. */
static void test_every_candidate_is_on_the_budget(void **state)
{
    for (int joint = 0; joint < 2; joint++) {
        shaper_toy t;
        toy_begin(*state, 4, 8, 100, &t);
        t.r.budget.keep[0] = 0.7;
        t.r.budget.keep[1] = 0.33;
        t.r.min_groups = 2;
        t.r.min_channels = 10;
        if (joint)
            t.r.budget = (pol_budget){.mode = POL_BUDGET_JOINT, .keep_params = 0.47};
        const double all = 4 * 8 * TOY_GROUP + 4 * 100 * TOY_CHANNEL;
        t.goal[1] = 0;
        t.goal[6] = 100;
        const pol_allocation_settings o = toy_settings(8, 60);
        pol_shaper *a = toy_shaper(&t, &o, NULL);
        run(&t, a, o.steps);
        pol_shaper_counts(a, t.seen[t.looks++]);
        assert_true(t.looks > 200);
        for (int64_t k = 0; k < t.looks; k++) {
            const int64_t *c = t.seen[k];
            int64_t sum[2] = {0};
            for (int i = 0; i < 8; i++) {
                sum[i / 4] += c[i];
                assert_in_range(c[i], i < 4 ? 2 : 10, toy_units_of(&t, i));
            }
            if (joint) {
                const double left = floor(0.47 * all) - (double)(sum[0] * TOY_GROUP + sum[1] * TOY_CHANNEL);
                assert_true(left >= 0 && left < TOY_CHANNEL);
            } else {
                assert_int_equal(sum[0], 22);
                assert_int_equal(sum[1], 132);
            }
        }
        end(&t, a);
    }
}

static void test_kinds_outside_the_granularity_stay(void **state)
{
    shaper_toy t;
    toy_begin(*state, 3, 8, 20, &t);
    t.r.granularity = POL_HEADS;
    t.goal[0] = 8;
    const pol_allocation_settings o = toy_settings(8, 30);
    pol_shaper *a = toy_shaper(&t, &o, NULL);
    run(&t, a, o.steps);
    for (int64_t k = 0; k < t.looks; k++)
        for (int i = 3; i < 6; i++)
            assert_int_equal(t.seen[k][i], 20);
    pol_allocation_stats stats;
    pol_shaper_stats(a, &stats);
    assert_near(stats.kept[1], 1, 0);
    assert_near(stats.spread[1], 0, 0);
    assert_true(stats.spread[0] > 0);
    end(&t, a);
}

/* ---- the move of the mean ---- */

static double gauss(double x) { return 0.5 * erfc(-x / sqrt(2.0)); }

/* Two layers of channels: a draw is (x, -x), x Gaussian with half the variance, and a pair is counts round(a + x) and
 * round(a - x) of the first. For a pair the ranks are +-1/2, so the expected move is an integral over x; the mean of
 * many first steps must be that, whatever the loss is. */
static void test_expected_move_is_the_integral(void **state)
{
    pol_context *ctx = *state;
    enum { F = 20, TRIALS = 20000 };
    static const double table[F + 1] = {9, 1, 2, 2, 3, 1, 4, 5, 3, 7, 6, 8, 9, 7, 9, 8, 3, 6, 9, 8, 9};
    const double mean = 8.3, sigma = 2.4, rate = 0.8;
    pol_units *u = toy_units(ctx, 2, 1, F);
    const pol_shape_rules r = {.units = u, .granularity = POL_CHANNELS, .budget.keep = {1, 0.5}, .align_channels = 1};
    pol_shape *shape;
    assert_ok(ctx, pol_shape_new(&r, &shape));
    double want = 0, total = 0;
    for (double x = -6 * sigma; x < 6 * sigma; x += 0.001) {
        const double p = gauss((x + 0.001) / (sigma / sqrt(2))) - gauss(x / (sigma / sqrt(2)));
        const double up = fmin(fmax(round(mean + x + 0.0005), 0), F), down = fmin(fmax(round(mean - x - 0.0005), 0), F);
        const double A = table[(int)up] > table[(int)down] ? 0.5 : table[(int)up] < table[(int)down] ? -0.5 : 0.0;
        want -= p * rate * A * (up - down) / 2;
        total += p;
    }
    assert_near(total, 1, 1e-6);
    pol_allocation_settings o = toy_settings(2, TRIALS);
    const double at[4] = {1, 1, mean, F - mean}, sd[4] = {0, 0, sigma, sigma};
    double slope[4], delta[4], target[4], scratch[4], sum = 0, square = 0;
    pol_evolve_slope(shape, at, sd, slope);
    for (int64_t trial = 0; trial < TRIALS; trial++) {
        int64_t count[2][4];
        double loss[2], A[2], move[4];
        pol_evolve_draw(shape, &o, trial, 0, sd, slope, delta);
        assert_near(delta[2] + delta[3], 0, 1e-12);
        for (int k = 0; k < 2; k++) {
            for (int i = 0; i < 4; i++)
                target[i] = at[i] + (k ? -delta[i] : delta[i]);
            pol_shape_fill(shape, target, scratch, count[k]);
            loss[k] = table[count[k][2]];
        }
        pol_evolve_advantages(POL_ADVANTAGE_RANK, loss, 2, 0, A);
        pol_evolve_move(A, count[0], 2, 4, at, rate, move);
        assert_near(move[0], 0, 0);
        assert_near(move[2] + move[3], 0, 1e-9);
        sum += move[2] / TRIALS;
        square += move[2] * move[2] / TRIALS;
    }
    const double error = sqrt((square - sum * sum) / TRIALS);
    assert_true(fabs(want) > 50 * error); /* scale and sign are seen */
    assert_near(sum, want, 4 * error);
    pol_shape_free(shape);
    pol_units_free(u);
}

/* The first step of the shaper itself, by its parts. */
static void test_a_step_is_its_parts(void **state)
{
    for (int normalised = 0; normalised < 2; normalised++) {
        shaper_toy t;
        toy_begin(*state, 3, 6, 40, &t);
        t.goal[4] = 3;
        t.goal[1] = 6;
        pol_allocation_settings o = toy_settings(6, 10);
        o.advantage = normalised ? POL_ADVANTAGE_NORMALISED : POL_ADVANTAGE_RANK;
        o.adapt_spread = !normalised;
        o.sequences_per_candidate = 2;
        o.learning_rate = 0.5;
        const double start[6] = {3, 2, 4, 20, 25, 15};
        pol_shaper *a = toy_shaper(&t, &o, start);
        toy_state before;
        for (int step = 0; step < 3; step++) {
            toy_copy_state(a, t.n, &before);
            const int64_t first = t.looks;
            pol_step_report report;
            assert_ok(t.u->ctx, pol_shaper_step(a, &report));
            assert_int_equal(t.looks - first, 6); /* none was equal to another */
            double sigma[6], A[6], move[6], factor[2], length = 0, loss = 0, kept = 0, entropy = 0,
                                                       rate = 0.5 * (1 - 0.08 * step);
            pol_shape *shape;
            int64_t count[6][6];
            for (int k = 0; k < 6; k++) {
                memcpy(count[k], t.seen[first + k], sizeof count[k]);
                loss += t.loss[first + k] / 6;
                for (int i = 0; i < 6; i++)
                    kept += (double)count[k][i] * (i < 3 ? TOY_GROUP : TOY_CHANNEL) /
                            (18 * TOY_GROUP + 120 * TOY_CHANNEL) / 6;
            }
            assert_ok(t.u->ctx, pol_shape_new(&t.r, &shape));
            for (int i = 0; i < 6; i++) {
                sigma[i] = before.spread[i] * (1 - 0.07 * step);
                entropy += 0.5 * log(2 * 3.141592653589793 * 2.718281828459045 * sigma[i] * sigma[i]) / 6;
            }
            const double deviation = pol_evolve_deviation(step ? before.s.deviation : -1, t.loss + first, 6);
            pol_evolve_advantages(o.advantage, t.loss + first, 6, deviation, A);
            pol_evolve_move(A, count[0], 6, 6, before.mean, rate, move);
            pol_evolve_widen(shape, A, count[0], 6, before.mean, sigma, factor);
            const pol_allocation_state *s = pol_shaper_state(a);
            assert_near(s->deviation, normalised ? deviation : 0, 1e-15);
            for (int i = 0; i < 6; i++) {
                length += move[i] * move[i] / sigma[i] / sigma[i];
                assert_near(s->mean[i], before.mean[i] + move[i], 1e-9); /* nothing was at a bound */
                assert_near(s->spread[i], before.spread[i] * (normalised ? 1 : factor[i / 3]), 1e-12);
            }
            assert_true(length > 1e-4);
            assert_int_equal(report.step, step);
            assert_near(report.loss, loss, 1e-12);
            assert_near(report.baseline, loss, 1e-12);
            assert_near(report.grad_norm, sqrt(length), 1e-12);
            assert_near(report.learning_rate, rate, 1e-12);
            assert_near(report.kept, kept, 1e-12);
            assert_near(report.mean_entropy, entropy, 1e-9);
            pol_shape_free(shape);
        }
        end(&t, a);
    }
}

static void test_first_spreads(void **state)
{
    shaper_toy t;
    toy_begin(*state, 2, 2, 40, &t);
    const pol_allocation_settings o = toy_settings(2, 10);
    pol_shaper *a = toy_shaper(&t, &o, NULL);
    const pol_allocation_state *s = pol_shaper_state(a);
    assert_near(s->spread[0], 0.6, 0); /* 0.2 of 2 is less */
    assert_near(s->spread[2], 4, 0);
    assert_near(s->mean[0], 1, 1e-12); /* the budget's share */
    assert_near(s->mean[3], 20, 1e-12);
    end(&t, a);
}

/* ---- the parts by hand ---- */

static void test_advantages(void **state)
{
    (void)state;
    const double loss[4] = {3, 1, 2, 9};
    double A[4];
    pol_evolve_advantages(POL_ADVANTAGE_RANK, loss, 4, 0, A);
    const double rank[4] = {2.0 / 3 - 0.5, -0.5, 1.0 / 3 - 0.5, 0.5};
    for (int k = 0; k < 4; k++)
        assert_near(A[k], rank[k], 1e-15);
    pol_evolve_advantages(POL_ADVANTAGE_NORMALISED, loss, 4, 2, A);
    for (int k = 0; k < 4; k++)
        assert_near(A[k], (loss[k] - 3.75) / (2 * sqrt(12)), 1e-15);
    /* Equal losses share their ranks; all equal count for nothing. */
    const double tied[4] = {1, 5, 1, 1}, same[4] = {7, 7, 7, 7};
    pol_evolve_advantages(POL_ADVANTAGE_RANK, tied, 4, 0, A);
    for (int k = 0; k < 4; k++)
        assert_near(A[k], k == 1 ? 0.5 : 1.0 / 3 - 0.5, 1e-15);
    for (pol_advantage kind = POL_ADVANTAGE_RANK; kind <= POL_ADVANTAGE_NORMALISED; kind++) {
        pol_evolve_advantages(kind, same, 4, 0, A);
        for (int k = 0; k < 4; k++)
            assert_near(A[k], 0, 1e-15);
    }
    assert_near(pol_evolve_deviation(-1, loss, 4), sqrt((0.5625 + 7.5625 + 3.0625 + 27.5625) / 4), 1e-12);
    assert_near(pol_evolve_deviation(2, same, 4), 1.8, 1e-12);
    assert_near(pol_evolve_deviation(0, loss, 4), 0.1 * pol_evolve_deviation(-1, loss, 4), 1e-12);
}

static void test_spreads_widen_towards_the_better(void **state)
{
    pol_context *ctx = *state;
    pol_units *u = toy_units(ctx, 2, 1, 20);
    const pol_shape_rules r = {.units = u, .granularity = POL_CHANNELS, .budget.keep = {1, 0.5}, .align_channels = 1};
    pol_shape *shape;
    assert_ok(ctx, pol_shape_new(&r, &shape));
    const double mean[4] = {1, 1, 10, 10}, sigma[4] = {0, 0, 2, 4}, A[2] = {0.5, -0.5};
    const int64_t count[2][4] = {{1, 1, 14, 6}, {1, 1, 10, 10}};
    double factor[2];
    /* Candidate 0 lies (2, 1) standard deviations off and is worse: mean over k and blocks of A z^2 is 2.5 / 4. */
    pol_evolve_widen(shape, A, count[0], 2, mean, sigma, factor);
    assert_near(factor[0], 1, 0);
    assert_near(factor[1], exp(-0.15 * 0.625), 1e-12);
    pol_shape_free(shape);
    pol_units_free(u);
}

/* Draws: of one cost, with the variance that this condition leaves, the same again for the same step and pair. */
static void test_draws(void **state)
{
    pol_context *ctx = *state;
    enum { TRIALS = 20000 };
    pol_units *u = toy_units(ctx, 2, 8, 64);
    const pol_shape_rules r = {.units = u,
                               .granularity = POL_HEADS | POL_CHANNELS,
                               .budget = {.mode = POL_BUDGET_JOINT, .keep_params = 0.5},
                               .align_channels = 1};
    pol_shape *shape;
    assert_ok(ctx, pol_shape_new(&r, &shape));
    const pol_allocation_settings o = toy_settings(4, TRIALS);
    const double mean[4] = {4, 4, 32, 32}, sigma[4] = {1, 2, 6, 3};
    double slope[4], first[4], delta[4], square[4] = {0}, cross = 0, all = 0;
    pol_evolve_slope(shape, mean, sigma, slope);
    for (int i = 0; i < 4; i++) {
        assert_near(slope[i], i < 2 ? TOY_GROUP : TOY_CHANNEL, 1e-9);
        all += slope[i] * slope[i] * sigma[i] * sigma[i];
    }
    for (int64_t step = 0; step < TRIALS / 2; step++)
        for (int32_t pair = 0; pair < 2; pair++) {
            double cost = 0;
            pol_evolve_draw(shape, &o, step, pair, sigma, slope, delta);
            for (int i = 0; i < 4; i++) {
                cost += slope[i] * delta[i];
                square[i] += delta[i] * delta[i] / TRIALS;
            }
            assert_near(cost, 0, 1e-9);
            if (pair == 0)
                memcpy(first, delta, sizeof first);
            cross += delta[1] * first[1] * pair / (TRIALS / 2);
        }
    for (int i = 0; i < 4; i++) {
        const double variance = sigma[i] * sigma[i] * (1 - slope[i] * slope[i] * sigma[i] * sigma[i] / all);
        assert_near(square[i], variance, 0.05 * variance);
    }
    assert_near(cross, 0, 0.05); /* pairs are independent */
    pol_evolve_draw(shape, &o, TRIALS / 2 - 1, 1, sigma, slope, first);
    assert_memory_equal(first, delta, sizeof first);
    pol_shape_free(shape);
    pol_units_free(u);
}

/* Of a table that is not linear, one standard deviation to both sides within the bounds. */
static void test_slopes(void **state)
{
    pol_context *ctx = *state;
    pol_units *u = toy_units(ctx, 1, 8, 8);
    const pol_config c = toy_config(1, 8, 8);
    pol_cost *cost;
    const pol_cost_options options = {.embeddings = false};
    assert_ok(ctx, pol_cost_new(ctx, u, &c, POL_PARAMS, &options, &cost));
    for (int64_t n = 0; n <= 8; n++)
        cost->table[cost->first[1] + n] = (double)(n * n);
    cost->dense = pol_cost_mask(cost, NULL);
    const pol_shape_rules r = {.units = u,
                               .granularity = POL_CHANNELS,
                               .budget = {.mode = POL_BUDGET_JOINT, .cost = cost, .limit = cost->dense - 20},
                               .align_channels = 1};
    pol_shape *shape;
    assert_ok(ctx, pol_shape_new(&r, &shape));
    double slope[2];
    pol_evolve_slope(shape, (double[]){8, 4}, (double[]){0, 2}, slope);
    assert_near(slope[0], 0, 0);
    assert_near(slope[1], (36.0 - 4.0) / 4, 1e-12);
    pol_evolve_slope(shape, (double[]){8, 7}, (double[]){0, 3}, slope);
    assert_near(slope[1], (64.0 - 16.0) / 4, 1e-12);
    pol_shape_free(shape);
    pol_cost_free(cost);
    pol_units_free(u);
}

static void test_probability(void **state)
{
    (void)state;
    /* Ranks 0..9 of a block of 10: the expected count is the sum. */
    double sum = 0;
    for (int64_t rank = 0; rank < 10; rank++)
        sum += pol_allocation_probability(5, 1.2, rank);
    assert_near(sum, 5, 1e-4);
    assert_near(pol_allocation_probability(5, 1.2, 5), gauss(-0.5 / 1.2), 1e-12);
    assert_near(pol_allocation_probability(5, 1.2, 4), gauss(0.5 / 1.2), 1e-12);
    assert_near(pol_allocation_probability(5, 0, 4), 1, 0);
    assert_near(pol_allocation_probability(5, 0, 5), 0, 0);
}

/* ---- equal candidates ---- */

/* Few counts are possible, so candidates are often equal: none is looked at twice in a step, and where all are, nothing
 * moves. */
static void test_equal_candidates_are_looked_at_once(void **state)
{
    shaper_toy t;
    toy_begin(*state, 2, 2, 3, &t);
    t.goal[0] = 2;
    t.goal[1] = 0;
    pol_allocation_settings o = toy_settings(16, 40);
    pol_shaper *a = toy_shaper(&t, &o, NULL);
    int64_t saved = 0;
    for (int64_t step = 0; step < o.steps; step++) {
        const int64_t first = t.looks;
        assert_ok(t.u->ctx, pol_shaper_step(a, NULL));
        for (int64_t j = first; j < t.looks; j++)
            for (int64_t k = first; k < j; k++)
                assert_memory_not_equal(t.seen[j], t.seen[k], 4 * sizeof(int64_t));
        pol_allocation_stats stats;
        pol_shaper_stats(a, &stats);
        assert_int_equal(stats.candidates[0], 16);
        assert_int_equal(stats.candidates[1], t.looks - first);
        saved += 16 - (t.looks - first);
    }
    assert_true(saved > 200);
    const double best[4] = {2, 0, 1.5, 1.5};
    check_near(&t, a, best, 0);
    int64_t count[4];
    pol_shaper_counts(a, count);
    assert_int_equal(count[0], 2);
    end(&t, a);
}

/* The one that stands for others stands for them with its loss and with the same weight. */
static void test_equal_candidates_count(void **state)
{
    shaper_toy t;
    toy_begin(*state, 2, 1, 4, &t);
    t.r.granularity = POL_CHANNELS;
    t.goal[2] = 4;
    t.goal[3] = 0;
    pol_allocation_settings o = toy_settings(16, 10);
    o.spread_channels = 0.5;
    o.adapt_spread = false;
    o.learning_rate = 0.1;
    pol_shaper *a = toy_shaper(&t, &o, NULL);
    /* The draws again, each counted. */
    pol_shape *shape;
    assert_ok(t.u->ctx, pol_shape_new(&t.r, &shape));
    const double mean[4] = {1, 1, 2, 2}, sigma[4] = {0, 0, 2, 2};
    double slope[4], delta[4], want[4], scratch[4], loss[16], A[16], move[4];
    int64_t count[16][4];
    pol_evolve_slope(shape, mean, sigma, slope);
    for (int k = 0; k < 16; k++) {
        pol_evolve_draw(shape, &o, 0, k / 2, sigma, slope, delta);
        for (int i = 0; i < 4; i++)
            want[i] = mean[i] + (k % 2 ? -delta[i] : delta[i]);
        pol_shape_fill(shape, want, scratch, count[k]);
        loss[k] = toy_quadratic(&t, count[k], 0);
    }
    pol_evolve_advantages(POL_ADVANTAGE_RANK, loss, 16, 0, A);
    pol_evolve_move(A, count[0], 16, 4, mean, 0.1, move);
    assert_ok(t.u->ctx, pol_shaper_step(a, NULL));
    assert_true(t.looks < 8);
    assert_true(move[2] > 0.02);
    assert_near(pol_shaper_state(a)->mean[2], 2 + move[2], 1e-9);
    pol_shape_free(shape);
    end(&t, a);
}

/* ---- going on, and failing ---- */

static void test_resumed_run_is_the_same(void **state)
{
    for (pol_advantage advantage = POL_ADVANTAGE_RANK; advantage <= POL_ADVANTAGE_NORMALISED; advantage++) {
        static shaper_toy t, again;
        toy_begin(*state, 3, 6, 40, &t);
        toy_begin(*state, 3, 6, 40, &again);
        t.goal[4] = again.goal[4] = 3;
        t.noise = again.noise = 0.3;
        pol_allocation_settings o = toy_settings(8, 50);
        o.advantage = advantage;
        pol_shaper *a = toy_shaper(&t, &o, NULL), *b = toy_shaper(&again, &o, NULL);
        toy_state s;
        run(&again, b, 23);
        toy_copy_state(b, again.n, &s);
        pol_shaper_free(b);
        b = toy_shaper(&again, &o, NULL);
        assert_ok(again.u->ctx, pol_shaper_set(b, &s.s));
        run(&again, b, o.steps);
        run(&t, a, o.steps);
        assert_int_equal(t.looks, again.looks);
        assert_memory_equal(t.seen, again.seen, sizeof t.seen);
        assert_memory_equal(t.index, again.index, sizeof t.index);
        toy_copy_state(b, again.n, &s);
        toy_same_state(a, t.n, &s);
        assert_fails(t.u->ctx, pol_shaper_step(a, NULL), POL_EARG, "all 50 steps are done");
        end(&t, a);
        end(&again, b);
    }
}

static void test_all_candidates_share_their_sequences(void **state)
{
    shaper_toy t;
    toy_begin(*state, 3, 6, 40, &t);
    pol_allocation_settings o = toy_settings(8, TOY_SEQUENCES);
    pol_shaper *a = toy_shaper(&t, &o, NULL);
    bool used[TOY_SEQUENCES] = {false};
    while (pol_shaper_next(a) < o.steps) {
        const int64_t first = t.looks;
        assert_ok(t.u->ctx, pol_shaper_step(a, NULL));
        for (int64_t k = first; k < t.looks; k++)
            assert_int_equal(t.index[k], t.index[first]);
        assert_false(used[t.index[first]]); /* each once an epoch */
        used[t.index[first]] = true;
    }
    end(&t, a);
}

/* A step that fails, in any place, leaves the state as it was, and what was asked for is dropped where answers are not
 * there; done again it gives what it would have given. */
static void check_failed_step(pol_context *ctx, void (*spoil)(shaper_toy *), pol_status code, const char *message,
                              int64_t dropped)
{
    static shaper_toy t, plain;
    const pol_allocation_settings o = toy_settings(8, 20);
    toy_begin(ctx, 3, 6, 40, &t);
    toy_begin(ctx, 3, 6, 40, &plain);
    pol_shaper *a = toy_shaper(&t, &o, NULL), *b = toy_shaper(&plain, &o, NULL);
    toy_state before, after;
    run(&t, a, 4);
    toy_copy_state(a, t.n, &before);
    t.looks = 0;
    spoil(&t);
    pol_step_report report = {.step = -7};
    assert_fails(ctx, pol_shaper_step(a, &report), code, message);
    assert_int_equal(report.step, -7);
    assert_int_equal(t.dropped, dropped);
    toy_same_state(a, t.n, &before);
    t.fail_look = t.stop_look = t.spoil_look = -1;
    t.fail_settle = false;
    pol_context_resume(ctx);
    run(&t, a, o.steps);
    run(&plain, b, o.steps);
    toy_copy_state(b, plain.n, &after);
    toy_same_state(a, t.n, &after);
    end(&t, a);
    end(&plain, b);
}

static void fail_first(shaper_toy *t) { t->fail_look = 0; }
static void fail_fifth(shaper_toy *t) { t->fail_look = 4; }
static void fail_settle(shaper_toy *t) { t->fail_settle = true; }
static void stop_third(shaper_toy *t) { t->stop_look = 2; }
static void spoil_sixth(shaper_toy *t) { t->spoil_look = 5; }

static void test_failed_steps(void **state)
{
    check_failed_step(*state, fail_first, POL_EDEVICE, "the device is gone", 1);
    check_failed_step(*state, fail_fifth, POL_EDEVICE, "the device is gone", 1);
    check_failed_step(*state, fail_settle, POL_EDEVICE, "nothing settles", 1);
    check_failed_step(*state, stop_third, POL_EINTERRUPTED, "", 1);
    check_failed_step(*state, spoil_sixth, POL_ENUMERIC, "step 4, candidate 5, sequence ", 0);
}

static void test_lost_loss_names_its_sequence(void **state)
{
    shaper_toy t;
    toy_begin(*state, 3, 6, 40, &t);
    pol_allocation_settings o = toy_settings(8, 20);
    o.sequences_per_candidate = 3;
    pol_shaper *a = toy_shaper(&t, &o, NULL);
    const pol_deck_settings ds = {.seed = o.seed, .steps = 20, .masks = 8, .sequences = 3, .shared = true};
    pol_deck *deck;
    int64_t index[3];
    char message[96];
    assert_ok(t.u->ctx, pol_deck_new(t.u->ctx, &ds, TOY_SEQUENCES, &deck));
    assert_ok(t.u->ctx, pol_deck_draw(deck, 0, 0, index));
    t.spoil_look = 2;
    snprintf(message, sizeof message, "step 0, candidate 2, sequence %lld: loss is inf", (long long)index[2]);
    assert_fails(t.u->ctx, pol_shaper_step(a, NULL), POL_ENUMERIC, message);
    pol_deck_free(deck);
    end(&t, a);
}

static pol_status look_away(void *user, const int64_t *count, const int64_t *index, int64_t n, double *loss)
{
    (void)user, (void)count, (void)index, (void)n, (void)loss;
    return POL_OK;
}

/* Settle and drop may be absent; a loss that nobody fills in is not an old one. */
static void test_loss_not_filled_in(void **state)
{
    shaper_toy t;
    toy_begin(*state, 2, 4, 10, &t);
    const pol_allocation_settings o = toy_settings(4, 5);
    const pol_allocation_losses losses = {.look = look_away};
    pol_shaper *a;
    assert_ok(t.u->ctx, pol_shaper_new(t.u->ctx, &o, &t.r, NULL, TOY_SEQUENCES, &losses, &a));
    assert_fails(t.u->ctx, pol_shaper_step(a, NULL), POL_ENUMERIC, "candidate 0");
    end(&t, a);
}

/* ---- refusals ---- */

static void test_settings_are_checked(void **state)
{
    pol_context *ctx = *state;
    const pol_allocation_settings good = toy_settings(4, 10);
    assert_ok(ctx, pol_allocation_check(ctx, &good));
#define REFUSED(change, message)                                             \
    do {                                                                     \
        pol_allocation_settings o = good;                                    \
        o.change;                                                            \
        assert_fails(ctx, pol_allocation_check(ctx, &o), POL_EARG, message); \
    } while (0)
    REFUSED(candidates = 5, "candidates: 5 is odd");
    REFUSED(candidates = 0, "candidates: 0 is outside");
    REFUSED(candidates = 1 << 20, "candidates: 1048576 is outside");
    REFUSED(sequences_per_candidate = 0, "sequences_per_candidate: 0");
    REFUSED(advantage = (pol_advantage)2, "advantage: 2");
    REFUSED(spread_channels = 0, "spread_channels: 0");
    REFUSED(spread_channels = 1.5, "spread_channels: 1.5");
    REFUSED(spread_groups = NAN, "spread_groups: nan");
    REFUSED(spread_least = -1, "spread_least: -1");
    REFUSED(spread_least = INFINITY, "spread_least: inf");
    REFUSED(spread_end = 0, "spread_end: 0");
    REFUSED(learning_rate = 0, "learning_rate: 0");
    REFUSED(learning_rate = INFINITY, "learning_rate: inf");
    REFUSED(steps = 0, "steps: 0");
    REFUSED(steps = INT64_MAX, "steps: 9223372036854775807");
#undef REFUSED
}

static void test_starts_are_checked(void **state)
{
    pol_context *ctx = *state;
    shaper_toy t;
    toy_begin(ctx, 2, 4, 10, &t);
    pol_allocation_settings o = toy_settings(4, 10);
    const pol_allocation_losses losses = {.look = toy_look, .user = &t};
    pol_shaper *a;
    const double start[4] = {2, 2, NAN, 5};
    assert_fails(ctx, pol_shaper_new(ctx, &o, &t.r, start, TOY_SEQUENCES, &losses, &a), POL_EARG, "start of block 2");
    assert_null(a);
    o.sequences_per_candidate = TOY_SEQUENCES + 1;
    assert_fails(ctx, pol_shaper_new(ctx, &o, &t.r, NULL, TOY_SEQUENCES, &losses, &a), POL_EARG, "calibration set");
    o.sequences_per_candidate = 1;
    const pol_deck_part part = {.n = 3, .weight = 1};
    o.parts = &part;
    o.n_parts = 1;
    assert_fails(ctx, pol_shaper_new(ctx, &o, &t.r, NULL, TOY_SEQUENCES, &losses, &a), POL_EARG, "3 of the 24");
    o.candidates = 3;
    assert_fails(ctx, pol_shaper_new(ctx, &o, &t.r, NULL, TOY_SEQUENCES, &losses, &a), POL_EARG, "3 is odd");
    o = toy_settings(4, 10);
    t.r.min_channels = 6;
    assert_fails(ctx, pol_shaper_new(ctx, &o, &t.r, NULL, TOY_SEQUENCES, &losses, &a), POL_ELIMIT, "keep 12");
    pol_units_free(t.u);
}

static void test_states_are_checked(void **state)
{
    pol_context *ctx = *state;
    for (int adapt = 0; adapt < 2; adapt++) {
        shaper_toy t;
        toy_begin(ctx, 2, 4, 10, &t);
        t.r.min_channels = 1;
        pol_allocation_settings o = toy_settings(4, 10);
        o.adapt_spread = adapt;
        pol_shaper *a = toy_shaper(&t, &o, NULL);
        toy_state good, s;
        toy_copy_state(a, t.n, &good);
#define REFUSED(change, message)                                       \
    do {                                                               \
        s = good;                                                      \
        s.s.mean = s.mean;                                             \
        s.s.spread = s.spread;                                         \
        s.change;                                                      \
        assert_fails(ctx, pol_shaper_set(a, &s.s), POL_EARG, message); \
        toy_same_state(a, t.n, &good);                                 \
    } while (0)
        REFUSED(s.next = -1, "step -1 is outside 0..10");
        REFUSED(s.next = 11, "step 11 is outside 0..10");
        REFUSED(s.deviation = -1, "a deviation of -1");
        REFUSED(s.deviation = INFINITY, "a deviation of inf");
        REFUSED(mean[0] = 4.5, "a mean of 4.5 heads in layer 0, where 0 to 4 can be");
        REFUSED(mean[3] = 0.5, "a mean of 0.5 channels in layer 1, where 1 to 10 can be");
        REFUSED(mean[3] = NAN, "a mean of nan");
        REFUSED(spread[2] = 0, "a spread of 0 channels in layer 0, which began as 1");
        REFUSED(spread[2] = adapt ? 4.01 : 1.01, "channels in layer 0, which began as 1");
        REFUSED(spread[2] = adapt ? 0.24 : 0.99, "channels in layer 0, which began as 1");
        REFUSED(spread[2] = NAN, "a spread of nan");
#undef REFUSED
        s = good;
        s.s.mean = s.mean;
        s.s.spread = s.spread;
        s.s.next = 10;
        s.mean[2] = 1;
        if (adapt)
            s.spread[2] = 4;
        assert_ok(ctx, pol_shaper_set(a, &s.s));
        toy_same_state(a, t.n, &s);
        end(&t, a);
    }
}

/* A spread that pays goes no further than its bound, either way: a state that can be gone on with. */
static void test_adapted_spreads_stay_within_their_range(void **state)
{
    for (int far = 0; far < 2; far++) {
        static shaper_toy t;
        toy_begin(*state, 4, 8, 100, &t);
        for (int i = 0; i < 8; i++)
            t.weight[i] = i < 4 ? 0 : far ? -1 : 1; /* the further from the middle the better, or the worse */
        pol_allocation_settings o = toy_settings(8, 300);
        o.learning_rate = 1e-6;
        o.spread_channels = 0.03;
        o.spread_least = 0;
        pol_shaper *a = toy_shaper(&t, &o, NULL);
        for (int64_t step = 0; step < o.steps; step++) {
            t.looks = 0;
            assert_ok(t.u->ctx, pol_shaper_step(a, NULL));
        }
        const pol_allocation_state *s = pol_shaper_state(a);
        assert_near(s->spread[4], far ? 12 : 0.75, far ? 1e-9 : 1.0);
        toy_state copy;
        toy_copy_state(a, t.n, &copy);
        assert_ok(t.u->ctx, pol_shaper_set(a, &copy.s));
        end(&t, a);
    }
}

static void test_stats(void **state)
{
    shaper_toy t;
    toy_begin(*state, 2, 4, 10, &t);
    const pol_allocation_settings o = toy_settings(4, 10);
    const double start[4] = {1, 3, 8, 2};
    pol_shaper *a = toy_shaper(&t, &o, start);
    pol_allocation_stats s;
    pol_shaper_stats(a, &s);
    assert_near(s.kept[0], 0.5, 1e-9);
    assert_near(s.kept[1], 0.5, 1e-9);
    assert_near(s.least[0], 0.25, 1e-9);
    assert_near(s.most[0], 0.75, 1e-9);
    assert_near(s.least[1], 0.2, 1e-9);
    assert_near(s.most[1], 0.8, 1e-9);
    assert_near(s.spread[0], 0.2, 1e-12);
    assert_near(s.spread[1], 0.1, 1e-12);
    assert_int_equal(s.candidates[0], 0);
    toy_state five;
    toy_copy_state(a, t.n, &five);
    five.s.next = 5;
    assert_ok(t.u->ctx, pol_shaper_set(a, &five.s));
    pol_shaper_stats(a, &s);
    assert_near(s.spread[1], 0.1 * 0.65, 1e-12);
    end(&t, a);
}

/* ---- shared sequences ---- */

/* The same toy with sequences that differ in how hard they are, seen by all candidates of a step or by one alone. */
static void test_shared_sequences_cancel(void **state)
{
    double miss[2] = {0};
    for (int own = 0; own < 2; own++)
        for (int seed = 0; seed < 8; seed++) {
            static shaper_toy t;
            static const double goal[8] = {4, 4, 4, 4, 20, 60, 85, 35};
            toy_begin(*state, 4, 8, 100, &t);
            memcpy(t.goal, goal, sizeof goal);
            t.noise = 0.3;
            t.own_sequences = own;
            pol_allocation_settings o = toy_settings(16, 60);
            o.seed = (uint64_t)seed;
            pol_shaper *a = toy_shaper(&t, &o, NULL);
            run(&t, a, o.steps);
            int64_t count[8];
            pol_shaper_counts(a, count);
            t.noise = 0;
            miss[own] += toy_quadratic(&t, count, 0) / 8;
            end(&t, a);
        }
    print_message("        mean miss, shared %.5f, own %.5f\n", miss[0], miss[1]);
    assert_true(miss[0] < 0.3 * miss[1]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, toy_setup, toy_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_separable_quadratic),
        TEST(test_super_additive_damage),
        TEST(test_joint_budget),
        TEST(test_every_candidate_is_on_the_budget),
        TEST(test_kinds_outside_the_granularity_stay),
        TEST(test_expected_move_is_the_integral),
        TEST(test_a_step_is_its_parts),
        TEST(test_first_spreads),
        TEST(test_advantages),
        TEST(test_spreads_widen_towards_the_better),
        TEST(test_draws),
        TEST(test_slopes),
        TEST(test_probability),
        TEST(test_equal_candidates_are_looked_at_once),
        TEST(test_equal_candidates_count),
        TEST(test_resumed_run_is_the_same),
        TEST(test_all_candidates_share_their_sequences),
        TEST(test_failed_steps),
        TEST(test_lost_loss_names_its_sequence),
        TEST(test_loss_not_filled_in),
        TEST(test_settings_are_checked),
        TEST(test_starts_are_checked),
        TEST(test_states_are_checked),
        TEST(test_adapted_spreads_stay_within_their_range),
        TEST(test_stats),
        TEST(test_shared_sequences_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
