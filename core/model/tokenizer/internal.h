/* internal.h - the tokenizer's parts, and the readers that fill them.
 *
 * Every kind is the same pipeline: cut out the tokens that are found as literals; normalize what lies between; cut out
 * the literals of the normalized text; cut into words; merge each word. The readers only set it up.
 */
#ifndef POL_TOKENIZER_INTERNAL_H
#define POL_TOKENIZER_INTERNAL_H

#include <jansson.h>

#include "core/model/gguf.h"
#include "core/model/tokenizer/bpe.h"
#include "core/model/tokenizer/pretokenize.h"

/* What a GGUF vocabulary said about itself: enough to write it as a tokenizer.json. */
typedef enum pol_gguf_vocab { POL_GGUF_NONE = 0, POL_GGUF_LLAMA, POL_GGUF_GPT2 } pol_gguf_vocab;

struct pol_tokenizer {
    pol_context *ctx;
    char *kind;
    pol_vocab vocab;
    bool byte_level; /* token bytes are stored plainly; a file spells them in GPT-2's alphabet */
    pol_bpe bpe;
    pol_literals raw;        /* found in the text as it is given */
    pol_literals normalized; /* found in the normalized text */
    pol_literals user;       /* SentencePiece's user-defined pieces */
    pol_normalizer normalizer;
    pol_splitter splitter;
    int32_t bos, eos;
    bool add_bos;
    bool by_lines; /* text may be encoded in pieces that end with a line */
    pol_gguf_vocab gguf;
    bool space_prefix; /* of a GGUF: a space goes before the text */
};

/* All from memory; `name` stands for the file in messages. On success *out is yours: pol_tokenizer_free(). */
pol_status pol_tokenizer_from_json(pol_context *ctx, const char *name, const void *text, size_t n, pol_tokenizer **out);
pol_status pol_tokenizer_from_model(pol_context *ctx, const char *name, const void *data, size_t n,
                                    pol_tokenizer **out);
pol_status pol_tokenizer_from_gguf(pol_context *ctx, const pol_gguf *g, pol_tokenizer **out);
/* The BOS policy of a tokenizer_config.json: add_bos_token, bos_token, eos_token, where it has them. */
pol_status pol_tokenizer_apply_config(pol_tokenizer *tok, const char *name, const json_t *config);

/* ---- between the readers ---- */

pol_status pol_tokenizer_new(pol_context *ctx, const char *kind, pol_tokenizer **out);
/* Seals the literals and finds where text may be cut; the last thing that a reader does. */
pol_status pol_tokenizer_finish(pol_tokenizer *tok);
/* Whether normalizing and literals stay within lines, and merges do where pol_bpe_may_cut says so. */
bool pol_lines_are_independent(const pol_tokenizer *tok);
/* The id of a token by its spelling in a file, -1 where there is none. */
int32_t pol_tokenizer_id(const pol_tokenizer *tok, const char *spelling, size_t n);

pol_status pol_read_sentencepiece(pol_tokenizer *tok, const char *name, const uint8_t *data, size_t n);
pol_status pol_read_tiktoken(pol_tokenizer *tok, const char *name, const uint8_t *data, size_t n);
/* The normalizer and pre_tokenizer of tokenizer.json; NULL or null are none. byte_level is set by a ByteLevel step. */
pol_status pol_read_normalizer(pol_context *ctx, const char *name, const json_t *j, pol_normalizer *nz);
pol_status pol_read_pre_tokenizer(pol_context *ctx, const char *name, const json_t *j, pol_splitter *sp,
                                  bool *byte_level);

/* SentencePiece merges: the rank of every token from its score, equal scores equal ranks. `usable` tells by id which
 * tokens a merge may make. */
pol_status pol_rank_by_score(pol_tokenizer *tok, const float *score, const bool *usable);
/* byte_id[] from the tokens "<0x00>".."<0xFF>" (of type BYTE, where `typed`); false where one is missing. */
bool pol_find_byte_tokens(pol_tokenizer *tok, bool typed);

/* GPT-2's alphabet: bytes that print stand for themselves, the others for characters from U+0100 on. */
pol_status pol_spell_bytes(pol_bytes *out, const char *bytes, size_t n);
/* The bytes behind a spelling; *spelled is false, and nothing is written, where it uses other characters. */
pol_status pol_unspell_bytes(pol_bytes *out, const char *spelling, size_t n, bool *spelled);
/* pol_vocab_set for a byte-level vocabulary: the token is stored as its bytes. `scratch` is room to work in. */
pol_status pol_set_byte_level(pol_tokenizer *tok, const char *where, int64_t id, const char *spelling, size_t n,
                              pol_token_type type, pol_bytes *scratch);
/* byte_id[] of a byte-level vocabulary. */
void pol_find_single_bytes(pol_tokenizer *tok);

#endif
