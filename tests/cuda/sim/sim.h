/* sim.h - CUDA simulated on the processor: what its two halves have from each other, and what tests set.
 *
 * The engine (sim_kernel.cpp and beside it) runs one grid at a time on the thread that calls it. The runtime
 * (sim_runtime.cpp and beside it) is the toolkit's API: devices, memory, streams; it decides when a grid runs.
 */
#ifndef SIM_H
#define SIM_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a kernel does wrong ends up here, as one line that names the kernel, its block and its thread. The default prints
 * it and aborts; where a handler returns, the grid is abandoned. NULL: the default again. Returns the last handler. */
typedef void sim_fault_handler(const char *line);
sim_fault_handler *sim_on_fault(sim_fault_handler *handler);

/* All that CUDA leaves open is decided by this number: the order of blocks, of threads, of what streams hold. It is
 * POLLARD_SIM_SEED, else 1, until it is set. */
uint64_t sim_seed(void);
void sim_set_seed(uint64_t seed);

enum {
    SIM_BLOCK_THREADS = 1024,
    SIM_SHARED_BYTES = 48 << 10,        /* of a block, unless it asks for more */
    SIM_SHARED_BYTES_ASKED = 227 << 10, /* the most that it may ask for */
};

#ifdef __cplusplus
}

#include <functional>

/* Whether a device takes such a launch: cudaSuccess, or what its runtime says. */
cudaError_t sim_check_launch(dim3 grid, dim3 block, size_t shared_bytes);

/* Runs `thread` once for every thread of the grid, and returns when all have run. Engine. */
void sim_run_grid(const char *kernel, dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &thread);

/* Queues work on a stream. Runtime. */
cudaError_t sim_enqueue(cudaStream_t stream, const char *what, std::function<void()> work);
#endif

#endif
