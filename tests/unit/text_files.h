/* text_files.h - a temporary folder with text files in it, and what the reader gives back for one. */
#ifndef POL_TEST_TEXT_FILES_H
#define POL_TEST_TEXT_FILES_H

#include "core/base/file.h"
#include "tests/test.h"

typedef struct fixture {
    pol_context *ctx;
    char dir[64];
    char path[128]; /* of the last file written */
} fixture;

static inline int fixture_open(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/pollard-text-XXXXXX");
    *state = f;
    return mkdtemp(f->dir) && pol_context_new(NULL, &f->ctx) == POL_OK ? 0 : -1;
}

static inline int fixture_close(void **state)
{
    fixture *f = *state;
    const pol_status s = pol_remove_tree(f->ctx, f->dir);
    pol_context_free(f->ctx);
    free(f);
    return s;
}

/* The path is valid until the next call. */
static inline const char *write_file(fixture *f, const char *name, const void *data, size_t n)
{
    snprintf(f->path, sizeof f->path, "%s/%s", f->dir, name);
    FILE *out = fopen(f->path, "wb"); /* not pol_file_write, which syncs: there are hundreds of files */
    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, n, out), n);
    assert_int_equal(fclose(out), 0);
    return f->path;
}

#endif
