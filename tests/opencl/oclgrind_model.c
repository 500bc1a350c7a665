/* oclgrind_model.c - what oclgrind watches (oclgrind.cmake): the forward pass, changes of the mask and a metric on
 * small models, and of the ops what these do not ask for, in each way in which the tests use a device. The numbers are
 * held against the CPU's, so that what was watched was the work itself; buffers have room for what is done and no more.
 * A simulated product takes its time, so there are few of them. */
#include <math.h>

#include "backends/drivers.h"
#include "pollard/score.h"
#include "tests/loaded_model.h"
#include "tests/opencl/profiles.h"
#include "tests/ops/conformance.h"

enum {
    SEQUENCES = 1,
    LENGTH = 34, /* more than attention takes keys at a time */
    MASKS = 2,
    SLICE = 40 /* so that the vocabulary of 96 goes by in three */
};

static void compare_losses(loaded *m, loaded *cpu)
{
    uint8_t *mask = malloc((size_t)m->units->n);
    for (uint64_t i = 0; i < MASKS; i++) {
        double loss[SEQUENCES], want[SEQUENCES];
        random_mask(m->units, i, mask);
        assert_ok(m->ctx, pol_model_set_mask(m->model, i == 0 ? NULL : mask));
        assert_ok(m->ctx, pol_model_set_mask(cpu->model, i == 0 ? NULL : mask));
        assert_ok(m->ctx, pol_forward_nll(m->forward, m->ids, SEQUENCES, LENGTH, NULL, loss));
        assert_ok(m->ctx, pol_forward_nll(cpu->forward, m->ids, SEQUENCES, LENGTH, NULL, want));
        for (int b = 0; b < SEQUENCES; b++)
            assert_near(loss[b] / want[b], 1.0, m->be->weight_dtype == POL_F32 ? 1e-5 : 2e-2);
    }
    free(mask);
}

static void compare_metric(loaded *m, loaded *cpu)
{
    static const double keep[POL_UNIT_KINDS] = {0.6, 0.6, 1, 1};
    const unsigned granularity = 1u << POL_UNIT_GROUP | 1u << POL_UNIT_CHANNEL;
    const pol_sequences cal = {.ctx = m->ctx, .n = SEQUENCES, .seq_len = LENGTH, .ids = m->ids};
    float *got = malloc((size_t)m->units->n * sizeof *got), *want = malloc((size_t)m->units->n * sizeof *want);
    assert_ok(m->ctx, pol_metric_compute(m->forward, POL_METRIC_WANDA_SP, &cal, granularity, keep, 1, got, NULL));
    assert_ok(m->ctx, pol_metric_compute(cpu->forward, POL_METRIC_WANDA_SP, &cal, granularity, keep, 1, want, NULL));
    for (int64_t u = 0; u < m->units->n; u++)
        assert_near(got[u], want[u], (m->be->weight_dtype == POL_F32 ? 1e-5 : 2e-1) * fabs(want[u]));
    free(got);
    free(want);
}

/* Second moments, and several targets a token. */
static void compare_ops(pol_backend *be)
{
    static const op_case cases[] = {
        {"gram", .T = 5, .N = 9, .M = 3, .calls = 2},
        {"nll", .T = 2, .k = 20, .C = 8, .V = 50, .slice = 30},
    };
    pol_backend *reference;
    assert_ok(be->ctx, pol_reference_open(be->ctx, &reference));
    for (size_t i = 0; i < POL_COUNT(cases); i++)
        check_case(&cases[i], be, reference);
    pol_backend_close(reference);
}

/* One model has biases, the other grouped queries and a window; both meet both variants of the kernels. In pieces of a
 * row there are products by the hundred: then no metric. */
static void under_every_profile(void **state)
{
    static const char *const models[] = {"llama-linear-bias", "mistral-window"};
    pol_context *ctx = *state;
    for (size_t p = 0; p < n_test_profiles; p++) {
        loaded m, cpu;
        const char *model = models[p / 2 % 2];
        pol_backend *be = open_profile(ctx, &test_profiles[p]);
        if (!be)
            skip();
        printf("%s: %s, %s\n", be->info.name, test_profiles[p].name, model);
        be->nll_slice = SLICE;
        load_named(&m, ctx, be, model, SEQUENCES, LENGTH);
        load_named(&cpu, ctx, open_cpu(ctx), model, SEQUENCES, LENGTH);
        compare_losses(&m, &cpu);
        if (!test_profiles[p].piece_bytes)
            compare_metric(&m, &cpu);
        compare_ops(be);
        unload(&m);
        unload(&cpu);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(under_every_profile)};
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}
