/* test_pilot.c - variances out of losses, and what a run makes of them. */
#include "pollard/pilot.h"

#include <math.h>

#include "core/base/base.h"
#include "core/base/rng.h"
#include "pollard/context.h"
#include "tests/test.h"

enum { M = 16, N = 16 };

/* ---- variances ---- */

/* Two masks, three sequences. Means of masks 2 and 4, of sequences 1, 3, 5, residuals +-1, 0, -+1. */
static void test_variances_by_hand(void **state)
{
    pol_context *ctx = *state;
    const double loss[] = {1, 2, 3, 1, 4, 7};
    pol_pilot p = {.pass_seconds = 7, .change_seconds = 5};
    assert_ok(ctx, pol_pilot_variances(ctx, loss, 2, 3, &p));
    /* Mean squares: 6 of masks, 8 of sequences, 2 of the rest. */
    assert_near(p.residual, 2, 1e-12);
    assert_near(p.between_masks, (6.0 - 2.0) / 3.0, 1e-12);
    assert_near(p.between_sequences, (8.0 - 2.0) / 2.0, 1e-12);
    assert_int_equal(p.masks, 2);
    assert_int_equal(p.sequences, 3);
    assert_near(p.pass_seconds, 7, 0);
    assert_near(p.change_seconds, 5, 0);
    /* All masks alike but for the rest: what would be negative is 0. */
    const double crossed[] = {1, -1, -1, 1};
    assert_ok(ctx, pol_pilot_variances(ctx, crossed, 2, 2, &p));
    assert_near(p.residual, 4, 1e-12);
    assert_near(p.between_masks, 0, 0);
    assert_near(p.between_sequences, 0, 0);
}

/* Losses drawn from the model; the mean of many estimates is the truth. Effects are far enough from 0 to never be cut
 * off there. */
static void test_variances_are_unbiased(void **state)
{
    pol_context *ctx = *state;
    enum { TRIALS = 4000, DRAWS = M + N + M * N };
    const double Vm = 0.5, Vs = 2.0, Vr = 0.25;
    double sum[3] = {0}, square[3] = {0};
    for (int t = 0; t < TRIALS; t++) {
        float z[DRAWS];
        double loss[M * N];
        pol_pilot p;
        pol_normal(7, POL_STREAM_TEST, (uint64_t)t, 0, DRAWS, z);
        for (int m = 0; m < M; m++)
            for (int s = 0; s < N; s++)
                loss[m * N + s] = 3.0 + sqrt(Vm) * (double)z[m] + sqrt(Vs) * (double)z[M + s] +
                                  sqrt(Vr) * (double)z[M + N + m * N + s];
        assert_ok(ctx, pol_pilot_variances(ctx, loss, M, N, &p));
        assert_true(p.between_masks > 0 && p.between_sequences > 0);
        const double got[3] = {p.between_masks, p.between_sequences, p.residual};
        for (int i = 0; i < 3; i++) {
            sum[i] += got[i] / TRIALS;
            square[i] += got[i] * got[i] / TRIALS;
        }
    }
    const double truth[3] = {Vm, Vs, Vr};
    for (int i = 0; i < 3; i++) {
        const double error = sqrt((square[i] - sum[i] * sum[i]) / TRIALS);
        assert_near(sum[i], truth[i], 4 * error);
        assert_true(error < 0.01 * truth[i]); /* a divisor of M in place of M - 1 would be 6 % */
    }
}

/* A tall and a wide table: masks and sequences are not mixed up. */
static void test_variances_of_uneven_tables(void **state)
{
    pol_context *ctx = *state;
    const int32_t shape[2][2] = {{5, 40}, {40, 5}};
    for (int t = 0; t < 2; t++) {
        double loss[200], sum[2] = {0};
        for (int trial = 0; trial < 500; trial++) {
            float z[245];
            pol_pilot p;
            pol_normal(8 + (uint64_t)t, POL_STREAM_TEST, (uint64_t)trial, 0, 245, z);
            for (int m = 0; m < shape[t][0]; m++)
                for (int s = 0; s < shape[t][1]; s++)
                    loss[m * shape[t][1] + s] =
                        3.0 * (double)z[m] + (double)z[shape[t][0] + s] + 0.5 * (double)z[45 + m * shape[t][1] + s];
            assert_ok(ctx, pol_pilot_variances(ctx, loss, shape[t][0], shape[t][1], &p));
            sum[0] += p.between_masks / 500;
            sum[1] += p.between_sequences / 500;
        }
        assert_near(sum[0], 9, 1.2);
        assert_near(sum[1], 1, 0.15);
    }
}

