/* sim_lt.cpp - cuBLASLt's interface: its objects, what it refuses, and products put on streams.
 *
 * An algorithm remembers what it was chosen for: types, transpositions, the alignment of addresses that was promised
 * and of rows that was found. A product that does not keep to it is refused, as is one whose workspace is too small for
 * it. There are two algorithms for a product: one that wants a workspace as large as the result in the type of the
 * sums, and one that wants none. The workspace holds nothing of use afterwards.
 */
#include "sim_lt.h"

#include <algorithm>
#include <cstring>

#include "sim_runtime.h"

namespace sim
{

enum { ADDRESS_ALIGNMENT = 256, WORKSPACE_ALIGNMENT = 256, LARGEST_ROW_ALIGNMENT = 16 };

template <class F> static cublasStatus_t lt_call(const char *entry_point, unsigned kind, F body)
{
    const std::lock_guard<std::recursive_mutex> lock(the_lock());
    const admitted in = begin_call(entry_point, kind);
    if (in.why == admission::granted)
        return body();
    if (kind & RELEASES)
        (void)body();
    switch (in.why) {
    case admission::planned_failure: return (cublasStatus_t)in.code;
    case admission::no_driver: return CUBLAS_STATUS_NOT_INITIALIZED;
    default: return CUBLAS_STATUS_EXECUTION_FAILED;
    }
}

/* A misuse, as a status. */
static cublasStatus_t refuse(cublasStatus_t code, const char *entry_point, const char *why)
{
    misuse(cudaErrorInvalidValue, "%s: %s", entry_point, why);
    return code;
}

template <class T>
static cublasStatus_t destroy(const char *entry_point, objects<T> machine::*kind_of, const void *handle)
{
    return lt_call(entry_point, RELEASES | UNTROUBLED | DRIVERLESS, [&] {
        if (!(the_machine().*kind_of).release(handle))
            return refuse(CUBLAS_STATUS_INVALID_VALUE, entry_point, "no such object");
        return CUBLAS_STATUS_SUCCESS;
    });
}

/* An attribute's value, of the size that it must have. */
struct setting {
    void *at;
    size_t bytes;
};

static cublasStatus_t set(const char *entry_point, setting s, const void *value, size_t bytes)
{
    if (!s.at || !value)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, entry_point,
                      s.at ? "no value" : "an attribute that is not simulated");
    if (bytes != s.bytes)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, entry_point, "a value of the wrong size");
    memcpy(s.at, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

static setting description_setting(product_description *p, cublasLtMatmulDescAttributes_t attr)
{
    switch (attr) {
    case CUBLASLT_MATMUL_DESC_COMPUTE_TYPE: return {&p->compute, sizeof p->compute};
    case CUBLASLT_MATMUL_DESC_SCALE_TYPE: return {&p->scale, sizeof p->scale};
    case CUBLASLT_MATMUL_DESC_POINTER_MODE: return {&p->pointer_mode, sizeof p->pointer_mode};
    case CUBLASLT_MATMUL_DESC_TRANSA: return {&p->transpose_a, sizeof p->transpose_a};
    case CUBLASLT_MATMUL_DESC_TRANSB: return {&p->transpose_b, sizeof p->transpose_b};
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return {&p->epilogue, sizeof p->epilogue};
    }
    return {nullptr, 0};
}

static setting layout_setting(matrix_layout *l, cublasLtMatrixLayoutAttribute_t attr)
{
    switch (attr) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE: return {&l->type, sizeof l->type};
    case CUBLASLT_MATRIX_LAYOUT_ORDER: return {&l->order, sizeof l->order};
    case CUBLASLT_MATRIX_LAYOUT_ROWS: return {&l->rows, sizeof l->rows};
    case CUBLASLT_MATRIX_LAYOUT_COLS: return {&l->cols, sizeof l->cols};
    case CUBLASLT_MATRIX_LAYOUT_LD: return {&l->ld, sizeof l->ld};
    }
    return {nullptr, 0};
}

static setting preference_setting(product_preference *p, cublasLtMatmulPreferenceAttributes_t attr)
{
    switch (attr) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return {&p->workspace_bytes, sizeof p->workspace_bytes};
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return {&p->reductions, sizeof p->reductions};
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: return {&p->alignment[0], sizeof p->alignment[0]};
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: return {&p->alignment[1], sizeof p->alignment[1]};
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: return {&p->alignment[2], sizeof p->alignment[2]};
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: return {&p->alignment[3], sizeof p->alignment[3]};
    }
    return {nullptr, 0};
}

