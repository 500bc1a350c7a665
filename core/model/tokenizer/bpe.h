/* bpe.h - byte-pair encoding of one word: merge the best pair of neighbours until none is left.
 *
 * Two ways to say which pairs merge. By a table of pairs (tokenizer.json, GGUF gpt2): rank and result of each. By
 * concatenation (SentencePiece, GGUF llama, tiktoken): a pair merges where its bytes together are a token, ranked by
 * that token. In both the lowest rank goes first and the leftmost of equal ranks; a heap over a linked list makes that
 * O(n log n).
 */
#ifndef POL_BPE_H
#define POL_BPE_H

#include "core/model/tokenizer/literals.h"
#include "core/model/tokenizer/vocab.h"
#include "pollard/tokenizer.h"

#define POL_NO_RANK UINT32_MAX

typedef struct pol_bpe {
    pol_context *ctx;
    pol_table merges; /* left << 32 | right -> rank << 32 | result */
    uint32_t *rank;   /* [vocab.n] by concatenation, POL_NO_RANK: no result of a merge; NULL: by table */
    bool by_bytes;    /* the word's first symbols are bytes, else characters */
    bool whole_first; /* a word that is a token stays one, whatever the merges say */
    bool fuse_unknown;
    bool cuttable;              /* long text may be cut between characters that are neighbours in no token */
    pol_table adjacent;         /* which are: first << 32 | second */
    int32_t unknown;            /* -1: what has no token is dropped */
    int32_t byte_id[256];       /* by_bytes: the token of a byte; else its fallback token, -1 where there is none */
    const pol_literals *frozen; /* pieces that are symbols from the start and never merge; borrowed, may be NULL */
} pol_bpe;

void pol_bpe_init(pol_context *ctx, pol_bpe *bpe);
void pol_bpe_free(pol_bpe *bpe);
/* The pair (left, right) merges into `result`; a pair said twice counts with its last rank. */
pol_status pol_bpe_add_merge(pol_bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t result);
/* Sets cuttable and adjacent from the tokens that merges can make. Call when all merges or ranks are there. */
pol_status pol_bpe_find_cuts(pol_bpe *bpe, const pol_vocab *v);

/* Of a `cuttable` one: whether no merge crosses the place between the character `before` and the first of `text`
 * (UTF-8). That one must have a token, so that no run of unknown characters is cut in two. */
bool pol_bpe_may_cut(const pol_bpe *bpe, const pol_vocab *v, int32_t before, const char *text);

typedef struct pol_symbol {
    int32_t id;         /* -1: not looked up yet, or without a token */
    int32_t prev, next; /* -1 at the ends */
    uint32_t at, len;   /* len 0: merged into another */
    bool frozen;
} pol_symbol;

typedef struct pol_candidate {
    uint64_t key; /* rank << 32 | index of the left symbol: smallest first */
    int32_t result;
} pol_candidate;

/* Room to work in, one per thread. Zero-initialise with the context set. */
typedef struct pol_bpe_work {
    pol_context *ctx;
    pol_symbol *symbols;
    int64_t n, cap;
    pol_candidate *heap;
    int64_t heap_n, heap_cap;
} pol_bpe_work;

void pol_bpe_work_free(pol_bpe_work *w);

/* Appends the ids of the word. POL_ELIMIT above 2^31 - 1 bytes. */
pol_status pol_bpe_encode(const pol_bpe *bpe, const pol_vocab *v, pol_bpe_work *w, const char *word, size_t n,
                          pol_token_list *out);

#endif
