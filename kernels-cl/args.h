/* args.h - what the kernels are told besides their buffers: one struct an op, passed by value, the same text for the
 * host and for OpenCL C. Offsets are in elements, from the start of the buffer given beside them. Letters and layouts:
 * core/backend.h. */
#ifndef POL_KERNEL_ARGS_H
#define POL_KERNEL_ARGS_H

#ifdef __OPENCL_C_VERSION__
typedef int arg_int;
typedef long arg_long;
typedef float arg_float;
#else
#include <CL/cl.h>
typedef cl_int arg_int;
typedef cl_long arg_long;
typedef cl_float arg_float;
#endif

/* 64-bit members first, and `unused` where there is an odd number of others: no compiler then pads. */

/* `first` <= id < `end`: the rows of the table that this piece of it holds, from table_at on. */
typedef struct embed_args {
    arg_long x_at, table_at, ids_at;
    arg_int T, C, first, end;
} embed_args;

typedef struct rmsnorm_args {
    arg_long y_at, x_at, gain_at;
    arg_int T, C;
    arg_float eps, unused;
} rmsnorm_args;

/* y [n] = w [n] in f32. */
typedef struct widen_args {
    arg_long y_at, w_at, n;
} widen_args;

/* y [T,N] += bias [N]. */
typedef struct bias_args {
    arg_long y_at, bias_at;
    arg_int T, N;
} bias_args;

typedef struct rope_args {
    arg_long qkv_at, cos_sin_at;
    arg_int S, G, g, D;
} rope_args;

typedef struct swiglu_args {
    arg_long h_at, gu_at;
    arg_int kept, padded;
} swiglu_args;

typedef struct stats_args {
    arg_long x_at, sum_at, sumsq_at;
    arg_int T, N;
} stats_args;

/* Columns, in vectors, that a work-group of activation_stats_group goes down side by side, where it has as many
 * work-items. */
enum { STATS_LANES = 32 };

/* Where the two units of a pair start, each in the piece of the buffer that holds it. */
typedef struct swap_pair {
    arg_long a_at, b_at;
} swap_pair;

/* Pairs `first` and following. */
typedef struct swap_args {
    arg_int first, unit;
} swap_args;

/* window: S where there is none. */
typedef struct attention_args {
    arg_long out_at, qkv_at;
    arg_int S, G, g, window;
    arg_float scale, unused;
} attention_args;

/* Logits [T, n] of the ids from `first` on, the `last` or not; k targets and NLL_KEPT floats that are kept of a token.
 */
typedef struct nll_args {
    arg_long nll_at, logits_at, kept_at, target_at;
    arg_int k, first, n, last;
} nll_args;

enum { NLL_KEPT = 2 };

/* Where a product in rows of `columns` starts, and the high and the low parts of the sums that it is added to, in rows
 * of `stride`. */
typedef struct gram_args {
    arg_long high_at, low_at, product_at;
    arg_int columns, stride;
} gram_args;

#endif
