/* backend.h - the contract: what a backend fills in, and the front doors (core/ops.c) through which core calls it.
 *
 * An op is a whole step of the forward pass. T tokens = B sequences x S positions, token t is position t % S. All
 * tensors are row-major. A front door checks shapes and ranges, then dispatches; a backend may rely on what is checked
 * there. What lies in device memory is not looked at: ids and targets are checked on the host, where they are made.
 *
 * Order: a backend queues an op and returns; ops and transfers take effect as if each were done when it is called. Host
 * memory is the caller's again when a call returns: what the device reads later has been copied, what `download` gives
 * has arrived; but for `download_later` and `stream_in`, which say otherwise. A late fault comes out of `sync` or
 * `download`, as POL_EDEVICE; buffers then hold nothing of use.
 *
 * Element types: weights (table, w) have the backend's weight_dtype; activations between ops (y, h, qkv, out, gu, and x
 * of project, nll and activation_stats) its act_dtype; ids and target are i32; all else, the residual stream x
 * included, is f32. What an op writes shares no memory with what it reads. Sizes are at least 1; N, G, padded and
 * n_pairs may be 0: the op then writes nothing and the front door returns at once, except that project_add still adds
 * its bias.
 *
 * Letters: C hidden size, F MLP width, G key/value groups, g query heads a group, D head size, V vocabulary, N rows
 * used: the prefix of a weight buffer whose units are kept (docs/architecture.md, "The prefix layout").
 */
#ifndef POL_BACKEND_H
#define POL_BACKEND_H

#include "core/base/base.h"
#include "pollard/bench.h"
#include "pollard/config.h"
#include "pollard/device.h"

typedef enum pol_dtype { POL_F32 = 0, POL_F16, POL_BF16, POL_I32 } pol_dtype;
size_t pol_dtype_size(pol_dtype t);
const char *pol_dtype_name(pol_dtype t); /* "f32"; a literal */

/* Device memory of `n` elements, in rows of `row`. Each backend embeds this as the first member of its own struct. A
 * row never exceeds info.max_buffer_bytes, what a driver gives at a time. A buffer of several rows, which a backend may
 * hold in pieces of whole rows, is for weights alone: its row is one or more rows of their matrix, or units to swap. */
typedef struct pol_buf {
    pol_dtype dtype;
    int64_t n, row;
} pol_buf;

/* A place inside a buffer, in elements; any element, so that a backend whose sub-buffers must be aligned hands offsets
 * on to its kernels, but in a buffer of several rows the first of a row. The forward pass starts a product's at 0, but
 * for slices of the vocabulary, which start at rows of the output matrix. */
typedef struct pol_view {
    pol_buf *buf; /* NULL: absent, where the op allows it */
    int64_t at;
} pol_view;

/* x [T,C] = table[ids[t]]; 0 <= ids[t] < V. */
typedef struct pol_embed_args {
    pol_view x, table, ids;
    int64_t T, C, V;
} pol_embed_args;

/* y [T,C] = x / sqrt(mean(x^2) + eps) * gain [C]. Zhang and Sennrich 2019, arXiv 1910.07467. */
typedef struct pol_rmsnorm_args {
    pol_view y, x, gain;
    int64_t T, C;
    float eps;
} pol_rmsnorm_args;

/* y [T,N] = x [T,C] w^T (+ bias [N]); w [N,C], a prefix. scratch: at least gemm_scratch() f32 elements. */
typedef struct pol_project_args {
    pol_view y, x, w, bias, scratch;
    int64_t T, N, C;
} pol_project_args;

/* h [T, padded] = silu(x gate^T) * (x up^T) for channels < kept, 0 for kept <= channel < padded: project and swiglu in
 * one. w [padded, 2, C], bias [padded, 2] or absent: a channel's gate row, then its up row. gu [T, padded, 2]: room for
 * what lies between; holds nothing of use afterwards. scratch: as for project with N = 2 padded. */
typedef struct pol_project_swiglu_args {
    pol_view h, gu, x, w, bias, scratch;
    int64_t T, kept, padded, C;
} pol_project_swiglu_args;

/* x [T,C] += h [T,N] w (+ bias [C]); w [N,C], a prefix stored unit by unit (transposed once, at load). scratch: as for
 * project. */
typedef struct pol_project_add_args {
    pol_view x, h, w, bias, scratch;
    int64_t T, N, C;
} pol_project_add_args;

