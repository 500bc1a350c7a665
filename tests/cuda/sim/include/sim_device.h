/* sim_device.h - the words of the toolkit that kernels are written with, as far as ours use them: vector types, also in
 * C; and in C++ the keywords, the built-in variables and the functions of the device.
 */
#ifndef SIM_DEVICE_H
#define SIM_DEVICE_H

/* Alignment is part of these types: a load through a pointer that lacks it is a fault on the device, and UBSan sees it.
 */
#define SIM_VECTOR_2(type, scalar, align)                 \
    typedef struct __attribute__((aligned(align))) type { \
        scalar x, y;                                      \
    } type;                                               \
    static inline type make_##type(scalar x, scalar y)    \
    {                                                     \
        const type v = {x, y};                            \
        return v;                                         \
    }
#define SIM_VECTOR_4(type, scalar, align)                                  \
    typedef struct __attribute__((aligned(align))) type {                  \
        scalar x, y, z, w;                                                 \
    } type;                                                                \
    static inline type make_##type(scalar x, scalar y, scalar z, scalar w) \
    {                                                                      \
        const type v = {x, y, z, w};                                       \
        return v;                                                          \
    }
SIM_VECTOR_2(float2, float, 8)
SIM_VECTOR_2(int2, int, 8)
SIM_VECTOR_2(uint2, unsigned, 8)
SIM_VECTOR_2(ushort2, unsigned short, 4)
SIM_VECTOR_4(float4, float, 16)
SIM_VECTOR_4(int4, int, 16)
SIM_VECTOR_4(uint4, unsigned, 16)
SIM_VECTOR_4(ushort4, unsigned short, 8)
#undef SIM_VECTOR_2
#undef SIM_VECTOR_4

typedef struct uint3 {
    unsigned x, y, z;
} uint3;

#ifndef __cplusplus
typedef struct dim3 {
    unsigned x, y, z;
} dim3;
#else
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned nx = 1, unsigned ny = 1, unsigned nz = 1) : x(nx), y(ny), z(nz) {}
};

#include <cmath>
#include <cstdint>
#include <cstring>

/* What the toolkit puts into the global namespace with its math functions. */
using std::isfinite;
using std::isinf;
using std::isnan;

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

/* Where a call stands in the source. As the default of a parameter it is the caller's place. */
struct sim_place {
    const char *file;
    int line;
    static constexpr sim_place here(const char *file = __builtin_FILE(), int line = __builtin_LINE())
    {
        return {file, line};
    }
};

/* The thread that runs: the engine sets it at every switch. */
struct sim_thread_indices {
    uint3 thread, block;
    dim3 block_size, grid_size;
};
extern __thread const sim_thread_indices *sim_indices;
#define threadIdx (sim_indices->thread)
#define blockIdx (sim_indices->block)
#define blockDim (sim_indices->block_size)
#define gridDim (sim_indices->grid_size)
enum { warpSize = 32 };

/* A barrier of the block: every thread calls it, at the same place. Returns how many came with a predicate that holds.
 */
int sim_barrier(const char *what, int predicate, sim_place place);

static inline void __syncthreads(sim_place place = sim_place::here()) { sim_barrier("__syncthreads", 0, place); }
static inline int __syncthreads_count(int predicate, sim_place place = sim_place::here())
{
    return sim_barrier("__syncthreads_count", predicate, place);
}
static inline int __syncthreads_or(int predicate, sim_place place = sim_place::here())
{
    return sim_barrier("__syncthreads_or", predicate, place) != 0;
}
static inline int __syncthreads_and(int predicate, sim_place place = sim_place::here())
{
    return sim_barrier("__syncthreads_and", !predicate, place) == 0;
}

/* What the 32 lanes of a warp do together. Each comes with a record of its own, at the same place; the last to come has
 * `all` work on the records, then all go on. It orders no memory: that is for sim_warp_barrier. */
void sim_warp(const char *what, unsigned mask, void *record, void (*all)(void *const lane[32]), sim_place place);
void sim_warp_barrier(const char *what, unsigned mask, sim_place place);

static inline void __syncwarp(unsigned mask = 0xffffffffu, sim_place place = sim_place::here())
{
    sim_warp_barrier("__syncwarp", mask, place);
}

template <class T> struct sim_exchange {
    T in, out;
    int from; /* the lane whose `in` it wants */
    static void all(void *const lane[32])
    {
        for (int i = 0; i < 32; i++) {
            sim_exchange *s = static_cast<sim_exchange *>(lane[i]);
            s->out = static_cast<sim_exchange *>(lane[s->from])->in;
        }
    }
};

template <class T> static inline T sim_shuffled(const char *what, unsigned mask, T x, int from, sim_place place)
{
    sim_exchange<T> s = {x, x, from};
    sim_warp(what, mask, &s, sim_exchange<T>::all, place);
    return s.out;
}

static inline int sim_lane()
{
    return (int)((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % warpSize);
}

template <class T> static inline T __shfl_sync(unsigned mask, T x, int from, sim_place place = sim_place::here())
{
    return sim_shuffled("__shfl_sync", mask, x, from & 31, place);
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T x, int bits, sim_place place = sim_place::here())
{
    return sim_shuffled("__shfl_xor_sync", mask, x, (sim_lane() ^ bits) & 31, place);
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T x, unsigned by, sim_place place = sim_place::here())
{
    const unsigned from = (unsigned)sim_lane() + by;
    return sim_shuffled("__shfl_down_sync", mask, x, from < 32 ? (int)from : sim_lane(), place);
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T x, unsigned by, sim_place place = sim_place::here())
{
    const unsigned lane = (unsigned)sim_lane();
    return sim_shuffled("__shfl_up_sync", mask, x, (int)(by <= lane ? lane - by : lane), place);
}

/* Which lanes' predicates hold, as bits. */
unsigned sim_vote(const char *what, unsigned mask, int predicate, sim_place place);

static inline unsigned __ballot_sync(unsigned mask, int predicate, sim_place place = sim_place::here())
{
    return sim_vote("__ballot_sync", mask, predicate, place);
}
static inline int __any_sync(unsigned mask, int predicate, sim_place place = sim_place::here())
{
    return sim_vote("__any_sync", mask, predicate, place) != 0;
}
static inline int __all_sync(unsigned mask, int predicate, sim_place place = sim_place::here())
{
    return sim_vote("__all_sync", mask, predicate, place) == 0xffffffffu;
}

static inline int __ffs(int x) { return __builtin_ffs(x); }

static inline unsigned __float_as_uint(float x)
{
    unsigned u;
    memcpy(&u, &x, sizeof u);
    return u;
}
static inline float __uint_as_float(unsigned u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

#define SIM_MIN_MAX(type)                                            \
    static inline type min(type a, type b) { return b < a ? b : a; } \
    static inline type max(type a, type b) { return a < b ? b : a; }
SIM_MIN_MAX(int)
SIM_MIN_MAX(unsigned)
SIM_MIN_MAX(long)
SIM_MIN_MAX(unsigned long)
SIM_MIN_MAX(long long)
SIM_MIN_MAX(unsigned long long)
#undef SIM_MIN_MAX
#endif

#endif
