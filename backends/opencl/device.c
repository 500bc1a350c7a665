/* device.c - which devices there are and what they report. */
#include <CL/cl_ext.h>
#include <stdio.h>
#include <string.h>

#include "backends/opencl/opencl.h"

enum { MAX_PLATFORMS = 16, MAX_DEVICES = 32, MOST_TEXT = 1 << 14 };

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

/* A driver's text for a line on a terminal and for JSON: printable ASCII, no blanks around it, cut to `size`. */
static void tidy(const char *text, char *out, size_t size)
{
    size_t n = 0;
    for (text += strspn(text, " "); *text && n + 1 < size; text++)
        out[n++] = *text >= ' ' && *text <= '~' ? *text : '?';
    while (n && out[n - 1] == ' ')
        n--;
    out[n] = 0;
}

/* OpenCL refuses to give the head of a text that is longer than the room for it. */
static void ask_text(query *q, cl_device_info what, char *out, size_t size)
{
    char text[MOST_TEXT] = "";
    ask(q, what, text, sizeof text - 1);
    tidy(text, out, size);
}

static void platform_name(cl_platform_id platform, char *out, size_t size)
{
    char text[1024] = "";
    if (clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof text - 1, text, NULL) != CL_SUCCESS)
        text[0] = 0;
    tidy(text, out, size);
}

static bool has_word(const char *list, const char *word)
{
    const size_t n = strlen(word);
    for (const char *at = strstr(list, word); at; at = strstr(at + 1, word))
        if ((at == list || at[-1] == ' ') && (at[n] == ' ' || !at[n]))
            return true;
    return false;
}

static pol_device_type type_of(cl_device_type type)
{
    return type & CL_DEVICE_TYPE_GPU           ? POL_DEVICE_GPU
           : type & CL_DEVICE_TYPE_ACCELERATOR ? POL_DEVICE_ACCELERATOR
           : type & CL_DEVICE_TYPE_CPU         ? POL_DEVICE_CPU
                                               : POL_DEVICE_OTHER;
}

static void describe(cl_platform_id platform, cl_device_id device, int32_t index, pol_device_info *d)
{
    query q = {.device = device};
    cl_device_type type = 0;
    cl_bool available = CL_FALSE, compiler = CL_FALSE, little = CL_FALSE, unified = CL_FALSE;
    cl_ulong memory = 0, largest = 0;
    cl_uint units = 0, bits = 0;
    char version[128], driver[128], profile[32], extensions[MOST_TEXT];
    int major = 0, minor = 0;
    memset(d, 0, sizeof *d);
    snprintf(d->backend, sizeof d->backend, "opencl");
    d->index = index;
    platform_name(platform, d->platform, sizeof d->platform);
    ask_text(&q, CL_DEVICE_NAME, d->name, sizeof d->name);
    ask_text(&q, CL_DEVICE_VERSION, version, sizeof version);
    ask_text(&q, CL_DRIVER_VERSION, driver, sizeof driver);
    ask_text(&q, CL_DEVICE_PROFILE, profile, sizeof profile);
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
    d->type = type_of(type);
    sscanf(version, "OpenCL %d.%d", &major, &minor);
    snprintf(d->detail, sizeof d->detail, "OpenCL %d.%d, %u compute units, driver %.90s", major, minor, units, driver);
    if (q.failed != CL_SUCCESS)
        snprintf(d->reason, sizeof d->reason, "it does not answer: clGetDeviceInfo: %s (%d)",
                 ocl_code_name(q.failed) ? ocl_code_name(q.failed) : "no known code", q.failed);
    else if (!available)
        snprintf(d->reason, sizeof d->reason, "its driver says that it is not available");
    else if (!compiler)
        snprintf(d->reason, sizeof d->reason, "its driver brings no compiler");
    else if (major < 1 || (major == 1 && minor < 2))
        snprintf(d->reason, sizeof d->reason, "OpenCL %d.%d; 1.2 is needed", major, minor);
    else if (strcmp(profile, "FULL_PROFILE") != 0) /* the embedded one has less local memory, and perhaps no long */
        snprintf(d->reason, sizeof d->reason, "it has not the full profile of OpenCL");
    else if (!little)
        snprintf(d->reason, sizeof d->reason, "it is big-endian");
    else if (bits < 32)
        snprintf(d->reason, sizeof d->reason, "%u address bits; 32 are needed", bits);
    else if (d->type == POL_DEVICE_OTHER)
        snprintf(d->reason, sizeof d->reason, "it is no CPU, GPU or accelerator");
    d->usable = !d->reason[0];
}

