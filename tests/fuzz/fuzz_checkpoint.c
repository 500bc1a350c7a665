/* fuzz_checkpoint.c - any bytes as a checkpoint of 5 units, an order of 3 and 2 numbers of state: as they are, and once
 * more under a right checksum, which random changes would never hit. */
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "core/base/endian.h"
#include "core/learn/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { UNITS = 5, ORDER = 3, STATE = 2, CHECKSUM = 8 };

static const pol_checkpoint_shape SHAPE = {UNITS, ORDER, STATE};

static void parse(pol_context *ctx, const uint8_t *data, size_t size)
{
    pol_checkpoint c;
    if (pol_checkpoint_parse(ctx, "fuzz", data, size, &SHAPE, &c) < 0) {
        if (c.s || c.best_s || c.order || c.state)
            abort(); /* a failed call left something behind */
        return;
    }
    for (int i = 0; i < UNITS; i++)
        if (!(c.s[i] >= 0.0f && c.s[i] <= 1.0f))
            abort();
    pol_checkpoint_free(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pol_context *ctx;
    if (pol_context_new(NULL, &ctx) < 0)
        return 0;
    parse(ctx, data, size);
    uint8_t *sealed = size >= CHECKSUM ? malloc(size) : NULL;
    if (sealed) {
        memcpy(sealed, data, size);
        pol_put_u64le(sealed + size - CHECKSUM, XXH3_64bits(sealed, size - CHECKSUM));
        parse(ctx, sealed, size);
        free(sealed);
    }
    pol_context_free(ctx);
    return 0;
}
