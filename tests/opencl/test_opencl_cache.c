/* test_opencl_cache.c - built programs on disk: the second start builds none, and nothing that may lie in the folder
 * instead of what was put there changes a result or fails a run. */
#include <string.h>
#include <sys/stat.h>

#include "tests/opencl/cache_folder.h"
#include "tests/opencl/profiles.h"

enum { T = 3, C = 37 };

/* Stand before the loader's (tests/opencl/CMakeLists.txt), so that a test can have another device, driver or platform:
 * the answer to one question begins with another letter, or is refused. */
static cl_uint altered, refused;

cl_int __real_clGetDeviceInfo(cl_device_id d, cl_device_info what, size_t size, void *out, size_t *n);
cl_int __wrap_clGetDeviceInfo(cl_device_id d, cl_device_info what, size_t size, void *out, size_t *n);
cl_int __wrap_clGetDeviceInfo(cl_device_id d, cl_device_info what, size_t size, void *out, size_t *n)
{
    const cl_int code = what == refused ? CL_INVALID_DEVICE : __real_clGetDeviceInfo(d, what, size, out, n);
    if (what == altered && out && code == CL_SUCCESS)
        *(char *)out ^= 1;
    return code;
}

cl_int __real_clGetPlatformInfo(cl_platform_id p, cl_platform_info what, size_t size, void *out, size_t *n);
cl_int __wrap_clGetPlatformInfo(cl_platform_id p, cl_platform_info what, size_t size, void *out, size_t *n);
cl_int __wrap_clGetPlatformInfo(cl_platform_id p, cl_platform_info what, size_t size, void *out, size_t *n)
{
    const cl_int code = what == refused ? CL_INVALID_PLATFORM : __real_clGetPlatformInfo(p, what, size, out, n);
    if (what == altered && out && code == CL_SUCCESS)
        *(char *)out ^= 1;
    return code;
}

static bool no_binaries;
static const char *build_log;

cl_int __real_clGetProgramBuildInfo(cl_program p, cl_device_id d, cl_uint what, size_t size, void *out, size_t *n);
cl_int __wrap_clGetProgramBuildInfo(cl_program p, cl_device_id d, cl_uint what, size_t size, void *out, size_t *n);
cl_int __wrap_clGetProgramBuildInfo(cl_program p, cl_device_id d, cl_uint what, size_t size, void *out, size_t *n)
{
    if (!build_log)
        return __real_clGetProgramBuildInfo(p, d, what, size, out, n);
    if (n)
        *n = strlen(build_log) + 1;
    if (out)
        snprintf(out, size, "%s", build_log);
    return CL_SUCCESS;
}

cl_int __real_clGetProgramInfo(cl_program p, cl_program_info what, size_t size, void *out, size_t *n);
cl_int __wrap_clGetProgramInfo(cl_program p, cl_program_info what, size_t size, void *out, size_t *n);
cl_int __wrap_clGetProgramInfo(cl_program p, cl_program_info what, size_t size, void *out, size_t *n)
{
    const cl_int code = __real_clGetProgramInfo(p, what, size, out, n);
    if (no_binaries && what == CL_PROGRAM_BINARY_SIZES && out)
        memset(out, 0, size);
    return code;
}

static int count_in(const char *text, const char *part)
{
    int n = 0;
    for (const char *at = strstr(text, part); at; at = strstr(at + 1, part))
        n++;
    return n;
}

/* NULL where there is no device. */
static ocl *open_cached(pol_context *ctx, const char *dir)
{
    ocl_profile use;
    pol_backend *be = open_profile(ctx, &test_profiles[0]);
    if (!be)
        return NULL;
    use = ocl_of(be)->profile;
    pol_backend_close(be);
    use.cache_dir = dir;
    assert_ok(ctx, pol_opencl_open(ctx, 0, &use, POL_F32, &be));
    return ocl_of(be);
}

/* One program, launched: y. */
static void run_rmsnorm(ocl *cl, float y[T * C])
{
    pol_backend *be = &cl->base;
    pol_context *ctx = be->ctx;
    float x[T * C], gain[C];
    pol_buf *bx, *by, *bg;
    for (int i = 0; i < T * C; i++)
        x[i] = (float)(i * 7 % 23) - 11.0f;
    for (int i = 0; i < C; i++)
        gain[i] = 1.0f + 0.25f * (float)(i % 5);
    assert_ok(ctx, pol_buf_new(be, POL_F32, T * C, &bx));
    assert_ok(ctx, pol_buf_new(be, POL_F32, T * C, &by));
    assert_ok(ctx, pol_buf_new(be, POL_F32, C, &bg));
    assert_ok(ctx, pol_upload(be, bx, 0, x, T * C));
    assert_ok(ctx, pol_upload(be, bg, 0, gain, C));
    assert_ok(ctx, pol_rmsnorm(be, &(pol_rmsnorm_args){.y = {by, 0}, .x = {bx, 0}, .gain = {bg, 0}, T, C, 1e-5f}));
    assert_ok(ctx, pol_download(be, by, 0, y, T * C));
    pol_buf_free(be, bx);
    pol_buf_free(be, by);
    pol_buf_free(be, bg);
}

