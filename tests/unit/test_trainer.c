/* test_trainer.c - the trainer and its deck on toys whose answer is known; failed steps; resume to the last bit. */
#include <math.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/base/file.h"
#include "core/learn/checkpoint.h"
#include "tests/unit/learn_toy.h"

/* A loss with a right answer: each unit's absence costs worth[i], each sequence has its own difficulty, and the square
 * makes the worth of one unit depend on which others are gone. */
typedef struct toy {
    pol_context *ctx;
    const pol_units *units;
    double worth[64];
    int64_t calls;
    int64_t lose_call, stop_call; /* the call that returns NaN, or during which a stop is asked for; -1: none */
    int64_t seen[4096];           /* index[0] of each call */
    bool silent;                  /* fills in no loss */
} toy;

static double toy_value(const toy *t, const uint8_t *mask, int64_t sequence)
{
    double gone = 0.0;
    for (int64_t i = 0; i < t->units->n && i < 64; i++)
        gone += mask[i] ? 0.0 : t->worth[i];
    return 2.0 + gone + 0.05 * gone * gone + 0.5 * (double)(sequence * 7919 % 13);
}

static pol_status toy_look(void *user, const uint8_t *mask, const int64_t *index, int64_t n, double *loss)
{
    toy *t = user;
    if (t->calls < 4096)
        t->seen[t->calls] = index[0];
    for (int64_t i = 0; i < n && !t->silent; i++)
        loss[i] = t->calls == t->lose_call && i == n - 1 ? (double)NAN : toy_value(t, mask, index[i]);
    if (t->calls++ == t->stop_call)
        pol_context_stop(t->ctx);
    return POL_OK;
}

/* 2 layers of 3 groups and 8 channels: 22 variables, 26 units. */
enum { GROUPS = 6, VARIABLES = 22 };

typedef struct rig {
    pol_units *u;
    pol_distribution *d;
    pol_trainer *t;
    toy toy;
} rig;

static void rig_start(pol_context *ctx, const pol_learn_settings *o, int64_t n_sequences, float s, rig *r)
{
    memset(r, 0, sizeof *r);
    r->u = toy_units(ctx, 2, 3, 8);
    r->d = toy_distribution(r->u, POL_HEADS | POL_CHANNELS, s);
    r->toy = (toy){.ctx = ctx, .units = r->u, .lose_call = -1, .stop_call = -1};
    for (int i = 0; i < VARIABLES; i++)
        r->toy.worth[i] = i % 2 ? 0.05 : 0.4; /* even units matter */
    assert_ok(ctx, pol_trainer_new(ctx, o, r->d, n_sequences, &(pol_losses){.look = toy_look, .user = &r->toy}, &r->t));
}

static void rig_end(rig *r)
{
    pol_trainer_free(r->t);
    pol_distribution_free(r->d);
    pol_units_free(r->u);
}

static pol_learn_settings units_settings(int64_t passes)
{
    pol_learn_settings o;
    pol_learn_units(passes, &o);
    o.budget.keep[POL_UNIT_GROUP] = o.budget.keep[POL_UNIT_CHANNEL] = 0.5;
    return o;
}

static pol_learn_settings reference_settings(int64_t steps)
{
    pol_learn_settings o;
    pol_learn_reference(steps, &o);
    o.budget.keep[POL_UNIT_GROUP] = o.budget.keep[POL_UNIT_CHANNEL] = 0.5;
    return o;
}

static void run_steps(pol_context *ctx, rig *r, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        assert_ok(ctx, pol_trainer_step(r->t, NULL));
}

static void test_units_finds_the_right_units(void **state)
{
    pol_context *ctx = *state;
    pol_learn_settings o = units_settings(4000);
    rig r;
    rig_start(ctx, &o, 37, 0.5f, &r);
    run_steps(ctx, &r, o.steps);
    assert_int_equal(pol_trainer_next(r.t), o.steps);
    for (int i = 0; i < VARIABLES; i++)
        assert_true(i % 2 ? r.d->s[i] < 0.1f : r.d->s[i] > 0.9f);
    assert_fails(ctx, pol_trainer_step(r.t, NULL), POL_EARG, "all 250 steps are done");
    rig_end(&r);
}

