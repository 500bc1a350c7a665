/* utf8.c - well-formedness after table 3-7 of the Unicode standard. */
#include "core/base/utf8.h"

#include <stdint.h>
#include <string.h>

/* Bytes of the well-formed character at p, 0 where there is none. */
static size_t character_length(const uint8_t *p, size_t n)
{
    const uint8_t lead = p[0];
    size_t len;
    uint8_t lo = 0x80,
            hi = 0xbf; /* of the second byte: where overlong forms, surrogates and the upper end are kept out */
    if (lead < 0x80)
        return 1;
    if (lead >= 0xc2 && lead <= 0xdf) {
        len = 2;
    } else if (lead >= 0xe0 && lead <= 0xef) {
        len = 3;
        lo = lead == 0xe0 ? 0xa0 : 0x80;
        hi = lead == 0xed ? 0x9f : 0xbf;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
        len = 4;
        lo = lead == 0xf0 ? 0x90 : 0x80;
        hi = lead == 0xf4 ? 0x8f : 0xbf;
    } else {
        return 0;
    }
    if (n < len || p[1] < lo || p[1] > hi)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

bool pol_utf8_check(const char *text, size_t n, size_t *bad_offset)
{
    const uint8_t *p = (const uint8_t *)text;
    size_t i = 0;
    while (i < n) {
        uint64_t word; /* most text is ASCII: eight bytes at a time */
        if (n - i >= sizeof word && (memcpy(&word, p + i, sizeof word), !(word & 0x8080808080808080u))) {
            i += sizeof word;
            continue;
        }
        const size_t len = character_length(p + i, n - i);
        if (!len) {
            if (bad_offset)
                *bad_offset = i;
            return false;
        }
        i += len;
    }
    return true;
}
