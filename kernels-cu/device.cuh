/* device.cuh - what the kernels share: launching, shared memory, sums over warps and blocks, bf16.
 *
 * The kernels are written in a dialect that a C++ compiler takes too, so that tests can run them on the processor
 * (tests/cuda/sim): launches go through launch(), never <<<>>>; shared memory is asked for with shared_memory(), and is
 * always dynamic. With POLLARD_CUDA_SIM the toolkit's headers and the part below that is marked are those of the
 * simulator, which checks what it hands out: bounds, what was never written, races. So inline PTX is for that part
 * alone.
 */
#ifndef POL_DEVICE_CUH
#define POL_DEVICE_CUH

#include <cuda_bf16.h>
#include <cuda_pipeline.h>
#include <cuda_runtime.h>
#include <mma.h>

#include "kernels-cu/kernels.h"

enum { SHARED_WITHOUT_ASKING = 48 << 10 }; /* bytes of shared memory that any kernel may have */

/* Lets a kernel have all shared memory that a block can have on the current device. Not what one launch wants: the last
 * word holds for the kernel on that device, so for launches of other threads too, and for those in graphs. */
static inline cudaError_t allow_shared(const void *kernel)
{
    int device, most;
    cudaError_t e = cudaGetDevice(&device);
    if (e == cudaSuccess)
        e = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    return e == cudaSuccess ? cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most) : e;
}

#ifdef POLLARD_CUDA_SIM
#include "sim_kernel.h" /* what follows here, to the same effect */
#else

/* Elements of shared memory that a kernel indexes; p + n is the array from its n-th element on. */
template <class T> using shared_array = T *;

/* The block's dynamic shared memory from byte `at` on, at a multiple of T's size, as n elements of T. What the launch
 * asked for must reach to its end. */
template <class T> static __device__ __forceinline__ shared_array<T> shared_memory(size_t at, size_t n)
{
    extern __shared__ __align__(32) unsigned char pol_shared_bytes[];
    (void)n;
    return reinterpret_cast<T *>(pol_shared_bytes + at);
}

/* Sixteen rows of a tile from shared memory into a fragment, and back: `ld` elements from one row (column, where the
 * fragment is col_major) to the next, a multiple of 16 bytes; the first lies at a multiple of 32 bytes.
 *
 * Of bf16 load_matrix_sync() would do the same, but nvcc forgets on the way that this is shared memory: each lane then
 * loads its 2 or 4 bytes at a time by general addresses, where ptxas makes one LDSM of a tile if it is told. */
#define LOAD_TILE(use, layout, ptx)                                                                       \
    static __device__ __forceinline__ void load_tile(                                                     \
        nvcuda::wmma::fragment<nvcuda::wmma::use, 16, 16, 16, __nv_bfloat16, nvcuda::wmma::layout> &tile, \
        shared_array<__nv_bfloat16> from, unsigned ld)                                                    \
    {                                                                                                     \
        unsigned *const to = reinterpret_cast<unsigned *>(tile.x);                                        \
        asm volatile("wmma.load." ptx ".m16n16k16.shared.bf16 {%0, %1, %2, %3}, [%4], %5;"                \
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])                                 \
                     : "r"((unsigned)__cvta_generic_to_shared(from)), "r"(ld)                             \
                     : "memory");                                                                         \
    }
LOAD_TILE(matrix_a, row_major, "a.sync.aligned.row")
LOAD_TILE(matrix_b, row_major, "b.sync.aligned.row")
LOAD_TILE(matrix_b, col_major, "b.sync.aligned.col")
#undef LOAD_TILE

static __device__ __forceinline__ void
load_tile(nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float> &tile, shared_array<float> from,
          unsigned ld)
{
    nvcuda::wmma::load_matrix_sync(tile, from, ld, nvcuda::wmma::mem_row_major);
}

static __device__ __forceinline__ void
store_tile(shared_array<float> to, const nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float> &tile,
           unsigned ld)
{
    nvcuda::wmma::store_matrix_sync(to, tile, ld, nvcuda::wmma::mem_row_major);
}

/* Copies N elements (4, 8 or 16 bytes, both sides a multiple of that) into shared memory while the thread goes on:
 * until __pipeline_wait_prior(), and for other threads until a barrier after it, nobody may touch them. */
template <int N = 1, class T> static __device__ __forceinline__ void copy_async(shared_array<T> to, const T *from)
{
    __pipeline_memcpy_async(to, from, N * sizeof(T));
}

template <class... P, class... A>
static cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream, A... a)
{
    if (shared_bytes > SHARED_WITHOUT_ASKING) {
        const cudaError_t e = allow_shared(reinterpret_cast<const void *>(kernel));
        if (e != cudaSuccess)
            return e;
    }
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    return cudaLaunchKernelEx(&config, kernel, P(a)...);
}
#endif

enum { WARP = 32 };

static __device__ __forceinline__ const __nv_bfloat16 *bf16(const cu_bf16 *p)
{
    return reinterpret_cast<const __nv_bfloat16 *>(p);
}
static __device__ __forceinline__ __nv_bfloat16 *bf16(cu_bf16 *p) { return reinterpret_cast<__nv_bfloat16 *>(p); }

/* Over the 32 lanes of a warp, which all call it; every lane gets the result. */
template <class T> static __device__ __forceinline__ T warp_sum(T x)
{
    for (int step = WARP / 2; step > 0; step /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

static __device__ __forceinline__ float warp_max(float x)
{
    for (int step = WARP / 2; step > 0; step /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

/* Over the threads of a block of whole warps, which all call it; every thread gets the result. `part`: an element a
 * warp. Begins with a barrier, so the same `part` may serve again. */
static __device__ __forceinline__ float block_sum(float x, shared_array<float> part)
{
    const int lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    x = warp_sum(x);
    __syncthreads();
    if (lane == 0)
        part[threadIdx.x / WARP] = x;
    __syncthreads();
    return warp_sum(lane < warps ? part[lane] : 0.0f);
}

static __device__ __forceinline__ float block_max(float x, shared_array<float> part)
{
    const int lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    x = warp_max(x);
    __syncthreads();
    if (lane == 0)
        part[threadIdx.x / WARP] = x;
    __syncthreads();
    return warp_max(lane < warps ? part[lane] : -INFINITY);
}

/* n rounded up to whole parts of `part`, in parts. */
static inline unsigned parts(int64_t n, int64_t part) { return (unsigned)((n + part - 1) / part); }

#endif
