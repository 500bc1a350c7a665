/* cachefile.c - the files of the program cache, and their folder. */
#include "backends/opencl/cachefile.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/endian.h"
#include "core/base/file.h"

static const char MAGIC[8] = "polclprg", SUFFIX[] = ".clprogram";

enum { KEY_DIGITS = 32, AT_VERSION = 8, AT_KEY = 12, AT_HASH = AT_KEY + KEY_DIGITS, AT_BYTES = AT_HASH + KEY_DIGITS };

/* The one place where the OpenCL backend looks at the environment. */
pol_status ocl_cache_folder(pol_context *ctx, char **out)
{
    const char *own = getenv("POLLARD_CACHE_DIR"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    *out = NULL;
    if (own && !*own)
        return POL_OK;
    if (own)
        *out = pol_path_join(ctx, own, "opencl");
    else if (xdg && *xdg == '/') /* as its specification wants it: what is not absolute is passed over */
        *out = pol_path_join(ctx, xdg, "pollard/opencl");
    else if (home && *home)
        *out = pol_path_join(ctx, home, ".cache/pollard/opencl");
    else
        return POL_OK;
    return *out ? POL_OK : POL_ENOMEM;
}

pol_status ocl_cache_folder_make(pol_context *ctx, const char *dir)
{
    char *path = pol_strdup(ctx, dir);
    if (!path)
        return POL_ENOMEM;
    for (char *at = path; *at; at++)
        if (*at == '/' && at > path) {
            *at = 0;
            mkdir(path, 0700); /* the last one tells */
            *at = '/';
        }
    pol_free(ctx, path);
    mkdir(dir, 0700);
    return pol_make_dir(ctx, dir);
}

/* Each byte of the header has one value that is right, and the payload its hash. */
pol_status ocl_cachefile_check(pol_context *ctx, const char *name, const void *data, size_t n, const char *key)
{
    const uint8_t *file = data;
    char hash[KEY_DIGITS + 1];
    if (n < OCL_CACHEFILE_HEADER || memcmp(file, MAGIC, sizeof MAGIC) != 0)
        return pol_fail(ctx, POL_EFORMAT, "%s: not a program of the cache", name);
    const uint32_t version = pol_get_u32le(file + AT_VERSION);
    if (version != OCL_CACHEFILE_VERSION)
        return pol_fail(ctx, POL_EFORMAT, "%s: version %u, not %d", name, version, OCL_CACHEFILE_VERSION);
    if (memcmp(file + AT_KEY, key, KEY_DIGITS) != 0)
        return pol_fail(ctx, POL_EFORMAT, "%s: made for another program, device or driver", name);
    const uint64_t bytes = pol_get_u64le(file + AT_BYTES);
    if (bytes != n - OCL_CACHEFILE_HEADER)
        return pol_fail(ctx, POL_EFORMAT, "%s: %zu bytes after the header, which says %llu", name,
                        n - OCL_CACHEFILE_HEADER, (unsigned long long)bytes);
    pol_bytes_hash(file + OCL_CACHEFILE_HEADER, (size_t)bytes, hash);
    if (memcmp(file + AT_HASH, hash, KEY_DIGITS) != 0)
        return pol_fail(ctx, POL_EFORMAT, "%s: its hash does not match", name);
    return POL_OK;
}

static char *path_of(pol_context *ctx, const char *dir, const char *key)
{
    const size_t n = strlen(dir);
    return pol_format(ctx, "%s%s%s%s", dir, n && dir[n - 1] == '/' ? "" : "/", key, SUFFIX);
}

pol_status ocl_cachefile_read(pol_context *ctx, const char *dir, const char *key, pol_bytes *out)
{
    *out = (pol_bytes){.ctx = ctx};
    char *path = path_of(ctx, dir, key);
    if (!path)
        return POL_ENOMEM;
    pol_status s = POL_OK;
    if (pol_path_exists(path)) {
        s = pol_file_read(ctx, path, OCL_CACHEFILE_HEADER + OCL_CACHEFILE_MOST, out);
        if (s == POL_OK)
            s = ocl_cachefile_check(ctx, path, out->data, out->len, key);
    }
    if (s == POL_OK && out->data) {
        utimensat(AT_FDCWD, path, NULL, 0); /* used now; where that may not be noted, it is trimmed sooner */
        out->len -= OCL_CACHEFILE_HEADER;
        memmove(out->data, out->data + OCL_CACHEFILE_HEADER, out->len + 1);
    }
    if (s < 0)
        pol_bytes_free(out);
    pol_free(ctx, path);
    return s;
}

static pol_status whole_file(const char *key, const void *payload, size_t n, pol_bytes *out)
{
    uint8_t header[OCL_CACHEFILE_HEADER];
    memcpy(header, MAGIC, sizeof MAGIC);
    pol_put_u32le(header + AT_VERSION, OCL_CACHEFILE_VERSION);
    memcpy(header + AT_KEY, key, KEY_DIGITS);
    pol_bytes_hash(payload, n, (char *)header + AT_HASH); /* its 0 byte lies where the size comes next */
    pol_put_u64le(header + AT_BYTES, n);
    POL_TRY(pol_bytes_reserve(out, OCL_CACHEFILE_HEADER + n));
    POL_TRY(pol_bytes_add(out, header, OCL_CACHEFILE_HEADER));
    return pol_bytes_add(out, payload, n);
}

pol_status ocl_cachefile_write(pol_context *ctx, const char *dir, const char *key, const void *payload, size_t n)
{
    if (n > OCL_CACHEFILE_MOST)
        return pol_fail(ctx, POL_EUNSUPPORTED, "%s: a program of %zu bytes, more than the %zu that are kept", dir, n,
                        OCL_CACHEFILE_MOST);
    pol_bytes file = {.ctx = ctx};
    char *path = path_of(ctx, dir, key);
    pol_status s = path ? ocl_cache_folder_make(ctx, dir) : POL_ENOMEM;
    if (s == POL_OK)
        s = whole_file(key, payload, n, &file);
    if (s == POL_OK)
        s = pol_file_write(ctx, path, file.data, file.len);
    if (s == POL_OK)
        ocl_cache_trim(ctx, dir, OCL_CACHE_FOLDER_MOST);
    pol_bytes_free(&file);
    pol_free(ctx, path);
    return s;
}

/* KEY.clprogram, and what a killed process left of writing one. */
static bool is_ours(const char *name)
{
    return strspn(name, "0123456789abcdef") == KEY_DIGITS && strncmp(name + KEY_DIGITS, SUFFIX, sizeof SUFFIX - 1) == 0;
}

static bool older(struct timespec a, struct timespec b)
{
    return a.tv_sec != b.tv_sec ? a.tv_sec < b.tv_sec : a.tv_nsec < b.tv_nsec;
}

/* Bytes of all our files; the name of the one unused longest. */
static uint64_t survey(DIR *d, char oldest[256])
{
    uint64_t total = 0;
    struct timespec time = {0};
    struct stat st;
    oldest[0] = 0;
    rewinddir(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (!is_ours(e->d_name) || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISDIR(st.st_mode))
            continue;
        total += (uint64_t)st.st_size;
        if (!oldest[0] || older(st.st_mtim, time)) {
            time = st.st_mtim;
            strcpy(oldest, e->d_name);
        }
    }
    return total;
}

void ocl_cache_trim(pol_context *ctx, const char *dir, uint64_t most)
{
    char oldest[256]; /* as dirent's d_name */
    DIR *d = opendir(dir);
    while (d && survey(d, oldest) > most && unlinkat(dirfd(d), oldest, 0) == 0)
        pol_log(ctx, POL_LOG_DEBUG, "%s/%s: removed, to make room", dir, oldest);
    if (d)
        closedir(d);
}
