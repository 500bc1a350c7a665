/* fuzz_safetensors.c - a safetensors file from memory: its header, and the first and last value of every tensor. */
#include <stdlib.h>

#include "core/model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pol_context *ctx;
    pol_safetensors *st;
    if (pol_context_new(NULL, &ctx) < 0)
        return 0;
    const pol_status s = pol_safetensors_parse(ctx, "fuzz", data, size, &st);
    if (s < 0 && (st || !*pol_error_text(ctx)))
        abort(); /* a failed call left an object, or said nothing */
    const pol_safetensors_tensor *t;
    for (int64_t i = 0; s == POL_OK && (t = pol_safetensors_at(st, i)); i++) {
        float x[2];
        if (pol_safetensors_find(st, t->name) != t)
            abort();
        if (!t->coding->decode || !t->bytes)
            continue;
        const uint8_t *first = pol_safetensors_file_data(st, t->file) + t->at;
        t->coding->decode(first, 1, x);
        t->coding->decode(first + t->bytes - t->coding->bytes, 1, x + 1);
    }
    pol_safetensors_close(st);
    pol_context_free(ctx);
    return 0;
}
