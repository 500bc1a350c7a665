/* fuzz_tokenizer.h - what the tokenizers' fuzz targets share: encoding with whatever came out of the input. */
#ifndef FUZZ_TOKENIZER_H
#define FUZZ_TOKENIZER_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/utf8.h"
#include "core/model/tokenizer/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Encodes the last bytes of the input, without their high bits where they are not UTF-8. Every id must be of the
 * vocabulary. */
static inline void fuzz_encode(pol_context *ctx, const pol_tokenizer *tok, const uint8_t *data, size_t size)
{
    char text[200];
    const size_t n = size < sizeof text ? size : sizeof text;
    for (int special = 0; special < 2 && n; special++) {
        memcpy(text, data + size - n, n);
        for (size_t i = 0; i < n && !pol_utf8_check(text, n, NULL); i++)
            text[i] &= 0x7f;
        pol_token_list list = {0};
        if (pol_tokenizer_encode(tok, ctx, text, n, special, &list) >= 0)
            for (int64_t i = 0; i < list.n; i++) {
                size_t len;
                if (list.ids[i] < 0 || list.ids[i] >= pol_tokenizer_vocab(tok) ||
                    !pol_tokenizer_token(tok, list.ids[i], &len))
                    abort();
            }
        pol_token_list_free(ctx, &list);
    }
}

static inline void fuzz_finish(pol_context *ctx, pol_status s, pol_tokenizer *tok, const uint8_t *text, size_t n)
{
    if (s >= 0)
        fuzz_encode(ctx, tok, text, n);
    else if (tok)
        abort(); /* a failed call left something behind */
    pol_tokenizer_free(tok);
}

#endif
