/* test_cuda_passes.c - whole forward passes on a simulated device: the same bits however they are queued, recorded,
 * streamed and ordered; one wait; the memory that was planned.
 */
#include <math.h>

#include "core/forward.h"
#include "core/model/weights.h"
#include "pollard/memory.h"
#include "tests/cuda/made_model.h"
#include "tests/cuda/profiles.h"
#include "tests/loaded_model.h"

enum { B = 2, S = 8, TARGETS = B * (S - 1), SEEDS = 2 };

static int setup(void **state)
{
    switch_on(1, 0);
    return test_context_open(state);
}

static pol_backend *open_device(pol_context *ctx, bool graphs)
{
    cu_profile use;
    pol_backend *be;
    assert_ok(ctx, cu_profile_of(ctx, 0, &use));
    use.graphs = graphs;
    assert_ok(ctx, pol_cuda_open(ctx, 0, &use, &be));
    return be;
}

static void load(loaded *m, pol_context *ctx, const char *model, bool graphs, const pol_placement *placement)
{
    char name[64];
    snprintf(name, sizeof name, "models/%s", model);
    load_placed(m, ctx, open_device(ctx, graphs), test_file(name), placement, B, S);
}

/* A mask of its own for each number; of every third the dense one, for which no unit need move. */
static void set_mask(loaded *m, uint64_t i)
{
    if (i % 3 == 1) {
        assert_ok(m->ctx, pol_model_set_mask(m->model, NULL));
        return;
    }
    uint8_t *mask = malloc((size_t)m->units->n);
    random_mask(m->units, i, mask);
    assert_ok(m->ctx, pol_model_set_mask(m->model, mask));
    free(mask);
}

/* ---- what a mask is ---- */

/* In a model that has its units where the file has them. */
static void set_to_zero(loaded *m, pol_buf *b, int64_t units, int64_t unit)
{
    const int64_t n = b->n / units;
    float *zeros = calloc((size_t)n, sizeof *zeros);
    assert_ok(m->ctx, pol_upload(m->be, b, unit * n, zeros, n));
    free(zeros);
}

/* What a unit adds to the residual stream goes through its rows of w_o or w_down. */
static void zero_masked(loaded *m, const uint8_t *mask)
{
    const pol_units *u = m->units;
    for (int32_t l = 0; l < u->n_layers; l++)
        for (int k = 0; k < 2; k++) {
            const pol_section *units = pol_units_section(u, k ? POL_UNIT_CHANNEL : POL_UNIT_GROUP, l);
            const int64_t block = pol_units_section(u, k ? POL_UNIT_MLP : POL_UNIT_ATTENTION, l)->first;
            pol_buf *b = k ? m->model->layers[l].w_down : m->model->layers[l].w_o;
            const int64_t padded =
                b->n / (k ? m->model->config.hidden : m->model->config.hidden * pol_ctx_cols(&m->model->config));
            for (int64_t i = 0; i < units->count; i++)
                if (!mask[units->first + i] || !mask[block])
                    set_to_zero(m, b, padded, i);
        }
}

/* To what sums in another order may differ, but for tokens in the wake of a number that was rounded the other way. */
static void a_masked_model_is_the_zeroed_model(void **state)
{
    static const char name[] = "llama-gqa-tied";
    int equal = 0, all = 0;
    double moved = 0;
    for (uint64_t i = 1; i <= 6; i++) {
        loaded masked, zeroed;
        float got[TARGETS], want[TARGETS], dense[TARGETS];
        load(&masked, *state, name, true, NULL);
        load(&zeroed, *state, name, true, NULL);
        uint8_t *mask = malloc((size_t)masked.units->n);
        random_mask(masked.units, i, mask);
        assert_ok(masked.ctx, pol_forward_nll(zeroed.forward, zeroed.ids, B, S, dense, NULL));
        zero_masked(&zeroed, mask);
        assert_ok(masked.ctx, pol_model_set_mask(masked.model, mask));
        assert_ok(masked.ctx, pol_forward_nll(masked.forward, masked.ids, B, S, got, NULL));
        assert_ok(masked.ctx, pol_forward_nll(zeroed.forward, zeroed.ids, B, S, want, NULL));
        for (int t = 0; t < TARGETS; t++, all++) {
            assert_near(got[t], want[t], 0.05);
            equal += fabsf(got[t] - want[t]) < 1e-5f;
            moved += fabsf(got[t] - dense[t]);
        }
        free(mask);
        unload(&masked);
        unload(&zeroed);
    }
    assert_true(moved / all > 0.3);
    assert_true(equal * 10 >= all * 8);
    assert_clean();
}