/* Rotates q and k in place in fused rows qkv [T, G, (g+2)*D]: per group g query heads, then k, then v. Half-split pairs
 * (i, i + D/2): a' = a cos - b sin, b' = b cos + a sin;  cos_sin [S, D]: D/2 cosines, then D/2 sines of a position. Su
 * et al. 2021, arXiv 2104.09864. The table comes from core (model/rope.c), scaling included. */
typedef struct pol_rope_args {
    pol_view qkv, cos_sin;
    int64_t T, S, G, g, D;
} pol_rope_args;

/* out [T, G, g, D]: causal attention inside each sequence over fused rows qkv as above; query head j of group i uses
 * key and value i. score = q.k * scale; with window > 0 position p sees (p - window, p]. f32 softmax, maximum taken out
 * first. scratch: at least attention_scratch() f32 elements. window 0: none. */
typedef struct pol_attention_args {
    pol_view out, qkv, scratch;
    int64_t T, S, G, g, D, window;
    float scale;
} pol_attention_args;

/* h [T, padded] = silu(gate) * up for channels < kept, 0 for kept <= channel < padded; gu [T, padded, 2] (gate, up).
 * Shazeer 2020, arXiv 2002.05202. */
typedef struct pol_swiglu_args {
    pol_view h, gu;
    int64_t T, kept, padded;
} pol_swiglu_args;

/* nll [T,k] f32, nats = logsumexp(x w^T) - (x w^T)[target]; target [T,k] i32 below V, -1 = not scored: nll 0. w [V,C].
 * One target a token for the loss on text, k of them for what a token's distribution is compared by. The vocabulary
 * goes by in slices of at most `slice` rows, the forward pass's the backend's nll_slice; scratch: at least
 * nll_scratch() f32 elements. */
typedef struct pol_nll_args {
    pol_view nll, x, w, target, scratch;
    int64_t T, k, C, V, slice; /* 1 <= k <= POL_MAX_TARGETS */
} pol_nll_args;
enum { POL_MAX_TARGETS = 64 };

/* Exchanges unit rows a[i] and b[i] of `w` (units of `unit` consecutive elements from `at`), i < n_pairs. All 2n
 * indices are different. `a`, `b` are host arrays. The op takes an array of these, one a buffer: a whole mask is one
 * call, so that a device can move all rows of all layers at once. No two of them share memory. */
typedef struct pol_swap_args {
    pol_view w;
    int64_t unit, n_units, n_pairs;
    const int32_t *a, *b;
} pol_swap_args;

/* Sums over the T rows of x [T,N]: sum [N] = sum of x, sumsq [N] = sum of x^2, both f32. One call has the tokens of one
 * forward pass; the caller adds calls up in f64, which many devices lack. */
typedef struct pol_activation_stats_args {
    pol_view x, sum, sumsq;
    int64_t T, N;
} pol_activation_stats_args;

/* Second moments over the T rows of x [T,N], added to what is there: a [2,N,N] += x^T x, and where y [T,M] is given
 * b [2,N,M] += x^T y. x has the act_dtype, y is f32. A sum is a pair of f32 matrices, high parts and low parts, whose
 * f64 sum is the value: each call adds the f32 product of at most POL_GRAM_ROWS rows at a time to the pair without
 * loss, so that the number of calls and tokens plays no part. Of a, elements (i, j) with j <= i are meant; the others
 * hold nothing of use. scratch: at least gram_scratch() f32 elements. */
typedef struct pol_gram_args {
    pol_view a, b, x, y, scratch; /* b and y both or neither: then M is 0 */
    int64_t T, N, M;
} pol_gram_args;
enum { POL_GRAM_ROWS = 1024 };

/* (A + damping mean(diag A) I) X = B: A [N,N] symmetric, of which elements (i, j) with j <= i are read; B [N,M]. Host
 * arrays, f64; a is destroyed, b becomes X. POL_ENUMERIC, naming the row, where the damped matrix is not positive
 * definite or where it or B holds what is not finite. */
typedef struct pol_solve_spd_args {
    int64_t N, M;
    double damping;
    double *a, *b;
    double condition; /* out: estimate of the damped matrix's condition number in the 1-norm */
} pol_solve_spd_args;

