/* test_cuda_learning.c - policy gradient with the losses of a simulated device: the same masks as with the CPU's where
 * losses are the same, nearly the same course where they differ by activations of 16 bits, and the same bits in
 * whatever order the device does its work.
 */
#include <math.h>

#include "pollard/learn.h"
#include "tests/cuda/profiles.h"
#include "tests/loaded_model.h"

enum { LENGTH = 8, SEQUENCES = GOLDEN_B * GOLDEN_S / LENGTH, STEPS = 20, MOST_LOOKS = STEPS * 3, MOST_CELLS = 2 };
static const char MODEL[] = "llama-mha-bf16"; /* of which 16 bits hold all weights */

/* What a trainer asked, and was told. */
typedef struct course {
    int64_t n; /* looks */
    uint8_t *mask[MOST_LOOKS];
    double loss[MOST_LOOKS][MOST_CELLS];
    float *s; /* probabilities at the end */
    int64_t units;
} course;

typedef struct learner {
    loaded m;
    course *took;
    const course *told; /* losses to be told instead of the device's; NULL: those */
    double *asked[MOST_LOOKS];
    int64_t cells, settled; /* of a look; looks settled */
} learner;

static pol_status look(void *user, const uint8_t *mask, const int64_t *index, int64_t n, double *loss)
{
    learner *l = user;
    course *c = l->took;
    const int64_t i = c->n++;
    assert_true(i < MOST_LOOKS && n <= MOST_CELLS);
    l->cells = n;
    l->asked[i] = loss;
    c->mask[i] = malloc((size_t)c->units);
    memcpy(c->mask[i], mask, (size_t)c->units);
    POL_TRY(pol_model_set_mask(l->m.model, mask));
    for (int64_t k = 0; k < n; k++)
        POL_TRY(pol_forward_queue(l->m.forward, l->m.ids + index[k] * LENGTH, 1, LENGTH, NULL, &c->loss[i][k]));
    return POL_OK;
}

static pol_status settle(void *user)
{
    learner *l = user;
    POL_TRY(pol_forward_settle(l->m.forward));
    for (; l->settled < l->took->n; l->settled++)
        memcpy(l->asked[l->settled], (l->told ? l->told : l->took)->loss[l->settled],
               (size_t)l->cells * sizeof(double));
    return POL_OK;
}

static void drop(void *user) { pol_forward_drop(((learner *)user)->m.forward); }

typedef enum method { UNITS, REFERENCE } method;

static void settings_of(method which, pol_learn_settings *o)
{
    if (which == UNITS) {
        pol_learn_units(0, o);
        o->steps = STEPS;
        o->mask_samples = 3;
        o->learning_rate = 0.05;
    } else {
        pol_learn_reference(STEPS, o);
        o->sequences_per_mask = 2;
        o->learning_rate = 0.02; /* for so few steps */
    }
    o->budget = (pol_budget){.mode = POL_BUDGET_SEPARATE, .keep = {0.7, 0.7, 0.7, 0.7}};
}

static bool of_the_cpu(const pol_backend *be) { return be->info.type == POL_DEVICE_CPU; }

/* From probabilities of 0.7 each; a device is waited for once a step. Takes the backend over. */
static void learn(pol_context *ctx, pol_backend *be, method which, const course *told, course *took)
{
    static const unsigned all = (1u << POL_UNIT_KINDS) - 1;
    learner l = {.took = took, .told = told};
    pol_learn_settings o;
    pol_distribution *d;
    pol_trainer *t;
    settings_of(which, &o);
    load_golden(&l.m, ctx, be, MODEL);
    *took = (course){.units = l.m.units->n, .s = malloc((size_t)l.m.units->n * sizeof(float))};
    assert_ok(ctx, pol_distribution_new(l.m.units, all, &d));
    for (int64_t i = 0; i < took->units; i++)
        d->s[i] = 0.7f;
    assert_ok(ctx, pol_trainer_new(ctx, &o, d, SEQUENCES,
                                   &(pol_losses){.look = look, .settle = settle, .drop = drop, .user = &l}, &t));
    const int64_t waits = sim_counted().waits;
    for (int step = 1; step <= STEPS; step++) {
        assert_ok(ctx, pol_trainer_step(t, NULL));
        assert_int_equal(sim_counted().waits - waits, of_the_cpu(be) ? 0 : step);
    }
    memcpy(took->s, d->s, (size_t)took->units * sizeof *took->s);
    pol_trainer_free(t);
    pol_distribution_free(d);
    unload(&l.m);
}

