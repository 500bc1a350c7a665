/* literals.h - tokens that are found in the text by their spelling, before any merging. */
#ifndef POL_LITERALS_H
#define POL_LITERALS_H

#include "core/base/base.h"

typedef struct pol_literal {
    char *text;
    size_t len;
    int32_t id;
    bool special;        /* found only where the caller asks for special tokens */
    bool lstrip, rstrip; /* takes the white space before or after with it */
    bool single_word;    /* found only between characters that are no letters, digits or marks */
} pol_literal;

typedef struct pol_literals {
    pol_context *ctx;
    pol_literal *items;
    int64_t n, cap;
    int64_t first[257]; /* items that begin with byte b: [first[b], first[b + 1]), longest first; set by seal */
} pol_literals;

/* Copies the text. Empty text is ignored, as it would be found everywhere. Text that is not UTF-8 is POL_EFORMAT with
 * `where`: it could be found inside a character. */
pol_status pol_literals_add(pol_literals *l, const char *where, const char *text, size_t n, pol_literal flags);
void pol_literals_seal(pol_literals *l); /* after the last add, before the first search */
void pol_literals_free(pol_literals *l);

/* The longest literal that `text` begins with, NULL where there is none. */
const pol_literal *pol_literals_at(const pol_literals *l, const char *text, size_t n);

/* The next literal at or after *from, as [*start, *end) with the white space that it takes; NULL where there is none.
 * Text before `done` is dealt with already: white space there is not taken again. *from moves behind the spelling only,
 * not behind the white space taken, so that a literal made of white space is still found in there; the tokenizers
 * library does so. A literal that may not be used here (special, single_word) still hides shorter ones that begin
 * inside it. */
const pol_literal *pol_literals_next(const pol_literals *l, const char *text, size_t n, bool special, size_t done,
                                     size_t *from, size_t *start, size_t *end);

#endif
