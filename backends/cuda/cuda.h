/* cuda.h - what the parts of the CUDA backend share.
 *
 *   module.c    the library's one symbol
 *   device.c    which devices there are, and how one is used
 *   backend.c   opening, closing, the op table
 *   memory.c    device memory: one arena where the run has reserved it, else a block a buffer
 *   transfer.c  uploads and downloads by way of pinned staging memory
 *   stream.c    weights that stay in pinned host memory and visit the device on the copy stream
 *   moves.c     the order between computing and units that change places beside it
 *   pass.c      passes recorded as CUDA graphs
 *   gemm.c      products, by cuBLASLt
 *   ops.c       the ops that are a product or a launch; nll.c, swap.c and gram.c the others
 *   spd.c       factors and solutions in f64 (spd.h): solve_spd.c, obs_sweep.c, obs_order.c, obs_rows.c
 *   timer.c     device time by op
 *   status.c    codes of CUDA and cuBLAS as sentences
 *
 * Three streams a device: one computes, in the order of the contract; one brings weights in; one moves units. The host
 * queues and goes on: it waits in sync, in download, and where a ring of staging memory is full.
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
    cu_attention_form attention;                                   /* AUTO: by the sizes */
    enum { CU_FUSE_AUTO = 0, CU_FUSE_ALWAYS, CU_FUSE_NEVER } fuse; /* gate, up and swiglu in one kernel; AUTO: ops.c */
    size_t workspace_bytes;                                        /* that cuBLASLt may use in a product */
    size_t staging_bytes;                                          /* of a part of a staging ring */
    size_t move_bytes; /* of units that one launch moves, about, beside computing; 0: all in one, in their turn */
    bool graphs;       /* record passes that come again */
    bool timing;       /* device time by op: cu_times(); then nothing is recorded */
} cu_profile;

/* One op in the time table. A product inside an op has a time of its own: those of the loss are CU_PROJECT's. */
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
    CU_GRAM,
    CU_SOLVE_SPD,
    CU_OBS_SWEEP,
    CU_TRANSFER,
    CU_OPS
} cu_op;
extern const char *const cu_op_names[CU_OPS];

typedef struct cu_buf {
    pol_buf base;
    char *data; /* NULL: of no elements */
    size_t bytes;
    bool in_arena;
    struct cu_buf *next;        /* in the arena, by rising address */
    cudaEvent_t filled;         /* stream.c: of the last stream_in; NULL: none yet */
    struct {                    /* moves.c */
        cudaEvent_t read, done; /* of the last op on it; of its last move. NULL: its units never moved */
        uint64_t number;        /* of the last move that computing has not waited for; 0: none */
    } move;
} cu_buf;

typedef struct cu {
    pol_backend base;
    cu_profile profile;
    int device;
    cudaStream_t compute, copy;
    cudaStream_t moving;  /* `compute` itself where units move in their turn */
    cudaEvent_t computed; /* stream.c, moves.c: all that was queued before */
    struct {              /* moves.c */
        cudaEvent_t done;
        uint64_t n, waited_for; /* moves queued; those up to this one computing waits for */
        bool fence;             /* ops were queued of which buffers do not know */
    } moves;
    cublasLtHandle_t lt;
    struct {
        char *data;
        size_t bytes;
        cu_buf *first;
    } arena;                      /* memory.c; empty: nothing is reserved */
    struct cu_staging *staging;   /* transfer.c */
    struct cu_products *products; /* gemm.c */
    struct cu_passes *passes;     /* pass.c; NULL: none are recorded */
    struct cu_timer *timer;       /* timer.c; NULL: nothing is timed */
} cu;

static inline cu *cu_of(pol_backend *be) { return (cu *)be; }

/* Where a view lies; NULL for an absent one. */
static inline void *cu_at(pol_view v)
{
    return v.buf ? ((cu_buf *)v.buf)->data + (size_t)v.at * pol_dtype_size(v.buf->dtype) : NULL;
}