/* What enters the final norm, in f32: there it shows in which order sums ran. */
static float *residual_stream(loaded *m)
{
    float *x = malloc((size_t)B * S * (size_t)m->model->config.hidden * sizeof *x);
    assert_ok(m->ctx, pol_forward_begin(m->forward, m->ids, B, S));
    for (int32_t l = 0; l < m->units->n_layers; l++) {
        assert_ok(m->ctx, pol_forward_attention(m->forward, l, NULL));
        assert_ok(m->ctx, pol_forward_mlp(m->forward, l, NULL));
    }
    assert_ok(m->ctx, pol_forward_get(m->forward, x));
    return x;
}

/* Rows go round the device a hundred times and more; put back in order, the model is what it was to the last bit. */
static void order_restores_every_bit(void **state)
{
    enum { CHANGES = 120 };
    loaded m;
    float first[TARGETS], back[TARGETS];
    load(&m, *state, "llama-linear-bias", true, NULL);
    int32_t *order = malloc((size_t)pol_model_order_size(m.model) * sizeof *order);
    pol_model_get_order(m.model, order);
    assert_ok(m.ctx, pol_forward_nll(m.forward, m.ids, B, S, first, NULL));
    float *x = residual_stream(&m);
    for (uint64_t i = 0; i < CHANGES; i++)
        set_mask(&m, i);
    assert_ok(m.ctx, pol_model_set_mask(m.model, NULL));
    const size_t bytes = B * S * (size_t)m.model->config.hidden * sizeof *x;
    float *moved = residual_stream(&m);
    assert_memory_not_equal(x, moved, bytes);
    assert_ok(m.ctx, pol_model_set_order(m.model, order));
    float *restored = residual_stream(&m);
    assert_memory_equal(x, restored, bytes);
    assert_ok(m.ctx, pol_forward_nll(m.forward, m.ids, B, S, back, NULL));
    assert_memory_equal(first, back, sizeof first);
    free(x);
    free(moved);
    free(restored);
    free(order);
    unload(&m);
    assert_clean();
}

/* ---- a step ---- */

enum { MASKS = 3, BATCHES = 2, PASSES = MASKS * BATCHES };

typedef struct step_losses {
    float nll[PASSES][TARGETS];
    double loss[PASSES][B];
} step_losses;

/* Masks from `first` on, each with as many batches; ids are overwritten as soon as a pass is queued. */
static void queue_step(loaded *m, uint64_t first, step_losses *out)
{
    int32_t ids[B * S];
    for (int i = 0; i < PASSES; i++) {
        if (i % BATCHES == 0)
            set_mask(m, first + (uint64_t)(i / BATCHES));
        memcpy(ids, m->ids + i * 7, sizeof ids);
        assert_ok(m->ctx, pol_forward_queue(m->forward, ids, B, S, out->nll[i], out->loss[i]));
        memset(ids, 0, sizeof ids);
    }
}

/* Steps that repeat their masks, so that passes come again; the host waits once a step. */
static void take_steps(loaded *m, int steps, step_losses *out)
{
    for (int s = 0; s < steps; s++) {
        const int64_t waits = sim_counted().waits;
        queue_step(m, 1 + (uint64_t)(s % 2) * MASKS, &out[s]);
        assert_int_equal(sim_counted().waits, waits);
        assert_ok(m->ctx, pol_forward_settle(m->forward));
        assert_int_equal(sim_counted().waits, waits + 1);
    }
}

/* The same, a pass at a time, nothing recorded. */
static void take_plain_steps(pol_context *ctx, const char *model, int steps, step_losses *out)
{
    loaded m;
    load(&m, ctx, model, false, NULL);
    for (int s = 0; s < steps; s++)
        for (int i = 0; i < PASSES; i++) {
            if (i % BATCHES == 0)
                set_mask(&m, 1 + (uint64_t)(s % 2 * MASKS + i / BATCHES));
            assert_ok(ctx, pol_forward_nll(m.forward, m.ids + i * 7, B, S, out[s].nll[i], out[s].loss[i]));
        }
    assert_int_equal(sim_counted().graph_launches, 0);
    unload(&m);
}

enum { STEPS = 4 };

static void queued_and_recorded_passes_are_the_plain_ones(void **state)
{
    static step_losses want[STEPS], got[STEPS];
    sim_count_anew();
    take_plain_steps(*state, "llama-gqa-tied", STEPS, want);
    for (int i = 1; i < PASSES; i++)
        assert_memory_not_equal(want[0].nll[i], want[0].nll[0], sizeof want[0].nll[0]);
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        loaded m;
        load(&m, *state, "llama-gqa-tied", true, NULL);
        sim_seed(seed);
        sim_count_anew();
        memset(got, 0, sizeof got);
        take_steps(&m, STEPS, got);
        /* The first pass under each mask is queued by its ops, every other by one launch; one mask is in all steps. */
        assert_int_equal(sim_counted().graph_launches, STEPS * PASSES - (2 * MASKS - 1));
        assert_memory_equal(want, got, sizeof want);
        unload(&m);
    }
    assert_clean();
}