/* A start: what it gave, and how many programs it built and loaded. */
typedef struct start {
    float y[T * C];
    uint64_t built, loaded;
} start;

static start start_with(fixture *f, const char *dir)
{
    start s;
    f->log[0] = 0;
    ocl *cl = open_cached(f->ctx, dir);
    if (!cl)
        skip();
    run_rmsnorm(cl, s.y);
    s.built = cl->n_built;
    s.loaded = cl->n_loaded;
    pol_backend_close(&cl->base);
    return s;
}

static void assert_start(const start *s, const start *first, uint64_t built, uint64_t loaded)
{
    assert_int_equal(s->built, built);
    assert_int_equal(s->loaded, loaded);
    assert_memory_equal(s->y, first->y, sizeof first->y);
}

/* A first start, into an empty cache. */
static start first_start(fixture *f, char path[512], pol_bytes *file)
{
    const start first = start_with(f, f->cache);
    assert_int_equal(first.built, 1);
    assert_int_equal(first.loaded, 0);
    assert_int_equal(only_file(f, path), 1);
    assert_ok(f->ctx, pol_file_read(f->ctx, path, MOST_FILE, file));
    return first;
}

static void test_second_start_builds_nothing(void **state)
{
    fixture *f = *state;
    char path[512];
    pol_bytes file, again;
    const start first = first_start(f, path, &file), second = start_with(f, f->cache);
    assert_start(&second, &first, 0, 1);
    assert_string_equal(f->log, "");
    assert_ok(f->ctx, pol_file_read(f->ctx, path, MOST_FILE, &again));
    assert_int_equal(again.len, file.len);
    assert_memory_equal(again.data, file.data, file.len);
    const start none = start_with(f, NULL);
    assert_start(&none, &first, 1, 0);
    pol_bytes_free(&file);
    pol_bytes_free(&again);
}

/* What was in place of the file is noticed, and replaced by a good one. */
static void check_rebuilt(fixture *f, const start *first, const char *what)
{
    const start s = start_with(f, f->cache);
    if (s.built != 1)
        fail_msg("%s: not built again", what);
    assert_start(&s, first, 1, 0);
    if (count_in(f->log, "built again") != 1)
        fail_msg("%s: the log says '%s'", what, f->log);
    const start after = start_with(f, f->cache);
    assert_start(&after, first, 0, 1);
}

static void test_damage(void **state)
{
    fixture *f = *state;
    char path[512], what[64];
    pol_bytes file;
    const start first = first_start(f, path, &file);
    /* A bit of each field of the header, and of the payload's start, middle and end. */
    const size_t at[] = {0, 7, 8, 11, 12, 43, 44, 75, 76, 83, 84, 84 + (file.len - 84) / 2, file.len - 1};
    for (size_t i = 0; i < POL_COUNT(at); i++) {
        snprintf(what, sizeof what, "bit of byte %zu", at[i]);
        file.data[at[i]] ^= 4;
        assert_ok(f->ctx, pol_file_write(f->ctx, path, file.data, file.len));
        file.data[at[i]] ^= 4;
        check_rebuilt(f, &first, what);
    }
    const size_t length[] = {0, 1, 83, 84, 85, file.len / 2, file.len - 1};
    for (size_t i = 0; i < POL_COUNT(length); i++) {
        snprintf(what, sizeof what, "cut to %zu bytes", length[i]);
        assert_ok(f->ctx, pol_file_write(f->ctx, path, file.data, length[i]));
        check_rebuilt(f, &first, what);
    }
    assert_ok(f->ctx, pol_bytes_add(&file, "more", 4));
    assert_ok(f->ctx, pol_file_write(f->ctx, path, file.data, file.len));
    check_rebuilt(f, &first, "four bytes more");
    pol_bytes_free(&file);
}

static void test_not_a_file(void **state)
{
    fixture *f = *state;
    char path[512];
    pol_bytes file;
    const start first = first_start(f, path, &file);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink(path, path), 0); /* a link to itself */
    const start loop = start_with(f, f->cache);
    assert_start(&loop, &first, 1, 0);

    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0); /* nobody will ever write to it */
    check_rebuilt(f, &first, "a pipe");

    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0); /* and it cannot be replaced */
    const start folder = start_with(f, f->cache);
    assert_start(&folder, &first, 1, 0);
    assert_int_equal(count_in(f->log, "are not kept"), 1);
    pol_bytes_free(&file);
}

