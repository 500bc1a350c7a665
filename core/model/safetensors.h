/* safetensors.h - the weights of a Hugging Face folder: one safetensors file, or shards with their index.
 *
 * Layout of a file: 8 bytes header length, a JSON header, then the data. Opening checks all that headers say: lengths,
 * types, that shape and byte range agree, and that the ranges cover the data exactly, without overlap, gap or
 * remainder. Of shards it checks that they hold what the index says and nothing else.
 */
#ifndef POL_SAFETENSORS_H
#define POL_SAFETENSORS_H

#include "core/base/base.h"
#include "core/model/dequant.h"

typedef struct pol_safetensors pol_safetensors;

typedef struct pol_safetensors_tensor {
    char *name;
    const pol_coding *coding;
    int32_t n_dims;
    int64_t shape[4];   /* outermost first; only the first four dimensions are kept */
    int32_t file;       /* of which it is a part */
    uint64_t at, bytes; /* place in that file */
} pol_safetensors_tensor;

/* model.safetensors of the folder, else the shards of model.safetensors.index.json. On success *out is yours. */
pol_status pol_safetensors_open(pol_context *ctx, const char *dir, pol_safetensors **out);
/* One file by its path. */
pol_status pol_safetensors_open_file(pol_context *ctx, const char *path, pol_safetensors **out);
/* One file in memory. `data` is borrowed and must outlive *out; `name` stands for the file in messages. */
pol_status pol_safetensors_parse(pol_context *ctx, const char *name, const void *data, size_t n, pol_safetensors **out);
void pol_safetensors_close(pol_safetensors *st); /* takes NULL */

/* Tensors in the order of their names; NULL outside or where there is none of that name. */
const pol_safetensors_tensor *pol_safetensors_at(const pol_safetensors *st, int64_t i);
const pol_safetensors_tensor *pol_safetensors_find(const pol_safetensors *st, const char *name);

/* What the header of the first file says of itself, "__metadata__"; NULL where that has no text of this key. */
const char *pol_safetensors_metadata(const pol_safetensors *st, const char *key);

const char *pol_safetensors_file_name(const pol_safetensors *st, int32_t file);
const uint8_t *pol_safetensors_file_data(const pol_safetensors *st, int32_t file); /* the whole file */
/* The bytes [at, at + n) of a file have been read and need not stay resident. */
void pol_safetensors_release(const pol_safetensors *st, int32_t file, uint64_t at, uint64_t n);

#endif
