/* tiles.cuh - what the kernels with matrix units share: the fragments of 16 x 16 tiles, rows of bf16 into shared memory
 * and out of it. How a fragment lies over the lanes is the hardware's secret: elements are only ever all treated alike.
 */
#ifndef POL_TILES_CUH
#define POL_TILES_CUH

#include "kernels-cu/device.cuh"

enum {
    TILE = 16,  /* rows and columns of a fragment */
    VECTOR = 8, /* bf16 of a 16-byte vector */
    SKEW = 8    /* bf16 added to a row in shared memory, so that rows below each other begin in different banks */
};

using tile_a = nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, TILE, TILE, TILE, __nv_bfloat16, nvcuda::wmma::row_major>;
using tile_b = nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, TILE, TILE, TILE, __nv_bfloat16, nvcuda::wmma::row_major>;
using tile_bt =
    nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, TILE, TILE, TILE, __nv_bfloat16, nvcuda::wmma::col_major>;
using tile_sums = nvcuda::wmma::fragment<nvcuda::wmma::accumulator, TILE, TILE, TILE, float>;

/* Whether rows of bf16, `stride` apart from `p` on, may be read and written in vectors. */
static inline bool in_vectors(const cu_bf16 *p, int64_t stride)
{
    return (uintptr_t)p % (VECTOR * sizeof *p) == 0 && stride % VECTOR == 0;
}

/* Queues copies of `rows` rows to shared memory, `ld` apart: of each its first n elements, zeros from there to `width`.
 * row(r) is where row r is, or NULL for zeros alone. With `vectors`, n and width are multiples of VECTOR. All threads
 * of the block call it; what came is there after __pipeline_wait_prior() and a barrier. */
template <class Row>
static __device__ __forceinline__ void load_rows(shared_array<__nv_bfloat16> to, int ld, int rows, int width, int n,
                                                 bool vectors, Row row)
{
    const int step = vectors ? VECTOR : 1, steps = width / step;
    for (int i = threadIdx.x; i < rows * steps; i += blockDim.x) {
        const int r = i / steps, at = i % steps * step;
        const __nv_bfloat16 *from = row(r);
        const bool there = from && at < n;
        if (there && vectors) {
            copy_async<VECTOR>(to + (r * ld + at), from + at);
        } else {
            for (int k = 0; k < step; k++)
                to[r * ld + at + k] = there ? from[at + k] : __float2bfloat16_rn(0.0f);
        }
    }
}

/* VECTOR floats as bf16. */
static __device__ __forceinline__ void put(__nv_bfloat16 *to, const float (&x)[VECTOR], bool vectors)
{
    struct alignas(VECTOR * sizeof(__nv_bfloat16)) packed {
        __nv_bfloat16 of[VECTOR];
    } v;
    for (int k = 0; k < VECTOR; k++)
        v.of[k] = __float2bfloat16_rn(x[k]);
    if (vectors) {
        *reinterpret_cast<packed *>(to) = v;
    } else {
        for (int k = 0; k < VECTOR; k++)
            to[k] = v.of[k];
    }
}

#endif
