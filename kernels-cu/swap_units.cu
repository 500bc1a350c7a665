/* swap_units.cu - all pairs of all buffers in one launch.
 *
 * Units differ a thousandfold in size, a bias of 4 bytes to a group of 3 MB. So the work is counted in chunks of CHUNK
 * words, numbered pair after pair, buffer after buffer, and block b does chunks b, b + gridDim.x, ... of that count:
 * all blocks are done at about the same time, whatever the mix.
 */
#include "kernels-cu/rows.cuh"

/* Blocks are small, so that they find room beside those of a product (backends/cuda/moves.c). */
enum { SWAP_THREADS = 128, AT_ONCE = 4, CHUNK = SWAP_THREADS * AT_ONCE, SWAP_BLOCKS_MAX = 2048 };

/* The words of one pair from `first` on, as many as a chunk has. */
template <class W> static __device__ __forceinline__ void swap_chunk(const cu_swap &s, int64_t pair, int64_t first)
{
    const int64_t n = s.bytes / (int64_t)sizeof(W);
    W *const base = static_cast<W *>(s.base);
    W *const u = base + s.pairs[2 * pair] * n, *const v = base + s.pairs[2 * pair + 1] * n;
    W from_u[AT_ONCE], from_v[AT_ONCE];
#pragma unroll
    for (int k = 0; k < AT_ONCE; k++) {
        const int64_t i = first + k * SWAP_THREADS + threadIdx.x;
        if (i < n) {
            from_u[k] = u[i];
            from_v[k] = v[i];
        }
    }
#pragma unroll
    for (int k = 0; k < AT_ONCE; k++) {
        const int64_t i = first + k * SWAP_THREADS + threadIdx.x;
        if (i < n) {
            u[i] = from_v[k];
            v[i] = from_u[k];
        }
    }
}

static __device__ __forceinline__ int64_t chunks_of_unit(const cu_swap &s)
{
    return (s.bytes / s.vector + CHUNK - 1) / CHUNK;
}

/* Number `at` of the chunks of one buffer. */
static __device__ __forceinline__ void swap_one(const cu_swap &s, int64_t at)
{
    const int64_t chunks = chunks_of_unit(s), pair = at / chunks, first = at % chunks * CHUNK;
    switch (s.vector) {
    case 16: swap_chunk<uint4>(s, pair, first); break;
    case 8: swap_chunk<uint2>(s, pair, first); break;
    case 4: swap_chunk<unsigned>(s, pair, first); break;
    default: swap_chunk<uint16_t>(s, pair, first);
    }
}

/* The sum of x over the lanes of a warp up to this one. */
static __device__ __forceinline__ int64_t sum_so_far(int64_t x, int lane)
{
    for (int step = 1; step < WARP; step *= 2) {
        const int64_t before = __shfl_up_sync(0xffffffffu, x, step);
        x += lane >= step ? before : 0;
    }
    return x;
}

/* Every warp goes down the list, a buffer a lane at a time, for the chunks that are its block's. */
static __global__ void __launch_bounds__(SWAP_THREADS) swap_units(cu_swaps a)
{
    const int lane = threadIdx.x % WARP;
    int64_t next = blockIdx.x; /* this block's next chunk, counted from the first of swaps[i] */
    for (int64_t i = 0; i < a.n; i += WARP) {
        const int64_t chunks = i + lane < a.n ? a.swaps[i + lane].n_pairs * chunks_of_unit(a.swaps[i + lane]) : 0;
        const int64_t end = sum_so_far(chunks, lane), all = __shfl_sync(0xffffffffu, end, WARP - 1);
        for (; next < all; next += gridDim.x) {
            const int where = __ffs((int)__ballot_sync(0xffffffffu, next < end)) - 1;
            swap_one(a.swaps[i + where], next - __shfl_sync(0xffffffffu, end - chunks, where));
        }
        next -= all;
    }
}

extern "C" cudaError_t pol_cu_swap_units(cudaStream_t stream, const cu_swaps *a)
{
    const int64_t chunks = a->n_pairs * (int64_t)parts(a->longest, CHUNK); /* at most */
    const unsigned blocks = (unsigned)std::min<int64_t>(chunks, SWAP_BLOCKS_MAX);
    return launch(swap_units, dim3(blocks), dim3(SWAP_THREADS), 0, stream, *a);
}
