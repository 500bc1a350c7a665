/* test_opencl_learning.c - metrics and policy gradient with the losses of an OpenCL device beside those of the CPU, in
 * each way in which the tests use a device. */
#include <math.h>

#include "pollard/learn.h"
#include "pollard/score.h"
#include "tests/loaded_model.h"
#include "tests/opencl/profiles.h"

enum { LENGTH = 16, SEQUENCES = GOLDEN_B * GOLDEN_S / LENGTH, STEPS = 20 };
static const unsigned ALL = (1u << POL_UNIT_KINDS) - 1;
static const char MODEL[] = "llama-mha-bf16"; /* 16 bits hold its weights, so that no loss depends on their type */

static void load_or_skip(loaded *m, pol_context *ctx, const test_profile *p)
{
    pol_backend *be = open_profile(ctx, p);
    if (!be)
        skip();
    load_golden(m, ctx, be, MODEL);
}

static pol_sequences sequences_of(loaded *m)
{
    return (pol_sequences){.ctx = m->ctx, .n = SEQUENCES, .seq_len = LENGTH, .ids = m->ids};
}

/* ---- metrics ---- */

static void compute(loaded *m, pol_metric metric, float *values)
{
    static const double keep[POL_UNIT_KINDS] = {0.6, 0.6, 0.8, 0.8};
    const pol_sequences cal = sequences_of(m);
    assert_ok(m->ctx, pol_metric_compute(m->forward, metric, &cal, ALL, keep, 42, values, NULL));
}

static void metrics_are_those_of_the_cpu(void **state)
{
    static const pol_metric metrics[] = {POL_METRIC_WANDA_SP, POL_METRIC_MAGNITUDE};
    for (size_t p = 0; p < n_test_profiles; p++)
        for (size_t i = 0; i < POL_COUNT(metrics); i++) {
            loaded m, cpu;
            load_or_skip(&m, *state, &test_profiles[p]);
            load_golden(&cpu, *state, open_cpu(*state), MODEL);
            const int64_t n = m.units->n, contents = m.units->n_of[POL_UNIT_GROUP] + m.units->n_of[POL_UNIT_CHANNEL];
            float *got = malloc((size_t)n * sizeof *got), *want = malloc((size_t)n * sizeof *want);
            compute(&m, metrics[i], got);
            compute(&cpu, metrics[i], want);
            for (int64_t u = 0; u < n; u++) {
                assert_true(u >= contents || want[u] > 0);
                assert_near(got[u], want[u], 1e-5 * fabs(want[u]));
            }
            free(got);
            free(want);
            unload(&m);
            unload(&cpu);
        }
}

/* ---- learning ---- */

static pol_status look(void *user, const uint8_t *mask, const int64_t *index, int64_t n, double *loss)
{
    loaded *m = user;
    int32_t ids[LENGTH];
    POL_TRY(pol_model_set_mask(m->model, mask));
    for (int64_t i = 0; i < n; i++) {
        memcpy(ids, m->ids + index[i] * LENGTH, sizeof ids);
        POL_TRY(pol_forward_queue(m->forward, ids, 1, LENGTH, NULL, loss + i));
    }
    return POL_OK;
}

static pol_status settle(void *user) { return pol_forward_settle(((loaded *)user)->forward); }
static void drop(void *user) { pol_forward_drop(((loaded *)user)->forward); }

/* Probabilities after 20 steps from 0.7 each. */
static void learn(loaded *m, float *s)
{
    pol_learn_settings o;
    pol_distribution *d;
    pol_trainer *t;
    pol_learn_units(0, &o);
    o.steps = STEPS;
    o.mask_samples = 4;
    o.sequences_per_mask = 2;
    o.learning_rate = 0.05;
    o.budget = (pol_budget){.mode = POL_BUDGET_SEPARATE, .keep = {0.7, 0.7, 0.7, 0.7}};
    assert_ok(m->ctx, pol_distribution_new(m->units, ALL, &d));
    for (int64_t i = 0; i < m->units->n; i++)
        d->s[i] = 0.7f;
    assert_ok(m->ctx, pol_trainer_new(m->ctx, &o, d, SEQUENCES,
                                      &(pol_losses){.look = look, .settle = settle, .drop = drop, .user = m}, &t));
    while (pol_trainer_next(t) < STEPS)
        assert_ok(m->ctx, pol_trainer_step(t, NULL));
    memcpy(s, d->s, (size_t)m->units->n * sizeof *s);
    pol_trainer_free(t);
    pol_distribution_free(d);
}

static void probabilities_are_those_of_the_cpu(void **state)
{
    loaded m, cpu;
    load_golden(&cpu, *state, open_cpu(*state), MODEL);
    const int64_t n = cpu.units->n;
    float *got = malloc((size_t)n * sizeof *got), *want = malloc((size_t)n * sizeof *want), moved = 0;
    learn(&cpu, want);
    for (int64_t i = 0; i < n; i++)
        moved = fmaxf(moved, fabsf(want[i] - 0.7f));
    assert_true(moved > 0.05f); /* so 1e-3 says something */
    for (size_t p = 0; p < n_test_profiles; p++) {
        load_or_skip(&m, *state, &test_profiles[p]);
        learn(&m, got);
        for (int64_t i = 0; i < n; i++)
            assert_near(got[i], want[i], 1e-3);
        unload(&m);
    }
    free(got);
    free(want);
    unload(&cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metrics_are_those_of_the_cpu),
        cmocka_unit_test(probabilities_are_those_of_the_cpu),
    };
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}
