/* test_modules.c - what is said of a module that cannot be used, and that it is in nobody's way; and the devices of one
 * that can. */
#include <unistd.h>

#include "backends/drivers.h"
#include "core/base/file.h"
#include "tests/test.h"

#define ABSENT "/nonexistent"

static void look_in(const char *folder)
{
    char path[4096];
    snprintf(path, sizeof path, folder[0] == '/' ? "%s%s" : "%s/%s", folder[0] == '/' ? "" : POL_TEST_MODULES, folder);
    assert_int_equal(setenv("POLLARD_MODULE_DIR", path, 1), 0);
}

static int restore(void **state)
{
    (void)state;
    unsetenv("FAKE_DEVICES");
    unsetenv("FAKE_ODD");
    unsetenv("FAKE_ILL");
    look_in(ABSENT);
    return 0;
}

/* The module of `folder` is of no use, and `note` says why; `built`: it is there. */
static void unusable(pol_context *ctx, const char *folder, bool built, const char *note)
{
    pol_backend_summary *about;
    pol_device_info *devices;
    pol_backend *be;
    int64_t n;
    look_in(folder);
    assert_ok(ctx, pol_backend_list(ctx, &about, &n));
    assert_string_equal(about[0].name, "cuda");
    assert_int_equal(about[0].built, built);
    assert_int_equal(about[0].n_devices, 0);
    if (!strstr(about[0].note, note))
        fail_msg("%s: '%s' lacks '%s'", folder, about[0].note, note);
    assert_ok(ctx, pol_device_list(ctx, &devices, &n));
    for (int64_t i = 0; i < n; i++)
        assert_string_not_equal(devices[i].backend, "cuda");
    assert_ok(ctx, pol_backend_open(ctx, NULL, &be));
    assert_string_not_equal(pol_backend_info(be)->backend, "cuda");
    pol_backend_close(be);
    assert_fails(ctx, pol_backend_open(ctx, &(pol_backend_options){.name = "cuda"}, &be), POL_EARG, about[0].note);
    assert_null(be);
    pol_device_list_free(ctx, devices);
    pol_backend_list_free(ctx, about);
}

static void test_not_there(void **state)
{
    unusable(*state, ABSENT, false, "libpollard-cuda.so is not in POLLARD_MODULE_DIR, which is '" ABSENT "'");
}

static void test_missing_library(void **state)
{
    unusable(
        *state, "missing_library", true,
        "libpollard-cuda.so needs libpollard_test_absent.so, which is not installed: it is in NVIDIA's libcublas of "
        "that version (docs/cuda.md)");
}

static void test_no_symbol(void **state)
{
    unusable(*state, "no_symbol", true,
             "libpollard-cuda.so is no module of Pollard: it has no symbol pol_module_about");
}

static void test_other_builds(void **state)
{
    char abi[96];
    snprintf(abi, sizeof abi, "another version of Pollard: its interface is %d, this one's is %d", POL_OPS_ABI + 1,
             POL_OPS_ABI);
    unusable(*state, "other_abi", true, abi);
    unusable(*state, "other_version", true, "libpollard-cuda.so is of Pollard 0.0.7, this is ");
    unusable(*state, "other_size", true, "libpollard-cuda.so is of another build of Pollard: its table has ");
}

/* No library at all; one cut short; one that may not be read. */
static void test_no_library(void **state)
{
    pol_context *ctx = *state;
    char dir[] = "/tmp/pollard-module-XXXXXX", file[64];
    assert_non_null(mkdtemp(dir));
    snprintf(file, sizeof file, "%s/libpollard-cuda.so", dir);
    static const char *const contents[] = {"a page of text, long enough to be taken for the head of a library: "
                                           "................................................................",
                                           "\177ELF", ""};
    for (size_t i = 0; i < POL_COUNT(contents); i++) {
        FILE *f = fopen(file, "wb");
        assert_non_null(f);
        fputs(contents[i], f);
        fclose(f);
        unusable(ctx, dir, true,
                 i ? "libpollard-cuda.so cannot be opened: file too short"
                   : "libpollard-cuda.so cannot be opened: invalid ELF header");
    }
    unlink(file);
    assert_int_equal(symlink(file, file), 0); /* leads nowhere */
    unusable(ctx, dir, false, "is not in POLLARD_MODULE_DIR");
    assert_ok(ctx, pol_remove_tree(ctx, dir));
}

