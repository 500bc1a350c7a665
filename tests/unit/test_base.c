/* test_base.c - context, bytes, files, JSON and random numbers. */
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/rng.h"
#include "tests/test.h"

static void test_error_is_one_line(void **state)
{
    pol_context *ctx = *state;
    assert_int_equal(pol_fail(ctx, POL_EFORMAT, "%s: bad\nname", "f\x01"), POL_EFORMAT);
    assert_string_equal(pol_error_text(ctx), "f?: bad?name");
    assert_string_equal(pol_status_name(POL_EIO), "POL_EIO");
}

/* Known answers of the Random123 distribution's philox4x32-10 test vectors. */
static void test_philox_known_answers(void **state)
{
    (void)state;
    uint32_t w[4];
    pol_philox(0, 0, 0, 0, 0, w);
    assert_int_equal(w[0], 0x6627e8d5);
    assert_int_equal(w[1], 0xe169c58d);
    assert_int_equal(w[2], 0xbc57ac4c);
    assert_int_equal(w[3], 0x9b00dbd8);
    pol_philox(UINT64_MAX, (pol_stream)0xff, ((uint64_t)1 << 56) - 1, UINT32_MAX, UINT32_MAX, w);
    assert_int_equal(w[0], 0x408f276d);
    assert_int_equal(w[1], 0x41c83b0e);
    assert_int_equal(w[2], 0xa20bc7c6);
    assert_int_equal(w[3], 0x6d5451fd);
}

static void test_uniform_and_normal_moments(void **state)
{
    (void)state;
    enum { N = 100003 };
    float *u = malloc(N * sizeof *u);
    pol_uniform(7, POL_STREAM_TEST, 3, 1, N, u);
    double m = 0, v = 0;
    for (int i = 0; i < N; i++) {
        assert_true(u[i] >= 0.0f && u[i] < 1.0f);
        m += u[i] / N;
    }
    for (int i = 0; i < N; i++)
        v += (u[i] - m) * (u[i] - m) / N;
    assert_near(m, 0.5, 5e-3);
    assert_near(v, 1.0 / 12, 2e-3);
    /* An index has its number, whatever n is and wherever the draw begins. */
    float few[300];
    for (int first = 0; first < 400; first += 4)
        for (int n = 0; n < 300; n += 1 + n / 3) {
            pol_uniform_from(7, POL_STREAM_TEST, 3, 1, first, n, few);
            assert_memory_equal(few, u + first, (size_t)n * sizeof *few);
        }
    for (int i = 0; i < N; i++) {
        uint32_t w[4];
        pol_philox(7, POL_STREAM_TEST, 3, 1, (uint32_t)i / 4, w);
        assert_true(u[i] == (float)(w[i % 4] >> 8) * 0x1p-24f);
    }
    pol_normal(7, POL_STREAM_TEST, 3, 1, N, u);
    m = v = 0;
    for (int i = 0; i < N; i++)
        m += u[i] / N;
    for (int i = 0; i < N; i++)
        v += (u[i] - m) * (u[i] - m) / N;
    assert_near(m, 0, 1.5e-2);
    assert_near(v, 1, 2e-2);
    free(u);
}

static void test_permutation(void **state)
{
    (void)state;
    enum { N = 1000 };
    int64_t p[N], q[N];
    char seen[N] = {0};
    pol_permutation(1, POL_STREAM_SHUFFLE, 0, N, p);
    pol_permutation(1, POL_STREAM_SHUFFLE, 1, N, q);
    int fixed = 0, same = 0;
    for (int i = 0; i < N; i++) {
        assert_in_range(p[i], 0, N - 1);
        assert_false(seen[p[i]]);
        seen[p[i]] = 1;
        fixed += p[i] == i;
        same += p[i] == q[i];
    }
    assert_in_range(fixed, 0, 10);
    assert_in_range(same, 0, 10);
}

static void test_outfile(void **state)
{
    pol_context *ctx = *state;
    char dir[] = "/tmp/pollard-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    char *path = pol_path_join(ctx, dir, "x.bin");
    pol_outfile o;
    assert_ok(ctx, pol_outfile_open(ctx, path, &o));
    assert_ok(ctx, pol_outfile_write(&o, "abc", 3));
    assert_false(pol_path_exists(path));
    pol_outfile_abort(&o);
    assert_false(pol_path_exists(path));
    assert_ok(ctx, pol_file_write(ctx, path, "abc", 3));
    pol_bytes b;
    assert_ok(ctx, pol_file_read(ctx, path, 3, &b));
    assert_int_equal(b.len, 3);
    assert_memory_equal(b.data, "abc", 4);
    pol_bytes_free(&b);
    assert_fails(ctx, pol_file_read(ctx, path, 2, &b), POL_EFORMAT, "3 bytes, more than the 2");
    pol_outdir d;
    assert_fails(ctx, pol_outdir_open(ctx, dir, &d), POL_EIO, "exists already");
    assert_fails(ctx, pol_file_write(ctx, "/nowhere/at/all", "", 0), POL_EIO, "/nowhere/at/all: cannot be written");
    /* A full disk: the system's own /dev/full is no place for a rename, so the write itself is what must fail. */
    o = (pol_outfile){.ctx = ctx, .path = pol_strdup(ctx, "/dev/full"), .stream = fopen("/dev/full", "wb")};
    assert_non_null(o.stream);
    assert_ok(ctx, pol_outfile_write(&o, "abc", 3)); /* buffered */
    assert_fails(ctx, pol_outfile_commit(&o), POL_EIO, "/dev/full: cannot be written: No space left on device");
    assert_ok(ctx, pol_remove_tree(ctx, dir));
    assert_false(pol_path_exists(dir));
    pol_free(ctx, path);
}

