#include "tests/loaded_model.h"

#include "core/base/rng.h"

pol_backend *open_cpu(pol_context *ctx)
{
    pol_backend *be;
    assert_ok(ctx, pol_backend_open(ctx, &(pol_backend_options){.name = "cpu", .threads = 1}, &be));
    return be;
}

void load_placed(loaded *m, pol_context *ctx, pol_backend *be, const char *model, const pol_placement *placement,
                 int64_t B, int64_t S)
{
    *m = (loaded){.ctx = ctx, .be = be};
    assert_ok(ctx, pol_source_open(ctx, model, &m->src));
    assert_ok(ctx, pol_model_load(m->src, be, placement, &m->model));
    assert_ok(ctx, pol_forward_new(m->model, B * S, S, &m->forward));
    m->units = pol_model_units(m->model);
    const int32_t vocab = pol_model_config(m->model)->vocab;
    for (int32_t i = 0; i < GOLDEN_B * GOLDEN_S; i++)
        m->ids[i] = (i * 37 + i / 11) % vocab;
}

void load_model(loaded *m, pol_context *ctx, pol_backend *be, const char *model, const char *golden, int64_t B,
                int64_t S)
{
    load_placed(m, ctx, be, model, NULL, B, S);
    assert_ok(ctx, pol_json_read(ctx, golden, 1 << 24, &m->golden));
    const json_t *ids = json_object_get(m->golden, "ids");
    assert_int_equal(json_array_size(ids), GOLDEN_B);
    for (size_t i = 0; i < POL_COUNT(m->ids); i++)
        m->ids[i] = (int32_t)json_integer_value(json_array_get(json_array_get(ids, i / GOLDEN_S), i % GOLDEN_S));
}

void load_named(loaded *m, pol_context *ctx, pol_backend *be, const char *name, int64_t B, int64_t S)
{
    char model[256], golden[256];
    snprintf(model, sizeof model, "models/%s", name);
    snprintf(golden, sizeof golden, "models/%s/golden.json", name);
    load_model(m, ctx, be, test_file(model), test_file(golden), B, S);
}

void load_golden(loaded *m, pol_context *ctx, pol_backend *be, const char *name)
{
    load_named(m, ctx, be, name, GOLDEN_B, GOLDEN_S);
}

void unload(loaded *m)
{
    json_decref(m->golden);
    pol_forward_free(m->forward);
    pol_model_free(m->model);
    pol_source_close(m->src);
    assert_int_equal(m->be->bytes_in_use, 0);
    pol_backend_close(m->be);
}

void golden_losses(loaded *m, const uint8_t *mask, double loss[GOLDEN_B])
{
    assert_ok(m->ctx, pol_model_set_mask(m->model, mask));
    assert_ok(m->ctx, pol_forward_nll(m->forward, m->ids, GOLDEN_B, GOLDEN_S, NULL, loss));
}

static void assert_losses(loaded *m, const uint8_t *mask, const json_t *golden, double tolerance)
{
    double loss[GOLDEN_B];
    golden_losses(m, mask, loss);
    for (size_t b = 0; b < GOLDEN_B; b++)
        assert_near(loss[b] / json_number_value(json_array_get(golden, b)), 1.0, tolerance);
}

static void golden_mask(const pol_units *u, const json_t *layers, uint8_t *mask)
{
    static const char *const keys[] = {"groups", "channels"};
    memset(mask, 1, (size_t)u->n);
    for (int32_t l = 0; l < u->n_layers; l++)
        for (int k = 0; k < 2; k++) {
            const pol_section *sec = pol_units_section(u, (pol_unit_kind)k, l);
            const json_t *keep = json_object_get(json_array_get(layers, (size_t)l), keys[k]);
            memset(mask + sec->first, 0, (size_t)sec->count);
            for (size_t i = 0; i < json_array_size(keep); i++)
                mask[sec->first + json_integer_value(json_array_get(keep, i))] = 1;
        }
}

void check_golden(loaded *m, double tolerance)
{
    const json_t *dense = json_object_get(m->golden, "dense"), *masks = json_object_get(m->golden, "masks");
    uint8_t *mask = malloc((size_t)m->units->n);
    assert_losses(m, NULL, dense, tolerance);
    assert_true(json_array_size(masks) > 0);
    for (size_t i = 0; i < json_array_size(masks); i++) {
        const json_t *one = json_array_get(masks, i);
        golden_mask(m->units, json_object_get(one, "layers"), mask);
        assert_losses(m, mask, json_object_get(one, "loss"), tolerance);
    }
    assert_losses(m, NULL, dense, tolerance);
    free(mask);
}

void random_mask(const pol_units *u, uint64_t step, uint8_t *mask)
{
    float *draw = malloc((size_t)u->n * sizeof *draw);
    pol_uniform(11, POL_STREAM_TEST, step, 0, u->n, draw);
    const int64_t contents = u->n_of[POL_UNIT_GROUP] + u->n_of[POL_UNIT_CHANNEL];
    for (int64_t i = 0; i < u->n; i++)
        mask[i] = step > 0 && draw[i] < (i < contents ? 0.5f : 0.9f);
    free(draw);
}
