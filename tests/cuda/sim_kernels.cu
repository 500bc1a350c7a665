/* sim_kernels.cu - kernels that try the simulator: each is right, or has one mistake. */
#include "tests/cuda/sim_kernels.h"

#include "kernels-cu/device.cuh"

using bf16_array = shared_array<__nv_bfloat16>;

static __device__ int at() { return (int)(blockIdx.x * blockDim.x + threadIdx.x); }

/* Bounds. */

static __global__ void reads_past_the_end(float *out, bool broken)
{
    shared_array<float> s = shared_memory<float>(0, TRIAL_THREADS);
    const int i = (int)threadIdx.x;
    s[i] = (float)i;
    __syncthreads();
    out[at()] = s[broken ? i + 1 : TRIAL_THREADS - 1 - i];
}

static __global__ void writes_before_the_start(float *out, bool broken)
{
    shared_array<float> all = shared_memory<float>(0, 2 * TRIAL_THREADS);
    shared_array<float> s = shared_memory<float>(TRIAL_THREADS * sizeof(float), TRIAL_THREADS);
    const int i = (int)threadIdx.x;
    all[i] = 1;
    s[i - broken] = 2;
    __syncthreads();
    out[at()] = s[i];
}

static __global__ void leaves_its_part_by_an_offset(float *out, bool broken)
{
    shared_array<float> s = shared_memory<float>(0, TRIAL_THREADS) + TRIAL_THREADS / 2;
    const int i = (int)threadIdx.x - TRIAL_THREADS / 2 + broken;
    s[i] = 3;
    out[at()] = s[i];
}

static __global__ void takes_more_than_was_asked_for(float *out, bool broken)
{
    shared_array<float> s = shared_memory<float>(0, 2 * TRIAL_THREADS + broken);
    s[threadIdx.x] = 4;
    out[at()] = s[threadIdx.x];
}

static __global__ void takes_memory_off_alignment(float *out, bool broken)
{
    shared_array<float> s = shared_memory<float>(broken ? 2 : 4, TRIAL_THREADS);
    s[threadIdx.x] = 4;
    out[at()] = s[threadIdx.x];
}

/* What was never written. */

static __global__ void reads_what_nobody_wrote(float *out, bool broken)
{
    shared_array<float> s = shared_memory<float>(0, TRIAL_THREADS);
    const int i = (int)threadIdx.x;
    if (!broken || i > 0)
        s[i] = 5;
    __syncthreads();
    out[at()] = s[TRIAL_THREADS - 1 - i];
}

static __global__ void reads_half_of_what_it_wrote(float *out, bool broken)
{
    const int i = (int)threadIdx.x;
    bf16_array h = shared_memory<__nv_bfloat16>(0, 2 * TRIAL_THREADS);
    shared_array<float> s = shared_memory<float>(0, TRIAL_THREADS);
    h[2 * i] = __float2bfloat16_rn(0);
    if (!broken)
        h[2 * i + 1] = __float2bfloat16_rn(1);
    out[at()] = s[i];
}

static __global__ void reads_what_another_block_wrote(float *out, bool broken)
{
    shared_array<float> s = shared_memory<float>(0, TRIAL_THREADS);
    if (!broken || blockIdx.x == 2)
        s[threadIdx.x] = 6;
    out[at()] = s[threadIdx.x];
}

static __global__ void adds_to_what_nobody_wrote(float *out, bool broken)
{
    shared_array<float> s = shared_memory<float>(0, TRIAL_THREADS);
    if (!broken)
        s[threadIdx.x] = 1;
    s[threadIdx.x] += 2;
    out[at()] = s[threadIdx.x];
}

/* Races. */

static __global__ void reads_without_a_barrier(float *out, bool broken)
{
    shared_array<float> s = shared_memory<float>(0, TRIAL_THREADS);
    const int i = (int)threadIdx.x;
    s[i] = (float)i;
    __syncthreads();
    const float mine = s[i];
    s[i] = mine + 1;
    if (!broken)
        __syncthreads();
    out[at()] = s[(i + 1) % TRIAL_THREADS];
}

