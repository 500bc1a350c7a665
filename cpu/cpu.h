/* cpu.h - what the ops of the CPU share: where their data lies, how many threads they use. f32 throughout.
 *
 * Threads: one OpenMP pool, never nested. An op either calls a GEMM, which OpenBLAS spreads over the pool, or opens one
 * parallel loop, inside which a GEMM runs on the thread that calls it. Loops write each element from one thread only,
 * so the thread count changes no bit of them.
 */
#ifndef POL_CPU_H
#define POL_CPU_H

#include "core/backend.h"

typedef struct pol_cpu {
    pol_backend base;
    int threads;
} pol_cpu;

typedef struct pol_cpu_buf {
    pol_buf base;
    void *block; /* as allocated */
    void *data;  /* CPU_ALIGN-aligned inside it */
} pol_cpu_buf;

enum {
    CPU_ALIGN = 64,           /* a cache line, and the widest vector */
    CPU_PARALLEL_MIN = 16384, /* elements below which waking the pool costs more than it saves */
};

static inline int cpu_threads(const pol_backend *be) { return ((const pol_cpu *)be)->threads; }

/* NULL for an absent view. */
static inline float *cpu_f32(pol_view v) { return v.buf ? (float *)((pol_cpu_buf *)v.buf)->data + v.at : NULL; }
static inline int32_t *cpu_i32(pol_view v) { return (int32_t *)((pol_cpu_buf *)v.buf)->data + v.at; }
static inline unsigned char *cpu_bytes(pol_view v)
{
    return (unsigned char *)((pol_cpu_buf *)v.buf)->data + (size_t)v.at * pol_dtype_size(v.buf->dtype);
}

/* OpenBLAS brings its own; the plain loops need none. */
static inline int64_t gemm_scratch_none(pol_backend *be, int64_t T, int64_t N, int64_t C)
{
    (void)be, (void)T, (void)N, (void)C;
    return 0;
}

/* The fast ops, cpu/STEM.c. */
pol_status embed_cpu(pol_backend *be, const pol_embed_args *a);
pol_status rmsnorm_cpu(pol_backend *be, const pol_rmsnorm_args *a);
pol_status project_cpu(pol_backend *be, const pol_project_args *a);
pol_status project_add_cpu(pol_backend *be, const pol_project_add_args *a);
pol_status rope_cpu(pol_backend *be, const pol_rope_args *a);
pol_status attention_cpu(pol_backend *be, const pol_attention_args *a);
int64_t attention_scratch_cpu(pol_backend *be, int64_t T, int64_t S, int64_t G, int64_t g, int64_t D);
int64_t nll_scratch_cpu(pol_backend *be, int64_t T, int64_t C, int64_t slice);
pol_status swiglu_cpu(pol_backend *be, const pol_swiglu_args *a);
pol_status nll_cpu(pol_backend *be, const pol_nll_args *a);
pol_status swap_units_cpu(pol_backend *be, const pol_swap_args *a, int64_t n);
pol_status activation_stats_cpu(pol_backend *be, const pol_activation_stats_args *a);
pol_status gram_cpu(pol_backend *be, const pol_gram_args *a);
int64_t gram_scratch_cpu(pol_backend *be, int64_t T, int64_t N, int64_t M);
/* Those on host arrays. They are in both tables: what they must give, tests/ops/test_repair_ops.c says by itself. */
pol_status solve_spd_cpu(pol_backend *be, pol_solve_spd_args *a);
pol_status obs_sweep_cpu(pol_backend *be, pol_obs_sweep_args *a);

/* The reference ops, cpu/reference.c: the formulas of backend.h in plain loops, right by definition. */
pol_status embed_reference(pol_backend *be, const pol_embed_args *a);
pol_status rmsnorm_reference(pol_backend *be, const pol_rmsnorm_args *a);
pol_status project_reference(pol_backend *be, const pol_project_args *a);
pol_status project_add_reference(pol_backend *be, const pol_project_add_args *a);
pol_status rope_reference(pol_backend *be, const pol_rope_args *a);
pol_status attention_reference(pol_backend *be, const pol_attention_args *a);
int64_t attention_scratch_reference(pol_backend *be, int64_t T, int64_t S, int64_t G, int64_t g, int64_t D);
int64_t nll_scratch_reference(pol_backend *be, int64_t T, int64_t C, int64_t slice);
pol_status swiglu_reference(pol_backend *be, const pol_swiglu_args *a);
pol_status nll_reference(pol_backend *be, const pol_nll_args *a);
pol_status swap_units_reference(pol_backend *be, const pol_swap_args *a, int64_t n);
pol_status activation_stats_reference(pol_backend *be, const pol_activation_stats_args *a);
pol_status gram_reference(pol_backend *be, const pol_gram_args *a);
int64_t gram_scratch_reference(pol_backend *be, int64_t T, int64_t N, int64_t M);

#endif
