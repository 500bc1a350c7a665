/* The simulated CUDA runtime: devices, memory, streams, events. That it shows the mistakes it is there to show. */
#include <cmath>
#include <set>
#include <string>

#include "sim_check.h"

static int fresh(void **)
{
    restart();
    return 0;
}

/* Every test ends as a program should: with nothing left. */
static int all_released(void **) { return sim_leaks() == 0 ? 0 : -1; }

static void streams_run_when_the_host_waits(void **)
{
    cudaStream_t s = new_stream();
    float *d = new_device<float>(1), *pinned = new_pinned<float>(1), back;
    const float pageable = 1;
    put(s, d, &pageable, 1);
    const_cast<float &>(pageable) = 2; /* was read at the call */
    get(s, &back, d, 1);               /* waits */
    assert_float(back, 1);
    *pinned = 3;
    put(s, d, pinned, 1);
    *pinned = 4; /* too early: is read when the copy runs */
    assert_int_equal(sim_counted().operations, 2);
    get(s, &back, d, 1);
    assert_float(back, 4);

    *pinned = 5;
    get(s, pinned, d, 1);
    assert_float(*pinned, 5);
    assert_cuda(cudaStreamSynchronize(s));
    assert_float(*pinned, 4);
    assert_int_equal(sim_counted().pageable_copies, 3);
    assert_cuda(cudaFree(d));
    assert_cuda(cudaFreeHost(pinned));
    assert_cuda(cudaStreamDestroy(s));
}

static void a_stream_keeps_its_order(void **)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        sim_seed(seed);
        cudaStream_t s = new_stream();
        float *d = new_device<float>(1), *pinned = new_pinned<float>(8);
        for (int i = 0; i < 8; i++) {
            assert_cuda(set_later(s, d, (float)i));
            get(s, pinned + i, d, 1);
        }
        assert_cuda(cudaStreamSynchronize(s));
        for (int i = 0; i < 8; i++)
            assert_float(pinned[i], i);
        assert_cuda(cudaFree(d));
        assert_cuda(cudaFreeHost(pinned));
        assert_cuda(cudaStreamDestroy(s));
    }
}

/* One stream writes, the other reads. Returns in how many of the orders the reader saw what was written. */
static int seen(bool with_event)
{
    int right = 0;
    cudaStream_t writer = new_stream(), reader = new_stream();
    cudaEvent_t written = new_event();
    float *pinned = new_pinned<float>(1);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        sim_seed(seed);
        float *d = new_device<float>(1);
        assert_cuda(set_later(writer, d, 1));
        if (with_event) {
            assert_cuda(cudaEventRecord(written, writer));
            assert_cuda(cudaStreamWaitEvent(reader, written, 0));
        }
        get(reader, pinned, d, 1);
        assert_cuda(cudaStreamSynchronize(reader));
        right += *pinned == 1.0f;
        assert_cuda(cudaFree(d));
    }
    assert_cuda(cudaFreeHost(pinned));
    assert_cuda(cudaEventDestroy(written));
    assert_cuda(cudaStreamDestroy(writer));
    assert_cuda(cudaStreamDestroy(reader));
    return right;
}

static void a_missing_wait_between_streams_shows(void **)
{
    const int without = seen(false);
    assert_true(without > 0 && without < SEEDS);
    assert_int_equal(seen(true), SEEDS);
}

static void independent_streams_run_in_every_order(void **)
{
    std::set<std::string> orders;
    cudaStream_t streams[3] = {new_stream(), new_stream(), new_stream()};
    for (uint64_t seed = 0; seed < 3 * SEEDS; seed++) {
        sim_seed(seed);
        std::string order;
        for (int i = 0; i < 3; i++)
            assert_cuda(sim_enqueue(streams[i], "append", [&order, i] { order += "abc"[i]; }));
        assert_cuda(cudaDeviceSynchronize());
        orders.insert(order);
    }
    assert_int_equal(orders.size(), 6);
    for (cudaStream_t s : streams)
        assert_cuda(cudaStreamDestroy(s));
}

