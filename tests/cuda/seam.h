/* seam.h - for tests that call kernels through kernels-cu/kernels.h itself, on a simulated device: operands in device
 * memory, at any element.
 */
#ifndef POL_TEST_SEAM_H
#define POL_TEST_SEAM_H

#include <math.h>

#include "core/base/rng.h"
#include "core/model/half.h"
#include "kernels-cu/kernels.h"
#include "tests/cuda/sim/sim_control.h"
#include "tests/test.h"

#define assert_cuda(call)                                                  \
    do {                                                                   \
        const cudaError_t assert_cuda_e_ = (call);                         \
        if (assert_cuda_e_ != cudaSuccess)                                 \
            fail_msg("%s: %s", #call, cudaGetErrorString(assert_cuda_e_)); \
    } while (0)

/* n normal numbers times `scale`, number `key` of such arrays, in bf16; yours: free(). */
static inline cu_bf16 *normal_bf16(uint32_t key, int64_t n, double scale)
{
    float *x = malloc((size_t)n * sizeof *x + 1);
    cu_bf16 *h = malloc((size_t)n * sizeof *h + 1);
    assert_non_null(x);
    assert_non_null(h);
    pol_normal(1, POL_STREAM_TEST, 0, key, n, x);
    for (int64_t i = 0; i < n; i++)
        h[i] = pol_f32_to_bf16((float)(x[i] * scale));
    free(x);
    return h;
}

/* `bytes` of device memory, `off` bytes after an address that vectors may have. The simulator sees what is read or
 * written beyond its end. */
typedef struct seam_operand {
    unsigned char *block;
    size_t off, bytes;
} seam_operand;

static inline void *seam_at(const seam_operand *o) { return o->block + o->off; }

/* NULL as `values`: it holds NaN. */
static inline seam_operand seam_put(const void *values, size_t bytes, size_t off)
{
    seam_operand o = {.off = off, .bytes = bytes};
    void *block;
    assert_cuda(cudaMalloc(&block, off + bytes));
    o.block = block;
    if (values)
        assert_cuda(cudaMemcpy(seam_at(&o), values, bytes, cudaMemcpyHostToDevice));
    return o;
}

/* What it holds now goes to `values`, unless that is NULL; then it is freed. */
static inline void seam_take(seam_operand *o, void *values)
{
    if (values)
        assert_cuda(cudaMemcpy(values, seam_at(o), o->bytes, cudaMemcpyDeviceToHost));
    assert_cuda(cudaFree(o->block));
    o->block = NULL;
}

/* The group fixture: its state is a stream. */
static inline int seam_open(void **state)
{
    sim_restart();
    return cudaStreamCreateWithFlags((cudaStream_t *)state, cudaStreamNonBlocking) == cudaSuccess ? 0 : -1;
}

static inline int seam_close(void **state)
{
    return cudaStreamDestroy((cudaStream_t)*state) == cudaSuccess && sim_leaks() == 0 ? 0 : -1;
}

#endif
