/* test_score_dense.c - metrics of the dense model's activations, flap and obs, against their definitions. */
#include "core/forward_state.h"
#include "pollard/score.h"
#include "tests/unit/database_fixture.h"

static const char *const models[] = {"models/llama-gqa-tied", "models/llama-linear-bias", "models/trained"};
static const double keep[POL_UNIT_KINDS] = {0.5, 0.5, 0.5, 0.5};

static float *compute(db_fixture *f, pol_metric metric, unsigned granularity)
{
    double passes = -1;
    float *values = malloc((size_t)f->units->n * sizeof *values);
    assert_ok(f->ctx, pol_metric_compute(f->forward, metric, &f->cal, granularity, keep, 1, values, &passes));
    assert_true(passes == (double)f->cal.n);
    return values;
}

/* Rows of all tokens that enter a block's last matrix, by position; the stream at x goes on. */
static float *inputs(db_fixture *f, float *x, int32_t layer, pol_unit_kind kind)
{
    const int64_t N = pol_block_inputs(f->config, layer, kind), C = f->config->hidden, T = f->cal.n * DB_S;
    const int64_t width = kind == POL_UNIT_GROUP ? N : pol_padded(f->be, N);
    float *mid = malloc((size_t)(DB_S * width) * sizeof *mid), *all = malloc((size_t)(T * N) * sizeof *all);
    for (int64_t i = 0; i < f->cal.n; i++) {
        assert_ok(f->ctx, pol_forward_put(f->forward, x + i * DB_S * C, 1, DB_S));
        assert_ok(f->ctx, kind == POL_UNIT_GROUP ? pol_forward_attention(f->forward, layer, NULL)
                                                 : pol_forward_mlp(f->forward, layer, NULL));
        assert_ok(f->ctx, pol_download(f->be, f->forward->mid, 0, mid, DB_S * width));
        assert_ok(f->ctx, pol_forward_get(f->forward, x + i * DB_S * C));
        for (int64_t t = 0; t < DB_S; t++)
            memcpy(all + (i * DB_S + t) * N, mid + t * width, (size_t)N * sizeof *all);
    }
    free(mid);
    return all;
}

/* Sample variance of a column, in two passes. */
static double variance(const float *x, int64_t T, int64_t N, int64_t column)
{
    double mean = 0, sum = 0;
    for (int64_t t = 0; t < T; t++)
        mean += (double)x[t * N + column] / (double)T;
    for (int64_t t = 0; t < T; t++)
        sum += (x[t * N + column] - mean) * (x[t * N + column] - mean);
    return sum / (double)(T - 1);
}

static void check_flap_block(db_fixture *f, float *x, int32_t layer, pol_unit_kind kind, const float *values)
{
    const pol_section *sec = pol_units_section(f->units, kind, layer);
    const int64_t N = pol_block_inputs(f->config, layer, kind), unit = N / sec->count, C = f->config->hidden;
    float *all = inputs(f, x, layer, kind), *w = malloc((size_t)(N * C) * sizeof *w);
    const pol_layer_weights *l = &f->model->layers[layer];
    assert_ok(f->ctx, pol_download(f->be, kind == POL_UNIT_GROUP ? l->w_o : l->w_down, 0, w, N * C));
    for (int64_t u = 0; u < sec->count; u++) {
        double want = 0;
        for (int64_t i = u * unit; i < (u + 1) * unit; i++) {
            double square = 0;
            for (int64_t c = 0; c < C; c++)
                square += (double)w[i * C + c] * w[i * C + c];
            want += variance(all, f->cal.n * DB_S, N, i) * square / (double)unit;
        }
        assert_near(values[f->model->arrangement->order[sec->first + u]], want, 1e-4 * want);
    }
    free(all);
    free(w);
}

static void test_flap(void **state)
{
    (void)state;
    for (size_t m = 0; m < POL_COUNT(models); m++)
        for (int rearranged = 0; rearranged < 2; rearranged++) {
            db_fixture f;
            db_open(&f, models[m]);
            f.cal.n = 7;
            const int64_t C = f.config->hidden;
            uint8_t *mask = malloc((size_t)f.units->n);
            for (int64_t i = 0; i < f.units->n; i++)
                mask[i] = i % 3 != 1;
            if (rearranged)
                assert_ok(f.ctx, pol_model_set_mask(f.model, mask));
            float *values = compute(&f, POL_METRIC_FLAP, POL_HEADS | POL_CHANNELS);
            float *x = malloc((size_t)(f.cal.n * DB_S * C) * sizeof *x);
            for (int64_t i = 0; i < f.cal.n; i++) {
                assert_ok(f.ctx, pol_forward_begin(f.forward, f.cal.ids + i * DB_S, 1, DB_S));
                assert_ok(f.ctx, pol_forward_get(f.forward, x + i * DB_S * C));
            }
            for (int32_t l = 0; l < f.units->n_layers; l++)
                for (int kind = POL_UNIT_GROUP; kind <= POL_UNIT_CHANNEL; kind++)
                    check_flap_block(&f, x, l, (pol_unit_kind)kind, values);
            for (int64_t i = f.units->n_of[POL_UNIT_GROUP] + f.units->n_of[POL_UNIT_CHANNEL]; i < f.units->n; i++)
                assert_true(values[i] == 0);
            free(x);
            free(mask);
            free(values);
            db_close(&f);
        }
}

/* Ranks are those of the order in which the sweep removes, kinds outside the granularity have none. */
static void check_ranks(db_fixture *f, unsigned granularity, const float *values)
{
    f->o.granularity = granularity;
    pol_database *db = db_build(f, f->be);
    for (int64_t k = 0; k < f->units->n_sections; k++) {
        const pol_section *sec = &f->units->sections[k];
        for (int64_t i = 0; i < sec->count; i++)
            if (granularity & 1u << sec->kind)
                assert_true(values[sec->first + pol_database_order(db, sec->layer, sec->kind)[i]] ==
                            (float)(sec->count - 1 - i));
            else
                assert_true(values[sec->first + i] == 0);
    }
    pol_database_close(db);
}

static void test_obs(void **state)
{
    (void)state;
    static const unsigned some[] = {POL_HEADS | POL_CHANNELS, POL_HEADS, POL_CHANNELS};
    for (size_t m = 0; m < POL_COUNT(models); m++)
        for (size_t i = 0; i < POL_COUNT(some); i++) {
            db_fixture f;
            db_open(&f, models[m]);
            float *values = compute(&f, POL_METRIC_OBS, some[i]);
            check_ranks(&f, some[i], values);
            free(values);
            db_close(&f);
        }
}

/* A device that has no such op has the host's processor do it; few tokens are refused. */
static void test_obs_elsewhere(void **state)
{
    (void)state;
    db_fixture f;
    db_open(&f, "models/llama-gqa-tied");
    const pol_ops *whole = f.be->ops;
    pol_ops without = *whole;
    without.obs_sweep = NULL;
    without.solve_spd = NULL;
    f.be->ops = &without;
    float *values = compute(&f, POL_METRIC_OBS, POL_HEADS | POL_CHANNELS);
    f.be->ops = whole;
    check_ranks(&f, POL_HEADS | POL_CHANNELS, values);
    f.cal.n = 11;
    assert_fails(f.ctx,
                 pol_metric_compute(f.forward, POL_METRIC_OBS, &f.cal, POL_HEADS | POL_CHANNELS, keep, 1, values, NULL),
                 POL_ELIMIT, "176 tokens");
    free(values);
    db_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flap),
        cmocka_unit_test(test_obs),
        cmocka_unit_test(test_obs_elsewhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