static void streamed_passes_are_the_resident_ones(void **state)
{
    static const pol_placement placements[] = {{.streamed = true, .cells = PASSES}, {.streamed = true, .cells = 4}};
    static step_losses want[2], got[2];
    sim_count_anew();
    take_plain_steps(*state, "llama-linear-bias", 2, want);
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        loaded m;
        load(&m, *state, "llama-linear-bias", true, &placements[0]);
        sim_seed(seed);
        memset(got, 0, sizeof got);
        take_steps(&m, 2, got);
        assert_memory_equal(want, got, sizeof want);
        unload(&m);
        load(&m, *state, "llama-linear-bias", true, &placements[1]); /* a step takes two visits */
        memset(got, 0, sizeof got);
        for (int s = 0; s < 2; s++)
            queue_step(&m, 1 + (uint64_t)s * MASKS, &got[s]);
        assert_ok(m.ctx, pol_forward_settle(m.forward));
        assert_memory_equal(want, got, sizeof want);
        unload(&m);
    }
    assert_clean();
}

/* ---- memory ---- */

static uint64_t used_of_device(void)
{
    size_t available, total;
    assert_int_equal(cudaMemGetInfo(&available, &total), cudaSuccess);
    return total - available;
}

static uint64_t planned(const pol_memory *m) { return m->weight_bytes + m->activation_bytes; }

/* All that the device then has less, staging memory included, is within five hundredths of the plan, which is returned.
 */
static uint64_t check_memory(pol_context *ctx, const char *path, uint64_t limit)
{
    enum { TOKENS = 4096, LENGTH = 512 };
    const pol_memory_request request = {.max_tokens = TOKENS, .max_seq_len = LENGTH, .cells = 2, .limit = limit};
    pol_source *src;
    pol_model *model;
    pol_forward *forward;
    pol_memory plan;
    const uint64_t before = used_of_device();
    pol_backend *be = open_device(ctx, true);
    assert_ok(ctx, pol_source_open(ctx, path, &src));
    pol_memory_plan(pol_source_config(src), be, &request, &plan);
    assert_int_equal(plan.placement.streamed, limit > 0);
    assert_ok(ctx, pol_memory_check(ctx, path, &plan));
    assert_ok(ctx, pol_memory_reserve(be, &plan));
    assert_ok(ctx, pol_model_load(src, be, &plan.placement, &model));
    assert_ok(ctx, pol_forward_new(model, TOKENS, LENGTH, &forward));
    assert_int_equal(be->bytes_in_use, planned(&plan));
    const double taken = (double)(used_of_device() - before);
    assert_true(taken >= (double)planned(&plan) && taken <= 1.05 * (double)planned(&plan));
    pol_forward_free(forward);
    pol_model_free(model);
    pol_source_close(src);
    pol_backend_close(be);
    assert_int_equal(used_of_device(), before);
    assert_clean();
    return planned(&plan);
}

static void memory_is_as_planned(void **state)
{
    static const made_sizes sizes = {
        .layers = 4, .hidden = 256, .groups = 2, .heads_per_group = 2, .head_dim = 64, .ffn = 1024, .vocab = 4000};
    char path[] = "/tmp/pollard-made-XXXXXX";
    make_model(*state, &sizes, path);
    const uint64_t resident = check_memory(*state, path, 0);
    assert_true(check_memory(*state, path, resident - 1) < resident);
    assert_ok(*state, pol_remove_tree(*state, path));
}

/* And of models so small that every buffer's rounding counts. */
static void small_memory_is_as_planned(void **state)
{
    static const char *const models[] = {"llama-linear-bias", "sharded-mix"};
    static const pol_placement placements[] = {{.cells = 1}, {.streamed = true, .cells = 3}};
    for (size_t i = 0; i < POL_COUNT(models); i++)
        for (size_t p = 0; p < POL_COUNT(placements); p++) {
            loaded m;
            load(&m, *state, models[i], true, &placements[p]);
            const pol_config *c = pol_model_config(m.model);
            assert_int_equal(m.be->bytes_in_use, pol_model_bytes(c, m.be, &placements[p]) +
                                                     pol_forward_bytes(c, m.be, &placements[p], B * S, S));
            unload(&m);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_masked_model_is_the_zeroed_model),
        cmocka_unit_test(order_restores_every_bit),
        cmocka_unit_test(queued_and_recorded_passes_are_the_plain_ones),
        cmocka_unit_test(streamed_passes_are_the_resident_ones),
        cmocka_unit_test(memory_is_as_planned),
        cmocka_unit_test(small_memory_is_as_planned),
    };
    return cmocka_run_group_tests(tests, setup, test_context_close);
}
