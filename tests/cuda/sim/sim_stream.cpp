/* sim_stream.cpp - streams, events, and the order in which work is done.
 *
 * Nothing runs before the host waits. Then one operation after another does, from the head of a stream that may go on:
 * most often of the favoured one, so that a stream now and then gets far ahead of the others, as devices let it. How
 * long a favour lasts is drawn with each wait.
 */
#include <chrono>

#include "sim_runtime.h"

namespace sim
{

static double now()
{
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static void reach(operation &op)
{
    if (op.marks) {
        op.marks->seconds = now();
        op.marks->reached = true;
    }
}

/* A stream that was destroyed goes on to its end. */
template <class F> static void for_each_stream(F f)
{
    machine &m = the_machine();
    for (const auto *list : {&m.null_streams, &m.streams.live, &m.streams.released})
        for (const auto &s : *list)
            f(s.get());
}

void fail_device(int device, cudaError_t code)
{
    the_machine().devices[(size_t)device].sticky = code;
    for_each_stream([&](CUstream_st *s) {
        if (s->device != device)
            return;
        for (operation &op : s->queue)
            reach(op); /* other devices must not wait for ever */
        s->queue.clear();
    });
}

static void run_one(CUstream_st *s)
{
    machine &m = the_machine();
    operation op = std::move(s->queue.front());
    s->queue.pop_front();
    cudaError_t code = op.late_failure;
    if (code == cudaSuccess && op.work) {
        open_device(s->device);
        code = op.work();
        m.counts.operations++;
        if (code == cudaSuccess && !surroundings_are_intact())
            code = misuse(cudaErrorIllegalAddress, "%s: wrote outside the blocks of device %d", op.what, s->device);
    }
    reach(op);
    if (code != cudaSuccess)
        fail_device(s->device, code);
}

static bool may_go_on(const CUstream_st *s)
{
    return !s->queue.empty() && (!s->queue.front().awaits || s->queue.front().awaits->reached);
}

/* False where no stream may go on. */
static bool run_some()
{
    machine &m = the_machine();
    std::vector<CUstream_st *> ready;
    bool favoured_is_ready = false;
    for_each_stream([&](CUstream_st *s) {
        if (!may_go_on(s))
            return;
        ready.push_back(s);
        favoured_is_ready |= s == m.favoured;
    });
    if (ready.empty())
        return false;
    if (!favoured_is_ready || random_below(m.patience) == 0)
        m.favoured = ready[random_below(ready.size())];
    run_one(m.favoured);
    return true;
}

/* Waits, as a call does: runs until the condition holds, and perhaps a little longer. */
template <class F> static void run_until(F holds)
{
    machine &m = the_machine();
    m.counts.waits++;
    m.patience = (uint64_t)1 << 2 * random_below(4);
    while (!holds() && run_some())
        ;
    for (uint64_t more = random_below(4); more > 0 && run_some(); more--)
        ;
    open_device(-1);
}

/* What a call that asks whether something is done lets happen meanwhile. */
static void run_a_few()
{
    for (uint64_t n = random_below(3); n > 0 && run_some(); n--)
        ;
    open_device(-1);
}

cudaError_t finish_stream(CUstream_st *s)
{
    run_until([&] { return s->queue.empty(); });
    return the_machine().devices[(size_t)s->device].sticky;
}

bool is_idle(int device)
{
    bool idle = true;
    for_each_stream([&](const CUstream_st *s) { idle &= s->device != device || s->queue.empty(); });
    return idle;
}

cudaError_t finish_device(int device)
{
    run_until([&] { return is_idle(device); });
    return the_machine().devices[(size_t)device].sticky;
}

static cudaError_t sticky_of(int device) { return the_machine().devices[(size_t)device].sticky; }

cudaError_t find_stream(const char *entry_point, cudaStream_t handle, CUstream_st **out)
{
    *out = the_machine().streams.find(handle);
    if (!*out)
        return misuse(cudaErrorInvalidResourceHandle, "%s: %s", entry_point,
                      handle ? "no such stream" : "the null stream is not for this");
    return sticky_of((*out)->device);
}

cudaError_t find_current_stream(const char *entry_point, cudaStream_t handle, CUstream_st **out)
{
    const cudaError_t code = find_stream(entry_point, handle, out);
    if (code == cudaSuccess && (*out)->device != current_device())
        return misuse(cudaErrorInvalidResourceHandle, "%s: the stream belongs to device %d, the current one is %d",
                      entry_point, (*out)->device, current_device());
    return code;
}

cudaError_t find_event(const char *entry_point, cudaEvent_t handle, CUevent_st **out)
{
    *out = the_machine().events.find(handle);
    if (!*out)
        return misuse(cudaErrorInvalidResourceHandle, "%s: no such event", entry_point);
    return sticky_of((*out)->device);
}

cudaError_t put(CUstream_st *s, operation op)
{
    if (capture *c = s->capturing.get()) {
        if (c->invalid)
            return cudaErrorStreamCaptureInvalidated;
        c->operations.push_back(std::move(op));
        return cudaSuccess;
    }
    if (op.work)
        op.late_failure = late_failure_due();
    s->queue.push_back(std::move(op));
    return cudaSuccess;
}

static cudaError_t put_mark(CUstream_st *s, CUevent_st *e)
{
    e->captured = s->capturing;
    if (s->capturing) { /* the order of a stream that is captured is the graph's anyway */
        e->last = nullptr;
        return s->capturing->invalid ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
    }
    e->last = std::make_shared<mark>();
    operation op("cudaEventRecord", nullptr);
    op.marks = e->last;
    return put(s, std::move(op));
}

static cudaError_t put_wait(CUstream_st *s, const CUevent_st *e)
{
    if (s->capturing && e->captured == s->capturing)
        return s->capturing->invalid ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
    if (s->capturing && (e->captured || e->last))
        return spoil(s, cudaErrorStreamCaptureIsolation);
    if (e->captured)
        return misuse(cudaErrorCapturedEvent, "cudaStreamWaitEvent: captures of several streams are not simulated");
    if (!e->last)
        return cudaSuccess;
    operation op("cudaStreamWaitEvent", nullptr);
    op.awaits = e->last;
    return put(s, std::move(op));
}

} // namespace sim

using namespace sim;

cudaError_t sim_enqueue(cudaStream_t stream, const char *what, std::function<void()> work)
{
    return call("launch", PLAIN, [&] {
        CUstream_st *s;
        const cudaError_t code = find_current_stream(what, stream, &s);
        if (code != cudaSuccess)
            return code;
        the_machine().counts.launches++;
        return put(s, {what, [work] {
                           work();
                           return cudaSuccess;
                       }});
    });
}

static cudaError_t create_stream(const char *entry_point, cudaStream_t *out, unsigned flags)
{
    *out = nullptr;
    if (flags != cudaStreamNonBlocking)
        return misuse(cudaErrorInvalidValue, "%s: flags %u", entry_point, flags);
    machine &m = the_machine();
    const int device = current_device();
    const int number = m.devices[(size_t)device].streams_made++;
    *out = m.streams.add(std::make_unique<CUstream_st>(device, number));
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *pStream, unsigned int flags)
{
    return call("cudaStreamCreateWithFlags", PLAIN,
                [&] { return create_stream("cudaStreamCreateWithFlags", pStream, flags); });
}

enum { LEAST_PRIORITY = 0, GREATEST_PRIORITY = -5 };

cudaError_t cudaDeviceGetStreamPriorityRange(int *leastPriority, int *greatestPriority)
{
    return call("cudaDeviceGetStreamPriorityRange", PLAIN, [&] {
        *leastPriority = LEAST_PRIORITY;
        *greatestPriority = GREATEST_PRIORITY;
        return cudaSuccess;
    });
}

/* A priority has no say in the order of what may run: any will do. CUDA takes one outside the range as the nearest. */
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *pStream, unsigned int flags, int priority)
{
    return call("cudaStreamCreateWithPriority", PLAIN, [&] {
        if (priority > LEAST_PRIORITY || priority < GREATEST_PRIORITY)
            return misuse(cudaErrorInvalidValue, "cudaStreamCreateWithPriority: priority %d", priority);
        return create_stream("cudaStreamCreateWithPriority", pStream, flags);
    });
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    return call("cudaStreamDestroy", RELEASES, [&] {
        CUstream_st *s = the_machine().streams.find(stream);
        if (!s)
            return misuse(cudaErrorInvalidResourceHandle, "cudaStreamDestroy: no such stream");
        if (s->capturing)
            return misuse(spoil(s, cudaErrorStreamCaptureUnsupported), "cudaStreamDestroy: in the middle of a capture");
        the_machine().streams.release(s);
        return sticky_of(s->device);
    });
}

