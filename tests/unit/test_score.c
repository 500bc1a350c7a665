/* test_score.c - metrics and initial probabilities against Python (tests/golden/wanda.py), and what they must not
 * depend on. */
#include <math.h>

#include "core/backend.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/rng.h"
#include "pollard/export.h"
#include "pollard/score.h"
#include "tests/ration.h"
#include "tests/test.h"

static const double METRIC_TOLERANCE = 1e-5, S_TOLERANCE = 1e-6; /* relative, absolute */

typedef struct fixture {
    pol_context *ctx;
    pol_source *src;
    pol_backend *be;
    pol_model *model;
    pol_forward *forward;
    const pol_units *units;
    json_t *golden;
    pol_sequences cal;
    double keep[POL_UNIT_KINDS];
    float *values;
    pol_distribution *dist;
} fixture;

/* Sequences and shares of the golden file; `keep` of blocks is a number of its own. */
static void read_golden(fixture *f, const char *name)
{
    char file[64];
    snprintf(file, sizeof file, "score/%s.json", name);
    assert_ok(f->ctx, pol_json_read(f->ctx, test_file(file), 1 << 20, &f->golden));
    const json_t *ids = json_object_get(f->golden, "ids"), *keep = json_object_get(f->golden, "keep");
    f->cal = (pol_sequences){
        .ctx = f->ctx, .n = (int64_t)json_array_size(ids), .seq_len = (int64_t)json_array_size(json_array_get(ids, 0))};
    f->cal.ids = pol_alloc_array(f->ctx, f->cal.n * f->cal.seq_len, sizeof *f->cal.ids);
    for (int64_t i = 0; i < f->cal.n * f->cal.seq_len; i++) {
        const json_t *row = json_array_get(ids, (size_t)(i / f->cal.seq_len));
        f->cal.ids[i] = (int32_t)json_integer_value(json_array_get(row, (size_t)(i % f->cal.seq_len)));
    }
    for (int kind = POL_UNIT_GROUP; kind <= POL_UNIT_CHANNEL; kind++)
        f->keep[kind] = json_number_value(json_array_get(keep, (size_t)kind));
    f->keep[POL_UNIT_ATTENTION] = 0.8;
    f->keep[POL_UNIT_MLP] = 0.9;
}

typedef struct opening {
    const char *model, *golden; /* of golden the name of the file with the numbers */
    int64_t batch;              /* sequences of a forward pass */
    int64_t tile;               /* of MLP widths; 0: the backend's own */
    const pol_allocator *allocator;
} opening;

static void open_with(fixture *f, const opening *o)
{
    memset(f, 0, sizeof *f);
    assert_int_equal(pol_context_new(o->allocator, &f->ctx), POL_OK);
    read_golden(f, o->golden);
    assert_ok(f->ctx, pol_source_open(f->ctx, o->model, &f->src));
    assert_ok(f->ctx, pol_backend_open(f->ctx, &(pol_backend_options){.name = "cpu", .threads = 1}, &f->be));
    f->be->width_tile = o->tile ? o->tile : f->be->width_tile;
    assert_ok(f->ctx, pol_model_load(f->src, f->be, NULL, &f->model));
    assert_ok(f->ctx, pol_forward_new(f->model, o->batch * f->cal.seq_len, f->cal.seq_len, &f->forward));
    f->units = pol_model_units(f->model);
    f->values = pol_alloc_array(f->ctx, f->units->n, sizeof *f->values);
}

static void open_fixture(fixture *f, const char *model, const char *golden, int64_t batch)
{
    open_with(f, &(opening){.model = model, .golden = golden, .batch = batch});
}

static void close_fixture(fixture *f)
{
    pol_distribution_free(f->dist);
    pol_free(f->ctx, f->values);
    pol_sequences_free(&f->cal);
    json_decref(f->golden);
    pol_forward_free(f->forward);
    pol_model_free(f->model);
    pol_backend_close(f->be);
    pol_source_close(f->src);
    pol_context_free(f->ctx);
}

