/* cuda.h - what the parts of the CUDA backend share.
 *
 *   module.c    the library's one symbol
 *   device.c    which devices there are, and whether they can be used
 *   backend.c   opening, closing, the op table
 *   memory.c    device memory: one arena where the run has reserved it, else a block a buffer
 *   transfer.c  uploads and downloads by way of pinned staging memory
 *   stream.c    weights that stay in pinned host memory and visit the device on the copy stream
 *   pass.c      passes recorded as CUDA graphs
 *   gemm.c      products, by cuBLASLt
 *   ops.c       the ops that are a product or a launch; nll.c and swap.c the others
 *   status.c    codes of CUDA and cuBLAS as sentences
 *
 * Two streams a device: one computes, in the order of the contract; one brings weights in. The host queues and goes on:
 * it waits in sync, in download, and where a ring of staging memory is full.
 */
#ifndef POL_CUDA_H
#define POL_CUDA_H

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "core/backend.h"
#include "kernels-cu/kernels.h"

/* How a device is used: what follows from its report, or what a test wants instead. */
typedef struct cu_profile {
    int max_shared_bytes; /* of a block, opted in to */
    int multiprocessors;
    cu_attention_form attention; /* AUTO: by the sizes */
    enum { CU_FUSE_AUTO = 0, CU_FUSE_ALWAYS, CU_FUSE_NEVER } fuse; /* gate, up and swiglu in one kernel; AUTO: ops.c */
    size_t workspace_bytes;      /* that cuBLASLt may use in a product */
    bool graphs;                 /* record passes that come again */
    bool timing;                 /* device time by op: cu_times() */
} cu_profile;

/* One op in the time table. */
typedef enum cu_op {
    CU_EMBED,
    CU_RMSNORM,
    CU_PROJECT,
    CU_PROJECT_SWIGLU,
    CU_PROJECT_ADD,
    CU_ROPE,
    CU_ATTENTION,
    CU_SWIGLU,
    CU_NLL,
    CU_SWAP_UNITS,
    CU_ACTIVATION_STATS,
    CU_TRANSFER,
    CU_OPS
} cu_op;
extern const char *const cu_op_names[CU_OPS];

typedef struct cu {
    pol_backend base;
    cu_profile profile;
    int device;
    cudaStream_t compute, copy;
    cublasLtHandle_t lt;
    struct cu_arena *arena;       /* memory.c; NULL: nothing is reserved */
    struct cu_staging *staging;   /* transfer.c, swap.c */
    struct cu_products *products; /* gemm.c: what was chosen for each shape */
    struct cu_passes *passes;     /* pass.c */
    struct cu_timer *timer;       /* with profile.timing */
} cu;

typedef struct cu_buf {
    pol_buf base;
    void *data;
    bool in_arena;
    cudaEvent_t filled; /* stream.c: of the last stream_in; NULL: none */
} cu_buf;

static inline cu *cu_of(pol_backend *be) { return (cu *)be; }

/* Where a view lies; NULL for an absent one. */
static inline void *cu_at(pol_view v)
{
    return v.buf ? (char *)((cu_buf *)v.buf)->data + (size_t)v.at * pol_dtype_size(v.buf->dtype) : NULL;
}

/* device.c */
pol_status cu_list(pol_context *ctx, pol_device_info *out, int64_t cap, int64_t *n, char note[POL_NOTE_BYTES]);
pol_status cu_profile_of(pol_context *ctx, int device, cu_profile *out);

/* backend.c. `profile` NULL: as the device reports. On success *out is yours: pol_backend_close(). */
pol_status pol_cuda_open(pol_context *ctx, int32_t index, const cu_profile *profile, pol_backend **out);

/* status.c. POL_OK for success, else the failure of `call` (an entry point) on behalf of `what`. Memory that runs out is
 * POL_ENOMEM, all else POL_EDEVICE. */
pol_status cu_check(pol_context *ctx, const char *what, const char *call, cudaError_t code);
pol_status cu_check_lt(pol_context *ctx, const char *what, const char *call, cublasStatus_t code);
#define CU_TRY(ctx, what, entry, ...) POL_TRY(cu_check(ctx, what, #entry, entry(__VA_ARGS__)))
#define LT_TRY(ctx, what, entry, ...) POL_TRY(cu_check_lt(ctx, what, #entry, entry(__VA_ARGS__)))

#endif
