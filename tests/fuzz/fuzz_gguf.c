/* fuzz_gguf.c - a GGUF file from memory: its header, every accessor, the configuration, and the first values of every
 * tensor. */
#include <stdlib.h>
#include <string.h>

#include "core/model/family.h"
#include "core/model/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_everything(pol_context *ctx, const pol_gguf *g)
{
    static const char *const keys[] = {"general.architecture", "general.alignment", "tokenizer.ggml.tokens",
                                       "tokenizer.ggml.scores", "k"};
    const char *s;
    size_t n;
    int64_t i;
    double d;
    unsigned sum = 0;
    for (size_t k = 0; k < POL_COUNT(keys); k++) {
        if (pol_gguf_str(g, keys[k], &s, &n) && n)
            sum += (unsigned char)s[n - 1];
        (void)pol_gguf_int(g, keys[k], &i);
        (void)pol_gguf_float(g, keys[k], &d);
        const int64_t last = pol_gguf_array(g, keys[k]) - 1;
        if (pol_gguf_array_str(g, keys[k], last, &s, &n) && n)
            sum += (unsigned char)s[n - 1];
        (void)pol_gguf_array_int(g, keys[k], last, &i);
        (void)pol_gguf_array_float(g, keys[k], last, &d);
    }
    const pol_gguf_tensor *t;
    for (i = 0; (t = pol_gguf_tensor_at(g, i)); i++) {
        float x[256];
        if (pol_gguf_tensor_find(g, t->name) != t)
            abort();
        if (t->coding->decode && t->bytes)
            t->coding->decode(pol_gguf_data(g) + t->at + t->bytes - (uint64_t)t->coding->bytes, 1, x);
    }
    static pol_config c;
    (void)pol_config_from_gguf(ctx, g, &c);
    volatile unsigned seen = sum; /* the bytes count as used */
    (void)seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pol_context *ctx;
    pol_gguf *g;
    if (pol_context_new(NULL, &ctx) < 0)
        return 0;
    const pol_status s = pol_gguf_parse(ctx, "fuzz", data, size, &g);
    if (s < 0 && (g || !*pol_error_text(ctx)))
        abort(); /* a failed call left an object, or said nothing */
    if (s == POL_OK)
        read_everything(ctx, g);
    pol_gguf_close(g);
    pol_context_free(ctx);
    return 0;
}
