/* device.c - which devices there are, what they report, and how one is used: which follows from that, never from a
 * name. */
#include <stdio.h>
#include <string.h>

#include "backends/cuda/cuda.h"

enum {
    LEAST_MAJOR = 8,       /* bf16 in the matrix units */
    MOVE_BYTES = 64 << 20, /* the memory's work for some 0.1 ms */
    STAGING_BYTES = 4 << 20,
    WORKSPACE = 8 << 20,
    HOPPER_WORKSPACE = 32 << 20, /* NVIDIA's advice for 9.0 and later */
};

static int major_of(int version) { return version / 1000; }
static int minor_of(int version) { return version % 1000 / 10; }

/* How many devices; where there are none, or no driver that could tell, a sentence in `note` says what would help. */
static pol_status count(pol_context *ctx, int *n, char note[POL_NOTE_BYTES])
{
    int driver = 0;
    const cudaError_t code = cudaGetDeviceCount(n);
    if (code == cudaSuccess && *n > 0)
        return POL_OK;
    *n = 0;
    if (code == cudaErrorInsufficientDriver) {
        if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
            snprintf(note, POL_NOTE_BYTES, "no NVIDIA driver is installed: install one for CUDA %d.%d or later",
                     major_of(CUDART_VERSION), minor_of(CUDART_VERSION));
        else
            snprintf(note, POL_NOTE_BYTES,
                     "the NVIDIA driver is too old: it is for CUDA %d.%d, and %d.%d or later is needed; a newer driver "
                     "helps",
                     major_of(driver), minor_of(driver), major_of(CUDART_VERSION), minor_of(CUDART_VERSION));
        return POL_OK;
    }
    if (code == cudaSuccess || code == cudaErrorNoDevice) {
        snprintf(note, POL_NOTE_BYTES,
                 "the NVIDIA driver finds no device: one must be in this machine and not be hidden from this process "
                 "(CUDA_VISIBLE_DEVICES, a container's --gpus)");
        return POL_OK;
    }
    const pol_status s = cu_check(ctx, "devices", "cudaGetDeviceCount", code);
    snprintf(note, POL_NOTE_BYTES, "%.*s", POL_NOTE_BYTES - 1, pol_error_text(ctx));
    return s;
}

/* The driver's text for a line on a terminal and for JSON: printable ASCII. */
static void tidy(const char *text, size_t most, char *out, size_t size)
{
    size_t n = 0;
    for (; n < most && text[n] && n + 1 < size; n++)
        out[n] = text[n] >= ' ' && text[n] <= '~' ? text[n] : '?';
    out[n] = 0;
}

/* What a device says of itself; the first failure. */
typedef struct report {
    struct cudaDeviceProp about;
    int major, minor, multiprocessors, shared_bytes, mode;
    const char *failed; /* the entry point; NULL: none */
    cudaError_t code;
} report;

static void ask(report *r, int index)
{
    const struct {
        enum cudaDeviceAttr what;
        int *to;
    } facts[] = {
        {cudaDevAttrComputeCapabilityMajor, &r->major},
        {cudaDevAttrComputeCapabilityMinor, &r->minor},
        {cudaDevAttrMultiProcessorCount, &r->multiprocessors},
        {cudaDevAttrMaxSharedMemoryPerBlockOptin, &r->shared_bytes},
        {cudaDevAttrComputeMode, &r->mode},
    };
    memset(r, 0, sizeof *r);
    r->code = cudaGetDeviceProperties(&r->about, index);
    if (r->code != cudaSuccess)
        r->failed = "cudaGetDeviceProperties";
    for (size_t i = 0; i < POL_COUNT(facts) && !r->failed; i++) {
        r->code = cudaDeviceGetAttribute(facts[i].to, facts[i].what, index);
        if (r->code != cudaSuccess)
            r->failed = "cudaDeviceGetAttribute";
    }
}

static void describe(int index, pol_device_info *d)
{
    report r;
    const int lt = (int)cublasLtGetVersion(); /* 130002 is 13.0.2 */
    ask(&r, index);
    memset(d, 0, sizeof *d);
    snprintf(d->backend, sizeof d->backend, "cuda");
    d->index = index;
    d->type = POL_DEVICE_GPU;
    tidy(r.about.name, sizeof r.about.name, d->name, sizeof d->name);
    d->memory_bytes = r.about.totalGlobalMem;
    d->max_buffer_bytes = d->memory_bytes;
    d->fp16 = true;
    snprintf(d->detail, sizeof d->detail, "sm_%d%d, %d multiprocessors, CUDA %d.%d, cuBLASLt %d.%d", r.major, r.minor,
             r.multiprocessors, major_of(CUDART_VERSION), minor_of(CUDART_VERSION), lt / 10000, lt % 10000 / 100);
    if (r.failed)
        snprintf(d->reason, sizeof d->reason, "it does not answer: %s: %s (%d)", r.failed, cudaGetErrorName(r.code),
                 (int)r.code);
    else if (r.major < LEAST_MAJOR)
        snprintf(d->reason, sizeof d->reason, "its compute capability is %d.%d; %d.0 is needed", r.major, r.minor,
                 LEAST_MAJOR);
    else if (r.mode == cudaComputeModeProhibited)
        snprintf(d->reason, sizeof d->reason, "it is closed to computing (nvidia-smi --compute-mode opens it)");
    d->usable = !d->reason[0];
}

pol_status cu_list(pol_context *ctx, pol_device_info *out, int64_t cap, int64_t *n, char note[POL_NOTE_BYTES])
{
    int devices;
    POL_TRY(count(ctx, &devices, note));
    for (int i = 0; i < devices && *n < cap; i++)
        describe(i, &out[(*n)++]);
    return POL_OK;
}

pol_status cu_describe(pol_context *ctx, int32_t index, pol_device_info *out)
{
    char note[POL_NOTE_BYTES] = "";
    int devices;
    POL_TRY(count(ctx, &devices, note));
    if (index < 0 || index >= devices)
        return pol_fail(ctx, POL_EARG, "cuda: device %d is not there%s%s", index, *note ? ": " : "", note);
    describe(index, out);
    return POL_OK;
}

pol_status cu_profile_of(pol_context *ctx, int32_t index, cu_profile *out)
{
    report r;
    ask(&r, index);
    if (r.failed)
        return cu_check(ctx, "device", r.failed, r.code);
    *out = (cu_profile){.max_shared_bytes = r.shared_bytes,
                        .multiprocessors = r.multiprocessors,
                        .workspace_bytes = r.major >= 9 ? HOPPER_WORKSPACE : WORKSPACE,
                        .staging_bytes = STAGING_BYTES,
                        .move_bytes = MOVE_BYTES,
                        .graphs = true};
    return POL_OK;
}
