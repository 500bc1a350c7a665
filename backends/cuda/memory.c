/* memory.c - device memory: one arena where the run has reserved it, else a block a buffer.
 *
 * The arena's buffers are a list by rising address, and what is free are the gaps between them: a buffer goes into the
 * first that is large enough, and one that is freed leaves the list. There are a few hundred, made before the work
 * starts. Memory may serve again at once, because whatever reads or writes it is queued on one stream or waited for
 * there (cu_stream_forget, cu_move_forget), and the other streams wait for that one before they touch a new buffer.
 */
#include <stdio.h>

#include "backends/cuda/cuda.h"

pol_status reserve_cuda(pol_backend *be, uint64_t bytes)
{
    cu *c = cu_of(be);
    POL_TRY(cu_begin(c, CU_TRANSFER));
    cu_arena_free(c);
    char what[64];
    snprintf(what, sizeof what, "the run's %llu bytes", (unsigned long long)bytes);
    CU_TRY(be->ctx, what, cudaMalloc, (void **)&c->arena.data, bytes);
    c->arena.bytes = bytes;
    return POL_OK;
}

/* CUDA does not promise that cudaFree waits for what is queued. */
static void wait_and_free(cu *c, void *data)
{
    cudaStreamSynchronize(c->compute);
    cudaStreamSynchronize(c->copy);
    cudaStreamSynchronize(c->moving);
    cudaFree(data);
}

/* What is taken for a call comes in one block, each part where cuBLASLt likes it. */
static size_t taken_bytes(size_t bytes)
{
    enum { ALIGN = 256 };
    return bytes <= SIZE_MAX - ALIGN ? (bytes + ALIGN - 1) / ALIGN * ALIGN : SIZE_MAX;
}

pol_status cu_take(cu *c, const char *op, const cu_part *parts, size_t n, void **block)
{
    size_t all = 0, available = 0, total;
    char *at, what[160];
    *block = NULL;
    for (size_t i = 0; i < n; i++) {
        const size_t bytes = taken_bytes(parts[i].bytes);
        all = bytes > SIZE_MAX - all ? SIZE_MAX : all + bytes;
    }
    const cudaError_t code = all == SIZE_MAX ? cudaErrorMemoryAllocation : cudaMalloc(block, all);
    if (code != cudaSuccess) {
        *block = NULL;
        cudaMemGetInfo(&available, &total); /* 0 where it says nothing */
        snprintf(what, sizeof what, "%s takes %zu bytes of the device besides what the run has, and %zu are free", op,
                 all, available);
        return cu_check(c->base.ctx, what, "cudaMalloc", code);
    }
    at = *block;
    for (size_t i = 0; i < n; at += taken_bytes(parts[i++].bytes))
        *parts[i].to = at;
    return POL_OK;
}

void cu_give_back(cu *c, void *block)
{
    if (block)
        wait_and_free(c, block);
}

void cu_arena_free(cu *c)
{
    if (c->arena.data)
        wait_and_free(c, c->arena.data);
    c->arena.data = NULL;
    c->arena.bytes = 0;
}

/* False where no gap is large enough. */
static bool place_in_arena(cu *c, cu_buf *b)
{
    char *gap = c->arena.data;
    cu_buf **link = &c->arena.first;
    for (; *link; link = &(*link)->next) {
        if (b->bytes <= (size_t)((*link)->data - gap))
            break;
        gap = (*link)->data + (*link)->bytes;
    }
    if (!*link && b->bytes > c->arena.bytes - (size_t)(gap - c->arena.data))
        return false;
    b->data = gap;
    b->in_arena = true;
    b->next = *link;
    *link = b;
    return true;
}

static void leave_arena(cu *c, const cu_buf *b)
{
    cu_buf **link = &c->arena.first;
    while (*link != b)
        link = &(*link)->next;
    *link = b->next;
}

/* New memory is zero. */
static pol_status place(cu *c, cu_buf *b)
{
    char what[64];
    snprintf(what, sizeof what, "a buffer of %zu bytes", b->bytes);
    if (!c->arena.data || !place_in_arena(c, b))
        CU_TRY(c->base.ctx, what, cudaMalloc, (void **)&b->data, b->bytes);
    CU_TRY(c->base.ctx, what, cudaMemsetAsync, b->data, 0, b->bytes, c->compute);
    return POL_OK;
}

pol_status buf_new_cuda(pol_backend *be, pol_dtype dtype, int64_t rows, int64_t row, pol_buf **out)
{
    cu *c = cu_of(be);
    POL_TRY(cu_begin(c, CU_TRANSFER));
    cu_buf *b = pol_alloc_zero(be->ctx, sizeof *b);
    if (!b)
        return POL_ENOMEM;
    b->base = (pol_buf){.dtype = dtype, .n = rows * row, .row = row};
    b->bytes = pol_buf_bytes(be, dtype, b->base.n);
    const pol_status s = b->bytes ? place(c, b) : POL_OK;
    if (s < 0) {
        buf_free_cuda(be, &b->base);
        return s;
    }
    *out = &b->base;
    return POL_OK;
}

void buf_free_cuda(pol_backend *be, pol_buf *buf)
{
    cu *c = cu_of(be);
    cu_buf *b = (cu_buf *)buf;
    if (!b)
        return;
    cudaSetDevice(c->device);
    cu_passes_forget(c);
    cu_stream_forget(c, b);
    cu_move_forget(c, b);
    if (b->in_arena)
        leave_arena(c, b);
    else if (b->data)
        wait_and_free(c, b->data);
    pol_free(be->ctx, b);
}
