/* test_estimator.c - settings, schedule and estimator: expectations by listing every outcome, values by hand, and the
 * reference's trajectory number for number. */
#include <math.h>

#include "core/base/rng.h"
#include "core/learn/update.h"
#include "tests/unit/learn_toy.h"

/* ---- expectations on a toy of 3 channels: 8 masks, so E[g] over K masks is a sum of 8^K terms, not a sample ---- */

static const float toy_s[3] = {0.3f, 0.55f, 0.8f};
static const double toy_loss[8] = {2.0, 1.7, 1.9, 1.1, 1.8, 0.9, 1.4, 0.5};
enum { FIRST_CHANNEL = 1, TOY_UNITS = 6 }; /* group, 3 channels, 2 blocks */

static double toy_probability(int m)
{
    double p = 1.0;
    for (int j = 0; j < 3; j++)
        p *= m >> j & 1 ? (double)toy_s[j] : 1.0 - (double)toy_s[j];
    return p;
}

/* dJ/ds_j of J = E[L], times sqrt(s (1 - s)) for the score that is so preconditioned. */
static void toy_gradient(pol_score score, double want[3])
{
    for (int j = 0; j < 3; j++) {
        const double s = (double)toy_s[j];
        want[j] = 0.0;
        for (int m = 0; m < 8; m++)
            want[j] += toy_loss[m] * toy_probability(m) * (m >> j & 1 ? 1.0 / s : -1.0 / (1.0 - s));
        if (score == POL_SCORE_SQRT)
            want[j] *= sqrt(s * (1.0 - s));
    }
}

static void expected_gradient(pol_context *ctx, const pol_learn_settings *o, pol_estimator start, double got[3])
{
    pol_units *u = toy_units(ctx, 1, 1, 3);
    pol_distribution *d = toy_distribution(u, POL_CHANNELS, 0.5f);
    assert_int_equal(u->n, TOY_UNITS);
    memcpy(d->s + FIRST_CHANNEL, toy_s, sizeof toy_s);
    int64_t tuples = 1;
    for (int k = 0; k < o->mask_samples; k++)
        tuples *= 8;
    memset(got, 0, 3 * sizeof *got);
    for (int64_t t = 0; t < tuples; t++) {
        uint8_t bits[4][TOY_UNITS];
        const uint8_t *masks[4];
        double loss[4], p = 1.0;
        int64_t rest = t;
        for (int k = 0; k < o->mask_samples; k++, rest /= 8) {
            const int m = (int)(rest % 8);
            memset(bits[k], 1, TOY_UNITS);
            for (int j = 0; j < 3; j++)
                bits[k][FIRST_CHANNEL + j] = m >> j & 1;
            masks[k] = bits[k];
            loss[k] = toy_loss[m];
            p *= toy_probability(m);
        }
        pol_estimator e = start;
        float g[TOY_UNITS];
        assert_ok(ctx, pol_estimate(o, &e, d, masks, loss, g));
        for (int j = 0; j < 3; j++)
            got[j] += p * (double)g[FIRST_CHANNEL + j];
        assert_true(g[0] == 0.0f && g[4] == 0.0f && g[5] == 0.0f); /* kinds outside the granularity */
    }
    pol_distribution_free(d);
    pol_units_free(u);
}

static void check_factor(pol_context *ctx, pol_baseline baseline, int32_t K, int32_t W, pol_estimator start,
                         double factor)
{
    for (int score = POL_SCORE_SQRT; score <= POL_SCORE_TEXTBOOK; score++) {
        const pol_learn_settings o = {
            .mask_samples = K, .baseline = baseline, .baseline_window = W, .score = (pol_score)score};
        double got[3], want[3];
        expected_gradient(ctx, &o, start, got);
        toy_gradient((pol_score)score, want);
        /* s + e instead of s moves the score by e / s relative, 5e-7 here; float g adds 6e-8. */
        for (int j = 0; j < 3; j++)
            assert_near(got[j], factor * want[j], 1e-6 * fabs(factor * want[j]));
    }
}

static void test_leave_one_out_is_unbiased(void **state)
{
    check_factor(*state, POL_BASELINE_LEAVE_ONE_OUT, 2, 0, (pol_estimator){0}, 1.0);
    check_factor(*state, POL_BASELINE_LEAVE_ONE_OUT, 3, 0, (pol_estimator){.baseline = 9.0, .steps = 4}, 1.0);
}

