/* The simulated CUDA runtime: captures and graphs, planned failures, what is counted. */
#include <cmath>
#include <thread>

#include "sim_check.h"

static int fresh(void **)
{
    restart();
    return 0;
}

static int all_released(void **) { return sim_leaks() == 0 ? 0 : -1; }

static cudaStreamCaptureStatus status_of(cudaStream_t s)
{
    cudaStreamCaptureStatus status;
    assert_cuda(cudaStreamIsCapturing(s, &status));
    return status;
}

static void begin(cudaStream_t s, cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal)
{
    assert_cuda(cudaStreamBeginCapture(s, mode));
    assert_int_equal(status_of(s), cudaStreamCaptureStatusActive);
}

/* The capture has been spoilt, and gives nothing. */
static void assert_spoilt(cudaStream_t s)
{
    cudaGraph_t g;
    assert_int_equal(status_of(s), cudaStreamCaptureStatusInvalidated);
    assert_cuda_is(sim_enqueue(s, "after", [] {}), cudaErrorStreamCaptureInvalidated);
    assert_cuda_is(cudaStreamEndCapture(s, &g), cudaErrorStreamCaptureInvalidated);
    assert_null(g);
    assert_int_equal(status_of(s), cudaStreamCaptureStatusNone);
}

/* Arguments are those of the capture, memory is as it is at the launch. */
static void a_graph_does_again_what_was_captured(void **)
{
    cudaStream_t s = new_stream();
    cudaEvent_t inside = new_event();
    float *d = new_device<float>(2), *pinned = new_pinned<float>(2), step = 10;
    cudaGraph_t graph;
    cudaGraphExec_t ready;
    begin(s);
    put(s, d, pinned, 1);
    assert_cuda(sim_enqueue(s, "add", [=] { d[1] = d[0] + step; }));
    assert_cuda(cudaEventRecord(inside, s));
    assert_cuda(cudaStreamWaitEvent(s, inside, 0)); /* of the same stream: is in order anyway */
    get(s, pinned + 1, d + 1, 1);
    assert_cuda(cudaStreamEndCapture(s, &graph));
    step = 20;
    assert_cuda(cudaGraphInstantiate(&ready, graph, 0));
    assert_cuda(cudaGraphDestroy(graph));
    assert_cuda(cudaStreamSynchronize(s));
    assert_int_equal(sim_counted().operations, 0); /* nothing has run yet */
    assert_cuda_is(cudaEventQuery(inside), cudaErrorCapturedEvent);

    sim_count_anew();
    for (int i = 0; i < 3; i++) {
        *pinned = (float)i;
        assert_cuda(cudaGraphLaunch(ready, s));
        assert_cuda(cudaStreamSynchronize(s));
        assert_float(pinned[1], i + 10);
    }
    const sim_counts c = sim_counted();
    assert_int_equal(c.graph_launches, 3);
    assert_int_equal(c.launches, 0);
    assert_int_equal(c.operations, 9);
    assert_int_equal(c.waits, 3);

    *pinned = 5;
    assert_cuda(cudaGraphLaunch(ready, s));
    assert_cuda(cudaGraphExecDestroy(ready)); /* the launch has all it needs */
    assert_cuda(cudaStreamSynchronize(s));
    assert_float(pinned[1], 15);
    assert_misuse(cudaGraphLaunch(ready, s), cudaErrorInvalidValue);
    assert_misuse(cudaGraphExecDestroy(ready), cudaErrorInvalidValue);
    assert_misuse(cudaGraphDestroy(graph), cudaErrorInvalidValue);
    assert_cuda(cudaFree(d));
    assert_cuda(cudaFreeHost(pinned));
    assert_cuda(cudaEventDestroy(inside));
    assert_cuda(cudaStreamDestroy(s));
}

static void a_graph_whose_memory_is_gone_fails(void **)
{
    cudaStream_t s = new_stream();
    float *d = new_device<float>(1);
    cudaGraph_t graph;
    cudaGraphExec_t ready;
    begin(s);
    assert_cuda(cudaMemsetAsync(d, 0, 4, s));
    assert_cuda(cudaStreamEndCapture(s, &graph));
    assert_cuda(cudaGraphInstantiate(&ready, graph, 0));
    assert_cuda(cudaFree(d));
    assert_cuda(cudaGraphLaunch(ready, s));
    assert_cuda_is(cudaStreamSynchronize(s), cudaErrorIllegalAddress);
    assert_cuda(cudaDeviceReset());
}