/* A ring of two slots in pinned memory, filled again before the copy out of it has run, unless the host waits. */
static int rounds_right(bool wait)
{
    int right = 0;
    cudaStream_t s = new_stream();
    float *slot = new_pinned<float>(2), *d = new_device<float>(4), back[4];
    cudaEvent_t read[2] = {new_event(), new_event()};
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        sim_seed(seed);
        for (int i = 0; i < 4; i++) {
            if (wait)
                assert_cuda(cudaEventSynchronize(read[i % 2]));
            slot[i % 2] = (float)i;
            put(s, d + i, slot + i % 2, 1);
            assert_cuda(cudaEventRecord(read[i % 2], s));
        }
        get(s, back, d, 4);
        right += back[0] == 0 && back[1] == 1 && back[2] == 2 && back[3] == 3;
    }
    for (cudaEvent_t e : read)
        assert_cuda(cudaEventDestroy(e));
    assert_cuda(cudaFreeHost(slot));
    assert_cuda(cudaFree(d));
    assert_cuda(cudaStreamDestroy(s));
    return right;
}

static void pinned_memory_that_is_used_again_too_early_shows(void **)
{
    assert_int_equal(rounds_right(false), 0);
    assert_int_equal(rounds_right(true), SEEDS);
}

static void a_wait_is_for_the_record_before_it(void **)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        sim_seed(seed);
        cudaStream_t a = new_stream(), b = new_stream();
        cudaEvent_t e = new_event();
        float *d = new_device<float>(1), *pinned = new_pinned<float>(1);
        assert_cuda(cudaStreamWaitEvent(a, e, 0)); /* never recorded: nothing to wait for */
        assert_cuda(set_later(a, d, 1));
        assert_cuda(cudaEventRecord(e, a));
        assert_cuda(cudaStreamWaitEvent(b, e, 0));
        get(b, pinned, d, 1);
        assert_cuda(cudaEventRecord(e, b)); /* the wait above is for the first record all the same */
        assert_cuda(cudaStreamDestroy(a));  /* goes on to its end */
        assert_cuda(cudaEventSynchronize(e));
        assert_float(*pinned, 1);
        assert_cuda(cudaEventDestroy(e));
        assert_cuda(cudaFree(d));
        assert_cuda(cudaFreeHost(pinned));
        assert_cuda(cudaStreamDestroy(b));
    }
}

static void asking_lets_work_go_on(void **)
{
    cudaStream_t s = new_stream();
    cudaEvent_t e = new_event();
    float *d = new_device<float>(1);
    assert_cuda(cudaEventQuery(e));
    assert_cuda(cudaStreamQuery(s));
    for (int i = 0; i < 20; i++)
        assert_cuda(set_later(s, d, 1));
    assert_cuda(cudaEventRecord(e, s));
    int asked = 0;
    while (cudaEventQuery(e) == cudaErrorNotReady)
        asked++;
    assert_in_range(asked, 2, 1000);
    assert_cuda(cudaStreamQuery(s));
    assert_cuda(cudaPeekAtLastError()); /* not ready is no error */
    assert_int_equal(sim_counted().waits, 0);
    assert_cuda(cudaFree(d));
    assert_cuda(cudaEventDestroy(e));
    assert_cuda(cudaStreamDestroy(s));
}