static __global__ void writes_what_others_still_read(float *out, bool broken)
{
    shared_array<float> s = shared_memory<float>(0, TRIAL_THREADS);
    const int i = (int)threadIdx.x;
    s[i] = (float)i;
    __syncthreads();
    const float next = s[(i + 32) % TRIAL_THREADS];
    if (!broken)
        __syncthreads();
    s[i] = 0;
    out[at()] = next;
}

/* Also the thread itself, and others of its warp, read before it writes. */
static __global__ void writes_what_its_warp_still_reads(float *out, bool broken)
{
    shared_array<float> s = shared_memory<float>(0, 1);
    if (threadIdx.x == 0)
        s[0] = 7;
    __syncthreads();
    const float all = threadIdx.x < WARP ? (float)s[0] : 7.0f;
    if (!broken)
        __syncwarp();
    if (threadIdx.x == 5)
        s[0] = 0;
    out[at()] = all;
}

static __global__ void two_write_one_place(float *out, bool broken)
{
    shared_array<float> s = shared_memory<float>(0, 1);
    if (threadIdx.x == 3 || (broken && threadIdx.x == 50))
        s[0] = 8;
    __syncthreads();
    out[at()] = s[0];
}

static __global__ void syncs_warps_where_blocks_meet(float *out, bool broken)
{
    shared_array<float> s = shared_memory<float>(0, TRIAL_THREADS);
    const int i = (int)threadIdx.x;
    s[i] = (float)i;
    if (broken)
        __syncwarp();
    else
        __syncthreads();
    out[at()] = s[(i + WARP) % TRIAL_THREADS];
}

/* These go wrong in one block and between few threads, so that each order of the threads is tried by some seed. */
static __device__ bool here(bool broken) { return broken && blockIdx.x == 2; }

static __global__ void one_reads_what_another_wrote(float *out, bool broken)
{
    shared_array<float> s = shared_memory<float>(0, 1);
    if (threadIdx.x == 0)
        s[0] = 2;
    __syncthreads();
    if (threadIdx.x == 5)
        s[0] = 3;
    if (here(broken))
        __syncwarp();
    else
        __syncthreads();
    float got = 1;
    if (threadIdx.x == 40)
        got = s[0];
    out[at()] = got;
}

static __global__ void one_reads_what_one_writes(float *out, bool broken)
{
    shared_array<float> s = shared_memory<float>(0, 1);
    float got = 1;
    if (threadIdx.x == 0)
        s[0] = 2;
    __syncthreads();
    if (threadIdx.x == 70)
        got = s[0];
    if (!here(broken))
        __syncthreads();
    if (threadIdx.x == 5)
        s[0] = 3;
    out[at()] = got;
}

/* One of them is who writes: that it has read itself does not matter. */
static __global__ void two_lanes_read_and_one_writes(float *out, bool broken)
{
    shared_array<float> s = shared_memory<float>(0, 1);
    float got = 1;
    if (threadIdx.x == 0)
        s[0] = 2;
    __syncthreads();
    if (threadIdx.x == 5 || threadIdx.x == 6)
        got = s[0];
    got = __shfl_sync(0xffffffffu, got, (int)threadIdx.x);
    if (!here(broken))
        __syncwarp();
    if (threadIdx.x == 5)
        s[0] = 3;
    out[at()] = got;
}

/* The warp that writes is in order with itself, but another one reads too. */
static __global__ void two_warps_read_and_one_writes(float *out, bool broken)
{
    shared_array<float> s = shared_memory<float>(0, 1);
    float got = 1;
    if (threadIdx.x == 0)
        s[0] = 2;
    __syncthreads();
    if (threadIdx.x == 5 || threadIdx.x == 40)
        got = s[0];
    if (here(broken))
        __syncwarp();
    else
        __syncthreads();
    if (threadIdx.x == 6) {
        got = s[0];
        s[0] = got + 1;
    }
    out[at()] = got;
}

static __global__ void meets_no_lane_of_its_warp(float *out, bool broken)
{
    shared_array<float> s = shared_memory<float>(0, TRIAL_THREADS);
    const int i = (int)threadIdx.x;
    s[i] = (float)i;
    if (!broken)
        __syncwarp();
    out[at()] = s[i ^ 1];
}

