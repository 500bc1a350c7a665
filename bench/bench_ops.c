/* bench_ops.c - each op of the CPU beside a bare call that nothing can beat: sgemm of the same shapes, or memcpy of the
 * same bytes.
 *
 *     bench_ops [threads]
 *
 * Op and bare call take turns; each line gives the medians of both, their ratio, and the op's rate. The first shape set
 * is SmolLM2-135M at keep 0.5 with 8 sequences of 128 tokens; the second has the widths of a 7B model, its tokens,
 * groups and vocabulary cut down.
 */
#include <cblas.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "core/backend.h"
#include "core/base/rng.h"

enum { PAIRS = 15 };

typedef struct shape {
    const char *name;
    int64_t T, S, C, G, g, D, F, V; /* G and F as kept */
} shape;

static const shape shapes[] = {
    {"smollm2-135m", .T = 1024, .S = 128, .C = 576, .G = 2, .g = 3, .D = 64, .F = 768, .V = 49152},
    {"7b-like", .T = 512, .S = 512, .C = 4096, .G = 8, .g = 1, .D = 128, .F = 2048, .V = 8192},
};

/* The operands of all ops at a shape. The reference calls work on plain memory of their own: `from`, `to`. */
typedef struct bench {
    pol_context *ctx;
    pol_backend *be;
    const shape *s;
    pol_buf *x, *y, *wide, *mid, *gain, *w, *table, *ids, *cos_sin, *scratch, *target, *nll, *sums, *xx, *xy;
    float *from, *to, *weights;
    int32_t *low, *high;
} bench;

typedef struct line {
    const char *op, *against;
    pol_status (*run)(bench *b);
    void (*bare)(bench *b);
    double (*flops)(const shape *s);
    double (*bytes)(const shape *s);
} line;

static int64_t qkv_cols(const shape *s) { return s->G * (s->g + 2) * s->D; }
static int64_t ctx_cols(const shape *s) { return s->G * s->g * s->D; }

static void gemm(const bench *b, int64_t m, int64_t n, int64_t k, const float *w, bool rows_out, float beta)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, rows_out ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, 1, b->from,
                (int)k, w, (int)(rows_out ? k : n), beta, b->to, (int)n);
}

/* memcpy on all threads, as the ops are. */
static void copy(const bench *b, int64_t n)
{
#pragma omp parallel
    {
        const int64_t part = (n + omp_get_num_threads() - 1) / omp_get_num_threads(), at = part * omp_get_thread_num();
        if (at < n)
            memcpy(b->to + at, b->from + at, (size_t)(n - at < part ? n - at : part) * sizeof *b->to);
    }
}

#define TC (b->s->T * b->s->C)
static pol_status run_embed(bench *b)
{
    return pol_embed(b->be, &(pol_embed_args){{b->x, 0}, {b->table, 0}, {b->ids, 0}, b->s->T, b->s->C, b->s->V});
}
static void bare_embed(bench *b) { copy(b, TC); }

static pol_status run_rmsnorm(bench *b)
{
    return pol_rmsnorm(b->be, &(pol_rmsnorm_args){{b->y, 0}, {b->x, 0}, {b->gain, 0}, b->s->T, b->s->C, 1e-5f});
}

static pol_status run_project(bench *b)
{
    return pol_project(
        b->be, &(pol_project_args){
                   .y = {b->wide, 0}, .x = {b->y, 0}, .w = {b->w, 0}, .T = b->s->T, .N = 2 * b->s->F, .C = b->s->C});
}
static void bare_project(bench *b) { gemm(b, b->s->T, 2 * b->s->F, b->s->C, b->weights, true, 0); }

static pol_status run_project_add(bench *b)
{
    return pol_project_add(
        b->be, &(pol_project_add_args){
                   .x = {b->x, 0}, .h = {b->mid, 0}, .w = {b->w, 0}, .T = b->s->T, .N = b->s->F, .C = b->s->C});
}
static void bare_project_add(bench *b) { gemm(b, b->s->T, b->s->C, b->s->F, b->weights, false, 1); }

