/* fuzz_tokenizer_json.c - tokenizer.json, and behind a 0 byte a text for it. */
#include "tests/fuzz/fuzz_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pol_context *ctx;
    if (pol_context_new(NULL, &ctx) < 0)
        return 0;
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    const size_t n = zero ? (size_t)(zero - data) : size;
    pol_tokenizer *tok;
    const pol_status s = pol_tokenizer_from_json(ctx, "fuzz", data, n, &tok);
    fuzz_finish(ctx, s, tok, data, size);
    pol_context_free(ctx);
    return 0;
}
