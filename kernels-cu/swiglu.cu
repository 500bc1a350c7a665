/* swiglu.cu - h = silu(gate) * up of the kept channels; zeros for what the width is padded with, whatever gu has there.
 */
#include "kernels-cu/rows.cuh"

/* Gate and up of N channels; a single channel's may lie at any element. */
static __device__ __forceinline__ void load_pairs(const __nv_bfloat16 *gu, float (&x)[2])
{
    x[0] = __bfloat162float(gu[0]);
    x[1] = __bfloat162float(gu[1]);
}
static __device__ __forceinline__ void load_pairs(const __nv_bfloat16 *gu, float (&x)[8]) { load(gu, x); }

template <int N> static __global__ void swiglu(cu_swiglu a)
{
    const __nv_bfloat16 *gu = bf16(a.gu) + blockIdx.x * a.padded * 2;
    __nv_bfloat16 *h = bf16(a.h) + blockIdx.x * a.padded;
    for (int64_t i = row_first() * N; i < a.padded; i += row_step() * N) {
        float out[N] = {}, pairs[2 * N];
        if (i < a.kept) {
            load_pairs(gu + 2 * i, pairs);
#pragma unroll
            for (int k = 0; k < N; k++) {
                const float gate = pairs[2 * k], up = pairs[2 * k + 1];
                if (i + k < a.kept)
                    out[k] = gate / (1.0f + expf(-gate)) * up;
            }
        }
        store(h + i, out);
    }
}

template <int N> static cudaError_t swiglu_by(cudaStream_t stream, const cu_swiglu *a)
{
    const unsigned threads = row_threads(a->padded / N);
    return launch(swiglu<N>, row_grid(a->T, a->padded / N, threads), dim3(threads), 0, stream, *a);
}

extern "C" cudaError_t pol_cu_swiglu(cudaStream_t stream, const cu_swiglu *a)
{
    const bool wide = in_words(a->gu, a->padded * 2 * (int64_t)sizeof *a->gu, 16) && in_words(a->h, 0, 8);
    return wide ? swiglu_by<4>(stream, a) : swiglu_by<1>(stream, a);
}
