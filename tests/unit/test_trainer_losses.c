/* test_trainer_losses.c - how a trainer asks for losses: all masks of a step before any answer, and what becomes of
 * answers that nobody waits for. */
#include <math.h>

#include "core/base/base.h"
#include "tests/unit/learn_toy.h"

enum { SEQUENCES = 11, UNITS = 26, ASKED = 16 };

/* One look, kept until it is settled. */
typedef struct asked {
    double *to;
    double value[8];
    int64_t n;
} asked;

typedef struct toy {
    pol_context *ctx;
    const pol_units *units;
    bool at_once; /* fills in while it is asked */
    asked asked[ASKED];
    int64_t n, looks, settles, drops;
    int64_t fail_look, stop_look, lose_look; /* the look that fails, stops the run or loses its last value; -1: none */
    bool fail_settle;
} toy;

static pol_status look(void *user, const uint8_t *mask, const int64_t *index, int64_t n, double *loss)
{
    toy *t = user;
    const int64_t now = t->looks++;
    if (now == t->fail_look)
        return pol_fail(t->ctx, POL_EDEVICE, "look: planted");
    if (now == t->stop_look)
        pol_context_stop(t->ctx);
    assert_true(t->n < ASKED && n <= 8);
    asked *a = &t->asked[t->n++];
    *a = (asked){.to = loss, .n = n};
    for (int64_t i = 0; i < n; i++) {
        assert_true(isnan(loss[i])); /* what is not filled in will be noticed */
        a->value[i] = 1.0 + 0.25 * (double)(index[i] * 7 % SEQUENCES);
        for (int64_t u = 0; u < t->units->n; u++)
            a->value[i] += mask[u] ? 0.0 : (u % 2 ? 0.05 : 0.4);
        if (now == t->lose_look && i == n - 1)
            a->value[i] = (double)INFINITY;
    }
    if (t->at_once) {
        memcpy(loss, a->value, (size_t)n * sizeof *loss);
        t->n = 0;
    }
    return POL_OK;
}

static pol_status settle(void *user)
{
    toy *t = user;
    t->settles++;
    if (t->fail_settle)
        return pol_fail(t->ctx, POL_EDEVICE, "settle: planted");
    for (int64_t i = 0; i < t->n; i++)
        memcpy(t->asked[i].to, t->asked[i].value, (size_t)t->asked[i].n * sizeof(double));
    t->n = 0;
    return POL_OK;
}

static void drop(void *user)
{
    toy *t = user;
    t->drops++;
    t->n = 0;
}

typedef struct rig {
    pol_units *u;
    pol_distribution *d;
    pol_trainer *t;
    toy toy;
} rig;

static void rig_start(pol_context *ctx, const pol_learn_settings *o, bool at_once, rig *r)
{
    memset(r, 0, sizeof *r);
    r->u = toy_units(ctx, 2, 3, 8);
    r->d = toy_distribution(r->u, POL_HEADS | POL_CHANNELS, 0.8f);
    r->toy = (toy){.ctx = ctx, .units = r->u, .at_once = at_once, .fail_look = -1, .stop_look = -1, .lose_look = -1};
    const pol_losses late = {.look = look, .settle = settle, .drop = drop, .user = &r->toy};
    const pol_losses now = {.look = look, .user = &r->toy};
    assert_ok(ctx, pol_trainer_new(ctx, o, r->d, SEQUENCES, at_once ? &now : &late, &r->t));
}

static void rig_end(rig *r)
{
    pol_trainer_free(r->t);
    pol_distribution_free(r->d);
    pol_units_free(r->u);
}

static pol_learn_settings settings(int32_t K, int32_t nb, bool shared)
{
    pol_learn_settings o;
    pol_learn_units(0, &o);
    o.mask_samples = K;
    o.sequences_per_mask = nb;
    o.shared_sequences = shared;
    o.steps = 12;
    o.learning_rate = 0.05;
    o.budget.keep[POL_UNIT_GROUP] = o.budget.keep[POL_UNIT_CHANNEL] = 0.5;
    return o;
}

/* A step waits once, after its last mask; the numbers are those of losses that are there at once. */
static void test_a_step_waits_once(void **state)
{
    pol_context *ctx = *state;
    for (int way = 0; way < 4; way++) {
        const pol_learn_settings o = settings(way % 2 ? 5 : 2, way < 2 ? 1 : 3, way % 2 == 0);
        rig late, now;
        rig_start(ctx, &o, false, &late);
        rig_start(ctx, &o, true, &now);
        for (int64_t step = 0; step < o.steps; step++) {
            pol_step_report a, b;
            assert_ok(ctx, pol_trainer_step(late.t, &a));
            assert_ok(ctx, pol_trainer_step(now.t, &b));
            assert_int_equal(late.toy.looks, (step + 1) * o.mask_samples);
            assert_int_equal(late.toy.settles, step + 1);
            assert_int_equal(late.toy.n, 0);
            assert_true(a.loss == b.loss && a.baseline == b.baseline && a.grad_norm == b.grad_norm);
            assert_memory_equal(late.d->s, now.d->s, UNITS * sizeof *late.d->s);
        }
        assert_int_equal(late.toy.drops, 0);
        rig_end(&late);
        rig_end(&now);
    }
}

