/* test_opencl_forward.c - the masked forward pass on OpenCL against transformers and against the CPU: in each way
 * in which the tests use a device. */
#include <math.h>

#include "tests/loaded_model.h"
#include "tests/opencl/profiles.h"

static const char *const models[] = {"llama-gqa-tied",    "llama-mha-bf16", "llama3-scaled",
                                     "llama-linear-bias", "mistral-window", "sharded-mix"};

static pol_backend *open_or_skip(pol_context *ctx, const test_profile *p)
{
    pol_backend *be = open_profile(ctx, p);
    if (!be)
        skip();
    return be;
}

/* 16 bits lose nothing of a model whose file has bf16 weights, which f16 holds too; of another they lose digits. */
static double tolerance(const pol_backend *be, const char *model)
{
    if (be->weight_dtype == POL_F32 || strcmp(model, "llama-mha-bf16") == 0)
        return 2e-5;
    return be->weight_dtype == POL_F16 ? 2e-3 : 2e-2;
}

static void golden_losses_under_every_profile(void **state)
{
    pol_context *ctx = *state;
    for (size_t p = 0; p < n_test_profiles; p++)
        for (size_t i = 0; i < POL_COUNT(models); i++) {
            loaded m;
            load_golden(&m, ctx, open_or_skip(ctx, &test_profiles[p]), models[i]);
            check_golden(&m, tolerance(m.be, models[i]));
            unload(&m);
        }
}

static void assert_as_on_the_cpu(loaded *m, loaded *cpu, const uint8_t *mask)
{
    double loss[GOLDEN_B], want[GOLDEN_B];
    golden_losses(m, mask, loss);
    golden_losses(cpu, mask, want);
    for (int b = 0; b < GOLDEN_B; b++)
        assert_near(loss[b] / want[b], 1.0, 1e-5);
}

/* Masks follow on each other, so rows lie ever elsewhere on the device: two hundred changes in all. */
static void every_mask_as_on_the_cpu(void **state)
{
    enum { MASKS = 10, BETWEEN = 20 };
    static const char name[] = "llama-mha-bf16";
    for (size_t p = 0; p < n_test_profiles; p++) {
        loaded m, cpu;
        load_golden(&m, *state, open_or_skip(*state, &test_profiles[p]), name);
        load_golden(&cpu, *state, open_cpu(*state), name);
        uint8_t *mask = malloc((size_t)m.units->n);
        for (uint64_t i = 0; i < MASKS; i++) {
            random_mask(m.units, i, mask);
            assert_as_on_the_cpu(&m, &cpu, mask);
            for (uint64_t j = 1; j <= BETWEEN; j++) {
                random_mask(m.units, MASKS + i * BETWEEN + j, mask);
                assert_ok(m.ctx, pol_model_set_mask(m.model, mask));
            }
        }
        free(mask);
        unload(&m);
        unload(&cpu);
    }
}

/* Put back, the order of the rows gives the same mask the same bits. */
static void the_order_restores_every_bit(void **state)
{
    loaded m, other;
    double want[GOLDEN_B], got[GOLDEN_B];
    load_golden(&m, *state, open_or_skip(*state, &test_profiles[0]), "llama-gqa-tied");
    load_golden(&other, *state, open_or_skip(*state, &test_profiles[0]), "llama-gqa-tied");
    uint8_t *mask = malloc((size_t)m.units->n);
    int32_t *order = malloc((size_t)pol_model_order_size(m.model) * sizeof *order);
    for (uint64_t i = 0; i < 20; i++) {
        random_mask(m.units, i, mask);
        assert_ok(m.ctx, pol_model_set_mask(m.model, mask));
    }
    pol_model_get_order(m.model, order);
    random_mask(m.units, 99, mask);
    golden_losses(&m, mask, want);
    assert_ok(other.ctx, pol_model_set_order(other.model, order));
    golden_losses(&other, mask, got);
    assert_memory_equal(want, got, sizeof want);
    free(order);
    free(mask);
    unload(&m);
    unload(&other);
}

/* What the plan names is what is taken, whatever widths are rounded up to and however the vocabulary is cut. */
static void memory_is_as_planned(void **state)
{
    static const int64_t tile[] = {1, 7, 64}, slice[] = {5, 95, 100000};
    for (size_t i = 0; i < POL_COUNT(tile); i++) {
        loaded m;
        pol_backend *be = open_or_skip(*state, &test_profiles[0]);
        be->width_tile = tile[i];
        be->nll_slice = slice[i];
        load_golden(&m, *state, be, "llama-linear-bias");
        const pol_config *c = pol_model_config(m.model);
        assert_int_equal(be->bytes_in_use,
                         pol_model_bytes(c, be, NULL) + pol_forward_bytes(c, be, NULL, GOLDEN_B * GOLDEN_S, GOLDEN_S));
        check_golden(&m, 2e-5);
        unload(&m);
    }
}

/* The demo's model, named by the environment: 30 layers, quantised in the file. */
static void smollm2_as_on_the_cpu(void **state)
{
    const char *path = getenv("POLLARD_TEST_SMOLLM2");
    if (!path) {
        printf("skipped: POLLARD_TEST_SMOLLM2 names no model\n");
        skip();
    }
    loaded m;
    load_model(&m, *state, open_or_skip(*state, &test_profiles[0]), path, test_file("models/smollm2-135m.golden.json"),
               GOLDEN_B, GOLDEN_S);
    check_golden(&m, 2e-5);
    unload(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_losses_under_every_profile),
        cmocka_unit_test(every_mask_as_on_the_cpu),
        cmocka_unit_test(the_order_restores_every_bit),
        cmocka_unit_test(memory_is_as_planned),
        cmocka_unit_test(smollm2_as_on_the_cpu),
    };
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}
