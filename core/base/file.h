/* file.h - reading files that may be hostile, and writing files that are whole or absent. */
#ifndef POL_FILE_H
#define POL_FILE_H

#include "core/base/base.h"

/* A file mapped read-only. `path` is the map's own copy. An empty file has data != NULL and size 0. */
typedef struct pol_map {
    pol_context *ctx;
    char *path;
    const uint8_t *data;
    size_t size;
} pol_map;

/* On failure *m is zeroed. POL_EIO with the system's reason. Directories and devices are refused. */
pol_status pol_map_open(pol_context *ctx, const char *path, pol_map *m);
/* Tells the system that a range has been read and need not stay resident; a hint. */
void pol_map_release(const pol_map *m, size_t offset, size_t bytes);
void pol_map_close(pol_map *m); /* takes a zeroed map */

/* Whole small file into memory; refuses more than `limit` bytes (POL_EFORMAT). out->ctx is set here. */
pol_status pol_file_read(pol_context *ctx, const char *path, size_t limit, pol_bytes *out);

bool pol_path_exists(const char *path);
bool pol_path_is_dir(const char *path);
char *pol_path_join(pol_context *ctx, const char *dir, const char *name); /* yours: pol_free */
const char *pol_path_name(const char *path);                               /* after the last '/' */
pol_status pol_make_dir(pol_context *ctx, const char *path);               /* one level; existing is fine */
pol_status pol_remove_tree(pol_context *ctx, const char *path);            /* absent is fine */

/* A file under a temporary name beside its place; commit syncs and renames it, abort removes it. Nothing of that name
 * changes before the commit. */
typedef struct pol_outfile {
    pol_context *ctx;
    char *path, *tmp;
    void *stream; /* FILE* */
} pol_outfile;

/* Whether a file of this name is `name` in the making: one that a killed process may have left. */
bool pol_path_is_part(const char *file, const char *name);

pol_status pol_outfile_open(pol_context *ctx, const char *path, pol_outfile *o);
pol_status pol_outfile_write(pol_outfile *o, const void *src, size_t n);
pol_status pol_outfile_commit(pol_outfile *o); /* frees in every case; on failure nothing is left behind */
void pol_outfile_abort(pol_outfile *o);        /* takes a zeroed or committed one */

/* A file that grows over several calls, as `path`.part: leave keeps that, and a later call goes on with it; commit and
 * abort as above. *size: the bytes that are there; writing goes on behind them. */
pol_status pol_outfile_resume(pol_context *ctx, const char *path, pol_outfile *o, uint64_t *size);
pol_status pol_outfile_cut(pol_outfile *o, uint64_t size); /* to so many bytes */
/* n bytes from `at` on of what has been written. */
pol_status pol_outfile_read(pol_outfile *o, uint64_t at, void *dst, size_t n);
pol_status pol_outfile_sync(pol_outfile *o); /* to disk */
void pol_outfile_leave(pol_outfile *o);      /* takes a zeroed or committed one */

/* A folder under a temporary name; commit renames it to its place, which must not exist. */
typedef struct pol_outdir {
    pol_context *ctx;
    char *path, *tmp; /* write into tmp */
} pol_outdir;

pol_status pol_outdir_open(pol_context *ctx, const char *path, pol_outdir *o);
pol_status pol_outdir_commit(pol_outdir *o);
void pol_outdir_abort(pol_outdir *o);

pol_status pol_file_write(pol_context *ctx, const char *path, const void *src, size_t n); /* atomic */
pol_status pol_file_move(pol_context *ctx, const char *from, const char *to); /* in one folder; atomic, durable */
pol_status pol_file_copy(pol_context *ctx, const char *from, const char *to);             /* atomic */

/* 32 hex digits and a 0: XXH3-128 of the contents, as `xxhsum -H2` prints it. */
pol_status pol_file_hash(pol_context *ctx, const char *path, char out[33]);
void pol_bytes_hash(const void *src, size_t n, char out[33]);

#endif
