/* test_lengths.c - prefix lengths in place of a mask, rows of a repaired model, values put in place of loaded ones. */
#include "core/replicas.h"
#include "tests/unit/streamed.h"

static const char *const models[] = {"models/llama-gqa-tied", "models/llama-linear-bias", "models/trained"};

/* Lengths of all kinds, with empty blocks and whole ones among them. */
static void draw_lengths(const fixture *f, uint64_t i, int64_t *length)
{
    float u;
    for (int64_t k = 0; k < 2 * (int64_t)f->units->n_layers; k++) {
        pol_uniform(5, POL_STREAM_TEST, i, (uint32_t)k, 1, &u);
        length[k] = (int64_t)(u * 1.4f * (float)f->units->sections[k].count);
        length[k] = length[k] > f->units->sections[k].count ? f->units->sections[k].count : length[k];
    }
}

/* The mask that keeps these prefixes of the present order. */
static void mask_of(const fixture *f, const int64_t *length, uint8_t *mask)
{
    const int32_t *order = f->model[RESIDENT]->arrangement->order;
    memset(mask, 1, (size_t)f->units->n);
    for (int64_t k = 0; k < 2 * (int64_t)f->units->n_layers; k++) {
        const pol_section *sec = &f->units->sections[k];
        for (int64_t i = length[k]; i < sec->count; i++)
            mask[order[sec->first + i]] = 0;
    }
}

static void losses(fixture *f, int k, double loss[B])
{
    assert_ok(f->ctx, pol_forward_nll(f->forward[k], f->ids, B, S, NULL, loss));
}

/* A set of lengths and the mask of the same prefix are one, to the last bit; nothing is moved for the lengths. */
static void test_lengths_are_masks(void **state)
{
    (void)state;
    for (size_t m = 0; m < POL_COUNT(models); m++) {
        fixture f;
        int64_t length[16];
        open_fixture(&f, models[m]);
        for (uint64_t i = 0; i < 12; i++) {
            double by_length[2][B], by_mask[B];
            if (i % 4 == 0)
                set_mask(&f, 20 + i); /* another order */
            draw_lengths(&f, i, length);
            for (int k = 0; k < 2; k++) {
                late.swaps = 0;
                assert_ok(f.ctx, pol_model_set_lengths(f.model[k], length, NULL));
                assert_int_equal(late.swaps, 0);
                losses(&f, k, by_length[k]);
            }
            mask_of(&f, length, f.mask);
            assert_ok(f.ctx, pol_model_set_mask(f.model[RESIDENT], f.mask));
            losses(&f, RESIDENT, by_mask);
            assert_memory_equal(by_length[STREAMED], by_mask, sizeof by_mask);
            assert_memory_equal(by_length[RESIDENT], by_mask, sizeof by_mask);
        }
        set_mask(&f, 0); /* and dense again */
        check_passes(&f, 1, 4);
        close_fixture(&f);
    }
}

/* Rows for the lengths: the model's own times `factor`, garbage behind them. */
static void make_rows(fixture *f, const int64_t *length, float factor, pol_buf **rows)
{
    pol_model *m = f->model[RESIDENT];
    for (int64_t k = 0; k < 2 * (int64_t)f->units->n_layers; k++) {
        const pol_section *sec = &f->units->sections[k];
        const pol_part part = sec->kind == POL_UNIT_GROUP ? POL_W_O : POL_W_DOWN;
        const pol_part_shape s = pol_part_of(&m->config, m->be, sec->layer, part);
        const int64_t n = s.units * s.unit;
        float *values = malloc((size_t)n * sizeof *values);
        assert_ok(f->ctx, pol_buf_new_rows(m->be, s.dtype, s.units, s.unit, &rows[k]));
        assert_ok(f->ctx, pol_download(m->be, *pol_part_buf(&m->layers[sec->layer], part), 0, values, n));
        for (int64_t i = 0; i < n; i++)
            values[i] = i < length[k] * s.unit ? factor * values[i] : 1e3f;
        assert_ok(f->ctx, pol_upload(m->be, rows[k], 0, values, n));
        free(values);
    }
}

static void free_rows(fixture *f, pol_buf **rows)
{
    for (int64_t k = 0; k < 2 * (int64_t)f->units->n_layers; k++)
        pol_buf_free(f->be[RESIDENT], rows[k]);
}

