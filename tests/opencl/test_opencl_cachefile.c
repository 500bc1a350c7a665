/* test_opencl_cachefile.c - the files of the program cache and their folder; no device is needed. */
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/opencl/cache_folder.h"

static void test_check_sees_every_byte(void **state)
{
    fixture *f = *state;
    const char *key = "00112233445566778899aabbccddeeff";
    char path[512];
    pol_bytes file;
    assert_ok(f->ctx, ocl_cachefile_write(f->ctx, f->cache, key, "a program", 9));
    assert_int_equal(only_file(f, path), 1);
    assert_string_equal(pol_path_name(path), "00112233445566778899aabbccddeeff.clprogram");
    assert_ok(f->ctx, pol_file_read(f->ctx, path, MOST_FILE, &file));
    assert_int_equal(file.len, OCL_CACHEFILE_HEADER + 9);
    assert_ok(f->ctx, ocl_cachefile_check(f->ctx, "it", file.data, file.len, key));
    for (size_t i = 0; i < file.len; i++)
        for (int bit = 0; bit < 8; bit++) {
            file.data[i] ^= (char)(1 << bit);
            if (ocl_cachefile_check(f->ctx, "it", file.data, file.len, key) != POL_EFORMAT)
                fail_msg("bit %d of byte %zu is not seen", bit, i);
            file.data[i] ^= (char)(1 << bit);
        }
    for (size_t n = 0; n < file.len; n++)
        assert_int_equal(ocl_cachefile_check(f->ctx, "it", file.data, n, key), POL_EFORMAT);
    assert_fails(f->ctx, ocl_cachefile_check(f->ctx, "it", file.data, file.len, "0123456789abcdef0123456789abcdef"),
                 POL_EFORMAT, "made for another");
    pol_bytes_free(&file);
}

static void set(const char *name, const char *value)
{
    if (value)
        assert_int_equal(setenv(name, value, 1), 0);
    else
        assert_int_equal(unsetenv(name), 0);
}

static void check_folder(fixture *f, const char *own, const char *xdg, const char *home, const char *expected)
{
    char *dir;
    set("POLLARD_CACHE_DIR", own);
    set("XDG_CACHE_HOME", xdg);
    set("HOME", home);
    assert_ok(f->ctx, ocl_cache_folder(f->ctx, &dir));
    if (expected) {
        assert_non_null(dir);
        assert_string_equal(dir, expected);
    } else
        assert_null(dir);
    pol_free(f->ctx, dir);
}

static void test_folder_by_environment(void **state)
{
    fixture *f = *state;
    char *saved[3];
    static const char *const names[] = {"POLLARD_CACHE_DIR", "XDG_CACHE_HOME", "HOME"};
    for (int i = 0; i < 3; i++)
        saved[i] = getenv(names[i]) ? strdup(getenv(names[i])) : NULL;
    check_folder(f, "/a/b", "/x", "/h", "/a/b/opencl");
    check_folder(f, "here", "/x", "/h", "here/opencl");
    check_folder(f, "", "/x", "/h", NULL);
    check_folder(f, NULL, "/x/", "/h", "/x/pollard/opencl");
    check_folder(f, NULL, "x", "/h", "/h/.cache/pollard/opencl");
    check_folder(f, NULL, "", "/h", "/h/.cache/pollard/opencl");
    check_folder(f, NULL, NULL, "", NULL);
    check_folder(f, NULL, NULL, NULL, NULL);
    for (int i = 0; i < 3; i++) {
        set(names[i], saved[i]);
        free(saved[i]);
    }
}