static void test_reference_learns(void **state)
{
    pol_context *ctx = *state;
    pol_learn_settings o = reference_settings(600);
    o.learning_rate = 0.02;
    rig r;
    rig_start(ctx, &o, 37, 0.5f, &r);
    run_steps(ctx, &r, o.steps);
    double right = 0.0, wrong = 0.0;
    for (int i = 0; i < VARIABLES; i++)
        *(i % 2 ? &wrong : &right) += (double)r.d->s[i] / (VARIABLES / 2.0);
    assert_true(right > 0.85 && wrong < 0.15);
    rig_end(&r);
}

/* Units start at 0 though they are the ones that matter. */
static void test_zero_is_absorbing_in_reference_only(void **state)
{
    pol_context *ctx = *state;
    for (int reference = 0; reference < 2; reference++) {
        pol_learn_settings o = reference ? reference_settings(250) : units_settings(4000);
        rig r;
        rig_start(ctx, &o, 37, 0.5f, &r);
        for (int i = 0; i < VARIABLES; i += 2)
            r.d->s[i] = 0.0f;
        for (int64_t step = 0; step < o.steps; step++) {
            run_steps(ctx, &r, 1);
            for (int i = 0; i < VARIABLES && !reference; i++)
                assert_true(r.d->s[i] >= (float)o.smin && r.d->s[i] <= 1.0f - (float)o.smin);
        }
        for (int i = 0; i < VARIABLES; i += 2)
            assert_true(reference ? r.d->s[i] == 0.0f : r.d->s[i] > 0.9f);
        rig_end(&r);
    }
}

/* After each step the expected kept units are within the budget, but for the floor of smin. */
static void test_budget_is_kept(void **state)
{
    pol_context *ctx = *state;
    pol_learn_settings o = units_settings(1600);
    o.budget.keep[POL_UNIT_GROUP] = 0.34;
    rig r;
    rig_start(ctx, &o, 37, 0.9f, &r);
    for (int64_t step = 0; step < o.steps; step++) {
        run_steps(ctx, &r, 1);
        double groups = 0.0, channels = 0.0;
        for (int i = 0; i < VARIABLES; i++)
            *(i < GROUPS ? &groups : &channels) += (double)r.d->s[i];
        assert_true(groups <= 0.34 * GROUPS + 0.01 * GROUPS && channels <= 8.0 + 0.01 * 16 + 1e-5);
        for (int64_t i = VARIABLES; i < r.u->n; i++)
            assert_true(r.d->s[i] == 1.0f);
    }
    rig_end(&r);
}

/* What a step reports, and what it did to s, computed from outside. */
static void test_one_step(void **state)
{
    pol_context *ctx = *state;
    pol_learn_settings o = {.mask_samples = 2,
                            .sequences_per_mask = 3,
                            .shared_sequences = true,
                            .learning_rate = 0.1,
                            .schedule = POL_SCHEDULE_LINEAR,
                            .steps = 4,
                            .seed = 9,
                            .budget.keep = {1, 1, 1, 1}};
    rig r;
    rig_start(ctx, &o, 5, 0.6f, &r);
    uint8_t masks[2][64];
    double loss[2] = {0}, kept = 0.0, norm = 0.0, entropy = 0.0, want[VARIABLES];
    int64_t index[3];
    pol_deck *deck;
    assert_ok(ctx, toy_deck(ctx, &o, 5, &deck));
    assert_ok(ctx, pol_deck_draw(deck, 0, 0, index));
    for (uint32_t k = 0; k < 2; k++) {
        pol_distribution_sample(r.d, 9, 0, k, masks[k]);
        for (int i = 0; i < 3; i++)
            loss[k] += toy_value(&r.toy, masks[k], index[i]) / 3.0;
        kept += (double)pol_mask_params(r.u, masks[k]) / (6 * TOY_GROUP + 16 * TOY_CHANNEL) / 2.0;
    }
    for (int i = 0; i < VARIABLES; i++) {
        const double s = (double)r.d->s[i];
        const double g = (loss[0] - loss[1]) / 2.0 * (masks[0][i] - masks[1][i]) / sqrt(s * (1 - s));
        norm += g * g;
        want[i] = fmin(fmax(s - 0.1 * g, 0.0), 1.0);
        if (want[i] > 0.0 && want[i] < 1.0)
            entropy -= (want[i] * log(want[i]) + (1 - want[i]) * log(1 - want[i])) / VARIABLES;
    }
    pol_step_report report;
    assert_ok(ctx, pol_trainer_step(r.t, &report));
    for (int i = 0; i < VARIABLES; i++)
        assert_near(r.d->s[i], want[i], 1e-6);
    assert_int_equal(report.step, 0);
    assert_near(report.loss, (loss[0] + loss[1]) / 2, 1e-12);
    assert_near(report.baseline, (loss[0] + loss[1]) / 2, 1e-12);
    assert_near(report.kept, kept, 1e-12);
    assert_near(report.grad_norm, sqrt(norm), 1e-5);
    assert_near(report.learning_rate, 0.1, 1e-15);
    assert_near(report.mean_entropy, entropy, 1e-5);
    assert_true(norm > 0.0 && entropy > 0.0 && kept > 0.3 && kept < 0.9);
    assert_ok(ctx, pol_trainer_step(r.t, &report));
    assert_int_equal(report.step, 1);
    assert_near(report.learning_rate, 0.075, 1e-15);
    pol_deck_free(deck);
    rig_end(&r);
}

