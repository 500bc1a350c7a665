/* device.h - which devices there are, and opening one. */
#ifndef POLLARD_DEVICE_H
#define POLLARD_DEVICE_H

#include <stdbool.h>

#include "pollard/context.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum pol_device_type {
    POL_DEVICE_CPU = 0,
    POL_DEVICE_GPU,
    POL_DEVICE_ACCELERATOR,
    POL_DEVICE_OTHER
} pol_device_type;
POL_API extern const char *const pol_device_type_names[]; /* by number; NULL at the end */

typedef struct pol_device_info {
    char backend[16]; /* "cpu", "opencl", "cuda" */
    int32_t index;    /* within its backend */
    char name[128];
    char platform[128];        /* the driver's, where a backend has several; else "" */
    pol_device_type type;      /* CPU: the host's processor, under whatever backend */
    uint64_t memory_bytes;     /* in all; of an open device of cuda, what was free for buffers when it was opened */
    uint64_t max_buffer_bytes; /* of one buffer */
    bool host_memory;          /* its memory is the host's */
    bool fp16;                 /* computes in half precision */
    char detail[160];          /* threads, kernels and library versions */
    bool usable;
    char reason[160]; /* where not usable: why */
} pol_device_info;

/* Every device of every backend of this build. *out is yours: pol_device_list_free(). */
POL_API pol_status pol_device_list(pol_context *ctx, pol_device_info **out, int64_t *n);
POL_API void pol_device_list_free(pol_context *ctx, pol_device_info *list); /* takes NULL */

enum { POL_NOTE_BYTES = 256 };

/* A backend that this version knows of. */
typedef struct pol_backend_summary {
    char name[16];
    bool built;                /* it is in this build */
    int64_t n_devices;         /* usable or not */
    char note[POL_NOTE_BYTES]; /* what is missing and what would help, where it or a driver has none; else "" */
} pol_backend_summary;

/* All of them. *out is yours: pol_backend_list_free(). */
POL_API pol_status pol_backend_list(pol_context *ctx, pol_backend_summary **out, int64_t *n);
POL_API void pol_backend_list_free(pol_context *ctx, pol_backend_summary *list); /* takes NULL */

typedef struct pol_backend pol_backend;

typedef struct pol_backend_options {
    const char *name;   /* "auto" or NULL: the first usable device that is no CPU, of any backend (cuda before opencl);
                         * else cpu */
    const char *device; /* index within the backend, or name; NULL = its first usable one that is no CPU, else the first
                         * usable. A part of a name will do, in either case, where only one device has it; an index
                         * needs `name` */
    int32_t threads;    /* CPU threads; 0 = all that the process may use */
    const char *weights; /* what weights are stored as: "f32", "f16", "bf16"; "auto" or NULL = bf16 with cuda, which
                          * has nothing else, f32 with the others. In 16 bits they are rounded, take half the memory
                          * and are summed in f32; cpu has f32 alone */
} pol_backend_options;
POL_API extern const char *const pol_weight_names[]; /* what `weights` may say; NULL at the end */

/* `o` NULL: automatic. On success *out is yours: pol_backend_close(). POL_EARG names a backend or device that was asked
 * for and is not there, or is one of several of that name; POL_EUNSUPPORTED: it cannot be used; POL_EDEVICE: its driver
 * fails. Other devices are then not tried. */
POL_API pol_status pol_backend_open(pol_context *ctx, const pol_backend_options *o, pol_backend **out);
POL_API void pol_backend_close(pol_backend *be); /* takes NULL */
/* Several devices of one backend, for a run that deals its passes out to them: o->device names them with commas
 * between, "0,2,3", or is "all": all usable ones that are no CPU, of the backend that would be taken for one device.
 * Otherwise as pol_backend_open. POL_EARG: one is named twice, or they are of several backends. On success *out, of *n
 * >= 1, is yours: pol_backend_close_all(). */
POL_API pol_status pol_backend_open_all(pol_context *ctx, const pol_backend_options *o, pol_backend ***out, int64_t *n);
POL_API void pol_backend_close_all(pol_context *ctx, pol_backend **list, int64_t n); /* takes NULL */
/* The backend of the host's own processor, which has every op: for what another lacks. On success *out is yours:
 * pol_backend_close(). */
POL_API pol_status pol_backend_open_host(pol_context *ctx, int32_t threads, pol_backend **out);
POL_API const pol_device_info *pol_backend_info(const pol_backend *be);              /* lives as long as `be` */
POL_API const char *pol_backend_weights(const pol_backend *be); /* "f32", "f16" or "bf16"; a literal */

#ifdef __cplusplus
}
#endif
#endif
