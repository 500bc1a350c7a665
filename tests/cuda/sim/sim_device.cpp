/* sim_device.cpp - the simulated devices and what they say of themselves; versions; names of errors. */
#include <cstdio>

#include "sim_runtime.h"

using namespace sim;

namespace sim
{

enum { THREADS_PER_BLOCK = 1024 };

/* Of the best known card of an architecture. */
const device_figures &figures_of(int arch)
{
    static const device_figures sm_80 = {108, 166912, 167936, 40 << 20, 2048, 5120};
    static const device_figures sm_86 = {84, 101376, 102400, 6 << 20, 1536, 384};
    static const device_figures sm_89 = {128, 101376, 102400, 72 << 20, 1536, 384};
    static const device_figures sm_90 = {132, 232448, 233472, 50 << 20, 2048, 5120};
    switch (arch) {
    case 86: return sm_86;
    case 89: return sm_89;
    case 90: return sm_90;
    default: return sm_80;
    }
}

static bool is_device(int device) { return device >= 0 && (size_t)device < the_machine().devices.size(); }

} // namespace sim

#define X(name, value, text) {name, #name, text},
static const struct {
    cudaError_t code;
    const char *name, *text;
} errors[] = {SIM_ERROR_LIST(X)};
#undef X

const char *cudaGetErrorName(cudaError_t error)
{
    for (const auto &e : errors)
        if (e.code == error)
            return e.name;
    return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error)
{
    for (const auto &e : errors)
        if (e.code == error)
            return e.text;
    return "unrecognized error code";
}

cudaError_t cudaDriverGetVersion(int *driverVersion)
{
    return call("cudaDriverGetVersion", UNTROUBLED | DRIVERLESS, [&] {
        *driverVersion = the_machine().driver_version;
        return cudaSuccess;
    });
}

cudaError_t cudaRuntimeGetVersion(int *runtimeVersion)
{
    return call("cudaRuntimeGetVersion", UNTROUBLED | DRIVERLESS, [&] {
        *runtimeVersion = CUDART_VERSION;
        return cudaSuccess;
    });
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 0;
    return call("cudaGetDeviceCount", UNTROUBLED, [&] {
        *count = (int)the_machine().devices.size();
        return cudaSuccess;
    });
}

cudaError_t cudaSetDevice(int device)
{
    return call("cudaSetDevice", UNTROUBLED, [&] {
        if (!is_device(device))
            return cudaErrorInvalidDevice;
        current_device() = device;
        return cudaSuccess;
    });
}

cudaError_t cudaGetDevice(int *device)
{
    return call("cudaGetDevice", UNTROUBLED, [&] {
        *device = current_device();
        return cudaSuccess;
    });
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int device)
{
    return call("cudaGetDeviceProperties", UNTROUBLED, [&] {
        if (!is_device(device))
            return cudaErrorInvalidDevice;
        const machine &m = the_machine();
        const device_figures &f = figures_of(m.arch);
        *prop = {};
        snprintf(prop->name, sizeof prop->name, "Simulated sm_%d", m.arch);
        prop->totalGlobalMem = (size_t)m.memory_bytes;
        prop->sharedMemPerBlock = SIM_SHARED_WITHOUT_ASKING;
        prop->warpSize = warpSize;
        prop->maxThreadsPerBlock = THREADS_PER_BLOCK;
        prop->major = m.arch / 10;
        prop->minor = m.arch % 10;
        prop->multiProcessorCount = f.multiprocessors;
        prop->ECCEnabled = 1;
        prop->pciBusID = device + 1;
        prop->asyncEngineCount = 2;
        prop->unifiedAddressing = 1;
        prop->memoryBusWidth = f.bus_bits;
        prop->l2CacheSize = f.l2_bytes;
        prop->maxThreadsPerMultiProcessor = f.threads_per_multiprocessor;
        prop->sharedMemPerMultiprocessor = f.shared_per_multiprocessor;
        prop->sharedMemPerBlockOptin = f.shared_per_block;
        return cudaSuccess;
    });
}

