/* swap_units.c - exchanges rows through a buffer that stays in the first-level cache. */
#include <string.h>

#include "cpu/cpu.h"

enum { CHUNK_BYTES = 4096 };

static void swap_bytes(unsigned char *restrict a, unsigned char *restrict b, size_t n)
{
    unsigned char kept[CHUNK_BYTES];
    for (size_t at = 0; at < n; at += CHUNK_BYTES) {
        const size_t m = n - at < CHUNK_BYTES ? n - at : CHUNK_BYTES;
        memcpy(kept, a + at, m);
        memcpy(a + at, b + at, m);
        memcpy(b + at, kept, m);
    }
}

static void swap_in_buffer(pol_backend *be, const pol_swap_args *a)
{
    const size_t bytes = (size_t)a->unit * pol_dtype_size(a->w.buf->dtype);
    unsigned char *w = cpu_bytes(a->w);
#pragma omp parallel for num_threads(cpu_threads(be)) if (a->n_pairs * a->unit > CPU_PARALLEL_MIN)
    for (int64_t i = 0; i < a->n_pairs; i++)
        swap_bytes(w + (size_t)a->a[i] * bytes, w + (size_t)a->b[i] * bytes, bytes);
}

pol_status swap_units_cpu(pol_backend *be, const pol_swap_args *a, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (a[i].n_pairs)
            swap_in_buffer(be, &a[i]);
    return POL_OK;
}
