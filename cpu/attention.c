/* attention.c - blocks of queries against the keys that they may see, two small GEMMs a block.
 *
 * One item of work is (sequence, group, block of positions). The rows of a block are its positions' g query heads:
 *
 *     q     [rows, D]       gathered from the fused rows
 *     score [rows, keys] =  scale * q k^T, for the keys up to the block's last position: of the upper triangle only
 *                           what lies inside the block is computed
 *     score              =  exp(score - max) per row on the keys that it sees, 0 on the others
 *     ctx   [rows, D]    =  score v; each row is divided by its sum on the way out
 *
 * Items share nothing and each runs on one thread. A thread's scratch is rows * (2 D + keys + 1): it grows with S, not
 * with S^2.
 */
#include <cblas.h>
#include <limits.h>
#include <omp.h>

#include "cpu/gemm.h"
#include "cpu/simd.h"

enum {
    BLOCK_ROWS = 96, /* rows aimed at: enough for the GEMM, few enough to waste little of the triangle */
    MIN_QUERIES = 8,
    MAX_QUERIES = 64
};

typedef struct block_scratch {
    float *q, *ctx, *sum, *score;
} block_scratch;

static int64_t queries_of(int64_t S, int64_t g)
{
    return pol_min_i64(S, pol_min_i64(MAX_QUERIES, pol_max_i64(MIN_QUERIES, BLOCK_ROWS / g)));
}

/* Elements of one thread's scratch, rounded up so that every part of it is aligned. */
static int64_t round_up(int64_t n)
{
    const int64_t line = CPU_ALIGN / (int64_t)sizeof(float);
    return (n + line - 1) / line * line;
}

static int64_t thread_scratch(int64_t S, int64_t g, int64_t D)
{
    const int64_t rows = queries_of(S, g) * g;
    return 2 * round_up(rows * D) + round_up(rows) + round_up(rows * S);
}

int64_t attention_scratch_cpu(pol_backend *be, int64_t T, int64_t S, int64_t G, int64_t g, int64_t D)
{
    (void)T, (void)G;
    return pol_mul_count(thread_scratch(S, g, D), cpu_threads(be));
}

static block_scratch take_scratch(float *at, int64_t rows, int64_t D)
{
    block_scratch b = {.q = at};
    b.ctx = b.q + round_up(rows * D);
    b.sum = b.ctx + round_up(rows * D);
    b.score = b.sum + round_up(rows);
    return b;
}

/* score [n]: keys before `lo` and after `hi` get weight 0, the others exp(score - max). Returns the weights' sum. */
CPU_CLONES static float softmax_row(float *restrict score, int64_t lo, int64_t hi, int64_t n)
{
    const float max = cpu_max(score + lo, hi + 1 - lo);
    float sum = 0;
    memset(score, 0, (size_t)lo * sizeof *score);
#pragma omp simd reduction(+ : sum)
    for (int64_t i = lo; i <= hi; i++) {
        const float e = cpu_expf(score[i] - max);
        score[i] = e;
        sum += e;
    }
    memset(score + hi + 1, 0, (size_t)(n - hi - 1) * sizeof *score);
    return sum;
}

CPU_CLONES static void divide_row(float *restrict out, const float *restrict ctx, float sum, int64_t D)
{
    const float scale = 1.0f / sum;
#pragma omp simd
    for (int64_t d = 0; d < D; d++)
        out[d] = ctx[d] * scale;
}

/* Positions begin..end-1 of one sequence and group: `qkv` and `out` point at the group in the sequence's first row. */
static void attend_block(const pol_attention_args *a, const float *qkv, float *out, int64_t begin, int64_t end,
                         block_scratch b)
{
    const int64_t g = a->g, D = a->D, row = a->G * (g + 2) * D;
    const int64_t first = a->window > 0 ? pol_max_i64(0, begin - a->window + 1) : 0;
    const int64_t rows = (end - begin) * g, keys = end - first;
    const float *k = qkv + first * row + g * D, *v = k + D;
    for (int64_t p = begin; p < end; p++)
        memcpy(b.q + (p - begin) * g * D, qkv + p * row, (size_t)(g * D) * sizeof *b.q);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)keys, (int)D, a->scale, b.q, (int)D, k,
                (int)row, 0.0f, b.score, (int)keys);
    for (int64_t r = 0; r < rows; r++) {
        const int64_t p = begin + r / g;
        const int64_t lo = a->window > 0 ? pol_max_i64(0, p - a->window + 1) : 0;
        b.sum[r] = softmax_row(b.score + r * keys, lo - first, p - first, keys);
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)D, (int)keys, 1.0f, b.score, (int)keys, v,
                (int)row, 0.0f, b.ctx, (int)D);
    for (int64_t r = 0; r < rows; r++)
        divide_row(out + (begin + r / g) * a->G * g * D + r % g * D, b.ctx + r * D, b.sum[r], D);
}

pol_status attention_cpu(pol_backend *be, const pol_attention_args *a)
{
    const int64_t G = a->G, g = a->g, D = a->D, S = a->S;
    const int64_t queries = queries_of(S, g), blocks = (S + queries - 1) / queries, items = a->T / S * G * blocks;
    const int64_t each = thread_scratch(S, g, D);
    const float *qkv = cpu_f32(a->qkv);
    float *out = cpu_f32(a->out), *scratch = cpu_f32(a->scratch);
    if (G * (g + 2) * D > INT_MAX || S > INT_MAX || queries * g > INT_MAX)
        return pol_fail(be->ctx, POL_EUNSUPPORTED,
                        "attention: rows of %lld, sequences of %lld: OpenBLAS counts in 32 bits",
                        (long long)(G * (g + 2) * D), (long long)S);
    /* Inside the loop OpenBLAS stays on its thread, unless the team is of one: then it goes by its own count.
     * Later blocks see more keys, so they go first: the loop ends evenly. */
    const int before = cpu_blas_enter(be);
#pragma omp parallel for schedule(dynamic) num_threads(cpu_threads(be)) if (items > 1)
    for (int64_t item = 0; item < items; item++) {
        const int64_t block = blocks - 1 - item / (items / blocks), sequence = item % (items / blocks) / G,
                      group = item % G;
        attend_block(a, qkv + (sequence * S * G + group) * (g + 2) * D, out + (sequence * S * G + group) * g * D,
                     block * queries, pol_min_i64(S, (block + 1) * queries),
                     take_scratch(scratch + omp_get_thread_num() * each, queries * g, D));
    }
    cpu_blas_leave(before);
    return POL_OK;
}
