/* The simulated cuBLASLt: its product is right and touches nothing else, and what the library would refuse is refused.
 */
#include <cmath>
#include <vector>

#include <cuda_bf16.h>

#include "sim_check.h"
#include "sim_sum.h"

static int fresh(void **)
{
    restart();
    return 0;
}

static int all_released(void **) { return sim_leaks() == 0 ? 0 : -1; }

#define assert_lt(call) assert_int_equal(call, CUBLAS_STATUS_SUCCESS)

enum { M = 5, N = 7, K = 19, PAD = 3 };

static float value(uint64_t i, uint64_t seed)
{
    return (float)((int)((i * 2654435761u + seed * 40503u) >> 7 & 63) - 32) / 16;
}

/* A matrix in device memory, `pad` elements more from a line to the next than a line has. Padding is NaN. */
struct matrix {
    cublasLtMatrixLayout_t layout = nullptr;
    void *at = nullptr;
    cudaDataType_t type;
    uint64_t rows, cols, ld, lines;
    bool by_row;

    matrix(cudaDataType_t of, uint64_t n_rows, uint64_t n_cols, bool row_order, uint64_t seed, uint64_t pad = PAD)
        : type(of), rows(n_rows), cols(n_cols), ld((row_order ? n_cols : n_rows) + pad),
          lines(row_order ? n_rows : n_cols), by_row(row_order)
    {
        const int32_t order = row_order ? CUBLASLT_ORDER_ROW : CUBLASLT_ORDER_COL;
        assert_lt(cublasLtMatrixLayoutCreate(&layout, type, rows, cols, (int64_t)ld));
        assert_lt(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_ORDER, &order, sizeof order));
        assert_cuda(cudaMalloc(&at, bytes()));
        std::vector<float> x(elements(), NAN);
        for (uint64_t r = 0; r < rows; r++)
            for (uint64_t c = 0; c < cols; c++)
                x[index(r, c)] = value(r * cols + c, seed);
        upload(x);
    }
    ~matrix()
    {
        cublasLtMatrixLayoutDestroy(layout);
        cudaFree(at);
    }
    /* The last line has no padding: what reads or writes there is outside the block. */
    uint64_t elements() const { return (lines - 1) * ld + (by_row ? cols : rows); }
    size_t bytes() const { return elements() * (type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2); }
    uint64_t index(uint64_t r, uint64_t c) const { return by_row ? r * ld + c : c * ld + r; }

    void upload(const std::vector<float> &x)
    {
        std::vector<__nv_bfloat16> half;
        for (float v : x)
            half.push_back(__float2bfloat16(v));
        const std::vector<double> wide(x.begin(), x.end());
        const void *from = type == CUDA_R_64F   ? static_cast<const void *>(wide.data())
                           : type == CUDA_R_32F ? static_cast<const void *>(x.data())
                                                : half.data();
        assert_cuda(cudaMemcpy(at, from, bytes(), cudaMemcpyHostToDevice));
    }
    std::vector<float> download() const
    {
        std::vector<float> x(elements());
        std::vector<__nv_bfloat16> half(elements());
        if (type == CUDA_R_64F) {
            const std::vector<double> wide = download_f64();
            return std::vector<float>(wide.begin(), wide.end());
        }
        void *to = type == CUDA_R_32F ? static_cast<void *>(x.data()) : half.data();
        assert_cuda(cudaMemcpy(to, at, bytes(), cudaMemcpyDeviceToHost));
        for (uint64_t i = 0; type != CUDA_R_32F && i < elements(); i++)
            x[i] = __bfloat162float(half[i]);
        return x;
    }
    std::vector<double> download_f64() const
    {
        std::vector<double> x(elements());
        assert_cuda(cudaMemcpy(x.data(), at, bytes(), cudaMemcpyDeviceToHost));
        return x;
    }
};

/* What a product is called with; a test spoils a piece of it. */
struct rig {
    cudaStream_t stream = new_stream();
    cublasLtHandle_t lt = nullptr;
    cublasLtMatmulDesc_t form = nullptr;
    cublasLtMatmulPreference_t wish = nullptr;
    char *workspace = new_device<char>(4096);
    uint64_t workspace_bytes = 4096;

    bool f64 = false;

