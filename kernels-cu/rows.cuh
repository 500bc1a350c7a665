/* rows.cuh - what ops share that work on the elements of T rows one by one: vectors, and the shape of a launch.
 *
 * A thread loads and stores N elements at once: 4 or 8, in words of 8 or 16 bytes, where addresses and sizes allow,
 * else
 * 1. The seam decides; kernels are templates of N. In registers all are f32.
 */
#ifndef POL_ROWS_CUH
#define POL_ROWS_CUH

#include <algorithm>

#include "kernels-cu/device.cuh"

static __device__ __forceinline__ void load(const float *p, float (&x)[1]) { x[0] = *p; }
template <int N> static __device__ __forceinline__ void load(const float *p, float (&x)[N])
{
#pragma unroll
    for (int k = 0; k < N; k += 4) {
        const float4 v = *reinterpret_cast<const float4 *>(p + k);
        x[k] = v.x, x[k + 1] = v.y, x[k + 2] = v.z, x[k + 3] = v.w;
    }
}

static __device__ __forceinline__ void store(float *p, const float (&x)[1]) { *p = x[0]; }
template <int N> static __device__ __forceinline__ void store(float *p, const float (&x)[N])
{
#pragma unroll
    for (int k = 0; k < N; k += 4)
        *reinterpret_cast<float4 *>(p + k) = make_float4(x[k], x[k + 1], x[k + 2], x[k + 3]);
}

/* Two bf16 in the order of their addresses. */
static __device__ __forceinline__ void unpack(unsigned bits, float &low, float &high)
{
    low = __uint_as_float(bits << 16);
    high = __uint_as_float(bits & 0xffff0000u);
}
static __device__ __forceinline__ unsigned pack(float low, float high)
{
    return __bfloat16_as_ushort(__float2bfloat16_rn(low)) | (unsigned)__bfloat16_as_ushort(__float2bfloat16_rn(high))
                                                                << 16;
}

static __device__ __forceinline__ void load(const __nv_bfloat16 *p, float (&x)[1]) { x[0] = __bfloat162float(*p); }
static __device__ __forceinline__ void load(const __nv_bfloat16 *p, float (&x)[8])
{
    const uint4 v = *reinterpret_cast<const uint4 *>(p);
    unpack(v.x, x[0], x[1]);
    unpack(v.y, x[2], x[3]);
    unpack(v.z, x[4], x[5]);
    unpack(v.w, x[6], x[7]);
}

static __device__ __forceinline__ void store(__nv_bfloat16 *p, const float (&x)[1]) { *p = __float2bfloat16_rn(x[0]); }
static __device__ __forceinline__ void store(__nv_bfloat16 *p, const float (&x)[4])
{
    *reinterpret_cast<uint64_t *>(p) = pack(x[0], x[1]) | (uint64_t)pack(x[2], x[3]) << 32; /* nvcc splits a uint2 */
}
static __device__ __forceinline__ void store(__nv_bfloat16 *p, const float (&x)[8])
{
    *reinterpret_cast<uint4 *>(p) = make_uint4(pack(x[0], x[1]), pack(x[2], x[3]), pack(x[4], x[5]), pack(x[6], x[7]));
}

/* Whether rows of `row_bytes` from p on lie so that words of `word` bytes can be loaded. */
static inline bool in_words(const void *p, int64_t row_bytes, int word)
{
    return (uintptr_t)p % (unsigned)word == 0 && row_bytes % word == 0;
}

enum { ROW_THREADS = 256, GRID_Y_MAX = 64 };

/* Threads of a block for rows of n pieces of work: whole warps. */
static inline unsigned row_threads(int64_t n) { return parts(std::min<int64_t>(n, ROW_THREADS), WARP) * WARP; }

/* Rows along x; along y the blocks of a row, as many as it has work for and a device is filled with. */
static inline dim3 row_grid(int64_t T, int64_t n, unsigned per_block)
{
    return dim3((unsigned)T, std::min<unsigned>(parts(n, per_block), GRID_Y_MAX));
}

/* This thread's pieces of row blockIdx.x: from row_first() on, every row_step()-th. */
static __device__ __forceinline__ int64_t row_first() { return (int64_t)blockIdx.y * blockDim.x + threadIdx.x; }
static __device__ __forceinline__ int64_t row_step() { return (int64_t)gridDim.y * blockDim.x; }

#endif