static void test_variances_refuse(void **state)
{
    pol_context *ctx = *state;
    double loss[] = {1, 2, 3, 4, 5, 6};
    pol_pilot p;
    assert_fails(ctx, pol_pilot_variances(ctx, loss, 1, 6, &p), POL_EARG, "1 masks on 6 sequences");
    assert_fails(ctx, pol_pilot_variances(ctx, loss, 6, 1, &p), POL_EARG, "6 masks on 1 sequences");
    loss[5] = NAN;
    assert_fails(ctx, pol_pilot_variances(ctx, loss, 2, 3, &p), POL_ENUMERIC, "mask 1, sequence 2: loss is nan");
    loss[5] = INFINITY;
    assert_fails(ctx, pol_pilot_variances(ctx, loss, 2, 3, &p), POL_ENUMERIC, "mask 1, sequence 2: loss is inf");
}

/* ---- the choice ---- */

/* As measured on a small model: a third of a loss's variance is the sequence's own. */
static const pol_pilot small = {.masks = M,
                                .sequences = N,
                                .between_masks = 0.075,
                                .between_sequences = 0.081,
                                .residual = 0.038,
                                .change_seconds = 0.001,
                                .pass_seconds = 0.010};

static pol_pilot_choice choose(pol_context *ctx, const pol_pilot *p, bool allocation, int64_t passes, int64_t variables)
{
    pol_pilot_choice c;
    const pol_pilot_ask ask = {.allocation = allocation, .passes = passes, .variables = variables};
    assert_ok(ctx, pol_pilot_choose(ctx, p, &ask, &c));
    assert_int_equal(c.steps, passes / ((int64_t)c.candidates * c.sequences));
    return c;
}

static void test_sequences_follow_costs(void **state)
{
    pol_context *ctx = *state;
    pol_pilot p = small;
    assert_int_equal(choose(ctx, &p, true, 10000, 60).sequences, 1);
    p.change_seconds = 0.16; /* sqrt(0.507 * 16) = 2.85 */
    assert_int_equal(choose(ctx, &p, true, 10000, 60).sequences, 4);
    p.pass_seconds = 0.0025; /* 5.7 */
    assert_int_equal(choose(ctx, &p, true, 10000, 60).sequences, 8);
    assert_int_equal(choose(ctx, &p, false, 10000, 880).sequences, 8);
    p.pass_seconds = 0.0026; /* 5.58, nearer to 4 */
    assert_int_equal(choose(ctx, &p, true, 10000, 60).sequences, 4);
    p.pass_seconds = 0.0025;
    /* 8 masks and 60 steps have to be possible. */
    assert_int_equal(choose(ctx, &p, true, 8 * 60 * 4, 60).sequences, 4);
    assert_int_equal(choose(ctx, &p, true, 300, 60).sequences, 1);
    pol_pilot_choice c;
    const pol_pilot_ask settled = {.allocation = true, .passes = 64 * 60 * 2, .variables = 60, .candidates = 64};
    assert_ok(ctx, pol_pilot_choose(ctx, &p, &settled, &c));
    assert_int_equal(c.sequences, 2);
    /* Nothing between masks could be seen: as many as can be; nothing to gain: one. */
    p.between_masks = 0.0;
    assert_int_equal(choose(ctx, &p, true, 1000000, 60).sequences, 16);
    p.residual = 0.0;
    assert_int_equal(choose(ctx, &p, true, 1000000, 60).sequences, 1);
    p = small;
    p.change_seconds = 0.0;
    assert_int_equal(choose(ctx, &p, true, 1000000, 60).sequences, 1);
}