    rig(bool turn_a, bool turn_b, uint32_t alignment = 2)
    {
        const int32_t a = turn_a ? CUBLAS_OP_T : CUBLAS_OP_N, b = turn_b ? CUBLAS_OP_T : CUBLAS_OP_N;
        assert_lt(cublasLtCreate(&lt));
        assert_lt(cublasLtMatmulDescCreate(&form, CUBLAS_COMPUTE_32F, CUDA_R_32F));
        assert_lt(cublasLtMatmulDescSetAttribute(form, CUBLASLT_MATMUL_DESC_TRANSA, &a, sizeof a));
        assert_lt(cublasLtMatmulDescSetAttribute(form, CUBLASLT_MATMUL_DESC_TRANSB, &b, sizeof b));
        assert_lt(cublasLtMatmulPreferenceCreate(&wish));
        prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
        for (auto attr : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
            prefer(attr, alignment);
    }
    ~rig()
    {
        cublasLtMatmulPreferenceDestroy(wish);
        cublasLtMatmulDescDestroy(form);
        cublasLtDestroy(lt);
        cudaFree(workspace);
        cudaStreamDestroy(stream);
    }
    template <class T> void prefer(cublasLtMatmulPreferenceAttributes_t attr, T x)
    {
        assert_lt(cublasLtMatmulPreferenceSetAttribute(wish, attr, &x, sizeof x));
    }
    template <class T> void describe(cublasLtMatmulDescAttributes_t attr, T x)
    {
        assert_lt(cublasLtMatmulDescSetAttribute(form, attr, &x, sizeof x));
    }
    void compute_in_f64()
    {
        f64 = true;
        describe(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, (int32_t)CUBLAS_COMPUTE_64F);
        describe(CUBLASLT_MATMUL_DESC_SCALE_TYPE, (int32_t)CUDA_R_64F);
    }
    cublasStatus_t choose(const matrix &a, const matrix &b, const matrix &d, int wanted, int *n,
                          cublasLtMatmulHeuristicResult_t *r)
    {
        return cublasLtMatmulAlgoGetHeuristic(lt, form, a.layout, b.layout, d.layout, d.layout, wish, wanted, r, n);
    }
    cublasLtMatmulAlgo_t chosen(const matrix &a, const matrix &b, const matrix &d)
    {
        cublasLtMatmulHeuristicResult_t r;
        int n = 0;
        assert_lt(choose(a, b, d, 1, &n, &r));
        assert_int_equal(n, 1);
        return r.algo;
    }
    cublasStatus_t multiply(const matrix &a, const matrix &b, const matrix &d, const cublasLtMatmulAlgo_t &algo,
                            double alpha = 1, double beta = 0)
    {
        const float alpha_f32 = (float)alpha, beta_f32 = (float)beta;
        const void *const of_product = f64 ? static_cast<const void *>(&alpha) : &alpha_f32;
        const void *const of_sum = f64 ? static_cast<const void *>(&beta) : &beta_f32;
        return cublasLtMatmul(lt, form, of_product, a.at, a.layout, b.at, b.layout, of_sum, d.at, d.layout, d.at,
                              d.layout, &algo, workspace, workspace_bytes, stream);
    }
};

/* d = 2 op(a) op(b) + beta d, all in numbers that f32 and most that bf16 holds exactly. */
static void check_product(bool turn_a, bool turn_b, bool by_row, cudaDataType_t result, float beta)
{
    const cudaDataType_t factors = result == CUDA_R_64F ? CUDA_R_64F : CUDA_R_16BF;
    rig r(turn_a, turn_b);
    if (result == CUDA_R_64F)
        r.compute_in_f64();
    matrix a(factors, turn_a ? K : M, turn_a ? M : K, by_row, 1);
    matrix b(factors, turn_b ? N : K, turn_b ? K : N, by_row, 2);
    matrix d(result, M, N, by_row, 3);
    const std::vector<float> x = a.download(), y = b.download(), before = d.download();
    assert_lt(r.multiply(a, b, d, r.chosen(a, b, d), 2, beta));
    assert_cuda(cudaStreamSynchronize(r.stream));
    const std::vector<float> after = d.download();
    size_t checked = 0;
    for (uint64_t i = 0; i < M; i++)
        for (uint64_t j = 0; j < N; j++) {
            double sum = 0;
            for (uint64_t k = 0; k < K; k++)
                sum += (double)x[turn_a ? a.index(k, i) : a.index(i, k)] * y[turn_b ? b.index(j, k) : b.index(k, j)];
            const double exact = 2 * sum + (beta != 0 ? beta * before[d.index(i, j)] : 0);
            const float expected =
                result != CUDA_R_16BF ? (float)exact : __bfloat162float(__float2bfloat16((float)exact));
            assert_float(after[d.index(i, j)], expected);
            checked++;
        }
    for (float v : after)
        checked += std::isnan(v); /* the padding is as it was */
    assert_int_equal(checked, after.size());
}

static void products_are_right_and_touch_nothing_else(void **)
{
    for (int bits = 0; bits < 8; bits++)
        for (cudaDataType_t result : {CUDA_R_32F, CUDA_R_16BF, CUDA_R_64F})
            for (float beta : {0.0f, 0.5f})
                check_product(bits & 1, bits & 2, bits & 4, result, beta);
}

/* Factors and sums in f64 keep what f32 has no room for. */
static void f64_is_f64_all_along(void **)
{
    rig r(false, false);
    r.compute_in_f64();
    matrix a(CUDA_R_64F, 1, 3, false, 1, 0), b(CUDA_R_64F, 3, 1, false, 2, 0), d(CUDA_R_64F, 1, 1, false, 3, 0);
    const double x[] = {1, 0x1p-40, 0x1p-52}, y[] = {1 + 0x1p-30, 1, 1}, factor = 1 + 0x1p-35;
    assert_cuda(cudaMemcpy(a.at, x, sizeof x, cudaMemcpyHostToDevice));
    assert_cuda(cudaMemcpy(b.at, y, sizeof y, cudaMemcpyHostToDevice));
    assert_lt(r.multiply(a, b, d, r.chosen(a, b, d), 1));
    assert_lt(r.multiply(a, b, d, r.chosen(a, b, d), 0, factor));
    assert_cuda(cudaStreamSynchronize(r.stream));
    assert_float(d.download_f64()[0], factor * (1 + 0x1p-30 + 0x1p-40 + 0x1p-52));
}

static void without_beta_the_result_is_not_read(void **)
{
    rig r(true, false);
    matrix a(CUDA_R_16BF, K, M, false, 1), b(CUDA_R_16BF, K, N, false, 2), d(CUDA_R_32F, M, N, false, 3);
    d.upload(std::vector<float>(d.elements(), NAN));
    assert_lt(r.multiply(a, b, d, r.chosen(a, b, d)));
    assert_cuda(cudaStreamSynchronize(r.stream));
    assert_false(std::isnan(d.download()[0]));
}

/* A product runs when its stream does, on the matrices as they are then. */
static void products_wait_on_their_stream(void **)
{
    rig r(true, false);
    matrix a(CUDA_R_16BF, K, M, false, 1), b(CUDA_R_16BF, K, N, false, 2), d(CUDA_R_32F, M, N, false, 3);
    const int64_t before = sim_counted().operations;
    assert_cuda(cudaMemsetAsync(a.at, 0, a.bytes(), r.stream));
    assert_lt(r.multiply(a, b, d, r.chosen(a, b, d)));
    assert_int_equal(sim_counted().operations, before);
    assert_cuda(cudaStreamSynchronize(r.stream));
    assert_float(d.download()[0], 0);
    assert_int_equal(sim_counted().launches, 1);
}

static void the_workspace_is_written(void **)
{
    rig r(true, false);
    matrix a(CUDA_R_16BF, K, M, false, 1), b(CUDA_R_16BF, K, N, false, 2), d(CUDA_R_32F, M, N, false, 3);
    cublasLtMatmulHeuristicResult_t results[3];
    int n;
    assert_lt(r.choose(a, b, d, 3, &n, results));
    assert_int_equal(n, 2);
    assert_int_equal(results[0].workspaceSize, 256); /* M N f32 */
    assert_int_equal(results[1].workspaceSize, 0);
    rig f64(true, false);
    f64.compute_in_f64();
    matrix f64_a(CUDA_R_64F, K, M, false, 1), f64_b(CUDA_R_64F, K, N, false, 2), f64_d(CUDA_R_64F, M, N, false, 3);
    cublasLtMatmulHeuristicResult_t of_f64;
    int found;
    assert_lt(f64.choose(f64_a, f64_b, f64_d, 1, &found, &of_f64));
    assert_int_equal(of_f64.workspaceSize, 512);
    for (const auto &result : results) {
        if (&result == results + n)
            break;
        char there;
        assert_cuda(cudaMemset(r.workspace, 1, r.workspace_bytes));
        assert_cuda(cudaDeviceSynchronize());
        assert_lt(r.multiply(a, b, d, result.algo));
        assert_cuda(cudaStreamSynchronize(r.stream));
        assert_cuda(cudaMemcpy(&there, r.workspace, 1, cudaMemcpyDeviceToHost));
        assert_int_equal(there == 1, result.workspaceSize == 0);
    }
    r.prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, (uint32_t)CUBLASLT_REDUCTION_SCHEME_NONE);
    assert_lt(r.choose(a, b, d, 3, &n, results));
    assert_int_equal(n, 1);
    assert_int_equal(results[0].workspaceSize, 0);
    r.prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, (uint32_t)CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
    r.prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, (uint64_t)255);
    assert_lt(r.choose(a, b, d, 3, &n, results));
    assert_int_equal(n, 1);
}

