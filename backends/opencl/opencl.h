/* opencl.h - what the parts of the OpenCL backend share.
 *
 *   device.c   which devices there are and what they report
 *   profile.c  how a device is used, which follows from what it reports
 *   backend.c  opening, closing, the op table
 *   buffer.c   device memory, in pieces where a driver gives less at a time
 *   program.c  kernels by name, built at first use; cache.c keeps built programs on disk, in files of cachefile.c
 *   launch.c   one kernel launch; timing by markers
 *   status.c   codes of OpenCL and CLBlast as sentences
 *   gemm.c     products, by CLBlast; project and project_add; room.c has the memory that it works in
 *   ops.c      the ops that are a launch or two; attention.c, nll.c, swap.c and gram.c the others
 *   override.c CLBlast's parameters, as kept; tune.c looks for them, with tuner.c, measure.c and the files of tuning.c
 *
 * One in-order queue a backend: order is what the contract asks for, and what makes events needless.
 */
#ifndef POL_OPENCL_H
#define POL_OPENCL_H

#include <CL/cl.h>

#include "core/backend.h"

/* kernels-cl, embedded (cmake/PollardEmbed.cmake). */
typedef struct pol_cl_source {
    const char *name, *text;
    size_t size;
} pol_cl_source;
extern const pol_cl_source pol_cl_sources[];
extern const size_t n_pol_cl_sources;

/* How a device is used: what follows from its report (ocl_profile_of), or what a test wants instead. */
typedef struct ocl_profile {
    bool barriers;         /* kernels that sum over work-groups; not on a CPU, where barriers are dear */
    int vector;            /* floats a work-item takes at a time: 1, 2, 4, 8, 16 */
    int group;             /* work-items of a group with barriers; a power of two */
    uint64_t piece_bytes;  /* of one allocation, at most */
    uint64_t align_bytes;  /* of where a sub-buffer may start */
    int64_t slice_rows;    /* of weights that one product takes, at most */
    uint64_t local_bytes;  /* of local memory that a work-group may have */
    const char *cache_dir; /* of built programs; NULL: none are kept */
    bool timing;           /* device time by op: ocl_times() */
    bool tuned;            /* CLBlast's parameters as they are kept in cache_dir (override.c) */
} ocl_profile;

/* What a profile follows from. */
typedef struct ocl_report {
    cl_device_type type;
    cl_uint vector_width; /* floats in a vector register */
    size_t group_items;   /* of a work-group in one dimension, at most */
    cl_ulong alloc_bytes, local_bytes;
    cl_uint align_bits; /* of where a sub-buffer may start */
} ocl_report;

typedef struct ocl_program ocl_program;

/* An answer of CLBlast's that is kept (room.c): floats that it wants for a product of these sizes. */
typedef struct ocl_temp {
    int64_t m, n, k, floats;
} ocl_temp;
enum { OCL_TEMPS = 256 };

typedef struct ocl_kernel {
    struct ocl_kernel *next;
    ocl_program *program;
    const char *name;
    cl_kernel kernel;
    size_t group; /* work-items of its work-groups, where it has barriers: the profile's, or fewer where those are too
                   * many for its registers or local memory */
    size_t most_items; /* of a work-group, where it has none */
    uint64_t launches;
} ocl_kernel;

/* One op in the time table. */
typedef enum ocl_op {
    OCL_EMBED,
    OCL_RMSNORM,
    OCL_PROJECT,
    OCL_PROJECT_ADD,
    OCL_ROPE,
    OCL_ATTENTION,
    OCL_SWIGLU,
    OCL_NLL,
    OCL_SWAP_UNITS,
    OCL_ACTIVATION_STATS,
    OCL_GRAM,
    OCL_TRANSFER,
    OCL_OPS
} ocl_op;
extern const char *const ocl_op_names[OCL_OPS];

typedef struct ocl {
    pol_backend base;
    ocl_profile profile;
    cl_platform_id platform;
    cl_device_id device;
    cl_context context;
    cl_command_queue queue;
    ocl_program *programs; /* lists, built as needed */
    ocl_kernel *kernels;
    struct ocl_timer *timer; /* with profile.timing */
    ocl_temp temps[OCL_TEMPS];
    cl_int late;                /* why a size of scratch could not be told: ocl_late() */
    char *cache_dir;            /* profile.cache_dir, our own copy */
    bool cache_warned;          /* that it cannot be written */
    uint64_t n_built, n_loaded; /* programs from source, from the cache; for tests */
    struct ocl_ring *ring;      /* swap.c; made by the first swap_units */
} ocl;

