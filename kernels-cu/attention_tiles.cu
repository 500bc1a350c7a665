/* attention_tiles.cu - attention on the matrix units, for head sizes that are multiples of 16. A block has a tile of
 * query rows in shared memory; keys and values come by in chunks of KEYS positions, the next on its way while one is
 * worked on. Two warps share 16 of the rows: each does one 16 x 16 tile of a chunk's scores, and every other tile of
 * the sums of values, which stay in fragments.
 *
 *   one pass  All scores of the rows first, then their softmax, then the values.
 *   online    Chunk by chunk: the softmax is rescaled as keys go by (Milakov and Gimelshein 2018, arXiv 1805.02867).
 *
 * Scores are f32. Weights, exp(score - largest), are rounded to bf16 in place, over the first half of their row's
 * scores; a row is divided by the sum of its rounded weights, so what it gives is a mean of values in any case.
 *
 * What is not finite: a query, or a key that it sees, makes its row NaN and no other. A value makes NaN of rows of its
 * own sequence and group only: of those that see it, but also of rows of the same tile before it, whose weight of 0
 * does not save them.
 */
#include <float.h>

#include "kernels-cu/attention.cuh"
#include "kernels-cu/tiles.cuh"

enum {
    KEYS = WARP,                /* of a chunk: a lane each in the softmax */
    WARPS_A_TILE = KEYS / TILE, /* that share 16 rows */
    ROWS_A_WARP = TILE / WARPS_A_TILE,
    WIDEST = 256,                        /* head size */
    SUMS = WIDEST / TILE / WARPS_A_TILE, /* tiles of the result that a warp has */
    FEW_BLOCKS = 128                     /* so many should be there to do, or tiles are made smaller */
};

/* A block's shared memory, in bytes from its start. All begin at multiples of 32, as tiles must. */
struct shared_layout {
    int queries_row, scores_row; /* elements from a row to the next */
    size_t chunks, scores, sums, largest, rescale, end;
};

/* `keys`: the most that a tile of `rows` rows sees. */
static __host__ __device__ shared_layout layout_of(int rows, int keys, int D, bool one_pass)
{
    const int scores = one_pass ? (keys + TILE - 1) / TILE * TILE : KEYS;
    shared_layout l;
    l.queries_row = D + SKEW;
    l.scores_row = (scores > D ? scores : D) + SKEW / 2; /* in the end the results are there */
    l.chunks = sizeof(cu_bf16) * rows * l.queries_row;
    l.scores = l.chunks + sizeof(cu_bf16) * 2 * KEYS * l.queries_row;
    l.sums = l.scores + sizeof(float) * rows * l.scores_row;
    l.largest = l.sums + sizeof(float) * rows;
    l.rescale = l.largest + (one_pass ? 0 : sizeof(float) * rows);
    l.end = l.rescale + (one_pass ? 0 : sizeof(float) * rows * TILE);
    return l;
}

struct tiles_args {
    cu_attention a;
    int keys;
    bool vectors_in, vectors_out;
};

/* A block at work, as one of its warps sees it. Making one sends for the queries. */
template <int ROWS> struct tiles_block {
    const attention_block b;
    const int D, g;
    const shared_layout at;
    const float scale;
    const bool vectors_in;
    const int lane, part; /* the warp's place among those that share its 16 rows */
    const int row0, keys; /* the first of these rows in the tile; how many of the n keys any of them sees */
    const shared_array<__nv_bfloat16> queries, weights;
    const shared_array<float> scores, sums;

    __device__ __forceinline__ tiles_block(const tiles_args &t, bool one_pass)
        : b(block_of(t.a, ROWS)), D((int)t.a.D), g((int)t.a.g), at(layout_of(ROWS, t.keys, D, one_pass)),
          scale(t.a.scale), vectors_in(t.vectors_in), lane(threadIdx.x % WARP), part(threadIdx.x / WARP % WARPS_A_TILE),
          row0(threadIdx.x / WARP / WARPS_A_TILE * TILE),
          keys((min(b.begin + row0 + TILE, b.end) - 1) / g - b.first + 1),
          queries(shared_memory<__nv_bfloat16>(0, ROWS * at.queries_row)),
          weights(shared_memory<__nv_bfloat16>(at.scores, 2 * ROWS * at.scores_row)),
          scores(shared_memory<float>(at.scores, ROWS * at.scores_row)), sums(shared_memory<float>(at.sums, ROWS))
    {
        load_rows(queries, at.queries_row, ROWS, D, D, vectors_in, [&](int i) {
            const int r = b.begin + i;
            return r < b.end ? b.queries + r / g * b.stride + r % g * D : nullptr;
        });
    }
};

