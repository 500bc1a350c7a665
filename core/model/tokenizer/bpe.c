/* bpe.c - the merge loop, and what a symbol without a token becomes. */
#include "core/model/tokenizer/bpe.h"

#include <string.h>

#include "core/base/utf8.h"
#include "core/model/tokenizer/unicode.h"

void pol_bpe_init(pol_context *ctx, pol_bpe *bpe)
{
    *bpe = (pol_bpe){.ctx = ctx, .merges = {.ctx = ctx}, .adjacent = {.ctx = ctx}, .unknown = -1};
    for (int b = 0; b < 256; b++)
        bpe->byte_id[b] = -1;
}

void pol_bpe_free(pol_bpe *bpe)
{
    pol_table_free(&bpe->merges);
    pol_table_free(&bpe->adjacent);
    pol_free(bpe->ctx, bpe->rank);
    bpe->rank = NULL;
}

static uint64_t pair_key(int32_t left, int32_t right) { return (uint64_t)(uint32_t)left << 32 | (uint32_t)right; }

pol_status pol_bpe_add_merge(pol_bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t result)
{
    return pol_table_set(&bpe->merges, pair_key(left, right), (uint64_t)rank << 32 | (uint32_t)result);
}

/* ---- cutting long text ----
 *
 * SentencePiece has no words: a whole text is one merge problem, its heap too large for any cache. But merges never
 * cross two neighbours that are neighbours in no token, so that the parts on both sides can be merged one after the
 * other. */

static pol_status note_neighbours(pol_bpe *bpe, const char *text, size_t n)
{
    if (!pol_utf8_check(text, n, NULL)) /* cannot be made from whole characters */
        return POL_OK;
    for (size_t i = 0, next; i < n; i = next) {
        next = i + pol_utf8_length(text + i);
        if (next < n)
            POL_TRY(pol_table_set(&bpe->adjacent, pair_key(pol_utf8_first(text + i), pol_utf8_first(text + next)), 1));
    }
    return POL_OK;
}

static bool stands_in(const pol_bpe *bpe, int32_t id)
{
    bool found = id == bpe->unknown;
    for (int b = 0; b < 256; b++)
        found = found || id == bpe->byte_id[b];
    return found;
}

pol_status pol_bpe_find_cuts(pol_bpe *bpe, const pol_vocab *v)
{
    bpe->cuttable = false;
    if (bpe->by_bytes || bpe->whole_first) /* words are short, or must be seen whole */
        return POL_OK;
    for (int b = 0; b < 256; b++) /* a character that is dropped makes neighbours of those beside it */
        if (!bpe->rank && bpe->unknown < 0 && bpe->byte_id[b] < 0)
            return POL_OK;
    for (int32_t id = 0; bpe->rank && id < v->n; id++) /* frozen pieces among them */
        if (bpe->rank[id] != POL_NO_RANK)
            POL_TRY(note_neighbours(bpe, pol_vocab_text(v, id), v->tokens[id].len));
    for (uint64_t i = 0; bpe->merges.slots && i <= bpe->merges.mask; i++) {
        const pol_table_slot *slot = &bpe->merges.slots[i];
        if (slot->value == POL_TABLE_EMPTY)
            continue;
        /* A token that stands for other text than its own tells nothing about neighbours. */
        if (stands_in(bpe, (int32_t)(slot->key >> 32)) || stands_in(bpe, (int32_t)(uint32_t)slot->key))
            return POL_OK;
        const int32_t id = (int32_t)(uint32_t)slot->value;
        POL_TRY(note_neighbours(bpe, pol_vocab_text(v, id), v->tokens[id].len));
    }
    bpe->cuttable = true;
    return POL_OK;
}

bool pol_bpe_may_cut(const pol_bpe *bpe, const pol_vocab *v, int32_t before, const char *text)
{
    if (pol_table_find(&bpe->adjacent, pair_key(before, pol_utf8_first(text)), NULL))
        return false;
    const int32_t id = pol_vocab_find(v, text, pol_utf8_length(text));
    return id >= 0 && id != bpe->unknown;
}

/* The end of the part that begins at `from`. */
static size_t next_cut(const pol_bpe *bpe, const pol_vocab *v, const char *text, size_t n, size_t from)
{
    size_t at = from + pol_utf8_length(text + from);
    int32_t before = pol_utf8_first(text + from);
    while (at < n && !pol_bpe_may_cut(bpe, v, before, text + at)) {
        before = pol_utf8_first(text + at);
        at += pol_utf8_length(text + at);
    }
    return at;
}

/* ---- room to work in ---- */

void pol_bpe_work_free(pol_bpe_work *w)
{
    pol_free(w->ctx, w->symbols);
    pol_free(w->ctx, w->heap);
    *w = (pol_bpe_work){.ctx = w->ctx};
}

