/* byte_level.c - the alphabet in which GPT-2 and its heirs write arbitrary bytes as printable characters. */
#include <string.h>

#include "core/model/tokenizer/internal.h"
#include "core/model/tokenizer/unicode.h"

static bool stands_for_itself(int32_t c)
{
    return (c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255);
}

enum { OTHERS = 256 - (126 - 33 + 1) - (172 - 161 + 1) - (255 - 174 + 1) };

/* The k-th byte that does not print: 0..32, 127..160, 173. */
static int32_t other_byte(int32_t k) { return k <= 32 ? k : k <= 32 + 34 ? k - 33 + 127 : 173; }

static int32_t other_index(int32_t byte) { return byte <= 32 ? byte : byte <= 160 ? byte - 127 + 33 : OTHERS - 1; }

pol_status pol_spell_bytes(pol_bytes *out, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const int32_t b = (uint8_t)bytes[i];
        utf8proc_uint8_t c[4];
        POL_TRY(
            pol_bytes_add(out, c, (size_t)utf8proc_encode_char(stands_for_itself(b) ? b : 256 + other_index(b), c)));
    }
    return POL_OK;
}

pol_status pol_unspell_bytes(pol_bytes *out, const char *spelling, size_t n, bool *spelled)
{
    const size_t begin = out->len;
    for (size_t i = 0; i < n; i += pol_utf8_length(spelling + i)) {
        const int32_t c = pol_utf8_first(spelling + i);
        const bool known = stands_for_itself(c) || (c >= 256 && c < 256 + OTHERS);
        if (!known) {
            out->len = begin;
            *spelled = false;
            return POL_OK;
        }
        const char byte = (char)(uint8_t)(c < 256 ? c : other_byte(c - 256));
        POL_TRY(pol_bytes_add(out, &byte, 1));
    }
    *spelled = true;
    return POL_OK;
}

pol_status pol_set_byte_level(pol_tokenizer *tok, const char *where, int64_t id, const char *spelling, size_t n,
                              pol_token_type type, pol_bytes *scratch)
{
    bool spelled;
    scratch->len = 0;
    POL_TRY(pol_unspell_bytes(scratch, spelling, n, &spelled));
    if (spelled)
        return pol_vocab_set(&tok->vocab, where, id, scratch->data ? scratch->data : "", scratch->len, type, true);
    POL_TRY(pol_vocab_set(&tok->vocab, where, id, spelling, n, type, false));
    tok->vocab.tokens[id].verbatim = true;
    return POL_OK;
}

void pol_find_single_bytes(pol_tokenizer *tok)
{
    for (int b = 0; b < 256; b++) {
        const char c = (char)(uint8_t)b;
        tok->bpe.byte_id[b] = pol_vocab_find(&tok->vocab, &c, 1);
    }
}