/* Two good steps, one that is spoilt, and then the rest: as if nothing had been. */
static void check_spoilt(pol_context *ctx, void (*spoil)(rig *), pol_status code, const char *message, int64_t drops,
                         int64_t looks)
{
    const pol_learn_settings o = settings(4, 2, false);
    rig r, whole;
    float before[UNITS];
    rig_start(ctx, &o, false, &r);
    rig_start(ctx, &o, false, &whole);
    for (int i = 0; i < 2; i++)
        assert_ok(ctx, pol_trainer_step(r.t, NULL));
    memcpy(before, r.d->s, sizeof before);
    spoil(&r);
    const int64_t looked = r.toy.looks;
    assert_fails(ctx, pol_trainer_step(r.t, NULL), code, message);
    assert_int_equal(r.toy.looks - looked, looks);
    assert_int_equal(r.toy.drops, drops);
    assert_int_equal(r.toy.n, 0); /* nothing is left to be written later */
    assert_int_equal(pol_trainer_next(r.t), 2);
    assert_memory_equal(before, r.d->s, sizeof before);
    r.toy.fail_look = r.toy.stop_look = r.toy.lose_look = -1;
    r.toy.fail_settle = false;
    pol_context_resume(ctx);
    while (pol_trainer_next(r.t) < o.steps)
        assert_ok(ctx, pol_trainer_step(r.t, NULL));
    while (pol_trainer_next(whole.t) < o.steps)
        assert_ok(ctx, pol_trainer_step(whole.t, NULL));
    assert_memory_equal(whole.d->s, r.d->s, sizeof before);
    rig_end(&r);
    rig_end(&whole);
}

static void fail_a_look(rig *r) { r->toy.fail_look = r->toy.looks + 2; }
static void fail_the_settling(rig *r) { r->toy.fail_settle = true; }
static void stop_before(rig *r) { pol_context_stop(r->toy.ctx); }
static void stop_in_the_middle(rig *r) { r->toy.stop_look = r->toy.looks + 1; }
static void stop_at_the_last(rig *r) { r->toy.stop_look = r->toy.looks + 3; }
static void lose_a_value(rig *r) { r->toy.lose_look = r->toy.looks + 1; }

static void test_failures_drop_what_was_asked(void **state)
{
    pol_context *ctx = *state;
    check_spoilt(ctx, fail_a_look, POL_EDEVICE, "look: planted", 1, 3);
    check_spoilt(ctx, fail_the_settling, POL_EDEVICE, "settle: planted", 1, 4);
    check_spoilt(ctx, stop_before, POL_EINTERRUPTED, "stopped", 1, 0);
    check_spoilt(ctx, stop_in_the_middle, POL_EINTERRUPTED, "stopped", 1, 2);
}

/* The stop comes too late for this step: it is finished. */
static void test_stop_during_the_last_look(void **state)
{
    pol_context *ctx = *state;
    const pol_learn_settings o = settings(4, 2, false);
    rig r;
    rig_start(ctx, &o, false, &r);
    stop_at_the_last(&r);
    assert_ok(ctx, pol_trainer_step(r.t, NULL));
    assert_fails(ctx, pol_trainer_step(r.t, NULL), POL_EINTERRUPTED, "stopped");
    pol_context_resume(ctx);
    rig_end(&r);
}

/* A lost value is named by its own mask and sequence, though others came after it. */
static void test_a_lost_value_is_named(void **state)
{
    pol_context *ctx = *state;
    const pol_learn_settings o = settings(4, 2, false);
    int64_t index[2];
    char message[128];
    pol_deck *d;
    assert_ok(ctx, toy_deck(ctx, &o, SEQUENCES, &d));
    assert_ok(ctx, pol_deck_draw(d, 2, 1, index));
    pol_deck_free(d);
    snprintf(message, sizeof message, "step 2, mask 1, sequence %lld: loss is inf", (long long)index[1]);
    check_spoilt(ctx, lose_a_value, POL_ENUMERIC, message, 0, 4);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, toy_setup, toy_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_a_step_waits_once),
        TEST(test_failures_drop_what_was_asked),
        TEST(test_stop_during_the_last_look),
        TEST(test_a_lost_value_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