static bool attribute(cudaDeviceAttr attr, int *value)
{
    const int arch = the_machine().arch;
    const device_figures &f = figures_of(arch);
    switch (attr) {
    case cudaDevAttrMaxThreadsPerBlock: *value = THREADS_PER_BLOCK; return true;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = SIM_SHARED_WITHOUT_ASKING; return true;
    case cudaDevAttrWarpSize: *value = warpSize; return true;
    case cudaDevAttrMultiProcessorCount: *value = f.multiprocessors; return true;
    case cudaDevAttrIntegrated: *value = 0; return true;
    case cudaDevAttrComputeMode: *value = the_machine().compute_mode; return true;
    case cudaDevAttrEccEnabled: *value = 1; return true;
    case cudaDevAttrL2CacheSize: *value = f.l2_bytes; return true;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = f.threads_per_multiprocessor; return true;
    case cudaDevAttrAsyncEngineCount: *value = 2; return true;
    case cudaDevAttrUnifiedAddressing: *value = 1; return true;
    case cudaDevAttrComputeCapabilityMajor: *value = arch / 10; return true;
    case cudaDevAttrComputeCapabilityMinor: *value = arch % 10; return true;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = f.shared_per_multiprocessor; return true;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = f.shared_per_block; return true;
    }
    return false;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attr, int device)
{
    return call("cudaDeviceGetAttribute", UNTROUBLED, [&] {
        if (!is_device(device))
            return cudaErrorInvalidDevice;
        return attribute(attr, value) ? cudaSuccess : cudaErrorInvalidValue;
    });
}

/* That a kernel may be launched with so much shared memory on the current device. */
cudaError_t cudaFuncSetAttribute(const void *func, enum cudaFuncAttribute attr, int value)
{
    return call("cudaFuncSetAttribute", PLAIN, [&] {
        if (!func)
            return cudaErrorInvalidDeviceFunction;
        machine &m = the_machine();
        if (attr != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
            value > figures_of(m.arch).shared_per_block)
            return cudaErrorInvalidValue;
        int &allowed = m.devices[(size_t)current_device()].shared_allowed[func];
        if (value < allowed)
            return misuse(cudaErrorInvalidValue,
                          "cudaFuncSetAttribute: %d bytes of shared memory, where a graph may count on %d", value,
                          allowed);
        allowed = value;
        return cudaSuccess;
    });
}

cudaError_t sim_check_shared(const void *kernel, size_t shared_bytes)
{
    const std::lock_guard<std::recursive_mutex> lock(the_lock());
    if (shared_bytes <= SIM_SHARED_WITHOUT_ASKING || the_machine().absent)
        return cudaSuccess;
    const auto &allowed = the_machine().devices[(size_t)current_device()].shared_allowed;
    const auto found = allowed.find(kernel);
    return found != allowed.end() && shared_bytes <= (size_t)found->second ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaDeviceSynchronize(void)
{
    return call("cudaDeviceSynchronize", UNSAFE, [&] {
        for (const auto &s : the_machine().streams.live)
            if (s->device == current_device() && s->capturing)
                return spoil(s.get(), cudaErrorStreamCaptureUnsupported);
        return finish_device(current_device());
    });
}

/* Whatever the device has is gone, what waits on its streams too. Pinned memory belongs to no device. */
cudaError_t cudaDeviceReset(void)
{
    return call("cudaDeviceReset", UNSAFE | UNTROUBLED, [&] {
        machine &m = the_machine();
        const int device = current_device();
        fail_device(device, cudaSuccess);
        m.streams.release_of(device);
        m.events.release_of(device);
        m.graphs.release_of(device);
        m.executables.release_of(device);
        m.lt_handles.release_of(device);
        free_memory_of(device);
        m.devices[(size_t)device].shared_allowed.clear();
        return cudaSuccess;
    });
}