/* What is wrong with a product, or NULL. */
struct objection {
    cublasStatus_t code;
    const char *why;
};

static objection about_layout(const matrix_layout &l)
{
    if (l.type != CUDA_R_64F && l.type != CUDA_R_32F && l.type != CUDA_R_16BF)
        return {CUBLAS_STATUS_NOT_SUPPORTED, "a type other than f64, f32 and bf16"};
    if (l.order != CUBLASLT_ORDER_COL && l.order != CUBLASLT_ORDER_ROW)
        return {CUBLAS_STATUS_NOT_SUPPORTED, "an order other than by column and by row"};
    if (!l.rows || !l.cols)
        return {CUBLAS_STATUS_INVALID_VALUE, "a matrix without rows or columns"};
    if (l.rows > INT32_MAX || l.cols > INT32_MAX)
        return {CUBLAS_STATUS_NOT_SUPPORTED, "more than 2^31 - 1 rows or columns"};
    if (l.ld < (int64_t)(l.order == CUBLASLT_ORDER_COL ? l.rows : l.cols))
        return {CUBLAS_STATUS_INVALID_VALUE, "a leading dimension that is too small"};
    return {CUBLAS_STATUS_SUCCESS, nullptr};
}

static objection about_form(const product &p)
{
    const product_description &f = p.form;
    const bool f64 = f.compute == CUBLAS_COMPUTE_64F;
    if ((!f64 && f.compute != CUBLAS_COMPUTE_32F) || f.scale != (f64 ? CUDA_R_64F : CUDA_R_32F))
        return {CUBLAS_STATUS_NOT_SUPPORTED, "computing in another type than f32 and f64, or factors in another"};
    if (f.pointer_mode != CUBLASLT_POINTER_MODE_HOST || f.epilogue != CUBLASLT_EPILOGUE_DEFAULT)
        return {CUBLAS_STATUS_NOT_SUPPORTED, "factors in device memory, or an epilogue"};
    for (int32_t transpose : {f.transpose_a, f.transpose_b})
        if (transpose != CUBLAS_OP_N && transpose != CUBLAS_OP_T)
            return {CUBLAS_STATUS_NOT_SUPPORTED, "an operation other than N and T"};
    if (p.c.type != p.d.type)
        return {CUBLAS_STATUS_NOT_SUPPORTED, "a sum and a result of two types"};
    for (const matrix_layout *l : {&p.a, &p.b})
        if (l->type != (f64 ? CUDA_R_64F : CUDA_R_16BF))
            return {CUBLAS_STATUS_NOT_SUPPORTED, "matrices to multiply that are not bf16, or f64 to compute in f64"};
    if (f64 != (p.d.type == CUDA_R_64F))
        return {CUBLAS_STATUS_NOT_SUPPORTED, "a result in f64 of another computation, or in another type of one"};
    for (const matrix_layout *l : {&p.b, &p.c, &p.d})
        if (l->order != p.a.order)
            return {CUBLAS_STATUS_NOT_SUPPORTED, "matrices of two orders"};
    return {CUBLAS_STATUS_SUCCESS, nullptr};
}

static objection about_product(const product &p)
{
    for (const matrix_layout *l : {&p.a, &p.b, &p.c, &p.d}) {
        const objection o = about_layout(*l);
        if (o.why)
            return o;
    }
    const objection o = about_form(p);
    if (o.why)
        return o;
    const bool turn_a = p.form.transpose_a == CUBLAS_OP_T, turn_b = p.form.transpose_b == CUBLAS_OP_T;
    const uint64_t m = turn_a ? p.a.cols : p.a.rows, k = turn_a ? p.a.rows : p.a.cols;
    const uint64_t n = turn_b ? p.b.rows : p.b.cols, k_of_b = turn_b ? p.b.cols : p.b.rows;
    if (k != k_of_b || p.c.rows != m || p.d.rows != m || p.c.cols != n || p.d.cols != n)
        return {CUBLAS_STATUS_INVALID_VALUE, "sizes that do not fit each other"};
    return {CUBLAS_STATUS_SUCCESS, nullptr};
}

/* What lies in a cublasLtMatmulAlgo_t. */
struct algorithm {
    uint64_t is_one;
    uint32_t workspace; /* 1: wants one */
    int32_t types_and_order[3], transpose[2];
    uint16_t alignment[4], row_alignment[4];
    uint64_t unused[2];
};
static_assert(sizeof(algorithm) == sizeof(cublasLtMatmulAlgo_t), "an algorithm fits where it is kept");
static const uint64_t ALGORITHM = 0x706f6c6c617264;

