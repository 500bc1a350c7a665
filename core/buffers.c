/* buffers.c - the front doors to memory: buffers, transfers, recorded passes and streamed weights. */
#include "core/backend.h"

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [POL_F32] = {"f32", 4},
    [POL_F16] = {"f16", 2},
    [POL_BF16] = {"bf16", 2},
    [POL_I32] = {"i32", 4},
};

static bool dtype_known(pol_dtype t) { return (size_t)t < POL_COUNT(dtypes); }

size_t pol_dtype_size(pol_dtype t) { return dtype_known(t) ? dtypes[t].size : 0; }

const char *pol_dtype_name(pol_dtype t) { return dtype_known(t) ? dtypes[t].name : "?"; }

static pol_status check_range(pol_backend *be, const char *op, const pol_buf *b, int64_t at, int64_t n)
{
    if (!b || at < 0 || n < 0 || at > b->n || n > b->n - at)
        return pol_fail(be->ctx, POL_ESHAPE, "%s: %lld elements from %lld do not fit a buffer of %lld", op,
                        (long long)n, (long long)at, b ? (long long)b->n : 0);
    return POL_OK;
}

uint64_t pol_buf_bytes(const pol_backend *be, pol_dtype dtype, int64_t n)
{
    uint64_t bytes;
    if (n < 0 || !pol_mul_u64((uint64_t)n, pol_dtype_size(dtype), &bytes) || bytes > UINT64_MAX - be->buf_align)
        return UINT64_MAX;
    return (bytes + be->buf_align - 1) / be->buf_align * be->buf_align;
}

pol_status pol_buf_new_rows(pol_backend *be, pol_dtype dtype, int64_t rows, int64_t row, pol_buf **out)
{
    *out = NULL;
    uint64_t row_bytes, bytes;
    if (!dtype_known(dtype) || rows < 0 || row < 0)
        return pol_fail(be->ctx, POL_EARG, "buffer: %lld x %lld elements of type %d", (long long)rows, (long long)row,
                        (int)dtype);
    if (!pol_mul_u64((uint64_t)row, dtypes[dtype].size, &row_bytes) || row_bytes > be->info.max_buffer_bytes ||
        !pol_mul_u64(row_bytes, (uint64_t)rows, &bytes) || bytes > INT64_MAX)
        return pol_fail(be->ctx, POL_ENOMEM,
                        "buffer: %lld x %lld elements of %s are more than a buffer of %s can hold, %llu bytes",
                        (long long)rows, (long long)row, dtypes[dtype].name, be->info.backend,
                        (unsigned long long)be->info.max_buffer_bytes);
    POL_TRY(be->ops->buf_new(be, dtype, rows, row, out));
    be->bytes_in_use += pol_buf_bytes(be, dtype, (*out)->n);
    if (be->bytes_peak < be->bytes_in_use)
        be->bytes_peak = be->bytes_in_use;
    return POL_OK;
}

pol_status pol_buf_new(pol_backend *be, pol_dtype dtype, int64_t n, pol_buf **out)
{
    return pol_buf_new_rows(be, dtype, 1, n, out);
}

void pol_buf_free(pol_backend *be, pol_buf *b)
{
    if (!b)
        return;
    be->bytes_in_use -= pol_buf_bytes(be, b->dtype, b->n);
    be->ops->buf_free(be, b);
}

pol_status pol_upload(pol_backend *be, pol_buf *dst, int64_t at, const void *src, int64_t n)
{
    POL_TRY(check_range(be, "upload", dst, at, n));
    return n ? be->ops->upload(be, dst, at, src, n) : POL_OK;
}

pol_status pol_download(pol_backend *be, const pol_buf *src, int64_t at, void *dst, int64_t n)
{
    POL_TRY(check_range(be, "download", src, at, n));
    return n ? be->ops->download(be, src, at, dst, n) : POL_OK;
}

pol_status pol_download_later(pol_backend *be, const pol_buf *src, int64_t at, void *dst, int64_t n)
{
    POL_TRY(check_range(be, "download", src, at, n));
    return n ? be->ops->download_later(be, src, at, dst, n) : POL_OK;
}

pol_status pol_sync(pol_backend *be) { return be->ops->sync(be); }

pol_status pol_reserve(pol_backend *be, uint64_t bytes)
{
    if (be->bytes_in_use)
        return pol_fail(be->ctx, POL_EARG, "reserve: %llu bytes of buffers are there already",
                        (unsigned long long)be->bytes_in_use);
    return be->ops->reserve && bytes ? be->ops->reserve(be, bytes) : POL_OK;
}

pol_status pol_pass_begin(pol_backend *be, const void *key, size_t key_bytes, bool *replayed)
{
    *replayed = false;
    return be->ops->pass_begin ? be->ops->pass_begin(be, key, key_bytes, replayed) : POL_OK;
}

pol_status pol_pass_end(pol_backend *be, pol_status so_far)
{
    return be->ops->pass_end ? be->ops->pass_end(be, so_far) : so_far;
}

bool pol_can_stream(const pol_backend *be) { return be->ops->stream_in != NULL; }

static pol_status check_can_stream(pol_backend *be)
{
    if (pol_can_stream(be))
        return POL_OK;
    return pol_fail(be->ctx, POL_EUNSUPPORTED, "stream: backend %s has no way to stream weights", be->info.backend);
}

pol_status pol_host_new(pol_backend *be, size_t bytes, void **out)
{
    *out = NULL;
    POL_TRY(check_can_stream(be));
    return be->ops->host_new(be, bytes ? bytes : 1, out);
}

void pol_host_free(pol_backend *be, void *p)
{
    if (p)
        be->ops->host_free(be, p);
}

pol_status pol_stream_in(pol_backend *be, pol_buf *dst, const void *src, int64_t n)
{
    POL_TRY(check_can_stream(be));
    POL_TRY(check_range(be, "stream", dst, 0, n));
    return n ? be->ops->stream_in(be, dst, src, n) : POL_OK;
}

pol_status pol_stream_wait(pol_backend *be, pol_buf *dst)
{
    POL_TRY(check_can_stream(be));
    POL_TRY(check_range(be, "stream", dst, 0, dst ? dst->n : 0));
    return be->ops->stream_wait(be, dst);
}
