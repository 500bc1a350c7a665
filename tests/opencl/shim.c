/* shim.c - OpenCL with faults. See shim.h. */
#include "tests/opencl/shim.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const shim_names[SHIM_END] = {[SHIM_ANY] = "any",
#define X(name) [SHIM_##name] = #name,
                                          SHIM_ENTRIES(X)
#undef X
};

enum { MOST_OBJECTS = 4096, MOST_ANSWERS = 8 };

typedef struct object {
    const void *handle;
    shim_entry made_by;
    shim_owner owner;
} object;

static struct {
    int64_t calls[SHIM_END];
    shim_entry entry, failed;
    int64_t n; /* 0: no fault */
    cl_int code;
    shim_span span;
    const char *log;
    size_t log_size;
    struct {
        cl_device_info what;
        uint64_t value;
    } answers[MOST_ANSWERS];
    int n_answers;
} shim;

static object objects[MOST_OBJECTS];
static int n_objects;

static _Noreturn void die(const char *why, const char *of)
{
    fprintf(stderr, "shim: %s: %s\n", of, why);
    abort();
}

/* ---- steering ---- */

void shim_reset(void) { memset(&shim, 0, sizeof shim); }

void shim_fail(shim_entry entry, int64_t n, cl_int code, shim_span span)
{
    shim.entry = entry;
    shim.n = n;
    shim.code = code;
    shim.span = span;
}

shim_entry shim_failed(void) { return shim.failed; }
int64_t shim_calls(shim_entry entry) { return shim.calls[entry]; }

void shim_build_log(const char *text, size_t claimed)
{
    shim.log = text;
    shim.log_size = claimed;
}

void shim_device_info(cl_device_info what, uint64_t value)
{
    if (shim.n_answers == MOST_ANSWERS)
        die("too many answers", "shim_device_info");
    shim.answers[shim.n_answers].what = what;
    shim.answers[shim.n_answers++].value = value;
}

static void fail_as_told(const char *told)
{
    char name[64], more[2] = "";
    long long n;
    int code;
    if (sscanf(told, "%63[A-Za-z]:%lld%1[+*]:%d", name, &n, more, &code) != 4 &&
        sscanf(told, "%63[A-Za-z]:%lld:%d", name, &n, &code) != 3)
        die("not ENTRY:N:CODE", told);
    for (int e = 0; e < SHIM_END; e++)
        if (strcmp(shim_names[e], name) == 0) {
            shim_fail((shim_entry)e, n, code, *more == '*' ? SHIM_LOST : *more ? SHIM_LASTING : SHIM_ONCE);
            return;
        }
    die("no such entry", told);
}

static void write_counts(void)
{
    FILE *f = fopen(getenv("POLLARD_SHIM_COUNTS"), "w");
    if (!f)
        die("cannot be written", getenv("POLLARD_SHIM_COUNTS"));
    for (int e = 0; e < SHIM_END; e++)
        fprintf(f, "%s %lld\n", shim_names[e], (long long)shim.calls[e]);
    fclose(f);
}

__attribute__((constructor)) static void obey_environment(void)
{
    const char *fail = getenv("POLLARD_SHIM_FAIL"), *log = getenv("POLLARD_SHIM_LOG"),
               *device = getenv("POLLARD_SHIM_DEVICE");
    if (fail)
        fail_as_told(fail);
    if (log)
        shim_build_log(log, strlen(log) + 1);
    if (device) {
        char *end;
        const unsigned long what = strtoul(device, &end, 0);
        if (*end != ':')
            die("not WHAT:VALUE", device);
        shim_device_info((cl_device_info)what, strtoull(end + 1, NULL, 0));
    }
    if (getenv("POLLARD_SHIM_COUNTS"))
        atexit(write_counts);
}

/* ---- what every call goes through ---- */

/* The code that this call has to give. */
static cl_int enter(shim_entry entry)
{
    shim.calls[SHIM_ANY]++;
    shim.calls[entry]++;
    if (!shim.n)
        return CL_SUCCESS;
    const int64_t n = shim.calls[shim.entry];
    const bool meant = shim.entry == SHIM_ANY || shim.entry == entry, lost = shim.span == SHIM_LOST && shim.failed;
    if (!lost && !(meant && (n == shim.n || (shim.span == SHIM_LASTING && n > shim.n))))
        return CL_SUCCESS;
    if (!shim.failed)
        shim.failed = entry;
    return shim.code;
}

/* The driver's own, by way of the loader. POSIX has this way of getting at a function. */
static void find(shim_entry entry, void **real)
{
    if (!*real)
        *real = dlsym(RTLD_NEXT, shim_names[entry]);
    if (!*real)
        die("not in the OpenCL library", shim_names[entry]);
}