static uint16_t row_alignment(const matrix_layout &l)
{
    const uint64_t bytes = (uint64_t)l.ld * l.element_bytes() | LARGEST_ROW_ALIGNMENT;
    return (uint16_t)(bytes & -bytes);
}

static algorithm algorithm_for(const product &p, bool workspace)
{
    algorithm a = {};
    a.is_one = ALGORITHM;
    a.workspace = workspace;
    const int32_t types_and_order[] = {p.a.type, p.d.type, p.a.order};
    const int32_t transpose[] = {p.form.transpose_a, p.form.transpose_b};
    memcpy(a.types_and_order, types_and_order, sizeof types_and_order);
    memcpy(a.transpose, transpose, sizeof transpose);
    const matrix_layout *const layouts[] = {&p.a, &p.b, &p.c, &p.d};
    for (int i = 0; i < 4; i++)
        a.row_alignment[i] = row_alignment(*layouts[i]);
    return a;
}

static size_t workspace_for(const product &p, bool wanted)
{
    const uint64_t bytes = p.d.rows * p.d.cols * (p.d.type == CUDA_R_64F ? sizeof(double) : sizeof(float));
    return wanted ? (bytes + WORKSPACE_ALIGNMENT - 1) / WORKSPACE_ALIGNMENT * WORKSPACE_ALIGNMENT : 0;
}

/* Whether an algorithm, chosen for another product perhaps, does this one. */
static const char *about_algorithm(const algorithm &chosen, const product &p)
{
    if (chosen.is_one != ALGORITHM)
        return "an algorithm that the library did not give";
    const algorithm own = algorithm_for(p, chosen.workspace);
    if (memcmp(own.types_and_order, chosen.types_and_order, sizeof own.types_and_order) ||
        memcmp(own.transpose, chosen.transpose, sizeof own.transpose))
        return "an algorithm for other types or transpositions";
    const void *const at[4] = {p.at_a, p.at_b, p.at_c, p.at_d};
    for (int i = 0; i < 4; i++) {
        if (!chosen.alignment[i] || (uintptr_t)at[i] % chosen.alignment[i])
            return "an address with less alignment than the algorithm was chosen for";
        if (own.row_alignment[i] < chosen.row_alignment[i])
            return "rows with less alignment than the algorithm was chosen for";
    }
    return nullptr;
}

/* Bytes of device memory that the product touches. */
struct region {
    const void *at;
    size_t bytes;
    bool overlaps(const region &other) const
    {
        const char *p = static_cast<const char *>(at), *q = static_cast<const char *>(other.at);
        return p < q + other.bytes && q < p + bytes;
    }
};

static const char *about_memory(const product &p, region workspace, int device)
{
    const region a = {p.at_a, p.a.bytes()}, b = {p.at_b, p.b.bytes()}, c = {p.at_c, p.c.bytes()},
                 d = {p.at_d, p.d.bytes()};
    for (const region &r : {a, b, c, d}) {
        const block *in = block_of(r.at, r.bytes);
        if (!in || in->device != device)
            return "a matrix that reaches out of the device's memory";
        if (workspace.bytes && r.overlaps(workspace))
            return "a workspace that overlaps a matrix";
    }
    if (d.overlaps(a) || d.overlaps(b))
        return "a result that overlaps a factor";
    if (p.at_c == p.at_d ? p.c.ld != p.d.ld : c.overlaps(d))
        return "a result that overlaps the sum, but is not the same";
    const block *in = workspace.bytes ? block_of(workspace.at, workspace.bytes) : nullptr;
    if (workspace.bytes && (!in || in->device != device || (uintptr_t)workspace.at % WORKSPACE_ALIGNMENT))
        return "a workspace that is not aligned to 256 bytes, or not in the device's memory";
    return nullptr;
}

static bool find_product(cublasLtMatmulDesc_t form, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                         cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, product *out)
{
    const machine &m = the_machine();
    const product_description *f = m.descriptions.find(form);
    const matrix_layout *la = m.layouts.find(a), *lb = m.layouts.find(b), *lc = m.layouts.find(c),
                        *ld = m.layouts.find(d);
    if (!f || !la || !lb || !lc || !ld)
        return false;
    *out = {*f, *la, *lb, *lc, *ld, 0, 0, nullptr, nullptr, nullptr, nullptr};
    return true;
}

