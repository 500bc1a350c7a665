/* cachefile.h - built programs on disk: a file is whole, and was made for this very key, or it is not used. Files only,
 * no OpenCL; cache.c says what a key is made of and what is kept under it.
 *
 *   KEY.clprogram    0   8  magic
 *                    8   4  u32le version
 *                   12  32  the key, hex digits
 *                   44  32  XXH3-128 of the payload, hex digits
 *                   76   8  u64le bytes of the payload
 *                   84      the payload
 *
 * The hash finds damage, not malice: who can write to the folder can make our kernels do what they like.
 */
#ifndef POL_CACHEFILE_H
#define POL_CACHEFILE_H

#include "core/base/base.h"

enum { OCL_CACHEFILE_VERSION = 1, OCL_CACHEFILE_HEADER = 84 };

/* Of one payload, and of all files of a folder: that many programs take years of driver updates to come together. */
#define OCL_CACHEFILE_MOST ((size_t)32 << 20)
#define OCL_CACHE_FOLDER_MOST ((uint64_t)128 << 20)

/* Where the OpenCL backend keeps what it can make again: $POLLARD_CACHE_DIR/opencl, or $XDG_CACHE_HOME/pollard/opencl,
 * or $HOME/.cache/pollard/opencl, the first that is set. *out is yours: pol_free(); NULL for none, which is also what
 * POLLARD_CACHE_DIR set to nothing asks for. The folder need not exist. */
pol_status ocl_cache_folder(pol_context *ctx, char **out);

/* Makes the folder and those above it where they are missing, for the user alone. POL_EIO where there is none then. */
pol_status ocl_cache_folder_make(pol_context *ctx, const char *dir);

/* POL_OK where these are the bytes of a whole file for `key`; else POL_EFORMAT, and the sentence says what is wrong. */
pol_status ocl_cachefile_check(pol_context *ctx, const char *name, const void *data, size_t n, const char *key);

/* What is kept under `key`, 32 hex digits; out->data is NULL where nothing is. A file that cannot be used fails as
 * above, or with POL_EIO: the caller makes the program again and writes over it. On success pol_bytes_free(). */
pol_status ocl_cachefile_read(pol_context *ctx, const char *dir, const char *key, pol_bytes *out);

/* Keeps n bytes under `key`. Any number of processes and threads may do so at once. */
pol_status ocl_cachefile_write(pol_context *ctx, const char *dir, const char *key, const void *payload, size_t n);

/* Removes those of our files that have gone unused longest, until the rest has at most `most` bytes. */
void ocl_cache_trim(pol_context *ctx, const char *dir, uint64_t most);

#endif