/* No misuse, for a backend may ask: the answer is that nothing does it. */
static void what_is_not_supported(void **)
{
    const bool col = false;
    matrix a(CUDA_R_16BF, K, M, col, 1), b(CUDA_R_16BF, K, N, col, 2), d(CUDA_R_32F, M, N, col, 3);
    matrix f32(CUDA_R_32F, K, M, col, 1), by_row(CUDA_R_16BF, K, N, true, 2);
    cublasLtMatmulHeuristicResult_t result;
    int n;
    rig r(true, false);
    assert_int_equal(r.choose(f32, b, d, 1, &n, &result), CUBLAS_STATUS_NOT_SUPPORTED);
    assert_int_equal(n, 0);
    assert_int_equal(r.choose(a, by_row, d, 1, &n, &result), CUBLAS_STATUS_NOT_SUPPORTED);
    matrix f64_a(CUDA_R_64F, K, M, col, 1), f64_b(CUDA_R_64F, K, N, col, 2), f64_d(CUDA_R_64F, M, N, col, 3);
    assert_int_equal(r.choose(f64_a, f64_b, f64_d, 1, &n, &result), CUBLAS_STATUS_NOT_SUPPORTED); /* in f32 */
    assert_int_equal(r.choose(a, b, f64_d, 1, &n, &result), CUBLAS_STATUS_NOT_SUPPORTED);
    rig wide(true, false);
    wide.compute_in_f64();
    assert_lt(wide.choose(f64_a, f64_b, f64_d, 1, &n, &result));
    assert_int_equal(wide.choose(f64_a, f64_b, d, 1, &n, &result), CUBLAS_STATUS_NOT_SUPPORTED);
    assert_int_equal(wide.choose(a, b, d, 1, &n, &result), CUBLAS_STATUS_NOT_SUPPORTED);
    assert_int_equal(wide.choose(f64_a, b, f64_d, 1, &n, &result), CUBLAS_STATUS_NOT_SUPPORTED);
    wide.describe(CUBLASLT_MATMUL_DESC_SCALE_TYPE, (int32_t)CUDA_R_32F);
    assert_int_equal(wide.choose(f64_a, f64_b, f64_d, 1, &n, &result), CUBLAS_STATUS_NOT_SUPPORTED);
    const struct {
        cublasLtMatmulDescAttributes_t attr;
        int32_t other, back;
    } cases[] = {{CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, CUBLAS_COMPUTE_16F, CUBLAS_COMPUTE_32F},
                 {CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, CUBLAS_COMPUTE_64F, CUBLAS_COMPUTE_32F},
                 {CUBLASLT_MATMUL_DESC_SCALE_TYPE, CUDA_R_64F, CUDA_R_32F},
                 {CUBLASLT_MATMUL_DESC_POINTER_MODE, CUBLASLT_POINTER_MODE_DEVICE, CUBLASLT_POINTER_MODE_HOST},
                 {CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_DEFAULT},
                 {CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_C, CUBLAS_OP_N}};
    for (const auto &c : cases) {
        r.describe(c.attr, c.other);
        assert_int_equal(r.choose(a, b, d, 1, &n, &result), CUBLAS_STATUS_NOT_SUPPORTED);
        r.describe(c.attr, c.back);
    }
    assert_lt(r.choose(a, b, d, 1, &n, &result));
    assert_int_equal(sim_counted().misuses, 0);
}

