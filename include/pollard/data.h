/* data.h - text files to packed sequences of tokens. */
#ifndef POLLARD_DATA_H
#define POLLARD_DATA_H

#include "pollard/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* AUTO: JSONL by name (.jsonl, .ndjson, .json before .gz or .zst), WikiText by content (its first line that is not blank is a heading,
 * " = Title = "), else plain. WIKITEXT joins the lines as the papers do: blank lines are empty rows, rows are joined by "\n\n". */
typedef enum pol_text_format { POL_TEXT_AUTO = 0, POL_TEXT_PLAIN, POL_TEXT_JSONL, POL_TEXT_WIKITEXT } pol_text_format;

/* Where BOS goes. MODEL: DOCUMENT where the tokenizer's own policy adds BOS, else NONE. DOCUMENT: before each document (a
 * plain text is one document, a JSONL line is one). SEQUENCE: the first token of every packed sequence; seq_len - 1 text tokens
 * follow. BOTH: as SEQUENCE, and before each document among those that follow. */
typedef enum pol_bos { POL_BOS_MODEL = 0, POL_BOS_DOCUMENT, POL_BOS_SEQUENCE, POL_BOS_NONE, POL_BOS_BOTH } pol_bos;
POL_API const char *pol_bos_name(pol_bos b); /* "document", ... */
POL_API const char *pol_text_format_name(pol_text_format f);

typedef struct pol_text_options {
    pol_text_format format;
    const char *field;     /* of a JSONL object; NULL = "text" */
    const char *separator; /* of documents in a plain text ("<|endoftext|>"), whose surrounding white space then goes; NULL = one document */
} pol_text_options;

/* Called once a document, in file order. A negative status stops the reading and is passed up. `text` is valid UTF-8, not
 * empty, valid during the call. */
typedef pol_status (*pol_document_fn)(void *user, const char *text, size_t n);

/* Reads one file, plain or compressed (.gz, .zst by magic number). Errors name file and line: invalid UTF-8, a JSONL line that is
 * no object or lacks the field, damaged compression, no document at all. `o` may be NULL:
 * all defaults. `used` (may be NULL) gets the format found. */
POL_API pol_status pol_text_read(pol_context *ctx, const char *path, const pol_text_options *o, pol_document_fn fn, void *user,
                                 pol_text_format *used);

/* Sequences of equal length, without padding: documents are tokenised one by one, concatenated in file order and cut; the
 * remainder at the very end is dropped. A special token written out in a text ("<s>", "<unk>") is text like any other: what
 * is read is data, and no web page may end a document or put BOS into the stream. transformers matches them by default. */
typedef struct pol_sequences {
    pol_context *ctx;
    int64_t n, seq_len;
    int32_t *ids;        /* [n, seq_len] */
    int64_t documents;   /* read; the last one in part, where `limit` was reached in it */
    int64_t text_tokens; /* of what was read, before cutting; BOS of documents included */
    pol_bos bos;         /* as applied; never MODEL */
    pol_text_format format; /* as found in the first file */
    char hash[33];       /* XXH3-128 over ids: the calibration set's identity */
} pol_sequences;

/* `limit`: at most so many sequences (0 = all; reading stops early). On success the contents are yours: pol_sequences_free().
 * POL_EFORMAT where the text gives no whole sequence, or a token id is >= vocab (the model's). */
POL_API pol_status pol_sequences_read(pol_context *ctx, const pol_tokenizer *tok, int32_t vocab, const char *const *paths,
                                      int64_t n_paths, const pol_text_options *o, int64_t seq_len, pol_bos bos, int64_t limit,
                                      pol_sequences *out);
POL_API void pol_sequences_free(pol_sequences *s); /* takes a zeroed one */

#ifdef __cplusplus
}
#endif
#endif
