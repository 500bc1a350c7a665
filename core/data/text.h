/* text.h - the formats behind pol_text_read. */
#ifndef POL_DATA_TEXT_H
#define POL_DATA_TEXT_H

#include "core/data/reader.h"
#include "pollard/data.h"

/* pol_text_read over an open reader; the reader's name decides where a format is told by name. */
pol_status pol_text_read_from(pol_reader *r, const pol_text_options *o, pol_document_fn fn, void *user,
                              pol_text_format *used);

/* POL_EFORMAT naming line and byte where `text` is no UTF-8. `line` (from 1) and `byte` say where in the file it
 * begins. */
pol_status pol_text_check(const pol_reader *r, const char *text, size_t n, int64_t line, size_t byte);

/* Length of a byte order mark at the start of a file: 3 or 0. */
size_t pol_text_bom(const char *text, size_t n);

/* jsonl.c: one object a line; lines of white space and empty strings are passed over. *documents counts the calls of
 * `fn`. */
pol_status pol_jsonl_read(pol_reader *r, const char *field, pol_document_fn fn, void *user, int64_t *documents);

/* wikitext.c: whether the first line that is not blank is a heading; and the join. `out` is yours: pol_bytes_free(). */
bool pol_wikitext_found(const char *text, size_t n);
pol_status pol_wikitext_join(pol_context *ctx, const char *text, size_t n, pol_bytes *out);

#endif