static void wrong_products_are_refused(void **)
{
    const bool col = false;
    rig r(true, false);
    matrix a(CUDA_R_16BF, K, M, col, 1), b(CUDA_R_16BF, K, N, col, 2), d(CUDA_R_32F, M, N, col, 3);
    matrix short_k(CUDA_R_16BF, K - 1, N, col, 2), wide(CUDA_R_32F, M, N + 1, col, 3);
    const cublasLtMatmulAlgo_t algo = r.chosen(a, b, d);
#define assert_refused(call)                                   \
    do {                                                       \
        const int64_t misuses_ = sim_counted().misuses;        \
        assert_int_equal(call, CUBLAS_STATUS_INVALID_VALUE);   \
        assert_int_equal(sim_counted().misuses, misuses_ + 1); \
    } while (0)
    assert_refused(r.multiply(a, short_k, d, algo));
    assert_refused(r.multiply(a, b, wide, algo));
    assert_refused(r.multiply(a, b, d, cublasLtMatmulAlgo_t{}));

    const int64_t ld = K - 1;
    assert_refused(cublasLtMatrixLayoutSetAttribute(a.layout, CUBLASLT_MATRIX_LAYOUT_LD, &ld, 4));
    assert_lt(cublasLtMatrixLayoutSetAttribute(a.layout, CUBLASLT_MATRIX_LAYOUT_LD, &ld, sizeof ld));
    assert_refused(r.multiply(a, b, d, algo)); /* less than a column */
    const int64_t longer = K + PAD + 1;
    assert_lt(cublasLtMatrixLayoutSetAttribute(a.layout, CUBLASLT_MATRIX_LAYOUT_LD, &longer, sizeof longer));
    assert_refused(r.multiply(a, b, d, algo)); /* reaches out of its block */
    const int64_t right = K + PAD;
    assert_lt(cublasLtMatrixLayoutSetAttribute(a.layout, CUBLASLT_MATRIX_LAYOUT_LD, &right, sizeof right));

    r.workspace_bytes = 255;
    assert_refused(r.multiply(a, b, d, algo));
    r.workspace_bytes = 512;
    r.workspace += 16;
    assert_refused(r.multiply(a, b, d, algo)); /* not aligned */
    r.workspace -= 16;
    char *const own = r.workspace, *room = new_device<char>(1024);
    void *const result = d.at, *const factor = a.at;
    d.at = room;
    r.workspace = room;
    assert_refused(r.multiply(a, b, d, algo)); /* where the result goes */
    r.workspace = own;
    a.at = room;
    assert_refused(r.multiply(a, b, d, algo)); /* and so does a factor */
    a.at = factor;
    d.at = result;
    assert_cuda(cudaFree(room));
    assert_int_equal(sim_counted().operations, 5); /* the uploads */
    assert_lt(r.multiply(a, b, d, algo));
    assert_cuda(cudaStreamSynchronize(r.stream));
}