static void test_no_baseline_is_unbiased(void **state)
{
    for (int32_t K = 1; K <= 3; K++)
        check_factor(*state, POL_BASELINE_NONE, K, 0, (pol_estimator){.steps = 4}, 1.0);
}

/* The previous d is independent of the step's masks, so whatever it is it drops out; the step's own losses stay in d
 * with weight 1/(W K) each, which takes 1/W of K from the sum: factor (K - 1/W)/(K - 1), 1.8 for the reference's K = 2,
 * W = 5. */
static void test_moving_average_has_the_factor_of_the_reference(void **state)
{
    check_factor(*state, POL_BASELINE_MOVING_AVERAGE, 2, 5, (pol_estimator){.baseline = 1.4, .steps = 1}, 1.8);
    check_factor(*state, POL_BASELINE_MOVING_AVERAGE, 2, 5, (pol_estimator){.baseline = -3.0, .steps = 70}, 1.8);
    check_factor(*state, POL_BASELINE_MOVING_AVERAGE, 3, 5, (pol_estimator){.baseline = 1.4, .steps = 1}, 2.8 / 2.0);
    check_factor(*state, POL_BASELINE_MOVING_AVERAGE, 2, 1, (pol_estimator){.baseline = 1.4, .steps = 1}, 1.0);
    /* At the first step d is the step's own mean. */
    check_factor(*state, POL_BASELINE_MOVING_AVERAGE, 2, 5, (pol_estimator){.baseline = 1e6}, 1.0);
}

/* ---- values by hand: a baseline moves the variance and not the mean, so the sums above cannot see all of it ---- */

static void one_gradient(pol_context *ctx, const pol_learn_settings *o, pol_estimator *e, const float s[3],
                         const double *loss, float g[3])
{
    pol_units *u = toy_units(ctx, 1, 1, 3);
    pol_distribution *d = toy_distribution(u, POL_CHANNELS, 0.5f);
    memcpy(d->s + FIRST_CHANNEL, s, 3 * sizeof *s);
    static const uint8_t bits[3][TOY_UNITS] = {{1, 1, 0, 1, 1, 1}, {1, 0, 0, 1, 1, 1}, {1, 1, 1, 0, 1, 1}};
    const uint8_t *masks[3] = {bits[0], bits[1], bits[2]};
    float all[TOY_UNITS];
    assert_ok(ctx, pol_estimate(o, e, d, masks, loss, all));
    memcpy(g, all + FIRST_CHANNEL, 3 * sizeof *g);
    pol_distribution_free(d);
    pol_units_free(u);
}

static void test_by_hand(void **state)
{
    const float s[3] = {0.5f, 0.2f, 0.8f};
    const double loss[3] = {3.0, 5.0, 1.0};
    float g[3];
    /* Reference, K = 2: d = 0.8 * 4.5 + 0.2 * 4 = 4.4; L - d = -1.4, 0.6; scores of unit 0 are +1, -1, of unit 1
     * -0.2/0.4 twice, of unit 2 0.2/0.4 twice. */
    pol_learn_settings o;
    pol_learn_reference(10, &o);
    pol_estimator e = {.baseline = 4.5, .steps = 3};
    one_gradient(*state, &o, &e, s, loss, g);
    assert_near(e.baseline, 4.4, 1e-12);
    assert_int_equal(e.steps, 4);
    assert_near(g[0], -1.4 - 0.6, 2e-6);
    assert_near(g[1], (-1.4 + 0.6) * -0.5, 2e-6);
    assert_near(g[2], (-1.4 + 0.6) * 0.5, 2e-6);
    /* First step: d is the step's mean, 4; what stood in the state before plays no part. */
    e = (pol_estimator){.baseline = 77.0};
    one_gradient(*state, &o, &e, s, loss, g);
    assert_near(e.baseline, 4.0, 1e-12);
    assert_near(g[0], -1.0 - 1.0, 2e-6);
    assert_near(g[1], 0.0, 1e-12);

    /* Leave-one-out, K = 3: L - mean = 0, 2, -2; over 2: A = 0, 1, -1. Scores of unit 0: 1, -1, 1; 1: -0.5, -0.5, 2. */
    o = (pol_learn_settings){.mask_samples = 3};
    e = (pol_estimator){0};
    one_gradient(*state, &o, &e, s, loss, g);
    assert_near(e.baseline, 3.0, 1e-12);
    assert_near(g[0], -1.0 - 1.0, 2e-6);
    assert_near(g[1], -0.5 - 2.0, 4e-6);
    assert_near(g[2], 0.5 + 2.0, 4e-6);
    /* Textbook: the same over sqrt(s (1 - s)) once more. */
    o.score = POL_SCORE_TEXTBOOK;
    one_gradient(*state, &o, &e, s, loss, g);
    assert_near(g[0], -2.0 / 0.5, 4e-6);
    assert_near(g[1], -2.5 / 0.4, 1e-5);

    /* Normalised: std = sqrt(8/3) at the first step, A = (0, 2, -2) / (3 sd). The next step has losses ten times as far
     * apart: sd = 0.9 * std + 0.1 * 10 std = 1.9 std. */
    o = (pol_learn_settings){.mask_samples = 3, .normalise = true};
    e = (pol_estimator){.deviation = 123.0};
    one_gradient(*state, &o, &e, s, loss, g);
    const double std = sqrt(8.0 / 3.0);
    assert_near(e.deviation, std, 1e-12);
    assert_near(g[0], -4.0 / (3.0 * std), 2e-6);
    one_gradient(*state, &o, &e, s, (double[]){30.0, 50.0, 10.0}, g);
    assert_near(e.deviation, 1.9 * std, 1e-12);
    assert_near(g[0], -40.0 / (3.0 * 1.9 * std), 2e-5);
}