/* What has gone unused longest goes first, and nothing goes that is not ours. */
static void test_trim(void **state)
{
    fixture *f = *state;
    char key[4][KEY + 1], path[4][256], foreign[256], part[300], payload[1000] = "";
    for (int i = 0; i < 4; i++) {
        memset(key[i], 'a' + i, KEY);
        key[i][KEY] = 0;
        snprintf(path[i], sizeof path[i], "%s/%s.clprogram", f->cache, key[i]);
        assert_ok(f->ctx, ocl_cachefile_write(f->ctx, f->cache, key[i], payload, sizeof payload));
        const struct timespec times[2] = {{1000 + i, 0}, {1000 + i, 0}};
        assert_int_equal(utimensat(AT_FDCWD, path[i], times, 0), 0);
    }
    snprintf(foreign, sizeof foreign, "%s/notes.txt", f->cache);
    assert_ok(f->ctx, pol_file_write(f->ctx, foreign, payload, sizeof payload));
    snprintf(part, sizeof part, "%s.part-7", path[2]); /* newest but for what is used below */
    assert_ok(f->ctx, pol_file_write(f->ctx, part, payload, sizeof payload));

    pol_bytes got;
    assert_ok(f->ctx, ocl_cachefile_read(f->ctx, f->cache, key[0], &got));
    assert_int_equal(got.len, sizeof payload);
    pol_bytes_free(&got);

    const uint64_t each = OCL_CACHEFILE_HEADER + sizeof payload;
    ocl_cache_trim(f->ctx, f->cache, 4 * each + sizeof payload);
    for (int i = 0; i < 4; i++)
        assert_true(pol_path_exists(path[i]));
    ocl_cache_trim(f->ctx, f->cache, 2 * each + sizeof payload);
    assert_true(pol_path_exists(path[0])); /* the oldest, but read since */
    assert_false(pol_path_exists(path[1]));
    assert_false(pol_path_exists(path[2]));
    assert_true(pol_path_exists(path[3]));
    assert_true(pol_path_exists(part));
    ocl_cache_trim(f->ctx, f->cache, 0);
    assert_false(pol_path_exists(path[0]));
    assert_false(pol_path_exists(path[3]));
    assert_false(pol_path_exists(part));
    assert_true(pol_path_exists(foreign));
    ocl_cache_trim(f->ctx, "/nowhere/at/all", 0);
}

enum { WRITERS = 4, ROUNDS = 50, PAYLOAD = 20000 };

/* Writes and reads the same key over and over; payloads differ by writer, so that a mixture of two is no good file. */
static bool write_and_read(const char *dir, int who)
{
    const char *key = "00112233445566778899aabbccddeeff";
    char payload[PAYLOAD];
    pol_context *ctx;
    memset(payload, 'a' + who, sizeof payload);
    bool good = pol_context_new(NULL, &ctx) == POL_OK;
    for (int i = 0; i < ROUNDS && good; i++) {
        pol_bytes got;
        /* A writer of its own length: a tail left of another's file would show too. */
        good = ocl_cachefile_write(ctx, dir, key, payload, sizeof payload - (size_t)who) == POL_OK &&
               ocl_cachefile_read(ctx, dir, key, &got) == POL_OK && got.data;
        for (size_t k = 1; good && k < got.len; k++)
            good = got.data[k] == got.data[0];
        if (good)
            pol_bytes_free(&got);
        else
            fprintf(stderr, "writer %d, round %d: %s\n", who, i, pol_error_text(ctx));
    }
    pol_context_free(ctx);
    return good;
}

typedef struct writer {
    pthread_t thread;
    const char *dir;
    int who;
    bool good;
} writer;

static void *writer_main(void *to)
{
    writer *w = to;
    w->good = write_and_read(w->dir, w->who);
    return NULL;
}

static void test_threads_race(void **state)
{
    fixture *f = *state;
    writer w[WRITERS];
    char path[512];
    for (int i = 0; i < WRITERS; i++) {
        w[i] = (writer){.dir = f->cache, .who = i};
        assert_int_equal(pthread_create(&w[i].thread, NULL, writer_main, &w[i]), 0);
    }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(w[i].thread, NULL);
    for (int i = 0; i < WRITERS; i++)
        assert_true(w[i].good);
    assert_int_equal(only_file(f, path), 1); /* no temporary one is left */
}

static void test_processes_race(void **state)
{
    fixture *f = *state;
    pid_t child[WRITERS];
    char path[512];
    for (int i = 0; i < WRITERS; i++) {
        child[i] = fork();
        assert_true(child[i] >= 0);
        if (child[i] == 0)
            _exit(write_and_read(f->cache, i) ? 0 : 1);
    }
    for (int i = 0; i < WRITERS; i++) {
        int status;
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(only_file(f, path), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CACHE_TEST(test_check_sees_every_byte), CACHE_TEST(test_folder_by_environment), CACHE_TEST(test_trim),
        CACHE_TEST(test_threads_race),          CACHE_TEST(test_processes_race),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
