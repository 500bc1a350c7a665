/* fuzz_cachefile.c - files of the OpenCL program cache. A driver gets to see only what the check lets through: that
 * must be what was written, to the byte, so that any other bit of the same file is refused. */
#include <stdlib.h>
#include <string.h>

#include "backends/opencl/cachefile.h"

enum { KEY = 32, AT_KEY = 12 };

/* One bit elsewhere, chosen by the data itself. */
static void check_other_bit(pol_context *ctx, const uint8_t *data, size_t size, const char *key)
{
    uint8_t *other = malloc(size);
    if (!other)
        abort();
    memcpy(other, data, size);
    const size_t bit = (data[size - 1] * 2654435761u + data[size / 2] * 40503u) % (8 * size);
    other[bit / 8] ^= (uint8_t)(1u << bit % 8);
    if (ocl_cachefile_check(ctx, "input", other, size, key) != POL_EFORMAT)
        abort();
    if (ocl_cachefile_check(ctx, "input", data, size - 1, key) != POL_EFORMAT)
        abort();
    free(other);
}

static void check(pol_context *ctx, const uint8_t *data, size_t size, const char *key)
{
    const pol_status s = ocl_cachefile_check(ctx, "input", data, size, key);
    if (s == POL_OK)
        check_other_bit(ctx, data, size, key);
    else if (s != POL_EFORMAT)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char own[KEY + 1] = "";
    pol_context *ctx;
    if (pol_context_new(NULL, &ctx) < 0)
        abort();
    check(ctx, data, size, "00112233445566778899aabbccddeeff");
    if (size >= AT_KEY + KEY) { /* and under whatever key it claims, which gets past that field */
        memcpy(own, data + AT_KEY, KEY);
        check(ctx, data, size, own);
    }
    pol_context_free(ctx);
    return 0;
}
