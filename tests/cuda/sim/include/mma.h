/* mma.h - stands in for the toolkit's: products of 16x16 tiles of bf16, summed in f32, by the 32 lanes of a warp.
 *
 * Each lane's fragment holds 8 of a tile's 256 elements. Which ones CUDA does not say, and here it depends on the seed.
 */
#ifndef SIM_MMA_H
#define SIM_MMA_H

#include <cuda_bf16.h>

/* A lane's part in a load or store of a tile: all lanes must come with the same address, a multiple of 32, and the same
 * distance between rows (or columns), a multiple of 16 bytes. */
void sim_tile_access(const char *what, uintptr_t at, unsigned ld, size_t element_bytes, sim_place place);
/* Which of a tile's elements, by rows, is the i-th of a lane. */
int sim_tile_element(int use, int lane, int i);

namespace nvcuda
{
namespace wmma
{
struct matrix_a {
    enum { number = 0 };
};
struct matrix_b {
    enum { number = 1 };
};
struct accumulator {
    enum { number = 2 };
};
struct row_major {
};
struct col_major {
};
enum layout_t { mem_row_major, mem_col_major };

template <class Use, int M, int N, int K, class T, class Layout = void> struct fragment {
    static_assert(M == 16 && N == 16 && K == 16, "of the tile shapes this one is simulated");
    enum { num_elements = 8 };
    T x[num_elements];
};

template <class T> using tile_a = fragment<matrix_a, 16, 16, 16, __nv_bfloat16, T>;
template <class T> using tile_b = fragment<matrix_b, 16, 16, 16, __nv_bfloat16, T>;
using tile_sum = fragment<accumulator, 16, 16, 16, float>;

template <class Use, class T, class Layout>
static inline void fill_fragment(fragment<Use, 16, 16, 16, T, Layout> &f, const T &value)
{
    for (T &x : f.x)
        x = value;
}

/* `memory` is indexed like a pointer. */
template <class Use, class T, class Layout, class Memory>
static inline void sim_load(fragment<Use, 16, 16, 16, T, Layout> &f, const Memory &memory, unsigned ld, bool by_rows)
{
    for (int i = 0; i < f.num_elements; i++) {
        const unsigned e = (unsigned)sim_tile_element(Use::number, sim_lane(), i);
        f.x[i] = memory[by_rows ? e / 16 * ld + e % 16 : e % 16 * ld + e / 16];
    }
}

template <class Memory> static inline void sim_store(const Memory &memory, const tile_sum &f, unsigned ld, bool by_rows)
{
    for (int i = 0; i < f.num_elements; i++) {
        const unsigned e = (unsigned)sim_tile_element(accumulator::number, sim_lane(), i);
        memory[by_rows ? e / 16 * ld + e % 16 : e % 16 * ld + e / 16] = f.x[i];
    }
}

template <class Layout> static constexpr bool sim_by_rows();
template <> constexpr bool sim_by_rows<row_major>() { return true; }
template <> constexpr bool sim_by_rows<col_major>() { return false; }

template <class Use, class Layout>
static inline void load_matrix_sync(fragment<Use, 16, 16, 16, __nv_bfloat16, Layout> &f, const __nv_bfloat16 *p,
                                    unsigned ld, sim_place place = sim_place::here())
{
    sim_tile_access("load_matrix_sync", (uintptr_t)p, ld, sizeof *p, place);
    sim_load(f, p, ld, sim_by_rows<Layout>());
}

static inline void load_matrix_sync(tile_sum &f, const float *p, unsigned ld, layout_t layout,
                                    sim_place place = sim_place::here())
{
    sim_tile_access("load_matrix_sync", (uintptr_t)p, ld, sizeof *p, place);
    sim_load(f, p, ld, layout == mem_row_major);
}

static inline void store_matrix_sync(float *p, const tile_sum &f, unsigned ld, layout_t layout,
                                     sim_place place = sim_place::here())
{
    sim_tile_access("store_matrix_sync", (uintptr_t)p, ld, sizeof *p, place);
    sim_store(p, f, ld, layout == mem_row_major);
}

/* What a lane brings to a product. */
struct sim_factors {
    const __nv_bfloat16 *a, *b;
    const float *c;
    float *d;
};
/* d = a b + c on the tiles that the lanes hold together. */
void sim_multiply(void *const lane[32]);

template <class LayoutA, class LayoutB>
static inline void mma_sync(tile_sum &d, const tile_a<LayoutA> &a, const tile_b<LayoutB> &b, const tile_sum &c,
                            sim_place place = sim_place::here())
{
    sim_factors mine = {a.x, b.x, c.x, d.x};
    sim_warp("mma_sync", 0xffffffffu, &mine, sim_multiply, place);
}
} // namespace wmma
} // namespace nvcuda

#endif