/* A pol_buf of one or more cl_mem, each of `piece_rows` whole rows, the last perhaps of fewer. */
typedef struct ocl_buf {
    pol_buf base;
    int64_t piece_rows, n_pieces;
    cl_mem piece[];
} ocl_buf;

static inline ocl *ocl_of(pol_backend *be) { return (ocl *)be; }

/* device.c. Devices are numbered over all platforms, in the order in which the loader gives them. */
pol_status ocl_list(pol_context *ctx, pol_device_info *out, int64_t cap, int64_t *n, char note[POL_NOTE_BYTES]);
pol_status ocl_find(pol_context *ctx, int32_t index, cl_platform_id *platform, cl_device_id *device,
                    pol_device_info *info);

/* profile.c */
ocl_profile ocl_profile_from(const ocl_report *r);
pol_status ocl_profile_of(pol_context *ctx, cl_device_id device, ocl_profile *out);

/* backend.c. `profile` NULL: as the device reports. On success *out is yours: pol_backend_close(). */
pol_status pol_opencl_open(pol_context *ctx, int32_t index, const ocl_profile *profile, pol_dtype weights,
                           pol_backend **out);

/* status.c. POL_OK for CL_SUCCESS, else the failure of `call` (an entry point) on behalf of `what`. */
pol_status ocl_check(pol_context *ctx, const char *what, const char *call, cl_int code);
const char *ocl_code_name(cl_int code); /* "CL_OUT_OF_RESOURCES"; NULL where it is no code of OpenCL's or CLBlast's */

/* Sizes of scratch are numbers without a status. Where CLBlast fails to tell one, that comes out of the next call for
 * memory, transfer or sync: before anything is computed in a scratch that is too small. */
static inline pol_status ocl_late(ocl *cl)
{
    return ocl_check(cl->base.ctx, "scratch", "CLBlastSGemmTempBufferSize", cl->late);
}

#define OCL_TRY(ctx, what, entry, ...) POL_TRY(ocl_check(ctx, what, #entry, entry(__VA_ARGS__)))

/* buffer.c */
pol_status buf_new_opencl(pol_backend *be, pol_dtype dtype, int64_t rows, int64_t row, pol_buf **out);
void buf_free_opencl(pol_backend *be, pol_buf *b);
pol_status upload_opencl(pol_backend *be, pol_buf *dst, int64_t at, const void *src, int64_t n);
pol_status download_opencl(pol_backend *be, const pol_buf *src, int64_t at, void *dst, int64_t n);
pol_status download_later_opencl(pol_backend *be, const pol_buf *src, int64_t at, void *dst, int64_t n);

/* The one cl_mem of a buffer that is not held in pieces; NULL for an absent view. */
static inline cl_mem ocl_mem(pol_view v) { return v.buf ? ((ocl_buf *)v.buf)->piece[0] : NULL; }

/* Elements [at, at + n) of a buffer as stretches that lie in one piece each: call until it returns false.
 *     for (ocl_stretch s = ocl_stretch_of(v, n); ocl_next(&s);) use(s.mem, s.at, s.first, s.n);          */
typedef struct ocl_stretch {
    const ocl_buf *buf;
    int64_t begin, end; /* what is still to come, in elements of the buffer */
    cl_mem mem;
    int64_t at;    /* where the stretch starts in mem */
    int64_t first; /* and how far that is from the view's start */
    int64_t n;
    int64_t start; /* of the view */
} ocl_stretch;
ocl_stretch ocl_stretch_of(pol_view v, int64_t n);
bool ocl_next(ocl_stretch *s);

/* program.c. The kernel `name` of kernels-cl/STEM.cl, built with `defines` (as "-DHEAD=64", or "") besides the
 * profile's. Lives as long as the backend. `name` and `stem` are literals. */
pol_status ocl_kernel_get(ocl *cl, const char *stem, const char *name, const char *defines, ocl_kernel **out);
void ocl_programs_free(ocl *cl);
/* Launches so far of every kernel of that name; for tests. */
uint64_t ocl_launches(const ocl *cl, const char *name);

/* cache.c. The key of a program of this text, built with these options on this device by this driver; "" where none are
 * kept. With it: the program as an earlier start built it, false where it has to be built from source; and keeping it.
 * None of this fails, the log says why a program is built again. */
void ocl_cache_key(const ocl *cl, const pol_bytes *text, const char *options, char key[33]);
bool ocl_cache_load(ocl *cl, const char *stem, const char *key, const char *options, cl_program *out);
void ocl_cache_store(ocl *cl, const char *stem, const char *key, cl_program program);

