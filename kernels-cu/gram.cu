/* gram.cu - what gram does beside its products: f32 as three bf16 that matrix units multiply, and adding a product to a
 * sum that is a pair of floats.
 *
 * The parts: a float has 24 bits, a bf16 has 8. Cut off, not rounded, each part is the next 8 bits of what is left, and
 * what is left is exact; so the three are the float to the last bit, but for bits below 2^-133, which bf16 does not
 * have. Rounding would make infinities of the largest floats. What is not finite is its own first part.
 *
 * The sum: the low part takes exactly what rounding takes from high + product (Knuth, The Art of Computer Programming,
 * volume 2, theorem 4.2.2 B). These are sums alone, which no compiler contracts; rounding the low part is all that is
 * lost, 2^-48 of the sum.
 */
#include "kernels-cu/rows.cuh"

enum { PARTS = 3 };

static __device__ __forceinline__ float top_bits(float x) { return __uint_as_float(__float_as_uint(x) & 0xffff0000u); }

static __global__ void split(cu_split a)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= a.n)
        return;
    const float x = a.x[i];
    if (!isfinite(x)) {
        bf16(a.parts)[i] = __float2bfloat16_rn(x);
        bf16(a.parts)[i + a.n] = bf16(a.parts)[i + 2 * a.n] = __float2bfloat16_rn(0.0f);
        return;
    }
    float left = x;
    for (int k = 0; k < PARTS; k++) {
        bf16(a.parts)[i + k * a.n] = __float2bfloat16_rn(top_bits(left));
        left -= top_bits(left);
    }
}

extern "C" cudaError_t pol_cu_split(cudaStream_t stream, const cu_split *a)
{
    return launch(split, dim3(parts(a->n, ROW_THREADS)), dim3(ROW_THREADS), 0, stream, *a);
}

static __device__ __forceinline__ void add(float &high, float &low, float p)
{
    const float sum = high + p, of_p = sum - high;
    const float rest = low + ((high - (sum - of_p)) + (p - of_p));
    const float all = sum + rest;
    low = rest - (all - sum);
    high = all;
}

template <int N> static __global__ void add_to_pairs(cu_add_to_pairs a)
{
    const float *p = a.product + blockIdx.x * a.columns;
    float *high = a.high + blockIdx.x * a.row, *low = a.low + blockIdx.x * a.row;
    for (int64_t i = row_first() * N; i < a.columns; i += row_step() * N) {
        float of_p[N], of_high[N], of_low[N];
        load(p + i, of_p);
        load(high + i, of_high);
        load(low + i, of_low);
        for (int k = 0; k < N; k++)
            add(of_high[k], of_low[k], of_p[k]);
        store(high + i, of_high);
        store(low + i, of_low);
    }
}

template <int N> static cudaError_t add_to_pairs_by(cudaStream_t stream, const cu_add_to_pairs *a)
{
    const unsigned threads = row_threads(a->columns / N);
    return launch(add_to_pairs<N>, row_grid(a->rows, a->columns / N, threads), dim3(threads), 0, stream, *a);
}

extern "C" cudaError_t pol_cu_add_to_pairs(cudaStream_t stream, const cu_add_to_pairs *a)
{
    const int64_t size = sizeof(float);
    const bool wide = in_words(a->product, a->columns * size, 16) && in_words(a->high, a->row * size, 16) &&
                      in_words(a->low, a->row * size, 16);
    return wide ? add_to_pairs_by<4>(stream, a) : add_to_pairs_by<1>(stream, a);
}