/* Called for each device; false: go no further. */
typedef bool visit(void *to, cl_platform_id platform, cl_device_id device, int32_t index);

/* What stands in the way of devices: the first call that failed, if any, and a sentence for people. */
typedef struct obstacle {
    const char *call;
    cl_int code;
    char note[POL_NOTE_BYTES];
} obstacle;

static void failed(obstacle *o, const char *call, cl_int code)
{
    if (o->code != CL_SUCCESS)
        return;
    o->call = call;
    o->code = code;
}

static void add_note(obstacle *o, const char *platform, const char *call, cl_int code)
{
    const size_t n = strlen(o->note);
    const char *name = ocl_code_name(code);
    if (code == CL_DEVICE_NOT_FOUND)
        snprintf(o->note + n, sizeof o->note - n, "%splatform '%.60s' has no device", n ? "; " : "", platform);
    else
        snprintf(o->note + n, sizeof o->note - n, "%s%s%.60s%s%s gives %s (%d)", n ? "; " : "",
                 *platform ? "platform '" : "", platform, *platform ? "': " : "", call, name ? name : "no known code",
                 code);
}

/* No driver at all is CL_PLATFORM_NOT_FOUND_KHR from the loader, or no platform. A platform that does not answer stands
 * in the way of its own devices only. */
static void each_device(visit *fn, void *to, obstacle *o)
{
    cl_platform_id platforms[MAX_PLATFORMS];
    cl_device_id devices[MAX_DEVICES];
    cl_uint n_platforms = 0, n_devices = 0;
    int32_t index = 0;
    *o = (obstacle){.code = CL_SUCCESS};
    const cl_int code = clGetPlatformIDs(MAX_PLATFORMS, platforms, &n_platforms);
    if (code == CL_PLATFORM_NOT_FOUND_KHR || (code == CL_SUCCESS && n_platforms == 0)) {
        snprintf(o->note, sizeof o->note,
                 "no OpenCL driver (ICD) is installed: install the one for your device, or "
                 "pocl-opencl-icd, which computes on the CPU");
        return;
    }
    if (code != CL_SUCCESS) {
        failed(o, "clGetPlatformIDs", code);
        add_note(o, "", "clGetPlatformIDs", code);
        return;
    }
    for (cl_uint p = 0; p < n_platforms && p < MAX_PLATFORMS; p++) {
        char name[128];
        const cl_int asked = clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, MAX_DEVICES, devices, &n_devices);
        if (asked != CL_SUCCESS) {
            platform_name(platforms[p], name, sizeof name);
            add_note(o, name, "clGetDeviceIDs", asked);
            if (asked != CL_DEVICE_NOT_FOUND)
                failed(o, "clGetDeviceIDs", asked);
            continue;
        }
        for (cl_uint i = 0; i < n_devices && i < MAX_DEVICES; i++)
            if (!fn(to, platforms[p], devices[i], index++))
                return;
    }
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

pol_status ocl_list(pol_context *ctx, pol_device_info *out, int64_t cap, int64_t *n, char note[POL_NOTE_BYTES])
{
    obstacle o;
    listing l = {.out = out, .cap = cap, .n = *n};
    each_device(list_one, &l, &o);
    memcpy(note, o.note, sizeof o.note);
    if (l.n == *n && o.code != CL_SUCCESS)
        return pol_fail(ctx, POL_EDEVICE, "backend opencl: %s", o.note);
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
    obstacle o;
    search s = {.index = index};
    each_device(match_one, &s, &o);
    if (!s.found)
        POL_TRY(ocl_check(ctx, "devices", o.call, o.code));
    if (!s.found)
        return pol_fail(ctx, POL_EARG, "opencl: device %d is not there%s%s", index, *o.note ? ": " : "", o.note);
    *platform = s.platform;
    *device = s.device;
    describe(s.platform, s.device, index, info);
    return POL_OK;
}