/* Expected parameters under independent draws: a unit counts only with its block. */
static double expected_params(const pol_distribution *d)
{
    const pol_units *u = d->units;
    double sum = 0.0;
    for (int32_t l = 0; l < u->n_layers; l++)
        for (int kind = POL_UNIT_GROUP; kind <= POL_UNIT_CHANNEL; kind++) {
            const pol_section *in = pol_units_section(u, (pol_unit_kind)kind, l);
            const pol_section *block = pol_units_section(u, (pol_unit_kind)(kind + 2), l);
            for (int64_t i = in->first; i < in->first + in->count; i++)
                sum += (double)d->s[block->first] * (double)d->s[i] * (double)in->params;
        }
    return sum;
}

static void check_on_budget(pol_context *ctx, const pol_distribution *d, const pol_budget *b, double smin)
{
    const pol_units *u = d->units;
    const double all = (double)pol_mask_params(u, NULL);
    uint8_t mask[64];
    assert_ok(ctx, pol_hard_mask(d, b, NULL, mask));
    int64_t first = 0;
    for (int kind = 0; kind < POL_UNIT_KINDS; first += u->n_of[kind++]) {
        double expected = 0.0;
        int64_t kept = 0;
        for (int64_t i = first; i < first + u->n_of[kind]; i++) {
            const bool free_kind = d->granularity >> kind & 1;
            assert_true(free_kind ? d->s[i] >= (float)smin && d->s[i] <= 1.0f - (float)smin
                                  : d->s[i] == 1.0f && mask[i]);
            expected += (double)d->s[i];
            kept += mask[i];
        }
        if (b->mode == POL_BUDGET_SEPARATE && d->granularity >> kind & 1) {
            const double n = (double)u->n_of[kind];
            assert_true(expected <= b->keep[kind] * n + smin * n + 1e-5);
            assert_int_equal(kept, (int64_t)(b->keep[kind] * n + 1e-9));
        }
    }
    if (b->mode == POL_BUDGET_JOINT) { /* smin lifts each of s_block and s_unit by at most itself */
        assert_true(expected_params(d) <= (b->keep_params + 2.0 * smin + 1e-6) * all);
        assert_true((double)pol_mask_params(u, mask) <= b->keep_params * all);
    }
}

/* Heads, channels and blocks in any combination, under both budgets. */
static void test_every_granularity(void **state)
{
    pol_context *ctx = *state;
    static const unsigned kinds[3] = {POL_HEADS, POL_CHANNELS, POL_BLOCKS};
    for (int set = 1; set < 8; set++)
        for (int mode = POL_BUDGET_SEPARATE; mode <= POL_BUDGET_JOINT; mode++) {
            pol_learn_settings o = units_settings(16 * 30);
            o.budget = (pol_budget){.mode = (pol_budget_mode)mode, .keep = {0.5, 0.6, 0.5, 0.5}, .keep_params = 0.8};
            unsigned granularity = 0;
            for (int i = 0; i < 3; i++)
                granularity |= set >> i & 1 ? kinds[i] : 0;
            toy t = {.ctx = ctx, .units = toy_units(ctx, 4, 3, 8), .lose_call = -1, .stop_call = -1};
            pol_distribution *d = toy_distribution(t.units, granularity, 0.9f);
            for (int64_t i = 0; i < t.units->n; i++)
                t.worth[i] = 0.1 + 0.01 * (double)(i * 37 % 11);
            pol_trainer *trainer;
            assert_ok(ctx, pol_trainer_new(ctx, &o, d, 5, &(pol_losses){.look = toy_look, .user = &t}, &trainer));
            for (int64_t step = 0; step < o.steps; step++) {
                assert_ok(ctx, pol_trainer_step(trainer, NULL));
                check_on_budget(ctx, d, &o.budget, o.smin);
            }
            pol_trainer_free(trainer);
            pol_distribution_free(d);
            pol_units_free((pol_units *)t.units);
        }
}