/* Rows stand in for a block's own until lengths without them, a mask or an order come. */
static void test_rows_stand_in(void **state)
{
    (void)state;
    for (size_t m = 0; m < POL_COUNT(models); m++) {
        fixture f;
        int64_t length[16];
        double own[B], same[B], other[B], back[B];
        pol_buf *rows[16], *others[16];
        open_fixture(&f, models[m]);
        set_mask(&f, 3);
        draw_lengths(&f, 40 + m, length);
        pol_model *model = f.model[RESIDENT];
        int32_t *order = malloc((size_t)pol_model_order_size(model) * sizeof *order);
        pol_model_get_order(model, order);
        mask_of(&f, length, f.mask);
        make_rows(&f, length, 1, rows);
        make_rows(&f, length, 0.5f, others);
        assert_ok(f.ctx, pol_model_set_lengths(model, length, NULL));
        losses(&f, RESIDENT, own);
        for (int way = 0; way < 4; way++) {
            assert_ok(f.ctx, pol_model_set_lengths(model, length, rows));
            losses(&f, RESIDENT, same);
            assert_memory_equal(same, own, sizeof own);
            assert_ok(f.ctx, pol_model_set_lengths(model, length, others));
            losses(&f, RESIDENT, other);
            assert_true(fabs(other[0] - own[0]) > 1e-3);
            if (way == 0)
                assert_ok(f.ctx, pol_model_set_lengths(model, length, NULL));
            if (way == 1)
                assert_ok(f.ctx, pol_model_set_mask(model, f.mask));
            if (way >= 2) {
                assert_ok(f.ctx, pol_model_set_order(model, order)); /* which is dense */
                for (int32_t l = 0; l < f.units->n_layers; l++)
                    assert_true(!model->layers[l].rows_o && !model->layers[l].rows_down);
                assert_ok(f.ctx, pol_model_set_mask(model, f.mask));
            }
            losses(&f, RESIDENT, back);
            assert_memory_equal(back, own, sizeof own);
        }
        free_rows(&f, rows);
        free_rows(&f, others);
        free(order);
        close_fixture(&f);
    }
}

/* A pass that was recorded with other rows, or without a bias that has come since, is not replayed. */
static void test_recorded_passes_know_their_rows(void **state)
{
    (void)state;
    fixture f;
    int64_t length[16];
    double own[B], other[B], loss[B];
    pol_buf *rows[16];
    float bias[64];
    open_placed(&f, test_file("models/llama-gqa-tied"), NULL); /* both resident: the first may replay */
    late.replays = true;
    pol_model *m = f.model[STREAMED];
    for (int64_t k = 0; k < 2 * (int64_t)f.units->n_layers; k++)
        length[k] = f.units->sections[k].count;
    fixture replaying = f;
    replaying.model[RESIDENT] = m;
    make_rows(&replaying, length, 0.5f, rows);
    for (int round = 0; round < 3; round++) {
        assert_ok(f.ctx, pol_model_set_lengths(m, length, NULL));
        losses(&f, STREAMED, own);
        assert_ok(f.ctx, pol_model_set_lengths(m, length, rows));
        losses(&f, STREAMED, other);
        assert_true(fabs(other[0] - own[0]) > 1e-3);
        for (int kind = 0; kind < 2; kind++) { /* of one block alone */
            pol_buf *some[16] = {0};
            some[kind * f.units->n_layers + 1] = rows[kind * f.units->n_layers + 1];
            assert_ok(f.ctx, pol_model_set_lengths(m, length, some));
            losses(&f, STREAMED, loss);
            assert_true(loss[0] != own[0] && loss[0] != other[0]);
        }
    }
    assert_int_equal(late.n_replayed, 8); /* what comes again is still replayed */
    for (int i = 0; i < 64; i++)
        bias[i] = 0.3f * (float)(i % 5);
    for (int kind = 0; kind < 2; kind++) {
        assert_ok(f.ctx, pol_model_set_lengths(m, length, NULL));
        losses(&f, STREAMED, own);
        assert_ok(f.ctx, pol_model_put_bias(m, 1, (pol_unit_kind)kind, bias));
        losses(&f, STREAMED, loss);
        assert_true(fabs(loss[0] - own[0]) > 1e-4);
    }
    for (int64_t k = 0; k < 2 * (int64_t)f.units->n_layers; k++)
        pol_buf_free(m->be, rows[k]);
    close_fixture(&f);
}

/* ---- values put ---- */

/* Values of a unit that tell it from all others. */
static void fill_unit(int64_t unit, int64_t n, float *values)
{
    pol_normal(9, POL_STREAM_TEST, (uint64_t)unit, 0, n, values);
    for (int64_t i = 0; i < n; i++)
        values[i] *= 0.2f;
}