static void events_tell_time(void **)
{
    cudaStream_t s = new_stream();
    cudaEvent_t from = new_event(cudaEventDefault), to = new_event(cudaEventDefault), untimed = new_event();
    float ms = -1;
    assert_cuda(cudaEventRecord(from, s));
    assert_misuse(cudaEventElapsedTime(&ms, from, to), cudaErrorInvalidResourceHandle);
    assert_cuda(cudaEventRecord(to, s));
    assert_cuda(cudaEventRecord(untimed, s));
    assert_cuda_is(cudaEventElapsedTime(&ms, from, to), cudaErrorNotReady);
    assert_cuda(cudaStreamSynchronize(s));
    assert_cuda(cudaEventElapsedTime(&ms, from, to));
    assert_true(ms >= 0 && ms < 10000);
    assert_misuse(cudaEventElapsedTime(&ms, from, untimed), cudaErrorInvalidResourceHandle);
    for (cudaEvent_t e : {from, to, untimed})
        assert_cuda(cudaEventDestroy(e));
    assert_cuda(cudaStreamDestroy(s));
}

static void memory_is_limited(void **)
{
    restart({"POLLARD_SIM_MEMORY=10240"});
    size_t available, total;
    void *a, *b, *c = &a;
    assert_cuda(cudaMemGetInfo(&available, &total));
    assert_int_equal(available, 10240);
    assert_int_equal(total, 10240);
    assert_cuda(cudaMalloc(&a, 10000)); /* of memory goes by 256 bytes */
    assert_cuda(cudaMemGetInfo(&available, &total));
    assert_int_equal(available, 0);
    assert_cuda_is(cudaMalloc(&c, 1), cudaErrorMemoryAllocation);
    assert_null(c);
    assert_cuda_is(cudaGetLastError(), cudaErrorMemoryAllocation);
    assert_cuda(cudaGetLastError());
    assert_cuda(cudaFree(a));
    assert_cuda(cudaMalloc(&a, 5120));
    assert_cuda(cudaMalloc(&b, 5120));
    assert_cuda_is(cudaMalloc(&c, SIZE_MAX), cudaErrorMemoryAllocation);
    assert_int_equal((uintptr_t)b % 256, 0);
    assert_misuse(cudaMalloc(&c, 0), cudaErrorInvalidValue);
    assert_cuda(cudaFree(a));
    assert_cuda(cudaFree(b));
    assert_cuda(cudaFree(nullptr));
    assert_cuda(cudaFreeHost(nullptr));
}

static void new_memory_is_nan(void **)
{
    float *d = new_device<float>(3), *pinned = new_pinned<float>(1), back[3];
    assert_cuda(cudaMemcpy(back, d, sizeof back, cudaMemcpyDeviceToHost));
    for (float x : back)
        assert_true(std::isnan(x));
    assert_true(std::isnan(*pinned));
    assert_cuda(cudaMemset(d, 0, sizeof(float) * 2));
    assert_cuda(cudaMemcpy(back, d, sizeof back, cudaMemcpyDeviceToHost));
    assert_true(back[0] == 0 && back[1] == 0 && std::isnan(back[2]));
    assert_cuda(cudaFree(d));
    assert_cuda(cudaFreeHost(pinned));
}

/* A kernel that writes there, `bytes` from the start of a block of 1000. */
static bool writes_at(std::ptrdiff_t bytes)
{
    cudaStream_t s = new_stream();
    char *d = new_device<char>(1000);
    assert_cuda(sim_enqueue(s, "write", [=] { const_cast<volatile char *>(d)[bytes] = 1; }));
    return cudaStreamSynchronize(s) == cudaSuccess;
}

static void memory_outside_a_block_is_guarded(void **)
{
    assert_false(ends_badly([] { return writes_at(0) && writes_at(999); }));
    for (std::ptrdiff_t at : {-1, -5000, 1000, 1023, 1024, 5000})
        assert_true(ends_badly([=] { return writes_at(at); }));
}

static void the_host_cannot_touch_device_memory(void **)
{
    float *d = new_device<float>(1);
    assert_true(ends_badly([=] { return *const_cast<volatile float *>(d) != 1; }));
    assert_true(ends_badly([=] { return (*const_cast<volatile float *>(d) = 1) == 1; }));
    float x = 0;
    assert_cuda(cudaMemcpy(&x, d, sizeof x, cudaMemcpyDeviceToHost)); /* and has been closed again */
    assert_true(ends_badly([=] { return *const_cast<volatile float *>(d) != 1; }));
    assert_cuda(cudaFree(d));
}