/* device.c. `profile` follows from what the device reports. Of a device that is not there: POL_EARG. */
pol_status cu_list(pol_context *ctx, pol_device_info *out, int64_t cap, int64_t *n, char note[POL_NOTE_BYTES]);
pol_status cu_describe(pol_context *ctx, int32_t index, pol_device_info *out);
pol_status cu_profile_of(pol_context *ctx, int32_t index, cu_profile *out);

/* backend.c. `profile` NULL: as the device reports. On success *out is yours: pol_backend_close(). */
extern const pol_backend_driver pol_driver_cuda;
pol_status pol_cuda_open(pol_context *ctx, int32_t index, const cu_profile *profile, pol_backend **out);

/* status.c. POL_OK for success, else the failure of `call` (an entry point) on behalf of `what`. Memory that runs out
 * is POL_ENOMEM, all else POL_EDEVICE. */
pol_status cu_check(pol_context *ctx, const char *what, const char *call, cudaError_t code);
pol_status cu_check_lt(pol_context *ctx, const char *what, const char *call, cublasStatus_t code);
#define CU_TRY(ctx, what, entry, ...) POL_TRY(cu_check(ctx, what, #entry, entry(__VA_ARGS__)))
#define LT_TRY(ctx, what, entry, ...) POL_TRY(cu_check_lt(ctx, what, #entry, entry(__VA_ARGS__)))

/* timer.c. Every entry begins so: calls of this thread are for its device from here on, and what is queued counts as
 * the op's time. cu_times: seconds of device time by op since the last call; waits. */
pol_status cu_begin(cu *c, cu_op op);
pol_status cu_times(cu *c, double seconds[CU_OPS]);
pol_status cu_timer_open(cu *c);
void cu_timer_close(cu *c); /* as all of these: takes one that is half open or was never opened */

/* memory.c */
pol_status buf_new_cuda(pol_backend *be, pol_dtype dtype, int64_t rows, int64_t row, pol_buf **out);
void buf_free_cuda(pol_backend *be, pol_buf *b);
pol_status reserve_cuda(pol_backend *be, uint64_t bytes);
void cu_arena_free(cu *c);
/* Memory beside the buffers, for as long as a call takes: `bytes` each, to where *to then points. The block is yours:
 * cu_give_back(), which waits for the device. POL_ENOMEM, with the numbers, where the device has not as much. */
typedef struct cu_part {
    void **to;
    size_t bytes;
} cu_part;
pol_status cu_take(cu *c, const char *op, const cu_part *parts, size_t n, void **block);
void cu_give_back(cu *c, void *block); /* takes NULL */

/* transfer.c. cu_stage: room for `bytes`, at most profile.staging_bytes, in pinned memory, for a copy that the caller
 * queues before its next call: on `compute`, or with `lists` on `moving`. cu_device_lists: device memory of
 * profile.staging_bytes for what swap_units stages. */
pol_status cu_staging_open(cu *c);
void cu_staging_close(cu *c);
pol_status cu_stage(cu *c, bool lists, size_t bytes, void **host);
void *cu_device_lists(const cu *c);
pol_status upload_cuda(pol_backend *be, pol_buf *dst, int64_t at, const void *src, int64_t n);
pol_status download_cuda(pol_backend *be, const pol_buf *src, int64_t at, void *dst, int64_t n);
pol_status download_later_cuda(pol_backend *be, const pol_buf *src, int64_t at, void *dst, int64_t n);
pol_status sync_cuda(pol_backend *be);
/* Bytes as they are, a multiple of 4: up, staged; and down, waiting for all that is queued. */
pol_status cu_send(cu *c, void *to, const void *host, size_t bytes);
pol_status cu_fetch(cu *c, void *host, const void *from, size_t bytes);

/* stream.c */
pol_status host_new_cuda(pol_backend *be, size_t bytes, void **out);
void host_free_cuda(pol_backend *be, void *p);
pol_status stream_in_cuda(pol_backend *be, pol_buf *dst, const void *src, int64_t n);
pol_status stream_wait_cuda(pol_backend *be, pol_buf *dst);
void cu_stream_forget(cu *c, cu_buf *b); /* before b's memory serves something else */

