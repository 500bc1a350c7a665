/* kernels.h - the seam between the CUDA backend, which is C, and its kernels: a function an op, extern "C", that queues
 * one or more launches on a stream and returns what the launch said. Letters and layouts: core/backend.h. Pointers are
 * to device memory; a bf16 is carried as its 16 bits. All sizes are at least 1 unless it says otherwise. Nothing here
 * allocates, waits or keeps state.
 */
#ifndef POL_KERNELS_CU_H
#define POL_KERNELS_CU_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef uint16_t cu_bf16;

/* x [T,C] = table[ids[t]]. */
typedef struct cu_embed {
    float *x;
    const cu_bf16 *table;
    const int32_t *ids;
    int64_t T, C;
} cu_embed;
cudaError_t pol_cu_embed(cudaStream_t stream, const cu_embed *a);

typedef struct cu_rmsnorm {
    cu_bf16 *y;
    const float *x, *gain;
    int64_t T, C;
    float eps;
} cu_rmsnorm;
cudaError_t pol_cu_rmsnorm(cudaStream_t stream, const cu_rmsnorm *a);

/* y [T,N] += bias [N]: of a product's result, in either type. One of `y` and `x` is NULL. */
typedef struct cu_add_bias {
    cu_bf16 *y;
    float *x;
    const float *bias;
    int64_t T, N;
} cu_add_bias;
cudaError_t pol_cu_add_bias(cudaStream_t stream, const cu_add_bias *a);

typedef struct cu_rope {
    cu_bf16 *qkv;
    const float *cos_sin;
    int64_t T, S, G, g, D;
} cu_rope;
cudaError_t pol_cu_rope(cudaStream_t stream, const cu_rope *a);

/* How attention is done; POL_CU_ATTENTION_AUTO is what suits the sizes. */
typedef enum cu_attention_form {
    POL_CU_ATTENTION_AUTO = 0,
    POL_CU_ATTENTION_PLAIN,    /* any head size, no matrix units */
    POL_CU_ATTENTION_ONE_PASS, /* D a multiple of 16 up to 256, S <= 512: all scores of a tile of rows at once */
    POL_CU_ATTENTION_ONLINE    /* D a multiple of 16 up to 256: keys in blocks, the softmax rescaled as they go by */
} cu_attention_form;

/* window: 0 where there is none. */
typedef struct cu_attention {
    cu_bf16 *out;
    const cu_bf16 *qkv;
    int64_t T, S, G, g, D, window;
    float scale;
    cu_attention_form form;
    int max_shared_bytes; /* of a block on this device, opted in to */
} cu_attention;
/* cudaErrorInvalidValue for a form that does not serve the sizes. A NaN makes NaN of the rows that see it; in a value,
 * without PLAIN, also of others of its sequence and group. */
cudaError_t pol_cu_attention(cudaStream_t stream, const cu_attention *a);
/* Whether a form serves these sizes on a device of so much shared memory. AUTO always does. */
bool pol_cu_attention_serves(cu_attention_form form, int64_t S, int64_t g, int64_t D, int max_shared_bytes);

typedef struct cu_swiglu {
    cu_bf16 *h;
    const cu_bf16 *gu;
    int64_t T, kept, padded; /* kept may be 0 */
} cu_swiglu;
cudaError_t pol_cu_swiglu(cudaStream_t stream, const cu_swiglu *a);

/* The product of gate and up and their swiglu in one: h [T,padded] of x [T,C] and w [padded,2,C]. Sums in f32, the
 * result is rounded once. */
typedef struct cu_project_swiglu {
    cu_bf16 *h;
    const cu_bf16 *x, *w;
    const float *bias; /* [padded,2] or NULL */
    int64_t T, kept, padded, C;
} cu_project_swiglu;
cudaError_t pol_cu_project_swiglu(cudaStream_t stream, const cu_project_swiglu *a);

/* Folds the logits [T,n] of the ids from `first` on into kept [T,2] (largest, sum of exp) and nll [T,k] (the targets'
 * logits), which with the last slice becomes what it is called. */
typedef struct cu_nll {
    float *nll, *kept;
    const float *logits;
    const int32_t *target;
    int64_t T, k, first, n;
    bool last;
} cu_nll;
cudaError_t pol_cu_nll(cudaStream_t stream, const cu_nll *a);

/* One buffer's swaps inside a list. `pairs`: 2 * n_pairs indices, a0 b0 a1 b1 ... A unit is `bytes` long, and `vector`
 * (16, 8, 4 or 2 bytes) divides it and the address of every unit. */
typedef struct cu_swap {
    void *base;
    const int32_t *pairs;
    int64_t bytes, n_pairs;
    int32_t vector, unused;
} cu_swap;