#define REAL(name)                 \
    static __typeof__(&name) real; \
    find(SHIM_##name, (void **)&real)

static void made(const void *handle, shim_entry by, const void *caller)
{
    Dl_info from;
    if (!handle)
        return;
    if (n_objects == MOST_OBJECTS)
        die("too many objects", shim_names[by]);
    const bool clblast = dladdr(caller, &from) && strstr(from.dli_fname, "libclblast");
    objects[n_objects++] = (object){handle, by, clblast ? SHIM_CLBLAST : SHIM_OURS};
}

static void released(const void *handle, shim_entry by)
{
    for (int i = n_objects - 1; i >= 0; i--)
        if (objects[i].handle == handle) {
            objects[i] = objects[--n_objects];
            return;
        }
    die("of what is not there", shim_names[by]);
}

int64_t shim_live(shim_owner owner)
{
    int64_t n = 0;
    for (int i = 0; i < n_objects; i++)
        n += objects[i].owner == owner;
    return n;
}

const char *shim_live_text(shim_owner owner, char *out, size_t size)
{
    size_t n = 0;
    *out = 0;
    for (int i = 0; i < n_objects && n < size; i++)
        if (objects[i].owner == owner)
            n += (size_t)snprintf(out + n, size - n, "%s%s", n ? " " : "", shim_names[objects[i].made_by]);
    return out;
}

/* ---- the entry points ---- */

#define EXPORTED __attribute__((visibility("default"))) CL_API_ENTRY

/* Calls that give a code. */
#define CALL(name, parameters, ...)                           \
    EXPORTED cl_int CL_API_CALL name parameters               \
    {                                                         \
        REAL(name);                                           \
        const cl_int code = enter(SHIM_##name);               \
        return code == CL_SUCCESS ? real(__VA_ARGS__) : code; \
    }

/* The same, giving an event where one is asked for. */
#define QUEUE(name, parameters, ...)                                \
    EXPORTED cl_int CL_API_CALL name parameters                     \
    {                                                               \
        REAL(name);                                                 \
        cl_int code = enter(SHIM_##name);                           \
        if (code == CL_SUCCESS)                                     \
            code = real(__VA_ARGS__);                               \
        if (code == CL_SUCCESS && event)                            \
            made(*event, SHIM_##name, __builtin_return_address(0)); \
        return code;                                                \
    }

/* Calls that give an object. */
#define MAKE(type, name, parameters, ...)                    \
    EXPORTED type CL_API_CALL name parameters                \
    {                                                        \
        REAL(name);                                          \
        const cl_int fault = enter(SHIM_##name);             \
        if (fault != CL_SUCCESS) {                           \
            if (code)                                        \
                *code = fault;                               \
            return NULL;                                     \
        }                                                    \
        const type out = real(__VA_ARGS__);                  \
        made(out, SHIM_##name, __builtin_return_address(0)); \
        return out;                                          \
    }

#define RELEASE(name, type)                        \
    EXPORTED cl_int CL_API_CALL name(type it)      \
    {                                              \
        REAL(name);                                \
        const cl_int fault = enter(SHIM_##name);   \
        released(it, SHIM_##name);                 \
        const cl_int code = real(it);              \
        return fault == CL_SUCCESS ? code : fault; \
    }

#define WAITS cl_uint n_waits, const cl_event *waits, cl_event *event
#define ANSWER size_t size, void *value, size_t *size_out

CALL(clGetPlatformIDs, (cl_uint n, cl_platform_id *out, cl_uint *n_out), n, out, n_out)
CALL(clGetPlatformInfo, (cl_platform_id p, cl_platform_info what, ANSWER), p, what, size, value, size_out)
CALL(clGetDeviceIDs, (cl_platform_id p, cl_device_type type, cl_uint n, cl_device_id *out, cl_uint *n_out), p, type, n,
     out, n_out)
CALL(clGetCommandQueueInfo, (cl_command_queue q, cl_command_queue_info what, ANSWER), q, what, size, value, size_out)
CALL(clGetEventProfilingInfo, (cl_event e, cl_profiling_info what, ANSWER), e, what, size, value, size_out)
CALL(clGetKernelWorkGroupInfo, (cl_kernel k, cl_device_id d, cl_kernel_work_group_info what, ANSWER), k, d, what, size,
     value, size_out)
CALL(clGetMemObjectInfo, (cl_mem m, cl_mem_info what, ANSWER), m, what, size, value, size_out)
CALL(clGetProgramInfo, (cl_program p, cl_program_info what, ANSWER), p, what, size, value, size_out)
CALL(clSetKernelArg, (cl_kernel k, cl_uint i, size_t size, const void *value), k, i, size, value)
CALL(clBuildProgram,
     (cl_program p, cl_uint n, const cl_device_id *devices, const char *options,
      void(CL_CALLBACK *done)(cl_program, void *), void *user),
     p, n, devices, options, done, user)
CALL(clWaitForEvents, (cl_uint n, const cl_event *events), n, events)

QUEUE(clEnqueueCopyBuffer, (cl_command_queue q, cl_mem from, cl_mem to, size_t from_at, size_t to_at, size_t n, WAITS),
      q, from, to, from_at, to_at, n, n_waits, waits, event)
QUEUE(clEnqueueFillBuffer,
      (cl_command_queue q, cl_mem m, const void *pattern, size_t pattern_size, size_t at, size_t n, WAITS), q, m,
      pattern, pattern_size, at, n, n_waits, waits, event)
QUEUE(clEnqueueMarkerWithWaitList, (cl_command_queue q, WAITS), q, n_waits, waits, event)
QUEUE(clEnqueueNDRangeKernel,
      (cl_command_queue q, cl_kernel k, cl_uint dims, const size_t *offset, const size_t *global, const size_t *local,
       WAITS),
      q, k, dims, offset, global, local, n_waits, waits, event)
QUEUE(clEnqueueReadBuffer, (cl_command_queue q, cl_mem m, cl_bool wait, size_t at, size_t n, void *to, WAITS), q, m,
      wait, at, n, to, n_waits, waits, event)
QUEUE(clEnqueueWriteBuffer, (cl_command_queue q, cl_mem m, cl_bool wait, size_t at, size_t n, const void *from, WAITS),
      q, m, wait, at, n, from, n_waits, waits, event)

MAKE(cl_mem, clCreateBuffer, (cl_context c, cl_mem_flags flags, size_t n, void *host, cl_int *code), c, flags, n, host,
     code)
MAKE(cl_mem, clCreateSubBuffer,
     (cl_mem m, cl_mem_flags flags, cl_buffer_create_type type, const void *info, cl_int *code), m, flags, type, info,
     code)
MAKE(cl_command_queue, clCreateCommandQueue,
     (cl_context c, cl_device_id d, cl_command_queue_properties properties, cl_int *code), c, d, properties, code)
MAKE(cl_context, clCreateContext,
     (const cl_context_properties *properties, cl_uint n, const cl_device_id *devices,
      void(CL_CALLBACK *notify)(const char *, const void *, size_t, void *), void *user, cl_int *code),
     properties, n, devices, notify, user, code)
MAKE(cl_kernel, clCreateKernel, (cl_program p, const char *name, cl_int *code), p, name, code)
MAKE(cl_program, clCreateProgramWithBinary,
     (cl_context c, cl_uint n, const cl_device_id *devices, const size_t *sizes, const unsigned char **binaries,
      cl_int *states, cl_int *code),
     c, n, devices, sizes, binaries, states, code)
MAKE(cl_program, clCreateProgramWithSource,
     (cl_context c, cl_uint n, const char **texts, const size_t *sizes, cl_int *code), c, n, texts, sizes, code)

RELEASE(clReleaseCommandQueue, cl_command_queue)
RELEASE(clReleaseContext, cl_context)
RELEASE(clReleaseEvent, cl_event)
RELEASE(clReleaseKernel, cl_kernel)
RELEASE(clReleaseMemObject, cl_mem)
RELEASE(clReleaseProgram, cl_program)

/* ---- the entry points that are particular ---- */

/* One that fails has waited all the same: what is queued may read host memory that its owner is about to free. */
EXPORTED cl_int CL_API_CALL clFinish(cl_command_queue q)
{
    REAL(clFinish);
    const cl_int fault = enter(SHIM_clFinish), code = real(q);
    return fault == CL_SUCCESS ? code : fault;
}

EXPORTED cl_int CL_API_CALL clGetDeviceInfo(cl_device_id d, cl_device_info what, ANSWER)
{
    REAL(clGetDeviceInfo);
    const cl_int fault = enter(SHIM_clGetDeviceInfo);
    if (fault != CL_SUCCESS)
        return fault;
    for (int i = 0; i < shim.n_answers; i++)
        if (shim.answers[i].what == what && value) {
            memset(value, 0, size);
            memcpy(value, &shim.answers[i].value, size < sizeof(uint64_t) ? size : sizeof(uint64_t));
            return CL_SUCCESS;
        }
    return real(d, what, size, value, size_out);
}

EXPORTED cl_int CL_API_CALL clGetProgramBuildInfo(cl_program p, cl_device_id d, cl_program_build_info what, ANSWER)
{
    REAL(clGetProgramBuildInfo);
    const cl_int fault = enter(SHIM_clGetProgramBuildInfo);
    if (fault != CL_SUCCESS)
        return fault;
    if (!shim.log || what != CL_PROGRAM_BUILD_LOG)
        return real(p, d, what, size, value, size_out);
    const size_t n = strlen(shim.log) + 1;
    if (size_out)
        *size_out = shim.log_size;
    if (value)
        memcpy(value, shim.log, size < n ? size : n);
    return CL_SUCCESS;
}