/* During a capture the stream that is captured can be waited for in no mode. */
static cudaError_t find_idle_stream(const char *entry_point, cudaStream_t handle, CUstream_st **out)
{
    const cudaError_t code = find_stream(entry_point, handle, out);
    return code == cudaSuccess && (*out)->capturing ? spoil(*out, cudaErrorStreamCaptureUnsupported) : code;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    return call("cudaStreamSynchronize", UNSAFE, [&] {
        CUstream_st *s;
        const cudaError_t code = find_idle_stream("cudaStreamSynchronize", stream, &s);
        return code == cudaSuccess ? finish_stream(s) : code;
    });
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    return call("cudaStreamQuery", UNSAFE, [&] {
        CUstream_st *s;
        const cudaError_t code = find_idle_stream("cudaStreamQuery", stream, &s);
        if (code != cudaSuccess)
            return code;
        run_a_few();
        return s->queue.empty() ? sticky_of(s->device) : cudaErrorNotReady;
    });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int flags)
{
    return call("cudaStreamWaitEvent", PLAIN, [&] {
        CUstream_st *s;
        CUevent_st *e;
        cudaError_t code = find_stream("cudaStreamWaitEvent", stream, &s);
        if (code == cudaSuccess)
            code = find_event("cudaStreamWaitEvent", event, &e);
        if (code != cudaSuccess)
            return code;
        return flags == cudaEventWaitDefault ? put_wait(s, e) : cudaErrorInvalidValue;
    });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags)
{
    return call("cudaEventCreateWithFlags", PLAIN, [&] {
        *event = nullptr;
        if (flags & ~(unsigned)(cudaEventBlockingSync | cudaEventDisableTiming))
            return cudaErrorInvalidValue;
        std::unique_ptr<CUevent_st> made(new CUevent_st{current_device(), !(flags & cudaEventDisableTiming), {}, {}});
        *event = the_machine().events.add(std::move(made));
        return cudaSuccess;
    });
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    return call("cudaEventDestroy", RELEASES, [&] {
        const CUevent_st *e = the_machine().events.find(event);
        if (!e)
            return misuse(cudaErrorInvalidResourceHandle, "cudaEventDestroy: no such event");
        the_machine().events.release(e);
        return sticky_of(e->device);
    });
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    return call("cudaEventRecord", PLAIN, [&] {
        CUstream_st *s;
        CUevent_st *e;
        cudaError_t code = find_stream("cudaEventRecord", stream, &s);
        if (code == cudaSuccess)
            code = find_event("cudaEventRecord", event, &e);
        if (code != cudaSuccess)
            return code;
        if (e->device != s->device)
            return misuse(cudaErrorInvalidResourceHandle, "cudaEventRecord: an event of device %d, a stream of %d",
                          e->device, s->device);
        return put_mark(s, e);
    });
}

