/* cuda_pipeline.h - stands in for the toolkit's: copies into shared memory that go on while the thread does.
 *
 * They begin with copy_async() of kernels-cu/device.cuh: __pipeline_memcpy_async takes a pointer, and there is none
 * into the simulator's shared memory. A copy is made when it is waited for, and not before.
 */
#ifndef SIM_CUDA_PIPELINE_H
#define SIM_CUDA_PIPELINE_H

#include <stddef.h>

void __pipeline_commit();
void __pipeline_wait_prior(size_t groups);

#endif