static __global__ void has_a_shuffle_order_memory(float *out, bool broken)
{
    shared_array<float> s = shared_memory<float>(0, TRIAL_THREADS);
    const int i = (int)threadIdx.x;
    s[i] = (float)i;
    const float other = __shfl_xor_sync(0xffffffffu, (float)i, 1);
    if (!broken)
        __syncwarp();
    out[at()] = s[i ^ 1] - other;
}

/* Halves of a word are places of their own: neighbours may write them. */
static __global__ void shares_a_word_wrongly(float *out, bool broken)
{
    bf16_array h = shared_memory<__nv_bfloat16>(0, TRIAL_THREADS);
    const int i = (int)threadIdx.x;
    h[broken ? i / 2 : i] = __float2bfloat16_rn((float)i);
    __syncthreads();
    out[at()] = __bfloat162float(h[i / 2]);
}

/* Barriers. */

static __global__ void returns_before_the_barrier(float *out, bool broken)
{
    out[at()] = 9;
    if (broken && threadIdx.x == 40)
        return;
    __syncthreads();
}

static __global__ void meets_at_two_places(float *out, bool broken)
{
    if (broken && threadIdx.x < WARP) {
        out[at()] = 1;
        __syncthreads();
    } else {
        out[at()] = 1;
        __syncthreads();
    }
}

static __global__ void waits_once_more(float *out, bool broken)
{
    for (int i = 0; i < 3 + (broken && threadIdx.x % 7 == 3); i++)
        __syncthreads();
    out[at()] = 10;
}

static __global__ void counts_with_those_who_come(float *out, bool broken)
{
    const int i = (int)threadIdx.x;
    const int n = __syncthreads_count(i % 3 == 0);
    const int any = __syncthreads_or(i == 77), none = __syncthreads_or(0), all = __syncthreads_and(i >= 0);
    const int some = __syncthreads_and(i != 5);
    if (!broken || i < 64)
        __syncthreads();
    out[at()] = (float)(n * 10000 + any * 1000 + none * 100 + all * 10 + some);
}

/* Warps. */

static __global__ void shuffles_without_a_lane(float *out, bool broken)
{
    float x = (float)threadIdx.x;
    if (!broken || threadIdx.x != 70)
        x = warp_sum(x);
    out[at()] = x;
}

static __global__ void lanes_do_two_things(float *out, bool broken)
{
    unsigned lanes = 0;
    if (broken && threadIdx.x % WARP > 20)
        __syncwarp();
    else
        lanes = __ballot_sync(0xffffffffu, threadIdx.x % 2);
    out[at()] = (float)(lanes >> 16);
}

static __global__ void names_some_lanes(float *out, bool broken)
{
    const unsigned mask = broken ? 0xffffu : 0xffffffffu;
    float x = 1;
    if (!broken || threadIdx.x % WARP < 16)
        x = __shfl_sync(mask, (float)threadIdx.x, 3);
    out[at()] = x;
}

static __global__ void shuffles_in_part_of_a_warp(float *out, bool)
{
    out[at()] = __shfl_down_sync(0xffffffffu, (float)threadIdx.x, 2);
}

static void run_in_part_of_a_warp(float *out, bool broken)
{
    sim_run_grid("shuffles_in_part_of_a_warp", dim3(TRIAL_BLOCKS), dim3(broken ? 80 : TRIAL_THREADS), 0,
                 [=] { shuffles_in_part_of_a_warp(out, broken); });
}

static __global__ void waits_for_block_and_warp(float *out, bool broken)
{
    if (broken && threadIdx.x == 12)
        __syncthreads();
    out[at()] = (float)__any_sync(0xffffffffu, threadIdx.x == 40);
}

/* Copies that go on. */

static __device__ float4 filled(float x) { return make_float4(x, x + 1, x + 2, x + 3); }

static __global__ void reads_before_the_copy_is_there(float *out, bool broken)
{
    const float4 from = filled((float)threadIdx.x);
    shared_array<float4> s = shared_memory<float4>(0, TRIAL_THREADS);
    copy_async(s + threadIdx.x, &from);
    __pipeline_commit();
    if (!broken)
        __pipeline_wait_prior(0);
    const float4 got = s[threadIdx.x];
    out[at()] = got.x + got.w;
    __pipeline_wait_prior(0);
}

