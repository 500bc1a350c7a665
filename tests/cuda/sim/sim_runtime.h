/* sim_runtime.h - what the parts of the simulated runtime share: the machine's state, and how a call enters it.
 *
 *   sim_call.cpp     how a call begins and ends: counting, planned failures, errors that stay; sim_control.h
 *   sim_device.cpp   devices and what they say of themselves, versions, names of errors
 *   sim_memory.cpp   device and pinned memory, copies
 *   sim_stream.cpp   streams, events, and the order in which work is done
 *   sim_graph.cpp    captures and graphs
 *   sim_lt.cpp       cuBLASLt: its objects, what it refuses;  sim_product.cpp  its product
 *
 * Every call holds one lock to its end, kernels that run inside it included: the simulator knows no parallelism.
 */
#ifndef SIM_RUNTIME_H
#define SIM_RUNTIME_H

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "sim.h"
#include "sim_control.h"

namespace sim
{

/* Where a stream was when an event was recorded on it. */
struct mark {
    bool reached = false;
    double seconds = 0;
};

/* What waits on a stream. Not every one has work: some only mark a place, or wait for one. */
struct operation {
    const char *what;
    std::function<cudaError_t()> work;
    std::shared_ptr<mark> awaits, marks;
    cudaError_t late_failure = cudaSuccess;

    operation(const char *name, std::function<cudaError_t()> does) : what(name), work(std::move(does)) {}
};

struct capture {
    cudaStreamCaptureMode mode;
    std::thread::id thread;
    bool invalid = false;
    std::vector<operation> operations;
};

/* Device memory, in pages of its own. They are closed but while work of the device runs. */
struct block {
    int device;
    char *at;
    size_t bytes;
    char *pages;
    size_t page_bytes;
};

struct device {
    cudaError_t sticky = cudaSuccess;           /* what every call returns since a fault */
    uint64_t used = 0;                          /* bytes of memory */
    std::map<const void *, int> shared_allowed; /* to a kernel, bytes */
    int streams_made = 0;
};

/* The live objects of a type, in the order they were made. Released ones are kept apart, so that no new object has the
 * address of an old one and a stale handle is always seen. */
template <class T> struct objects {
    std::vector<std::unique_ptr<T>> live, released;

    T *add(std::unique_ptr<T> made)
    {
        live.push_back(std::move(made));
        return live.back().get();
    }
    T *find(const void *handle) const
    {
        for (const auto &o : live)
            if (o.get() == handle)
                return o.get();
        return nullptr;
    }
    template <class Which> bool release_if(Which which)
    {
        bool any = false;
        for (size_t i = 0; i < live.size();) {
            if (which(*live[i])) {
                released.push_back(std::move(live[i]));
                live.erase(live.begin() + (std::ptrdiff_t)i);
                any = true;
            } else {
                i++;
            }
        }
        return any;
    }
    bool release(const void *handle)
    {
        return release_if([&](const T &o) { return &o == handle; });
    }
    void release_of(int device)
    {
        release_if([&](const T &o) { return o.device == device; });
    }
};

struct product_description;
struct matrix_layout;
struct product_preference;

} // namespace sim

struct CUstream_st {
    int device;
    int number; /* on its device, by the order of creation; -1: the null stream */
    std::deque<sim::operation> queue;
    std::shared_ptr<sim::capture> capturing;
    int64_t bytes_copied = 0;

    CUstream_st(int on, int nth) : device(on), number(nth) {}
};

struct CUevent_st {
    int device;
    bool timed;
    std::shared_ptr<sim::mark> last;
    std::shared_ptr<sim::capture> captured; /* recorded last on a stream that was being captured */
};

struct CUgraph_st {
    int device;
    std::vector<sim::operation> operations;
};

struct CUgraphExec_st {
    int device;
    std::vector<sim::operation> operations;
};

struct cublasLtContext {
    int device;
};

namespace sim
{

struct planned_failure {
    std::string entry_point;
    int64_t calls_left;
    int code;
};

/* Everything there is between one sim_restart and the next. */
struct machine {
    int absent = 0; /* what calls return where no device can be used */
    int driver_version = CUDART_VERSION;
    uint64_t memory_bytes = 0;
    int arch = 80;
    int compute_mode = cudaComputeModeDefault;
    uint64_t random_state = 0;
    std::string report;

