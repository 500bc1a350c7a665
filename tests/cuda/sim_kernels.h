/* sim_kernels.h - kernels that try the simulator itself (sim_kernels.cu), as the test sees them. */
#ifndef SIM_KERNELS_H
#define SIM_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { TRIAL_BLOCKS = 5, TRIAL_THREADS = 96, TRIAL_RESULTS = TRIAL_BLOCKS * TRIAL_THREADS };

/* A kernel that is right, and the same with one mistake. */
typedef struct trial {
    const char *name;
    void (*run)(float *out, bool broken); /* out: a number a thread */
    const char *fault;                    /* what is said of the mistake; alternatives by | */
} trial;

extern const trial sim_trials[];
extern const int n_sim_trials;

/* d = a b + c, tiles of 16x16 with `ld` from one row (column) to the next; a and b by rows or columns, and c and d,
 * when they are not in shared memory. */
typedef struct tile_trial {
    const uint16_t *a, *b;
    const float *c;
    float *d;
    unsigned ld;
    bool a_by_rows, b_by_rows, sums_by_rows, shared;
} tile_trial;
void sim_try_tiles(const tile_trial *t);

/* Writes down in which order 8 blocks of 64 threads come by: 512 numbers. */
void sim_try_order(int *order);

/* What lanes and threads tell each other: so many results a thread of two warps. */
enum { TRIAL_MEETINGS = 18 };
void sim_try_warp(int *out);
float sim_try_arithmetic(void); /* in shared memory: 329 */

/* Adds 1 to n numbers in device memory, by a launch; where `broken`, with shared memory that it did not ask for. */
cudaError_t sim_try_launch(cudaStream_t stream, float *x, int n, bool broken);
/* What a launch of that form returns. */
cudaError_t sim_try_form(dim3 grid, dim3 block, size_t shared_bytes);

#ifdef __cplusplus
}
#endif
#endif