/* Every unit of a part, put at the position where it lies now, in two calls. */
static void put_all(fixture *f, int k, int32_t layer, pol_part part)
{
    pol_model *m = f->model[k];
    const pol_part_shape s = pol_part_of(&m->config, m->be, layer, part);
    if (!s.units)
        return;
    const pol_section *sec = pol_units_section(f->units, s.kind, layer);
    float *values = malloc((size_t)(sec->count * s.unit) * sizeof *values);
    for (int64_t i = 0; i < sec->count; i++)
        fill_unit(m->arrangement->order[sec->first + i] * POL_PARTS + part, s.unit, values + i * s.unit);
    const int64_t half = sec->count / 2;
    assert_ok(f->ctx, pol_model_put(m, layer, part, half, sec->count - half, values + half * s.unit));
    assert_ok(f->ctx, pol_model_put(m, layer, part, 0, half, values));
    free(values);
}

/* What is put stays with its unit through masks that come later, on a resident model and on a streamed one, even where
 * the layer is on the device when it is put. */
static void test_values_move_with_their_unit(void **state)
{
    (void)state;
    for (size_t n = 0; n < POL_COUNT(models); n++) {
        fixture f, g;
        double want[B], got[2][B];
        open_fixture(&f, models[n]); /* put late, in another order than g's */
        set_mask(&f, 5);
        check_passes(&f, 6, 4);
        for (int k = 0; k < 2; k++)
            for (int32_t l = 0; l < f.units->n_layers; l++)
                for (int part = 0; part < POL_PARTS; part++)
                    put_all(&f, k, l, (pol_part)part);
        check_passes(&f, 20, 5);
        set_mask(&f, 33);
        for (int k = 0; k < 2; k++)
            losses(&f, k, got[k]);
        const int64_t size = pol_model_order_size(f.model[0]);
        int32_t *order = malloc((size_t)size * sizeof *order);
        pol_model_get_order(f.model[0], order);
        uint8_t *mask = malloc((size_t)f.units->n);
        memcpy(mask, f.mask, (size_t)f.units->n);
        close_fixture(&f);

        open_fixture(&g, models[n]); /* put at once, where they were loaded */
        for (int32_t l = 0; l < g.units->n_layers; l++)
            for (int part = 0; part < POL_PARTS; part++)
                put_all(&g, RESIDENT, l, (pol_part)part);
        assert_ok(g.ctx, pol_model_set_order(g.model[RESIDENT], order));
        assert_ok(g.ctx, pol_model_set_mask(g.model[RESIDENT], mask));
        losses(&g, RESIDENT, want);
        assert_memory_equal(got[STREAMED], want, sizeof want);
        assert_memory_equal(got[RESIDENT], want, sizeof want);
        close_fixture(&g);
        free(order);
        free(mask);
    }
}

/* A bias is made where there is none and replaced where there is one; it counts as what it takes. */
static void test_biases(void **state)
{
    (void)state;
    for (size_t n = 0; n < POL_COUNT(models); n++) {
        fixture f;
        double before[2][B], after[2][B], again[2][B];
        float bias[64];
        open_fixture(&f, models[n]);
        const int64_t C = f.model[0]->config.hidden;
        set_mask(&f, 8);
        for (int k = 0; k < 2; k++) {
            const pol_layer_weights *w = &f.model[k]->layers[1];
            const uint64_t taken = f.be[k]->bytes_in_use, made = (!w->b_o + !w->b_down) * pol_buf_bytes(f.be[k], 0, C);
            losses(&f, k, before[k]);
            for (int round = 0; round < 2; round++)
                for (int kind = 0; kind < 2; kind++) {
                    for (int64_t i = 0; i < C; i++)
                        bias[i] = (float)(round + kind + 1) * 0.1f * (float)(i % 5 - 2);
                    assert_ok(f.ctx, pol_model_put_bias(f.model[k], 1, (pol_unit_kind)kind, bias));
                    losses(&f, k, round ? again[k] : after[k]);
                }
            assert_int_equal(f.be[k]->bytes_in_use, taken + made);
            assert_true(after[k][0] != before[k][0] && again[k][0] != after[k][0]);
        }
        assert_memory_equal(after[0], after[1], sizeof after[0]);
        assert_memory_equal(again[0], again[1], sizeof again[0]);
        close_fixture(&f);
    }
}

