/* test_cuda_forward.c - the masked forward pass on a simulated device, beside two CPUs whose weights are rounded as the
 * device's are.
 *
 * The one rounds what its ops leave to each other in the same places. Then all that is left to differ are the orders of
 * sums, by 1e-7 or so, but for the odd number that lies where two roundings part: that one differs by a whole step, and
 * with it what follows from it, in the tokens after it.
 *
 * The other has activations in f32. The device rounds five times a layer, each time by about 2^-10 of a number, and the
 * large random weights of these models pass on more than they get: a token's loss, which is near 5, comes out 1e-2 off
 * or more, up or down. Over the tokens of a pass that must even out.
 */
#include <math.h>

#include "tests/cuda/made_model.h"
#include "tests/cuda/profiles.h"
#include "tests/cuda/rounding_cpu.h"

enum { B = 2, S = 20, TARGETS = B * (S - 1) };

static const char *const models[] = {"llama-gqa-tied", "llama-mha-bf16", "llama3-scaled", "llama-linear-bias",
                                     "mistral-window", "sharded-mix",    "quantised.gguf"};

/* Of these the heads are wide enough for attention by tiles, which golden models' are not. */
static const made_sizes wide_heads = {
    .layers = 2, .hidden = 48, .groups = 2, .heads_per_group = 2, .head_dim = 32, .ffn = 80, .vocab = 96};

typedef struct fixture {
    pol_context *ctx;
    char made[64];
} fixture;

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    strcpy(f->made, "/tmp/pollard-made-XXXXXX");
    switch_on(1, 0);
    if (pol_context_new(NULL, &f->ctx) < 0)
        return -1;
    make_model(f->ctx, &wide_heads, f->made);
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    const pol_status s = pol_remove_tree(f->ctx, f->made);
    pol_context_free(f->ctx);
    free(f);
    return s;
}

/* ---- losses beside each other ---- */

typedef struct comparison {
    double sum, squares;          /* of the differences, token by token */
    int64_t n, equal;             /* tokens; those that differ by no more than sums may */
    double largest, largest_mean; /* of a token; of a pass, relative */
} comparison;

static void compare(const float got[TARGETS], const float want[TARGETS], comparison *c)
{
    double mean = 0, error = 0;
    for (int i = 0; i < TARGETS; i++) {
        const double d = (double)got[i] - want[i];
        assert_true(isfinite(got[i]));
        c->sum += d;
        c->squares += d * d;
        c->equal += fabs(d) < 1e-5;
        c->largest = fmax(c->largest, fabs(d));
        error += d;
        mean += want[i];
    }
    c->n += TARGETS;
    c->largest_mean = fmax(c->largest_mean, fabs(error / mean));
}

static void pass(loaded *m, const uint8_t *mask, float nll[TARGETS])
{
    assert_ok(m->ctx, pol_model_set_mask(m->model, mask));
    assert_ok(m->ctx, pol_forward_nll(m->forward, m->ids, B, S, nll, NULL));
}

/* The three, and what the first is held against. */
typedef struct trio {
    loaded device, rounding, exact;
    comparison with_rounding, with_exact;
} trio;

static void compare_masked(trio *t, const uint8_t *mask)
{
    float got[TARGETS], want[TARGETS];
    pass(&t->device, mask, got);
    pass(&t->rounding, mask, want);
    compare(got, want, &t->with_rounding);
    pass(&t->exact, mask, want);
    compare(got, want, &t->with_exact);
}

/* Dense, nothing left, half of the units, and each kind of block gone. */
static void compare_masks(trio *t)
{
    enum { MASKS = 4 };
    const pol_units *u = t->device.units;
    uint8_t *mask = malloc((size_t)u->n);
    compare_masked(t, NULL);
    for (uint64_t i = 0; i < MASKS; i++) {
        random_mask(u, i, mask);
        mask[pol_units_section(u, POL_UNIT_ATTENTION, 0)->first] = i == 1;
        mask[pol_units_section(u, POL_UNIT_MLP, 1)->first] = i == 2;
        compare_masked(t, mask);
    }
    free(mask);
}