/* A file that is whole and carries the right key, but no binary that the driver takes. */
static void test_refused_binary(void **state)
{
    fixture *f = *state;
    char path[512], key[KEY + 1] = "", junk[5000];
    pol_bytes file;
    const start first = first_start(f, path, &file);
    memcpy(key, pol_path_name(path), KEY);
    for (size_t i = 0; i < sizeof junk; i++)
        junk[i] = (char)(i * 31 % 251);
    assert_ok(f->ctx, ocl_cachefile_write(f->ctx, f->cache, key, junk, sizeof junk));
    check_rebuilt(f, &first, "junk");
    assert_ok(f->ctx, ocl_cachefile_write(f->ctx, f->cache, key, junk, 0));
    check_rebuilt(f, &first, "nothing");
    pol_bytes_free(&file);
}

static void test_driver_without_binaries(void **state)
{
    fixture *f = *state;
    char path[512];
    no_binaries = true;
    const start first = start_with(f, f->cache), second = start_with(f, f->cache);
    no_binaries = false;
    assert_start(&second, &first, 1, 0);
    assert_int_equal(only_file(f, path), 0);
}

/* The programs of two drivers lie beside each other, and neither is taken for the other's. */
static void test_other_driver(void **state)
{
    fixture *f = *state;
    char path[512], other[512];
    pol_bytes file, of_other;
    const start first = first_start(f, path, &file);
    assert_int_equal(unlink(path), 0);
    altered = CL_DRIVER_VERSION;
    start s = first_start(f, other, &of_other);
    altered = 0;
    s = start_with(f, f->cache);
    assert_start(&s, &first, 1, 0);
    s = start_with(f, f->cache);
    assert_start(&s, &first, 0, 1);
    assert_ok(f->ctx, pol_file_copy(f->ctx, other, path));
    check_rebuilt(f, &first, "the file of another driver");
    pol_bytes_free(&file);
    pol_bytes_free(&of_other);
}

static void test_key(void **state)
{
    fixture *f = *state;
    char key[8][KEY + 1];
    ocl *cl = open_cached(f->ctx, f->cache);
    if (!cl)
        skip();
    const pol_bytes one = {.data = (char *)"kernel a", .len = 8}, two = {.data = (char *)"kernel ab", .len = 9};
    ocl_cache_key(cl, &one, "-DX", key[0]);
    ocl_cache_key(cl, &one, "-DX", key[1]);
    assert_int_equal(strlen(key[0]), KEY);
    assert_string_equal(key[0], key[1]);
    ocl_cache_key(cl, &two, "-DX", key[1]);
    ocl_cache_key(cl, &one, "-DY", key[2]);
    ocl_cache_key(cl, &one, "b-DX", key[3]);
    ocl_cache_key(cl, &(pol_bytes){.data = (char *)"kernel ", .len = 7}, "a-DX", key[4]);
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < i; j++)
            assert_string_not_equal(key[i], key[j]);
    static const cl_uint parts[] = {CL_DEVICE_NAME,    CL_DEVICE_VENDOR, CL_DEVICE_VERSION,
                                    CL_DRIVER_VERSION, CL_PLATFORM_NAME, CL_PLATFORM_VERSION};
    for (size_t i = 0; i < POL_COUNT(parts); i++) {
        altered = parts[i];
        ocl_cache_key(cl, &one, "-DX", key[1]);
        altered = 0;
        assert_int_equal(strlen(key[1]), KEY);
        assert_string_not_equal(key[0], key[1]);
        refused = parts[i];
        ocl_cache_key(cl, &one, "-DX", key[1]);
        refused = 0;
        assert_string_equal(key[1], "");
    }
    pol_free(f->ctx, cl->cache_dir);
    cl->cache_dir = NULL;
    ocl_cache_key(cl, &one, "-DX", key[0]);
    assert_string_equal(key[0], "");
    pol_backend_close(&cl->base);
}

