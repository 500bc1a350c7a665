/* shim.h - OpenCL with faults, for tests. shim.c defines the entry points that we and CLBlast call and hands each call
 * on to the real one, unless it has been told to fail. Linked into a test it is steered by these functions; preloaded
 * into a program (LD_PRELOAD), by the environment:
 *
 *   POLLARD_SHIM_FAIL    ENTRY:N:CODE    the N-th call of ENTRY, or of all with ENTRY "any", gives CODE
 *                        ENTRY:N+:CODE   and so do all calls of ENTRY after it
 *                        ENTRY:N*:CODE   and so do all calls of any entry after it
 *   POLLARD_SHIM_LOG     what the compiler says of every program
 *   POLLARD_SHIM_DEVICE  WHAT:VALUE      clGetDeviceInfo(WHAT) gives VALUE
 *   POLLARD_SHIM_COUNTS  a file that the counts are written to at exit, as lines "ENTRY CALLS"
 *
 * Not for several threads at once.
 */
#ifndef POL_TEST_SHIM_H
#define POL_TEST_SHIM_H

#include <CL/cl.h>
#include <stdint.h>

/* Those that answer, those that queue, those that make, those that release. */
#define SHIM_ENTRIES(X)            \
    X(clGetPlatformIDs)            \
    X(clGetPlatformInfo)           \
    X(clGetDeviceIDs)              \
    X(clGetDeviceInfo)             \
    X(clGetCommandQueueInfo)       \
    X(clGetEventProfilingInfo)     \
    X(clGetKernelWorkGroupInfo)    \
    X(clGetMemObjectInfo)          \
    X(clGetProgramBuildInfo)       \
    X(clGetProgramInfo)            \
    X(clSetKernelArg)              \
    X(clBuildProgram)              \
    X(clFinish)                    \
    X(clWaitForEvents)             \
    X(clEnqueueCopyBuffer)         \
    X(clEnqueueFillBuffer)         \
    X(clEnqueueMarkerWithWaitList) \
    X(clEnqueueNDRangeKernel)      \
    X(clEnqueueReadBuffer)         \
    X(clEnqueueWriteBuffer)        \
    X(clCreateBuffer)              \
    X(clCreateSubBuffer)           \
    X(clCreateCommandQueue)        \
    X(clCreateContext)             \
    X(clCreateKernel)              \
    X(clCreateProgramWithBinary)   \
    X(clCreateProgramWithSource)   \
    X(clReleaseCommandQueue)       \
    X(clReleaseContext)            \
    X(clReleaseEvent)              \
    X(clReleaseKernel)             \
    X(clReleaseMemObject)          \
    X(clReleaseProgram)

typedef enum shim_entry {
    SHIM_ANY,
#define X(name) SHIM_##name,
    SHIM_ENTRIES(X)
#undef X
        SHIM_END
} shim_entry;

extern const char *const shim_names[SHIM_END];

/* Counts from 0 again, and no fault; what lives stays known. */
void shim_reset(void);

typedef enum shim_span { SHIM_ONCE, SHIM_LASTING, SHIM_LOST } shim_span;

/* The n-th call from the last shim_reset() on, n >= 1, gives `code`; SHIM_LASTING: and every call of that entry after
 * it; SHIM_LOST: and every call at all. A call that fails does nothing, but a release still releases and clFinish still
 * waits: nobody could do that in their place. */
void shim_fail(shim_entry entry, int64_t n, cl_int code, shim_span span);
/* The entry of the first call that was made to fail; SHIM_ANY: none was. */
shim_entry shim_failed(void);

/* What the compiler says from now on, of whatever length it claims; text NULL: the truth. Both until shim_reset(). */
void shim_build_log(const char *text, size_t claimed);
/* clGetDeviceInfo(what) gives the value, in as many bytes as there is room for. */
void shim_device_info(cl_device_info what, uint64_t value);

int64_t shim_calls(shim_entry entry); /* since shim_reset(); SHIM_ANY: all */

/* Objects not released yet, by who made them. */
typedef enum shim_owner { SHIM_OURS, SHIM_CLBLAST } shim_owner;
int64_t shim_live(shim_owner owner);
/* The entries that made them, as "clCreateBuffer clCreateKernel", cut to the size; for messages. */
const char *shim_live_text(shim_owner owner, char *out, size_t size);

#endif