static void a_capture_forbids_what_might_wait(void **)
{
    cudaStream_t s = new_stream(), other = new_stream();
    cudaEvent_t e = new_event();
    float *d = new_device<float>(1), x = 0;
    void *p;
    const std::function<cudaError_t()> forbidden[] = {
        [&] { return cudaMalloc(&p, 4); },
        [&] { return cudaFree(d); },
        [&] { return cudaMallocHost(&p, 4); },
        [&] { return cudaMemset(d, 0, 4); },
        [&] { return cudaMemcpy(d, &x, 4, cudaMemcpyHostToDevice); },
        [&] { return cudaStreamSynchronize(other); },
        [&] { return cudaStreamSynchronize(s); },
        [&] { return cudaStreamQuery(s); },
        [&] { return cudaEventQuery(e); },
        [&] { return cudaEventSynchronize(e); },
        [&] { return cudaDeviceSynchronize(); },
    };
    for (const auto &call : forbidden) {
        begin(s);
        assert_cuda_is(call(), cudaErrorStreamCaptureUnsupported);
        assert_spoilt(s);
    }
    /* In a relaxed capture only its own stream cannot be waited for. */
    begin(s, cudaStreamCaptureModeRelaxed);
    assert_cuda(cudaMalloc(&p, 4));
    assert_cuda(cudaStreamSynchronize(other));
    assert_int_equal(status_of(s), cudaStreamCaptureStatusActive);
    assert_cuda_is(cudaStreamSynchronize(s), cudaErrorStreamCaptureUnsupported);
    assert_spoilt(s);
    /* A capture of one thread is no concern of the others, one of all threads is; and who began it ends it. */
    cudaGraph_t graph;
    begin(s, cudaStreamCaptureModeThreadLocal);
    cudaError_t freed, ended, allocated;
    std::thread([&] {
        freed = cudaFree(p);
        ended = cudaStreamEndCapture(s, &graph);
    }).join();
    assert_cuda(freed);
    assert_cuda_is(ended, cudaErrorStreamCaptureWrongThread);
    assert_cuda(cudaStreamEndCapture(s, &graph));
    assert_cuda(cudaGraphDestroy(graph));
    begin(s);
    std::thread([&] { allocated = cudaMalloc(&p, 4); }).join();
    assert_cuda_is(allocated, cudaErrorStreamCaptureUnsupported);
    assert_spoilt(s);

    assert_cuda(cudaFree(d));
    assert_cuda(cudaEventDestroy(e));
    assert_cuda(cudaStreamDestroy(s));
    assert_cuda(cudaStreamDestroy(other));
}

static void a_capture_is_of_one_stream(void **)
{
    cudaStream_t s = new_stream(), other = new_stream();
    cudaEvent_t inside = new_event(), outside = new_event();
    float *d = new_device<float>(1), x = 0;
    cudaGraph_t graph, none;
    assert_cuda(cudaEventRecord(outside, other));
    begin(s);
    assert_cuda_is(cudaStreamWaitEvent(s, outside, 0), cudaErrorStreamCaptureIsolation);
    assert_spoilt(s);
    begin(s);
    assert_misuse(cudaMemcpyAsync(d, &x, 4, cudaMemcpyHostToDevice, s), cudaErrorStreamCaptureUnsupported);
    assert_spoilt(s);
    begin(s);
    assert_cuda(cudaEventRecord(inside, s));
    assert_misuse(cudaStreamWaitEvent(other, inside, 0), cudaErrorCapturedEvent);
    assert_misuse(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal), cudaErrorIllegalState);
    assert_cuda(cudaStreamEndCapture(s, &graph));
    assert_misuse(cudaStreamEndCapture(s, &none), cudaErrorIllegalState);
    assert_null(none);
    assert_cuda(cudaGraphDestroy(graph));
    for (cudaEvent_t e : {inside, outside})
        assert_cuda(cudaEventDestroy(e));
    for (cudaStream_t stream : {s, other})
        assert_cuda(cudaStreamDestroy(stream));
    assert_cuda(cudaFree(d));
}