static __global__ void waits_for_the_copy_before(float *out, bool broken)
{
    const float4 from[2] = {filled((float)threadIdx.x), filled(100)};
    shared_array<float4> s = shared_memory<float4>(0, 2 * TRIAL_THREADS);
    const int i = (int)threadIdx.x;
    copy_async(s + i, &from[0]);
    __pipeline_commit();
    copy_async(s + TRIAL_THREADS + i, &from[1]);
    __pipeline_commit();
    __pipeline_wait_prior(1);
    const float4 got = s[broken ? TRIAL_THREADS + i : i];
    __pipeline_wait_prior(0);
    const float4 last = s[TRIAL_THREADS + i];
    out[at()] = got.x + last.y;
}

static __global__ void waits_without_a_commit(float *out, bool broken)
{
    const float4 from = filled(1);
    shared_array<float4> s = shared_memory<float4>(0, TRIAL_THREADS);
    copy_async(s + threadIdx.x, &from);
    if (!broken)
        __pipeline_commit();
    __pipeline_wait_prior(0);
    const float4 got = s[threadIdx.x];
    out[at()] = got.z;
}

static __global__ void takes_a_wait_for_a_barrier(float *out, bool broken)
{
    const float from[4] = {1, 2, 3, 4};
    alignas(16) float aligned[4];
    for (int i = 0; i < 4; i++)
        aligned[i] = from[i] + (float)threadIdx.x;
    shared_array<float> s = shared_memory<float>(0, 4 * TRIAL_THREADS);
    copy_async<4>(s + 4 * threadIdx.x, aligned);
    __pipeline_commit();
    __pipeline_wait_prior(0);
    if (!broken)
        __syncthreads();
    out[at()] = s[4 * ((threadIdx.x + 1) % TRIAL_THREADS) + 2];
}

static __global__ void leaves_a_copy_behind(float *out, bool broken)
{
    const float4 from = filled(1);
    copy_async(shared_memory<float4>(0, TRIAL_THREADS) + threadIdx.x, &from);
    __pipeline_commit();
    if (!broken)
        __pipeline_wait_prior(0);
    out[at()] = 11;
}

static __global__ void copies_off_alignment(float *out, bool broken)
{
    alignas(16) const float from[5] = {1, 2, 3, 4, 5};
    copy_async<4>(shared_memory<float>(0, 4 * TRIAL_THREADS) + 4 * threadIdx.x, from + broken);
    __pipeline_commit();
    __pipeline_wait_prior(0);
    out[at()] = 12;
}

static __global__ void copies_to_where_it_cannot(float *out, bool broken)
{
    alignas(16) const float from[4] = {1, 2, 3, 4};
    copy_async<4>(shared_memory<float>(0, 4 * TRIAL_THREADS + 1) + 4 * threadIdx.x + broken, from);
    __pipeline_commit();
    __pipeline_wait_prior(0);
    out[at()] = 12;
}

static __global__ void overwrites_a_copy(float *out, bool broken)
{
    const float from = 1;
    shared_array<float> s = shared_memory<float>(0, TRIAL_THREADS);
    copy_async(s + threadIdx.x, &from);
    __pipeline_commit();
    if (broken)
        s[threadIdx.x] = 2;
    __pipeline_wait_prior(0);
    out[at()] = s[threadIdx.x];
}

/* Tiles. */

static __global__ void loads_a_tile_off_alignment(float *out, bool broken)
{
    bf16_array h = shared_memory<__nv_bfloat16>(0, 32 * 20 + 16);
    for (int i = (int)threadIdx.x; i < 32 * 20 + 16; i += TRIAL_THREADS)
        h[i] = __float2bfloat16_rn((float)i);
    __syncthreads();
    nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, __nv_bfloat16, nvcuda::wmma::row_major> tile;
    load_tile(tile, h + 16, broken ? 20 : 24);
    out[at()] = 13;
}

static __global__ void loads_a_tile_from_where_none_is(float *out, bool broken)
{
    bf16_array h = shared_memory<__nv_bfloat16>(0, 32 * 20 + 16);
    for (int i = (int)threadIdx.x; i < 32 * 20 + 16; i += TRIAL_THREADS)
        h[i] = __float2bfloat16_rn((float)i);
    __syncthreads();
    nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, __nv_bfloat16, nvcuda::wmma::col_major> tile;
    load_tile(tile, h + (broken ? 8 : 16), 24);
    out[at()] = 13;
}

