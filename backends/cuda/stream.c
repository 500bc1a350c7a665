/* stream.c - weights that stay in pinned host memory and visit the device.
 *
 * The copy stream brings them in beside computing. Two events keep the order of the contract: a copy starts when all
 * that was queued before it has been computed, since some of that may still read what it overwrites; and stream_wait
 * has computing wait for the copy, and what moves its units.
 */
#include <stdio.h>

#include "backends/cuda/cuda.h"

pol_status host_new_cuda(pol_backend *be, size_t bytes, void **out)
{
    cu *c = cu_of(be);
    POL_TRY(cu_begin(c, CU_TRANSFER));
    char what[64];
    snprintf(what, sizeof what, "%zu bytes of pinned host memory", bytes);
    const cudaError_t code = cudaHostAlloc(out, bytes, cudaHostAllocPortable);
    if (code == cudaErrorMemoryAllocation) /* the host's, not the device's */
        return pol_fail(be->ctx, POL_ENOMEM, "cuda: %s: cudaHostAlloc: %s (%d): the host has not as much to pin", what,
                        cudaGetErrorName(code), (int)code);
    return cu_check(be->ctx, what, "cudaHostAlloc", code);
}

void host_free_cuda(pol_backend *be, void *p)
{
    cu *c = cu_of(be);
    cudaSetDevice(c->device);
    cudaStreamSynchronize(c->copy);
    cudaFreeHost(p);
}

pol_status stream_in_cuda(pol_backend *be, pol_buf *dst, const void *src, int64_t n)
{
    cu *c = cu_of(be);
    cu_buf *b = (cu_buf *)dst;
    POL_TRY(cu_begin(c, CU_TRANSFER));
    POL_TRY(cu_use(c, (pol_view){dst, 0}));
    if (!b->filled)
        CU_TRY(be->ctx, "stream", cudaEventCreateWithFlags, &b->filled, cudaEventDisableTiming);
    CU_TRY(be->ctx, "stream", cudaEventRecord, c->computed, c->compute);
    CU_TRY(be->ctx, "stream", cudaStreamWaitEvent, c->copy, c->computed, 0);
    CU_TRY(be->ctx, "stream", cudaMemcpyAsync, b->data, src, (size_t)n * pol_dtype_size(dst->dtype),
           cudaMemcpyHostToDevice, c->copy);
    CU_TRY(be->ctx, "stream", cudaEventRecord, b->filled, c->copy);
    return POL_OK;
}

pol_status stream_wait_cuda(pol_backend *be, pol_buf *dst)
{
    cu *c = cu_of(be);
    const cu_buf *b = (const cu_buf *)dst;
    if (!b->filled)
        return POL_OK;
    POL_TRY(cu_begin(c, CU_TRANSFER));
    CU_TRY(be->ctx, "stream", cudaStreamWaitEvent, c->compute, b->filled, 0);
    if (c->moving != c->compute)
        CU_TRY(be->ctx, "stream", cudaStreamWaitEvent, c->moving, b->filled, 0);
    return POL_OK;
}

void cu_stream_forget(cu *c, cu_buf *b)
{
    if (!b->filled)
        return;
    cudaStreamWaitEvent(c->compute, b->filled, 0);
    cudaEventDestroy(b->filled);
    b->filled = NULL;
}
