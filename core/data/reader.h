/* reader.h - the bytes of a text file, whatever it is compressed with.
 *
 * Plain, gzip (several members) and zstd (several frames), told apart by their first bytes. Memory is bounded: the file
 * is mapped and its pages are released behind the reader; the decompressor holds its window.
 */
#ifndef POL_DATA_READER_H
#define POL_DATA_READER_H

#include "core/base/file.h"

/* A document (a plain file, a JSONL line) of more bytes is refused: a small compressed file can hold a very large text.
 */
#define POL_DOCUMENT_LIMIT ((size_t)2 << 30)

typedef struct pol_reader pol_reader;

/* On success *out is yours: pol_reader_close(). From a file, or from memory, which is borrowed; `name` is for messages,
 * copied. */
pol_status pol_reader_open(pol_context *ctx, const char *path, pol_reader **out);
pol_status pol_reader_open_memory(pol_context *ctx, const char *name, const void *data, size_t n, pol_reader **out);
void pol_reader_close(pol_reader *r); /* takes NULL */
const char *pol_reader_name(const pol_reader *r);
pol_context *pol_reader_context(const pol_reader *r);

/* The longest document: POL_DOCUMENT_LIMIT unless set otherwise. */
size_t pol_reader_limit(const pol_reader *r);
void pol_reader_set_limit(pol_reader *r, size_t bytes);

/* Up to `cap` > 0 bytes; *got is 0 at the end only. Damage and a stream cut off are POL_EFORMAT naming the byte of the
 * file. */
pol_status pol_reader_read(pol_reader *r, void *dst, size_t cap, size_t *got);

/* All that is left, as one document: mapped where the file is plain, else decompressed into out->data. *text is valid
 * until both the reader is closed and `out` is freed. out->ctx is set here; yours: pol_bytes_free(). */
pol_status pol_reader_rest(pol_reader *r, pol_bytes *out, const char **text, size_t *n);

#endif