static void forget(course *c)
{
    for (int64_t i = 0; i < c->n; i++)
        free(c->mask[i]);
    free(c->s);
}

static pol_backend *open_device(pol_context *ctx) { return open_profile(ctx, &test_profiles[0]); }

/* Looks from the first on under the same masks. */
static int64_t same_masks(const course *a, const course *b)
{
    int64_t i = 0;
    assert_int_equal(a->n, b->n);
    while (i < a->n && !memcmp(a->mask[i], b->mask[i], (size_t)a->units))
        i++;
    return i;
}

static double largest_loss_difference(const course *a, const course *b, int64_t looks)
{
    double most = 0;
    for (int64_t i = 0; i < looks; i++)
        for (int k = 0; k < MOST_CELLS; k++)
            most = fmax(most, fabs(a->loss[i][k] - b->loss[i][k]));
    return most;
}

static double distance(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sqrt(sum);
}

static double way_of(const course *c)
{
    float *start = malloc((size_t)c->units * sizeof *start);
    for (int64_t i = 0; i < c->units; i++)
        start[i] = 0.7f;
    const double way = distance(c->s, start, c->units);
    free(start);
    return way;
}

static void check_beside_the_cpu(pol_context *ctx, method which)
{
    course cpu, told, own, again;
    learn(ctx, open_cpu(ctx), which, NULL, &cpu);
    learn(ctx, open_device(ctx), which, &cpu, &told);
    learn(ctx, open_device(ctx), which, NULL, &own);
    sim_seed(77);
    learn(ctx, open_device(ctx), which, NULL, &again);
    const double way = way_of(&cpu), drift = distance(own.s, cpu.s, cpu.units);
    const int64_t same = same_masks(&own, &cpu);
    printf("losses differ by %.1e at most; masks are the same for %lld looks of %lld; probabilities go %.3f and end "
           "%.3f apart\n",
           largest_loss_difference(&told, &cpu, cpu.n), (long long)same, (long long)cpu.n, way, drift);
    /* With the same losses the same masks and probabilities, and the device's losses under them are the CPU's but for
     * the noise that test_cuda_forward measures: here a loss is of 7 tokens. */
    assert_int_equal(same_masks(&told, &cpu), cpu.n);
    assert_memory_equal(told.s, cpu.s, (size_t)cpu.units * sizeof *cpu.s);
    assert_true(largest_loss_difference(&told, &cpu, cpu.n) < 5e-2);
    /* With its own: the first step's masks are drawn before there is a loss, and the course is about the same. */
    assert_true(same >= 2);
    assert_true(way > 0.1 && drift < way / 4);
    /* In whatever order the device does what it may: the same bits. */
    assert_int_equal(same_masks(&own, &again), own.n);
    assert_memory_equal(own.loss, again.loss, sizeof own.loss);
    assert_memory_equal(own.s, again.s, (size_t)own.units * sizeof *own.s);
    assert_clean();
    forget(&again);
    forget(&cpu);
    forget(&told);
    forget(&own);
}

static void units_beside_the_cpu(void **state) { check_beside_the_cpu(*state, UNITS); }
static void reference_beside_the_cpu(void **state) { check_beside_the_cpu(*state, REFERENCE); }

static int setup(void **state)
{
    switch_on(1, 0);
    return test_context_open(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units_beside_the_cpu),
        cmocka_unit_test(reference_beside_the_cpu),
    };
    return cmocka_run_group_tests(tests, setup, test_context_close);
}