static void open_tiny(fixture *f, const char *name, int64_t batch)
{
    char path[64];
    snprintf(path, sizeof path, "models/%s", name);
    open_fixture(f, test_file(path), name, batch);
}

static void compute(fixture *f, pol_metric metric, unsigned granularity, uint64_t seed)
{
    assert_ok(f->ctx, pol_metric_compute(f->forward, metric, &f->cal, granularity, f->keep, seed, f->values, NULL));
    pol_distribution_free(f->dist);
    assert_ok(f->ctx, pol_distribution_new(f->units, granularity, &f->dist));
    pol_init_from_metric(f->dist, metric, f->values, f->keep);
}

static int64_t contents(const pol_units *u) { return u->n_of[POL_UNIT_GROUP] + u->n_of[POL_UNIT_CHANNEL]; }

static double at(const json_t *array, int64_t i)
{
    const json_t *x = json_array_get(array, (size_t)i);
    return json_is_number(x) ? json_number_value(x) : NAN;
}

static void assert_metric(const fixture *f, const json_t *want)
{
    assert_int_equal(json_array_size(want), contents(f->units));
    for (int64_t i = 0; i < contents(f->units); i++)
        if (!(fabs(f->values[i] - at(want, i)) <= METRIC_TOLERANCE * fabs(at(want, i))))
            fail_msg("metric of unit %d: %.9g, expected %.9g", (int)i, (double)f->values[i], at(want, i));
    for (int64_t i = contents(f->units); i < f->units->n; i++)
        assert_true(f->values[i] == 0);
}

static void assert_s(const fixture *f, const json_t *want)
{
    assert_int_equal(json_array_size(want), contents(f->units));
    for (int64_t i = 0; i < contents(f->units); i++)
        assert_near(f->dist->s[i], at(want, i), S_TOLERANCE);
}

static unsigned granularity_of(const json_t *kinds)
{
    unsigned granularity = 0;
    for (size_t i = 0; i < json_array_size(kinds); i++)
        granularity |= 1u << json_integer_value(json_array_get(kinds, i));
    return granularity;
}

/* The model's golden numbers, for every granularity that the file has. */
static void check_wanda(fixture *f)
{
    const json_t *cases = json_object_get(f->golden, "cases");
    assert_true(json_array_size(cases) > 0);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i);
        compute(f, POL_METRIC_WANDA_SP, granularity_of(json_object_get(c, "kinds")), 0);
        assert_metric(f, json_object_get(c, "metric"));
        assert_s(f, json_object_get(c, "s"));
    }
}

static const char *const models[] = {"llama-gqa-tied", "llama-linear-bias", "trained"};
enum { MODELS = sizeof models / sizeof *models };

static void test_wanda(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        fixture f;
        open_tiny(&f, models[i], 5);
        check_wanda(&f);
        close_fixture(&f);
    }
}

/* One sequence at a time, and batches of which the last is short. */
static void test_batches(void **state)
{
    (void)state;
    for (int64_t batch = 1; batch <= 4; batch++) {
        fixture f;
        open_tiny(&f, "llama-linear-bias", batch);
        check_wanda(&f);
        close_fixture(&f);
    }
}

/* Widths rounded up by the backend: what a GEMM makes of removed channels must not be counted. */
static void test_padded_widths(void **state)
{
    (void)state;
    fixture f;
    open_with(
        &f, &(opening){
                .model = test_file("models/llama-linear-bias"), .golden = "llama-linear-bias", .batch = 2, .tile = 7});
    check_wanda(&f);
    compute(&f, POL_METRIC_MAGNITUDE, POL_HEADS | POL_CHANNELS, 0);
    assert_metric(&f, json_object_get(f.golden, "magnitude"));
    close_fixture(&f);
}

static void test_magnitude(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        fixture f;
        open_tiny(&f, models[i], 1);
        compute(&f, POL_METRIC_MAGNITUDE, POL_HEADS | POL_CHANNELS, 0);
        assert_metric(&f, json_object_get(f.golden, "magnitude"));
        close_fixture(&f);
    }
}