/* Optimal-brain-surgeon removal of units from a linear map (Hassibi and Stork 1993; block form: Kurtic et al. 2022,
 * arXiv 2203.07259, ZipLM: Kurtic et al. 2023, arXiv 2302.04089). w [N,C], N = n_units * unit: unit j is rows
 * [j unit, (j+1) unit). h [N,N] = X^T X / tokens of what is multiplied by w; A = h + damping mean(diag h) I, P the
 * inverse of A on the rows that are left. Again and again the `block` units of least error e_j = tr(W_j^T (P_jj)^-1
 * W_j) go, or all that are left; the least goes first, ties to the smaller number. What stays makes up for them: W -=
 * P_:J (P_JJ)^-1 W_J, P -= P_:J (P_JJ)^-1 P_J:. So with block 1 each removal is the one of least increase of tr((W0 -
 * W)^T A (W0 - W)), and W the least-squares solution on what is left.
 *
 *   order  out [n_units] from the unit that is kept longest to the one that goes first; or in, where `ordered`
 *   error  out [n_units] e_j of the unit order[i] alone, as it was when its block was chosen: with block 1 by how much
 *          the removal raises the trace; 0s where `ordered`
 *   loss   out [n_units + 1], or NULL: tr((W0 - W)^T A (W0 - W)) of the least-squares W on the first k of the order
 *   level  [n_levels] numbers of units kept, 1 <= level <= n_units, rising
 *   rows   [n_levels]: rows[l] [level[l] unit, C] out, the least-squares W on the first level[l] units of the order, in
 *          that order: (A_SS)^-1 A_S: W, computed afresh from A, so that the sweep's rounding is not in it
 *
 * Host arrays, of which those written share no memory with the others; f64 inside. POL_ENUMERIC as for solve_spd, and
 * naming the unit where P_jj has lost its definiteness: a larger damping is then needed. Bits may differ from one
 * number of threads to another, by rounding. */
typedef struct pol_obs_sweep_args {
    int64_t n_units, unit, C, block;
    double damping;
    const double *h; /* elements (i, j) with j <= i are read */
    const float *w;
    bool ordered;
    int32_t *order;
    double *error, *loss;
    int64_t n_levels;
    const int64_t *level;
    float *const *rows;
    double condition; /* out, of A, as in solve_spd */
} pol_obs_sweep_args;

enum { POL_OPS_ABI = 4 };

typedef struct pol_ops {
    uint32_t abi, size; /* POL_OPS_ABI, sizeof(pol_ops): checked once, when a backend registers */

    /* Memory. The backend owns every pol_buf it made. buf_free takes NULL and cannot fail. New memory is zero. upload
     * and download convert: f32 on the host for f32, f16 and bf16 buffers (to nearest, ties to even), int32_t for i32.
     * n elements, from element `at`. */
    pol_status (*buf_new)(pol_backend *be, pol_dtype dtype, int64_t rows, int64_t row, pol_buf **out);
    void (*buf_free)(pol_backend *be, pol_buf *b);
    pol_status (*upload)(pol_backend *be, pol_buf *dst, int64_t at, const void *src, int64_t n);
    pol_status (*download)(pol_backend *be, const pol_buf *src, int64_t at, void *dst, int64_t n);
    /* The same without waiting: dst, which stays the caller's to keep alive, is filled when the next sync or download
     * returns. */
    pol_status (*download_later)(pol_backend *be, const pol_buf *src, int64_t at, void *dst, int64_t n);
    pol_status (*sync)(pol_backend *be);
    void (*close)(pol_backend *be);

    /* f32 elements that an op needs besides its operands; one whose scratch is 0 takes no scratch view. None of these
     * numbers falls when an argument grows, so that what serves the largest call serves all. */
    int64_t (*gemm_scratch)(pol_backend *be, int64_t T, int64_t N, int64_t C); /* project and project_add */
    int64_t (*attention_scratch)(pol_backend *be, int64_t T, int64_t S, int64_t G, int64_t g, int64_t D);
    int64_t (*nll_scratch)(pol_backend *be, int64_t T, int64_t C, int64_t slice);
    int64_t (*gram_scratch)(pol_backend *be, int64_t T, int64_t N, int64_t M);

    /* Required. */
    pol_status (*embed)(pol_backend *be, const pol_embed_args *a);
    pol_status (*rmsnorm)(pol_backend *be, const pol_rmsnorm_args *a);
    pol_status (*project)(pol_backend *be, const pol_project_args *a);
    pol_status (*project_add)(pol_backend *be, const pol_project_add_args *a);
    pol_status (*rope)(pol_backend *be, const pol_rope_args *a);
    pol_status (*attention)(pol_backend *be, const pol_attention_args *a);
    pol_status (*swiglu)(pol_backend *be, const pol_swiglu_args *a);
    pol_status (*nll)(pol_backend *be, const pol_nll_args *a);
    pol_status (*swap_units)(pol_backend *be, const pol_swap_args *a, int64_t n);
    pol_status (*activation_stats)(pol_backend *be, const pol_activation_stats_args *a);
    pol_status (*gram)(pol_backend *be, const pol_gram_args *a);

    /* Optional, both or none, on host arrays, done when they return: what repairs the weights that stay. Without them
     * the front doors say POL_EUNSUPPORTED, and whoever asks uses the backend of the host's processor
     * (pol_backend_open_host), which has them. */
    pol_status (*solve_spd)(pol_backend *be, pol_solve_spd_args *a);
    pol_status (*obs_sweep)(pol_backend *be, pol_obs_sweep_args *a);

    /* Optional: NULL where a backend has nothing to gain. Without project_swiglu the front door calls project, then
     * swiglu. */
    pol_status (*project_swiglu)(pol_backend *be, const pol_project_swiglu_args *a);

    /* Optional: all device memory of the buffers to come, in one piece: `bytes` of pol_buf_bytes(). Called before the
     * first buffer is made; POL_ENOMEM where there is not as much. */
    pol_status (*reserve)(pol_backend *be, uint64_t bytes);

    /* Optional, both or none: a stretch of ops that comes again. Between pass_begin and pass_end only ops are called,
     * no transfers. Whoever gives the same key calls the same ops with the same operands and sizes; where the backend
     * has recorded them it queues them itself, says so in *replayed, and neither the ops nor pass_end are called.
     * Freeing a buffer forgets what was recorded. pass_end comes after any pass_begin that was not replayed, with how
     * the ops went; it returns a failure of its own only where they did not fail. */
    pol_status (*pass_begin)(pol_backend *be, const void *key, size_t key_bytes, bool *replayed);
    pol_status (*pass_end)(pol_backend *be, pol_status so_far);

    /* Optional, all four or none: weights that stay in host memory and visit the device. host_new gives host memory
     * that the device can read at full speed. stream_in queues a copy of n elements, already of dst's type, into dst
     * from its first on, to run beside the ops called after it and after all called before it; src stays as it is until
     * then. stream_wait: ops called from here on find dst filled. */
    pol_status (*host_new)(pol_backend *be, size_t bytes, void **out);
    void (*host_free)(pol_backend *be, void *p);
    pol_status (*stream_in)(pol_backend *be, pol_buf *dst, const void *src, int64_t n);
    pol_status (*stream_wait)(pol_backend *be, pol_buf *dst);
} pol_ops;

