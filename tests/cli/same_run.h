/* same_run.h - whether two runs came to the same, times left out. */
#ifndef POL_TEST_SAME_RUN_H
#define POL_TEST_SAME_RUN_H

#include "tests/cli/program.h"

/* The log without what a clock has measured. */
static inline json_t *timeless_log(const cli *t, const char *run)
{
    char name[64];
    snprintf(name, sizeof name, "%s/log.jsonl", run);
    char *log = slurp(path(t, name), NULL);
    json_t *lines = json_array();
    for (char *line = log; *line; line = strchr(line, '\n') + 1) {
        json_t *j = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);
        assert_non_null(j);
        assert_int_equal(whole(j, "step"), json_array_size(lines));
        json_object_del(j, "tokens_per_second");
        json_array_append_new(lines, j);
    }
    free(log);
    return lines;
}

static inline json_t *timeless_record(const cli *t, const char *run)
{
    char name[64];
    snprintf(name, sizeof name, "%s/run.json", run);
    json_t *j = load_json(t, name);
    json_object_del(j, "started");
    json_object_del(at(j, "results"), "seconds");
    json_object_del(json_object_get(at(j, "results"), "repair"), "seconds");
    json_object_del(at(j, "results"), "peak_memory_bytes");
    json_object_del(at(j, "results"), "peak_device_bytes"); /* a run that goes on does not build its database again */
    return j;
}

/* All of the checkpoint but the seconds and the checksum over them: estimator, probabilities, order, sequences used. */
static inline char *timeless_checkpoint(const cli *t, const char *run, size_t *n)
{
    char name[64];
    snprintf(name, sizeof name, "%s/checkpoint.bin", run);
    char *c = slurp(path(t, name), n);
    assert_in_range(*n, 184, SIZE_MAX);
    memset(c + 168, 0, 8);
    memset(c + *n - 8, 0, 8);
    return c;
}

static inline void assert_same_json(json_t *a, json_t *b, const char *what)
{
    if (!json_equal(a, b)) {
        char *x = json_dumps(a, JSON_COMPACT), *y = json_dumps(b, JSON_COMPACT);
        fail_msg("%s differ: %s and %s", what, x, y);
    }
    json_decref(a);
    json_decref(b);
}

/* Masks, probabilities, losses, order of the units: every bit. */
static inline void assert_same_numbers(const cli *t, const char *a, const char *b)
{
    static const char *const files[] = {"mask.json", "initial-mask.json"};
    for (int i = 0; i < 2; i++) {
        char x[64], y[64];
        snprintf(x, sizeof x, "%s/%s", a, files[i]);
        snprintf(y, sizeof y, "%s/%s", b, files[i]);
        assert_same_file(t, x, y);
    }
    assert_same_json(timeless_log(t, a), timeless_log(t, b), "the logs");
    json_t *run_a = timeless_record(t, a), *run_b = timeless_record(t, b);
    assert_same_json(json_incref(at(run_a, "results")), json_incref(at(run_b, "results")), "the results");
    json_decref(run_a);
    json_decref(run_b);
    size_t n, m;
    char *ck_a = timeless_checkpoint(t, a, &n), *ck_b = timeless_checkpoint(t, b, &m);
    assert_int_equal(n, m);
    assert_memory_equal(ck_a, ck_b, n);
    free(ck_a);
    free(ck_b);
}

/* And all that is said about the runs. */
static inline void assert_same_run(const cli *t, const char *a, const char *b)
{
    assert_same_numbers(t, a, b);
    assert_same_json(timeless_record(t, a), timeless_record(t, b), "the records");
}

#endif