/* One of the two places for chunks. */
template <int ROWS>
static __device__ __forceinline__ shared_array<__nv_bfloat16> place_of(const tiles_block<ROWS> &w, int chunk)
{
    const int n = KEYS * w.at.queries_row;
    return shared_memory<__nv_bfloat16>(w.at.chunks + sizeof(cu_bf16) * n * (chunk % 2), n);
}

/* Sends for keys or values of a chunk of positions: `of` is position 0's. Zeros beyond the last. */
template <int ROWS>
static __device__ __forceinline__ void send_for(const tiles_block<ROWS> &w, int place, const __nv_bfloat16 *of,
                                                int chunk)
{
    const attention_block &b = w.b;
    load_rows(place_of(w, place), w.at.queries_row, KEYS, w.D, w.D, w.vectors_in, [&](int i) {
        const int k = chunk * KEYS + i;
        return k < b.n ? of + (b.first + k) * b.stride : nullptr;
    });
    __pipeline_commit();
}

/* A chunk's scores, for each warp its tile, into columns of `scores` from `column` on. */
template <int ROWS>
static __device__ __forceinline__ void score(const tiles_block<ROWS> &w, int place, int chunk, int column)
{
    const int key = w.part * TILE, row = w.at.queries_row;
    if (chunk * KEYS + key >= w.keys)
        return;
    const shared_array<__nv_bfloat16> keys = place_of(w, place);
    tile_sums sums;
    nvcuda::wmma::fill_fragment(sums, 0.0f);
    for (int d = 0; d < w.D; d += TILE) {
        tile_a query;
        tile_bt k;
        load_tile(query, w.queries + (w.row0 * row + d), row);
        load_tile(k, keys + (key * row + d), row);
        nvcuda::wmma::mma_sync(sums, query, k, sums);
    }
    store_tile(w.scores + (w.row0 * w.at.scores_row + column + key), sums, w.at.scores_row);
}

/* Adds a chunk's values times weights, those in columns from `column` on. */
template <int ROWS>
static __device__ __forceinline__ void add_values(const tiles_block<ROWS> &w, tile_sums (&sums)[SUMS], int place,
                                                  int chunk, int column)
{
    const int row = w.at.queries_row, weights_row = 2 * w.at.scores_row;
    const shared_array<__nv_bfloat16> values = place_of(w, place);
    for (int k = 0; k < KEYS && chunk * KEYS + k < w.keys; k += TILE) {
        tile_a weights;
        load_tile(weights, w.weights + (w.row0 * weights_row + column + k), weights_row);
#pragma unroll
        for (int i = 0; i < SUMS; i++) {
            const int d = (i * WARPS_A_TILE + w.part) * TILE;
            if (d < w.D) {
                tile_b v;
                load_tile(v, values + (k * row + d), row);
                nvcuda::wmma::mma_sync(sums[i], weights, v, sums[i]);
            }
        }
    }
}

/* Divides and writes: through shared memory, where the scores were. */
template <int ROWS>
static __device__ __forceinline__ void finish(const tiles_block<ROWS> &w, const tile_sums (&sums)[SUMS], bool vectors)
{
    __syncthreads();
#pragma unroll
    for (int i = 0; i < SUMS; i++) {
        const int d = (i * WARPS_A_TILE + w.part) * TILE;
        if (d < w.D)
            store_tile(w.scores + (w.row0 * w.at.scores_row + d), sums[i], w.at.scores_row);
    }
    __syncthreads();
    const int steps = w.D / VECTOR;
    for (int i = threadIdx.x; i < (w.b.end - w.b.begin) * steps; i += blockDim.x) {
        const int row = i / steps, d = i % steps * VECTOR, r = w.b.begin + row;
        const float inverse = 1 / w.sums[row];
        float x[VECTOR];
        for (int k = 0; k < VECTOR; k++)
            x[k] = w.scores[row * w.at.scores_row + d + k] * inverse;
        put(w.b.out + r / w.g * w.b.out_stride + r % w.g * w.D + d, x, vectors);
    }
}

