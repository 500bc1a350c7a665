/* test_opencl_tuning.c - sets of CLBlast's parameters on disk, and that a device opened with one uses it.
 *
 * Whether parameters are in use is seen by the scratch that products ask for: of one that CLBlast's direct kernel does
 * it is none.
 */
#include "backends/opencl/tune.h"
#include "tests/opencl/cache_folder.h"
#include "tests/opencl/profiles.h"

#define OF_KEY "0123456789abcdef0123456789abcdef"

/* ---- what a tuner leaves ---- */

#define RESULT(time, parameters) \
    "{\"best_time\": \"" time "\", \"best_parameters\": \"" parameters "\", \"results\": []}"

static void a_tuners_result_is_read(void **state)
{
    fixture *f = *state;
    static const char text[] = RESULT("1.53", "GEMMK=0 KWG=32 PRECISION=32 MWG=128");
    ocl_kernel_tuning k;
    double ms;
    assert_ok(f->ctx, ocl_tuner_result(f->ctx, "result", text, sizeof text - 1, &k, &ms));
    assert_near(ms, 1.53, 0);
    assert_int_equal(k.n, 3);
    assert_string_equal(k.parameters[0].name, "GEMMK");
    assert_int_equal(k.parameters[0].value, 0);
    assert_string_equal(k.parameters[2].name, "MWG");
    assert_int_equal(k.parameters[2].value, 128);
}

static void a_damaged_result_is_refused(void **state)
{
    fixture *f = *state;
    static const char *const bad[][2] = {
        {"", "line 1"},
        {"[]", "'best_time' is missing"},
        {"{\"best_time\": 1.5}", "not a string"},
        {RESULT("soon", "MWG=1"), "'best_time' is 'soon'"},
        {RESULT("-1", "MWG=1"), "'best_time'"},
        {RESULT("nan", "MWG=1"), "'best_time'"},
        {RESULT("1e300", "MWG=1"), "'best_time'"},
        {RESULT("1", ""), "no parameters"},
        {RESULT("1", "PRECISION=32"), "no parameters"},
        {RESULT("1", "PRECISION=16 MWG=1"), "precision 16"},
        {RESULT("1", "MWG"), "not NAME=NUMBER"},
        {RESULT("1", "MWG="), "not NAME=NUMBER"},
        {RESULT("1", "MWG=x"), "not NAME=NUMBER"},
        {RESULT("1", "MWG=-1"), "not NAME=NUMBER"},
        {RESULT("1", "MWG=1.5"), "not NAME=NUMBER"},
        {RESULT("1", "MWG=1234567890"), "not NAME=NUMBER"},
        {RESULT("1", "MWG=65537"), "MWG is 65537"},
        {RESULT("1", "mwg=1"), "name"},
        {RESULT("1", "=1"), "name"},
        {RESULT("1", "A123456789B123456789C123456789DE=1"), "name"},
        {RESULT("1", "MWG=1 MWG=1"), "twice"},
        {RESULT("1", "A=1 B=1 C=1 D=1 E=1 F=1 G=1 H=1 I=1 J=1 K=1 L=1 M=1 N=1 O=1 P=1 Q=1 R=1 S=1 T=1 U=1 V=1 W=1 X=1 "
                     "Y=1"),
         "more than 24"},
    };
    for (size_t i = 0; i < POL_COUNT(bad); i++) {
        ocl_kernel_tuning k;
        double ms;
        assert_fails(f->ctx, ocl_tuner_result(f->ctx, "result", bad[i][0], strlen(bad[i][0]), &k, &ms), POL_EFORMAT,
                     bad[i][1]);
    }
}

/* ---- what is kept ---- */

static ocl_tuning some_tuning(void)
{
    ocl_tuning t = {0};
    t.kernels[OCL_GEMM_ROUTINE] = (ocl_kernel_tuning){.n = 1, .parameters = {{OCL_MIN_INDIRECT, 77}}};
    t.kernels[OCL_PAD] =
        (ocl_kernel_tuning){.n = 4, .parameters = {{"PAD_DIMX", 8}, {"PAD_DIMY", 8}, {"PAD_WPTX", 2}, {"PAD_WPTY", 1}}};
    return t;
}