static cublasStatus_t put_product(CUstream_st *s, const product &p, const algorithm &chosen, region workspace)
{
    const char *const name = "cublasLtMatmul";
    const objection o = about_product(p);
    if (o.why)
        return refuse(o.code, name, o.why);
    if (const char *why = about_algorithm(chosen, p))
        return refuse(CUBLAS_STATUS_INVALID_VALUE, name, why);
    const size_t wanted = workspace_for(p, chosen.workspace);
    if (workspace.bytes < wanted)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, name, "a workspace that is too small for the algorithm");
    if (const char *why = about_memory(p, workspace, s->device))
        return refuse(CUBLAS_STATUS_INVALID_VALUE, name, why);
    the_machine().counts.launches++;
    const cudaError_t code = put(s, {name, [=] {
                                         if (const char *why = about_memory(p, workspace, s->device))
                                             return misuse(cudaErrorIllegalAddress, "%s: %s", name, why);
                                         memset(const_cast<void *>(workspace.at), 0xff, wanted);
                                         run_product(p);
                                         return cudaSuccess;
                                     }});
    return code == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

} // namespace sim

using namespace sim;

const char *cublasLtGetStatusName(cublasStatus_t status)
{
    switch (status) {
#define X(name, value, text) \
    case name: return #name;
        SIM_STATUS_LIST(X)
#undef X
    }
    return "<unknown>";
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    switch (status) {
#define X(name, value, text) \
    case name: return text;
        SIM_STATUS_LIST(X)
#undef X
    }
    return "<unknown>";
}

size_t cublasLtGetVersion(void) { return 130100; }
size_t cublasLtGetCudartVersion(void) { return CUDART_VERSION; }