static void test_outdir(void **state)
{
    pol_context *ctx = *state;
    char dir[] = "/tmp/pollard-test-XXXXXX", path[64], file[80];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/out//", dir);
    for (int keep = 0; keep < 2; keep++) { /* given up, then committed */
        pol_outdir d;
        assert_ok(ctx, pol_outdir_open(ctx, path, &d));
        snprintf(file, sizeof file, "%s/a", d.tmp);
        assert_ok(ctx, pol_make_dir(ctx, file));
        snprintf(file, sizeof file, "%s/a/b", d.tmp);
        assert_ok(ctx, pol_file_write(ctx, file, "abc", 3));
        snprintf(file, sizeof file, "%s", d.tmp);
        assert_false(pol_path_exists(path));
        if (keep)
            assert_ok(ctx, pol_outdir_commit(&d));
        else
            pol_outdir_abort(&d);
        assert_false(pol_path_exists(file));
    }
    snprintf(file, sizeof file, "%s/out/a/b", dir);
    assert_true(pol_path_exists(file));
    assert_ok(ctx, pol_remove_tree(ctx, dir));
    assert_ok(ctx, pol_remove_tree(ctx, dir)); /* absent is fine */
    assert_false(pol_path_exists(dir));
}

static void test_json_errors_name_the_field(void **state)
{
    pol_context *ctx = *state;
    json_t *j;
    assert_fails(ctx, pol_json_parse(ctx, "f.json", "{\"a\":1,\"a\":2}", 13, &j), POL_EFORMAT, "f.json: line 1");
    assert_fails(ctx, pol_json_parse(ctx, "f.json", "{} x", 4, &j), POL_EFORMAT, "f.json: line 1");
    assert_ok(ctx, pol_json_parse(ctx, "f.json", "{\"a\":1,\"b\":\"x\",\"c\":null}", 24, &j));
    int64_t i = 7;
    double x;
    assert_ok(ctx, pol_json_int(ctx, "f.json", j, "a", 0, 5, &i));
    assert_int_equal(i, 1);
    assert_ok(ctx, pol_json_int_opt(ctx, "f.json", j, "c", 0, 5, &i));
    assert_int_equal(i, 1);
    assert_fails(ctx, pol_json_int(ctx, "f.json", j, "a", 2, 5, &i), POL_EFORMAT, "f.json: 'a' is 1, outside 2..5");
    assert_fails(ctx, pol_json_int(ctx, "f.json", j, "b", 0, 5, &i), POL_EFORMAT, "'b' is a string, not an integer");
    assert_fails(ctx, pol_json_num(ctx, "f.json", j, "d", 0, 5, &x), POL_EFORMAT, "f.json: 'd' is missing");
    json_decref(j);
    /* A tokenizer_config.json that says "no limit". */
    const char big[] = "{\"model_max_length\":1000000000000000019884624838656,\"a\":3}";
    assert_ok(ctx, pol_json_parse(ctx, "f.json", big, sizeof big - 1, &j));
    assert_ok(ctx, pol_json_int(ctx, "f.json", j, "a", 0, 5, &i));
    assert_int_equal(i, 3);
    assert_fails(ctx, pol_json_int(ctx, "f.json", j, "model_max_length", 0, 5, &i), POL_EFORMAT, "not an integer");
    json_decref(j);
}

static void test_stop(void **state)
{
    pol_context *ctx = *state;
    assert_ok(ctx, pol_check_stop(ctx));
    pol_context_stop(ctx);
    assert_fails(ctx, pol_check_stop(ctx), POL_EINTERRUPTED, "stopped");
    pol_context_resume(ctx);
    assert_ok(ctx, pol_check_stop(ctx));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_error_is_one_line, test_context_open, test_context_close),
        cmocka_unit_test(test_philox_known_answers),
        cmocka_unit_test(test_uniform_and_normal_moments),
        cmocka_unit_test(test_permutation),
        cmocka_unit_test_setup_teardown(test_outfile, test_context_open, test_context_close),
        cmocka_unit_test_setup_teardown(test_outdir, test_context_open, test_context_close),
        cmocka_unit_test_setup_teardown(test_json_errors_name_the_field, test_context_open, test_context_close),
        cmocka_unit_test_setup_teardown(test_stop, test_context_open, test_context_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
