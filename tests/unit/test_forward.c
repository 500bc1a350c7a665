/* test_forward.c - the masked forward pass against transformers (golden.json beside each model), and against itself
 * after many re-arrangements. */
#include <math.h>

#include "core/backend.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/rng.h"
#include "pollard/export.h"
#include "pollard/model.h"
#include "tests/test.h"

enum { B = 3, S = 48 };

typedef struct fixture {
    pol_context *ctx;
    pol_source *src;
    pol_backend *be;
    pol_model *model;
    pol_forward *forward;
    json_t *golden;
    int32_t ids[B * S];
    uint8_t *mask;
} fixture;

/* `tile`: MLP widths are rounded up to it; `slice`: rows of the vocabulary at a time; 0: the backend's own. */
static void open_tiled(fixture *f, const char *model, const char *golden, int64_t tile, int64_t slice)
{
    memset(f, 0, sizeof *f);
    assert_int_equal(pol_context_new(NULL, &f->ctx), POL_OK);
    assert_ok(f->ctx, pol_source_open(f->ctx, model, &f->src));
    assert_ok(f->ctx, pol_backend_open(f->ctx, &(pol_backend_options){.name = "cpu", .threads = 1}, &f->be));
    f->be->width_tile = tile ? tile : f->be->width_tile;
    f->be->nll_slice = slice ? slice : f->be->nll_slice;
    assert_ok(f->ctx, pol_model_load(f->src, f->be, NULL, &f->model));
    assert_ok(f->ctx, pol_forward_new(f->model, B * S, S, &f->forward));
    assert_ok(f->ctx, pol_json_read(f->ctx, golden, 1 << 24, &f->golden));
    const json_t *ids = json_object_get(f->golden, "ids");
    assert_int_equal(json_array_size(ids), B);
    for (int i = 0; i < B * S; i++)
        f->ids[i] = (int32_t)json_integer_value(json_array_get(json_array_get(ids, (size_t)(i / S)), (size_t)(i % S)));
    f->mask = malloc((size_t)pol_model_units(f->model)->n);
}

static void open_fixture(fixture *f, const char *model, const char *golden) { open_tiled(f, model, golden, 0, 0); }

static void close_fixture(fixture *f)
{
    free(f->mask);
    json_decref(f->golden);
    pol_forward_free(f->forward);
    pol_model_free(f->model);
    pol_backend_close(f->be);
    pol_source_close(f->src);
    pol_context_free(f->ctx);
}

static void losses(fixture *f, const uint8_t *mask, double loss[B])
{
    assert_ok(f->ctx, pol_model_set_mask(f->model, mask));
    assert_ok(f->ctx, pol_forward_nll(f->forward, f->ids, B, S, NULL, loss));
}

/* Relative to the golden values, sequence by sequence. */
static void assert_losses(const double loss[B], const json_t *golden, double tolerance)
{
    for (int b = 0; b < B; b++) {
        const double want = json_number_value(json_array_get(golden, (size_t)b));
        assert_true(want > 0);
        assert_near(loss[b] / want, 1.0, tolerance);
    }
}

static void read_mask(const fixture *f, const json_t *layers, uint8_t *mask)
{
    const pol_units *u = pol_model_units(f->model);
    static const char *const keys[] = {"groups", "channels"};
    memset(mask, 1, (size_t)u->n);
    for (int32_t l = 0; l < u->n_layers; l++)
        for (int k = 0; k < 2; k++) {
            const pol_section *sec = pol_units_section(u, (pol_unit_kind)k, l);
            const json_t *keep = json_object_get(json_array_get(layers, (size_t)l), keys[k]);
            assert_true(json_is_array(keep));
            memset(mask + sec->first, 0, (size_t)sec->count);
            for (size_t i = 0; i < json_array_size(keep); i++)
                mask[sec->first + json_integer_value(json_array_get(keep, i))] = 1;
        }
}

static void random_mask(const fixture *f, uint64_t step, uint8_t *mask)
{
    const pol_units *u = pol_model_units(f->model);
    float *draw = malloc((size_t)u->n * sizeof *draw);
    pol_uniform(11, POL_STREAM_TEST, step, 0, u->n, draw);
    for (int64_t i = 0; i < u->n; i++) /* blocks stay nine times in ten */
        mask[i] = draw[i] < (i < u->n_of[POL_UNIT_GROUP] + u->n_of[POL_UNIT_CHANNEL] ? 0.5f : 0.9f);
    free(draw);
}