/* moves.c. What reads or writes a buffer on `compute` is queued between cu_use and cu_used; an absent view is none. */
pol_status cu_moves_open(cu *c); /* from here on units move beside computing, if the profile has it so; else */
void cu_moves_close(cu *c);      /* in their turn, once the device has been waited for */
pol_status cu_use(cu *c, pol_view v);
pol_status cu_used(cu *c, pol_view v);
/* Before and after a launch on `moving` that moves units of b. */
pol_status cu_move(cu *c, cu_buf *b);
pol_status cu_moved(cu *c, cu_buf *b);
pol_status cu_wait_for_moves(cu *c);   /* computing does, for all that are queued */
void cu_move_forget(cu *c, cu_buf *b); /* before b's memory serves something else */

/* pass.c */
bool cu_is_recording(const cu *c);
pol_status cu_passes_open(cu *c);
void cu_passes_close(cu *c);
void cu_passes_forget(cu *c);
pol_status pass_begin_cuda(pol_backend *be, const void *key, size_t key_bytes, bool *replayed);
pol_status pass_end_cuda(pol_backend *be, pol_status so_far);

/* gemm.c. A product of row-major matrices, y [T,N] = x [T,K] w [K,N]. One that is `turned` lies as its transpose does:
 * x as [K,T], w as [N,K]. scratch: gemm_scratch_cuda() elements. */
typedef enum cu_types {
    CU_BF16 = 0,
    CU_BF16_F32,
    CU_F64
} cu_types;                                                     /* of x and w, and of y if another; sums of bf16
                                                                   are f32 */
typedef enum cu_put { CU_SET = 0, CU_ADD, CU_SUBTRACT } cu_put; /* the product into y: to, from what is there */
typedef struct cu_product {
    void *y;
    const void *x, *w;
    void *scratch;
    int64_t T, N, K;
    int64_t y_row, x_row, w_row; /* elements from one row, as it lies, to the next; 0: none between them */
    cu_types types;
    cu_put put;
    bool x_turned, w_turned;
} cu_product;
pol_status cu_products_open(cu *c);
void cu_products_close(cu *c);
pol_status cu_multiply(cu *c, const char *op, const cu_product *p);
int64_t gemm_scratch_cuda(pol_backend *be, int64_t T, int64_t N, int64_t C);

/* The ops. */
pol_status embed_cuda(pol_backend *be, const pol_embed_args *a);
pol_status rmsnorm_cuda(pol_backend *be, const pol_rmsnorm_args *a);
pol_status project_cuda(pol_backend *be, const pol_project_args *a);
pol_status project_swiglu_cuda(pol_backend *be, const pol_project_swiglu_args *a);
pol_status project_add_cuda(pol_backend *be, const pol_project_add_args *a);
pol_status rope_cuda(pol_backend *be, const pol_rope_args *a);
pol_status attention_cuda(pol_backend *be, const pol_attention_args *a);
int64_t attention_scratch_cuda(pol_backend *be, int64_t T, int64_t S, int64_t G, int64_t g, int64_t D);
pol_status swiglu_cuda(pol_backend *be, const pol_swiglu_args *a);
pol_status nll_cuda(pol_backend *be, const pol_nll_args *a);
int64_t nll_scratch_cuda(pol_backend *be, int64_t T, int64_t C, int64_t slice);
pol_status swap_units_cuda(pol_backend *be, const pol_swap_args *a, int64_t n);
pol_status activation_stats_cuda(pol_backend *be, const pol_activation_stats_args *a);
pol_status gram_cuda(pol_backend *be, const pol_gram_args *a);
int64_t gram_scratch_cuda(pol_backend *be, int64_t T, int64_t N, int64_t M);
pol_status solve_spd_cuda(pol_backend *be, pol_solve_spd_args *a);
pol_status obs_sweep_cuda(pol_backend *be, pol_obs_sweep_args *a);

#endif
