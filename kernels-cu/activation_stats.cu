/* activation_stats.cu - sums of x and of x^2 by column. A block has a few columns side by side, in words of N, and
 * goes down all rows, as many at a time as it has threads for; what its threads then have is added up in pairs, so the
 * result does not depend on how the device runs it.
 */
#include "kernels-cu/rows.cuh"

enum { STATS_THREADS = 256, STATS_BYTES = 64 }; /* STATS_BYTES: of a row that a block reads at once */

/* Words of a row along x, rows along y: powers of two. */
template <int N> static __global__ void activation_stats(cu_activation_stats a)
{
    const int64_t column = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * N;
    const __nv_bfloat16 *x = bf16(a.x) + column;
    float sum[N] = {}, sumsq[N] = {};
    if (column < a.N) {
#pragma unroll 4
        for (int64_t t = threadIdx.y; t < a.T; t += blockDim.y) {
            float v[N];
            load(x + t * a.N, v);
            for (int k = 0; k < N; k++) {
                sum[k] += v[k];
                sumsq[k] += v[k] * v[k];
            }
        }
    }
    const unsigned thread = threadIdx.y * blockDim.x + threadIdx.x;
    const shared_array<float> sums = shared_memory<float>(0, 2 * N * STATS_THREADS), sumsqs = sums + N * STATS_THREADS;
    for (int k = 0; k < N; k++) {
        sums[k * STATS_THREADS + thread] = sum[k];
        sumsqs[k * STATS_THREADS + thread] = sumsq[k];
    }
    for (unsigned half = STATS_THREADS / 2; half >= blockDim.x; half /= 2) {
        __syncthreads();
        for (int k = 0; k < N && thread < half; k++) {
            const unsigned at = k * STATS_THREADS + thread;
            sums[at] = sums[at] + sums[at + half];
            sumsqs[at] = sumsqs[at] + sumsqs[at + half];
        }
    }
    for (int k = 0; k < N && threadIdx.y == 0 && column < a.N; k++) {
        a.sum[column + k] = sums[k * STATS_THREADS + thread];
        a.sumsq[column + k] = sumsqs[k * STATS_THREADS + thread];
    }
}

template <int N> static cudaError_t activation_stats_by(cudaStream_t stream, const cu_activation_stats *a)
{
    const int64_t n = a->N / N;
    unsigned x = STATS_BYTES / (N * sizeof *a->x);
    while (x / 2 >= n)
        x /= 2;
    return launch(activation_stats<N>, dim3(parts(n, x)), dim3(x, STATS_THREADS / x),
                  2 * N * STATS_THREADS * sizeof(float), stream, *a);
}

extern "C" cudaError_t pol_cu_activation_stats(cudaStream_t stream, const cu_activation_stats *a)
{
    const bool wide = in_words(a->x, a->N * (int64_t)sizeof *a->x, 16);
    return wide ? activation_stats_by<8>(stream, a) : activation_stats_by<1>(stream, a);
}