static void a_planned_call_fails(void **)
{
    void *p, *q;
    cudaGraph_t graph;
    cudaStream_t s = new_stream();
    sim_fail("cudaMalloc", 2, cudaErrorMemoryAllocation);
    assert_cuda(cudaMalloc(&p, 4));
    assert_cuda_is(cudaMalloc(&q, 4), cudaErrorMemoryAllocation);
    assert_cuda_is(cudaGetLastError(), cudaErrorMemoryAllocation);
    assert_cuda(cudaMalloc(&q, 4)); /* just that one */
    assert_int_equal(sim_calls("cudaMalloc"), 3);
    assert_int_equal(sim_calls("cudaFree"), 0);
    sim_fail("cudaFree", 1, cudaErrorLaunchFailure);
    assert_cuda_is(cudaFree(p), cudaErrorLaunchFailure); /* and is freed */
    assert_cuda(cudaFree(q));
    assert_int_equal(sim_leaks(), 1);
    sim_fail("launch", 1, cudaErrorLaunchOutOfResources);
    assert_cuda_is(sim_enqueue(s, "none", [] {}), cudaErrorLaunchOutOfResources);
    begin(s);
    sim_fail("cudaStreamEndCapture", 1, cudaErrorUnknown);
    assert_cuda_is(cudaStreamEndCapture(s, &graph), cudaErrorUnknown);
    assert_null(graph);
    assert_int_equal(status_of(s), cudaStreamCaptureStatusNone);
    assert_cuda(cudaStreamDestroy(s));
}

static void a_late_failure_stays(void **)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        restart({"POLLARD_SIM_DEVICES=2"});
        sim_seed(seed);
        cudaStream_t s = new_stream();
        cudaEvent_t e = new_event();
        float *d = new_device<float>(2), *pinned = new_pinned<float>(2);
        size_t available, total;
        sim_fail_late(3, cudaErrorECCUncorrectable);
        assert_cuda(cudaEventRecord(e, s)); /* is no work, and does not count */
        assert_cuda(set_later(s, d, 1));
        assert_cuda(set_later(s, d + 1, 1));
        get(s, pinned, d, 2);
        assert_cuda(set_later(s, d, 2));
        assert_cuda(cudaEventRecord(e, s)); /* all is well so far */
        assert_cuda_is(cudaEventSynchronize(e), cudaErrorECCUncorrectable);
        assert_true(std::isnan(pinned[0]));
        assert_int_equal(sim_counted().operations, 2);
        assert_cuda_is(cudaEventQuery(e), cudaErrorECCUncorrectable);
        assert_cuda_is(cudaStreamSynchronize(s), cudaErrorECCUncorrectable);
        assert_cuda_is(set_later(s, d, 1), cudaErrorECCUncorrectable);
        assert_cuda_is(cudaMemGetInfo(&available, &total), cudaErrorECCUncorrectable);
        assert_cuda(cudaSetDevice(1)); /* the other device is well */
        assert_cuda(cudaMemGetInfo(&available, &total));
        assert_cuda(cudaSetDevice(0));
        assert_cuda_is(cudaFree(d), cudaErrorECCUncorrectable);
        assert_cuda_is(cudaFreeHost(pinned), cudaErrorECCUncorrectable);
        assert_cuda_is(cudaEventDestroy(e), cudaErrorECCUncorrectable);
        assert_cuda_is(cudaStreamDestroy(s), cudaErrorECCUncorrectable);
        assert_int_equal(sim_leaks(), 0); /* all the same */
        assert_cuda(cudaDeviceReset());
        assert_cuda(cudaMemGetInfo(&available, &total));
    }
}

