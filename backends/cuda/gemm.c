/* gemm.c - products, by cuBLASLt.
 *
 * cuBLASLt stores by columns: a row-major matrix is its transpose there. So y = x w^T is computed as y^T = w x^T, with
 * w given as its transpose, and y += x w as y^T += w^T x^T, with both as they lie. Adding to y costs nothing: its rows
 * are read and written where they would be written anyway.
 *
 * How a product is computed is chosen once for its sizes and alignments and kept, in a table in which a later choice
 * may take an earlier one's place: cuBLASLt would choose the same again. Choosing asks the host alone, so a product
 * that is being recorded may do so.
 */
#include <stdio.h>
#include <string.h>

#include "backends/cuda/cuda.h"

enum { CHOICES = 1024, MOST_ALIGNMENT = 256 };

/* What a choice depends on. Without padding: it is compared and hashed as bytes. */
typedef struct shape {
    int64_t T, N, K;
    uint16_t add, y_f32;
    uint32_t y_align, x_align, w_align;
} shape;
_Static_assert(sizeof(shape) == 3 * sizeof(int64_t) + 2 * sizeof(uint16_t) + 3 * sizeof(uint32_t), "padding");

typedef struct choice {
    shape of; /* T 0: an empty place */
    cublasLtMatrixLayout_t y, x, w;
    cublasLtMatmulAlgo_t algorithm;
} choice;

typedef struct cu_products {
    cublasLtMatmulDesc_t form[2]; /* [1]: add */
    cublasLtMatmulPreference_t preference;
    choice choices[CHOICES];
} cu_products;

static pol_status set_preference(cu *c, cublasLtMatmulPreferenceAttributes_t what, const void *value, size_t size)
{
    LT_TRY(c->base.ctx, "products", cublasLtMatmulPreferenceSetAttribute, c->products->preference, what, value, size);
    return POL_OK;
}

pol_status cu_products_open(cu *c)
{
    pol_context *ctx = c->base.ctx;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const uint64_t workspace = c->profile.workspace_bytes;
    const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE; /* parts of a sum stay f32, in a fixed order */
    cu_products *p = c->products = pol_alloc_zero(ctx, sizeof *p);
    if (!p)
        return POL_ENOMEM;
    for (int add = 0; add < 2; add++)
        LT_TRY(ctx, "products", cublasLtMatmulDescCreate, &p->form[add], CUBLAS_COMPUTE_32F, CUDA_R_32F);
    LT_TRY(ctx, "products", cublasLtMatmulDescSetAttribute, p->form[0], CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
           sizeof transposed);
    LT_TRY(ctx, "products", cublasLtMatmulPreferenceCreate, &p->preference);
    POL_TRY(set_preference(c, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace));
    return set_preference(c, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes);
}

static void forget(choice *to)
{
    if (to->y)
        cublasLtMatrixLayoutDestroy(to->y);
    if (to->x)
        cublasLtMatrixLayoutDestroy(to->x);
    if (to->w)
        cublasLtMatrixLayoutDestroy(to->w);
    memset(to, 0, sizeof *to);
}

void cu_products_close(cu *c)
{
    cu_products *p = c->products;
    if (!p)
        return;
    for (int i = 0; i < CHOICES; i++)
        forget(&p->choices[i]);
    if (p->preference)
        cublasLtMatmulPreferenceDestroy(p->preference);
    for (int add = 0; add < 2; add++)
        if (p->form[add])
            cublasLtMatmulDescDestroy(p->form[add]);
    pol_free(c->base.ctx, p);
    c->products = NULL;
}

/* cuBLASLt's working space lies in the op's scratch, at the next address that suits it. */
int64_t gemm_scratch_cuda(pol_backend *be, int64_t T, int64_t N, int64_t C)
{
    (void)T, (void)N, (void)C;
    return (int64_t)((cu_of(be)->profile.workspace_bytes + MOST_ALIGNMENT) / sizeof(float));
}

static void *workspace_in(void *scratch)
{
    const size_t past = (uintptr_t)scratch % MOST_ALIGNMENT;
    return (char *)scratch + (past ? MOST_ALIGNMENT - past : 0);
}

