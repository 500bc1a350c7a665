/* embed.cu - x = table[ids]: rows of bf16 widened to f32. */
#include "kernels-cu/rows.cuh"

template <int N> static __global__ void embed(cu_embed a)
{
    const __nv_bfloat16 *row = bf16(a.table) + a.ids[blockIdx.x] * a.C;
    float *x = a.x + blockIdx.x * a.C;
    for (int64_t i = row_first() * N; i < a.C; i += row_step() * N) {
        float v[N];
        load(row + i, v);
        store(x + i, v);
    }
}

template <int N> static cudaError_t embed_by(cudaStream_t stream, const cu_embed *a)
{
    const unsigned threads = row_threads(a->C / N);
    return launch(embed<N>, row_grid(a->T, a->C / N, threads), dim3(threads), 0, stream, *a);
}

extern "C" cudaError_t pol_cu_embed(cudaStream_t stream, const cu_embed *a)
{
    const bool wide = in_words(a->table, a->C * (int64_t)sizeof *a->table, 16) && in_words(a->x, 0, 16);
    return wide ? embed_by<8>(stream, a) : embed_by<1>(stream, a);
}