struct pol_backend {
    pol_context *ctx;
    const pol_ops *ops;
    pol_device_info info;
    pol_dtype weight_dtype; /* what weights are stored as: f32 on the CPU */
    pol_dtype act_dtype;    /* what activations between ops are stored as; the residual stream x is always f32 */
    int64_t width_tile;     /* kept MLP widths are rounded up to this; 1 = no padding */
    int64_t nll_slice;      /* rows of the vocabulary at a time that suit the device */
    uint64_t buf_align;     /* what a buffer takes is a multiple of this many bytes; 1 or a power of two */
    uint64_t bytes_in_use, bytes_peak; /* of buffers; kept by the front doors */
};

/* Channels that a GEMM runs on for `n` kept ones. */
static inline int64_t pol_padded(const pol_backend *be, int64_t n)
{
    return (n + be->width_tile - 1) / be->width_tile * be->width_tile;
}

/* Device bytes that a buffer of so many elements takes; UINT64_MAX where they cannot be counted. */
uint64_t pol_buf_bytes(const pol_backend *be, pol_dtype dtype, int64_t n);

/* The front doors. Every one returns POL_ESHAPE or POL_EARG, with a sentence, for a call outside the contract.
 * pol_buf_new makes a buffer of one row. */
pol_status pol_buf_new(pol_backend *be, pol_dtype dtype, int64_t n, pol_buf **out);
pol_status pol_buf_new_rows(pol_backend *be, pol_dtype dtype, int64_t rows, int64_t row, pol_buf **out);
void pol_buf_free(pol_backend *be, pol_buf *b);
pol_status pol_upload(pol_backend *be, pol_buf *dst, int64_t at, const void *src, int64_t n);
pol_status pol_download(pol_backend *be, const pol_buf *src, int64_t at, void *dst, int64_t n);
pol_status pol_download_later(pol_backend *be, const pol_buf *src, int64_t at, void *dst, int64_t n);
pol_status pol_sync(pol_backend *be);
pol_status pol_reserve(pol_backend *be, uint64_t bytes);
/* Where a backend does not record passes, *replayed is false and pass_end does nothing. */
pol_status pol_pass_begin(pol_backend *be, const void *key, size_t key_bytes, bool *replayed);
pol_status pol_pass_end(pol_backend *be, pol_status so_far);
bool pol_can_stream(const pol_backend *be);
/* POL_EUNSUPPORTED where pol_can_stream() is false. */
pol_status pol_host_new(pol_backend *be, size_t bytes, void **out);
void pol_host_free(pol_backend *be, void *p); /* takes NULL */
pol_status pol_stream_in(pol_backend *be, pol_buf *dst, const void *src, int64_t n);
pol_status pol_stream_wait(pol_backend *be, pol_buf *dst);
pol_status pol_embed(pol_backend *be, const pol_embed_args *a);
pol_status pol_rmsnorm(pol_backend *be, const pol_rmsnorm_args *a);
pol_status pol_project(pol_backend *be, const pol_project_args *a);
pol_status pol_project_swiglu(pol_backend *be, const pol_project_swiglu_args *a);
pol_status pol_project_add(pol_backend *be, const pol_project_add_args *a);
pol_status pol_rope(pol_backend *be, const pol_rope_args *a);
pol_status pol_attention(pol_backend *be, const pol_attention_args *a);
pol_status pol_swiglu(pol_backend *be, const pol_swiglu_args *a);
pol_status pol_nll(pol_backend *be, const pol_nll_args *a);
pol_status pol_swap_units(pol_backend *be, const pol_swap_args *a, int64_t n);
pol_status pol_activation_stats(pol_backend *be, const pol_activation_stats_args *a);
pol_status pol_gram(pol_backend *be, const pol_gram_args *a);
bool pol_can_repair(const pol_backend *be); /* has solve_spd and obs_sweep */
pol_status pol_solve_spd(pol_backend *be, pol_solve_spd_args *a);
pol_status pol_obs_sweep(pol_backend *be, pol_obs_sweep_args *a);
int64_t pol_gemm_scratch(pol_backend *be, int64_t T, int64_t N, int64_t C);
int64_t pol_attention_scratch(pol_backend *be, int64_t T, int64_t S, int64_t G, int64_t g, int64_t D);
int64_t pol_nll_scratch(pol_backend *be, int64_t T, int64_t C, int64_t slice);
int64_t pol_gram_scratch(pol_backend *be, int64_t T, int64_t N, int64_t M);

