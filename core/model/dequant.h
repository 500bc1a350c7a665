/* dequant.h - how weights are stored in files, and turning them into f32.
 *
 * A row of weights is a run of blocks; a block holds `values` weights in `bytes` bytes, little-endian. Plain types have
 * blocks of one value. Values that are not weights (integers) are known by size only, so that a directory can be
 * checked.
 */
#ifndef POL_DEQUANT_H
#define POL_DEQUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct pol_coding {
    const char *name; /* "f32", "q4_1", ... */
    int32_t values, bytes;
    /* `n_blocks` blocks to n_blocks * values floats; src needs no alignment. NULL: not weights. */
    void (*decode)(const uint8_t *src, int64_t n_blocks, float *dst);
} pol_coding;

/* NULL for a type that is not handled. The numbers are those of GGUF files. */
const pol_coding *pol_coding_of_gguf(uint32_t type);
/* By the names of safetensors headers ("F32", "BF16", "I64", ...). */
const pol_coding *pol_coding_of_safetensors(const char *dtype);

#endif
