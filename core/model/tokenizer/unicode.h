/* unicode.h - characters of text that is known to be well-formed UTF-8, and the classes that tokenizers ask about. */
#ifndef POL_UNICODE_H
#define POL_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <utf8proc.h>

static inline size_t pol_utf8_length(const char *p)
{
    const uint8_t b = (uint8_t)*p;
    return b < 0x80 ? 1 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : 4;
}

static inline int32_t pol_utf8_first(const char *p)
{
    const uint8_t *u = (const uint8_t *)p;
    switch (pol_utf8_length(p)) {
    case 1: return u[0];
    case 2: return (u[0] & 0x1f) << 6 | (u[1] & 0x3f);
    case 3: return (u[0] & 0x0f) << 12 | (u[1] & 0x3f) << 6 | (u[2] & 0x3f);
    default: return (u[0] & 0x07) << 18 | (u[1] & 0x3f) << 12 | (u[2] & 0x3f) << 6 | (u[3] & 0x3f);
    }
}

/* Bytes of the last character of text[0, n), n > 0. */
static inline size_t pol_utf8_last_length(const char *text, size_t n)
{
    size_t len = 1;
    while (len < n && ((uint8_t)text[n - len] & 0xc0) == 0x80)
        len++;
    return len;
}

static inline int32_t pol_utf8_last(const char *text, size_t n)
{
    return pol_utf8_first(text + n - pol_utf8_last_length(text, n));
}

/* The property White_Space. */
static inline bool pol_is_space(int32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
           c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

/* \w of Rust's regex: what is alphabetic, marks, decimal numbers, connectors and the two joiners. */
static inline bool pol_is_word(int32_t c)
{
    if (c == 0x200c || c == 0x200d || (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) ||
        (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189))
        return true;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return false;
    }
}

/* The mark that stands for a space in SentencePiece vocabularies, U+2581. */
#define POL_SPACE_MARK "\xe2\x96\x81"
enum { POL_SPACE_MARK_LEN = 3 };

#endif