static void devices_are_apart(void **)
{
    restart({"POLLARD_SIM_DEVICES=2"});
    int n, current;
    assert_cuda(cudaGetDeviceCount(&n));
    assert_int_equal(n, 2);
    cudaStream_t first = new_stream();
    cudaEvent_t event = new_event();
    float *on_first = new_device<float>(1), x = 7;
    assert_cuda(cudaSetDevice(1));
    assert_cuda(cudaGetDevice(&current));
    assert_int_equal(current, 1);
    assert_cuda_is(cudaSetDevice(2), cudaErrorInvalidDevice);
    cudaStream_t second = new_stream();
    float *on_second = new_device<float>(1);

    assert_misuse(set_later(first, on_first, 1), cudaErrorInvalidResourceHandle); /* device 1 is current */
    assert_misuse(cudaMemsetAsync(on_first, 0, 4, first), cudaErrorInvalidResourceHandle);
    assert_misuse(cudaEventRecord(event, second), cudaErrorInvalidResourceHandle);
    assert_misuse(cudaMemcpyAsync(on_first, &x, 4, cudaMemcpyHostToDevice, second), cudaErrorInvalidValue);
    put(first, on_first, &x, 1); /* a copy may be put on any device's stream */
    assert_cuda(cudaEventRecord(event, first));
    assert_cuda(cudaStreamWaitEvent(second, event, 0)); /* and any device may wait */
    assert_true(ends_badly(
        [=] { return set_later(second, on_first, 1) == cudaSuccess && cudaStreamSynchronize(second) == cudaSuccess; }));
    assert_cuda(set_later(second, on_second, 1));
    assert_cuda(cudaStreamSynchronize(second));
    assert_cuda(cudaMemcpy(&x, on_second, 4, cudaMemcpyDeviceToHost));
    assert_float(x, 1);

    size_t available, total;
    assert_cuda(cudaMemGetInfo(&available, &total));
    assert_int_equal(total - available, 256);
    assert_int_equal(sim_copied_on(0, 0), 4);
    assert_cuda(cudaFree(on_first));
    assert_cuda(cudaFree(on_second));
    assert_cuda(cudaEventDestroy(event));
    assert_cuda(cudaStreamDestroy(first));
    assert_cuda(cudaStreamDestroy(second));
}