/* The largest power of two that divides an address, as far as it matters. */
static uint32_t alignment(const void *p)
{
    uint32_t a = MOST_ALIGNMENT;
    while ((uintptr_t)p % a)
        a /= 2;
    return a;
}

static shape shape_of(const cu_product *p)
{
    return (shape){.T = p->T,
                   .N = p->N,
                   .K = p->K,
                   .add = p->add,
                   .y_f32 = p->y_f32,
                   .y_align = alignment(p->y),
                   .x_align = alignment(p->x),
                   .w_align = alignment(p->w)};
}

/* FNV-1a. */
static choice *place_of(cu_products *p, const shape *of)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < sizeof *of; i++)
        hash = (hash ^ ((const unsigned char *)of)[i]) * 16777619u;
    return &p->choices[hash % CHOICES];
}

static pol_status check_product(cu *c, const char *op, const cu_product *p, const char *call, cublasStatus_t code)
{
    if (code == CUBLAS_STATUS_SUCCESS)
        return POL_OK;
    char what[128];
    snprintf(what, sizeof what, "%s, a product of %lld x %lld x %lld", op, (long long)p->T, (long long)p->N,
             (long long)p->K);
    return cu_check_lt(c->base.ctx, what, call, code);
}

static pol_status make_layouts(cu *c, const char *op, const cu_product *p, choice *to)
{
    const uint64_t T = (uint64_t)p->T, N = (uint64_t)p->N, K = (uint64_t)p->K;
    const cudaDataType y = p->y_f32 ? CUDA_R_32F : CUDA_R_16BF;
    LT_TRY(c->base.ctx, op, cublasLtMatrixLayoutCreate, &to->y, y, N, T, p->N);
    LT_TRY(c->base.ctx, op, cublasLtMatrixLayoutCreate, &to->x, CUDA_R_16BF, K, T, p->K);
    if (p->add)
        LT_TRY(c->base.ctx, op, cublasLtMatrixLayoutCreate, &to->w, CUDA_R_16BF, N, K, p->N);
    else
        LT_TRY(c->base.ctx, op, cublasLtMatrixLayoutCreate, &to->w, CUDA_R_16BF, K, N, p->K);
    return POL_OK;
}

static pol_status choose(cu *c, const char *op, const cu_product *p, const shape *of, choice *to)
{
    cu_products *all = c->products;
    cublasLtMatmulHeuristicResult_t found;
    int n = 0;
    POL_TRY(make_layouts(c, op, p, to));
    POL_TRY(set_preference(c, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &of->w_align, sizeof of->w_align));
    POL_TRY(set_preference(c, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &of->x_align, sizeof of->x_align));
    POL_TRY(set_preference(c, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &of->y_align, sizeof of->y_align));
    POL_TRY(set_preference(c, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &of->y_align, sizeof of->y_align));
    cublasStatus_t code = cublasLtMatmulAlgoGetHeuristic(c->lt, all->form[p->add], to->w, to->x, to->y, to->y,
                                                         all->preference, 1, &found, &n);
    if (code == CUBLAS_STATUS_SUCCESS)
        code = n > 0 ? found.state : CUBLAS_STATUS_NOT_SUPPORTED;
    POL_TRY(check_product(c, op, p, "cublasLtMatmulAlgoGetHeuristic", code));
    to->algorithm = found.algo;
    to->of = *of;
    return POL_OK;
}

pol_status cu_multiply(cu *c, const char *op, const cu_product *p)
{
    const float one = 1, of_y = p->add ? 1 : 0;
    const shape of = shape_of(p);
    choice *by = place_of(c->products, &of);
    if (memcmp(&by->of, &of, sizeof of) != 0) {
        forget(by); /* its T is 0 until a choice is whole */
        POL_TRY(choose(c, op, p, &of, by));
    }
    return check_product(c, op, p, "cublasLtMatmul",
                         cublasLtMatmul(c->lt, c->products->form[p->add], &one, p->w, by->w, p->x, by->x, &of_y, p->y,
                                        by->y, p->y, by->y, &by->algorithm, workspace_in(p->scratch),
                                        c->profile.workspace_bytes, c->compute));
}