static void check_against_golden(fixture *f)
{
    double loss[B];
    losses(f, NULL, loss);
    assert_losses(loss, json_object_get(f->golden, "dense"), 2e-5);
    const json_t *masks = json_object_get(f->golden, "masks");
    assert_int_equal(json_array_size(masks), 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *m = json_array_get(masks, i);
        read_mask(f, json_object_get(m, "layers"), f->mask);
        losses(f, f->mask, loss);
        assert_losses(loss, json_object_get(m, "loss"), 2e-5);
    }
    losses(f, NULL, loss); /* and back */
    assert_losses(loss, json_object_get(f->golden, "dense"), 2e-5);
}

static void check_case(const char *name)
{
    char model[256], golden[256];
    snprintf(model, sizeof model, "models/%s", name);
    snprintf(golden, sizeof golden, "models/%s/golden.json", name);
    fixture f;
    open_fixture(&f, test_file(model), test_file(golden));
    check_against_golden(&f);
    close_fixture(&f);
}

static void test_llama_gqa_tied(void **state) { (void)state, check_case("llama-gqa-tied"); }
static void test_llama_mha_bf16(void **state) { (void)state, check_case("llama-mha-bf16"); }
static void test_llama3_scaled(void **state) { (void)state, check_case("llama3-scaled"); }
static void test_llama_linear_bias(void **state) { (void)state, check_case("llama-linear-bias"); }
static void test_mistral_window(void **state) { (void)state, check_case("mistral-window"); }
static void test_sharded_mix(void **state) { (void)state, check_case("sharded-mix"); }

/* Every type of block that a GGUF may have, several of them in each layer. */
static void test_quantised(void **state)
{
    (void)state;
    fixture f;
    open_fixture(&f, test_file("models/quantised.gguf"), test_file("models/quantised.golden.json"));
    check_against_golden(&f);
    close_fixture(&f);
}

/* What another backend may ask for changes no loss: padded widths, any slice of the vocabulary. And the memory that the
 * plan names is what was taken. */
static void test_tiles_and_slices(void **state)
{
    (void)state;
    static const int64_t tile[] = {2, 7, 64, 1000}, slice[] = {1, 5, 95, 100000};
    for (size_t i = 0; i < POL_COUNT(tile); i++) {
        fixture f;
        open_tiled(&f, test_file("models/llama-linear-bias"), test_file("models/llama-linear-bias/golden.json"),
                   tile[i], slice[i]);
        check_against_golden(&f);
        const pol_config *c = pol_model_config(f.model);
        assert_int_equal(f.be->bytes_in_use,
                         pol_model_bytes(c, f.be, NULL) + pol_forward_bytes(c, f.be, NULL, B * S, S));
        close_fixture(&f);
    }
}

static void test_tinystories(void **state)
{
    (void)state;
    shared_file("models/tinystories-656K/model.safetensors");
    char folder[4096];
    snprintf(folder, sizeof folder, "%s", shared_file("models/tinystories-656K/config.json"));
    *strrchr(folder, '/') = 0;
    fixture f;
    open_fixture(&f, folder, test_file("models/tinystories-656K.golden.json"));
    check_against_golden(&f);
    close_fixture(&f);
}

/* The demo's model, named by the environment: 30 layers, quantised in the file. */
static void test_smollm2(void **state)
{
    (void)state;
    const char *path = getenv("POLLARD_TEST_SMOLLM2");
    if (!path) {
        printf("skipped: POLLARD_TEST_SMOLLM2 names no model\n");
        skip();
    }
    fixture f;
    open_fixture(&f, path, test_file("models/smollm2-135m.golden.json"));
    check_against_golden(&f);
    close_fixture(&f);
}

/* Ten masks are measured fresh; then a thousand others come and go, and the ten must still give what they gave, though
 * every row may lie elsewhere by then: only the order of sums differs. */
static void test_a_thousand_rearrangements(void **state)
{
    (void)state;
    enum { KNOWN = 10 };
    fixture f;
    double fresh[KNOWN][B], loss[B];
    open_fixture(&f, test_file("models/llama-linear-bias"), test_file("models/llama-linear-bias/golden.json"));
    for (uint64_t i = 0; i < KNOWN; i++) {
        random_mask(&f, i, f.mask);
        losses(&f, f.mask, fresh[i]);
    }
    for (uint64_t i = 0; i < 1000; i++) {
        random_mask(&f, 100 + i, f.mask);
        assert_ok(f.ctx, pol_model_set_mask(f.model, f.mask));
    }
    for (uint64_t i = 0; i < KNOWN; i++) {
        random_mask(&f, i, f.mask);
        losses(&f, f.mask, loss);
        for (int b = 0; b < B; b++)
            assert_near(loss[b] / fresh[i][b], 1.0, 1e-5);
    }
    losses(&f, NULL, loss);
    assert_losses(loss, json_object_get(f.golden, "dense"), 2e-5);
    close_fixture(&f);
}

