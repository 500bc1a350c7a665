/* swap.c - exchanging units of a weight buffer.
 *
 * Where the pairs are is staged in a ring: the device reads it after the call has returned, and to wait for that would
 * leave the device idle at every call of a mask. So each call writes a part of the ring that no call before it used,
 * and only when the ring is full does one wait for the queue.
 */
#include "backends/opencl/opencl.h"
#include "kernels-cl/args.h"

enum { RING_PAIRS = 1 << 16 };

typedef struct ocl_ring {
    cl_mem mem; /* what of `pair` is written, at the same place */
    int64_t used;
    swap_pair pair[RING_PAIRS];
} ocl_ring;

void ocl_ring_free(ocl *cl)
{
    if (cl->ring && cl->ring->mem)
        clReleaseMemObject(cl->ring->mem);
    pol_free(cl->base.ctx, cl->ring);
    cl->ring = NULL;
}

static pol_status ring_open(ocl *cl)
{
    if (cl->ring)
        return POL_OK;
    ocl_ring *r = pol_alloc(cl->base.ctx, sizeof *r);
    if (!r)
        return POL_ENOMEM;
    cl_int code;
    r->used = 0;
    r->mem = clCreateBuffer(cl->context, CL_MEM_READ_ONLY, sizeof r->pair, NULL, &code);
    if (code != CL_SUCCESS) {
        pol_free(cl->base.ctx, r);
        return ocl_check(cl->base.ctx, "swap_units", "clCreateBuffer", code);
    }
    cl->ring = r;
    return POL_OK;
}

/* Room for n pairs, n <= RING_PAIRS. */
static pol_status ring_take(ocl *cl, int64_t n, swap_pair **out)
{
    ocl_ring *r = cl->ring;
    if (n > RING_PAIRS - r->used) {
        OCL_TRY(cl->base.ctx, "swap_units", clFinish, cl->queue);
        r->used = 0;
    }
    *out = r->pair + r->used;
    r->used += n;
    return POL_OK;
}

/* Brings the pairs to the front that lie in the same two pieces as the first; their number. */
static int64_t gather(const swap_pair first, int64_t piece_n, swap_pair *pair, int64_t n)
{
    int64_t same = 0;
    for (int64_t i = 0; i < n; i++) {
        const swap_pair p = pair[i];
        if (p.a_at / piece_n == first.a_at / piece_n && p.b_at / piece_n == first.b_at / piece_n) {
            pair[i] = pair[same];
            pair[same++] = p;
        }
    }
    return same;
}

/* Pairs of the ring, all in the same two pieces; they become offsets in these. */
static pol_status exchange(ocl *cl, ocl_kernel *k, const ocl_buf *w, swap_args args, swap_pair *pair, int64_t n)
{
    const int64_t piece_n = w->piece_rows * w->base.row, piece_a = pair->a_at / piece_n, piece_b = pair->b_at / piece_n,
                  first = pair - cl->ring->pair;
    for (int64_t i = 0; i < n; i++) {
        pair[i].a_at -= piece_a * piece_n;
        pair[i].b_at -= piece_b * piece_n;
    }
    OCL_TRY(cl->base.ctx, "swap_units", clEnqueueWriteBuffer, cl->queue, cl->ring->mem, CL_FALSE,
            (size_t)first * sizeof *pair, (size_t)n * sizeof *pair, pair, 0, NULL, NULL);
    args.first = (cl_int)first;
    const size_t vectors = (size_t)((args.unit + cl->profile.vector - 1) / cl->profile.vector);
    return OCL_LAUNCH(cl, k, ((ocl_range){2, {vectors, (size_t)n}, {OCL_ITEMS, 1}}), OCL_MEM(w->piece[piece_a]),
                      OCL_MEM(w->piece[piece_b]), OCL_MEM(cl->ring->mem), OCL_ARG(args));
}

static pol_status swap_in_buffer(ocl *cl, const pol_swap_args *a)
{
    const ocl_buf *w = (const ocl_buf *)a->w.buf;
    const int64_t piece_n = w->piece_rows * w->base.row;
    ocl_kernel *k;
    swap_args args = {0};
    POL_TRY(ocl_int(cl, "swap_units", "unit", a->unit, &args.unit));
    POL_TRY(ocl_kernel_get(cl, "swap_units", "swap_units",
                           pol_dtype_size(w->base.dtype) == 2 ? "-DUNIT=ushort" : "-DUNIT=uint", &k));
    POL_TRY(ring_open(cl));
    for (int64_t at = 0, n; at < a->n_pairs; at += n) {
        swap_pair *pair;
        n = pol_min_i64(RING_PAIRS, a->n_pairs - at);
        POL_TRY(ring_take(cl, n, &pair));
        for (int64_t i = 0; i < n; i++)
            pair[i] = (swap_pair){a->w.at + a->a[at + i] * a->unit, a->w.at + a->b[at + i] * a->unit};
        for (int64_t done = 0, same; done < n; done += same) {
            same = w->n_pieces == 1 ? n : gather(pair[done], piece_n, pair + done, n - done);
            POL_TRY(exchange(cl, k, w, args, pair + done, same));
        }
    }
    return POL_OK;
}

pol_status swap_units_opencl(pol_backend *be, const pol_swap_args *a, int64_t n)
{
    POL_TRY(ocl_mark(ocl_of(be), OCL_SWAP_UNITS));
    for (int64_t i = 0; i < n; i++)
        if (a[i].n_pairs)
            POL_TRY(swap_in_buffer(ocl_of(be), &a[i]));
    return POL_OK;
}