static void test_equal_losses_give_no_gradient(void **state)
{
    const float s[3] = {0.5f, 0.2f, 0.8f};
    const pol_learn_settings o = {.mask_samples = 3, .normalise = true};
    pol_estimator e = {0};
    float g[3];
    one_gradient(*state, &o, &e, s, (double[]){2.0, 2.0, 2.0}, g);
    assert_true(g[0] == 0.0f && g[1] == 0.0f && g[2] == 0.0f);
}

static void test_lost_loss_names_the_mask(void **state)
{
    pol_context *ctx = *state;
    pol_units *u = toy_units(ctx, 1, 1, 3);
    pol_distribution *d = toy_distribution(u, POL_CHANNELS, 0.5f);
    const uint8_t bits[TOY_UNITS] = {1, 1, 1, 1, 1, 1};
    const uint8_t *masks[3] = {bits, bits, bits};
    const pol_learn_settings o = {.mask_samples = 3};
    pol_estimator e = {.baseline = 2.5, .steps = 7};
    float g[TOY_UNITS] = {7};
    const double lost[3] = {1.0, 2.0, NAN}, endless[3] = {1.0, -INFINITY, 1.0};
    assert_fails(ctx, pol_estimate(&o, &e, d, masks, lost, g), POL_ENUMERIC, "mask 2: loss is nan");
    assert_fails(ctx, pol_estimate(&o, &e, d, masks, endless, g), POL_ENUMERIC, "mask 1: loss is -inf");
    assert_true(e.baseline == 2.5 && e.steps == 7 && g[0] == 7);
    pol_distribution_free(d);
    pol_units_free(u);
}

/* Units at the bounds: a unit at 0 is never drawn and gets no gradient, one at 1 neither; nothing is NaN. */
static void test_bounds(void **state)
{
    const float s[3] = {1.0f, 0.0f, 0.5f};
    pol_learn_settings o = {.mask_samples = 1, .baseline = POL_BASELINE_NONE};
    pol_estimator e = {0};
    float g[3];
    one_gradient(*state, &o, &e, s, (double[]){3.0}, g); /* mask 1 0 1 */
    assert_true(g[0] == 0.0f && g[1] == 0.0f);
    assert_near(g[2], 3.0, 2e-6);
    o.score = POL_SCORE_TEXTBOOK;
    one_gradient(*state, &o, &e, s, (double[]){3.0}, g);
    assert_true(g[0] == 0.0f && g[1] == 0.0f);
}