/* Each setting goes with each other: all combinations of these. */
static void test_settings_are_independent(void **state)
{
    pol_context *ctx = *state;
    enum { STEPS = 3, SETTINGS = 8 };
    static const int ways[SETTINGS] = {3, 2, 2, 2, 3, 2, 2, 2};
    for (int c = 0; c < 3 * 2 * 2 * 2 * 3 * 2 * 2 * 2; c++) {
        int x[SETTINGS], rest = c;
        for (int i = 0; i < SETTINGS; i++) {
            x[i] = rest % ways[i];
            rest /= ways[i];
        }
        pol_learn_settings o = {.baseline = (pol_baseline)x[0],
                                .score = (pol_score)x[1],
                                .normalise = x[2],
                                .shared_sequences = x[3],
                                .schedule = (pol_schedule)x[4],
                                .mask_samples = 2 + x[5],
                                .sequences_per_mask = 1 + x[6],
                                .baseline_window = 3,
                                .learning_rate = 0.02,
                                .steps = STEPS,
                                .seed = 5,
                                .smin = 0.01};
        o.budget = (pol_budget){.mode = (pol_budget_mode)x[7], .keep = {0.5, 0.5}, .keep_params = 0.5};
        rig r;
        rig_start(ctx, &o, 7, 0.5f, &r);
        run_steps(ctx, &r, STEPS);
        assert_int_equal(r.toy.calls, STEPS * o.mask_samples);
        check_on_budget(ctx, r.d, &o.budget, o.smin);
        int moved = 0;
        for (int i = 0; i < VARIABLES; i++)
            moved += r.d->s[i] != 0.5f;
        assert_true(moved > 0);
        rig_end(&r);
    }
}

/* ---- the deck ---- */

static void test_deck_covers_each_epoch_once(void **state)
{
    pol_context *ctx = *state;
    for (int shared = 0; shared < 2; shared++) {
        enum { N = 35, STEPS = 28, K = 4, NB = 5 };
        const pol_learn_settings o = {.mask_samples = K,
                                      .sequences_per_mask = NB,
                                      .shared_sequences = shared,
                                      .learning_rate = 1,
                                      .steps = STEPS,
                                      .seed = 3};
        pol_deck *d;
        assert_ok(ctx, toy_deck(ctx, &o, N, &d));
        int64_t drawn = 0, first_epoch[N], moved = 0, same[NB];
        int seen[N] = {0};
        for (int64_t step = 0; step < STEPS; step++)
            for (int32_t k = 0; k < (shared ? 1 : K); k++) {
                int64_t index[NB];
                assert_ok(ctx, pol_deck_draw(d, step, k, index));
                for (int i = 0; i < NB; i++, drawn++) {
                    assert_in_range(index[i], 0, N - 1);
                    assert_int_equal(seen[index[i]]++, drawn / N); /* once an epoch */
                    if (drawn < N)
                        first_epoch[drawn] = index[i];
                    else if (drawn < 2 * N)
                        moved += first_epoch[drawn - N] != index[i];
                }
                if (shared) {
                    assert_ok(ctx, pol_deck_draw(d, step, K - 1, same));
                    assert_memory_equal(same, index, sizeof index);
                }
            }
        assert_int_equal(drawn, shared ? STEPS * NB : STEPS * K * NB);
        assert_true(moved > N / 2); /* reshuffled */
        pol_deck_free(d);
    }
}