static void test_candidates_follow_noise_variables_and_passes(void **state)
{
    pol_context *ctx = *state;
    pol_pilot p = small;
    /* 4 sqrt(10 / 0.664) = 15.5, 4 sqrt(64 / 0.664) = 39 */
    assert_int_equal(choose(ctx, &p, true, 100000, 10).candidates, 16);
    assert_int_equal(choose(ctx, &p, true, 100000, 64).candidates, 32);
    p.residual = 0.75; /* 4 sqrt(64 * 11) = 106 */
    assert_int_equal(choose(ctx, &p, true, 100000, 64).candidates, 128);
    p.between_masks = 0.0;
    assert_int_equal(choose(ctx, &p, true, 1000000, 64).candidates, 256);
    /* Steps first. */
    p = small;
    assert_int_equal(choose(ctx, &p, true, 32 * 120, 64).candidates, 32);
    assert_int_equal(choose(ctx, &p, true, 32 * 120 - 1, 64).candidates, 16);
    assert_int_equal(choose(ctx, &p, true, 300, 64).candidates, 8);
    assert_int_equal(choose(ctx, &p, false, 100000, 880).candidates, 16);
    assert_int_equal(choose(ctx, &p, false, 16 * 60, 880).candidates, 16);
    assert_int_equal(choose(ctx, &p, false, 16 * 60 - 1, 880).candidates, 8);
}

static void test_rates_and_spreads(void **state)
{
    pol_context *ctx = *state;
    pol_pilot p = small;
    pol_pilot_choice c = choose(ctx, &p, false, 10000, 880);
    assert_near(c.learning_rate, 0.06, 1e-12);
    assert_near(c.spread, 0, 0);
    c = choose(ctx, &p, true, 3000, 10); /* 187 steps of 16 */
    assert_near(c.learning_rate, 3, 1e-12);
    assert_near(c.spread, 0.10, 0);
    c = choose(ctx, &p, true, 600, 10); /* 75 steps of 8 */
    assert_near(c.learning_rate, 3 * sqrt(0.5) * sqrt(120.0 / 75.0), 1e-12);
    c = choose(ctx, &p, true, 80, 10); /* 10 steps */
    assert_near(c.learning_rate, 3 * sqrt(0.5) * 2, 1e-12);
    p.residual = 0.076;
    assert_near(choose(ctx, &p, true, 3000, 10).spread, 0.15, 0);
}

static void test_settled_values_stay(void **state)
{
    pol_context *ctx = *state;
    const pol_pilot_ask ask = {.allocation = true,
                               .passes = 3000,
                               .variables = 64,
                               .candidates = 10,
                               .sequences = 5,
                               .learning_rate = 1.25,
                               .spread = 0.03};
    pol_pilot_choice c;
    assert_ok(ctx, pol_pilot_choose(ctx, &small, &ask, &c));
    assert_int_equal(c.candidates, 10);
    assert_int_equal(c.sequences, 5);
    assert_near(c.learning_rate, 1.25, 0);
    assert_near(c.spread, 0.03, 0);
    assert_int_equal(c.steps, 60);
    for (int i = 1; i <= 4; i++)
        assert_non_null(strstr(c.reason[i], "as set"));
    /* Each alone; the others go by it. */
    for (int i = 0; i < 4; i++) {
        const pol_pilot_ask one = {.allocation = true,
                                   .passes = 3000,
                                   .variables = 64,
                                   .candidates = i == 0 ? 10 : 0,
                                   .sequences = i == 1 ? 5 : 0,
                                   .learning_rate = i == 2 ? 1.25 : 0,
                                   .spread = i == 3 ? 0.03 : 0};
        assert_ok(ctx, pol_pilot_choose(ctx, &small, &one, &c));
        assert_int_equal(c.candidates, i == 0 ? 10 : i == 1 ? 8 : 16);
        assert_int_equal(c.sequences, i == 1 ? 5 : 1);
        assert_int_equal(c.steps, i == 0 ? 300 : i == 1 ? 75 : 187);
        const double rate[] = {3 * sqrt(10.0 / 16), 3 * sqrt(0.5) * sqrt(120.0 / 75), 1.25, 3};
        assert_near(c.learning_rate, rate[i], 1e-12);
        assert_near(c.spread, i == 3 ? 0.03 : 0.10, 0);
    }
}