/* What an algorithm was chosen for: promised addresses, rows as they were, types, transpositions. */
static void an_algorithm_serves_what_it_was_chosen_for(void **)
{
    const bool col = false;
    enum { EVEN = 16 };
    rig r(true, false, 16);
    matrix a(CUDA_R_16BF, EVEN, M, col, 1, 0), b(CUDA_R_16BF, EVEN, N, col, 2, 0), d(CUDA_R_32F, M, N, col, 3);
    matrix odd_rows(CUDA_R_16BF, EVEN, M, col, 1, 1), more(CUDA_R_16BF, EVEN, N + 2, col, 2, 0),
        wider(CUDA_R_32F, M, N + 2, col, 3), half(CUDA_R_16BF, M, N, col, 3);
    const cublasLtMatmulAlgo_t algo = r.chosen(a, b, d);
    assert_lt(r.multiply(a, b, d, algo));
    assert_lt(r.multiply(a, more, wider, algo)); /* other sizes are no matter */
    assert_refused(r.multiply(odd_rows, b, d, algo));
    assert_refused(r.multiply(a, b, half, algo));
    assert_lt(r.multiply(odd_rows, b, d, r.chosen(odd_rows, b, d)));
    b.at = static_cast<char *>(b.at) + 2;
    assert_refused(r.multiply(a, b, d, algo));
    b.at = static_cast<char *>(b.at) - 2;
    r.prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, (uint32_t)256);
    a.at = static_cast<char *>(a.at) + 32;
    assert_refused(r.multiply(a, b, d, r.chosen(a, b, d)));
    a.at = static_cast<char *>(a.at) - 32;
    assert_cuda(cudaStreamSynchronize(r.stream));
}

