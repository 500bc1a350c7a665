/* buffer.c - device memory. A buffer larger than a driver gives at a time lies in pieces of whole rows. */
#include <stdio.h>
#include <string.h>

#include "backends/opencl/opencl.h"
#include "core/model/half.h"

enum { STAGE = 1 << 18 }; /* elements that are converted at a time */

/* Whole rows that fit one allocation; the front door has seen to it that one does. */
static int64_t rows_at_a_time(const ocl *cl, int64_t rows, uint64_t row_bytes)
{
    const uint64_t fit = row_bytes ? cl->profile.piece_bytes / row_bytes : (uint64_t)rows;
    return pol_max_i64(1, fit < (uint64_t)rows ? (int64_t)fit : rows);
}

/* New memory is zero. Filling it also makes a driver that allocates late do so now. OpenCL has no buffer of 0 bytes. */
static pol_status new_piece(ocl *cl, size_t bytes, cl_mem *out)
{
    const cl_uint zero = 0;
    cl_int code;
    bytes = (pol_max_i64((int64_t)bytes, 1) + sizeof zero - 1) / sizeof zero * sizeof zero;
    *out = clCreateBuffer(cl->context, CL_MEM_READ_WRITE, bytes, NULL, &code);
    char what[48];
    snprintf(what, sizeof what, "a buffer of %zu bytes", bytes);
    POL_TRY(ocl_check(cl->base.ctx, what, "clCreateBuffer", code));
    OCL_TRY(cl->base.ctx, what, clEnqueueFillBuffer, cl->queue, *out, &zero, sizeof zero, 0, bytes, 0, NULL, NULL);
    return POL_OK;
}

pol_status buf_new_opencl(pol_backend *be, pol_dtype dtype, int64_t rows, int64_t row, pol_buf **out)
{
    ocl *cl = ocl_of(be);
    POL_TRY(ocl_late(cl));
    const size_t row_bytes = (size_t)row * pol_dtype_size(dtype);
    const int64_t piece_rows = rows_at_a_time(cl, rows, row_bytes);
    const int64_t n_pieces = pol_max_i64(1, (rows + piece_rows - 1) / piece_rows);
    ocl_buf *b = pol_alloc_zero(be->ctx, sizeof *b + (size_t)n_pieces * sizeof *b->piece);
    if (!b)
        return POL_ENOMEM;
    b->base = (pol_buf){.dtype = dtype, .n = rows * row, .row = row};
    b->piece_rows = piece_rows;
    b->n_pieces = n_pieces;
    pol_status s = POL_OK;
    for (int64_t i = 0; i < n_pieces && s == POL_OK; i++)
        s = new_piece(cl, (size_t)pol_min_i64(piece_rows, rows - i * piece_rows) * row_bytes, &b->piece[i]);
    if (s < 0) {
        buf_free_opencl(be, &b->base);
        return s;
    }
    *out = &b->base;
    return POL_OK;
}

void buf_free_opencl(pol_backend *be, pol_buf *buf)
{
    ocl_buf *b = (ocl_buf *)buf;
    if (!b)
        return;
    for (int64_t i = 0; i < b->n_pieces; i++)
        if (b->piece[i])
            clReleaseMemObject(b->piece[i]);
    pol_free(be->ctx, b);
}

ocl_stretch ocl_stretch_of(pol_view v, int64_t n)
{
    return (ocl_stretch){.buf = (const ocl_buf *)v.buf, .begin = v.at, .end = v.at + n, .start = v.at};
}

bool ocl_next(ocl_stretch *s)
{
    if (s->begin >= s->end)
        return false;
    const int64_t piece_n = s->buf->piece_rows * s->buf->base.row, piece = s->begin / piece_n;
    s->mem = s->buf->piece[piece];
    s->at = s->begin - piece * piece_n;
    s->first = s->begin - s->start;
    s->n = pol_min_i64(s->end, (piece + 1) * piece_n) - s->begin;
    s->begin += s->n;
    return true;
}

