/* safetensors_write.h - writes tensors as one or several safetensors files, value by value.
 *
 * Format: u64 little-endian header length, a JSON header with every tensor's type, shape and byte range, then the data
 * without gaps. All shapes are declared first, so that the header is final before the first value and a tensor is never
 * whole in memory: the caller appends its values in pieces, in the order of the declaration.
 */
#ifndef POL_SAFETENSORS_WRITE_H
#define POL_SAFETENSORS_WRITE_H

#include "core/backend.h"

enum { POL_ST_NAME_BYTES = 128 };

typedef struct pol_st_tensor {
    char name[POL_ST_NAME_BYTES];
    pol_dtype dtype; /* POL_F32, POL_F16 or POL_BF16 */
    int n_dims;      /* 1 or 2 */
    int64_t shape[2];
} pol_st_tensor;

typedef struct pol_st_writer pol_st_writer;

/* Writes into the folder `dir`: model.safetensors, or where one file would hold more than shard_bytes of data,
 * model-00001-of-0000N.safetensors and so on with model.safetensors.index.json; a tensor is never divided. Wider types
 * come first in `t` (POL_EARG otherwise): readers view the data in place and need every tensor at a multiple of its
 * element size. `t` is copied. On success *out is yours: pol_st_finish() or pol_st_abort(). */
pol_status pol_st_open(pol_context *ctx, const char *dir, const pol_st_tensor *t, int64_t n, uint64_t shard_bytes,
                       pol_st_writer **out);

/* One file `path` with metadata of its own, whose tensors are all POL_F32. It grows as `path`.part, which an abort
 * leaves, so that a later call with the same tensors and metadata goes on: *whole gets how many tensors are complete
 * there, and the one after them is next. What is there of other tensors or metadata is begun anew. */
typedef struct pol_st_metadata {
    const char *key, *value; /* of ASCII without quotes */
} pol_st_metadata;
pol_status pol_st_resume(pol_context *ctx, const char *path, const pol_st_tensor *t, int64_t n,
                         const pol_st_metadata *metadata, int64_t n_metadata, int64_t *whole, pol_st_writer **out);
/* Of such a file: tensor i, which is complete; giving up tensors from i on, so that i is next; all values to disk. */
pol_status pol_st_read_back(pol_st_writer *w, int64_t i, float *values);
pol_status pol_st_cut(pol_st_writer *w, int64_t i);
pol_status pol_st_sync(pol_st_writer *w);

/* The next n values of the tensor whose turn it is; n may not reach into the next tensor. POL_ENUMERIC, naming tensor
 * and value, for one that is not finite or too large for the tensor's type. */
pol_status pol_st_append(pol_st_writer *w, const float *values, int64_t n);

/* POL_EARG where values are missing. Frees w in every case. */
pol_status pol_st_finish(pol_st_writer *w);
void pol_st_abort(
    pol_st_writer *w); /* takes NULL; an unfinished file of pol_st_open is removed, files before it stay */

#endif
