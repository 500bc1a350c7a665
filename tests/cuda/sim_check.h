/* sim_check.h - what the tests of the simulator itself share. */
#ifndef POL_SIM_CHECK_H
#define POL_SIM_CHECK_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include <cmocka.h> /* after those it builds on */
}

#include <cublasLt.h>
#include <cuda_runtime.h>
#include <initializer_list>

#include "tests/cuda/sim/sim.h"
#include "tests/cuda/sim/sim_control.h"

enum { SEEDS = 40 }; /* orders to try: what may go wrong does so in at least one, what may not in none */

#define assert_cuda_is(call, code)                                                                   \
    do {                                                                                             \
        const cudaError_t is_e_ = (call);                                                            \
        if (is_e_ != (code))                                                                         \
            fail_msg("%s: %s, expected %s", #call, cudaGetErrorName(is_e_), cudaGetErrorName(code)); \
    } while (0)
#define assert_cuda(call) assert_cuda_is(call, cudaSuccess)

/* NaN fails. */
#define assert_float(x, expected)                                     \
    do {                                                              \
        const double float_x_ = (x), float_e_ = (expected);           \
        if (!(float_x_ == float_e_))                                  \
            fail_msg("%s = %g, expected %g", #x, float_x_, float_e_); \
    } while (0)

/* The call is refused, and counted as a misuse. */
#define assert_misuse(call, code)                              \
    do {                                                       \
        const int64_t misuses_ = sim_counted().misuses;        \
        assert_cuda_is(call, code);                            \
        assert_int_equal(sim_counted().misuses, misuses_ + 1); \
    } while (0)

static inline cudaStream_t new_stream()
{
    cudaStream_t s;
    assert_cuda(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    return s;
}

static inline cudaEvent_t new_event(unsigned flags = cudaEventDisableTiming)
{
    cudaEvent_t e;
    assert_cuda(cudaEventCreateWithFlags(&e, flags));
    return e;
}

template <class T> static inline T *new_device(size_t n)
{
    void *p;
    assert_cuda(cudaMalloc(&p, n * sizeof(T)));
    return static_cast<T *>(p);
}

template <class T> static inline T *new_pinned(size_t n)
{
    void *p;
    assert_cuda(cudaMallocHost(&p, n * sizeof(T)));
    return static_cast<T *>(p);
}

template <class T> static inline void put(cudaStream_t s, T *device, const T *host, size_t n)
{
    assert_cuda(cudaMemcpyAsync(device, host, n * sizeof(T), cudaMemcpyHostToDevice, s));
}

template <class T> static inline void get(cudaStream_t s, T *host, const T *device, size_t n)
{
    assert_cuda(cudaMemcpyAsync(host, device, n * sizeof(T), cudaMemcpyDeviceToHost, s));
}

/* A kernel that sets one number. */
static inline cudaError_t set_later(cudaStream_t s, float *to, float value)
{
    return sim_enqueue(s, "set", [=] { *to = value; });
}

/* Whether a child process that does this comes to a bad end. */
template <class F> static inline bool ends_badly(F f)
{
    fflush(stdout);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(0);
        for (int caught : {SIGSEGV, SIGBUS, SIGABRT}) /* by cmocka */
            signal(caught, SIG_DFL);
        _exit(f() ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status != 0;
}

/* The machine as these variables say, each "NAME=VALUE"; those not named are unset. */
static inline void restart(std::initializer_list<const char *> environment = {})
{
    for (const char *name : {"POLLARD_SIM_DEVICES", "POLLARD_SIM_MEMORY", "POLLARD_SIM_ARCH", "POLLARD_SIM_SEED",
                             "POLLARD_SIM_FAIL", "POLLARD_SIM_REPORT"})
        unsetenv(name);
    for (const char *e : environment)
        putenv(const_cast<char *>(e));
    sim_restart();
}

#endif