static void the_environment_plans_failures_and_asks_for_a_report(void **)
{
    char file[] = "/tmp/pollard-sim-XXXXXX", report[80], text[4096];
    const int fd = mkstemp(file);
    assert_true(fd >= 0);
    snprintf(report, sizeof report, "POLLARD_SIM_REPORT=%s", file);
    restart({"POLLARD_SIM_FAIL=cudaMalloc:2:2,late:1:719,cudaMalloc:3:46", report});
    void *p, *q;
    assert_cuda(cudaMalloc(&p, 4));
    assert_cuda_is(cudaMalloc(&q, 4), cudaErrorMemoryAllocation);
    assert_cuda_is(cudaMalloc(&q, 4), cudaErrorDevicesUnavailable);
    assert_cuda(cudaMemset(p, 0, 4));
    assert_cuda_is(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    restart(); /* the report is written */
    const ssize_t n = read(fd, text, sizeof text - 1);
    assert_true(n > 0);
    text[n] = 0;
    for (const char *line : {"waits 1\n", "leaks 1\n", "cudaMalloc 3\n", "launches 0\n", "cudaDeviceSynchronize 1\n"})
        if (!strstr(text, line))
            fail_msg("no '%s' in: %s", line, text);
    close(fd);
    unlink(file);
}

static void what_is_not_released_is_counted(void **)
{
    cudaStream_t s = new_stream();
    cudaGraph_t graph;
    cudaGraphExec_t ready;
    cublasLtHandle_t lt;
    assert_int_equal(sim_leaks(), 1);
    cudaEvent_t e = new_event();
    float *d = new_device<float>(1), *pinned = new_pinned<float>(1);
    begin(s);
    assert_cuda(cudaStreamEndCapture(s, &graph));
    assert_int_equal(sim_leaks(), 5);
    assert_cuda(cudaGraphInstantiate(&ready, graph, 0));
    assert_int_equal(cublasLtCreate(&lt), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(sim_leaks(), 7);
    assert_cuda(cudaGraphDestroy(graph));
    assert_cuda(cudaGraphExecDestroy(ready));
    assert_int_equal(cublasLtDestroy(lt), CUBLAS_STATUS_SUCCESS);
    assert_cuda(cudaFree(d));
    assert_cuda(cudaFreeHost(pinned));
    assert_cuda(cudaEventDestroy(e));
    assert_int_equal(sim_leaks(), 1);
    assert_cuda(cudaStreamDestroy(s));
}

/* A step that waits once, as a test of the backend would say it. */
static void waits_launches_and_bytes_are_counted(void **)
{
    cudaStream_t s = new_stream(), copies = new_stream();
    float *d = new_device<float>(4), *pinned = new_pinned<float>(4), pageable[4];
    put(copies, d, pinned, 4);
    assert_cuda(cudaStreamSynchronize(copies));
    sim_count_anew();
    assert_cuda(set_later(s, d, 1));
    assert_cuda(set_later(s, d, 2));
    put(copies, d + 1, pinned, 3);
    assert_cuda(cudaMemcpyAsync(d, d + 2, 8, cudaMemcpyDeviceToDevice, copies));
    get(s, pinned, d, 1);
    assert_int_equal(sim_counted().waits, 0);
    assert_cuda(cudaDeviceSynchronize());
    sim_counts c = sim_counted();
    assert_int_equal(c.waits, 1);
    assert_int_equal(c.launches, 2);
    assert_int_equal(c.operations, 5);
    assert_int_equal(c.bytes_to_device, 12);
    assert_int_equal(c.bytes_on_device, 8);
    assert_int_equal(c.bytes_to_host, 4);
    assert_int_equal(c.pageable_copies, 0);
    assert_int_equal(c.misuses, 0);
    assert_int_equal(sim_copied_on(0, 0), 4);
    assert_int_equal(sim_copied_on(0, 1), 16 + 20);
    get(s, pageable, d, 4); /* waits, because of where it goes */
    assert_int_equal(sim_counted().waits, 2);
    assert_cuda(cudaFree(d)); /* waits for the device */
    assert_int_equal(sim_counted().waits, 3);
    assert_cuda(cudaFreeHost(pinned));
    assert_cuda(cudaStreamDestroy(s));
    assert_cuda(cudaStreamDestroy(copies));
}

int main()
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, fresh, all_released)
    const struct CMUnitTest tests[] = {
        TEST(a_graph_does_again_what_was_captured),
        TEST(a_graph_whose_memory_is_gone_fails),
        TEST(a_capture_forbids_what_might_wait),
        TEST(a_capture_is_of_one_stream),
        TEST(a_planned_call_fails),
        TEST(a_late_failure_stays),
        TEST(the_environment_plans_failures_and_asks_for_a_report),
        TEST(what_is_not_released_is_counted),
        TEST(waits_launches_and_bytes_are_counted),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