static void products_fail_as_planned(void **)
{
    rig r(true, false);
    matrix a(CUDA_R_16BF, K, M, false, 1), b(CUDA_R_16BF, K, N, false, 2), d(CUDA_R_32F, M, N, false, 3);
    const cublasLtMatmulAlgo_t algo = r.chosen(a, b, d);
    sim_fail("cublasLtMatmul", 1, CUBLAS_STATUS_INTERNAL_ERROR);
    assert_int_equal(r.multiply(a, b, d, algo), CUBLAS_STATUS_INTERNAL_ERROR);
    sim_fail_late(1, cudaErrorLaunchFailure);
    assert_lt(r.multiply(a, b, d, algo));
    assert_cuda_is(cudaStreamSynchronize(r.stream), cudaErrorLaunchFailure);
    assert_int_equal(r.multiply(a, b, d, algo), CUBLAS_STATUS_EXECUTION_FAILED);
    assert_string_equal(cublasLtGetStatusName(CUBLAS_STATUS_EXECUTION_FAILED), "CUBLAS_STATUS_EXECUTION_FAILED");
    assert_string_equal(cublasLtGetStatusString(CUBLAS_STATUS_NOT_SUPPORTED), "the functionality is not supported");
}

/* Of sums whose largest term is 1 the last of 25 bits is 2^-24, of their result's 24 bits 2^-23. */
static void sums_are_cut_off(void **)
{
    const float half[] = {1, 0x1p-24f, 0x1p-24f, 0x1p-24f}, quarter[] = {1, 0x1p-25f, 0x1p-25f, 0x1p-25f, 0x1p-25f};
    const float more[] = {1, 0x1.8p-24f}, less[] = {-1, -0x1.8p-24f}, with_nan[] = {1, NAN}, with_inf[] = {1, INFINITY};
    const float ones[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, tiny[] = {0x1p-149f, 0x1p-148f};
    const float later[] = {1, 0, 0, 0, 0, 0, 0, 0, 0x1p-24f, 0x1p-24f}, apart[] = {0x1p-24f, 0, 0, 0, 0, 0, 0, 0, 1};
    assert_float(sim::sum_of_products(ones, half, 4), 1 + 0x1p-23); /* rounded it would be 1 + 2^-22 */
    assert_float(sim::sum_of_products(ones, half, 3), 1 + 0x1p-23);
    assert_float(sim::sum_of_products(ones, half, 2), 1);
    assert_float(sim::sum_of_products(ones, quarter, 5), 1);
    assert_float(sim::sum_of_products(ones, more, 2), 1); /* rounded it would be 1 + 2^-23 */
    assert_float(sim::sum_of_products(ones, less, 2), -1);
    assert_float(sim::sum_of_products(ones, later, 10), 1 + 0x1p-23);
    assert_float(sim::sum_of_products(ones, apart, 9), 1); /* the sum of the first 8 is small */
    assert_float(sim::sum_of_products(ones, ones, 11), 11);
    assert_float(sim::sum_of_products(ones, tiny, 2), 0x1.8p-148);
    assert_float(sim::sum_of_products(ones, ones, 0), 0);
    assert_true(std::isnan(sim::sum_of_products(ones, with_nan, 2)));
    assert_float(sim::sum_of_products(ones, with_inf, 2), INFINITY);
}

int main()
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, fresh, all_released)
    const struct CMUnitTest tests[] = {
        TEST(sums_are_cut_off),
        TEST(products_are_right_and_touch_nothing_else),
        TEST(f64_is_f64_all_along),
        TEST(without_beta_the_result_is_not_read),
        TEST(products_wait_on_their_stream),
        TEST(the_workspace_is_written),
        TEST(what_is_not_supported),
        TEST(wrong_products_are_refused),
        TEST(an_algorithm_serves_what_it_was_chosen_for),
        TEST(products_fail_as_planned),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
