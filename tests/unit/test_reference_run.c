/* test_reference_run.c - a whole run of method `reference` against the same run in Python
 * (tests/golden/reference_run.py): the paper's code, number for number. */
#include <math.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "pollard/run.h"
#include "tests/test.h"

typedef struct fixture {
    pol_context *ctx;
    char dir[64], out[80];
    json_t *golden;
    pol_source *src;
    pol_units *units;
} fixture;

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/pollard-reference-XXXXXX");
    *state = f;
    if (!mkdtemp(f->dir) || pol_context_new(NULL, &f->ctx) != POL_OK)
        return -1;
    snprintf(f->out, sizeof f->out, "%s/run", f->dir);
    if (pol_json_read(f->ctx, test_file("learn/reference_run.json"), 1 << 20, &f->golden) != POL_OK ||
        pol_source_open(f->ctx, test_file("models/trained"), &f->src) != POL_OK)
        return -1;
    return pol_units_new(f->ctx, pol_source_config(f->src), &f->units);
}

static int teardown(void **state)
{
    fixture *f = *state;
    const pol_status s = pol_remove_tree(f->ctx, f->dir);
    pol_units_free(f->units);
    pol_source_close(f->src);
    json_decref(f->golden);
    pol_context_free(f->ctx);
    free(f);
    return s;
}

static double number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value))
        fail_msg("'%s' is not a number", key);
    return json_number_value(value);
}

/* The preset, and of its numbers only those that the golden run changed too. */
static void run(const fixture *f, pol_prune_result *result)
{
    const json_t *golden = json_object_get(f->golden, "settings");
    char text[4096], model[4096];
    snprintf(text, sizeof text, "%s", test_file("text/calibration.txt"));
    snprintf(model, sizeof model, "%s", test_file("models/trained"));
    const char *data[] = {text};
    pol_prune_settings o;
    pol_prune_defaults(POL_METHOD_REFERENCE, &o);
    o.model = model;
    o.data = data;
    o.n_data = 1;
    o.out = f->out;
    o.seq_len = (int64_t)number(golden, "seq_len");
    o.max_sequences = (int64_t)number(golden, "sequences");
    o.keep = number(golden, "keep");
    o.learn.learning_rate = number(golden, "learning_rate");
    o.learn.seed = (uint64_t)number(f->golden, "seed");
    o.passes = (int64_t)number(golden, "steps") * o.learn.mask_samples * o.learn.sequences_per_mask;
    o.init_sequences = (int64_t)number(golden, "init_sequences");
    o.init_seq_len = (int64_t)number(golden, "init_seq_len");
    o.held_out = 0;
    o.backend = (pol_backend_options){.name = "cpu", .threads = 1};
    assert_ok(f->ctx, pol_prune(f->ctx, &o, NULL, result));
}

/* Probabilities of groups and channels in a file of the run. */
static void check_probabilities(const fixture *f, const char *file, const json_t *golden, double tolerance)
{
    const int64_t n = f->units->n_of[POL_UNIT_GROUP] + f->units->n_of[POL_UNIT_CHANNEL];
    assert_int_equal(json_array_size(golden), n);
    float *s = malloc((size_t)f->units->n * sizeof *s);
    uint8_t *mask = malloc((size_t)f->units->n);
    unsigned granularity;
    char *path = pol_path_join(f->ctx, f->out, file);
    assert_ok(f->ctx, pol_mask_read(f->ctx, path, f->units, &granularity, mask, s));
    assert_int_equal(granularity, POL_HEADS | POL_CHANNELS);
    double worst = 0;
    for (int64_t i = 0; i < n; i++)
        worst = fmax(worst, fabs(s[i] - json_number_value(json_array_get(golden, (size_t)i))));
    printf("%s: largest difference %.2g\n", file, worst);
    assert_true(worst < tolerance);
    pol_free(f->ctx, path);
    free(mask);
    free(s);
}

/* Each line of log.jsonl. */
static void check_steps(const fixture *f, const json_t *golden)
{
    static const struct {
        const char *key;
        double tolerance; /* relative */
    } check[] = {{"loss", 1e-5}, {"baseline", 1e-5}, {"learning_rate", 1e-8}, {"kept", 1e-8}, {"grad_norm", 1e-4}};
    char *path = pol_path_join(f->ctx, f->out, "log.jsonl");
    FILE *log = fopen(path, "r");
    assert_non_null(log);
    for (size_t step = 0; step < json_array_size(golden); step++) {
        json_t *line = json_loadf(log, JSON_DISABLE_EOF_CHECK, NULL);
        assert_non_null(line);
        assert_int_equal(number(line, "step"), step);
        for (size_t i = 0; i < sizeof check / sizeof *check; i++) {
            const double want = number(json_array_get(golden, step), check[i].key);
            if (!(fabs(number(line, check[i].key) / want - 1) <= check[i].tolerance))
                fail_msg("step %zu: %s is %.9g, expected %.9g", step, check[i].key, number(line, check[i].key), want);
        }
        json_decref(line);
    }
    fclose(log);
    pol_free(f->ctx, path);
}

static void test_number_for_number(void **state)
{
    const fixture *f = *state;
    pol_prune_result result;
    run(f, &result);
    check_probabilities(f, "initial-mask.json", json_object_get(f->golden, "initial"), 1e-6);
    check_steps(f, json_object_get(f->golden, "steps"));
    check_probabilities(f, "mask.json", json_object_get(f->golden, "final"), 1e-5);
    assert_int_equal(result.chosen_step, number(json_object_get(f->golden, "settings"), "steps"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_number_for_number, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
