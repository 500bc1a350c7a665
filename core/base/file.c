/* file.c - mapped reading, atomic writing. */
#include "core/base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

static pol_status fail_io(pol_context *ctx, const char *path, const char *what)
{
    return pol_fail(ctx, POL_EIO, "%s: %s: %s", path, what, strerror(errno));
}

pol_status pol_map_open(pol_context *ctx, const char *path, pol_map *m)
{
    static const uint8_t empty[1];
    memset(m, 0, sizeof *m);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* else a pipe waits here for a writer */
    if (fd < 0)
        return fail_io(ctx, path, "cannot be opened");
    struct stat st;
    pol_status s = POL_OK;
    void *data = (void *)empty;
    if (fstat(fd, &st) < 0)
        s = fail_io(ctx, path, "cannot be examined");
    else if (!S_ISREG(st.st_mode))
        s = pol_fail(ctx, POL_EIO, "%s: not a regular file", path);
    else if (st.st_size > 0 && (data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0)) == MAP_FAILED)
        s = fail_io(ctx, path, "cannot be mapped");
    close(fd);
    POL_TRY(s);
    m->ctx = ctx;
    m->data = data;
    m->size = (size_t)st.st_size;
    m->path = pol_strdup(ctx, path);
    if (!m->path) {
        pol_map_close(m);
        return POL_ENOMEM;
    }
    return POL_OK;
}

void pol_map_release(const pol_map *m, size_t offset, size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (offset > m->size || bytes > m->size - offset)
        return;
    /* The page that the range begins in holds what was read before it; the page that it ends in, what comes next. */
    const size_t first = offset / page * page, end = (offset + bytes) / page * page;
    if (end > first)
        madvise((void *)(m->data + first), end - first, MADV_DONTNEED);
}

void pol_map_close(pol_map *m)
{
    if (!m->data)
        return;
    if (m->size)
        munmap((void *)m->data, m->size);
    pol_free(m->ctx, m->path);
    memset(m, 0, sizeof *m);
}

pol_status pol_file_read(pol_context *ctx, const char *path, size_t limit, pol_bytes *out)
{
    *out = (pol_bytes){.ctx = ctx};
    pol_map m;
    POL_TRY(pol_map_open(ctx, path, &m));
    pol_status s = m.size > limit ? pol_fail(ctx, POL_EFORMAT, "%s: %zu bytes, more than the %zu that such a file may have",
                                             path, m.size, limit)
                                  : pol_bytes_add(out, m.data, m.size);
    pol_map_close(&m);
    if (s < 0)
        pol_bytes_free(out);
    return s;
}

bool pol_path_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

bool pol_path_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *pol_path_join(pol_context *ctx, const char *dir, const char *name)
{
    const size_t n = strlen(dir);
    return pol_format(ctx, "%s%s%s", dir, n && dir[n - 1] == '/' ? "" : "/", name);
}

const char *pol_path_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

pol_status pol_make_dir(pol_context *ctx, const char *path)
{
    if (mkdir(path, 0777) == 0 || (errno == EEXIST && pol_path_is_dir(path)))
        return POL_OK;
    return fail_io(ctx, path, "folder cannot be made");
}

