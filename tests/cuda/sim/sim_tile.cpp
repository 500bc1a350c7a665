/* sim_tile.cpp - what the 32 lanes of a warp do with 16x16 tiles (include/mma.h). */
#include <mma.h>

#include "sim_engine.h"
#include "sim_sum.h"

using namespace nvcuda::wmma;

enum { LANES = 32, SIDE = 16, ELEMENTS = SIDE * SIDE, OF_A_LANE = ELEMENTS / LANES };

int sim_tile_element(int use, int lane, int i)
{
    /* An odd factor makes a permutation of the 256. */
    const uint64_t key = sim_tile_key >> (16 * use);
    return (int)(((unsigned)(i * LANES + lane) * (unsigned)(key | 1) + (unsigned)(key >> 8)) % ELEMENTS);
}

namespace
{
struct access {
    uintptr_t at;
    unsigned ld;
    bool same;
};
} // namespace

static void compare_accesses(void *const lane[LANES])
{
    access *first = static_cast<access *>(lane[0]);
    bool same = true;
    for (int i = 1; i < LANES; i++) {
        const access *a = static_cast<const access *>(lane[i]);
        same = same && a->at == first->at && a->ld == first->ld;
    }
    for (int i = 0; i < LANES; i++)
        static_cast<access *>(lane[i])->same = same;
}

void sim_tile_access(const char *what, uintptr_t at, unsigned ld, size_t element_bytes, sim_place place)
{
    if (at % 32 || ld * element_bytes % 16)
        sim_fault("comes to %s at %s:%d with a tile at byte %zu, rows of %u elements: not aligned to 32 bytes and 16",
                  what, place.file, place.line, (size_t)at, ld);
    access mine = {at, ld, false};
    sim_warp(what, 0xffffffffu, &mine, compare_accesses, place);
    if (!mine.same)
        sim_fault("comes to %s at %s:%d with another tile than other lanes", what, place.file, place.line);
}

void nvcuda::wmma::sim_multiply(void *const lane[LANES])
{
    float a[SIDE][SIDE], b[SIDE][SIDE], d[SIDE][SIDE];
    for (int l = 0; l < LANES; l++) {
        const sim_factors *f = static_cast<const sim_factors *>(lane[l]);
        for (int i = 0; i < OF_A_LANE; i++) {
            const int at = sim_tile_element(matrix_a::number, l, i), bt = sim_tile_element(matrix_b::number, l, i);
            const int ct = sim_tile_element(accumulator::number, l, i);
            a[at / SIDE][at % SIDE] = __bfloat162float(f->a[i]);
            b[bt % SIDE][bt / SIDE] = __bfloat162float(f->b[i]); /* by columns */
            d[ct / SIDE][ct % SIDE] = f->c[i];
        }
    }
    for (int m = 0; m < SIDE; m++)
        for (int n = 0; n < SIDE; n++)
            for (int k = 0; k < SIDE; k += sim::AT_ONCE)
                d[m][n] = sim::add_products(d[m][n], &a[m][k], &b[n][k]);
    for (int l = 0; l < LANES; l++)
        for (int i = 0; i < OF_A_LANE; i++) {
            const int at = sim_tile_element(accumulator::number, l, i);
            static_cast<const sim_factors *>(lane[l])->d[i] = d[at / SIDE][at % SIDE];
        }
}
