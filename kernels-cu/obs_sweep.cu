/* obs_sweep.cu - what obs_sweep moves: units that change places, and weights between f32 and f64. */
#include "kernels-cu/rows.cuh"

static __global__ void exchange(cu_exchange a)
{
    double *const x = a.x + a.pairs[2 * blockIdx.x] * a.across, *const y = a.x + a.pairs[2 * blockIdx.x + 1] * a.across;
    for (int64_t j = row_first(); j < a.n; j += row_step()) {
        const double of_x = x[j * a.along];
        x[j * a.along] = y[j * a.along];
        y[j * a.along] = of_x;
    }
}

extern "C" cudaError_t pol_cu_exchange(cudaStream_t stream, const cu_exchange *a)
{
    const unsigned threads = row_threads(a->n);
    return launch(exchange, row_grid(a->n_pairs, a->n, threads), dim3(threads), 0, stream, *a);
}

static __global__ void widen(cu_widen a)
{
    const float *from = a.from + (a.order ? a.order[blockIdx.x] : blockIdx.x) * a.columns;
    for (int64_t j = row_first(); j < a.columns; j += row_step())
        a.to[blockIdx.x * a.columns + j] = from[j];
}

extern "C" cudaError_t pol_cu_widen(cudaStream_t stream, const cu_widen *a)
{
    const unsigned threads = row_threads(a->columns);
    return launch(widen, row_grid(a->rows, a->columns, threads), dim3(threads), 0, stream, *a);
}

static __global__ void narrow(cu_narrow a)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < a.n)
        a.to[i] = (float)a.from[i];
}

extern "C" cudaError_t pol_cu_narrow(cudaStream_t stream, const cu_narrow *a)
{
    return launch(narrow, dim3(parts(a->n, ROW_THREADS)), dim3(ROW_THREADS), 0, stream, *a);
}
