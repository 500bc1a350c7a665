/* utf8.h - is it UTF-8? */
#ifndef POL_UTF8_H
#define POL_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Whether `text` is well-formed UTF-8: no overlong form, no surrogate, nothing above U+10FFFF, no character cut off. If
 * not, *bad_offset (may be NULL) is where the first ill-formed sequence begins. A 0 byte is a character like any other.
 */
bool pol_utf8_check(const char *text, size_t n, size_t *bad_offset);

#endif