/* Leaving units out is what zeros in their place would give: the dense pass over the zeros export of the same mask. */
static void test_masked_is_dense_over_zeros(void **state)
{
    (void)state;
    static const char *const names[] = {"llama-gqa-tied", "llama-linear-bias", "mistral-window"};
    const pol_export_options zeros = {.format = POL_EXPORT_ZEROS};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        char model[64], golden[96], dir[] = "/tmp/pollard-forward-XXXXXX", out[64];
        snprintf(model, sizeof model, "models/%s", names[n]);
        snprintf(golden, sizeof golden, "%s/golden.json", model);
        assert_non_null(mkdtemp(dir));
        fixture f, dense;
        open_fixture(&f, test_file(model), test_file(golden));
        for (uint64_t i = 0; i < 10; i++) {
            double masked[B], zeroed[B];
            random_mask(&f, 2000 + i, f.mask);
            if (i == 0) /* nothing at all: the residual stream alone */
                memset(f.mask, 0, (size_t)pol_model_units(f.model)->n);
            losses(&f, f.mask, masked);
            snprintf(out, sizeof out, "%s/%d", dir, (int)i);
            assert_ok(f.ctx, pol_export(f.src, pol_model_units(f.model), f.mask, &zeros, out));
            open_fixture(&dense, out, test_file(golden));
            losses(&dense, NULL, zeroed);
            for (int b = 0; b < B; b++)
                assert_near(masked[b] / zeroed[b], 1.0, 1e-5);
            close_fixture(&dense);
        }
        assert_ok(f.ctx, pol_remove_tree(f.ctx, dir));
        close_fixture(&f);
    }
}

/* The order is all of the state: put back, the same mask gives the same bits. */
static void test_order_restores_every_bit(void **state)
{
    (void)state;
    fixture f, g;
    double want[B], got[B];
    open_fixture(&f, test_file("models/llama-gqa-tied"), test_file("models/llama-gqa-tied/golden.json"));
    open_fixture(&g, test_file("models/llama-gqa-tied"), test_file("models/llama-gqa-tied/golden.json"));
    for (uint64_t i = 0; i < 20; i++) {
        random_mask(&f, i, f.mask);
        assert_ok(f.ctx, pol_model_set_mask(f.model, f.mask));
    }
    const int64_t n = pol_model_order_size(f.model);
    int32_t *order = malloc((size_t)n * sizeof *order);
    pol_model_get_order(f.model, order);
    random_mask(&f, 99, f.mask);
    losses(&f, f.mask, want);
    assert_ok(g.ctx, pol_model_set_order(g.model, order));
    losses(&g, f.mask, got);
    assert_memory_equal(want, got, sizeof want);
    order[0] = order[1];
    assert_int_equal(pol_model_set_order(g.model, order), POL_EARG);
    free(order);
    close_fixture(&f);
    close_fixture(&g);
}

static void test_refusals(void **state)
{
    (void)state;
    fixture f;
    double loss[B];
    pol_forward *fw;
    open_fixture(&f, test_file("models/llama-gqa-tied"), test_file("models/llama-gqa-tied/golden.json"));
    assert_fails(f.ctx, pol_forward_nll(f.forward, f.ids, B + 1, S, NULL, loss), POL_EARG, "4 sequences of 48 tokens");
    f.ids[5] = 96;
    assert_fails(f.ctx, pol_forward_nll(f.forward, f.ids, B, S, NULL, loss), POL_EARG,
                 "token id 96 is outside the vocabulary of 96");
    assert_fails(f.ctx, pol_forward_new(f.model, 8, 1, &fw), POL_EARG, "at least 2 tokens");
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama_gqa_tied),
        cmocka_unit_test(test_llama_mha_bf16),
        cmocka_unit_test(test_llama3_scaled),
        cmocka_unit_test(test_llama_linear_bias),
        cmocka_unit_test(test_mistral_window),
        cmocka_unit_test(test_sharded_mix),
        cmocka_unit_test(test_quantised),
        cmocka_unit_test(test_tinystories),
        cmocka_unit_test(test_smollm2),
        cmocka_unit_test(test_tiles_and_slices),
        cmocka_unit_test(test_a_thousand_rearrangements),
        cmocka_unit_test(test_masked_is_dense_over_zeros),
        cmocka_unit_test(test_order_restores_every_bit),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
