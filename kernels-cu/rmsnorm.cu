/* rmsnorm.cu - y = x / sqrt(mean(x^2) + eps) * gain, a block a row. Of its share of the row a thread keeps HELD words
 * in registers, with the gain in, until the sum is there: up to C = 8192 the row is read once.
 */
#include "kernels-cu/rows.cuh"

enum { HELD = 8 };

/* Adds the squares of N elements to sum, and makes x * gain of them. */
template <int N>
static __device__ __forceinline__ void take(float (&held)[N], float &sum, const float *x, const float *gain)
{
    float g[N];
    load(x, held);
    load(gain, g);
    for (int k = 0; k < N; k++) {
        sum += held[k] * held[k];
        held[k] *= g[k];
    }
}

template <int N> static __device__ __forceinline__ void put(__nv_bfloat16 *y, float (&held)[N], float scale)
{
    for (int k = 0; k < N; k++)
        held[k] *= scale;
    store(y, held);
}

template <int N> static __global__ void rmsnorm(cu_rmsnorm a)
{
    const float *x = a.x + blockIdx.x * a.C;
    __nv_bfloat16 *y = bf16(a.y) + blockIdx.x * a.C;
    const int64_t first = (int64_t)threadIdx.x * N, step = (int64_t)blockDim.x * N;
    float held[HELD][N], more[N], sum = 0, none = 0;
#pragma unroll
    for (int h = 0; h < HELD; h++)
        if (first + h * step < a.C)
            take(held[h], sum, x + first + h * step, a.gain + first + h * step);
    for (int64_t i = first + HELD * step; i < a.C; i += step)
        take(more, sum, x + i, a.gain + i);
    sum = block_sum(sum, shared_memory<float>(0, blockDim.x / WARP));
    const float scale = 1.0f / sqrtf(sum / (float)a.C + a.eps);
#pragma unroll
    for (int h = 0; h < HELD; h++)
        if (first + h * step < a.C)
            put(y + first + h * step, held[h], scale);
    for (int64_t i = first + HELD * step; i < a.C; i += step) {
        take(more, none, x + i, a.gain + i);
        put(y + i, more, scale);
    }
}

template <int N> static cudaError_t rmsnorm_by(cudaStream_t stream, const cu_rmsnorm *a)
{
    const unsigned threads = row_threads(a->C / N);
    return launch(rmsnorm<N>, dim3((unsigned)a->T), dim3(threads), threads / WARP * sizeof(float), stream, *a);
}

extern "C" cudaError_t pol_cu_rmsnorm(cudaStream_t stream, const cu_rmsnorm *a)
{
    const bool wide =
        in_words(a->x, a->C * (int64_t)sizeof *a->x, 16) && in_words(a->gain, 0, 16) && in_words(a->y, 0, 8);
    return wide ? rmsnorm_by<4>(stream, a) : rmsnorm_by<1>(stream, a);
}