/* A draw depends on nothing that came before, across a boundary of epochs too; another seed shuffles otherwise. */
static void test_deck_is_a_function_of_its_arguments(void **state)
{
    pol_context *ctx = *state;
    pol_learn_settings o = {.mask_samples = 3, .sequences_per_mask = 4, .learning_rate = 1, .steps = 10, .seed = 3};
    pol_deck *a, *b;
    int64_t forward[30][4], index[4], changed = 0;
    assert_ok(ctx, toy_deck(ctx, &o, 7, &a));
    for (int i = 0; i < 30; i++)
        assert_ok(ctx, pol_deck_draw(a, i / 3, i % 3, forward[i]));
    o.seed = 4;
    assert_ok(ctx, toy_deck(ctx, &o, 7, &b));
    for (int i = 29; i >= 0; i--) {
        assert_ok(ctx, pol_deck_draw(a, i / 3, i % 3, index));
        assert_memory_equal(index, forward[i], sizeof index);
        assert_ok(ctx, pol_deck_draw(b, i / 3, i % 3, index));
        changed += memcmp(index, forward[i], sizeof index) != 0;
    }
    assert_true(changed > 20);
    assert_fails(ctx, pol_deck_draw(a, 10, 0, index), POL_EARG, "step 10 is outside 0..9");
    assert_fails(ctx, pol_deck_draw(a, -1, 0, index), POL_EARG, "step -1");
    assert_fails(ctx, pol_deck_draw(a, 0, 3, index), POL_EARG, "mask 3 is outside 0..2");
    pol_deck_free(a);
    pol_deck_free(b);
    assert_fails(ctx, toy_deck(ctx, &o, 3, &a), POL_EARG, "deck: 4 sequences a mask, but the calibration set has 3");
    assert_null(a);
}

static void test_masks_of_a_step_share_their_sequence(void **state)
{
    pol_context *ctx = *state;
    pol_learn_settings o = units_settings(16 * 40);
    rig r;
    rig_start(ctx, &o, 9, 0.5f, &r);
    run_steps(ctx, &r, 40);
    assert_int_equal(r.toy.calls, 640);
    int changes = 0;
    for (int i = 1; i < 640; i++) {
        if (i % 16)
            assert_int_equal(r.toy.seen[i], r.toy.seen[i - 1]);
        else
            changes += r.toy.seen[i] != r.toy.seen[i - 1];
    }
    assert_true(changes > 20);
    rig_end(&r);
}

static void test_masks_of_a_step_have_their_own_sequences(void **state)
{
    pol_context *ctx = *state;
    pol_learn_settings o = units_settings(16 * 9);
    o.shared_sequences = false;
    rig r;
    rig_start(ctx, &o, 16, 0.5f, &r);
    run_steps(ctx, &r, o.steps);
    for (int64_t step = 0; step < o.steps; step++) {
        unsigned seen = 0;
        for (int k = 0; k < 16; k++)
            seen |= 1u << r.toy.seen[16 * step + k];
        assert_int_equal(seen, 0xffff); /* 16 masks, 16 sequences: an epoch a step */
    }
    rig_end(&r);
}

/* ---- resume ---- */

static pol_learn_settings resume_settings(int variant)
{
    pol_learn_settings o = variant == 0 ? units_settings(16 * 12) : reference_settings(12);
    if (variant == 1)
        o.learning_rate = 0.05;
    if (variant == 2) { /* every state at once: moving average, normalised, own sequences, joint budget */
        o.shared_sequences = false;
        o.normalise = true;
        o.learning_rate = 0.0;
        o.mask_samples = 3;
        o.smin = 0.02;
        o.score = POL_SCORE_TEXTBOOK;
        o.budget = (pol_budget){.mode = POL_BUDGET_JOINT, .keep_params = 0.5};
    }
    return o;
}

static void restart(pol_context *ctx, const char *path, rig *r, const pol_learn_settings *o, int64_t n_sequences)
{
    const pol_checkpoint_shape shape = {.n_units = r->u->n};
    pol_checkpoint c;
    assert_ok(ctx, pol_checkpoint_init(ctx, &shape, &c));
    memset(c.settings, 'a', 32);
    pol_trainer_get(r->t, &c.step, &c.estimator);
    memcpy(c.s, r->d->s, (size_t)r->u->n * sizeof *c.s);
    assert_ok(ctx, pol_checkpoint_write(ctx, path, &c));
    pol_checkpoint_free(&c);
    rig_end(r);
    rig_start(ctx, o, n_sequences, 0.5f, r);
    assert_ok(ctx, pol_checkpoint_read(ctx, path, &shape, &c));
    memcpy(r->d->s, c.s, (size_t)r->u->n * sizeof *c.s);
    assert_ok(ctx, pol_trainer_set(r->t, c.step, &c.estimator));
    pol_checkpoint_free(&c);
}

