/* gguf.h - GGUF v2 and v3: metadata and tensor directory over a mapped file or over given memory.
 *
 * Opening checks everything that the header says: lengths, counts, duplicate keys and names, tensor sizes, places
 * within the file and overlaps. After that every accessor is a lookup that cannot fail other than by absence. Strings
 * are not 0-terminated: pointer and length into the file, valid until pol_gguf_close(). A file with a vocabulary and no
 * tensors is valid.
 */
#ifndef POL_GGUF_H
#define POL_GGUF_H

#include "core/base/base.h"
#include "core/model/dequant.h"

typedef struct pol_gguf pol_gguf;

typedef struct pol_gguf_tensor {
    char name[65];
    int32_t n_dims;
    int64_t ne[4]; /* ne[0] is the row length; 1 beyond n_dims */
    const pol_coding *coding;
    uint64_t at, bytes; /* place in the file */
} pol_gguf_tensor;

/* On success *out is yours: pol_gguf_close(). On failure *out is NULL. */
pol_status pol_gguf_open(pol_context *ctx, const char *path, pol_gguf **out);
/* `data` is borrowed and must outlive *out; `name` stands for the file in messages. */
pol_status pol_gguf_parse(pol_context *ctx, const char *name, const void *data, size_t n, pol_gguf **out);
void pol_gguf_close(pol_gguf *g); /* takes NULL */

/* Scalars: false where the key is absent, of another type, or its value does not fit. int takes any integer type and
 * bool; float takes f32, f64 and any integer type. */
bool pol_gguf_str(const pol_gguf *g, const char *key, const char **s, size_t *n);
bool pol_gguf_int(const pol_gguf *g, const char *key, int64_t *v);
bool pol_gguf_float(const pol_gguf *g, const char *key, double *v);
bool pol_gguf_has(const pol_gguf *g, const char *key);

/* Arrays: the length, -1 where absent or no array; then elements in O(1), false where i is outside or the type differs.
 */
int64_t pol_gguf_array(const pol_gguf *g, const char *key);
bool pol_gguf_array_str(const pol_gguf *g, const char *key, int64_t i, const char **s, size_t *n);
bool pol_gguf_array_int(const pol_gguf *g, const char *key, int64_t i, int64_t *v);
bool pol_gguf_array_float(const pol_gguf *g, const char *key, int64_t i, double *v);

/* Tensors in the order of their names; NULL outside or where there is none of that name. */
const pol_gguf_tensor *pol_gguf_tensor_at(const pol_gguf *g, int64_t i);
const pol_gguf_tensor *pol_gguf_tensor_find(const pol_gguf *g, const char *name);

const char *pol_gguf_name(const pol_gguf *g);    /* the path, or the name given */
const uint8_t *pol_gguf_data(const pol_gguf *g); /* the whole file */
/* The bytes [at, at + n) have been read and need not stay resident. */
void pol_gguf_release(const pol_gguf *g, uint64_t at, uint64_t n);

#endif