static void misuse_is_refused(void **)
{
    cudaStream_t s = new_stream(), gone = new_stream();
    cudaEvent_t lost = new_event();
    char *d = new_device<char>(8), *freed = new_device<char>(8), *pinned = new_pinned<char>(8), host[8] = {0};
    assert_cuda(cudaStreamDestroy(gone));
    assert_cuda(cudaEventDestroy(lost));
    assert_cuda(cudaFree(freed));
    const cudaError_t handle = cudaErrorInvalidResourceHandle, value = cudaErrorInvalidValue;
    assert_misuse(cudaMemsetAsync(d, 0, 8, nullptr), handle);
    assert_misuse(cudaMemcpyAsync(d, host, 8, cudaMemcpyHostToDevice, nullptr), handle);
    assert_misuse(set_later(nullptr, nullptr, 0), handle);
    assert_misuse(cudaStreamSynchronize(gone), handle);
    assert_misuse(cudaStreamDestroy(gone), handle);
    assert_misuse(cudaEventSynchronize(lost), handle);
    assert_misuse(cudaEventRecord(lost, s), handle);
    assert_misuse(cudaEventDestroy(lost), handle);
    assert_misuse(cudaStreamCreateWithFlags(&gone, cudaStreamDefault), value);
    assert_misuse(cudaFree(freed), value);
    assert_misuse(cudaFree(d + 1), value);
    assert_misuse(cudaFree(pinned), value);
    assert_misuse(cudaFreeHost(d), value);
    assert_misuse(cudaMemcpyAsync(d, host, 8, cudaMemcpyDefault, s), cudaErrorInvalidMemcpyDirection);
    assert_misuse(cudaMemcpyAsync(d, host, 8, cudaMemcpyDeviceToHost, s), value); /* the wrong way */
    assert_misuse(cudaMemcpyAsync(d, d, 8, cudaMemcpyHostToDevice, s), value);
    assert_misuse(cudaMemcpyAsync(d + 1, host, 8, cudaMemcpyHostToDevice, s), value); /* over the end */
    assert_misuse(cudaMemcpyAsync(freed, host, 8, cudaMemcpyHostToDevice, s), value);
    assert_misuse(cudaMemcpyAsync(d, pinned + 4, 8, cudaMemcpyHostToDevice, s), value); /* pinned in part */
    assert_misuse(cudaMemsetAsync(d + 4, 0, 8, s), value);
    assert_misuse(cudaMemsetAsync(host, 0, 8, s), value);
    assert_int_equal(sim_counted().operations, 0);
    assert_cuda(cudaStreamSynchronize(s)); /* the device has not suffered */

    assert_cuda(cudaMemcpyAsync(d, pinned, 8, cudaMemcpyHostToDevice, s));
    assert_cuda(cudaFreeHost(pinned));
    assert_cuda_is(cudaStreamSynchronize(s), cudaErrorIllegalAddress); /* the copy had yet to run */
    assert_cuda(cudaDeviceReset());
}

/* It waits, as CUDA's does as a rule; but nobody may count on that. */
static void memory_in_use_is_not_freed(void **)
{
    cudaStream_t s = new_stream();
    float *d = new_device<float>(1), *other = new_device<float>(1);
    assert_cuda(set_later(s, d, 1));
    assert_misuse(cudaFree(other), cudaSuccess);
    assert_int_equal(sim_counted().operations, 1);
    assert_cuda(cudaFree(d));
    assert_int_equal(sim_counted().misuses, 1);
    assert_cuda(cudaStreamDestroy(s));
}

static void shared_memory_must_be_allowed(void **)
{
    enum { FREE = SIM_SHARED_WITHOUT_ASKING, ALLOWED = 100 << 10 };
    restart({"POLLARD_SIM_DEVICES=2"});
    static const char kernel = 0;
    const auto attr = cudaFuncAttributeMaxDynamicSharedMemorySize;
    assert_cuda(sim_check_shared(&kernel, FREE));
    assert_cuda_is(sim_check_shared(&kernel, FREE + 1), cudaErrorInvalidValue);
    assert_cuda(cudaFuncSetAttribute(&kernel, attr, ALLOWED));
    assert_cuda(sim_check_shared(&kernel, ALLOWED));
    assert_cuda_is(sim_check_shared(&kernel, ALLOWED + 1), cudaErrorInvalidValue);
    assert_cuda_is(sim_check_shared(&kernel + 1, ALLOWED), cudaErrorInvalidValue);
    assert_misuse(cudaFuncSetAttribute(&kernel, attr, ALLOWED - 1), cudaErrorInvalidValue);
    assert_cuda(sim_check_shared(&kernel, ALLOWED));
    assert_cuda(cudaSetDevice(1)); /* which has not been asked */
    assert_cuda_is(sim_check_shared(&kernel, ALLOWED), cudaErrorInvalidValue);
}

