/* device.c - which devices there are, what they report, and what follows from it. Nothing here goes by a name. */
#include <CL/cl_ext.h>
#include <stdio.h>
#include <string.h>

#include "backends/opencl/opencl.h"

enum { MAX_PLATFORMS = 16, MAX_DEVICES = 32 };

/* A device being described: a fact that cannot be had leaves its default, and the device is not usable. */
typedef struct query {
    cl_device_id device;
    cl_int failed; /* first code that was not CL_SUCCESS */
} query;

static void ask(query *q, cl_device_info what, void *out, size_t size)
{
    const cl_int code = clGetDeviceInfo(q->device, what, size, out, NULL);
    if (code != CL_SUCCESS && q->failed == CL_SUCCESS)
        q->failed = code;
}

/* Cut to `size`, always ended. OpenCL refuses to give the head of a text that is longer than the room for it. */
static void ask_text(query *q, cl_device_info what, char *out, size_t size)
{
    char text[4096] = "";
    ask(q, what, text, sizeof text - 1);
    snprintf(out, size, "%s", text);
}

static bool has_word(const char *list, const char *word)
{
    const size_t n = strlen(word);
    for (const char *at = strstr(list, word); at; at = strstr(at + 1, word))
        if ((at == list || at[-1] == ' ') && (at[n] == ' ' || !at[n]))
            return true;
    return false;
}

static const char *type_name(cl_device_type type)
{
    return type & CL_DEVICE_TYPE_GPU           ? "GPU"
           : type & CL_DEVICE_TYPE_ACCELERATOR ? "accelerator"
           : type & CL_DEVICE_TYPE_CPU         ? "CPU"
                                               : "custom device";
}

static void describe(cl_platform_id platform, cl_device_id device, int32_t index, pol_device_info *d)
{
    query q = {.device = device};
    cl_device_type type = 0;
    cl_bool available = CL_FALSE, compiler = CL_FALSE, little = CL_FALSE, unified = CL_FALSE;
    cl_ulong memory = 0, largest = 0;
    cl_uint units = 0, bits = 0;
    char version[128], driver[128], extensions[4096], platform_name[128] = "";
    int major = 0, minor = 0;
    memset(d, 0, sizeof *d);
    snprintf(d->backend, sizeof d->backend, "opencl");
    d->index = index;
    clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof platform_name - 1, platform_name, NULL);
    ask_text(&q, CL_DEVICE_NAME, d->name, sizeof d->name);
    ask_text(&q, CL_DEVICE_VERSION, version, sizeof version);
    ask_text(&q, CL_DRIVER_VERSION, driver, sizeof driver);
    ask_text(&q, CL_DEVICE_EXTENSIONS, extensions, sizeof extensions);
    ask(&q, CL_DEVICE_TYPE, &type, sizeof type);
    ask(&q, CL_DEVICE_AVAILABLE, &available, sizeof available);
    ask(&q, CL_DEVICE_COMPILER_AVAILABLE, &compiler, sizeof compiler);
    ask(&q, CL_DEVICE_ENDIAN_LITTLE, &little, sizeof little);
    ask(&q, CL_DEVICE_HOST_UNIFIED_MEMORY, &unified, sizeof unified);
    ask(&q, CL_DEVICE_GLOBAL_MEM_SIZE, &memory, sizeof memory);
    ask(&q, CL_DEVICE_MAX_MEM_ALLOC_SIZE, &largest, sizeof largest);
    ask(&q, CL_DEVICE_MAX_COMPUTE_UNITS, &units, sizeof units);
    ask(&q, CL_DEVICE_ADDRESS_BITS, &bits, sizeof bits);
    d->memory_bytes = memory;
    d->max_buffer_bytes = largest;
    d->fp16 = has_word(extensions, "cl_khr_fp16");
    d->host_memory = unified;
    d->is_cpu = type & CL_DEVICE_TYPE_CPU && !(type & (CL_DEVICE_TYPE_GPU | CL_DEVICE_TYPE_ACCELERATOR));
    snprintf(d->platform, sizeof d->platform, "%s", platform_name);
    sscanf(version, "OpenCL %d.%d", &major, &minor);
    snprintf(d->detail, sizeof d->detail, "%s, OpenCL %d.%d, %u compute units, %s, driver %.60s", type_name(type),
             major, minor, units, d->fp16 ? "fp16" : "no fp16", driver);
    if (q.failed != CL_SUCCESS)
        snprintf(d->reason, sizeof d->reason, "it does not answer: clGetDeviceInfo gives %d", q.failed);
    else if (!available)
        snprintf(d->reason, sizeof d->reason, "its driver says that it is not available");
    else if (!compiler)
        snprintf(d->reason, sizeof d->reason, "its driver brings no compiler");
    else if (major < 1 || (major == 1 && minor < 2))
        snprintf(d->reason, sizeof d->reason, "OpenCL %d.%d; 1.2 is needed", major, minor);
    else if (!little)
        snprintf(d->reason, sizeof d->reason, "it is big-endian");
    else if (bits < 32 || !(type & (CL_DEVICE_TYPE_CPU | CL_DEVICE_TYPE_GPU | CL_DEVICE_TYPE_ACCELERATOR)))
        snprintf(d->reason, sizeof d->reason, "a %s of %u address bits", type_name(type), bits);
    d->usable = !d->reason[0];
}

