/* attention.cuh - what the forms of attention share. The rows of a (sequence, group) are its positions' query heads:
 * row r is head r % g at position r / g, and all of them share the group's keys and values. A block does a tile of
 * consecutive rows.
 */
#ifndef POL_ATTENTION_CUH
#define POL_ATTENTION_CUH

#include "kernels-cu/device.cuh"

cudaError_t attention_plain(cudaStream_t stream, const cu_attention *a);
/* In one pass or online; for sizes that they serve. */
cudaError_t attention_tiles(cudaStream_t stream, const cu_attention *a, bool one_pass);
bool attention_tiles_serve(int64_t S, int64_t D, bool one_pass, int max_shared_bytes);

/* Blocks of tiles of so many rows. */
static inline int64_t attention_blocks(const cu_attention *a, int64_t rows)
{
    return (a->S * a->g + rows - 1) / rows * a->G * (a->T / a->S);
}

/* What a block works on. */
struct attention_block {
    const __nv_bfloat16 *queries, *keys; /* of the sequence's position 0; its value follows a key */
    __nv_bfloat16 *out;
    int64_t stride, out_stride; /* from a position to the next */
    int begin, end;             /* its rows */
    int first, n;               /* the keys that any of them sees: n positions from `first` on */
};

/* The first position that position p sees. */
static __device__ __forceinline__ int first_seen(const cu_attention &a, int p)
{
    return a.window > 0 && a.window <= p ? p - (int)a.window + 1 : 0;
}

/* Groups first, so that what runs at the same time reads neighbours; then tiles, those with most keys first. */
static __device__ __forceinline__ attention_block block_of(const cu_attention &a, int rows)
{
    const int all = (int)(a.S * a.g), tiles = (all + rows - 1) / rows, G = (int)a.G, g = (int)a.g;
    const int group = (int)blockIdx.x % G, tile = tiles - 1 - (int)blockIdx.x / G % tiles;
    const int64_t position = (int)blockIdx.x / G / tiles * a.S;
    attention_block b;
    b.stride = a.G * (a.g + 2) * a.D;
    b.out_stride = a.G * a.g * a.D;
    b.queries = bf16(a.qkv) + position * b.stride + group * (a.g + 2) * a.D;
    b.keys = b.queries + a.g * a.D;
    b.out = bf16(a.out) + position * b.out_stride + group * a.g * a.D;
    b.begin = tile * rows;
    b.end = min(b.begin + rows, all);
    b.first = first_seen(a, b.begin / g);
    b.n = (b.end - 1) / g - b.first + 1;
    return b;
}

#endif