static const ocl_tuning_facts facts = {"a device", "1.5", 2e9, 4e9};

static void what_is_kept_comes_back(void **state)
{
    fixture *f = *state;
    char path[128];
    const ocl_tuning t = some_tuning();
    ocl_tuning back;
    bool there;
    snprintf(path, sizeof path, "%s/set", f->dir);
    assert_ok(f->ctx, ocl_tuning_read(f->ctx, path, OF_KEY, &back, &there));
    assert_false(there);
    assert_ok(f->ctx, ocl_tuning_write(f->ctx, path, OF_KEY, &t, &facts));
    assert_ok(f->ctx, ocl_tuning_read(f->ctx, path, OF_KEY, &back, &there));
    assert_true(there);
    assert_memory_equal(&back, &t, sizeof t);
    /* A device may be called what JSON cannot say. */
    const ocl_tuning_facts odd = {"\xff\xfe", "1.5", 2e9, 4e9};
    assert_ok(f->ctx, ocl_tuning_write(f->ctx, path, OF_KEY, &t, &odd));
    assert_ok(f->ctx, ocl_tuning_read(f->ctx, path, OF_KEY, &back, &there));
    assert_memory_equal(&back, &t, sizeof t);
}

static void of_another_key_it_is_refused(void **state)
{
    fixture *f = *state;
    char path[128];
    const ocl_tuning t = some_tuning();
    ocl_tuning back;
    bool there;
    snprintf(path, sizeof path, "%s/set", f->dir);
    assert_ok(f->ctx, ocl_tuning_write(f->ctx, path, OF_KEY, &t, &facts));
    assert_fails(f->ctx, ocl_tuning_read(f->ctx, path, "1123456789abcdef0123456789abcdef", &back, &there), POL_EFORMAT,
                 "another device");
}

/* Whatever bit of the file is another: it is refused, or what it says is the same (spaces; what is for people). */
static void no_damage_changes_a_parameter(void **state)
{
    fixture *f = *state;
    char path[128];
    const ocl_tuning t = some_tuning();
    ocl_tuning back;
    pol_bytes text;
    snprintf(path, sizeof path, "%s/set", f->dir);
    assert_ok(f->ctx, ocl_tuning_write(f->ctx, path, OF_KEY, &t, &facts));
    assert_ok(f->ctx, pol_file_read(f->ctx, path, MOST_FILE, &text));
    int refused = 0;
    for (size_t bit = 0; bit < 8 * text.len; bit++) {
        text.data[bit / 8] ^= (char)(1 << bit % 8);
        const pol_status s = ocl_tuning_parse(f->ctx, "set", text.data, text.len, OF_KEY, &back);
        text.data[bit / 8] ^= (char)(1 << bit % 8);
        assert_true(s == POL_OK || s == POL_EFORMAT);
        if (s == POL_OK)
            assert_memory_equal(&back, &t, sizeof t);
        refused += s < 0;
    }
    assert_true(refused > (int)text.len * 4);
    for (size_t n = 0; n < text.len - 1; n++) /* without its last newline it is still whole */
        assert_int_equal(ocl_tuning_parse(f->ctx, "set", text.data, n, OF_KEY, &back), POL_EFORMAT);
    pol_bytes_free(&text);
}