/* Many units in several layers and kinds: the blocked loops against the formula, unit by unit. */
static void test_every_unit_by_the_formula(void **state)
{
    pol_context *ctx = *state;
    enum { K = 5 };
    pol_units *u = toy_units(ctx, 3, 11, 600);
    pol_distribution *d = toy_distribution(u, POL_HEADS | POL_CHANNELS, 0.5f);
    const int64_t variables = 3 * 611;
    pol_uniform(5, POL_STREAM_TEST, 0, 0, variables, d->s);
    uint8_t *bits = malloc((size_t)u->n * K);
    const uint8_t *masks[K];
    for (uint32_t k = 0; k < K; k++) {
        masks[k] = bits + k * u->n;
        pol_distribution_sample(d, 5, 1, k, bits + k * u->n);
    }
    const double loss[K] = {2.5, 2.75, 1.0, 4.0, 3.0};
    const double mean = 13.25 / K;
    float *g = malloc((size_t)u->n * sizeof *g);
    const pol_learn_settings o = {.mask_samples = K};
    pol_estimator e = {0};
    assert_ok(ctx, pol_estimate(&o, &e, d, masks, loss, g));
    for (int64_t i = 0; i < u->n; i++) {
        const double s = (double)d->s[i];
        double want = 0.0;
        for (int k = 0; k < K && i < variables; k++)
            want += (loss[k] - mean) / (K - 1) * (masks[k][i] - s) / sqrt((s + 1e-7) * (1 - s + 1e-7));
        assert_near(g[i], want, 1e-7 + 1e-7 * fabs(want));
    }
    free(g);
    free(bits);
    pol_distribution_free(d);
    pol_units_free(u);
}

/* ---- the reference's trajectory ---- */

static void read_row(FILE *f, float *s, int64_t n)
{
    char tag[16];
    assert_int_equal(fscanf(f, "%15s", tag), 1);
    assert_string_equal(tag, "s");
    for (int64_t i = 0; i < n; i++)
        assert_int_equal(fscanf(f, "%f", &s[i]), 1);
}

static void test_reference_trajectory(void **state)
{
    pol_context *ctx = *state;
    FILE *f = fopen(test_file("learn/reference_trajectory.txt"), "r");
    assert_non_null(f);
    int layers, groups, channels, steps, K, W;
    double keep, lr;
    assert_int_equal(fscanf(f, "#%*[^\n] shape %d %d %d keep %lf steps %d lr %lf masks %d window %d", &layers, &groups,
                            &channels, &keep, &steps, &lr, &K, &W),
                     8);
    pol_units *u = toy_units(ctx, layers, groups, channels);
    pol_distribution *d = toy_distribution(u, POL_HEADS | POL_CHANNELS, 0.5f);
    const int64_t variables = (int64_t)layers * (groups + channels);
    pol_learn_settings o;
    pol_learn_reference(steps, &o);
    assert_true(o.mask_samples == K && o.baseline_window == W && steps == 20 && variables <= 64);
    o.learning_rate = lr;
    o.budget.keep[POL_UNIT_GROUP] = o.budget.keep[POL_UNIT_CHANNEL] = keep;
    read_row(f, d->s, variables);
    pol_estimator e = {0};
    for (int step = 0; step < steps; step++) {
        uint8_t bits[2][128] = {{0}};
        const uint8_t *masks[2] = {bits[0], bits[1]};
        double loss[2], baseline;
        float g[128], want[64];
        for (int k = 0; k < K; k++) {
            char text[128];
            assert_int_equal(fscanf(f, " mask %127s %lf", text, &loss[k]), 2);
            for (int64_t i = 0; i < u->n; i++)
                bits[k][i] = i >= variables || text[i] == '1';
        }
        assert_int_equal(fscanf(f, " baseline %lf", &baseline), 1);
        assert_ok(ctx, pol_estimate(&o, &e, d, masks, loss, g));
        assert_near(e.baseline, baseline, 1e-12);
        assert_ok(ctx, pol_learn_update(&o, d, pol_learning_rate(&o, step), g));
        read_row(f, want, variables);
        for (int64_t i = 0; i < variables; i++)
            assert_near(d->s[i], want[i], 1e-6);
        for (int64_t i = variables; i < u->n; i++)
            assert_true(d->s[i] == 1.0f);
    }
    fclose(f);
    pol_distribution_free(d);
    pol_units_free(u);
}

/* ---- schedule and settings ---- */