static pol_status run_rope(bench *b)
{
    const shape *s = b->s;
    return pol_rope(b->be, &(pol_rope_args){{b->wide, 0}, {b->cos_sin, 0}, s->T, s->S, s->G, s->g, s->D});
}
static void bare_rope(bench *b) { copy(b, b->s->T * qkv_cols(b->s)); }

static pol_status run_attention(bench *b)
{
    const shape *s = b->s;
    return pol_attention(
        b->be,
        &(pol_attention_args){{b->mid, 0}, {b->wide, 0}, {b->scratch, 0}, s->T, s->S, s->G, s->g, s->D, 0, 0.125f});
}
/* The scores and weighted sums of whole sequences, triangle and all, for every head. */
static void bare_attention(bench *b)
{
    const shape *s = b->s;
    for (int64_t i = 0; i < s->T / s->S * s->G * s->g; i++) {
        gemm(b, s->S, s->S, s->D, b->weights, true, 0);
        gemm(b, s->S, s->D, s->S, b->weights, false, 0);
    }
}

static pol_status run_swiglu(bench *b)
{
    return pol_swiglu(b->be, &(pol_swiglu_args){{b->mid, 0}, {b->wide, 0}, b->s->T, b->s->F, b->s->F});
}
static void bare_swiglu(bench *b) { copy(b, b->s->T * b->s->F * 3 / 2); }

static pol_status run_nll(bench *b)
{
    const shape *s = b->s;
    return pol_nll(b->be, &(pol_nll_args){{b->nll, 0},
                                          {b->y, 0},
                                          {b->table, 0},
                                          {b->target, 0},
                                          {b->scratch, 0},
                                          s->T,
                                          1,
                                          s->C,
                                          s->V,
                                          b->be->nll_slice});
}
static void bare_nll(bench *b)
{
    for (int64_t v = 0; v < b->s->V; v += b->be->nll_slice)
        gemm(b, b->s->T, pol_min_i64(b->be->nll_slice, b->s->V - v), b->s->C, b->weights + v * b->s->C, true, 0);
}

static pol_status run_swap(bench *b)
{
    const int64_t n = b->s->F;
    return pol_swap_units(b->be, &(pol_swap_args){{b->w, 0}, 2 * b->s->C, n, n / 2, b->low, b->high}, 1);
}
static void bare_swap(bench *b) { copy(b, b->s->F * 2 * b->s->C); }

static pol_status run_stats(bench *b)
{
    return pol_activation_stats(
        b->be, &(pol_activation_stats_args){{b->mid, 0}, {b->sums, 0}, {b->sums, b->s->F}, b->s->T, b->s->F});
}
static void bare_stats(bench *b) { copy(b, b->s->T * b->s->F / 2); }

static pol_status run_gram(bench *b)
{
    return pol_gram(b->be, &(pol_gram_args){.a = {b->xx, 0},
                                            .b = {b->xy, 0},
                                            .x = {b->mid, 0},
                                            .y = {b->x, 0},
                                            .scratch = {b->scratch, 0},
                                            .T = b->s->T,
                                            .N = b->s->F,
                                            .M = b->s->C});
}
/* Half of x^T x, and x^T y. */
static void bare_gram(bench *b)
{
    const int T = (int)b->s->T, F = (int)b->s->F, C = (int)b->s->C;
    cblas_ssyrk(CblasRowMajor, CblasLower, CblasTrans, F, T, 1, b->from, F, 0, b->to, F);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, F, C, T, 1, b->from, F, b->weights, C, 0, b->to, C);
}