/* Of the tile's keys, row `row` of the tile sees [from, to). Rows past the last are as the last. */
struct seen {
    int from, to;
};
template <int ROWS>
static __device__ __forceinline__ seen seen_by(const tiles_block<ROWS> &w, const cu_attention &a, int row)
{
    const int p = min(w.b.begin + row, w.b.end - 1) / w.g;
    return {first_seen(a, p) - w.b.first, p + 1 - w.b.first};
}

/* The softmax of whole rows, each by a warp of the two that share it. A step's scores are all read before its weights
 * are written over them or over those of steps before. */
template <int ROWS> static __device__ __forceinline__ void weigh_rows(const tiles_block<ROWS> &w, const cu_attention &a)
{
    for (int i = 0; i < ROWS_A_WARP; i++) {
        const int row = w.row0 + w.part * ROWS_A_WARP + i;
        const seen s = seen_by(w, a, row);
        const shared_array<float> scores = w.scores + row * w.at.scores_row;
        const shared_array<__nv_bfloat16> weights = w.weights + row * 2 * w.at.scores_row;
        float largest = -FLT_MAX, sum = 0;
        for (int k = s.from + w.lane; k < s.to; k += WARP)
            largest = fmaxf(largest, w.scale * scores[k]);
        largest = warp_max(largest);
        const int end = (w.keys + TILE - 1) / TILE * TILE;
        for (int begin = 0; begin < end; begin += WARP) {
            const int k = begin + w.lane;
            const float e = k >= s.from && k < s.to ? expf(w.scale * scores[k] - largest) : 0;
            const __nv_bfloat16 weight = __float2bfloat16_rn(e);
            sum += __bfloat162float(weight);
            __syncwarp();
            if (k < end)
                weights[k] = weight;
        }
        sum = warp_sum(sum);
        if (w.lane == 0)
            w.sums[row] = sum;
    }
}

template <int ROWS> static __global__ void __launch_bounds__(ROWS / ROWS_A_WARP * WARP) one_pass(tiles_args t)
{
    const tiles_block<ROWS> w(t, true);
    const __nv_bfloat16 *keys = w.b.keys, *values = keys + w.D;
    const int chunks = (w.b.n + KEYS - 1) / KEYS;
    send_for(w, 0, keys, 0);
    for (int c = 0; c < chunks; c++) {
        __pipeline_wait_prior(0);
        __syncthreads();
        if (c + 1 < chunks)
            send_for(w, c + 1, keys, c + 1);
        else
            send_for(w, c + 1, values, 0);
        score(w, c, c, c * KEYS);
    }
    __syncthreads();
    weigh_rows(w, t.a);
    tile_sums sums[SUMS];
#pragma unroll
    for (int i = 0; i < SUMS; i++)
        nvcuda::wmma::fill_fragment(sums[i], 0.0f);
    for (int c = 0; c < chunks; c++) {
        __pipeline_wait_prior(0);
        __syncthreads();
        if (c + 1 < chunks)
            send_for(w, chunks + c + 1, values, c + 1);
        add_values(w, sums, chunks + c, c, c * KEYS);
    }
    finish(w, sums, t.vectors_out);
}

/* A chunk's part of the softmax; `rescale` [ROWS, TILE] has a row's factor in all columns, so that as a fragment it
 * lies over the lanes as the sums do. */
template <int ROWS>
static __device__ __forceinline__ void weigh_chunk(const tiles_block<ROWS> &w, const cu_attention &a, int chunk,
                                                   shared_array<float> largest, shared_array<float> rescale)
{
    for (int i = 0; i < ROWS_A_WARP; i++) {
        const int row = w.row0 + w.part * ROWS_A_WARP + i, k = chunk * KEYS + w.lane;
        const seen s = seen_by(w, a, row);
        const bool sees = k >= s.from && k < s.to;
        const float x = sees ? w.scale * w.scores[row * w.at.scores_row + w.lane] : -INFINITY;
        const float before = chunk ? largest[row] : -FLT_MAX, most = fmaxf(before, warp_max(x));
        const float factor = expf(before - most);
        const __nv_bfloat16 weight = __float2bfloat16_rn(expf(x - most));
        const float sum = (chunk ? w.sums[row] * factor : 0) + warp_sum(__bfloat162float(weight));
        __syncwarp();
        w.weights[row * 2 * w.at.scores_row + w.lane] = weight;
        if (w.lane < TILE)
            rescale[row * TILE + w.lane] = factor;
        if (w.lane == 0) {
            largest[row] = most;
            w.sums[row] = sum;
        }
    }
}

