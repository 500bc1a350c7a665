/* add_bias.cu - y += bias, every row alike. */
#include "kernels-cu/rows.cuh"

template <int N, class E> static __global__ void add_bias(E *y, const float *bias, int64_t n)
{
    E *row = y + blockIdx.x * n;
    for (int64_t i = row_first() * N; i < n; i += row_step() * N) {
        float v[N], b[N];
        load(row + i, v);
        load(bias + i, b);
        for (int k = 0; k < N; k++)
            v[k] += b[k];
        store(row + i, v);
    }
}

template <int N, class E> static cudaError_t add_bias_by(cudaStream_t stream, E *y, const cu_add_bias *a)
{
    const unsigned threads = row_threads(a->N / N);
    return launch(add_bias<N, E>, row_grid(a->T, a->N / N, threads), dim3(threads), 0, stream, y, a->bias, a->N);
}

template <class E> static cudaError_t add_bias_to(cudaStream_t stream, E *y, const cu_add_bias *a)
{
    const bool wide = in_words(y, a->N * (int64_t)sizeof *y, 16) && in_words(a->bias, 0, 16);
    return wide ? add_bias_by<16 / sizeof *y>(stream, y, a) : add_bias_by<1>(stream, y, a);
}

extern "C" cudaError_t pol_cu_add_bias(cudaStream_t stream, const cu_add_bias *a)
{
    return a->y ? add_bias_to(stream, reinterpret_cast<__nv_bfloat16 *>(a->y), a) : add_bias_to(stream, a->x, a);
}