static double flops_project(const shape *s) { return 2.0 * (double)(s->T * 2 * s->F * s->C); }
static double flops_project_add(const shape *s) { return 2.0 * (double)(s->T * s->F * s->C); }
static double flops_attention(const shape *s) { return 2.0 * (double)(s->T * (s->S + 1) * ctx_cols(s)); }
static double flops_nll(const shape *s) { return 2.0 * (double)(s->T * s->V * s->C); }
static double flops_gram(const shape *s) { return (double)(s->T * s->F * (s->F + 2 * s->C)); }
static double bytes_embed(const shape *s) { return 8.0 * (double)(s->T * s->C); }
static double bytes_rope(const shape *s) { return 8.0 * (double)(s->T * qkv_cols(s)); }
static double bytes_swiglu(const shape *s) { return 12.0 * (double)(s->T * s->F); }
static double bytes_swap(const shape *s) { return 8.0 * (double)(s->F * 2 * s->C); }
static double bytes_stats(const shape *s) { return 4.0 * (double)(s->T * s->F); }

static const line lines[] = {
    {"embed", "memcpy", run_embed, bare_embed, NULL, bytes_embed},
    {"rmsnorm", "memcpy", run_rmsnorm, bare_embed, NULL, bytes_embed},
    {"project", "sgemm", run_project, bare_project, flops_project, NULL},
    {"project_add", "sgemm", run_project_add, bare_project_add, flops_project_add, NULL},
    {"rope", "memcpy", run_rope, bare_rope, NULL, bytes_rope},
    {"attention", "sgemm", run_attention, bare_attention, flops_attention, NULL},
    {"swiglu", "memcpy", run_swiglu, bare_swiglu, NULL, bytes_swiglu},
    {"nll", "sgemm", run_nll, bare_nll, flops_nll, NULL},
    {"swap_units", "memcpy", run_swap, bare_swap, NULL, bytes_swap},
    {"activation_stats", "memcpy", run_stats, bare_stats, NULL, bytes_stats},
    {"gram", "sgemm", run_gram, bare_gram, flops_gram, NULL},
};

static pol_status time_line(bench *b, const line *l)
{
    double op[PAIRS], bare[PAIRS];
    for (int i = -1; i < PAIRS; i++) { /* the first pair warms up */
        const double t0 = bench_seconds();
        POL_TRY(l->run(b));
        POL_TRY(pol_sync(b->be));
        const double t1 = bench_seconds();
        l->bare(b);
        const double t2 = bench_seconds();
        if (i >= 0) {
            op[i] = t1 - t0;
            bare[i] = t2 - t1;
        }
    }
    const double t = pol_bench_median(op, PAIRS), work = l->flops ? l->flops(b->s) : l->bytes(b->s);
    printf("%-14s %-17s %9.3f ms  %-6s %9.3f ms  ratio %5.2f  %7.1f %s, %.3g %s\n", b->s->name, l->op, 1e3 * t,
           l->against, 1e3 * pol_bench_median(bare, PAIRS), t / pol_bench_median(bare, PAIRS), work / t * 1e-9,
           l->flops ? "GFLOP/s" : "GB/s", work, l->flops ? "FLOP" : "bytes");
    return POL_OK;
}

static pol_status make(bench *b, pol_dtype dtype, int64_t n, pol_buf **out)
{
    POL_TRY(pol_buf_new(b->be, dtype, n, out));
    if (dtype != POL_F32)
        return POL_OK;
    float *x = pol_alloc_array(b->ctx, n, sizeof *x);
    if (!x)
        return POL_ENOMEM;
    pol_uniform(1, POL_STREAM_TEST, 0, 0, n, x);
    pol_status s = pol_upload(b->be, *out, 0, x, n);
    pol_free(b->ctx, x);
    return s;
}

static int64_t max3(int64_t a, int64_t b, int64_t c) { return pol_max_i64(a, pol_max_i64(b, c)); }

