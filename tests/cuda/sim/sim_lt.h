/* sim_lt.h - cuBLASLt's objects, and the product that it stands for. */
#ifndef SIM_LT_H
#define SIM_LT_H

#include <cublasLt.h>

#include <cstddef>

namespace sim
{

struct product_description : cublasLtMatmulDescOpaque_t {
    int32_t compute, scale;
    int32_t pointer_mode = CUBLASLT_POINTER_MODE_HOST;
    int32_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
    int32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
};

struct matrix_layout : cublasLtMatrixLayoutOpaque_t {
    int32_t type, order = CUBLASLT_ORDER_COL;
    uint64_t rows, cols;
    int64_t ld; /* elements from one column to the next, or row where these are stored */

    size_t element_bytes() const { return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2; }
    size_t index(uint64_t row, uint64_t col) const
    {
        return order == CUBLASLT_ORDER_COL ? col * (uint64_t)ld + row : row * (uint64_t)ld + col;
    }
    /* From its first element to its last, without what pads the last column or row. */
    size_t bytes() const { return (index(rows - 1, cols - 1) + 1) * element_bytes(); }
};

struct product_preference : cublasLtMatmulPreferenceOpaque_t {
    uint64_t workspace_bytes = 0;
    uint32_t reductions = ~0u;                    /* ways to put sums of parts together that are allowed */
    uint32_t alignment[4] = {256, 256, 256, 256}; /* that the addresses of A, B, C and D will have */
};

/* d = alpha op(a) op(b) + beta c. Without beta, c is not read. The factors come in the type of the form's scale. */
struct product {
    product_description form;
    matrix_layout a, b, c, d;
    double alpha, beta;
    const void *at_a, *at_b, *at_c;
    void *at_d;
};

void run_product(const product &p);

} // namespace sim

#endif