template <int ROWS> static __global__ void __launch_bounds__(ROWS / ROWS_A_WARP * WARP) online(tiles_args t)
{
    const tiles_block<ROWS> w(t, false);
    const shared_array<float> largest = shared_memory<float>(w.at.largest, ROWS);
    const shared_array<float> rescale = shared_memory<float>(w.at.rescale, ROWS * TILE);
    const __nv_bfloat16 *keys = w.b.keys, *values = keys + w.D;
    const int chunks = (w.b.n + KEYS - 1) / KEYS;
    tile_sums sums[SUMS];
#pragma unroll
    for (int i = 0; i < SUMS; i++)
        nvcuda::wmma::fill_fragment(sums[i], 0.0f);
    send_for(w, 0, keys, 0);
    for (int c = 0; c < chunks; c++) {
        __pipeline_wait_prior(0);
        __syncthreads();
        send_for(w, 1, values, c);
        score(w, 0, c, 0);
        __syncthreads();
        weigh_chunk(w, t.a, c, largest, rescale);
        __pipeline_wait_prior(0);
        __syncthreads();
        if (c + 1 < chunks)
            send_for(w, 0, keys, c + 1);
        tile_sums factor;
        load_tile(factor, rescale + w.row0 * TILE, TILE);
#pragma unroll
        for (int i = 0; i < SUMS; i++)
            for (int j = 0; j < factor.num_elements; j++)
                sums[i].x[j] *= factor.x[j];
        add_values(w, sums, 1, c, 0);
    }
    finish(w, sums, t.vectors_out);
}

/* The most keys that a tile of so many rows sees. */
static int most_keys(const cu_attention *a, int rows)
{
    const int64_t positions = (rows - 1 + a->g - 1) / a->g + 1, most = a->window > 0 ? a->window - 1 + positions : a->S;
    return (int)(most < a->S ? most : a->S);
}

template <int ROWS> static cudaError_t launch_tiles(cudaStream_t stream, const cu_attention *a, bool in_one_pass)
{
    tiles_args t;
    t.a = *a;
    t.keys = most_keys(a, ROWS);
    t.vectors_in = in_vectors(a->qkv, a->D);
    t.vectors_out = in_vectors(a->out, a->D);
    const dim3 grid((unsigned)attention_blocks(a, ROWS)), block(ROWS / ROWS_A_WARP * WARP);
    const size_t shared_bytes = layout_of(ROWS, t.keys, (int)a->D, in_one_pass).end;
    return in_one_pass ? launch(one_pass<ROWS>, grid, block, shared_bytes, stream, t)
                       : launch(online<ROWS>, grid, block, shared_bytes, stream, t);
}

bool attention_tiles_serve(int64_t S, int64_t D, bool one_pass, int max_shared_bytes)
{
    return D % TILE == 0 && D <= WIDEST && layout_of(TILE, (int)S, (int)D, one_pass).end <= (size_t)max_shared_bytes;
}

/* The largest tiles that fit and leave the device enough blocks: each reads all keys and values that it sees. */
cudaError_t attention_tiles(cudaStream_t stream, const cu_attention *a, bool one_pass)
{
    int rows = 4 * TILE;
    while (rows > TILE && (attention_blocks(a, rows) < FEW_BLOCKS ||
                           layout_of(rows, most_keys(a, rows), (int)a->D, one_pass).end > (size_t)a->max_shared_bytes))
        rows /= 2;
    switch (rows) {
    case 4 * TILE: return launch_tiles<4 * TILE>(stream, a, one_pass);
    case 2 * TILE: return launch_tiles<2 * TILE>(stream, a, one_pass);
    default: return launch_tiles<TILE>(stream, a, one_pass);
    }
}