/* Several devices stay equal. */
static void test_replicas(void **state)
{
    (void)state;
    fixture f;
    int64_t length[16];
    double loss[2][B];
    pol_buf *rows[2][16];
    float values[64];
    open_placed(&f, test_file("models/llama-gqa-tied"), NULL);
    pol_replica of[2] = {{f.model[0], f.forward[0]}, {f.model[1], f.forward[1]}};
    pol_replicas r = {.ctx = f.ctx, .of = of, .n = 2};
    draw_lengths(&f, 2, length);
    for (int k = 0; k < 2; k++) {
        fixture other = f;
        other.model[RESIDENT] = f.model[k];
        make_rows(&other, length, 0.5f, rows[k]);
    }
    fill_unit(1, 64, values);
    for (int round = 0; round < 3; round++) {
        if (round == 0)
            assert_ok(f.ctx, pol_replicas_set_lengths(&r, length, NULL));
        if (round == 1)
            assert_ok(f.ctx, pol_replicas_set_lengths(&r, length, (pol_buf *const *const[]){rows[0], rows[1]}));
        if (round == 2) {
            assert_ok(f.ctx, pol_replicas_set_lengths(&r, length, NULL));
            assert_ok(f.ctx, pol_replicas_put(&r, 1, POL_W_DOWN, 0, 2, values));
            assert_ok(f.ctx, pol_replicas_put_bias(&r, 0, POL_UNIT_CHANNEL, values));
        }
        for (int k = 0; k < 2; k++)
            losses(&f, k, loss[k]);
        assert_memory_equal(loss[0], loss[1], sizeof loss[0]);
    }
    length[0] = 99;
    assert_fails(f.ctx, pol_replicas_set_lengths(&r, length, NULL), POL_EARG, "cpu 0");
    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; i < 2 * (int64_t)f.units->n_layers; i++)
            pol_buf_free(f.be[k], rows[k][i]);
    close_fixture(&f);
}

/* What is refused has changed nothing. */
static void test_refusals(void **state)
{
    (void)state;
    fixture f;
    int64_t length[16];
    double before[B], after[B];
    float values[64] = {0};
    pol_buf *rows[16] = {0};
    open_fixture(&f, "models/llama-gqa-tied");
    draw_lengths(&f, 3, length);
    length[1] = 1;
    length[4] = 7; /* channels, padded to 8 */
    for (int k = 0; k < 2; k++)
        assert_ok(f.ctx, pol_model_set_lengths(f.model[k], length, NULL));
    losses(&f, RESIDENT, before);
    int64_t wrong[16];
    memcpy(wrong, length, sizeof wrong);
    wrong[4] = 41;
    assert_fails(f.ctx, pol_model_set_lengths(f.model[RESIDENT], wrong, NULL), POL_EARG, "layer 1 has 41 of its 40");
    wrong[4] = -1;
    assert_fails(f.ctx, pol_model_set_lengths(f.model[RESIDENT], wrong, NULL), POL_EARG, "layer 1 has -1 of its 40");
    assert_ok(f.ctx, pol_buf_new_rows(f.be[RESIDENT], POL_F32, 7, 24, &rows[4]));
    memcpy(wrong, length, sizeof wrong);
    wrong[0] = 0;
    assert_fails(f.ctx, pol_model_set_lengths(f.model[RESIDENT], wrong, rows), POL_ESHAPE, "need 192 elements of f32");
    assert_fails(f.ctx, pol_model_set_lengths(f.model[STREAMED], wrong, rows), POL_EUNSUPPORTED, "visit the device");
    pol_buf_free(f.be[RESIDENT], rows[4]);
    assert_ok(f.ctx, pol_buf_new_rows(f.be[RESIDENT], POL_I32, 8, 24, &rows[4]));
    assert_fails(f.ctx, pol_model_set_lengths(f.model[RESIDENT], wrong, rows), POL_ESHAPE, "of i32");
    pol_buf_free(f.be[RESIDENT], rows[4]);
    for (int k = 0; k < 2; k++) {
        assert_fails(f.ctx, pol_model_put(f.model[k], 0, POL_W_O, 1, 2, values), POL_EARG, "units 1..2 of a part");
        assert_fails(f.ctx, pol_model_put(f.model[k], 0, POL_W_DOWN, -1, 1, values), POL_EARG, "units -1..-1");
        assert_fails(f.ctx, pol_model_put(f.model[k], 0, POL_B_QKV, 0, 1, values), POL_EARG, "a part that has 0");
        losses(&f, k, after);
        assert_memory_equal(before, after, sizeof before);
    }
    f.model[RESIDENT]->torn = true;
    assert_fails(f.ctx, pol_model_set_lengths(f.model[RESIDENT], length, NULL), POL_EARG, "half moved");
    assert_fails(f.ctx, pol_model_put(f.model[RESIDENT], 0, POL_W_O, 0, 1, values), POL_EARG, "half moved");
    assert_fails(f.ctx, pol_model_put_bias(f.model[RESIDENT], 0, POL_UNIT_GROUP, values), POL_EARG, "half moved");
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths_are_masks),
        cmocka_unit_test(test_rows_stand_in),
        cmocka_unit_test(test_recorded_passes_know_their_rows),
        cmocka_unit_test(test_values_move_with_their_unit),
        cmocka_unit_test(test_biases),
        cmocka_unit_test(test_replicas),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
