/* rmsnorm.cu - y = x / sqrt(mean(x^2) + eps) * gain, a block a row. */
#include "kernels-cu/device.cuh"

enum { ROW_THREADS = 256 };

static __global__ void rmsnorm(cu_rmsnorm a)
{
    const float *x = a.x + blockIdx.x * a.C;
    __nv_bfloat16 *y = bf16(a.y) + blockIdx.x * a.C;
    float sum = 0;
    for (int64_t i = threadIdx.x; i < a.C; i += ROW_THREADS)
        sum += x[i] * x[i];
    sum = block_sum(sum, shared_memory<float>(0, ROW_THREADS / WARP));
    const float scale = 1.0f / sqrtf(sum / (float)a.C + a.eps);
    for (int64_t i = threadIdx.x; i < a.C; i += ROW_THREADS)
        y[i] = __float2bfloat16_rn(x[i] * scale * a.gain[i]);
}

extern "C" cudaError_t pol_cu_rmsnorm(cudaStream_t stream, const cu_rmsnorm *a)
{
    return launch(rmsnorm, dim3((unsigned)a->T), dim3(ROW_THREADS), ROW_THREADS / WARP * sizeof(float), stream, *a);
}