/* All pairs of all buffers in one launch. `swaps` [n] lies in device memory; none is empty. */
typedef struct cu_swaps {
    const cu_swap *swaps;
    int64_t n, n_pairs; /* n_pairs: of all together */
    int64_t longest;    /* vectors of the longest unit */
} cu_swaps;
cudaError_t pol_cu_swap_units(cudaStream_t stream, const cu_swaps *a);

/* sum [N], sumsq [N] over the T rows of x [T,N]. */
typedef struct cu_activation_stats {
    float *sum, *sumsq;
    const cu_bf16 *x;
    int64_t T, N;
} cu_activation_stats;
cudaError_t pol_cu_activation_stats(cudaStream_t stream, const cu_activation_stats *a);

/* parts [3,n]: bf16 whose sum is x [n], the largest first. */
typedef struct cu_split {
    cu_bf16 *parts;
    const float *x;
    int64_t n;
} cu_split;
cudaError_t pol_cu_split(cudaStream_t stream, const cu_split *a);

/* high + low += product [rows, columns], without loss. high, low: `row` elements from one row to the next. */
typedef struct cu_add_to_pairs {
    float *high, *low;
    const float *product;
    int64_t rows, columns, row;
} cu_add_to_pairs;
cudaError_t pol_cu_add_to_pairs(cudaStream_t stream, const cu_add_to_pairs *a);

/* ---- symmetric positive definite matrices in f64: solve_spd and obs_sweep. The factor of one is U, upper triangular,
 * with U^T U; what lies below its diagonal is not looked at. `row`: elements from one row to the next. ---- */

/* a [N,N], all of it: a_ij = h_ij with the rows and columns of h in that order (NULL: as they are), of which the
 * elements (i, j) with j <= i are read; + shift on the diagonal. h may be a, if order is NULL; or NULL: 0. */
typedef struct cu_spread {
    double *a;
    const double *h;
    const int32_t *order;
    double shift;
    int64_t N;
} cu_spread;
cudaError_t pol_cu_spread(cudaStream_t stream, const cu_spread *a);

/* Below the diagonal of a [N,N]: what lies above it, or 0. */
typedef struct cu_fill_lower {
    double *a;
    int64_t N;
    bool mirror;
} cu_fill_lower;
cudaError_t pol_cu_fill_lower(cudaStream_t stream, const cu_fill_lower *a);

/* sums [rows] of the absolute values in each row of x, or of squares. Where pivot is given, row i's is divided by what
 * lies there on the diagonal; NaN where that is not above 0. */
typedef struct cu_row_sums {
    double *sums;
    const double *x, *pivot;
    int64_t rows, columns, row, pivot_row;
    bool squares;
} cu_row_sums;
cudaError_t pol_cu_row_sums(cudaStream_t stream, const cu_row_sums *a);

enum { POL_CU_TRIANGLE = 32 }; /* rows that the next two take at most: larger ones are made of these and products */

/* a [n,n] = its factor, read and written from the diagonal on. A pivot that is not above 0, of row i, makes *failed
 * first + i + 1, unless it is more than 0; the factor then holds nothing of use. */
typedef struct cu_factor {
    double *a;
    int32_t *failed;
    int64_t n, row, first;
} cu_factor;
cudaError_t pol_cu_factor(cudaStream_t stream, const cu_factor *a);

/* b [n, columns] = U^-1 b, or U^-T b. */
typedef struct cu_solve {
    double *b;
    const double *u;
    int64_t n, columns, b_row, u_row;
    bool transposed;
} cu_solve;
cudaError_t pol_cu_solve(cudaStream_t stream, const cu_solve *a);

/* Exchanges the n elements i * across + j * along, j < n, of x of each of the pairs of i: a0 b0 a1 b1 ... */
typedef struct cu_exchange {
    double *x;
    const int32_t *pairs;
    int64_t n_pairs, n, across, along;
} cu_exchange;
cudaError_t pol_cu_exchange(cudaStream_t stream, const cu_exchange *a);

/* to [rows, columns] = the rows of `from` in that order (NULL: as they are); and the other way, n elements. */
typedef struct cu_widen {
    double *to;
    const float *from;
    const int32_t *order;
    int64_t rows, columns;
} cu_widen;
cudaError_t pol_cu_widen(cudaStream_t stream, const cu_widen *a);

typedef struct cu_narrow {
    float *to;
    const double *from;
    int64_t n;
} cu_narrow;
cudaError_t pol_cu_narrow(cudaStream_t stream, const cu_narrow *a);

#ifdef __cplusplus
}
#endif
#endif