cublasStatus_t cublasLtCreate(cublasLtHandle_t *lightHandle)
{
    return lt_call("cublasLtCreate", UNSAFE, [&] {
        *lightHandle = the_machine().lt_handles.add(std::make_unique<cublasLtContext>());
        (*lightHandle)->device = current_device();
        return CUBLAS_STATUS_SUCCESS;
    });
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t lightHandle)
{
    return destroy("cublasLtDestroy", &machine::lt_handles, lightHandle);
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *matmulDesc, cublasComputeType_t computeType,
                                        cudaDataType_t scaleType)
{
    return lt_call("cublasLtMatmulDescCreate", UNTROUBLED, [&] {
        auto made = std::make_unique<product_description>();
        made->compute = computeType;
        made->scale = scaleType;
        *matmulDesc = the_machine().descriptions.add(std::move(made));
        return CUBLAS_STATUS_SUCCESS;
    });
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t matmulDesc)
{
    return destroy("cublasLtMatmulDescDestroy", &machine::descriptions, matmulDesc);
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t matmulDesc, cublasLtMatmulDescAttributes_t attr,
                                              const void *buf, size_t sizeInBytes)
{
    return lt_call("cublasLtMatmulDescSetAttribute", UNTROUBLED, [&] {
        product_description *p = the_machine().descriptions.find(matmulDesc);
        const setting s = p ? description_setting(p, attr) : setting{nullptr, 0};
        return set("cublasLtMatmulDescSetAttribute", s, buf, sizeInBytes);
    });
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *matLayout, cudaDataType type, uint64_t rows,
                                          uint64_t cols, int64_t ld)
{
    return lt_call("cublasLtMatrixLayoutCreate", UNTROUBLED, [&] {
        auto made = std::make_unique<matrix_layout>();
        made->type = type;
        made->rows = rows;
        made->cols = cols;
        made->ld = ld;
        *matLayout = the_machine().layouts.add(std::move(made));
        return CUBLAS_STATUS_SUCCESS;
    });
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t matLayout)
{
    return destroy("cublasLtMatrixLayoutDestroy", &machine::layouts, matLayout);
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t matLayout, cublasLtMatrixLayoutAttribute_t attr,
                                                const void *buf, size_t sizeInBytes)
{
    return lt_call("cublasLtMatrixLayoutSetAttribute", UNTROUBLED, [&] {
        matrix_layout *l = the_machine().layouts.find(matLayout);
        const setting s = l ? layout_setting(l, attr) : setting{nullptr, 0};
        return set("cublasLtMatrixLayoutSetAttribute", s, buf, sizeInBytes);
    });
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *pref)
{
    return lt_call("cublasLtMatmulPreferenceCreate", UNTROUBLED, [&] {
        *pref = the_machine().preferences.add(std::make_unique<product_preference>());
        return CUBLAS_STATUS_SUCCESS;
    });
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t pref)
{
    return destroy("cublasLtMatmulPreferenceDestroy", &machine::preferences, pref);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t pref,
                                                    cublasLtMatmulPreferenceAttributes_t attr, const void *buf,
                                                    size_t sizeInBytes)
{
    return lt_call("cublasLtMatmulPreferenceSetAttribute", UNTROUBLED, [&] {
        product_preference *p = the_machine().preferences.find(pref);
        const setting s = p ? preference_setting(p, attr) : setting{nullptr, 0};
        return set("cublasLtMatmulPreferenceSetAttribute", s, buf, sizeInBytes);
    });
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t lightHandle, cublasLtMatmulDesc_t operationDesc,
                                              cublasLtMatrixLayout_t Adesc, cublasLtMatrixLayout_t Bdesc,
                                              cublasLtMatrixLayout_t Cdesc, cublasLtMatrixLayout_t Ddesc,
                                              cublasLtMatmulPreference_t preference, int requestedAlgoCount,
                                              cublasLtMatmulHeuristicResult_t heuristicResultsArray[],
                                              int *returnAlgoCount)
{
    *returnAlgoCount = 0;
    const char *const name = "cublasLtMatmulAlgoGetHeuristic";
    return lt_call(name, PLAIN, [&] {
        const product_preference *wish = the_machine().preferences.find(preference);
        product p;
        if (!the_machine().lt_handles.find(lightHandle) || !wish || requestedAlgoCount < 1 ||
            !find_product(operationDesc, Adesc, Bdesc, Cdesc, Ddesc, &p))
            return refuse(CUBLAS_STATUS_INVALID_VALUE, name, "an object that is none, or no room for an answer");
        const objection o = about_product(p);
        if (o.why)
            return o.code == CUBLAS_STATUS_NOT_SUPPORTED ? o.code : refuse(o.code, name, o.why);
        for (int workspace = 1; workspace >= 0 && *returnAlgoCount < requestedAlgoCount; workspace--) {
            const size_t bytes = workspace_for(p, workspace);
            const bool allowed = !workspace || wish->reductions & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
            if (!allowed || bytes > wish->workspace_bytes)
                continue;
            cublasLtMatmulHeuristicResult_t *r = &heuristicResultsArray[(*returnAlgoCount)++];
            algorithm a = algorithm_for(p, workspace);
            for (int i = 0; i < 4; i++)
                a.alignment[i] = (uint16_t)std::min(wish->alignment[i], (uint32_t)ADDRESS_ALIGNMENT);
            *r = {};
            memcpy(&r->algo, &a, sizeof a);
            r->workspaceSize = bytes;
            r->state = CUBLAS_STATUS_SUCCESS;
            r->wavesCount = 1;
        }
        return CUBLAS_STATUS_SUCCESS;
    });
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t lightHandle, cublasLtMatmulDesc_t computeDesc, const void *alpha,
                              const void *A, cublasLtMatrixLayout_t Adesc, const void *B, cublasLtMatrixLayout_t Bdesc,
                              const void *beta, const void *C, cublasLtMatrixLayout_t Cdesc, void *D,
                              cublasLtMatrixLayout_t Ddesc, const cublasLtMatmulAlgo_t *algo, void *workspace,
                              size_t workspaceSizeInBytes, cudaStream_t stream)
{
    const char *const name = "cublasLtMatmul";
    return lt_call(name, PLAIN, [&] {
        const cublasLtContext *handle = the_machine().lt_handles.find(lightHandle);
        product p;
        if (!handle || !alpha || !beta || !algo || !find_product(computeDesc, Adesc, Bdesc, Cdesc, Ddesc, &p))
            return refuse(CUBLAS_STATUS_INVALID_VALUE, name, "an object that is none, no factor or no algorithm");
        const bool f64 = p.form.scale == CUDA_R_64F;
        p.alpha = f64 ? *static_cast<const double *>(alpha) : *static_cast<const float *>(alpha);
        p.beta = f64 ? *static_cast<const double *>(beta) : *static_cast<const float *>(beta);
        p.at_a = A;
        p.at_b = B;
        p.at_c = C;
        p.at_d = D;
        CUstream_st *s;
        if (find_current_stream(name, stream, &s) != cudaSuccess)
            return CUBLAS_STATUS_EXECUTION_FAILED;
        if (s->device != handle->device)
            return refuse(CUBLAS_STATUS_INVALID_VALUE, name, "a handle of one device, a stream of another");
        algorithm chosen;
        memcpy(&chosen, algo, sizeof chosen);
        return put_product(s, p, chosen, {workspace, workspaceSizeInBytes});
    });
}
