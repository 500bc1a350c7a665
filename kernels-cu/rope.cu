/* rope.cu - rotates queries and keys in place in the fused rows. A thread turns N pairs of a head; a block has a head's
 * pairs along x, heads of one token along y.
 */
#include "kernels-cu/rows.cuh"

template <int N> static __global__ void rope(cu_rope a)
{
    const int64_t half = a.D / 2;
    const unsigned turned = (unsigned)a.g + 1, heads = (unsigned)a.G * turned; /* of each group all but the value */
    const float *cosine = a.cos_sin + blockIdx.x % (unsigned)a.S * a.D, *sine = cosine + half;
    __nv_bfloat16 *token = bf16(a.qkv) + blockIdx.x * a.G * (a.g + 2) * a.D;
    for (unsigned head = blockIdx.y * blockDim.y + threadIdx.y; head < heads; head += gridDim.y * blockDim.y) {
        __nv_bfloat16 *x = token + (int64_t)(head + head / turned) * a.D;
        for (int64_t i = (int64_t)threadIdx.x * N; i < half; i += (int64_t)blockDim.x * N) {
            float c[N], s[N], u[N], v[N];
            load(cosine + i, c);
            load(sine + i, s);
            load(x + i, u);
            load(x + half + i, v);
            for (int k = 0; k < N; k++) {
                const float old = u[k];
                u[k] = old * c[k] - v[k] * s[k];
                v[k] = v[k] * c[k] + old * s[k];
            }
            store(x + i, u);
            store(x + half + i, v);
        }
    }
}

template <int N> static cudaError_t rope_by(cudaStream_t stream, const cu_rope *a)
{
    const unsigned x = (unsigned)std::min<int64_t>(a->D / 2 / N, ROW_THREADS), y = ROW_THREADS / x;
    return launch(rope<N>, row_grid(a->T, a->G * (a->g + 1), y), dim3(x, y), 0, stream, *a);
}

extern "C" cudaError_t pol_cu_rope(cudaStream_t stream, const cu_rope *a)
{
    const bool wide = in_words(a->qkv, a->D / 2 * (int64_t)sizeof *a->qkv, 16) && in_words(a->cos_sin, 0, 16);
    return wide ? rope_by<8>(stream, a) : rope_by<1>(stream, a);
}