/* launch.c */
typedef struct ocl_range {
    cl_uint dims;
    size_t global[3], local[3]; /* global is rounded up to local */
} ocl_range;
/* Work-items side by side in a group, where they have nothing to do with each other. */
enum { OCL_ITEMS = 64 };

typedef struct ocl_arg {
    size_t size;
    const void *value;
} ocl_arg;
#define OCL_MEM(m) ((ocl_arg){sizeof(cl_mem), &(m)}) /* m: a variable */
#define OCL_ARG(v) ((ocl_arg){sizeof(v), &(v)})      /* v: a variable */

pol_status ocl_launch(ocl *cl, ocl_kernel *k, ocl_range r, const ocl_arg *args, size_t n);
#define OCL_LAUNCH(cl, k, range, ...) \
    ocl_launch(cl, k, range, (const ocl_arg[]){__VA_ARGS__}, sizeof((const ocl_arg[]){__VA_ARGS__}) / sizeof(ocl_arg))

/* Timing: what is queued from here on belongs to `op`, until the next mark. Nothing happens without profile.timing. */
pol_status ocl_mark(ocl *cl, ocl_op op);
/* Seconds of device time by op since the last call; waits for the queue. */
pol_status ocl_times(ocl *cl, double seconds[OCL_OPS]);
void ocl_timer_free(ocl *cl);

/* room.c. The part of an op's scratch that CLBlast works in: for a product of an [m,k] and a [k,n] matrix in f32,
 * whichever of them are transposed, and every smaller one. */
typedef struct ocl_room {
    cl_mem temp;   /* a buffer that CLBlast uses from the start; NULL where it wants none */
    cl_mem made;   /* the same, where it is a sub-buffer and not the caller's buffer */
    pol_view rest; /* of the scratch */
} ocl_room;
/* Floats of scratch that it takes, INT64_MAX for what cannot be; false: not told, see ocl_late(). */
bool ocl_room_floats(ocl *cl, int64_t m, int64_t n, int64_t k, int64_t *out);
pol_status ocl_room_take(ocl *cl, const char *op, pol_view scratch, int64_t m, int64_t n, int64_t k, ocl_room *out);
void ocl_room_release(ocl_room *r);

/* gemm.c. One product by CLBlast, over the pieces of w:
 *     OCL_ROWS_OUT   y [T,N]  = x [T,K] w^T, w [N,K]
 *     OCL_ROWS_IN    y [T,N] += x [T,K] w,   w [K,N]
 * scratch: gemm_scratch_opencl() of w's rows and columns. */
typedef enum ocl_form { OCL_ROWS_OUT, OCL_ROWS_IN } ocl_form;
pol_status ocl_gemm(ocl *cl, const char *op, ocl_form form, int64_t T, int64_t N, int64_t K, pol_view x, pol_view w,
                    pol_view y, pol_view scratch);

/* A size from the contract as the kernels' 32-bit int; POL_EUNSUPPORTED, naming it, where it does not fit. */
pol_status ocl_int(ocl *cl, const char *op, const char *name, int64_t value, cl_int *out);

/* The ops. */
pol_status embed_opencl(pol_backend *be, const pol_embed_args *a);
pol_status rmsnorm_opencl(pol_backend *be, const pol_rmsnorm_args *a);
pol_status project_opencl(pol_backend *be, const pol_project_args *a);
pol_status project_add_opencl(pol_backend *be, const pol_project_add_args *a);
int64_t gemm_scratch_opencl(pol_backend *be, int64_t T, int64_t N, int64_t C);
pol_status rope_opencl(pol_backend *be, const pol_rope_args *a);
pol_status attention_opencl(pol_backend *be, const pol_attention_args *a);
int64_t attention_scratch_opencl(pol_backend *be, int64_t T, int64_t S, int64_t G, int64_t g, int64_t D);
pol_status swiglu_opencl(pol_backend *be, const pol_swiglu_args *a);
pol_status nll_opencl(pol_backend *be, const pol_nll_args *a);
int64_t nll_scratch_opencl(pol_backend *be, int64_t T, int64_t C, int64_t slice);
pol_status swap_units_opencl(pol_backend *be, const pol_swap_args *a, int64_t n);
void ocl_ring_free(ocl *cl);
pol_status activation_stats_opencl(pol_backend *be, const pol_activation_stats_args *a);
pol_status gram_opencl(pol_backend *be, const pol_gram_args *a);
int64_t gram_scratch_opencl(pol_backend *be, int64_t T, int64_t N, int64_t M);

#endif