/* With the right hash, but of what no search writes. */
static void what_is_no_set_is_refused(void **state)
{
    fixture *f = *state;
    static const char *const bad[][2] = {
        {"{\"Xaxpy\":{\"VW\":1}}", "'Xaxpy' is no kernel of a product"},
        {"{\"Pad\":{}}", "no parameters"},
        {"{\"Pad\":[]}", "no object"},
        {"{\"Pad\":{\"PAD_DIMX\":8.0}}", "no integer"},
        {"{\"Pad\":{\"PAD_DIMX\":-1}}", "PAD_DIMX is -1"},
        {"{\"Pad\":{\"PAD_DIMX\":65537}}", "PAD_DIMX is 65537"},
        {"{\"Pad\":{\"pad\":1}}", "name"},
    };
    for (size_t i = 0; i < POL_COUNT(bad); i++) {
        ocl_tuning t;
        char text[512], hash[33];
        pol_bytes_hash(bad[i][0], strlen(bad[i][0]), hash);
        snprintf(text, sizeof text,
                 "{\"format\":\"pollard-clblast\",\"version\":1,\"key\":\"%s\",\"kernels\":%s,\"hash\":\"%s\"}", OF_KEY,
                 bad[i][0], hash);
        assert_fails(f->ctx, ocl_tuning_parse(f->ctx, "set", text, strlen(text), OF_KEY, &t), POL_EFORMAT, bad[i][1]);
    }
}

/* ---- which products are small ---- */

static void small_products_are_found(void **state)
{
    (void)state;
    ocl_both_ways w[] = {{1e9, 9, 1}, {1e3, 1, 2}, {1e6, 1, 3}, {8e6, 2, 1}, {1e6, 4, 3}};
    /* Of volume 1e6 two products, one faster each way; together they are faster directly. Then 8e6 is not. */
    assert_int_equal(ocl_least_indirect(w, 5), 142); /* the cube root of sqrt(1e6 8e6), rounded up */
    ocl_both_ways none[] = {{8e6, 2, 1}, {1e6, 2, 1}};
    assert_int_equal(ocl_least_indirect(none, 2), 50); /* half of 1e6's cube root */
    ocl_both_ways all[] = {{8e6, 1, 2}, {1e6, 1, 2}};
    assert_int_equal(ocl_least_indirect(all, 2), 400); /* twice 8e6's */
    ocl_both_ways huge[] = {{1e18, 1, 2}};
    assert_int_equal(ocl_least_indirect(huge, 1), OCL_PARAMETER_MOST);
}

/* ---- what is used ---- */

enum { SIDE = 256 };

/* Opens device 0 as pol_backend_open() does, with the cache folder of the test; NULL where there is no device. */
static ocl *open_tuned(fixture *f)
{
    pol_backend *be = open_profile(f->ctx, &test_profiles[0]);
    if (!be)
        return NULL;
    ocl_profile use = ocl_of(be)->profile;
    pol_backend_close(be);
    use.cache_dir = f->cache;
    use.tuned = true;
    assert_ok(f->ctx, pol_opencl_open(f->ctx, 0, &use, POL_F32, &be));
    return ocl_of(be);
}

/* Writes a set with this least indirect size for device 0; its path. */
static void keep_least_indirect(fixture *f, int64_t value, char path[512])
{
    char key[33], *kept;
    ocl_tuning t = {0};
    ocl *cl = open_tuned(f);
    if (!cl)
        skip();
    assert_ok(f->ctx, ocl_kept_path(cl, key, &kept));
    snprintf(path, 512, "%s", kept);
    t.kernels[OCL_GEMM_ROUTINE] = (ocl_kernel_tuning){.n = 1, .parameters = {{OCL_MIN_INDIRECT, value}}};
    assert_ok(f->ctx, ocl_cache_folder_make(f->ctx, f->cache));
    assert_ok(f->ctx, ocl_tuning_write(f->ctx, path, key, &t, &facts));
    pol_free(f->ctx, kept);
    pol_backend_close(&cl->base);
}

static int64_t scratch_when_opened(fixture *f)
{
    ocl *cl = open_tuned(f);
    const int64_t n = pol_gemm_scratch(&cl->base, SIDE, SIDE, SIDE);
    pol_backend_close(&cl->base);
    return n;
}

