/* test_streamed_memory.c - what a model whose layers visit takes, on the device and at home, and what a failure leaves.
 */
#include "core/model/half.h"
#include "tests/unit/streamed.h"

/* A buffer that says it has 16 bits; what the CPU makes of it is of no interest. */
static pol_status wide_buf_new(pol_backend *be, pol_dtype dtype, int64_t rows, int64_t row, pol_buf **out)
{
    const bool half = dtype == POL_F16 || dtype == POL_BF16;
    POL_TRY(late.real->buf_new(be, half ? POL_F32 : dtype, rows, row, out));
    (*out)->dtype = dtype;
    return POL_OK;
}

/* Weights that the device has in 16 bits lie at home rounded as an upload would round them, units that pad a width as
 * zeros, biases in f32. */
static void test_types_at_home(void **state)
{
    (void)state;
    static const pol_dtype types[] = {POL_F16, POL_BF16};
    for (size_t t = 0; t < POL_COUNT(types); t++) {
        fixture f;
        pol_backend *be;
        pol_model *m;
        int64_t rounded = 0;
        open_fixture(&f, "models/llama-linear-bias");
        assert_ok(f.ctx, pol_reference_open(f.ctx, &be));
        pol_ops ops = *be->ops;
        ops.buf_new = wide_buf_new;
        be->ops = &ops;
        be->weight_dtype = types[t];
        be->width_tile = 64;
        f.be[STREAMED]->width_tile = 64;
        assert_ok(f.ctx, pol_model_load(f.src, be, &five, &m));
        pol_model *wide;
        assert_ok(f.ctx, pol_model_load(f.src, f.be[STREAMED], &five, &wide));
        for (int32_t l = 0; l < m->config.n_layers; l++)
            for (int part = 0; part < POL_PARTS; part++) {
                const pol_part_shape s = pol_part_of(&m->config, be, l, (pol_part)part);
                const float *want = pol_visits_home(wide, l, (pol_part)part);
                const void *got = pol_visits_home(m, l, (pol_part)part);
                assert_true(s.units > 0);
                for (int64_t i = 0; i < s.units * s.unit; i++) {
                    if (s.dtype == POL_F32) {
                        assert_true(((const float *)got)[i] == want[i]);
                        continue;
                    }
                    const uint16_t h = ((const uint16_t *)got)[i];
                    assert_int_equal(h, types[t] == POL_F16 ? pol_f32_to_f16(want[i]) : pol_f32_to_bf16(want[i]));
                    rounded += h != 0;
                }
                for (int64_t i = 40 * s.unit; s.kind == POL_UNIT_CHANNEL && i < s.units * s.unit; i++)
                    assert_true(want[i] == 0);
            }
        assert_true(rounded > 1000);
        pol_model_free(wide);
        pol_model_free(m);
        pol_backend_close(be);
        close_fixture(&f);
    }
}

/* ---- failures ---- */

/* Whatever call fails, nothing stays pending, and what comes next is right: no row that lies wrong is used. */
static void test_every_failure(void **state)
{
    (void)state;
    fixture f;
    int64_t failed = 0;
    open_fixture(&f, "models/llama-linear-bias");
    for (int64_t n = 0;; n += 1 + n / 40, failed++) {
        double loss[3] = {-1, -1, -1};
        pol_status s = POL_OK;
        late.fail_in = n;
        for (uint64_t i = 0; i < 3 && s == POL_OK; i++) {
            draw(f.units, 100 + i, 0.6f, f.mask);
            s = pol_model_set_mask(f.model[STREAMED], f.mask);
            assert_ok(f.ctx, pol_model_set_mask(f.model[RESIDENT], f.mask));
            if (s == POL_OK)
                s = pol_forward_queue(f.forward[STREAMED], f.ids, 1, S, NULL, &loss[i]);
        }
        if (s == POL_OK)
            s = pol_forward_settle(f.forward[STREAMED]);
        const bool all = late.fail_in >= 0;
        late.fail_in = -1;
        if (all) {
            assert_ok(f.ctx, s);
            break;
        }
        assert_int_equal(s, POL_EDEVICE);
        late.syncs = 0;
        assert_ok(f.ctx, pol_forward_settle(f.forward[STREAMED]));
        assert_int_equal(late.syncs, 0);
        for (int i = 0; i < 3; i++)
            assert_true(loss[i] == -1);
        if (failed % 5 == 0) {
            int32_t *order = malloc((size_t)pol_model_order_size(f.model[STREAMED]) * sizeof *order);
            pol_model_get_order(f.model[STREAMED], order); /* masks that the failure left out are no matter here */
            assert_ok(f.ctx, pol_model_set_order(f.model[RESIDENT], order));
            free(order);
            check_passes(&f, 1, 3);
        }
    }
    assert_true(failed > 60);
    close_fixture(&f);
}

/* What was fetched for passes that are dropped does for others; a step through other layers takes the slots meanwhile.
 */
