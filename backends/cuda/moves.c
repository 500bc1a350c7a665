/* moves.c - units change places beside computing.
 *
 * A GPU multiplies so fast, for its memory, that exchanging the rows of a mask takes a good part of the time of a pass;
 * but products leave most of the memory's rate unused. So rows move on a stream of their own, of low priority: those of
 * a layer as soon as the pass before has left it, while that pass computes the layers above. Two events a buffer keep
 * the order of the contract: `read` is recorded behind each op on it, and moves wait for it; `done` is recorded behind
 * each move, and the next op waits for it.
 *
 * A recorded pass (pass.c) marks no buffers: all moves are waited for before it, and moves wait for all of it.
 */
#include "backends/cuda/cuda.h"

/* Where units move in their turn, there is one stream and nothing to keep in order. */
static bool is_beside(const cu *c) { return c->moving && c->moving != c->compute; }

pol_status cu_moves_open(cu *c)
{
    pol_context *ctx = c->base.ctx;
    int least = 0, greatest = 0;
    c->moving = c->compute;
    c->moves.fence = true;                           /* whatever is queued by now */
    if (!c->profile.move_bytes || c->profile.timing) /* the time of an op is told by one stream */
        return POL_OK;
    CU_TRY(ctx, "moves", cudaDeviceGetStreamPriorityRange, &least, &greatest);
    cudaStream_t moving;
    CU_TRY(ctx, "moves", cudaStreamCreateWithPriority, &moving, cudaStreamNonBlocking, least);
    c->moving = moving;
    CU_TRY(ctx, "moves", cudaEventCreateWithFlags, &c->moves.done, cudaEventDisableTiming);
    return POL_OK;
}

void cu_moves_close(cu *c)
{
    if (c->moves.done)
        cudaEventDestroy(c->moves.done);
    c->moves.done = NULL;
    if (is_beside(c))
        cudaStreamDestroy(c->moving);
    c->moving = c->compute;
}

pol_status cu_use(cu *c, pol_view v)
{
    cu_buf *b = (cu_buf *)v.buf;
    if (!b || !is_beside(c) || b->move.number <= c->moves.waited_for)
        return POL_OK;
    b->move.number = 0;
    CU_TRY(c->base.ctx, "moves", cudaStreamWaitEvent, c->compute, b->move.done, 0);
    return POL_OK;
}

pol_status cu_used(cu *c, pol_view v)
{
    const cu_buf *b = (const cu_buf *)v.buf;
    if (b && b->move.read && !cu_is_recording(c))
        CU_TRY(c->base.ctx, "moves", cudaEventRecord, b->move.read, c->compute);
    return POL_OK;
}

/* Its first move: nobody knows what is queued that reads it. */
static pol_status mark(cu *c, cu_buf *b)
{
    pol_context *ctx = c->base.ctx;
    if (!b->move.done) /* else left by a try that failed */
        CU_TRY(ctx, "moves", cudaEventCreateWithFlags, &b->move.done, cudaEventDisableTiming);
    CU_TRY(ctx, "moves", cudaEventCreateWithFlags, &b->move.read, cudaEventDisableTiming);
    c->moves.fence = true;
    return POL_OK;
}

pol_status cu_move(cu *c, cu_buf *b)
{
    pol_context *ctx = c->base.ctx;
    if (!is_beside(c))
        return POL_OK;
    if (!b->move.read)
        POL_TRY(mark(c, b));
    if (c->moves.fence) {
        CU_TRY(ctx, "moves", cudaEventRecord, c->computed, c->compute);
        CU_TRY(ctx, "moves", cudaStreamWaitEvent, c->moving, c->computed, 0);
        c->moves.fence = false;
    }
    CU_TRY(ctx, "moves", cudaStreamWaitEvent, c->moving, b->move.read, 0); /* of no effect before the first */
    return POL_OK;
}

pol_status cu_moved(cu *c, cu_buf *b)
{
    if (!is_beside(c))
        return POL_OK;
    b->move.number = ++c->moves.n;
    CU_TRY(c->base.ctx, "moves", cudaEventRecord, b->move.done, c->moving);
    return POL_OK;
}

pol_status cu_wait_for_moves(cu *c)
{
    if (c->moves.n == c->moves.waited_for)
        return POL_OK;
    c->moves.waited_for = c->moves.n;
    CU_TRY(c->base.ctx, "moves", cudaEventRecord, c->moves.done, c->moving);
    CU_TRY(c->base.ctx, "moves", cudaStreamWaitEvent, c->compute, c->moves.done, 0);
    return POL_OK;
}

void cu_move_forget(cu *c, cu_buf *b)
{
    if (b->move.number > c->moves.waited_for)
        cudaStreamWaitEvent(c->compute, b->move.done, 0);
    if (b->move.read)
        cudaEventDestroy(b->move.read);
    if (b->move.done)
        cudaEventDestroy(b->move.done);
    b->move.read = b->move.done = NULL;
    b->move.number = 0;
}