static void compare_model(fixture *f, const test_profile *p, const char *path, trio *t)
{
    pol_ops ops;
    load_placed(&t->device, f->ctx, open_profile(f->ctx, p), path, NULL, B, S);
    load_placed(&t->rounding, f->ctx, open_cpu(f->ctx), path, NULL, B, S);
    load_placed(&t->exact, f->ctx, open_cpu(f->ctx), path, NULL, B, S);
    round_weights(&t->rounding);
    round_weights(&t->exact);
    round_activations(t->rounding.be, p->use.fuse != CU_FUSE_NEVER, &ops);
    compare_masks(t);
    unload(&t->device);
    unload(&t->rounding);
    unload(&t->exact);
    assert_clean();
}

/* As often up as down: a mean that is four of its standard errors from nothing comes by chance once in 16,000 times. */
static void assert_noise(const comparison *c, double deviation)
{
    const double mean = c->sum / (double)c->n, rms = sqrt(c->squares / (double)c->n);
    printf("%lld tokens: mean difference %.1e, deviation %.1e, largest %.1e; of a pass %.1e\n", (long long)c->n, mean,
           rms, c->largest, c->largest_mean);
    assert_true(rms > 0 && rms < deviation);
    assert_true(fabs(mean) < 4 * rms / sqrt((double)c->n));
    assert_true(c->largest < 10 * deviation);
    assert_true(c->largest_mean < 3e-3);
}

/* All but the tokens in the wake of a number that two roundings part. */
static void assert_equal(const comparison *c)
{
    printf("%lld tokens, %lld equal, largest difference %.1e\n", (long long)c->n, (long long)c->equal, c->largest);
    assert_true(c->equal * 10 >= c->n * 8);
    assert_true(c->largest < 0.1);
}

/* Two profiles: gate, up and swiglu in one kernel, and by cuBLASLt. */
static void every_model_as_on_the_cpu(void **state)
{
    fixture *f = *state;
    for (size_t p = 0; p < 2; p++) {
        trio t = {.with_exact.n = 0};
        for (size_t i = 0; i < POL_COUNT(models); i++) {
            char name[64];
            snprintf(name, sizeof name, "models/%s", models[i]);
            compare_model(f, &test_profiles[p], test_file(name), &t);
        }
        assert_equal(&t.with_rounding);
        assert_noise(&t.with_exact, 2e-2);
    }
}

/* Attention by tiles rounds the softmax too. */
static void every_attention_as_on_the_cpu(void **state)
{
    fixture *f = *state;
    trio t = {.with_exact.n = 0};
    assert_true(pol_cu_attention_serves(POL_CU_ATTENTION_ONE_PASS, S, 2, 32, 48 << 10));
    assert_true(pol_cu_attention_serves(POL_CU_ATTENTION_ONLINE, S, 2, 32, 48 << 10));
    for (size_t p = 0; p < n_test_profiles; p++) {
        compare_model(f, &test_profiles[p], f->made, &t);
        if (test_profiles[p].use.attention == POL_CU_ATTENTION_PLAIN)
            assert_equal(&t.with_rounding);
        t.with_rounding = (comparison){.n = 0};
    }
    assert_noise(&t.with_exact, 1e-2);
}

/* The demo's model, named by the environment: 30 layers, quantised in the file. A few tokens of it take seconds. */
static void smollm2_as_on_the_cpu(void **state)
{
    enum { LENGTH = 12 };
    fixture *f = *state;
    const char *path = getenv("POLLARD_TEST_SMOLLM2"), *golden = test_file("models/smollm2-135m.golden.json");
    if (!path) {
        printf("skipped: POLLARD_TEST_SMOLLM2 names no model\n");
        skip();
    }
    pol_backend *backends[] = {open_profile(f->ctx, &test_profiles[0]), open_cpu(f->ctx)};
    double loss[2];
    for (int i = 0; i < 2; i++) {
        loaded m;
        load_model(&m, f->ctx, backends[i], path, golden, 1, LENGTH);
        assert_ok(f->ctx, pol_forward_nll(m.forward, m.ids, 1, LENGTH, NULL, &loss[i]));
        unload(&m);
    }
    printf("%.6f, on the CPU %.6f\n", loss[0], loss[1]);
    assert_near(loss[0] / loss[1], 1, 1e-2);
    assert_clean();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_model_as_on_the_cpu),
        cmocka_unit_test(every_attention_as_on_the_cpu),
        cmocka_unit_test(smollm2_as_on_the_cpu),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