static void test_resume_anywhere_ends_bit_identical(void **state)
{
    pol_context *ctx = *state;
    enum { STEPS = 12, SEQUENCES = 11 }; /* cells cross the ends of epochs */
    char path[] = "/tmp/pollard-test-XXXXXX";
    close(mkstemp(path));
    for (int variant = 0; variant < 3; variant++) {
        const pol_learn_settings o = resume_settings(variant);
        rig whole;
        rig_start(ctx, &o, SEQUENCES, 0.5f, &whole);
        run_steps(ctx, &whole, STEPS);
        int64_t next;
        pol_estimator want;
        pol_trainer_get(whole.t, &next, &want);
        assert_int_equal(next, STEPS);
        for (int64_t stop = 0; stop <= STEPS; stop++) {
            rig r;
            pol_estimator got;
            rig_start(ctx, &o, SEQUENCES, 0.5f, &r);
            run_steps(ctx, &r, stop);
            restart(ctx, path, &r, &o, SEQUENCES);
            run_steps(ctx, &r, STEPS - stop);
            pol_trainer_get(r.t, &next, &got);
            assert_memory_equal(&got, &want, sizeof got);
            assert_memory_equal(r.d->s, whole.d->s, (size_t)whole.u->n * sizeof *r.d->s);
            rig_end(&r);
        }
        rig_end(&whole);
    }
    assert_ok(ctx, pol_remove_tree(ctx, path));
}

static void test_state_that_does_not_fit_is_refused(void **state)
{
    pol_context *ctx = *state;
    const pol_learn_settings o = reference_settings(12);
    rig r;
    rig_start(ctx, &o, 11, 0.5f, &r);
    assert_fails(ctx, pol_trainer_set(r.t, 13, &(pol_estimator){.steps = 13}), POL_EARG, "step 13 is outside 0..12");
    assert_fails(ctx, pol_trainer_set(r.t, -1, &(pol_estimator){.steps = -1}), POL_EARG, "step -1");
    assert_fails(ctx, pol_trainer_set(r.t, 5, &(pol_estimator){.steps = 4}), POL_EARG, "an estimator of 4 steps");
    assert_fails(ctx, pol_trainer_set(r.t, 5, &(pol_estimator){.steps = 5, .baseline = NAN}), POL_EARG, "baseline");
    assert_int_equal(pol_trainer_next(r.t), 0);
    rig_end(&r);
}

/* ---- steps that fail ---- */

/* Runs to step 3, spoils one step, checks that nothing moved, and that the run then ends as if nothing had happened. */
static void check_failed_step(pol_context *ctx, void (*spoil)(rig *), void (*mend)(rig *), pol_status code,
                              const char *message)
{
    const pol_learn_settings o = reference_settings(6);
    rig whole, r;
    rig_start(ctx, &o, 11, 0.9f, &whole);
    run_steps(ctx, &whole, 6);
    rig_start(ctx, &o, 11, 0.9f, &r);
    run_steps(ctx, &r, 3);
    float s[64];
    int64_t next;
    pol_estimator before, after;
    memcpy(s, r.d->s, (size_t)r.u->n * sizeof *s);
    pol_trainer_get(r.t, &next, &before);
    spoil(&r);
    pol_step_report report = {.step = 77};
    assert_fails(ctx, pol_trainer_step(r.t, &report), code, message);
    mend(&r);
    assert_int_equal(report.step, 77);
    pol_trainer_get(r.t, &next, &after);
    assert_int_equal(next, 3);
    assert_memory_equal(&before, &after, sizeof before);
    assert_memory_equal(s, r.d->s, (size_t)r.u->n * sizeof *s);
    run_steps(ctx, &r, 3);
    assert_memory_equal(r.d->s, whole.d->s, (size_t)r.u->n * sizeof *s);
    rig_end(&whole);
    rig_end(&r);
}