/* Called for each device; false: go no further. */
typedef bool visit(void *to, cl_platform_id platform, cl_device_id device, int32_t index);

/* No driver at all is CL_PLATFORM_NOT_FOUND_KHR from the loader; a platform may have no device. Neither is a failure.
 */
static pol_status each_device(pol_context *ctx, visit *fn, void *to)
{
    cl_platform_id platforms[MAX_PLATFORMS];
    cl_device_id devices[MAX_DEVICES];
    cl_uint n_platforms = 0, n_devices = 0;
    int32_t index = 0;
    const cl_int none = clGetPlatformIDs(MAX_PLATFORMS, platforms, &n_platforms);
    if (none == CL_PLATFORM_NOT_FOUND_KHR)
        return POL_OK;
    POL_TRY(ocl_check(ctx, "platforms", "clGetPlatformIDs", none));
    for (cl_uint p = 0; p < n_platforms && p < MAX_PLATFORMS; p++) {
        const cl_int code = clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, MAX_DEVICES, devices, &n_devices);
        if (code == CL_DEVICE_NOT_FOUND)
            continue;
        POL_TRY(ocl_check(ctx, "devices", "clGetDeviceIDs", code));
        for (cl_uint i = 0; i < n_devices && i < MAX_DEVICES; i++)
            if (!fn(to, platforms[p], devices[i], index++))
                return POL_OK;
    }
    return POL_OK;
}

typedef struct listing {
    pol_device_info *out;
    int64_t cap, n;
} listing;

static bool list_one(void *to, cl_platform_id platform, cl_device_id device, int32_t index)
{
    listing *l = to;
    if (l->n >= l->cap)
        return false;
    describe(platform, device, index, &l->out[l->n++]);
    return true;
}

pol_status ocl_list(pol_context *ctx, pol_device_info *out, int64_t cap, int64_t *n)
{
    listing l = {.out = out, .cap = cap, .n = *n};
    POL_TRY(each_device(ctx, list_one, &l));
    *n = l.n;
    return POL_OK;
}

typedef struct search {
    int32_t index;
    bool found;
    cl_platform_id platform;
    cl_device_id device;
} search;

static bool match_one(void *to, cl_platform_id platform, cl_device_id device, int32_t index)
{
    search *s = to;
    if (index != s->index)
        return true;
    s->found = true;
    s->platform = platform;
    s->device = device;
    return false;
}

pol_status ocl_find(pol_context *ctx, int32_t index, cl_platform_id *platform, cl_device_id *device,
                    pol_device_info *info)
{
    search s = {.index = index};
    POL_TRY(each_device(ctx, match_one, &s));
    if (!s.found)
        return pol_fail(ctx, POL_EARG, "opencl: device %d is not there", index);
    *platform = s.platform;
    *device = s.device;
    describe(s.platform, s.device, index, info);
    return POL_OK;
}

pol_status ocl_profile_of(pol_context *ctx, cl_device_id device, ocl_profile *out)
{
    enum { USUAL_GROUP = 128, MOST_VECTOR = 16 };
    cl_device_type type = 0;
    cl_ulong largest = 0;
    cl_uint width = 1;
    size_t items = 1;
    OCL_TRY(ctx, "device", clGetDeviceInfo, device, CL_DEVICE_TYPE, sizeof type, &type, NULL);
    OCL_TRY(ctx, "device", clGetDeviceInfo, device, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof largest, &largest, NULL);
    OCL_TRY(ctx, "device", clGetDeviceInfo, device, CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, sizeof width, &width, NULL);
    OCL_TRY(ctx, "device", clGetDeviceInfo, device, CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof items, &items, NULL);
    *out = (ocl_profile){.vector = 1, .group = 1, .piece_bytes = largest};
    out->barriers = !(type & CL_DEVICE_TYPE_CPU);
    while (2 * out->vector <= (int)pol_min_i64(width, MOST_VECTOR))
        out->vector *= 2;
    while (2 * out->group <= (int)pol_min_i64((int64_t)items, USUAL_GROUP))
        out->group *= 2;
    return POL_OK;
}