static void names(pol_context *ctx, const char *backend, const char *device, const char *expected)
{
    pol_backend **list;
    int64_t n;
    char got[64] = "";
    assert_ok(ctx, pol_backend_open_all(ctx, &(pol_backend_options){.name = backend, .device = device, .threads = 1},
                                        &list, &n));
    for (int64_t i = 0; i < n; i++) {
        const pol_device_info *d = pol_backend_info(list[i]);
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s%d", i ? " " : "", d->backend, d->index);
    }
    assert_string_equal(got, expected);
    pol_backend_close_all(ctx, list, n);
}

static void test_devices(void **state)
{
    pol_context *ctx = *state;
    pol_backend_summary *about;
    pol_backend **list;
    pol_backend *be;
    int64_t n;
    look_in("good");
    assert_ok(ctx, pol_backend_list(ctx, &about, &n));
    assert_true(about[0].built);
    assert_int_equal(about[0].n_devices, 3);
    assert_string_equal(about[0].note, "");
    pol_backend_list_free(ctx, about);
    names(ctx, NULL, NULL, "cuda0"); /* before any other */
    names(ctx, NULL, "all", "cuda0 cuda1 cuda2");
    names(ctx, "cuda", "all", "cuda0 cuda1 cuda2");
    names(ctx, "cuda", "2,0", "cuda2 cuda0");
    names(ctx, "cuda", "1", "cuda1");
    names(ctx, "cpu", "all", "cpu0");
    setenv("FAKE_ODD", "1", 1);
    names(ctx, NULL, "fake b", "cuda1");
    names(ctx, "cuda", "2, fake b", "cuda2 cuda1");
    assert_fails(ctx, pol_backend_open_all(ctx, &(pol_backend_options){.name = "cuda", .device = "0,3"}, &list, &n),
                 POL_EARG, "device: '3' is none of the devices");
    assert_null(list);
    assert_fails(ctx, pol_backend_open(ctx, &(pol_backend_options){.name = "cuda", .device = "0,1"}, &be), POL_EARG,
                 "device: '0,1' stands for several devices, and one is wanted here");
    setenv("FAKE_ILL", "1", 1); /* in the way of its own devices only */
    assert_ok(ctx, pol_backend_open(ctx, NULL, &be));
    assert_string_not_equal(pol_backend_info(be)->backend, "cuda");
    pol_backend_close(be);
    assert_fails(ctx, pol_backend_open(ctx, &(pol_backend_options){.name = "cuda"}, &be), POL_EDEVICE, "fake is ill");
    unsetenv("FAKE_ILL");
    setenv("FAKE_DEVICES", "0", 1);
    names(ctx, "cpu", NULL, "cpu0");
    assert_fails(ctx, pol_backend_open(ctx, &(pol_backend_options){.name = "cuda"}, &be), POL_EARG, "backend cuda: ");
}

/* list, open and tune are all called through the module. */
static void test_tuning(void **state)
{
    pol_tune_result r;
    look_in("good");
    assert_ok(*state, pol_backend_tune(*state, &(pol_backend_options){.name = "cuda", .device = "2"},
                                       &(pol_tune_job){.seconds = 1}, &r));
    assert_int_equal(r.tried, 102);
    assert_int_equal(r.device.index, 2);
}

static char warning[512];

static void keep_warning(void *user, pol_log_level level, const char *line)
{
    (void)user;
    if (level == POL_LOG_WARN)
        snprintf(warning, sizeof warning, "%s", line);
}

static void test_kinds_that_differ(void **state)
{
    pol_context *ctx = *state;
    look_in("good");
    pol_context_log(ctx, keep_warning, NULL, POL_LOG_WARN);
    names(ctx, "cuda", "all", "cuda0 cuda1 cuda2");
    assert_null(strstr(warning, "Fake"));
    setenv("FAKE_ODD", "2", 1);
    names(ctx, "cuda", "0,1", "cuda0 cuda1");
    assert_null(strstr(warning, "Fake"));
    names(ctx, "cuda", "all", "cuda0 cuda1 cuda2");
    assert_non_null(strstr(warning, "cuda 0 is a Fake A and cuda 2 a Fake B: the last digit of a loss depends on "));
    pol_context_log(ctx, NULL, NULL, POL_LOG_WARN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_not_there, restore),  cmocka_unit_test_teardown(test_missing_library, restore),
        cmocka_unit_test_teardown(test_no_symbol, restore),  cmocka_unit_test_teardown(test_other_builds, restore),
        cmocka_unit_test_teardown(test_no_library, restore), cmocka_unit_test_teardown(test_devices, restore),
        cmocka_unit_test_teardown(test_tuning, restore),     cmocka_unit_test_teardown(test_kinds_that_differ, restore),
    };
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}