static cudaError_t find_event_outside(const char *entry_point, cudaEvent_t handle, CUevent_st **out)
{
    const cudaError_t code = find_event(entry_point, handle, out);
    return code == cudaSuccess && (*out)->captured ? cudaErrorCapturedEvent : code;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    return call("cudaEventSynchronize", UNSAFE, [&] {
        CUevent_st *e;
        const cudaError_t code = find_event_outside("cudaEventSynchronize", event, &e);
        if (code != cudaSuccess || !e->last)
            return code;
        const std::shared_ptr<mark> awaited = e->last;
        run_until([&] { return awaited->reached; });
        return sticky_of(e->device);
    });
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    return call("cudaEventQuery", UNSAFE, [&] {
        CUevent_st *e;
        const cudaError_t code = find_event_outside("cudaEventQuery", event, &e);
        if (code != cudaSuccess || !e->last)
            return code;
        run_a_few();
        return e->last->reached ? sticky_of(e->device) : cudaErrorNotReady;
    });
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    return call("cudaEventElapsedTime", PLAIN, [&] {
        CUevent_st *from, *to;
        cudaError_t code = find_event_outside("cudaEventElapsedTime", start, &from);
        if (code == cudaSuccess)
            code = find_event_outside("cudaEventElapsedTime", end, &to);
        if (code != cudaSuccess)
            return code;
        if (from->device != to->device || !from->timed || !to->timed || !from->last || !to->last)
            return misuse(cudaErrorInvalidResourceHandle, "cudaEventElapsedTime: events without a time between them");
        if (!from->last->reached || !to->last->reached)
            return cudaErrorNotReady;
        *ms = (float)((to->last->seconds - from->last->seconds) * 1e3);
        return cudaSuccess;
    });
}
