/* gemm.c - products, by cuBLASLt.
 *
 * cuBLASLt stores by columns: a row-major matrix is its transpose there. So y = x w is computed as y^T = w^T x^T, with
 * both as they lie, and one that is turned here is turned there. Adding to y costs nothing: its rows are read and
 * written where they would be written anyway.
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
    int64_t T, N, K, y_row, x_row, w_row;
    uint16_t types, x_turned, w_turned, unused;
    uint32_t y_align, x_align, w_align, unused_too;
} shape;
_Static_assert(sizeof(shape) == 6 * sizeof(int64_t) + 4 * sizeof(uint16_t) + 4 * sizeof(uint32_t), "padding");

typedef struct choice {
    shape of; /* T 0: an empty place */
    cublasLtMatrixLayout_t y, x, w;
    cublasLtMatmulAlgo_t algorithm;
} choice;

typedef struct cu_products {
    cublasLtMatmulDesc_t form[2][2][2]; /* [f64][x_turned][w_turned] */
    cublasLtMatmulPreference_t preference;
    choice choices[CHOICES];
} cu_products;

static pol_status set_preference(cu *c, cublasLtMatmulPreferenceAttributes_t what, const void *value, size_t size)
{
    LT_TRY(c->base.ctx, "products", cublasLtMatmulPreferenceSetAttribute, c->products->preference, what, value, size);
    return POL_OK;
}

static pol_status make_form(pol_context *ctx, int f64, int x_turned, int w_turned, cublasLtMatmulDesc_t *form)
{
    const cublasOperation_t of_w = w_turned ? CUBLAS_OP_T : CUBLAS_OP_N, of_x = x_turned ? CUBLAS_OP_T : CUBLAS_OP_N;
    LT_TRY(ctx, "products", cublasLtMatmulDescCreate, form, f64 ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
           f64 ? CUDA_R_64F : CUDA_R_32F);
    LT_TRY(ctx, "products", cublasLtMatmulDescSetAttribute, *form, CUBLASLT_MATMUL_DESC_TRANSA, &of_w, sizeof of_w);
    LT_TRY(ctx, "products", cublasLtMatmulDescSetAttribute, *form, CUBLASLT_MATMUL_DESC_TRANSB, &of_x, sizeof of_x);
    return POL_OK;
}

pol_status cu_products_open(cu *c)
{
    pol_context *ctx = c->base.ctx;
    const uint64_t workspace = c->profile.workspace_bytes;
    const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE; /* parts of a sum are of its type, in one order */
    cu_products *p = c->products = pol_alloc_zero(ctx, sizeof *p);
    if (!p)
        return POL_ENOMEM;
    for (int i = 0; i < 8; i++)
        POL_TRY(make_form(ctx, i & 1, i >> 1 & 1, i >> 2, &p->form[i & 1][i >> 1 & 1][i >> 2]));
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
    for (int i = 0; i < 8; i++)
        if (p->form[i & 1][i >> 1 & 1][i >> 2])
            cublasLtMatmulDescDestroy(p->form[i & 1][i >> 1 & 1][i >> 2]);
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

/* Elements from a row of a matrix [rows, columns], as it lies, to the next. */
static int64_t row_of(int64_t given, bool turned, int64_t rows, int64_t columns)
{
    if (given)
        return given;
    return turned ? rows : columns;
}

static shape shape_of(const cu_product *p)
{
    return (shape){.T = p->T,
                   .N = p->N,
                   .K = p->K,
                   .y_row = row_of(p->y_row, false, p->T, p->N),
                   .x_row = row_of(p->x_row, p->x_turned, p->T, p->K),
                   .w_row = row_of(p->w_row, p->w_turned, p->K, p->N),
                   .types = p->types,
                   .x_turned = p->x_turned,
                   .w_turned = p->w_turned,
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

static cublasLtMatmulDesc_t form_of(const cu *c, const shape *of)
{
    return c->products->form[of->types == CU_F64][of->x_turned][of->w_turned];
}

/* A matrix [rows, columns], or its transpose. */
static pol_status make_layout(cu *c, const char *op, cudaDataType type, int64_t rows, int64_t columns, bool turned,
                              int64_t row, cublasLtMatrixLayout_t *to)
{
    LT_TRY(c->base.ctx, op, cublasLtMatrixLayoutCreate, to, type, (uint64_t)(turned ? rows : columns),
           (uint64_t)(turned ? columns : rows), row);
    return POL_OK;
}

static pol_status make_layouts(cu *c, const char *op, const shape *of, choice *to)
{
    const cudaDataType factor = of->types == CU_F64 ? CUDA_R_64F : CUDA_R_16BF;
    const cudaDataType y = of->types == CU_BF16_F32 ? CUDA_R_32F : factor;
    POL_TRY(make_layout(c, op, y, of->T, of->N, false, of->y_row, &to->y));
    POL_TRY(make_layout(c, op, factor, of->T, of->K, of->x_turned, of->x_row, &to->x));
    return make_layout(c, op, factor, of->K, of->N, of->w_turned, of->w_row, &to->w);
}

static pol_status choose(cu *c, const char *op, const cu_product *p, const shape *of, choice *to)
{
    cublasLtMatmulHeuristicResult_t found;
    int n = 0;
    POL_TRY(make_layouts(c, op, of, to));
    POL_TRY(set_preference(c, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &of->w_align, sizeof of->w_align));
    POL_TRY(set_preference(c, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &of->x_align, sizeof of->x_align));
    POL_TRY(set_preference(c, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &of->y_align, sizeof of->y_align));
    POL_TRY(set_preference(c, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &of->y_align, sizeof of->y_align));
    cublasStatus_t code = cublasLtMatmulAlgoGetHeuristic(c->lt, form_of(c, of), to->w, to->x, to->y, to->y,
                                                         c->products->preference, 1, &found, &n);
    if (code == CUBLAS_STATUS_SUCCESS)
        code = n > 0 ? found.state : CUBLAS_STATUS_NOT_SUPPORTED;
    POL_TRY(check_product(c, op, p, "cublasLtMatmulAlgoGetHeuristic", code));
    to->algorithm = found.algo;
    to->of = *of;
    return POL_OK;
}

pol_status cu_multiply(cu *c, const char *op, const cu_product *p)
{
    const double factor = p->put == CU_SUBTRACT ? -1 : 1, of_y = p->put == CU_SET ? 0 : 1;
    const float factor_f32 = (float)factor, of_y_f32 = (float)of_y;
    const bool f64 = p->types == CU_F64; /* what the factors' type must be */
    const shape of = shape_of(p);
    choice *by = place_of(c->products, &of);
    if (memcmp(&by->of, &of, sizeof of) != 0) {
        forget(by); /* its T is 0 until a choice is whole */
        POL_TRY(choose(c, op, p, &of, by));
    }
    return check_product(c, op, p, "cublasLtMatmul",
                         cublasLtMatmul(c->lt, form_of(c, &of), f64 ? (const void *)&factor : &factor_f32, p->w, by->w,
                                        p->x, by->x, f64 ? (const void *)&of_y : &of_y_f32, p->y, by->y, p->y, by->y,
                                        &by->algorithm, workspace_in(p->scratch), c->profile.workspace_bytes,
                                        c->compute));
}