static void test_dropped_passes(void **state)
{
    (void)state;
    fixture f;
    double loss = -1;
    open_fixture(&f, "models/llama-gqa-tied");
    late.streams = 0;
    assert_ok(f.ctx, pol_forward_queue(f.forward[STREAMED], f.ids, 1, S, NULL, &loss));
    pol_forward_drop(f.forward[STREAMED]);
    check_passes(&f, 0, 3);
    assert_int_equal(late.streams, buffers_filled(&f, 1));
    assert_ok(f.ctx, pol_forward_queue(f.forward[STREAMED], f.ids, 1, S, NULL, &loss));
    pol_forward_drop(f.forward[STREAMED]);
    pol_layer_weights w;
    assert_ok(f.ctx, pol_model_layer(f.model[STREAMED], 2, &w));
    check_passes(&f, 5, 3);
    assert_true(loss == -1);
    close_fixture(&f);
}

/* ---- memory ---- */

/* Nothing more and nothing less than planned, with a backend whose buffers are aligned. */
static void test_planned_is_taken(void **state)
{
    (void)state;
    static const char *const names[] = {"models/llama-linear-bias", "models/trained", "models/mistral-window"};
    for (size_t i = 0; i < POL_COUNT(names); i++) {
        fixture f;
        open_fixture(&f, names[i]);
        const pol_config *c = pol_model_config(f.model[STREAMED]);
        for (int k = 0; k < 2; k++) {
            const pol_placement *p = k == STREAMED ? &five : NULL;
            assert_int_equal(f.be[k]->bytes_in_use,
                             pol_model_bytes(c, f.be[k], p) + pol_forward_bytes(c, f.be[k], p, B * S, S));
            assert_int_equal(f.be[k]->bytes_in_use % 256, 0);
        }
        check_passes(&f, 1, 7);
        for (int k = 0; k < 2; k++)
            assert_int_equal(f.be[k]->bytes_in_use, f.be[k]->bytes_peak);
        /* More layers at home cost the device only their norms; more cells only their streams and targets. */
        assert_true(pol_model_bytes(c, f.be[0], &five) < pol_model_bytes(c, f.be[0], NULL));
        assert_int_equal(pol_model_home_bytes(c, f.be[0]) % 64, 0);
        close_fixture(&f);
    }
}

/* Memory that runs out anywhere while a model is loaded leaves none behind (the sanitizer looks), nor a backend that
 * has no way to stream. */
static pol_status no_buffer(pol_backend *be, pol_dtype dtype, int64_t rows, int64_t row, pol_buf **out)
{
    POL_TRY(late_fault(be, "buf_new"));
    return late.real->buf_new(be, dtype, rows, row, out);
}

static pol_status no_host_memory(pol_backend *be, size_t bytes, void **out)
{
    POL_TRY(late_fault(be, "host_new"));
    return late.real->host_new(be, bytes, out);
}

static void test_loading_fails(void **state)
{
    (void)state;
    pol_context *ctx;
    pol_source *src;
    pol_backend *be;
    pol_model *m;
    pol_forward *f;
    int64_t failed = 0;
    assert_int_equal(pol_context_new(NULL, &ctx), POL_OK);
    assert_ok(ctx, pol_source_open(ctx, test_file("models/llama-linear-bias"), &src));
    assert_ok(ctx, pol_reference_open(ctx, &be));
    late_start(be);
    pol_ops ops = *be->ops;
    ops.buf_new = no_buffer;
    ops.host_new = no_host_memory;
    be->ops = &ops;
    for (int64_t n = 0;; n++, failed++) {
        late.fail_in = n;
        pol_status s = pol_model_load(src, be, &five, &m);
        if (s == POL_OK)
            s = pol_forward_new(m, B * S, S, &f);
        const bool all = late.fail_in >= 0;
        late.fail_in = -1;
        if (all) {
            pol_forward_free(f);
            pol_model_free(m);
            break;
        }
        assert_int_equal(s, POL_EDEVICE);
        pol_model_free(m);
        assert_int_equal(be->bytes_in_use, 0);
    }
    assert_true(failed > 40);
    assert_fails(ctx, pol_model_load(src, be, &(pol_placement){true, 0}, &m), POL_EARG, "0 passes a visit are not");
    assert_fails(ctx, pol_model_load(src, be, &(pol_placement){true, POL_MAX_CELLS + 1}, &m), POL_EARG, "65 passes");
    assert_null(m);
    ops.stream_in = NULL;
    assert_fails(ctx, pol_model_load(src, be, &five, &m), POL_EUNSUPPORTED, "has no way to stream");
    assert_null(m);
    late_end();
    pol_backend_close(be);
    pol_source_close(src);
    pol_context_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types_at_home),  cmocka_unit_test(test_every_failure),
        cmocka_unit_test(test_dropped_passes), cmocka_unit_test(test_planned_is_taken),
        cmocka_unit_test(test_loading_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
