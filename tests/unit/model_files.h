/* model_files.h - writers of small model files for tests, good ones and, with a wrong number in the right place, bad
 * ones. */
#ifndef POL_TEST_MODEL_FILES_H
#define POL_TEST_MODEL_FILES_H

#include "core/base/base.h"
#include "tests/test.h"

/* ---- GGUF ---- */

typedef struct gguf_file {
    uint32_t version;
    uint64_t n_keys, n_tensors; /* counted as things are added; change them to lie */
    pol_bytes keys, tensors, data;
    uint64_t alignment;
} gguf_file;

static inline gguf_file gguf_begin(pol_context *ctx)
{
    return (gguf_file){.version = 3, .keys.ctx = ctx, .tensors.ctx = ctx, .data.ctx = ctx, .alignment = 32};
}

static inline void put(pol_bytes *b, const void *src, size_t n) { assert_int_equal(pol_bytes_add(b, src, n), POL_OK); }
static inline void put_u32(pol_bytes *b, uint32_t v) { put(b, &v, sizeof v); }
static inline void put_u64(pol_bytes *b, uint64_t v) { put(b, &v, sizeof v); }
static inline void put_string(pol_bytes *b, const char *s)
{
    put_u64(b, strlen(s));
    put(b, s, strlen(s));
}

/* A key with the raw bytes of its value. */
static inline void gguf_key(gguf_file *f, const char *key, uint32_t type, const void *value, size_t n)
{
    put_string(&f->keys, key);
    put_u32(&f->keys, type);
    put(&f->keys, value, n);
    f->n_keys++;
}

static inline void gguf_key_u32(gguf_file *f, const char *key, uint32_t v) { gguf_key(f, key, 4, &v, sizeof v); }
static inline void gguf_key_f32(gguf_file *f, const char *key, float v) { gguf_key(f, key, 6, &v, sizeof v); }
static inline void gguf_key_str(gguf_file *f, const char *key, const char *s)
{
    put_string(&f->keys, key);
    put_u32(&f->keys, 8);
    put_string(&f->keys, s);
    f->n_keys++;
}

/* A record of the directory with any numbers; ne has n_dims entries. */
static inline void gguf_record(gguf_file *f, const char *name, uint32_t n_dims, const uint64_t *ne, uint32_t type,
                               uint64_t offset)
{
    put_string(&f->tensors, name);
    put_u32(&f->tensors, n_dims);
    for (uint32_t d = 0; d < n_dims; d++)
        put_u64(&f->tensors, ne[d]);
    put_u32(&f->tensors, type);
    put_u64(&f->tensors, offset);
    f->n_tensors++;
}

static inline void pad_to(pol_bytes *b, uint64_t alignment)
{
    static const char zero[64];
    put(b, zero, (alignment - b->len % alignment) % alignment);
}

/* An f32 tensor: [rows, cols], or a vector where rows is 0. */
static inline void gguf_tensor_f32(gguf_file *f, const char *name, int64_t rows, int64_t cols, const float *x)
{
    const uint64_t ne[2] = {(uint64_t)cols, (uint64_t)rows};
    pad_to(&f->data, f->alignment);
    gguf_record(f, name, rows ? 2 : 1, ne, 0, f->data.len);
    put(&f->data, x, (size_t)((rows ? rows : 1) * cols) * sizeof *x);
}

/* The whole file; *f is used up. */
static inline pol_bytes gguf_end(gguf_file *f)
{
    pol_bytes b = {.ctx = f->keys.ctx};
    put(&b, "GGUF", 4);
    put_u32(&b, f->version);
    put_u64(&b, f->n_tensors);
    put_u64(&b, f->n_keys);
    put(&b, f->keys.data, f->keys.len);
    put(&b, f->tensors.data, f->tensors.len);
    if (f->data.len) {
        pad_to(&b, f->alignment);
        put(&b, f->data.data, f->data.len);
    }
    pol_bytes_free(&f->keys);
    pol_bytes_free(&f->tensors);
    pol_bytes_free(&f->data);
    return b;
}

/* ---- safetensors ---- */

/* A file of this header text and this many bytes of data, all zero where `data` is NULL. */
static inline pol_bytes safetensors_file(pol_context *ctx, const char *header, const void *data, size_t n)
{
    pol_bytes b = {.ctx = ctx};
    put_string(&b, header);
    if (data)
        put(&b, data, n);
    for (size_t i = 0; !data && i < n; i++)
        put(&b, "", 1);
    return b;
}

typedef struct safetensors_writer {
    pol_bytes header, data;
} safetensors_writer;

static inline safetensors_writer safetensors_begin(pol_context *ctx)
{
    return (safetensors_writer){.header.ctx = ctx, .data.ctx = ctx};
}

/* An f32 tensor: [rows, cols], or a vector where rows is 0. */
static inline void safetensors_f32(safetensors_writer *w, const char *name, int64_t rows, int64_t cols, const float *x)
{
    const size_t n = (size_t)((rows ? rows : 1) * cols) * sizeof *x;
    pol_bytes_printf(&w->header, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[", w->header.len ? "," : "{", name);
    if (rows)
        pol_bytes_printf(&w->header, "%lld,", (long long)rows);
    pol_bytes_printf(&w->header, "%lld],\"data_offsets\":[%zu,%zu]}", (long long)cols, w->data.len, w->data.len + n);
    put(&w->data, x, n);
}

static inline pol_bytes safetensors_end(safetensors_writer *w)
{
    pol_bytes_printf(&w->header, "}");
    pol_bytes b = safetensors_file(w->header.ctx, w->header.data, w->data.data, w->data.len);
    pol_bytes_free(&w->header);
    pol_bytes_free(&w->data);
    return b;
}

#endif