static __global__ void lanes_load_two_tiles(float *out, bool broken)
{
    bf16_array h = shared_memory<__nv_bfloat16>(0, 32 * 16);
    for (int i = (int)threadIdx.x; i < 32 * 16; i += TRIAL_THREADS)
        h[i] = __float2bfloat16_rn((float)i);
    __syncthreads();
    nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 16, __nv_bfloat16, nvcuda::wmma::col_major> tile;
    load_tile(tile, h + (broken && threadIdx.x == 9 ? 256 : 0), 16);
    out[at()] = 14;
}

static __global__ void reads_a_tile_that_its_warp_stores(float *out, bool broken)
{
    nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float> tile;
    nvcuda::wmma::fill_fragment(tile, 2.0f);
    shared_array<float> s = shared_memory<float>(0, 3 * 256) + threadIdx.x / WARP * 256;
    store_tile(s, tile, 16);
    if (!broken)
        __syncwarp();
    float sum = 0;
    for (int i = (int)threadIdx.x % WARP; i < 256; i += WARP)
        sum += s[i];
    out[at()] = sum;
}

template <void (*kernel)(float *, bool)> static void with_bytes(const char *name, size_t bytes, float *out, bool broken)
{
    sim_run_grid(name, dim3(TRIAL_BLOCKS), dim3(TRIAL_THREADS), bytes, [=] { kernel(out, broken); });
}

#define TRIAL(kernel, bytes, fault)                                                                      \
    {                                                                                                    \
#kernel, [](float *out, bool broken) { with_bytes<kernel>(#kernel, bytes, out, broken); }, fault \
    }
static const size_t A_FLOAT = TRIAL_THREADS * sizeof(float), A_VECTOR = TRIAL_THREADS * sizeof(float4);