/* The reasons name what was measured and chosen, and end with an empty one. */
static void test_reasons(void **state)
{
    pol_context *ctx = *state;
    pol_pilot p = small;
    p.change_seconds = 0.16;
    const pol_pilot_choice c = choose(ctx, &p, true, 300, 60);
    const char *const parts[] = {"between masks 0.075, between sequences 0.081, residual 0.038",
                                 "1 sequence a mask",
                                 "8 masks a step",
                                 "learning rate 3.82",
                                 "spread 0.1",
                                 "only 37 steps",
                                 ""};
    assert_int_equal(POL_COUNT(parts), POL_PILOT_REASONS);
    for (int i = 0; i < POL_PILOT_REASONS; i++) {
        if (!strstr(c.reason[i], parts[i]))
            fail_msg("reason %d: '%s' lacks '%s'", i, c.reason[i], parts[i]);
        assert_true(strlen(c.reason[i]) < POL_PILOT_TEXT - 1);
    }
    assert_string_equal(c.reason[6], "");
    /* The longest lines that there can be are whole. */
    p = (pol_pilot){.residual = 1.2345e-300,
                    .between_masks = 1.2345e-300,
                    .between_sequences = 1.2345e-300,
                    .change_seconds = 1.2345e300,
                    .pass_seconds = 1.2345e-300};
    const pol_pilot_choice far = choose(ctx, &p, true, INT64_MAX, INT64_MAX);
    for (int i = 0; i < POL_PILOT_REASONS; i++)
        assert_true(strlen(far.reason[i]) < POL_PILOT_TEXT - 1);
}

static void test_choice_refuses(void **state)
{
    pol_context *ctx = *state;
    pol_pilot_choice c;
    const pol_pilot_ask good = {.allocation = true, .passes = 100, .variables = 10};
    pol_pilot_ask ask = good;
    ask.candidates = 3;
    assert_fails(ctx, pol_pilot_choose(ctx, &small, &ask, &c), POL_EARG, "candidates: 3 is odd");
    ask.allocation = false;
    assert_ok(ctx, pol_pilot_choose(ctx, &small, &ask, &c));
    ask = good;
    ask.passes = 0;
    assert_fails(ctx, pol_pilot_choose(ctx, &small, &ask, &c), POL_EARG, "0 passes for 10 variables");
    ask = good;
    ask.variables = 0;
    assert_fails(ctx, pol_pilot_choose(ctx, &small, &ask, &c), POL_EARG, "100 passes for 0 variables");
    ask = good;
    ask.learning_rate = NAN;
    assert_fails(ctx, pol_pilot_choose(ctx, &small, &ask, &c), POL_EARG, "a setting below 0");
    pol_pilot p = small;
    p.residual = NAN;
    assert_fails(ctx, pol_pilot_choose(ctx, &p, &good, &c), POL_EARG, "a variance or time of nan");
    p = small;
    p.change_seconds = -1;
    assert_fails(ctx, pol_pilot_choose(ctx, &p, &good, &c), POL_EARG, "a variance or time of -1");
    p = small;
    p.pass_seconds = 0;
    assert_fails(ctx, pol_pilot_choose(ctx, &p, &good, &c), POL_EARG, "a pass takes no time");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variances_by_hand),
        cmocka_unit_test(test_variances_are_unbiased),
        cmocka_unit_test(test_variances_of_uneven_tables),
        cmocka_unit_test(test_variances_refuse),
        cmocka_unit_test(test_sequences_follow_costs),
        cmocka_unit_test(test_candidates_follow_noise_variables_and_passes),
        cmocka_unit_test(test_rates_and_spreads),
        cmocka_unit_test(test_settled_values_stay),
        cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_choice_refuses),
    };
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}
