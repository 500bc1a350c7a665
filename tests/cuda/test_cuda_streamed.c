/* test_cuda_streamed.c - a model whose layers visit the device, through the backend's own streams, in whatever order
 * they take: the losses of the model that stays there, one wait a step, and each layer copied once for all of its
 * passes. */
#include "core/base/rng.h"
#include "core/model/weights.h"
#include "pollard/memory.h"
#include "tests/cuda/profiles.h"

enum { B = 1, S = 12, PASSES = 5, STEPS = 2, SEEDS = 4, COPY = 1 };

typedef struct fixture {
    pol_source *src;
    pol_backend *be;
    pol_memory plan;
    pol_model *model;
    pol_forward *forward;
} fixture;

/* Of all that is needed, less a byte where layers are to visit. */
static void open_model(pol_context *ctx, bool streamed, fixture *f)
{
    switch_on(1, 0);
    assert_ok(ctx, pol_source_open(ctx, test_file("models/trained"), &f->src));
    f->be = open_small(ctx, 1 << 16);
    const pol_config *c = pol_source_config(f->src);
    pol_memory_request r = {.max_tokens = B * S, .max_seq_len = S, .cells = PASSES};
    pol_memory_plan(c, f->be, &r, &f->plan);
    assert_false(f->plan.placement.streamed);
    if (streamed) {
        r.limit = f->plan.weight_bytes + f->plan.activation_bytes - 1;
        pol_memory_plan(c, f->be, &r, &f->plan);
        assert_true(f->plan.placement.streamed);
        assert_int_equal(f->plan.placement.cells, PASSES);
    }
    assert_ok(ctx, pol_memory_reserve(f->be, &f->plan));
    assert_ok(ctx, pol_model_load(f->src, f->be, &f->plan.placement, &f->model));
    assert_ok(ctx, pol_forward_new(f->model, B * S, S, &f->forward));
    assert_int_equal(f->be->bytes_in_use, f->plan.weight_bytes + f->plan.activation_bytes);
}

static void close_model(fixture *f)
{
    pol_forward_free(f->forward);
    pol_model_free(f->model);
    pol_backend_close(f->be);
    pol_source_close(f->src);
    assert_clean();
}

static void step(pol_context *ctx, fixture *f, uint64_t number, double loss[PASSES][B])
{
    const pol_units *u = pol_model_units(f->model);
    float *x = malloc((size_t)u->n * sizeof *x);
    uint8_t *mask = malloc((size_t)u->n);
    int32_t ids[B * S];
    for (uint64_t k = 0; k < PASSES; k++) {
        pol_uniform(7, POL_STREAM_TEST, number, (uint32_t)k, u->n, x);
        for (int64_t i = 0; i < u->n; i++)
            mask[i] = x[i] < 0.6f;
        for (int i = 0; i < B * S; i++)
            ids[i] = (int32_t)((uint64_t)i * 31 + k * 17 + number) % 400;
        assert_ok(ctx, pol_model_set_mask(f->model, mask));
        assert_ok(ctx, pol_forward_queue(f->forward, ids, B, S, NULL, loss[k]));
    }
    free(x);
    free(mask);
}

static void losses_of_a_model_that_stays(void **state)
{
    pol_context *ctx = *state;
    double want[STEPS][PASSES][B], got[PASSES][B];
    fixture f;
    open_model(ctx, false, &f);
    for (uint64_t i = 0; i < STEPS; i++) {
        step(ctx, &f, i, want[i]);
        assert_ok(ctx, pol_forward_settle(f.forward));
    }
    close_model(&f);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        open_model(ctx, true, &f);
        sim_seed(seed);
        for (uint64_t i = 0; i < STEPS; i++) {
            const int64_t copied = sim_copied_on(0, COPY);
            step(ctx, &f, i, got);
            assert_ok(ctx, pol_forward_settle(f.forward));
            assert_memory_equal(got, want[i], sizeof got);
            assert_int_equal(sim_copied_on(0, COPY) - copied, f.plan.pinned_bytes);
        }
        close_model(&f);
    }
}

/* With staging that does not fill up. What the host sends is pinned. */
static void one_wait_a_step(void **state)
{
    pol_context *ctx = *state;
    double loss[PASSES][B];
    fixture f;
    open_model(ctx, true, &f);
    pol_forward_free(f.forward);
    pol_model_free(f.model);
    pol_backend_close(f.be);
    f.be = open_small(ctx, 1 << 22);
    assert_ok(ctx, pol_model_load(f.src, f.be, &f.plan.placement, &f.model));
    assert_ok(ctx, pol_forward_new(f.model, B * S, S, &f.forward));
    for (uint64_t i = 0; i < STEPS; i++) {
        sim_count_anew();
        step(ctx, &f, i, loss);
        assert_int_equal(sim_counted().waits, 0);
        assert_ok(ctx, pol_forward_settle(f.forward));
        assert_int_equal(sim_counted().waits, 1);
        assert_int_equal(sim_counted().pageable_copies, 0);
    }
    close_model(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_of_a_model_that_stays),
        cmocka_unit_test(one_wait_a_step),
    };
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}