static void a_machine_without_devices(void **)
{
    int version, n = 7;
    void *p;
    restart({"POLLARD_SIM_DEVICES=0"});
    assert_cuda_is(cudaGetDeviceCount(&n), cudaErrorNoDevice);
    assert_int_equal(n, 0);
    assert_cuda_is(cudaSetDevice(0), cudaErrorNoDevice);
    assert_cuda_is(cudaMalloc(&p, 1), cudaErrorNoDevice);
    assert_cuda(cudaDriverGetVersion(&version));
    assert_int_equal(version, CUDART_VERSION);

    restart({"POLLARD_SIM_DEVICES=-1"});
    assert_cuda_is(cudaGetDeviceCount(&n), cudaErrorInsufficientDriver);
    assert_cuda(cudaDriverGetVersion(&version));
    assert_in_range(version, 1, CUDART_VERSION - 1);
    assert_cuda(cudaRuntimeGetVersion(&version));
    assert_int_equal(version, CUDART_VERSION);

    restart({"POLLARD_SIM_DEVICES=-2"});
    assert_cuda_is(cudaGetDeviceCount(&n), cudaErrorInsufficientDriver);
    assert_cuda(cudaDriverGetVersion(&version));
    assert_int_equal(version, 0);
}

static void devices_describe_themselves(void **)
{
    static const struct {
        const char *arch;
        int major, minor, shared;
    } kinds[] = {{"POLLARD_SIM_ARCH=80", 8, 0, 163 << 10},
                 {"POLLARD_SIM_ARCH=86", 8, 6, 99 << 10},
                 {"POLLARD_SIM_ARCH=89", 8, 9, 99 << 10},
                 {"POLLARD_SIM_ARCH=90", 9, 0, 227 << 10},
                 {"POLLARD_SIM_ARCH=75", 7, 5, 163 << 10}};
    for (const auto &k : kinds) {
        restart({k.arch, "POLLARD_SIM_MEMORY=123456"});
        struct cudaDeviceProp p;
        int value;
        assert_cuda(cudaGetDeviceProperties(&p, 0));
        assert_int_equal(p.major, k.major);
        assert_int_equal(p.minor, k.minor);
        assert_int_equal(p.totalGlobalMem, 123456);
        assert_cuda(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
        assert_int_equal(value, k.shared);
        assert_int_equal(p.sharedMemPerBlockOptin, k.shared);
        assert_cuda(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMinor, 0));
        assert_int_equal(value, k.minor);
        assert_cuda_is(cudaGetDeviceProperties(&p, 1), cudaErrorInvalidDevice);
        assert_cuda_is(cudaDeviceGetAttribute(&value, (enum cudaDeviceAttr)127, 0), cudaErrorInvalidValue);
        const auto attr = cudaFuncAttributeMaxDynamicSharedMemorySize;
        assert_cuda(cudaFuncSetAttribute(&devices_describe_themselves, attr, k.shared));
        assert_cuda_is(cudaFuncSetAttribute(&devices_describe_themselves, attr, k.shared + 1), cudaErrorInvalidValue);
    }
    assert_string_equal(cudaGetErrorName(cudaErrorECCUncorrectable), "cudaErrorECCUncorrectable");
    assert_string_equal(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory");
    assert_string_equal(cudaGetErrorString((cudaError_t)1000), "unrecognized error code");
}

int main()
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, fresh, all_released)
    const struct CMUnitTest tests[] = {
        TEST(streams_run_when_the_host_waits),
        TEST(a_stream_keeps_its_order),
        TEST(a_missing_wait_between_streams_shows),
        TEST(independent_streams_run_in_every_order),
        TEST(pinned_memory_that_is_used_again_too_early_shows),
        TEST(a_wait_is_for_the_record_before_it),
        TEST(asking_lets_work_go_on),
        TEST(events_tell_time),
        TEST(memory_is_limited),
        TEST(new_memory_is_nan),
        TEST(memory_outside_a_block_is_guarded),
        TEST(the_host_cannot_touch_device_memory),
        TEST(devices_are_apart),
        TEST(misuse_is_refused),
        TEST(memory_in_use_is_not_freed),
        TEST(shared_memory_must_be_allowed),
        TEST(a_machine_without_devices),
        TEST(devices_describe_themselves),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
