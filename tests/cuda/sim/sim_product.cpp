/* sim_product.cpp - the product that stands for cuBLASLt's: sums as by matrix units (sim_sum.h), from end to end. */
#include <cstring>
#include <vector>

#include <cuda_bf16.h>

#include "sim_lt.h"
#include "sim_sum.h"

namespace sim
{

static float element(const void *at, const matrix_layout &l, size_t i)
{
    if (l.type == CUDA_R_32F)
        return static_cast<const float *>(at)[i];
    return __bfloat162float(static_cast<const __nv_bfloat16 *>(at)[i]);
}

static void set_element(void *at, const matrix_layout &l, size_t i, float x)
{
    if (l.type == CUDA_R_32F)
        static_cast<float *>(at)[i] = x;
    else
        static_cast<__nv_bfloat16 *>(at)[i] = __float2bfloat16_rn(x);
}

/* Rows of the matrix, or columns, one after the other without gaps. */
static std::vector<float> unpacked(const void *at, const matrix_layout &l, bool columns)
{
    const uint64_t n = columns ? l.cols : l.rows, length = columns ? l.rows : l.cols;
    std::vector<float> out(n * length);
    for (uint64_t i = 0; i < n; i++)
        for (uint64_t j = 0; j < length; j++)
            out[i * length + j] = element(at, l, columns ? l.index(j, i) : l.index(i, j));
    return out;
}

void run_product(const product &p)
{
    const bool a_by_columns = p.form.transpose_a == CUBLAS_OP_T, b_by_columns = p.form.transpose_b == CUBLAS_OP_N;
    const std::vector<float> rows = unpacked(p.at_a, p.a, a_by_columns), columns = unpacked(p.at_b, p.b, b_by_columns);
    const uint64_t k = a_by_columns ? p.a.rows : p.a.cols;
    for (uint64_t i = 0; i < p.d.rows; i++)
        for (uint64_t j = 0; j < p.d.cols; j++) {
            float x = p.alpha * sum_of_products(&rows[i * k], &columns[j * k], k);
            if (p.beta != 0)
                x += p.beta * element(p.at_c, p.c, p.c.index(i, j));
            set_element(p.at_d, p.d, p.d.index(i, j), x);
        }
}

} // namespace sim
