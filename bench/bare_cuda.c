/* bare_cuda.c - the products by cublasLtMatmul, on a stream of its own, one after the other.
 *
 * As the backend has them: bf16 with f32 sums, the result bf16, or f32 where it is added to. The algorithm is the first
 * that cuBLASLt's heuristic names for the shape, with a workspace as NVIDIA advises for Hopper, and chosen before the
 * shape is first run. Weights are taken from all over a pool, as a pass reads them: the same ones would soon be in the
 * device's cache. Numbers are random, since a device that multiplies zeros draws less power and is faster.
 */
#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

#include "backends/cuda/cuda.h"
#include "bench/bare.h"
#include "core/base/rng.h"
#include "core/model/half.h"

enum { SEED = 6, BLOCK = 1 << 20, WORKSPACE = 32 << 20 };
enum { ALIGN = 128, POOL = 1 << 27 }; /* elements: where weights begin; of the pool, at most */

/* A product's call, as cuBLASLt has it: matrices are by columns there, so it is y^T = w x^T. */
typedef struct plan {
    pol_product shape; /* but for `times` */
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t w, x, y;
    cublasLtMatmulAlgo_t algo;
} plan;

struct bare {
    pol_context *ctx;
    cudaStream_t stream;
    cublasLtHandle_t lt;
    uint16_t *x, *w; /* bf16 */
    void *y, *workspace;
    int64_t pool, next; /* elements of w; where the next product's weights begin */
    plan *plans;
    int64_t n, cap;
};

static const char who[] = "bare calls";

static void plan_free(plan *p)
{
    if (p->desc)
        cublasLtMatmulDescDestroy(p->desc);
    cublasLtMatrixLayout_t const layouts[] = {p->w, p->x, p->y};
    for (size_t i = 0; i < POL_COUNT(layouts); i++)
        if (layouts[i])
            cublasLtMatrixLayoutDestroy(layouts[i]);
}

static void close_cuda(bare *b)
{
    if (!b)
        return;
    for (int64_t i = 0; i < b->n; i++)
        plan_free(&b->plans[i]);
    void *const memory[] = {b->x, b->w, b->y, b->workspace};
    for (size_t i = 0; i < POL_COUNT(memory); i++)
        cudaFree(memory[i]);
    if (b->lt)
        cublasLtDestroy(b->lt);
    if (b->stream)
        cudaStreamDestroy(b->stream);
    free(b->plans);
    free(b);
}

/* Random numbers, the same block of them again and again. */
static pol_status new_operand(bare *b, const uint16_t *block, int64_t n, uint16_t **out)
{
    CU_TRY(b->ctx, who, cudaMalloc, (void **)out, (size_t)n * sizeof **out);
    for (int64_t at = 0; at < n; at += BLOCK)
        CU_TRY(b->ctx, who, cudaMemcpy, *out + at, block, (size_t)pol_min_i64(BLOCK, n - at) * sizeof **out,
               cudaMemcpyHostToDevice);
    return POL_OK;
}

static pol_status make_block(pol_context *ctx, uint16_t **out)
{
    float *normal = malloc(BLOCK * sizeof *normal);
    *out = malloc(BLOCK * sizeof **out);
    if (!normal || !*out) {
        free(normal);
        return pol_fail(ctx, POL_ENOMEM, "no memory for the bare calls");
    }
    pol_normal(SEED, POL_STREAM_BENCH, 0, 0, BLOCK, normal);
    for (int64_t i = 0; i < BLOCK; i++)
        (*out)[i] = pol_f32_to_bf16(normal[i]);
    free(normal);
    return POL_OK;
}

static pol_status make_operands(bare *b, const pol_products *largest)
{
    const bare_sizes n = bare_sizes_of(largest);
    int64_t all = 0;
    for (int64_t i = 0; i < largest->n; i++)
        all += largest->list[i].times * (largest->list[i].N * largest->list[i].K + ALIGN);
    b->pool = n.w + pol_min_i64(all, POOL);
    uint16_t *block;
    pol_status s = make_block(b->ctx, &block);
    if (s == POL_OK)
        s = new_operand(b, block, n.x, &b->x);
    if (s == POL_OK)
        s = new_operand(b, block, b->pool, &b->w);
    free(block);
    POL_TRY(s);
    CU_TRY(b->ctx, who, cudaMalloc, &b->y, (size_t)n.y * sizeof(float));
    CU_TRY(b->ctx, who, cudaMemset, b->y, 0, (size_t)n.y * sizeof(float));
    CU_TRY(b->ctx, who, cudaMalloc, &b->workspace, WORKSPACE);
    CU_TRY(b->ctx, who, cudaDeviceSynchronize);
    return POL_OK;
}

static pol_status open_all(bare *b, int device, const pol_products *largest)
{
    CU_TRY(b->ctx, who, cudaSetDevice, device);
    CU_TRY(b->ctx, who, cudaStreamCreateWithFlags, &b->stream, cudaStreamNonBlocking);
    LT_TRY(b->ctx, who, cublasLtCreate, &b->lt);
    return make_operands(b, largest);
}

