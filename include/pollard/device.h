/* device.h - which devices there are, and opening one. */
#ifndef POLLARD_DEVICE_H
#define POLLARD_DEVICE_H

#include <stdbool.h>

#include "pollard/context.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pol_device_info {
    char backend[16]; /* "cpu", "opencl", "cuda" */
    int32_t index;    /* within its backend */
    char name[128];
    char platform[128];        /* the driver's, where a backend has several; else "" */
    uint64_t memory_bytes;     /* in all */
    uint64_t max_buffer_bytes; /* of one buffer */
    bool host_memory;          /* its memory is the host's */
    bool is_cpu;               /* the host's processor, under whatever backend */
    bool fp16;                 /* computes in half precision */
    char detail[160];          /* threads, kernels and library versions */
    bool usable;
    char reason[160]; /* where not usable: why */
} pol_device_info;

/* Every device of every backend of this build. *out is yours: pol_device_list_free(). */
POL_API pol_status pol_device_list(pol_context *ctx, pol_device_info **out, int64_t *n);
POL_API void pol_device_list_free(pol_context *ctx, pol_device_info *list); /* takes NULL */

typedef struct pol_backend pol_backend;

typedef struct pol_backend_options {
    const char *name;   /* "auto" or NULL: the first usable of cuda, opencl on other than a CPU, cpu; else that one or an
                         * error */
    const char *device; /* index or name within the backend; NULL = the first usable */
    int32_t threads;    /* CPU threads; 0 = all that the process may use */
} pol_backend_options;

/* `o` NULL: automatic. On success *out is yours: pol_backend_close(). POL_EARG names a backend or device that was asked
 * for and is not there or cannot be used; other backends are then not tried. */
POL_API pol_status pol_backend_open(pol_context *ctx, const pol_backend_options *o, pol_backend **out);
POL_API void pol_backend_close(pol_backend *be);                        /* takes NULL */
POL_API const pol_device_info *pol_backend_info(const pol_backend *be); /* lives as long as `be` */

#ifdef __cplusplus
}
#endif
#endif