static void test_folder_that_cannot_be_made(void **state)
{
    fixture *f = *state;
    char below[128];
    const start first = start_with(f, NULL);
    assert_ok(f->ctx, pol_file_write(f->ctx, f->cache, "a file", 6));
    snprintf(below, sizeof below, "%s/a/b", f->cache);
    f->log[0] = 0;
    ocl *cl = open_cached(f->ctx, below);
    float y[T * C];
    ocl_kernel *k;
    run_rmsnorm(cl, y);
    assert_ok(f->ctx, ocl_kernel_get(cl, "embed", "embed", "", &k));
    assert_int_equal(cl->n_built, 2);
    assert_memory_equal(y, first.y, sizeof y);
    assert_int_equal(count_in(f->log, "are not kept"), 2); /* of which one is a warning */
    pol_backend_close(&cl->base);
    pol_context_log(f->ctx, keep_line, f, POL_LOG_WARN);
    start_with(f, below);
    assert_int_equal(count_in(f->log, "are not kept"), 1);
}

/* The registry opens a device without a profile: the usual folder then. */
static void test_usual_folder(void **state)
{
    fixture *f = *state;
    pol_backend *be = open_profile(f->ctx, &test_profiles[0]);
    if (!be)
        skip();
    assert_null(ocl_of(be)->profile.cache_dir); /* the profile of a test has none */
    pol_backend_close(be);
    char *saved = getenv("POLLARD_CACHE_DIR") ? strdup(getenv("POLLARD_CACHE_DIR")) : NULL;
    assert_int_equal(setenv("POLLARD_CACHE_DIR", f->dir, 1), 0);
    const pol_status s = pol_opencl_open(f->ctx, 0, NULL, POL_F32, &be);
    assert_int_equal(saved ? setenv("POLLARD_CACHE_DIR", saved, 1) : unsetenv("POLLARD_CACHE_DIR"), 0);
    free(saved);
    assert_ok(f->ctx, s);
    assert_string_equal(ocl_of(be)->profile.cache_dir, f->cache);
    pol_backend_close(be);
}

/* file:line of the complaint reaches the user. */
static void test_build_failure(void **state)
{
    fixture *f = *state;
    ocl_kernel *k;
    char path[512];
    ocl *cl = open_cached(f->ctx, f->cache);
    if (!cl)
        skip();
    f->log[0] = 0;
    assert_fails(f->ctx, ocl_kernel_get(cl, "rmsnorm", "rmsnorm_item", "-Dfv=3", &k), POL_EDEVICE,
                 "opencl: rmsnorm: clBuildProgram: CL_BUILD_PROGRAM_FAILURE (-11): ");
    const char *place = strstr(pol_error_text(f->ctx), "prelude.cl:");
    if (!place || strspn(place + strlen("prelude.cl:"), "0123456789") == 0)
        fail_msg("no file and line in '%s'", pol_error_text(f->ctx));
    place = strstr(f->log, "prelude.cl:");
    if (!place || strncmp(f->log, "rmsnorm.cl: ", 12) != 0)
        fail_msg("no file and line in the log: '%s'", f->log);
    assert_int_equal(cl->n_built, 0);
    assert_int_equal(only_file(f, path), 0);

    assert_fails(f->ctx, ocl_kernel_get(cl, "rmsnorm", "rmsnorm_item", "-Drmsnorm_args=1", &k), POL_EDEVICE, "args.h:");
    assert_fails(f->ctx, ocl_kernel_get(cl, "embed", "embed", "-Dembed=1", &k), POL_EDEVICE, "embed.cl:");

    char many[4000] = "warning: not it\n";
    for (int i = 1; i <= 100; i++)
        snprintf(many + strlen(many), sizeof many - strlen(many), "embed.cl:%d:1: error: no\n", i);
    f->log[0] = 0;
    build_log = many;
    assert_fails(f->ctx, ocl_kernel_get(cl, "embed", "embed", "-Dembed=1", &k), POL_EDEVICE,
                 ": embed.cl:1:1: error: no");
    assert_int_equal(count_in(f->log, "error: no"), 39);
    assert_int_equal(count_in(f->log, "embed.cl: and 61 more lines"), 1);
    build_log = "";
    assert_fails(f->ctx, ocl_kernel_get(cl, "embed", "embed", "-Dembed=1", &k), POL_EDEVICE, "_FAILURE (-11)");
    build_log = NULL;

    assert_fails(f->ctx, ocl_kernel_get(cl, "nothing", "nothing", "", &k), POL_EARG, "nothing.cl");
    assert_ok(f->ctx, ocl_kernel_get(cl, "embed", "embed", "", &k));
    pol_backend_close(&cl->base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CACHE_TEST(test_second_start_builds_nothing),
        CACHE_TEST(test_damage),
        CACHE_TEST(test_not_a_file),
        CACHE_TEST(test_refused_binary),
        CACHE_TEST(test_driver_without_binaries),
        CACHE_TEST(test_other_driver),
        CACHE_TEST(test_key),
        CACHE_TEST(test_folder_that_cannot_be_made),
        CACHE_TEST(test_usual_folder),
        CACHE_TEST(test_build_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
