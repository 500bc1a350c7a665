/* sim.h - what the two halves of the simulator have from each other.
 *
 * The engine (sim_kernel.cpp and beside it) runs one grid at a time on the thread that calls it. The runtime is the
 * toolkit's host interface: devices, memory, streams; it decides when a grid runs.
 */
#ifndef SIM_H
#define SIM_H

#include <cuda_runtime_api.h>
#include <functional>
#include <stdint.h>

/* Engine. Whether a grid of this form exists: cudaSuccess, or what a launch of it returns. */
cudaError_t sim_check_launch(dim3 grid, dim3 block, size_t shared_bytes);

/* Engine. Runs `thread` once for every thread of the grid, and returns when all have run. */
void sim_run_grid(const char *kernel, dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &thread);

/* Engine. The order of blocks and threads follows from this number (1 at first) and from how many grids the calling
 * thread has run since. */
void sim_shuffle(uint64_t seed);

/* Runtime. What a launch with so much shared memory returns of this kernel on the current device: more than any kernel
 * may have must have been allowed. */
enum { SIM_SHARED_WITHOUT_ASKING = 48 << 10 };
cudaError_t sim_check_shared(const void *kernel, size_t shared_bytes);

/* Runtime. Queues work on a stream. */
cudaError_t sim_enqueue(cudaStream_t stream, const char *what, std::function<void()> work);

#endif
