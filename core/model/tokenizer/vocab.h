/* vocab.h - the tokens of a tokenizer and the one hash table that all its maps use. */
#ifndef POL_VOCAB_H
#define POL_VOCAB_H

#include "core/base/base.h"

/* An open-addressing table from 64-bit keys to 64-bit values. A key may be added more than once: a map whose real keys
 * are strings stores their hashes and tells equal hashes apart itself. Zero-initialise with the context set. */
typedef struct pol_table_slot {
    uint64_t key, value;
} pol_table_slot;

#define POL_TABLE_EMPTY UINT64_MAX /* as a value: the slot is free */

typedef struct pol_table {
    pol_context *ctx;
    pol_table_slot *slots;
    uint64_t mask;
    int64_t n;
} pol_table;

pol_status pol_table_add(pol_table *t, uint64_t key, uint64_t value);
pol_status pol_table_set(pol_table *t, uint64_t key, uint64_t value); /* replaces the value of an equal key */
void pol_table_free(pol_table *t);

static inline uint64_t pol_table_mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

/* The next slot of `key` after `slot` (NULL: the first one); NULL where there is none. */
static inline pol_table_slot *pol_table_find(const pol_table *t, uint64_t key, const pol_table_slot *slot)
{
    if (!t->slots)
        return NULL;
    uint64_t i = slot ? (uint64_t)(slot - t->slots) + 1 : pol_table_mix(key);
    for (;; i++) {
        pol_table_slot *s = &t->slots[i & t->mask];
        if (s->value == POL_TABLE_EMPTY)
            return NULL;
        if (s->key == key)
            return s;
    }
}

/* The numbers are those of SentencePiece and of GGUF. */
typedef enum pol_token_type {
    POL_TOKEN_ABSENT = 0, /* a hole in the numbering */
    POL_TOKEN_NORMAL = 1,
    POL_TOKEN_UNKNOWN = 2,
    POL_TOKEN_CONTROL = 3,
    POL_TOKEN_USER = 4,
    POL_TOKEN_UNUSED = 5,
    POL_TOKEN_BYTE = 6
} pol_token_type;

typedef struct pol_token {
    size_t at; /* in vocab->text */
    uint32_t len;
    uint8_t type;  /* pol_token_type */
    bool verbatim; /* of a byte-level vocabulary, but not written in its alphabet: kept as the file has it */
} pol_token;

typedef struct pol_vocab {
    pol_context *ctx;
    pol_bytes text;
    pol_token *tokens;
    int32_t n;
    uint32_t longest; /* bytes, of the indexed tokens */
    pol_table index;
} pol_vocab;

void pol_vocab_init(pol_context *ctx, pol_vocab *v);
pol_status pol_vocab_resize(pol_vocab *v, int64_t n); /* new ids are absent */
/* Gives a token to an absent id; equal bytes under two ids, an id taken or outside are POL_EFORMAT with `where`. Tokens
 * that are not `indexed` are never found by their bytes. */
pol_status pol_vocab_set(pol_vocab *v, const char *where, int64_t id, const char *text, size_t n, pol_token_type type,
                         bool indexed);
int32_t pol_vocab_find(const pol_vocab *v, const char *text, size_t n); /* -1 where there is none */
void pol_vocab_free(pol_vocab *v);

static inline const char *pol_vocab_text(const pol_vocab *v, int32_t id) { return v->text.data + v->tokens[id].at; }

#endif