static pol_status open_cuda(pol_backend *be, const pol_products *largest, const pol_bench_settings *o, bare **out)
{
    (void)o;
    bare *b = calloc(1, sizeof *b);
    if (!b)
        return pol_fail(be->ctx, POL_ENOMEM, "no memory for the bare calls");
    b->ctx = be->ctx;
    const pol_status s = open_all(b, be->info.index, largest);
    if (s < 0)
        close_cuda(b);
    else
        *out = b;
    return s;
}

static pol_status choose_algorithm(bare *b, plan *p)
{
    const size_t workspace = WORKSPACE;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t found;
    int n = 0;
    LT_TRY(b->ctx, who, cublasLtMatmulPreferenceCreate, &preference);
    cublasStatus_t code = cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                               &workspace, sizeof workspace);
    if (code == CUBLAS_STATUS_SUCCESS)
        code = cublasLtMatmulAlgoGetHeuristic(b->lt, p->desc, p->w, p->x, p->y, p->y, preference, 1, &found, &n);
    cublasLtMatmulPreferenceDestroy(preference);
    if (code == CUBLAS_STATUS_SUCCESS && n == 0)
        code = CUBLAS_STATUS_NOT_SUPPORTED;
    POL_TRY(cu_check_lt(b->ctx, who, "cublasLtMatmulAlgoGetHeuristic", code));
    p->algo = found.algo;
    return POL_OK;
}

/* In `p`, which is the caller's to free also where this fails. */
static pol_status make_plan(bare *b, const pol_product *q, plan *p)
{
    const cublasOperation_t op = q->add ? CUBLAS_OP_N : CUBLAS_OP_T;
    const uint64_t T = (uint64_t)q->T, N = (uint64_t)q->N, K = (uint64_t)q->K;
    p->shape = *q;
    LT_TRY(b->ctx, who, cublasLtMatmulDescCreate, &p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    LT_TRY(b->ctx, who, cublasLtMatmulDescSetAttribute, p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &op, sizeof op);
    LT_TRY(b->ctx, who, cublasLtMatrixLayoutCreate, &p->w, CUDA_R_16BF, q->add ? N : K, q->add ? K : N,
           q->add ? q->N : q->K);
    LT_TRY(b->ctx, who, cublasLtMatrixLayoutCreate, &p->x, CUDA_R_16BF, K, T, q->K);
    LT_TRY(b->ctx, who, cublasLtMatrixLayoutCreate, &p->y, q->add ? CUDA_R_32F : CUDA_R_16BF, N, T, q->N);
    return choose_algorithm(b, p);
}

static pol_status plan_of(bare *b, const pol_product *q, const plan **out)
{
    for (int64_t i = 0; i < b->n; i++) {
        const pol_product *have = &b->plans[i].shape;
        if (have->add == q->add && have->T == q->T && have->N == q->N && have->K == q->K) {
            *out = &b->plans[i];
            return POL_OK;
        }
    }
    if (b->n == b->cap) {
        const int64_t cap = b->cap ? 2 * b->cap : 64;
        plan *more = realloc(b->plans, (size_t)cap * sizeof *more);
        if (!more)
            return pol_fail(b->ctx, POL_ENOMEM, "no memory for the bare calls");
        b->plans = more;
        b->cap = cap;
    }
    plan p = {0};
    const pol_status s = make_plan(b, q, &p);
    if (s < 0) {
        plan_free(&p);
        return s;
    }
    b->plans[b->n] = p;
    *out = &b->plans[b->n++];
    return POL_OK;
}

static pol_status multiply(bare *b, const pol_product *q)
{
    const plan *p = NULL;
    POL_TRY(plan_of(b, q, &p));
    const float one = 1.0f, beta = q->add ? 1.0f : 0.0f;
    const int64_t weights = (q->N * q->K + ALIGN - 1) / ALIGN * ALIGN;
    if (b->next + weights > b->pool)
        b->next = 0;
    LT_TRY(b->ctx, who, cublasLtMatmul, b->lt, p->desc, &one, b->w + b->next, p->w, b->x, p->x, &beta, b->y, p->y, b->y,
           p->y, &p->algo, b->workspace, WORKSPACE, b->stream);
    b->next += weights;
    return POL_OK;
}

static pol_status run_cuda(bare *b, const pol_products *p)
{
    for (int64_t i = 0; i < p->n; i++)
        for (int64_t t = 0; t < p->list[i].times; t++)
            POL_TRY(multiply(b, &p->list[i]));
    CU_TRY(b->ctx, who, cudaStreamSynchronize, b->stream);
    return POL_OK;
}

const bare_calls bare_cuda = {
    .backend = "cuda", .call = "cublasLtMatmul", .open = open_cuda, .run = run_cuda, .close = close_cuda};
