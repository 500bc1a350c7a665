/* fuzz_tokenizer_model.c - tokenizer.model, of SentencePiece or of tiktoken by its content; its own end is the text. */
#include "tests/fuzz/fuzz_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pol_context *ctx;
    if (pol_context_new(NULL, &ctx) < 0)
        return 0;
    pol_tokenizer *tok;
    const pol_status s = pol_tokenizer_from_model(ctx, "fuzz", data, size, &tok);
    fuzz_finish(ctx, s, tok, data, size);
    pol_context_free(ctx);
    return 0;
}
