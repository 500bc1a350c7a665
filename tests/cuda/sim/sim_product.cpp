/* sim_product.cpp - the product that stands for cuBLASLt's: sums of bf16 as by matrix units (sim_sum.h), from end to
 * end; sums of f64 one after the other, each step rounded once, as matrix units do that too. */
#include <cmath>
#include <vector>

#include <cuda_bf16.h>

#include "sim_lt.h"
#include "sim_sum.h"

namespace sim
{

static double element(const void *at, const matrix_layout &l, size_t i)
{
    if (l.type == CUDA_R_64F)
        return static_cast<const double *>(at)[i];
    if (l.type == CUDA_R_32F)
        return static_cast<const float *>(at)[i];
    return __bfloat162float(static_cast<const __nv_bfloat16 *>(at)[i]);
}

template <class T> static void set_element(void *at, const matrix_layout &l, size_t i, T x)
{
    if (l.type == CUDA_R_64F)
        static_cast<double *>(at)[i] = x;
    else if (l.type == CUDA_R_32F)
        static_cast<float *>(at)[i] = (float)x;
    else
        static_cast<__nv_bfloat16 *>(at)[i] = __float2bfloat16_rn((float)x);
}

/* Rows of the matrix, or columns, one after the other without gaps. */
template <class T> static std::vector<T> unpacked(const void *at, const matrix_layout &l, bool columns)
{
    const uint64_t n = columns ? l.cols : l.rows, length = columns ? l.rows : l.cols;
    std::vector<T> out(n * length);
    for (uint64_t i = 0; i < n; i++)
        for (uint64_t j = 0; j < length; j++)
            out[i * length + j] = (T)element(at, l, columns ? l.index(j, i) : l.index(i, j));
    return out;
}

static double sum_of_products(const double *a, const double *b, uint64_t n)
{
    double sum = 0;
    for (uint64_t i = 0; i < n; i++)
        sum = std::fma(a[i], b[i], sum);
    return sum;
}

/* T: of the sums. */
template <class T> static void run_product_in(const product &p)
{
    const bool a_by_columns = p.form.transpose_a == CUBLAS_OP_T, b_by_columns = p.form.transpose_b == CUBLAS_OP_N;
    const std::vector<T> rows = unpacked<T>(p.at_a, p.a, a_by_columns),
                         columns = unpacked<T>(p.at_b, p.b, b_by_columns);
    const uint64_t k = a_by_columns ? p.a.rows : p.a.cols;
    for (uint64_t i = 0; i < p.d.rows; i++)
        for (uint64_t j = 0; j < p.d.cols; j++) {
            T x = (T)p.alpha * sum_of_products(&rows[i * k], &columns[j * k], k);
            if (p.beta != 0)
                x += (T)p.beta * (T)element(p.at_c, p.c, p.c.index(i, j));
            set_element<T>(p.at_d, p.d, p.d.index(i, j), x);
        }
}

void run_product(const product &p)
{
    if (p.form.compute == CUBLAS_COMPUTE_64F)
        run_product_in<double>(p);
    else
        run_product_in<float>(p);
}

} // namespace sim
