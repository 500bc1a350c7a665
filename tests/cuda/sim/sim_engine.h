/* sim_engine.h - what the parts of the engine share. */
#ifndef SIM_ENGINE_H
#define SIM_ENGINE_H

#include <cuda_runtime_api.h>
#include <stdint.h>

/* The running thread, and when it is. Block time passes with each barrier of the block, and no time comes twice in a
 * grid; warp time passes with each barrier of the warp. */
struct sim_moment {
    int thread;
    uint32_t block_time;
    const uint32_t *warp_time;
};
extern __thread sim_moment sim_now;

/* From the seed: which elements of a tile a lane holds. */
extern __thread uint64_t sim_tile_key;

/* The running thread did this. Returns to whoever ran the grid, if at all. */
[[noreturn]] void sim_fault(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Another thread of the block, as a message has it: "(x,y,z)". Lasts until the fourth call from now. */
const char *sim_thread_name(int thread);

/* sim_shared.cpp */
void sim_shared_begin_grid(size_t bytes);
void sim_shared_begin_block(int threads, uint32_t time);
void sim_shared_end_thread();

#endif