/* Twice, each way: the parameters of a process stay until others take their place. */
static void a_kept_set_is_used(void **state)
{
    fixture *f = *state;
    char path[512];
    for (int i = 0; i < 2; i++) {
        keep_least_indirect(f, OCL_PARAMETER_MOST, path);
        assert_int_equal(scratch_when_opened(f), 0);
        keep_least_indirect(f, 0, path);
        assert_true(scratch_when_opened(f) > SIDE * SIDE);
        if (!strstr(f->log, path))
            fail_msg("the log does not name %s: %s", path, f->log);
    }
}

/* Of a backend that has asked CLBlast for sizes before. */
static void other_parameters_ask_for_other_scratch(void **state)
{
    fixture *f = *state;
    ocl *cl = open_tuned(f);
    if (!cl)
        skip();
    ocl_tuning t = {0};
    t.kernels[OCL_GEMM_ROUTINE] = (ocl_kernel_tuning){.n = 1, .parameters = {{OCL_MIN_INDIRECT, 0}}};
    assert_ok(f->ctx, ocl_override(cl, &t));
    assert_true(pol_gemm_scratch(&cl->base, SIDE, SIDE, SIDE) > 0);
    t.kernels[OCL_GEMM_ROUTINE].parameters[0].value = OCL_PARAMETER_MOST;
    assert_ok(f->ctx, ocl_override(cl, &t));
    assert_int_equal(pol_gemm_scratch(&cl->base, SIDE, SIDE, SIDE), 0);
    pol_backend_close(&cl->base);
}

/* It stays as it was before: all indirect. */
static void a_damaged_set_is_not_used(void **state)
{
    fixture *f = *state;
    char path[512];
    pol_bytes text;
    keep_least_indirect(f, 0, path);
    assert_true(scratch_when_opened(f) > 0);
    keep_least_indirect(f, 60000, path);
    assert_ok(f->ctx, pol_file_read(f->ctx, path, MOST_FILE, &text));
    *strstr(text.data, "60000") = '5';
    assert_ok(f->ctx, pol_file_write(f->ctx, path, text.data, text.len));
    pol_bytes_free(&text);
    f->log[0] = 0;
    assert_true(scratch_when_opened(f) > 0);
    if (!strstr(f->log, "are not used") || !strstr(f->log, "not those that were written"))
        fail_msg("the log does not say why: %s", f->log);
}

/* Parameters that this CLBlast has not are for another: the device opens, the log says it. */
static void a_set_that_clblast_refuses_is_not_used(void **state)
{
    fixture *f = *state;
    char path[512], key[33], *kept;
    keep_least_indirect(f, 0, path);
    ocl *cl = open_tuned(f);
    assert_ok(f->ctx, ocl_kept_path(cl, key, &kept));
    ocl_tuning t = {0};
    t.kernels[OCL_PAD] = (ocl_kernel_tuning){.n = 1, .parameters = {{"PAD_COLOUR", 3}}};
    assert_ok(f->ctx, ocl_tuning_write(f->ctx, kept, key, &t, &facts));
    pol_free(f->ctx, kept);
    pol_backend_close(&cl->base);
    f->log[0] = 0;
    pol_backend_close(&open_tuned(f)->base);
    if (!strstr(f->log, "are not used") || !strstr(f->log, "CLBlastMissingOverrideParameter"))
        fail_msg("the log does not say why: %s", f->log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CACHE_TEST(a_tuners_result_is_read),
        CACHE_TEST(a_damaged_result_is_refused),
        CACHE_TEST(what_is_kept_comes_back),
        CACHE_TEST(of_another_key_it_is_refused),
        CACHE_TEST(no_damage_changes_a_parameter),
        CACHE_TEST(what_is_no_set_is_refused),
        CACHE_TEST(small_products_are_found),
        CACHE_TEST(a_kept_set_is_used),
        CACHE_TEST(other_parameters_ask_for_other_scratch),
        CACHE_TEST(a_damaged_set_is_not_used),
        CACHE_TEST(a_set_that_clblast_refuses_is_not_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
