/* project_swiglu.cu - h = silu(x gate^T) * (x up^T) in one kernel. w [padded,2,C] has a channel's gate row, then its up
 * row: a block's columns of x w^T are then gate and up of its channels side by side.
 *
 * A block does TOKENS tokens x CHANNELS channels. x and w come by in stages of DEPTH columns; STAGES - 1 of them are on
 * their way while one is worked on. Four warps have a quarter of the result each, in fragments; it goes to shared
 * memory, where the stages were, to be put together.
 */
#include "kernels-cu/tiles.cuh"

enum {
    TOKENS = 64,
    CHANNELS = 64,
    COLUMNS = 2 * CHANNELS, /* of x w^T */
    DEPTH = 32,
    STAGES = 3,
    WARPS = 4, /* 2 x 2 over the block's result */
    DOWN = TOKENS / 2 / TILE,
    ACROSS = COLUMNS / 2 / TILE,
    STAGE_ROW = DEPTH + SKEW,
    STAGE = (TOKENS + COLUMNS) * STAGE_ROW, /* elements */
    RESULT_ROW = COLUMNS + SKEW / 2,
    STAGES_BYTES = STAGES * STAGE * (int)sizeof(cu_bf16),
    RESULT_BYTES = TOKENS * RESULT_ROW * (int)sizeof(float)
};

struct project_swiglu_args {
    cu_project_swiglu a;
    bool vectors;
};

static __device__ __forceinline__ shared_array<__nv_bfloat16> stage_of(int i)
{
    return shared_memory<__nv_bfloat16>((size_t)(i % STAGES) * STAGE * sizeof(cu_bf16), STAGE);
}

/* Sends for columns [DEPTH i, DEPTH (i + 1)) of the block's rows of x and w. */
static __device__ __forceinline__ void send_for(const project_swiglu_args &p, int64_t token, int64_t channel, int i)
{
    const cu_project_swiglu &a = p.a;
    const int64_t begin = (int64_t)i * DEPTH;
    const int n = (int)min(a.C - begin, (int64_t)DEPTH);
    const shared_array<__nv_bfloat16> stage = stage_of(i);
    load_rows(stage, STAGE_ROW, TOKENS, DEPTH, n, p.vectors,
              [&](int r) { return token + r < a.T ? bf16(a.x) + (token + r) * a.C + begin : nullptr; });
    load_rows(stage + TOKENS * STAGE_ROW, STAGE_ROW, COLUMNS, DEPTH, n, p.vectors,
              [&](int r) { return channel + r / 2 < a.kept ? bf16(a.w) + (2 * channel + r) * a.C + begin : nullptr; });
}

static __device__ __forceinline__ void multiply(tile_sums (&sums)[DOWN][ACROSS], shared_array<__nv_bfloat16> stage,
                                                int row, int column)
{
    const shared_array<__nv_bfloat16> x = stage + row * STAGE_ROW, w = stage + (TOKENS + column) * STAGE_ROW;
#pragma unroll
    for (int k = 0; k < DEPTH; k += TILE) {
        tile_a left[DOWN];
#pragma unroll
        for (int i = 0; i < DOWN; i++)
            load_tile(left[i], x + (i * TILE * STAGE_ROW + k), STAGE_ROW);
#pragma unroll
        for (int j = 0; j < ACROSS; j++) {
            tile_bt right;
            load_tile(right, w + (j * TILE * STAGE_ROW + k), STAGE_ROW);
#pragma unroll
            for (int i = 0; i < DOWN; i++)
                nvcuda::wmma::mma_sync(sums[i][j], left[i], right, sums[i][j]);
        }
    }
}

static __global__ void __launch_bounds__(WARPS *WARP) project_swiglu(project_swiglu_args p)
{
    const cu_project_swiglu &a = p.a;
    const int64_t token_blocks = (a.T + TOKENS - 1) / TOKENS; /* tokens first: they share the larger w */
    const int64_t token = blockIdx.x % token_blocks * TOKENS, channel = blockIdx.x / token_blocks * CHANNELS;
    const int warp = threadIdx.x / WARP, row = warp / 2 * DOWN * TILE, column = warp % 2 * ACROSS * TILE;
    const int stages = channel < a.kept ? (int)((a.C + DEPTH - 1) / DEPTH) : 0;
    tile_sums sums[DOWN][ACROSS];
#pragma unroll
    for (int i = 0; i < DOWN; i++)
#pragma unroll
        for (int j = 0; j < ACROSS; j++)
            nvcuda::wmma::fill_fragment(sums[i][j], 0.0f);
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < stages)
            send_for(p, token, channel, s);
        __pipeline_commit();
    }
    for (int s = 0; s < stages; s++) {
        __pipeline_wait_prior(STAGES - 2);
        __syncthreads(); /* stage s has come, and all are done with the one before, whose place the next one takes */
        if (s + STAGES - 1 < stages)
            send_for(p, token, channel, s + STAGES - 1);
        __pipeline_commit();
        multiply(sums, stage_of(s), row, column);
    }
    __syncthreads();
    const shared_array<float> result = shared_memory<float>(0, TOKENS * RESULT_ROW);
#pragma unroll
    for (int i = 0; i < DOWN; i++)
#pragma unroll
        for (int j = 0; j < ACROSS; j++)
            store_tile(result + ((row + i * TILE) * RESULT_ROW + column + j * TILE), sums[i][j], RESULT_ROW);
    __syncthreads();
    for (int i = threadIdx.x; i < TOKENS * CHANNELS; i += WARPS * WARP) {
        const int r = i / CHANNELS, c = i % CHANNELS;
        if (token + r >= a.T || channel + c >= a.padded)
            continue;
        float h = 0;
        if (channel + c < a.kept) {
            const float *bias = a.bias ? a.bias + 2 * (channel + c) : nullptr;
            const float gate = result[r * RESULT_ROW + 2 * c] + (bias ? bias[0] : 0.0f);
            const float up = result[r * RESULT_ROW + 2 * c + 1] + (bias ? bias[1] : 0.0f);
            h = gate / (1 + expf(-gate)) * up;
        }
        bf16(a.h)[(token + r) * a.padded + channel + c] = __float2bfloat16_rn(h);
    }
}

extern "C" cudaError_t pol_cu_project_swiglu(cudaStream_t stream, const cu_project_swiglu *a)
{
    project_swiglu_args p;
    p.a = *a;
    p.vectors = in_vectors(a->x, a->C) && in_vectors(a->w, a->C);
    return launch(project_swiglu, dim3(parts(a->T, TOKENS) * parts(a->padded, CHANNELS)), dim3(WARPS * WARP),
                  STAGES_BYTES > RESULT_BYTES ? STAGES_BYTES : RESULT_BYTES, stream, p);
}
