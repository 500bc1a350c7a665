/* cache_folder.h - a context whose log is kept, and a program cache of a test's own. */
#ifndef POL_TEST_CACHE_FOLDER_H
#define POL_TEST_CACHE_FOLDER_H

#include <dirent.h>
#include <unistd.h>

#include "backends/opencl/cachefile.h"
#include "core/base/file.h"
#include "tests/test.h"

enum { KEY = 32, MOST_FILE = 1 << 22 };

typedef struct fixture {
    pol_context *ctx;
    char dir[64], cache[80];
    char log[4096]; /* lines, each ended by a newline */
} fixture;

static inline void keep_line(void *user, pol_log_level level, const char *line)
{
    fixture *f = user;
    const size_t n = strlen(f->log);
    (void)level;
    snprintf(f->log + n, sizeof f->log - n, "%s\n", line);
}

/* The only file of the cache: its path; and how many there are. */
static inline int only_file(const fixture *f, char path[512])
{
    int n = 0;
    DIR *d = opendir(f->cache);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.') {
            snprintf(path, 512, "%s/%s", f->cache, e->d_name);
            n++;
        }
    if (d)
        closedir(d);
    return n;
}

static inline int cache_setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    if (!f || pol_context_new(NULL, &f->ctx) < 0)
        return -1;
    strcpy(f->dir, "/tmp/pollard-cache-XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    snprintf(f->cache, sizeof f->cache, "%s/opencl", f->dir);
    pol_context_log(f->ctx, keep_line, f, POL_LOG_DEBUG);
    *state = f;
    return 0;
}

static inline int cache_teardown(void **state)
{
    fixture *f = *state;
    const pol_status s = pol_remove_tree(f->ctx, f->dir);
    pol_context_free(f->ctx);
    free(f);
    return s;
}

#define CACHE_TEST(name) cmocka_unit_test_setup_teardown(name, cache_setup, cache_teardown)

#endif