static void narrow(pol_dtype to, const float *from, int64_t n, uint16_t *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = to == POL_F16 ? pol_f32_to_f16(from[i]) : pol_f32_to_bf16(from[i]);
}

static void widen(pol_dtype from, const uint16_t *in, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = from == POL_F16 ? pol_f16_to_f32(in[i]) : pol_bf16_to_f32(in[i]);
}

/* One stretch to or from the device, in the buffer's own type; waits, since the host memory is the caller's again. */
static pol_status transfer(ocl *cl, const ocl_stretch *s, int64_t skip, int64_t n, void *host, bool up)
{
    const size_t size = pol_dtype_size(s->buf->base.dtype), at = (size_t)(s->at + skip) * size,
                 bytes = (size_t)n * size;
    if (up)
        OCL_TRY(cl->base.ctx, "upload", clEnqueueWriteBuffer, cl->queue, s->mem, CL_TRUE, at, bytes, host, 0, NULL,
                NULL);
    else
        OCL_TRY(cl->base.ctx, "download", clEnqueueReadBuffer, cl->queue, s->mem, CL_TRUE, at, bytes, host, 0, NULL,
                NULL);
    return POL_OK;
}

/* The same for f32 on the host and 16 bits on the device, by way of `stage`. */
static pol_status convert(ocl *cl, const ocl_stretch *s, float *host, uint16_t *stage, bool up)
{
    const pol_dtype dtype = s->buf->base.dtype;
    for (int64_t i = 0; i < s->n; i += STAGE) {
        const int64_t n = pol_min_i64(STAGE, s->n - i);
        if (up)
            narrow(dtype, host + i, n, stage);
        POL_TRY(transfer(cl, s, i, n, stage, up));
        if (!up)
            widen(dtype, stage, n, host + i);
    }
    return POL_OK;
}

static pol_status copy(pol_backend *be, const pol_buf *buf, int64_t at, void *host, int64_t n, bool up)
{
    ocl *cl = ocl_of(be);
    const bool converted = buf->dtype == POL_F16 || buf->dtype == POL_BF16;
    POL_TRY(ocl_late(cl));
    uint16_t *stage = converted ? pol_alloc_array(be->ctx, pol_min_i64(n, STAGE), sizeof *stage) : NULL;
    if (converted && !stage)
        return POL_ENOMEM;
    pol_status status = ocl_mark(cl, OCL_TRANSFER);
    for (ocl_stretch s = ocl_stretch_of((pol_view){(pol_buf *)buf, at}, n); status == POL_OK && ocl_next(&s);) {
        void *here = (char *)host + (size_t)s.first * sizeof(float); /* f32 and i32 alike */
        status = converted ? convert(cl, &s, here, stage, up) : transfer(cl, &s, 0, s.n, here, up);
    }
    pol_free(be->ctx, stage);
    return status;
}

pol_status upload_opencl(pol_backend *be, pol_buf *dst, int64_t at, const void *src, int64_t n)
{
    return copy(be, dst, at, (void *)src, n, true);
}

pol_status download_opencl(pol_backend *be, const pol_buf *src, int64_t at, void *dst, int64_t n)
{
    return copy(be, src, at, dst, n, false);
}

/* What has to be converted is waited for: the host has to do it. */
pol_status download_later_opencl(pol_backend *be, const pol_buf *src, int64_t at, void *dst, int64_t n)
{
    ocl *cl = ocl_of(be);
    if (pol_dtype_size(src->dtype) != sizeof(float))
        return download_opencl(be, src, at, dst, n);
    POL_TRY(ocl_late(cl));
    POL_TRY(ocl_mark(cl, OCL_TRANSFER));
    for (ocl_stretch s = ocl_stretch_of((pol_view){(pol_buf *)src, at}, n); ocl_next(&s);)
        OCL_TRY(be->ctx, "download", clEnqueueReadBuffer, cl->queue, s.mem, CL_FALSE, (size_t)s.at * sizeof(float),
                (size_t)s.n * sizeof(float), (char *)dst + (size_t)s.first * sizeof(float), 0, NULL, NULL);
    return POL_OK;
}