const trial sim_trials[] = {
    TRIAL(reads_past_the_end, A_FLOAT, "touches element 96 of an array of 96 in shared memory (4 bytes each)"),
    TRIAL(writes_before_the_start, 2 * A_FLOAT, "touches element -1 of an array of 96 in shared memory"),
    TRIAL(leaves_its_part_by_an_offset, A_FLOAT, "touches element 96 of an array of 96 in shared memory"),
    TRIAL(takes_more_than_was_asked_for, 2 * A_FLOAT,
          "takes 772 bytes of shared memory from byte 0 on; the launch asked for 768"),
    TRIAL(takes_memory_off_alignment, A_FLOAT + 4, "takes shared memory from byte 2 on for elements aligned to 4"),
    TRIAL(reads_what_nobody_wrote, A_FLOAT, "reads byte 0 of shared memory, which no thread of the block wrote"),
    TRIAL(reads_half_of_what_it_wrote, A_FLOAT, "of shared memory, which no thread of the block wrote"),
    TRIAL(reads_what_another_block_wrote, A_FLOAT, "of shared memory, which no thread of the block wrote"),
    TRIAL(adds_to_what_nobody_wrote, A_FLOAT, "of shared memory, which no thread of the block wrote"),
    TRIAL(reads_without_a_barrier, A_FLOAT, "with no barrier in between"),
    TRIAL(writes_what_others_still_read, A_FLOAT, "with no barrier in between"),
    TRIAL(writes_what_its_warp_still_reads, A_FLOAT, "with no barrier in between"),
    TRIAL(two_write_one_place, A_FLOAT, "with no barrier in between"),
    TRIAL(syncs_warps_where_blocks_meet, A_FLOAT,
          "which no thread of the block wrote|wrote with no barrier in between"),
    TRIAL(one_reads_what_another_wrote, A_FLOAT, "with no barrier in between"),
    TRIAL(one_reads_what_one_writes, A_FLOAT, "with no barrier in between"),
    TRIAL(two_lanes_read_and_one_writes, A_FLOAT, "with no barrier in between"),
    TRIAL(two_warps_read_and_one_writes, A_FLOAT, "with no barrier in between"),
    TRIAL(meets_no_lane_of_its_warp, A_FLOAT, "which no thread of the block wrote|wrote with no barrier in between"),
    TRIAL(has_a_shuffle_order_memory, A_FLOAT, "with no barrier in between"),
    TRIAL(shares_a_word_wrongly, A_FLOAT, "with no barrier in between"),
    TRIAL(returns_before_the_barrier, 0,
          "thread (40,0,0): has returned, and thread (0,0,0) waits for it in __syncthreads at "),
    TRIAL(meets_at_two_places, 0, "comes to __syncthreads at "),
    TRIAL(waits_once_more, 0, "has returned, and thread (3,0,0) waits for it in __syncthreads at "),
    TRIAL(counts_with_those_who_come, 0,
          "thread (64,0,0): has returned, and thread (0,0,0) waits for it in __syncthreads"),
    TRIAL(shuffles_without_a_lane, 0,
          "thread (70,0,0): has returned, and thread (64,0,0) waits for it in __shfl_xor_sync"),
    TRIAL(lanes_do_two_things, 0, "comes to __syncwarp at |comes to __ballot_sync at "),
    TRIAL(names_some_lanes, 0, "comes to __shfl_sync at "),
    {"shuffles_in_part_of_a_warp", run_in_part_of_a_warp,
     "in a block of 80 threads, which is no number of whole warps"},
    TRIAL(waits_for_block_and_warp, 0, "thread (12,0,0): waits in __syncthreads at "),
    TRIAL(reads_before_the_copy_is_there, A_VECTOR, "of shared memory while a copy to it is under way"),
    TRIAL(waits_for_the_copy_before, 2 * A_VECTOR, "of shared memory while a copy to it is under way"),
    TRIAL(waits_without_a_commit, A_VECTOR, "of shared memory while a copy to it is under way"),
    TRIAL(takes_a_wait_for_a_barrier, A_VECTOR,
          "which no thread of the block wrote|while a copy to it is under way|wrote with no barrier in between"),
    TRIAL(leaves_a_copy_behind, A_VECTOR, "returns while copies to shared memory are under way"),
    TRIAL(copies_off_alignment, A_VECTOR, "copies 16 bytes from address "),
    TRIAL(overwrites_a_copy, A_VECTOR, "of shared memory while a copy to it is under way"),
    TRIAL(copies_to_where_it_cannot, A_VECTOR + 4, "copies 16 bytes from address "),
    TRIAL(loads_a_tile_from_where_none_is, 32 * 20 * 2 + 32, "comes to load_tile at "),
    TRIAL(loads_a_tile_off_alignment, 32 * 20 * 2 + 32, "comes to load_tile at "),
    TRIAL(lanes_load_two_tiles, 32 * 16 * 2, "with another tile than other lanes"),
    TRIAL(reads_a_tile_that_its_warp_stores, 3 * 256 * 4,
          "which no thread of the block wrote|wrote with no barrier in between"),
};
const int n_sim_trials = sizeof sim_trials / sizeof *sim_trials;

template <class A, class B> static __global__ void multiply_tiles(tile_trial t)
{
    using namespace nvcuda::wmma;
    const unsigned n = 16 * t.ld;
    fragment<matrix_a, 16, 16, 16, __nv_bfloat16, A> a;
    fragment<matrix_b, 16, 16, 16, __nv_bfloat16, B> b;
    fragment<accumulator, 16, 16, 16, float> c, d;
    const layout_t sums = t.sums_by_rows ? mem_row_major : mem_col_major;
    if (!t.shared) {
        load_matrix_sync(a, bf16(t.a), t.ld);
        load_matrix_sync(b, bf16(t.b), t.ld);
        load_matrix_sync(c, t.c, t.ld, sums);
        mma_sync(d, a, b, c);
        store_matrix_sync(t.d, d, t.ld, sums);
        return;
    }
    bf16_array sa = shared_memory<__nv_bfloat16>(0, n), sb = shared_memory<__nv_bfloat16>(n * 2, n);
    shared_array<float> sc = shared_memory<float>(n * 4, n);
    for (unsigned i = threadIdx.x; i < n; i += WARP) {
        sa[i] = bf16(t.a)[i];
        sb[i] = bf16(t.b)[i];
        sc[i] = t.c[i];
    }
    __syncwarp();
    load_tile(a, sa, t.ld);
    load_tile(b, sb, t.ld);
    load_tile(c, sc, t.ld);
    mma_sync(d, a, b, c);
    __syncwarp();
    store_tile(sc, d, t.ld);
    __syncwarp();
    for (unsigned i = threadIdx.x; i < n; i += WARP)
        t.d[i] = sc[i];
}