/* Rows that masks have moved before still count for their unit. */
static void test_rearranged(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        fixture f;
        open_tiny(&f, models[i], 2);
        uint8_t *mask = malloc((size_t)f.units->n);
        for (uint64_t step = 0; step < 30; step++) {
            pol_uniform(1, POL_STREAM_TEST, step, 0, f.units->n, f.values);
            for (int64_t j = 0; j < f.units->n; j++)
                mask[j] = f.values[j] < 0.5f;
            assert_ok(f.ctx, pol_model_set_mask(f.model, mask));
        }
        compute(&f, POL_METRIC_MAGNITUDE, POL_HEADS | POL_CHANNELS, 0);
        assert_metric(&f, json_object_get(f.golden, "magnitude"));
        check_wanda(&f);
        free(mask);
        close_fixture(&f);
    }
}

/* The model is dense afterwards, whatever mask it had before and whatever masks scoring went through. */
static void test_leaves_the_model_dense(void **state)
{
    (void)state;
    fixture f;
    open_tiny(&f, "llama-gqa-tied", 5);
    double before[5], after[5];
    assert_ok(f.ctx, pol_forward_nll(f.forward, f.cal.ids, 5, f.cal.seq_len, NULL, before));
    uint8_t *mask = calloc((size_t)f.units->n, 1);
    for (int m = POL_METRIC_WANDA_SP; m <= POL_METRIC_UNIFORM; m++) {
        assert_ok(f.ctx, pol_model_set_mask(f.model, mask));
        compute(&f, (pol_metric)m, POL_HEADS | POL_CHANNELS, 0);
        assert_ok(f.ctx, pol_forward_nll(f.forward, f.cal.ids, 5, f.cal.seq_len, NULL, after));
        for (int b = 0; b < 5; b++)
            assert_near(after[b] / before[b], 1, 1e-5);
    }
    free(mask);
    close_fixture(&f);
}

/* A model whose layers differ: one without attention, one without MLP, one thinned. */
static void test_emptied_blocks(void **state)
{
    (void)state;
    fixture dense, f;
    open_tiny(&dense, "llama-linear-bias", 5);
    const json_t *golden = json_object_get(dense.golden, "emptied");
    const char *kept = json_string_value(json_object_get(golden, "kept"));
    assert_int_equal(strlen(kept), contents(dense.units));
    uint8_t *mask = malloc((size_t)dense.units->n);
    memset(mask, 1, (size_t)dense.units->n);
    for (int64_t i = 0; i < contents(dense.units); i++)
        mask[i] = kept[i] == '1';
    char dir[] = "/tmp/pollard-score-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/thinned", dir);
    assert_ok(dense.ctx,
              pol_export(dense.src, dense.units, mask, &(pol_export_options){.format = POL_EXPORT_HF}, path));

    open_fixture(&f, path, "llama-linear-bias", 2);
    assert_int_equal(pol_units_section(f.units, POL_UNIT_CHANNEL, 0)->count, 0);
    assert_int_equal(pol_units_section(f.units, POL_UNIT_GROUP, 1)->count, 0);
    compute(&f, POL_METRIC_WANDA_SP, POL_HEADS | POL_CHANNELS, 0);
    assert_metric(&f, json_object_get(golden, "metric"));
    assert_s(&f, json_object_get(golden, "s"));
    close_fixture(&f);

    /* And one with no unit left at all. */
    memset(mask, 0, (size_t)dense.units->n);
    snprintf(path, sizeof path, "%s/empty", dir);
    assert_ok(dense.ctx,
              pol_export(dense.src, dense.units, mask, &(pol_export_options){.format = POL_EXPORT_HF}, path));
    open_fixture(&f, path, "llama-linear-bias", 2);
    assert_int_equal(f.units->n, 0);
    for (int m = POL_METRIC_WANDA_SP; m <= POL_METRIC_UNIFORM; m++)
        compute(&f, (pol_metric)m, POL_HEADS | POL_CHANNELS, 0);
    close_fixture(&f);

    assert_ok(dense.ctx, pol_remove_tree(dense.ctx, dir));
    free(mask);
    close_fixture(&dense);
}