static pol_status grow(pol_context *ctx, void **block, int64_t *cap, size_t size)
{
    const int64_t more = *cap ? 2 * *cap : 64;
    void *p = pol_realloc(ctx, *block, (size_t)more * size);
    if (!p)
        return POL_ENOMEM;
    *block = p;
    *cap = more;
    return POL_OK;
}

static inline pol_status add_symbol(pol_bpe_work *w, pol_symbol s)
{
    if (w->n == w->cap) {
        void *block = w->symbols;
        POL_TRY(grow(w->ctx, &block, &w->cap, sizeof *w->symbols));
        w->symbols = block;
    }
    s.prev = (int32_t)w->n - 1;
    s.next = (int32_t)w->n + 1;
    w->symbols[w->n++] = s;
    return POL_OK;
}

static inline pol_status push(pol_bpe_work *w, pol_candidate c)
{
    if (w->heap_n == w->heap_cap) {
        void *block = w->heap;
        POL_TRY(grow(w->ctx, &block, &w->heap_cap, sizeof *w->heap));
        w->heap = block;
    }
    int64_t i = w->heap_n++;
    for (; i > 0 && c.key < w->heap[(i - 1) / 2].key; i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = c;
    return POL_OK;
}

static inline pol_candidate pop(pol_bpe_work *w)
{
    const pol_candidate top = w->heap[0], last = w->heap[--w->heap_n];
    int64_t i = 0;
    for (;;) {
        int64_t child = 2 * i + 1;
        if (child >= w->heap_n)
            break;
        if (child + 1 < w->heap_n && w->heap[child + 1].key < w->heap[child].key)
            child++;
        if (last.key <= w->heap[child].key)
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

/* ---- merging ---- */

typedef struct job {
    const pol_bpe *bpe;
    const pol_vocab *v;
    pol_bpe_work *w;
    const char *text;
} job;

/* Rank and result of the pair that begins at symbol `left`; false where it does not merge. */
static inline bool look_up(const job *j, int32_t left, uint32_t *rank, int32_t *result)
{
    const pol_symbol *a = &j->w->symbols[left], *b = &j->w->symbols[a->next];
    if (a->frozen || b->frozen)
        return false;
    if (j->bpe->rank) {
        *result = pol_vocab_find(j->v, j->text + a->at, (size_t)a->len + b->len);
        if (*result < 0)
            return false;
        *rank = j->bpe->rank[*result];
        return *rank != POL_NO_RANK;
    }
    const pol_table_slot *slot = pol_table_find(&j->bpe->merges, pair_key(a->id, b->id), NULL);
    if (!slot)
        return false;
    *rank = (uint32_t)(slot->value >> 32);
    *result = (int32_t)(uint32_t)slot->value;
    return true;
}

static inline pol_status consider(const job *j, int32_t left)
{
    uint32_t rank;
    int32_t result;
    if (left < 0 || j->w->symbols[left].next < 0 || !look_up(j, left, &rank, &result))
        return POL_OK;
    return push(j->w, (pol_candidate){(uint64_t)rank << 32 | (uint32_t)left, result});
}

/* Whether the pair at `left` still makes `result`. Where a table is used, another pair than the one that was pushed may
 * make it by now; it then merges at the older rank, as in the tokenizers library. */
static inline bool still_valid(const job *j, int32_t left, int32_t result)
{
    const pol_symbol *a = &j->w->symbols[left];
    if (!a->len || a->next < 0)
        return false;
    if (j->bpe->rank)
        return a->len + j->w->symbols[a->next].len == j->v->tokens[result].len;
    uint32_t rank;
    int32_t now;
    return look_up(j, left, &rank, &now) && now == result;
}

static pol_status merge_all(const job *j)
{
    pol_bpe_work *w = j->w;
    w->heap_n = 0;
    if (w->n)
        w->symbols[w->n - 1].next = -1;
    for (int64_t i = 0; i + 1 < w->n; i++)
        POL_TRY(consider(j, (int32_t)i));
    while (w->heap_n) {
        const pol_candidate top = pop(w);
        const int32_t left = (int32_t)(uint32_t)top.key;
        if (!still_valid(j, left, top.result))
            continue;
        pol_symbol *a = &w->symbols[left], *b = &w->symbols[a->next];
        a->id = top.result;
        a->len += b->len;
        a->next = b->next;
        b->len = 0;
        if (a->next >= 0)
            w->symbols[a->next].prev = left;
        POL_TRY(consider(j, a->prev));
        POL_TRY(consider(j, left));
    }
    return POL_OK;
}

/* ---- symbols at the start, ids at the end ---- */

static pol_status split_bytes(const job *j, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const int32_t id = j->bpe->byte_id[(uint8_t)j->text[i]];
        if (id >= 0)
            POL_TRY(add_symbol(j->w, (pol_symbol){.id = id, .at = (uint32_t)i, .len = 1}));
        else if (j->bpe->unknown >= 0)
            POL_TRY(add_symbol(j->w, (pol_symbol){.id = j->bpe->unknown, .at = (uint32_t)i, .len = 1}));
    }
    return POL_OK;
}

/* By table: each character has its id now. An unknown run that is waiting when bytes stand in for a character comes
 * after them, as in the tokenizers library. */
static pol_status split_known(const job *j, size_t n)
{
    const pol_bpe *bpe = j->bpe;
    pol_symbol unknown = {.id = bpe->unknown};
    for (size_t i = 0, len; i < n; i += len) {
        len = pol_utf8_length(j->text + i);
        const int32_t id = pol_vocab_find(j->v, j->text + i, len);
        if (id >= 0) {
            if (unknown.len)
                POL_TRY(add_symbol(j->w, unknown));
            unknown.len = 0;
            POL_TRY(add_symbol(j->w, (pol_symbol){.id = id, .at = (uint32_t)i, .len = (uint32_t)len}));
            continue;
        }
        bool all = true;
        for (size_t k = 0; k < len; k++)
            all = all && bpe->byte_id[(uint8_t)j->text[i + k]] >= 0;
        if (all) {
            for (size_t k = 0; k < len; k++)
                POL_TRY(add_symbol(
                    j->w,
                    (pol_symbol){.id = bpe->byte_id[(uint8_t)j->text[i + k]], .at = (uint32_t)(i + k), .len = 1}));
            continue;
        }
        if (bpe->unknown < 0)
            continue;
        if (unknown.len && !bpe->fuse_unknown) {
            POL_TRY(add_symbol(j->w, unknown));
            unknown.len = 0;
        }
        if (!unknown.len)
            unknown.at = (uint32_t)i;
        unknown.len += (uint32_t)len;
    }
    return unknown.len ? add_symbol(j->w, unknown) : POL_OK;
}

/* By concatenation: ids come with the merges; a user-defined piece is one symbol. */
static pol_status split_characters(const job *j, size_t n)
{
    for (size_t i = 0, len; i < n; i += len) {
        const pol_literal *lit = j->bpe->frozen ? pol_literals_at(j->bpe->frozen, j->text + i, n - i) : NULL;
        len = lit ? lit->len : pol_utf8_length(j->text + i);
        POL_TRY(add_symbol(
            j->w, (pol_symbol){.id = lit ? lit->id : -1, .at = (uint32_t)i, .len = (uint32_t)len, .frozen = lit}));
    }
    return POL_OK;
}

static pol_status put(const job *j, pol_token_list *out, int32_t id) { return pol_token_list_add(j->w->ctx, out, id); }

/* The ids of what is left. A character without a token becomes its bytes' tokens, else the unknown token. */
static pol_status collect(const job *j, pol_token_list *out)
{
    const pol_bpe *bpe = j->bpe;
    bool after_unknown = false;
    for (int32_t i = j->w->n ? 0 : -1; i >= 0; i = j->w->symbols[i].next) {
        const pol_symbol *s = &j->w->symbols[i];
        int32_t id = s->id;
        if (id < 0)
            id = pol_vocab_find(j->v, j->text + s->at, s->len);
        if (!bpe->rank || bpe->by_bytes || (id >= 0 && id != bpe->unknown)) {
            POL_TRY(put(j, out, id));
            after_unknown = false;
            continue;
        }
        bool all = true;
        for (uint32_t k = 0; k < s->len; k++)
            all = all && bpe->byte_id[(uint8_t)j->text[s->at + k]] >= 0;
        for (uint32_t k = 0; all && k < s->len; k++)
            POL_TRY(put(j, out, bpe->byte_id[(uint8_t)j->text[s->at + k]]));
        if (!all && bpe->unknown >= 0 && !(after_unknown && bpe->fuse_unknown))
            POL_TRY(put(j, out, bpe->unknown));
        after_unknown = !all;
    }
    return POL_OK;
}

static pol_status encode_piece(const job *j, size_t n, pol_token_list *out)
{
    if (j->bpe->whole_first) {
        const int32_t id = pol_vocab_find(j->v, j->text, n);
        if (id >= 0)
            return put(j, out, id);
    }
    j->w->n = 0;
    POL_TRY(j->bpe->by_bytes ? split_bytes(j, n) : j->bpe->rank ? split_characters(j, n) : split_known(j, n));
    POL_TRY(merge_all(j));
    return collect(j, out);
}

pol_status pol_bpe_encode(const pol_bpe *bpe, const pol_vocab *v, pol_bpe_work *w, const char *word, size_t n,
                          pol_token_list *out)
{
    if (n > INT32_MAX)
        return pol_fail(w->ctx, POL_ELIMIT, "a text of %zu bytes that cannot be cut: more than %d", n, INT32_MAX);
    for (size_t at = 0, end; at < n; at = end) {
        end = bpe->cuttable ? next_cut(bpe, v, word, n, at) : n;
        const job j = {bpe, v, w, word + at};
        POL_TRY(encode_piece(&j, end - at, out));
    }
    return POL_OK;
}
