/* pass.c - passes recorded as CUDA graphs.
 *
 * A pass that is seen for the first time is queued op by op: most never come again, and what its products need is
 * chosen and loaded then. The second time it is recorded, and from then on one launch queues all of it. Only the passes
 * used last are kept.
 */
#include <string.h>

#include "backends/cuda/cuda.h"

enum { KEPT = 64 };

typedef struct pass {
    void *key; /* NULL: an empty place */
    size_t key_bytes;
    cudaGraphExec_t graph; /* NULL: seen, but not recorded */
    uint64_t used;
} pass;

typedef struct cu_passes {
    pass kept[KEPT];
    pass *recording; /* the one under way; NULL: none */
    uint64_t now;    /* passes begun */
} cu_passes;

bool cu_is_recording(const cu *c) { return c->passes && c->passes->recording; }

pol_status cu_passes_open(cu *c)
{
    c->passes = pol_alloc_zero(c->base.ctx, sizeof *c->passes);
    return c->passes ? POL_OK : POL_ENOMEM;
}

/* A graph may be destroyed while the device still runs it. */
static void forget(cu *c, pass *p)
{
    if (p->graph)
        cudaGraphExecDestroy(p->graph);
    pol_free(c->base.ctx, p->key);
    memset(p, 0, sizeof *p);
}

/* What was queued since the recording began, as a graph; NULL where an op failed in such a way that there is none. */
static cudaError_t end_recording(cu *c, cudaGraph_t *graph)
{
    *graph = NULL;
    c->passes->recording = NULL;
    return cudaStreamEndCapture(c->compute, graph);
}

/* Also one that is being recorded: while it is, nothing can be waited for or freed. */
void cu_passes_forget(cu *c)
{
    cudaGraph_t graph;
    if (!c->passes)
        return;
    if (c->passes->recording) {
        end_recording(c, &graph);
        if (graph)
            cudaGraphDestroy(graph);
    }
    for (int i = 0; i < KEPT; i++)
        forget(c, &c->passes->kept[i]);
}

void cu_passes_close(cu *c)
{
    cu_passes_forget(c);
    pol_free(c->base.ctx, c->passes);
    c->passes = NULL;
}

static pass *find(cu_passes *p, const void *key, size_t key_bytes)
{
    for (int i = 0; i < KEPT; i++)
        if (p->kept[i].key && p->kept[i].key_bytes == key_bytes && memcmp(p->kept[i].key, key, key_bytes) == 0)
            return &p->kept[i];
    return NULL;
}

/* In an empty place, or in that of the one not used for longest. */
static pol_status add(cu *c, const void *key, size_t key_bytes)
{
    pass *to = c->passes->kept;
    for (int i = 1; i < KEPT; i++)
        if (c->passes->kept[i].used < to->used)
            to = &c->passes->kept[i];
    forget(c, to);
    to->key = pol_alloc(c->base.ctx, key_bytes);
    if (!to->key)
        return POL_ENOMEM;
    memcpy(to->key, key, key_bytes);
    to->key_bytes = key_bytes;
    to->used = c->passes->now;
    return POL_OK;
}

pol_status pass_begin_cuda(pol_backend *be, const void *key, size_t key_bytes, bool *replayed)
{
    cu *c = cu_of(be);
    *replayed = false;
    if (!c->passes)
        return POL_OK;
    CU_TRY(be->ctx, "pass", cudaSetDevice, c->device);
    c->passes->now++;
    pass *p = find(c->passes, key, key_bytes);
    if (!p)
        return add(c, key, key_bytes);
    p->used = c->passes->now;
    POL_TRY(cu_wait_for_moves(c));
    if (!p->graph) {
        CU_TRY(be->ctx, "pass", cudaStreamBeginCapture, c->compute, cudaStreamCaptureModeThreadLocal);
        c->passes->recording = p;
        return POL_OK;
    }
    c->moves.fence = true;
    CU_TRY(be->ctx, "pass", cudaGraphLaunch, p->graph, c->compute);
    *replayed = true;
    return POL_OK;
}

static pol_status make_and_launch(cu *c, pass *p, cudaGraph_t graph)
{
    c->moves.fence = true;
    CU_TRY(c->base.ctx, "pass", cudaGraphInstantiate, &p->graph, graph, 0);
    CU_TRY(c->base.ctx, "pass", cudaGraphLaunch, p->graph, c->compute);
    return POL_OK;
}

/* A pass that could not be recorded has not been computed: that is its failure, unless an op failed before. */
pol_status pass_end_cuda(pol_backend *be, pol_status so_far)
{
    cu *c = cu_of(be);
    pass *p = c->passes ? c->passes->recording : NULL;
    cudaGraph_t graph;
    if (!p)
        return so_far;
    const cudaError_t ended = end_recording(c, &graph);
    if (so_far == POL_OK)
        so_far = cu_check(be->ctx, "pass", "cudaStreamEndCapture", ended);
    if (so_far == POL_OK)
        so_far = make_and_launch(c, p, graph);
    if (graph)
        cudaGraphDestroy(graph);
    return so_far;
}