/* Keyed by the seed, unit by unit, with the moments of a normal distribution. */
static void test_random(void **state)
{
    (void)state;
    fixture f;
    double sum = 0, square = 0, n = 0;
    for (int i = 0; i < MODELS; i++) {
        open_tiny(&f, models[i], 1);
        const json_t *golden = json_object_get(f.golden, "random");
        const uint64_t seed = (uint64_t)json_integer_value(json_object_get(golden, "seed"));
        compute(&f, POL_METRIC_RANDOM, POL_HEADS | POL_CHANNELS, seed);
        for (int64_t j = 0; j < contents(f.units); j++)
            assert_near(f.values[j], at(json_object_get(golden, "metric"), j), 1e-6);
        assert_s(&f, json_object_get(golden, "s"));
        for (uint64_t other = seed + 1; other < seed + 9; other++) {
            const float first = f.values[0];
            compute(&f, POL_METRIC_RANDOM, POL_HEADS | POL_CHANNELS, other);
            assert_true(f.values[0] != first);
            for (int64_t j = 0; j < contents(f.units); j++, n++) {
                sum += f.values[j];
                square += f.values[j] * f.values[j];
            }
        }
        close_fixture(&f);
    }
    /* Within four standard errors of 0 and 1. */
    assert_near(sum / n, 0, 4 / sqrt(n));
    assert_near(square / n, 1, 4 * sqrt(2 / n));
}

static void assert_section(const fixture *f, pol_unit_kind kind, double s)
{
    for (int32_t l = 0; l < f->units->n_layers; l++) {
        const pol_section *sec = pol_units_section(f->units, kind, l);
        assert_true(sec->count > 0);
        for (int64_t i = sec->first; i < sec->first + sec->count; i++)
            assert_near(f->dist->s[i], s, 1e-7);
    }
}

/* Every unit of a kind at its share; kinds that may not go stay at 1. Blocks have no metric, so they are at their share
 * with any. */
static void test_uniform_and_blocks(void **state)
{
    (void)state;
    fixture f;
    open_tiny(&f, "llama-gqa-tied", 5);
    compute(&f, POL_METRIC_UNIFORM, POL_CHANNELS | POL_BLOCKS, 0);
    assert_section(&f, POL_UNIT_GROUP, 1);
    assert_section(&f, POL_UNIT_CHANNEL, f.keep[POL_UNIT_CHANNEL]);
    assert_section(&f, POL_UNIT_ATTENTION, f.keep[POL_UNIT_ATTENTION]);
    assert_section(&f, POL_UNIT_MLP, f.keep[POL_UNIT_MLP]);
    for (int m = POL_METRIC_WANDA_SP; m <= POL_METRIC_RANDOM; m++) {
        compute(&f, (pol_metric)m, POL_HEADS | POL_BLOCKS, 0);
        assert_section(&f, POL_UNIT_CHANNEL, 1);
        assert_section(&f, POL_UNIT_ATTENTION, f.keep[POL_UNIT_ATTENTION]);
        assert_section(&f, POL_UNIT_MLP, f.keep[POL_UNIT_MLP]);
    }
    close_fixture(&f);
}

/* The mean is shifted before the clip: the hand-computed value of three units, one of them far out. */
static void test_clip_after_shift(void **state)
{
    (void)state;
    fixture f;
    open_tiny(&f, "llama-gqa-tied", 1);
    const pol_section *sec = pol_units_section(f.units, POL_UNIT_CHANNEL, 0);
    memset(f.values, 0, (size_t)f.units->n * sizeof *f.values);
    f.values[sec->first] = 100;
    f.keep[POL_UNIT_CHANNEL] = 0.9;
    assert_ok(f.ctx, pol_distribution_new(f.units, POL_CHANNELS, &f.dist));
    pol_init_from_metric(f.dist, POL_METRIC_MAGNITUDE, f.values, f.keep);
    /* n = 40: mean 2.5, unbiased variance 250: z = 6.16641 and -0.158114, sigmoid .997905 and .460554. */
    const double mean = (0.997905 + 39 * 0.460554) / 40;
    assert_near(f.dist->s[sec->first], 1, 0);
    for (int64_t i = 1; i < sec->count; i++)
        assert_near(f.dist->s[sec->first + i], 0.460554 + 0.9 - mean, 1e-6);
    /* All equal: no spread, and so the share. */
    const pol_section *flat = pol_units_section(f.units, POL_UNIT_CHANNEL, 1);
    for (int64_t i = 0; i < flat->count; i++)
        assert_near(f.dist->s[flat->first + i], 0.9, 1e-7);
    close_fixture(&f);
}