static void lose(rig *r) { r->toy.lose_call = r->toy.calls + 1; }
static void be_silent(rig *r) { r->toy.silent = true; }
static void ask_stop(rig *r) { pol_context_stop(r->toy.ctx); }
static void stop_inside(rig *r) { r->toy.stop_call = r->toy.calls; }
static void mend_all(rig *r)
{
    r->toy.silent = false;
    r->toy.lose_call = r->toy.stop_call = -1;
    pol_context_resume(r->toy.ctx);
}

static void test_lost_loss_names_step_mask_and_sequence(void **state)
{
    pol_context *ctx = *state;
    const pol_learn_settings o = reference_settings(6);
    pol_deck *d;
    int64_t index[8];
    char message[128];
    assert_ok(ctx, toy_deck(ctx, &o, 11, &d));
    assert_ok(ctx, pol_deck_draw(d, 3, 1, index));
    pol_deck_free(d);
    snprintf(message, sizeof message, "step 3, mask 1, sequence %lld: loss is nan", (long long)index[7]);
    check_failed_step(ctx, lose, mend_all, POL_ENUMERIC, message);
}

static void test_loss_not_filled_in(void **state)
{
    check_failed_step(*state, be_silent, mend_all, POL_ENUMERIC, "step 3, mask 0, sequence");
}

static void test_stop_before_and_inside_a_step(void **state)
{
    check_failed_step(*state, ask_stop, mend_all, POL_EINTERRUPTED, "stopped");
    check_failed_step(*state, stop_inside, mend_all, POL_EINTERRUPTED, "stopped");
}

/* Memory that runs out inside the projection, after s was moved. */
static bool starved;
static void *starving_realloc(void *user, void *block, size_t bytes)
{
    (void)user;
    return starved ? NULL : realloc(block, bytes);
}
static void plain_free(void *user, void *block)
{
    (void)user;
    free(block);
}
static void starve(rig *r)
{
    (void)r;
    starved = true;
}
static void feed(rig *r)
{
    (void)r;
    starved = false;
}

static void test_projection_out_of_memory(void **state)
{
    (void)state;
    const pol_allocator a = {NULL, starving_realloc, plain_free};
    pol_context *ctx;
    assert_int_equal(pol_context_new(&a, &ctx), POL_OK);
    check_failed_step(ctx, starve, feed, POL_ENOMEM, "no memory");
    pol_context_free(ctx);
}

static void test_budget_is_checked_at_the_start(void **state)
{
    pol_context *ctx = *state;
    pol_units *u = toy_units(ctx, 2, 3, 8);
    pol_distribution *d = toy_distribution(u, POL_CHANNELS, 0.5f);
    pol_learn_settings o;
    pol_trainer *t;
    pol_learn_units(100, &o);
    assert_fails(ctx, pol_trainer_new(ctx, &o, d, 5, &(pol_losses){.look = toy_look}, &t), POL_EARG,
                 "keep of channels is 0");
    assert_null(t);
    o.budget.keep[POL_UNIT_CHANNEL] = 0.5;
    assert_fails(ctx, pol_trainer_new(ctx, &o, d, 0, &(pol_losses){.look = toy_look}, &t), POL_EARG,
                 "calibration set has 0");
    assert_null(t);
    pol_distribution_free(d);
    pol_units_free(u);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, toy_setup, toy_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_units_finds_the_right_units),
        TEST(test_reference_learns),
        TEST(test_zero_is_absorbing_in_reference_only),
        TEST(test_budget_is_kept),
        TEST(test_one_step),
        TEST(test_every_granularity),
        TEST(test_settings_are_independent),
        TEST(test_deck_covers_each_epoch_once),
        TEST(test_deck_is_a_function_of_its_arguments),
        TEST(test_masks_of_a_step_share_their_sequence),
        TEST(test_masks_of_a_step_have_their_own_sequences),
        TEST(test_resume_anywhere_ends_bit_identical),
        TEST(test_state_that_does_not_fit_is_refused),
        TEST(test_lost_loss_names_step_mask_and_sequence),
        TEST(test_loss_not_filled_in),
        TEST(test_stop_before_and_inside_a_step),
        TEST(test_projection_out_of_memory),
        TEST(test_budget_is_checked_at_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