static pol_status fill(bench *b)
{
    const shape *s = b->s;
    const int64_t wide = s->T * max3(qkv_cols(s), 2 * s->F, s->C), w = 2 * s->F * s->C;
    const int64_t any =
        max3(wide, s->T * b->be->nll_slice, max3(w, s->V * s->C, max3(s->S * s->S, s->F * s->F, s->F * s->C)));
    POL_TRY(make(b, POL_F32, s->T * s->C, &b->x));
    POL_TRY(make(b, POL_F32, s->T * s->C, &b->y));
    POL_TRY(make(b, POL_F32, wide, &b->wide));
    POL_TRY(make(b, POL_F32, s->T * pol_max_i64(ctx_cols(s), s->F), &b->mid));
    POL_TRY(make(b, POL_F32, s->C, &b->gain));
    POL_TRY(make(b, POL_F32, w, &b->w));
    POL_TRY(make(b, POL_F32, s->V * s->C, &b->table));
    POL_TRY(make(b, POL_I32, s->T, &b->ids));
    POL_TRY(make(b, POL_F32, s->S * s->D, &b->cos_sin));
    POL_TRY(make(b, POL_F32,
                 max3(s->T * b->be->nll_slice, pol_attention_scratch(b->be, s->T, s->S, s->G, s->g, s->D),
                      pol_gram_scratch(b->be, s->T, s->F, s->C)),
                 &b->scratch));
    POL_TRY(make(b, POL_I32, s->T, &b->target));
    POL_TRY(make(b, POL_F32, s->T, &b->nll));
    POL_TRY(make(b, POL_F32, 2 * s->F, &b->sums));
    POL_TRY(make(b, POL_F32, 2 * s->F * s->F, &b->xx));
    POL_TRY(make(b, POL_F32, 2 * s->F * s->C, &b->xy));
    b->from = pol_alloc_array(b->ctx, any, sizeof(float));
    b->to = pol_alloc_zero(b->ctx, (size_t)any * sizeof(float));
    b->weights = pol_alloc_array(b->ctx, any, sizeof(float));
    b->low = pol_alloc_array(b->ctx, s->F, sizeof(int32_t));
    b->high = pol_alloc_array(b->ctx, s->F, sizeof(int32_t));
    if (!b->from || !b->to || !b->weights || !b->low || !b->high)
        return POL_ENOMEM;
    pol_uniform(1, POL_STREAM_TEST, 0, 1, any, b->from);
    pol_uniform(1, POL_STREAM_TEST, 0, 2, any, b->weights);
    for (int32_t i = 0; i < s->F / 2; i++) {
        b->low[i] = i;
        b->high[i] = (int32_t)s->F - 1 - i;
    }
    return POL_OK;
}

static void clear(bench *b)
{
    pol_buf *bufs[] = {b->x,       b->y,       b->wide,   b->mid, b->gain, b->w,  b->table, b->ids,
                       b->cos_sin, b->scratch, b->target, b->nll, b->sums, b->xx, b->xy};
    for (size_t i = 0; i < POL_COUNT(bufs); i++)
        pol_buf_free(b->be, bufs[i]);
    void *host[] = {b->from, b->to, b->weights, b->low, b->high};
    for (size_t i = 0; i < POL_COUNT(host); i++)
        pol_free(b->ctx, host[i]);
}

static pol_status run_shape(pol_context *ctx, pol_backend *be, const shape *s)
{
    bench b = {.ctx = ctx, .be = be, .s = s};
    pol_status status = fill(&b);
    for (size_t i = 0; i < POL_COUNT(lines) && status == POL_OK; i++)
        status = time_line(&b, &lines[i]);
    clear(&b);
    return status;
}

int main(int argc, char **argv)
{
    const int threads = argc > 1 ? atoi(argv[1]) : omp_get_max_threads();
    pol_context *ctx;
    if (pol_context_new(NULL, &ctx) < 0)
        return 1;
    openblas_set_num_threads(threads); /* for the bare calls; sets OpenMP's count too */
    pol_backend *be = NULL;
    pol_status s = pol_backend_open(ctx, &(pol_backend_options){.name = "cpu", .threads = threads}, &be);
    if (s == POL_OK)
        printf("%s: %s\n", pol_backend_info(be)->name, pol_backend_info(be)->detail);
    for (size_t i = 0; i < POL_COUNT(shapes) && s == POL_OK; i++)
        s = run_shape(ctx, be, &shapes[i]);
    if (s < 0)
        fprintf(stderr, "bench_ops: %s\n", pol_error_text(ctx));
    pol_backend_close(be);
    pol_context_free(ctx);
    return s < 0;
}