/* Wherever memory runs out the call says so. The next one gives the golden numbers, or refuses a model whose rows were
 * left half moved: never other numbers. */
static void test_memory_failures(void **state)
{
    (void)state;
    int64_t left = INT64_MAX;
    const pol_allocator rationed = ration(&left);
    pol_status s = POL_ENOMEM;
    int whole = 0, torn = 0;
    for (int64_t ration = 0; s == POL_ENOMEM; ration++) {
        fixture f;
        open_with(&f, &(opening){.model = test_file("models/llama-gqa-tied"),
                                 .golden = "llama-gqa-tied",
                                 .batch = 5,
                                 .allocator = &rationed});
        left = ration;
        s = pol_metric_compute(f.forward, POL_METRIC_WANDA_SP, &f.cal, POL_HEADS | POL_CHANNELS, f.keep, 0, f.values,
                               NULL);
        left = INT64_MAX;
        assert_true(s == POL_OK || s == POL_ENOMEM);
        double loss[5];
        if (pol_model_set_mask(f.model, NULL) == POL_OK) {
            check_wanda(&f);
            whole++;
        } else {
            assert_fails(f.ctx, pol_forward_nll(f.forward, f.cal.ids, 5, f.cal.seq_len, NULL, loss), POL_EARG,
                         "half moved");
            torn++;
        }
        close_fixture(&f);
    }
    assert_true(whole > 10 && torn > 0);
}

static void test_names(void **state)
{
    (void)state;
    pol_metric m;
    for (int i = POL_METRIC_WANDA_SP; i <= POL_METRIC_OBS; i++) {
        assert_true(pol_metric_find(pol_metric_name((pol_metric)i), &m));
        assert_int_equal(m, i);
    }
    assert_false(pol_metric_find("wanda", &m));
}

static void test_refusals(void **state)
{
    (void)state;
    fixture f;
    open_tiny(&f, "llama-gqa-tied", 1);
    const unsigned both = POL_HEADS | POL_CHANNELS;
    pol_sequences none = {.ctx = f.ctx, .seq_len = f.cal.seq_len}, longer = f.cal;
    longer.seq_len++;
    longer.n = 1;
    assert_fails(f.ctx, pol_metric_compute(f.forward, POL_METRIC_WANDA_SP, &none, both, f.keep, 0, f.values, NULL),
                 POL_EARG, "0 sequences");
    assert_fails(f.ctx, pol_metric_compute(f.forward, POL_METRIC_WANDA_SP, &longer, both, f.keep, 0, f.values, NULL),
                 POL_EARG, "sequences of 25 tokens");
    assert_fails(f.ctx, pol_metric_compute(f.forward, (pol_metric)9, NULL, both, f.keep, 0, f.values, NULL), POL_EARG,
                 "metric 9");
    pol_context_stop(f.ctx);
    assert_int_equal(pol_metric_compute(f.forward, POL_METRIC_WANDA_SP, &f.cal, both, f.keep, 0, f.values, NULL),
                     POL_EINTERRUPTED);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wanda),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_padded_widths),
        cmocka_unit_test(test_magnitude),
        cmocka_unit_test(test_rearranged),
        cmocka_unit_test(test_leaves_the_model_dense),
        cmocka_unit_test(test_emptied_blocks),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_uniform_and_blocks),
        cmocka_unit_test(test_clip_after_shift),
        cmocka_unit_test(test_memory_failures),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
