/* attention_plain.cu - attention for any head size, on the ordinary units: a warp a row. Keys and values come by in
 * pieces of KEYS x PIECE through shared memory, all warps of a block use a piece together. A lane holds the score of
 * one key of a block, then PARTS * 2 elements of the row's sum of values. The softmax is rescaled as keys go by
 * (Milakov and Gimelshein 2018, arXiv 1805.02867); a head of more than SUMS elements is done again for each SUMS of
 * them.
 */
#include <float.h>

#include "kernels-cu/attention.cuh"

enum { KEYS = WARP, PIECE = 2 * WARP, PARTS = 4, SUMS = PARTS * PIECE, PLAIN_ROWS = 8, ROW_OF_PIECE = PIECE + 1 };

/* Elements [at, at + n) of the keys or values of KEYS positions from `position` on; of those there are. */
static __device__ void load_piece(shared_array<float> piece, const __nv_bfloat16 *from, int64_t stride, int positions,
                                  int n)
{
    __syncthreads(); /* the piece before may still be read */
    for (int i = threadIdx.x; i < KEYS * PIECE; i += blockDim.x) {
        const int k = i / PIECE, d = i % PIECE;
        piece[k * ROW_OF_PIECE + d] = k < positions && d < n ? __bfloat162float(from[k * stride + d]) : 0.0f;
    }
    __syncthreads();
}

static __global__ void __launch_bounds__(PLAIN_ROWS *WARP) plain(cu_attention a)
{
    const shared_array<float> piece = shared_memory<float>(0, KEYS * ROW_OF_PIECE);
    const attention_block b = block_of(a, PLAIN_ROWS);
    const int lane = threadIdx.x % WARP, D = (int)a.D, g = (int)a.g;
    const int row = b.begin + (int)threadIdx.x / WARP, r = min(row, b.end - 1), p = r / g;
    const __nv_bfloat16 *query = b.queries + p * b.stride + r % g * D;
    for (int begin = 0; begin < D; begin += SUMS) {
        float sums[PARTS][2] = {}, largest = -FLT_MAX, sum = 0;
        for (int k = b.first; k < b.first + b.n; k += KEYS) {
            const __nv_bfloat16 *keys = b.keys + k * b.stride, *values = keys + D + begin;
            const int positions = b.first + b.n - k;
            float score = 0;
            for (int d = 0; d < D; d += PIECE) {
                load_piece(piece, keys + d, b.stride, positions, D - d);
                for (int i = 0; i < min(PIECE, D - d); i++)
                    score += __bfloat162float(query[d + i]) * piece[lane * ROW_OF_PIECE + i];
            }
            const int from = first_seen(a, p) - k, to = p + 1 - k; /* of these keys the row sees [from, to) */
            score = lane >= from && lane < to ? a.scale * score : -INFINITY;
            const float most = fmaxf(largest, warp_max(score)), rescale = expf(largest - most);
            const float weight = expf(score - most);
            largest = most;
            sum = sum * rescale + warp_sum(weight);
#pragma unroll
            for (int part = 0; part < PARTS; part++) {
                const int d = part * PIECE;
                if (begin + d >= D)
                    break;
                load_piece(piece, values + d, b.stride, positions, D - begin - d);
                sums[part][0] *= rescale;
                sums[part][1] *= rescale;
                /* Only what the row sees: 0 times what another position may hold need not be 0. */
                for (int i = max(from, 0); i < min(to, KEYS); i++) {
                    const float w = __shfl_sync(0xffffffffu, weight, i);
                    sums[part][0] += w * piece[i * ROW_OF_PIECE + lane];
                    sums[part][1] += w * piece[i * ROW_OF_PIECE + lane + WARP];
                }
            }
        }
        __nv_bfloat16 *out = b.out + p * b.out_stride + r % g * D;
#pragma unroll
        for (int part = 0; part < PARTS; part++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int d = begin + part * PIECE + half * WARP + lane;
                if (d < D && row < b.end)
                    out[d] = __float2bfloat16_rn(sums[part][half] / sum);
            }
    }
}

cudaError_t attention_plain(cudaStream_t stream, const cu_attention *a)
{
    return launch(plain, dim3((unsigned)attention_blocks(a, PLAIN_ROWS)), dim3(PLAIN_ROWS * WARP),
                  KEYS * ROW_OF_PIECE * sizeof(float), stream, *a);
}