    std::vector<device> devices;
    std::map<char *, block> blocks;  /* by where they begin */
    std::map<char *, size_t> pinned; /* their sizes, by where they begin */
    objects<CUstream_st> streams;
    std::vector<std::unique_ptr<CUstream_st>> null_streams; /* one a device */
    objects<CUevent_st> events;
    objects<CUgraph_st> graphs;
    objects<CUgraphExec_st> executables;
    objects<cublasLtContext> lt_handles;
    objects<product_description> descriptions;
    objects<matrix_layout> layouts;
    objects<product_preference> preferences;

    std::vector<planned_failure> failures, late_failures;
    std::map<std::string, int64_t> calls;
    sim_counts counts = {};
    CUstream_st *favoured = nullptr; /* sim_stream.cpp: whose turn it is, and about how long that lasts */
    uint64_t patience = 1;
    int opened = -1; /* the device whose memory is open */

    machine(); /* as the environment says */
    ~machine();
};

machine &the_machine();
std::recursive_mutex &the_lock();
int &current_device(); /* of this thread */

/* A line on stderr; counted. Returns what the call is to return. */
cudaError_t misuse(cudaError_t code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* How a call begins. */
enum kind : unsigned {
    PLAIN = 0,
    UNSAFE = 1,     /* not while a stream is being captured: it may wait for the device, or change what it may touch */
    RELEASES = 2,   /* is done whatever it returns */
    UNTROUBLED = 4, /* works on a device that has failed */
    DRIVERLESS = 8  /* works without a driver */
};
enum class admission { granted, planned_failure, no_driver, capturing, device_failed };
struct admitted {
    admission why;
    int code;
};
admitted begin_call(const char *entry_point, unsigned kind);
cudaError_t end_call(cudaError_t code); /* remembers it for cudaGetLastError */

template <class F> cudaError_t call(const char *entry_point, unsigned kind, F body)
{
    const std::lock_guard<std::recursive_mutex> lock(the_lock());
    const admitted in = begin_call(entry_point, kind);
    cudaError_t code = (cudaError_t)in.code;
    const bool all_the_same =
        kind & RELEASES && (in.why == admission::planned_failure || in.why == admission::device_failed);
    if (in.why == admission::granted)
        code = body();
    else if (all_the_same)
        (void)body();
    return end_call(code);
}

cudaError_t late_failure_due(); /* the code that the next operation fails with; cudaSuccess: none */
uint64_t random_below(uint64_t n);

/* A live stream of a device that has not failed; the null stream is a misuse. */
cudaError_t find_stream(const char *entry_point, cudaStream_t handle, CUstream_st **out);
/* The same, for work that wants the stream's device to be the current one. */
cudaError_t find_current_stream(const char *entry_point, cudaStream_t handle, CUstream_st **out);
cudaError_t find_event(const char *entry_point, cudaEvent_t handle, CUevent_st **out);

/* Puts an operation on a stream, or into what is being captured on it. */
cudaError_t put(CUstream_st *s, operation op);
bool is_idle(int device);
/* That all work of a device, or of a stream, is done. Returns what the device then says. */
cudaError_t finish_device(int device);
cudaError_t finish_stream(CUstream_st *s);
/* The device fails: what waits on its streams is gone. */
void fail_device(int device, cudaError_t code);

/* The block that holds all of these bytes, or NULL. */
const block *block_of(const void *at, size_t bytes);
void free_memory_of(int device);
void free_all_memory(machine &m);
/* Opens the memory of a device and closes that of the others; -1 closes all. */
void open_device(int device);
/* Whether what lies around the blocks of the open device is still as it was. */
bool surroundings_are_intact();

struct device_figures {
    int multiprocessors, shared_per_block, shared_per_multiprocessor, l2_bytes, threads_per_multiprocessor, bus_bits;
};
const device_figures &figures_of(int arch);

/* Invalidates the capture on a stream, as what is not allowed during one does; returns `code`. */
cudaError_t spoil(CUstream_st *s, cudaError_t code);

} // namespace sim

#endif
