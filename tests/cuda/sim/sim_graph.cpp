/* sim_graph.cpp - captures and graphs. A graph is what one stream was given during a capture, in that order: what a
 * kernel or a copy was called with is in it, what memory holds is found when it runs.
 */
#include "sim_runtime.h"

namespace sim
{

cudaError_t spoil(CUstream_st *s, cudaError_t code)
{
    s->capturing->invalid = true;
    return code;
}

} // namespace sim

using namespace sim;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    return call("cudaStreamBeginCapture", PLAIN, [&] {
        CUstream_st *s;
        const cudaError_t code = find_stream("cudaStreamBeginCapture", stream, &s);
        if (code != cudaSuccess)
            return code;
        if (s->capturing)
            return misuse(cudaErrorIllegalState, "cudaStreamBeginCapture: the stream is being captured");
        s->capturing = std::make_shared<capture>();
        s->capturing->mode = mode;
        s->capturing->thread = std::this_thread::get_id();
        return cudaSuccess;
    });
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *pGraph)
{
    *pGraph = nullptr;
    const cudaError_t code = call("cudaStreamEndCapture", RELEASES, [&] {
        CUstream_st *s = the_machine().streams.find(stream);
        if (!s || !s->capturing)
            return misuse(s ? cudaErrorIllegalState : cudaErrorInvalidResourceHandle,
                          "cudaStreamEndCapture: nothing is being captured");
        const std::shared_ptr<capture> c = s->capturing;
        if (c->mode != cudaStreamCaptureModeRelaxed && c->thread != std::this_thread::get_id())
            return cudaErrorStreamCaptureWrongThread;
        s->capturing = nullptr;
        const cudaError_t sticky = the_machine().devices[(size_t)s->device].sticky;
        if (c->invalid || sticky != cudaSuccess)
            return c->invalid ? cudaErrorStreamCaptureInvalidated : sticky;
        std::unique_ptr<CUgraph_st> made(new CUgraph_st{s->device, std::move(c->operations)});
        *pGraph = the_machine().graphs.add(std::move(made));
        return cudaSuccess;
    });
    if (code != cudaSuccess && *pGraph) { /* one that was planned to fail ends the capture, but gives nothing */
        const std::lock_guard<std::recursive_mutex> lock(the_lock());
        the_machine().graphs.release(*pGraph);
        *pGraph = nullptr;
    }
    return code;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *pCaptureStatus)
{
    return call("cudaStreamIsCapturing", PLAIN, [&] {
        CUstream_st *s;
        const cudaError_t code = find_stream("cudaStreamIsCapturing", stream, &s);
        if (code != cudaSuccess)
            return code;
        *pCaptureStatus = !s->capturing           ? cudaStreamCaptureStatusNone
                          : s->capturing->invalid ? cudaStreamCaptureStatusInvalidated
                                                  : cudaStreamCaptureStatusActive;
        return cudaSuccess;
    });
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *pGraphExec, cudaGraph_t graph, unsigned long long flags)
{
    return call("cudaGraphInstantiate", PLAIN, [&] {
        *pGraphExec = nullptr;
        const CUgraph_st *g = the_machine().graphs.find(graph);
        if (!g || flags)
            return misuse(cudaErrorInvalidValue, "cudaGraphInstantiate: %s", g ? "flags" : "no such graph");
        std::unique_ptr<CUgraphExec_st> made(new CUgraphExec_st{g->device, g->operations});
        *pGraphExec = the_machine().executables.add(std::move(made));
        return cudaSuccess;
    });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graphExec, cudaStream_t stream)
{
    return call("cudaGraphLaunch", PLAIN, [&] {
        const CUgraphExec_st *g = the_machine().executables.find(graphExec);
        if (!g)
            return misuse(cudaErrorInvalidValue, "cudaGraphLaunch: no such graph");
        CUstream_st *s;
        const cudaError_t code = find_current_stream("cudaGraphLaunch", stream, &s);
        if (code != cudaSuccess)
            return code;
        if (s->device != g->device)
            return misuse(cudaErrorInvalidValue, "cudaGraphLaunch: a graph of device %d, a stream of %d", g->device,
                          s->device);
        if (s->capturing)
            return misuse(spoil(s, cudaErrorNotSupported), "cudaGraphLaunch: graphs inside graphs are not simulated");
        the_machine().counts.graph_launches++;
        for (const operation &op : g->operations)
            put(s, op);
        return cudaSuccess;
    });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    return call("cudaGraphDestroy", RELEASES, [&] {
        return the_machine().graphs.release(graph) ? cudaSuccess
                                                   : misuse(cudaErrorInvalidValue, "cudaGraphDestroy: no such graph");
    });
}

/* A launch that has yet to run has all it needs. */
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graphExec)
{
    return call("cudaGraphExecDestroy", RELEASES, [&] {
        return the_machine().executables.release(graphExec)
                   ? cudaSuccess
                   : misuse(cudaErrorInvalidValue, "cudaGraphExecDestroy: no such graph");
    });
}