/* Takes no memory of the context, so that cleaning up works after that ran out. false: errno says why. */
static bool remove_at(int dir, const char *name)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT;
    if (!S_ISDIR(st.st_mode))
        return unlinkat(dir, name, 0) == 0;
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    bool ok = true;
    for (struct dirent *e; ok && (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
            ok = remove_at(dirfd(d), e->d_name);
    const int why = errno;
    closedir(d);
    errno = why;
    return ok && unlinkat(dir, name, AT_REMOVEDIR) == 0;
}

pol_status pol_remove_tree(pol_context *ctx, const char *path)
{
    return remove_at(AT_FDCWD, path) ? POL_OK : fail_io(ctx, path, "cannot be removed");
}

static const char PART[] = ".part-";

/* A name in the same folder, so that rename() is atomic; the number, which is of a thread, keeps two writers apart. */
static char *temporary_name(pol_context *ctx, const char *path)
{
    return pol_format(ctx, "%s%s%ld", path, PART, (long)gettid());
}

bool pol_path_is_part(const char *file, const char *name)
{
    const size_t n = strlen(name);
    return !strncmp(file, name, n) && !strncmp(file + n, PART, sizeof PART - 1);
}

/* The rename is durable only once the folder around it is on disk. All that memory is needed for comes before the rename. */
static pol_status put_in_place(pol_context *ctx, const char *tmp, const char *path)
{
    const char *name = pol_path_name(path);
    char *dir = name == path ? pol_strdup(ctx, ".") : pol_strndup(ctx, path, (size_t)(name - path));
    if (!dir)
        return POL_ENOMEM;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    pol_status s = POL_OK;
    if (fd < 0)
        s = fail_io(ctx, dir, "folder cannot be opened");
    else if (rename(tmp, path) < 0)
        s = fail_io(ctx, path, "cannot be put in place");
    else if (fsync(fd) < 0 && errno != EINVAL) /* EINVAL: a file system that cannot sync folders */
        s = fail_io(ctx, dir, "folder cannot be synced");
    if (fd >= 0)
        close(fd);
    pol_free(ctx, dir);
    return s;
}

pol_status pol_outfile_open(pol_context *ctx, const char *path, pol_outfile *o)
{
    memset(o, 0, sizeof *o);
    o->ctx = ctx;
    o->path = pol_strdup(ctx, path);
    o->tmp = o->path ? temporary_name(ctx, path) : NULL;
    if (!o->tmp) {
        pol_outfile_abort(o);
        return POL_ENOMEM;
    }
    o->stream = fopen(o->tmp, "wb");
    if (!o->stream) {
        pol_status s = fail_io(ctx, path, "cannot be written");
        pol_outfile_abort(o);
        return s;
    }
    return POL_OK;
}

pol_status pol_outfile_write(pol_outfile *o, const void *src, size_t n)
{
    if (n && fwrite(src, 1, n, o->stream) != n)
        return fail_io(o->ctx, o->path, "cannot be written");
    return POL_OK;
}

pol_status pol_outfile_sync(pol_outfile *o)
{
    if (fflush(o->stream) != 0 || fsync(fileno(o->stream)) < 0)
        return fail_io(o->ctx, o->path, "cannot be written");
    return POL_OK;
}

pol_status pol_outfile_commit(pol_outfile *o)
{
    pol_status s = pol_outfile_sync(o);
    if (fclose(o->stream) != 0 && s == POL_OK)
        s = fail_io(o->ctx, o->path, "cannot be written");
    o->stream = NULL;
    if (s == POL_OK)
        s = put_in_place(o->ctx, o->tmp, o->path);
    pol_outfile_abort(o); /* once it is in place, there is no temporary file to remove */
    return s;
}

void pol_outfile_leave(pol_outfile *o)
{
    if (!o->ctx)
        return;
    if (o->stream)
        fclose(o->stream);
    pol_free(o->ctx, o->tmp);
    pol_free(o->ctx, o->path);
    memset(o, 0, sizeof *o);
}

void pol_outfile_abort(pol_outfile *o)
{
    if (o->ctx && o->tmp)
        unlink(o->tmp);
    pol_outfile_leave(o);
}

pol_status pol_outfile_resume(pol_context *ctx, const char *path, pol_outfile *o, uint64_t *size)
{
    *o = (pol_outfile){.ctx = ctx, .path = pol_strdup(ctx, path)};
    o->tmp = o->path ? pol_format(ctx, "%s.part", path) : NULL;
    pol_status s = o->tmp ? POL_OK : POL_ENOMEM;
    const int fd = s == POL_OK ? open(o->tmp, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;
    struct stat st;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (o->stream = fdopen(fd, "r+b")) &&
        fseeko(o->stream, 0, SEEK_END) == 0) {
        *size = (uint64_t)st.st_size;
        return POL_OK;
    }
    if (s == POL_OK)
        s = fail_io(ctx, o->tmp, "cannot be gone on with");
    if (fd >= 0 && !o->stream)
        close(fd);
    pol_outfile_leave(o);
    return s;
}

pol_status pol_outfile_cut(pol_outfile *o, uint64_t size)
{
    if (fflush(o->stream) != 0 || ftruncate(fileno(o->stream), (off_t)size) < 0 ||
        fseeko(o->stream, (off_t)size, SEEK_SET) != 0)
        return fail_io(o->ctx, o->tmp, "cannot be cut");
    return POL_OK;
}

pol_status pol_outfile_read(pol_outfile *o, uint64_t at, void *dst, size_t n)
{
    if (fflush(o->stream) != 0)
        return fail_io(o->ctx, o->tmp, "cannot be written");
    for (size_t done = 0; done < n;) {
        const ssize_t got = pread(fileno(o->stream), (char *)dst + done, n - done, (off_t)(at + done));
        if (got < 0)
            return fail_io(o->ctx, o->tmp, "cannot be read back");
        if (got == 0)
            return pol_fail(o->ctx, POL_EIO, "%s: ends before byte %llu", o->tmp, (unsigned long long)(at + n));
        done += (size_t)got;
    }
    return POL_OK;
}

pol_status pol_outdir_open(pol_context *ctx, const char *path, pol_outdir *o)
{
    memset(o, 0, sizeof *o);
    if (pol_path_exists(path))
        return pol_fail(ctx, POL_EIO, "%s: exists already; nothing is written over it", path);
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') /* "out/" is "out": the temporary name goes beside it, not into it */
        n--;
    o->ctx = ctx;
    o->path = pol_strndup(ctx, path, n);
    o->tmp = o->path ? temporary_name(ctx, o->path) : NULL;
    pol_status s = o->tmp ? POL_OK : POL_ENOMEM;
    if (s == POL_OK)
        s = pol_remove_tree(ctx, o->tmp);
    if (s == POL_OK && mkdir(o->tmp, 0777) < 0)
        s = fail_io(ctx, path, "folder cannot be made");
    if (s < 0)
        pol_outdir_abort(o);
    return s;
}

pol_status pol_outdir_commit(pol_outdir *o)
{
    const pol_status s = put_in_place(o->ctx, o->tmp, o->path);
    pol_outdir_abort(o);
    return s;
}

void pol_outdir_abort(pol_outdir *o)
{
    if (!o->ctx)
        return;
    if (o->tmp)
        (void)pol_remove_tree(o->ctx, o->tmp);
    pol_free(o->ctx, o->tmp);
    pol_free(o->ctx, o->path);
    memset(o, 0, sizeof *o);
}

pol_status pol_file_write(pol_context *ctx, const char *path, const void *src, size_t n)
{
    pol_outfile o;
    POL_TRY(pol_outfile_open(ctx, path, &o));
    pol_status s = pol_outfile_write(&o, src, n);
    if (s < 0) {
        pol_outfile_abort(&o);
        return s;
    }
    return pol_outfile_commit(&o);
}

pol_status pol_file_move(pol_context *ctx, const char *from, const char *to) { return put_in_place(ctx, from, to); }

pol_status pol_file_copy(pol_context *ctx, const char *from, const char *to)
{
    pol_map m;
    POL_TRY(pol_map_open(ctx, from, &m));
    pol_status s = pol_file_write(ctx, to, m.data, m.size);
    pol_map_close(&m);
    return s;
}

void pol_bytes_hash(const void *src, size_t n, char out[33])
{
    XXH128_canonical_t c;
    XXH128_canonicalFromHash(&c, XXH3_128bits(src, n));
    for (int i = 0; i < 16; i++)
        snprintf(out + 2 * i, 3, "%02x", c.digest[i]);
}

pol_status pol_file_hash(pol_context *ctx, const char *path, char out[33])
{
    pol_map m;
    POL_TRY(pol_map_open(ctx, path, &m));
    pol_bytes_hash(m.data, m.size, out);
    pol_map_close(&m);
    return POL_OK;
}