/* POL_EARG, naming what is wrong, for a table of another ABI or with an entry missing. Called once, when a backend is
 * opened. */
pol_status pol_ops_check(pol_context *ctx, const char *name, const pol_ops *ops);

/* A product that a forward pass makes `times` times: y [T,N] = x [T,K] w^T, w [N,K] (project), or with `add`
 * y [T,N] += x [T,K] w, w [K,N] (project_add). */
typedef struct pol_product {
    bool add;
    int64_t T, N, K, times;
} pol_product;

/* What a device is tuned for: passes of `batch` sequences through the dense model and what masks leave of it, and of
 * single ones (core/products.h has their products). */
typedef struct pol_tune_job {
    const pol_config *dense, *masked;
    int64_t batch, seq_len;
    double seconds; /* about how long it may take */
    const pol_bench_observer *watch;
} pol_tune_job;

/* What a backend offers to the registry (backends/registry.c). list appends to out[*n], of room for `cap` in all, and
 * raises *n; a device that cannot be used is listed with the reason. A driver that is missing or has no device is no
 * failure: `note`, "" on entry, says so. One that fails is POL_EDEVICE, and is in the note too. open makes one of the
 * devices so listed. */
typedef struct pol_backend_driver {
    const char *name;
    pol_status (*list)(pol_context *ctx, pol_device_info *out, int64_t cap, int64_t *n, char note[POL_NOTE_BYTES]);
    pol_status (*open)(pol_context *ctx, const pol_device_info *device, const pol_backend_options *o,
                       pol_backend **out);
    /* Looks for parameters with which the vendor's library does the products of these passes faster, and keeps them for
     * the next open. NULL: there are none to be looked for. */
    pol_status (*tune)(pol_context *ctx, const pol_device_info *device, const pol_tune_job *job,
                       pol_tune_result *result);
} pol_backend_driver;

/* Tunes the device that `o` chooses; POL_EUNSUPPORTED where there is nothing to tune. */
pol_status pol_backend_tune(pol_context *ctx, const pol_backend_options *o, const pol_tune_job *job,
                            pol_tune_result *result);

#endif