template <class A> static void try_tiles(const tile_trial *t)
{
    using namespace nvcuda::wmma;
    void (*kernel)(tile_trial) = t->b_by_rows ? multiply_tiles<A, row_major> : multiply_tiles<A, col_major>;
    sim_run_grid("multiply_tiles", dim3(1), dim3(WARP), 16 * t->ld * 8, [=] { kernel(*t); });
}

extern "C" void sim_try_tiles(const tile_trial *t)
{
    t->a_by_rows ? try_tiles<nvcuda::wmma::row_major>(t) : try_tiles<nvcuda::wmma::col_major>(t);
}

extern "C" void sim_try_order(int *order)
{
    int come = 0;
    sim_run_grid("writes_down_the_order", dim3(2, 2, 2), dim3(8, 4, 2), 0, [&] {
        const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
        const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
        const bool inside = threadIdx.x < 8 && threadIdx.y < 4 && threadIdx.z < 2;
        order[come++] = inside ? (int)(block * 64 + thread) : -1;
    });
}

static __global__ void tries_a_warp(int *out)
{
    const unsigned all = 0xffffffffu;
    const int lane = (int)threadIdx.x % WARP, x = 10 * (int)threadIdx.x;
    const int results[] = {__shfl_sync(all, x, 5),
                           __shfl_sync(all, x, lane + 1),
                           __shfl_xor_sync(all, x, 3),
                           __shfl_xor_sync(all, x, 16),
                           __shfl_down_sync(all, x, 7),
                           __shfl_up_sync(all, x, 2),
                           (int)__ballot_sync(all, lane % 3 == 0),
                           __any_sync(all, lane == 31),
                           __any_sync(all, 0),
                           __all_sync(all, 2),
                           __all_sync(all, lane != 4),
                           (int)__shfl_xor_sync(all, (double)x, 1),
                           __syncthreads_count(lane == 3),
                           __syncthreads_count(lane < 2),
                           __syncthreads_or(threadIdx.x == 50),
                           __syncthreads_or(0),
                           __syncthreads_and(2),
                           __syncthreads_and(lane != 4)};
    static_assert(sizeof results / sizeof *results == TRIAL_MEETINGS, "what the test expects");
    for (int i = 0; i < TRIAL_MEETINGS; i++)
        out[TRIAL_MEETINGS * threadIdx.x + i] = results[i];
}

static __global__ void calculates_in_shared_memory(float *out)
{
    shared_array<float> s = shared_memory<float>(4, 2);
    s[0] = 3;
    s[1] = s[0];
    s += 1;
    s[0] += 4;
    s[0] *= 5;
    s[0] -= 6;
    out[0] = s[0] + (s - 1)[0] * 100;
}

extern "C" float sim_try_arithmetic(void)
{
    float out = 0;
    sim_run_grid("calculates_in_shared_memory", dim3(1), dim3(1), 12, [&] { calculates_in_shared_memory(&out); });
    return out;
}

extern "C" void sim_try_warp(int *out)
{
    sim_run_grid("tries_a_warp", dim3(1), dim3(2 * WARP), 0, [=] { tries_a_warp(out); });
}

template <int FACTOR, int STEP> static __global__ void adds(float *x, int n, bool broken)
{
    if (broken)
        shared_memory<float>(0, 1);
    if (at() < n)
        x[at()] = x[at()] * FACTOR + STEP;
}

extern "C" cudaError_t sim_try_launch(cudaStream_t stream, float *x, int n, bool broken)
{
    return launch(adds<1, 1>, dim3(parts(n, 64)), dim3(64), 0, stream, x, n, broken);
}

extern "C" cudaError_t sim_try_form(dim3 grid, dim3 block, size_t shared_bytes)
{
    return sim_check_launch(grid, block, shared_bytes);
}
