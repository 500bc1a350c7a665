/* tokenizer.h - text to token ids, exactly as the model's own tokenizer does it. */
#ifndef POLLARD_TOKENIZER_H
#define POLLARD_TOKENIZER_H

#include <stdbool.h>

#include "pollard/source.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pol_tokenizer pol_tokenizer;

/* From a model: a folder's tokenizer.json, else tokenizer.model (SentencePiece or tiktoken, told apart by content), with
 * tokenizer_config.json for the BOS policy; or the vocabulary inside a GGUF. On success *out is yours: pol_tokenizer_free(). */
POL_API pol_status pol_tokenizer_open(pol_source *src, pol_tokenizer **out);
/* From one file: tokenizer.json, tokenizer.model or a GGUF (one without tensors will do). */
POL_API pol_status pol_tokenizer_open_file(pol_context *ctx, const char *path, pol_tokenizer **out);
POL_API void pol_tokenizer_free(pol_tokenizer *tok); /* takes NULL */

typedef struct pol_token_list {
    int32_t *ids;
    int64_t n, cap;
} pol_token_list;

/* Appends the ids of `text` (UTF-8, n bytes; invalid UTF-8 is POL_EFORMAT with the byte offset). No BOS or EOS is added.
 * Special tokens written out in the text ("<s>") are matched only with parse_special; added tokens that are not special, and
 * SentencePiece's user-defined pieces, always. Thread-safe: the tokenizer is not changed.
 * list->ids is yours: pol_token_list_free(). After a failure the list holds what it held before. */
POL_API pol_status pol_tokenizer_encode(const pol_tokenizer *tok, pol_context *ctx, const char *text, size_t n,
                                        bool parse_special, pol_token_list *list);
/* The same, but stops soon after the list has `enough` ids; what it has beyond them are no whole text's ids. */
POL_API pol_status pol_tokenizer_encode_until(const pol_tokenizer *tok, pol_context *ctx, const char *text, size_t n,
                                              bool parse_special, int64_t enough, pol_token_list *list);
POL_API void pol_token_list_free(pol_context *ctx, pol_token_list *list);
POL_API pol_status pol_token_list_add(pol_context *ctx, pol_token_list *list, int32_t id);

/* The bytes of a token; borrowed. NULL for an id without a token. A SentencePiece vocabulary writes spaces as U+2581 and lone
 * bytes as "<0x0A>"; byte-level tokens are the plain bytes. */
POL_API const char *pol_tokenizer_token(const pol_tokenizer *tok, int32_t id, size_t *n);
POL_API int32_t pol_tokenizer_vocab(const pol_tokenizer *tok);

/* -1 where the model has none. `add_bos`: whether the model's own policy puts BOS before a text. */
POL_API int32_t pol_tokenizer_bos(const pol_tokenizer *tok);
POL_API int32_t pol_tokenizer_eos(const pol_tokenizer *tok);
POL_API bool pol_tokenizer_adds_bos(const pol_tokenizer *tok);
/* "bpe (tokenizer.json)", "sentencepiece (tokenizer.model)", "tiktoken", "gguf gpt2/smollm", ...: for reports. */
POL_API const char *pol_tokenizer_kind(const pol_tokenizer *tok);

#ifdef __cplusplus
}
#endif
#endif
