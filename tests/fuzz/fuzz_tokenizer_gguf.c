/* fuzz_tokenizer_gguf.c - the vocabulary in a GGUF; its own end is the text. */
#include "tests/fuzz/fuzz_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pol_context *ctx;
    if (pol_context_new(NULL, &ctx) < 0)
        return 0;
    pol_gguf *g;
    if (pol_gguf_parse(ctx, "fuzz", data, size, &g) >= 0) {
        pol_tokenizer *tok;
        const pol_status s = pol_tokenizer_from_gguf(ctx, g, &tok);
        fuzz_finish(ctx, s, tok, data, size);
        pol_gguf_close(g);
    }
    pol_context_free(ctx);
    return 0;
}