static void test_learning_rate(void **state)
{
    (void)state;
    pol_learn_settings o;
    pol_learn_units(10000, &o);
    assert_int_equal(o.steps, 625);
    assert_near(pol_learning_rate(&o, 0), 0.06, 1e-9);
    pol_learn_units(3000, &o);
    assert_near(pol_learning_rate(&o, 0), 0.11, 5e-4);
    pol_learn_units(1000, &o);
    assert_near(pol_learning_rate(&o, 0), 0.19, 1e-3);
    pol_learn_units(3, &o);
    assert_int_equal(o.steps, 1);
    pol_learn_reference(15000, &o);
    assert_near(pol_learning_rate(&o, 0), 2e-3, 1e-15);
    assert_near(pol_learning_rate(&o, 3750), 1e-3 * (1 + sqrt(0.5)), 1e-12);
    assert_near(pol_learning_rate(&o, 7500), 1e-3, 1e-12);
    assert_near(pol_learning_rate(&o, 15000), 0.0, 1e-15);
    o.schedule = POL_SCHEDULE_LINEAR;
    assert_near(pol_learning_rate(&o, 3750), 1.5e-3, 1e-12);
    o.schedule = POL_SCHEDULE_CONSTANT;
    assert_near(pol_learning_rate(&o, 3750), 2e-3, 1e-15);
}

static void test_presets(void **state)
{
    pol_learn_settings o;
    pol_learn_units(10000, &o);
    assert_ok(*state, pol_learn_check(*state, &o));
    assert_true(o.mask_samples == 16 && o.sequences_per_mask == 1 && o.shared_sequences && o.normalise);
    assert_true(o.baseline == POL_BASELINE_LEAVE_ONE_OUT && o.score == POL_SCORE_SQRT && o.smin == 0.003);
    pol_learn_reference(15000, &o);
    assert_ok(*state, pol_learn_check(*state, &o));
    assert_true(o.mask_samples == 2 && o.sequences_per_mask == 8 && o.shared_sequences && !o.normalise);
    assert_true(o.baseline == POL_BASELINE_MOVING_AVERAGE && o.baseline_window == 5 && o.score == POL_SCORE_SQRT);
    assert_true(o.schedule == POL_SCHEDULE_COSINE && o.smin == 0 && o.learning_rate == 2e-3);
}

static void test_settings_errors(void **state)
{
    pol_context *ctx = *state;
    pol_learn_settings good, o;
    pol_learn_reference(100, &good);
#define REFUSED(field, value, part)                                  \
    do {                                                             \
        o = good;                                                    \
        o.field = value;                                             \
        assert_fails(ctx, pol_learn_check(ctx, &o), POL_EARG, part); \
    } while (0)
    REFUSED(mask_samples, 0, "mask_samples: 0 is outside 1..");
    REFUSED(mask_samples, 1, "mask_samples: 1 mask a step, baseline moving-average needs 2");
    REFUSED(sequences_per_mask, 0, "sequences_per_mask: 0");
    REFUSED(baseline, (pol_baseline)9, "baseline: 9");
    REFUSED(baseline_window, 0, "baseline_window: 0");
    REFUSED(score, (pol_score)2, "score: 2");
    REFUSED(schedule, (pol_schedule)3, "schedule: 3");
    REFUSED(steps, 0, "steps: 0");
    REFUSED(steps, INT64_MAX / 2, "steps: 4611686018427387903");
    REFUSED(learning_rate, -1.0, "learning_rate: -1");
    REFUSED(learning_rate, (double)NAN, "learning_rate: nan");
    REFUSED(learning_rate, (double)INFINITY, "learning_rate: inf");
    REFUSED(learning_rate, 0.0, "learning_rate: 0 means sized");
    REFUSED(smin, 0.5, "smin: 0.5");
    REFUSED(smin, -0.1, "smin: -0.1");
    REFUSED(smin, (double)NAN, "smin: nan");
    good.baseline = POL_BASELINE_NONE;
    good.mask_samples = 1;
    assert_ok(ctx, pol_learn_check(ctx, &good));
    REFUSED(normalise, true, "mask_samples: 1 mask a step has no deviation");
#undef REFUSED
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, toy_setup, toy_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_leave_one_out_is_unbiased),
        TEST(test_no_baseline_is_unbiased),
        TEST(test_moving_average_has_the_factor_of_the_reference),
        TEST(test_by_hand),
        TEST(test_equal_losses_give_no_gradient),
        TEST(test_lost_loss_names_the_mask),
        TEST(test_bounds),
        TEST(test_every_unit_by_the_formula),
        TEST(test_reference_trajectory),
        TEST(test_learning_rate),
        TEST(test_presets),
        TEST(test_settings_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
