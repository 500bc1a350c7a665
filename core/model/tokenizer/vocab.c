/* vocab.c - tokens by id and by their bytes. */
#include "core/model/tokenizer/vocab.h"

#include <string.h>

#define XXH_INLINE_ALL /* most keys are a few bytes: the call would cost more than the hash */
#include <xxhash.h>

static pol_status grow(pol_table *t)
{
    const uint64_t slots = t->slots ? 2 * (t->mask + 1) : 64;
    pol_table_slot *old = t->slots, *fresh = pol_alloc_array(t->ctx, (int64_t)slots, sizeof *fresh);
    if (!fresh)
        return POL_ENOMEM;
    for (uint64_t i = 0; i < slots; i++)
        fresh[i].value = POL_TABLE_EMPTY;
    for (uint64_t i = 0; old && i <= t->mask; i++) {
        if (old[i].value == POL_TABLE_EMPTY)
            continue;
        uint64_t at = pol_table_mix(old[i].key);
        while (fresh[at & (slots - 1)].value != POL_TABLE_EMPTY)
            at++;
        fresh[at & (slots - 1)] = old[i];
    }
    pol_free(t->ctx, old);
    t->slots = fresh;
    t->mask = slots - 1;
    return POL_OK;
}

pol_status pol_table_add(pol_table *t, uint64_t key, uint64_t value)
{
    if (!t->slots || (uint64_t)t->n * 2 > t->mask)
        POL_TRY(grow(t));
    uint64_t i = pol_table_mix(key);
    while (t->slots[i & t->mask].value != POL_TABLE_EMPTY)
        i++;
    t->slots[i & t->mask] = (pol_table_slot){key, value};
    t->n++;
    return POL_OK;
}

pol_status pol_table_set(pol_table *t, uint64_t key, uint64_t value)
{
    pol_table_slot *s = pol_table_find(t, key, NULL);
    if (!s)
        return pol_table_add(t, key, value);
    s->value = value;
    return POL_OK;
}

void pol_table_free(pol_table *t)
{
    pol_free(t->ctx, t->slots);
    t->slots = NULL;
    t->mask = 0;
    t->n = 0;
}

void pol_vocab_init(pol_context *ctx, pol_vocab *v)
{
    *v = (pol_vocab){.ctx = ctx, .text = {.ctx = ctx}, .index = {.ctx = ctx}};
}

pol_status pol_vocab_resize(pol_vocab *v, int64_t n)
{
    if (n > INT32_MAX / 2)
        return pol_fail(v->ctx, POL_ELIMIT, "vocabulary of %lld tokens: more than %d", (long long)n, INT32_MAX / 2);
    pol_token *t = pol_realloc(v->ctx, v->tokens, (size_t)n * sizeof *t);
    if (!t)
        return POL_ENOMEM;
    for (int64_t i = v->n; i < n; i++)
        t[i] = (pol_token){.type = POL_TOKEN_ABSENT};
    v->tokens = t;
    v->n = (int32_t)n;
    return POL_OK;
}

pol_status pol_vocab_set(pol_vocab *v, const char *where, int64_t id, const char *text, size_t n, pol_token_type type,
                         bool indexed)
{
    if (id < 0 || id >= v->n)
        return pol_fail(v->ctx, POL_EFORMAT, "%s: token id %lld is outside the vocabulary of %d", where, (long long)id,
                        v->n);
    if (v->tokens[id].type != POL_TOKEN_ABSENT)
        return pol_fail(v->ctx, POL_EFORMAT, "%s: token id %lld is given twice", where, (long long)id);
    if (n > UINT32_MAX / 2)
        return pol_fail(v->ctx, POL_EFORMAT, "%s: token %lld has %zu bytes", where, (long long)id, n);
    if (indexed) {
        const int32_t twin = pol_vocab_find(v, text, n);
        if (twin >= 0)
            return pol_fail(v->ctx, POL_EFORMAT, "%s: tokens %d and %lld are both '%.*s'", where, twin, (long long)id,
                            (int)(n < 40 ? n : 40), text);
        POL_TRY(pol_table_add(&v->index, XXH3_64bits(text, n), (uint64_t)id));
        if (n > v->longest)
            v->longest = (uint32_t)n;
    }
    const size_t at = v->text.len;
    POL_TRY(pol_bytes_add(&v->text, text, n));
    v->tokens[id] = (pol_token){.at = at, .len = (uint32_t)n, .type = (uint8_t)type};
    return POL_OK;
}

int32_t pol_vocab_find(const pol_vocab *v, const char *text, size_t n)
{
    if (n > v->longest)
        return -1;
    const uint64_t hash = XXH3_64bits(text, n);
    for (const pol_table_slot *s = NULL; (s = pol_table_find(&v->index, hash, s));) {
        const pol_token *t = &v->tokens[s->value];
        if (t->len == n && memcmp(v->text.data + t->at, text, n) == 0)
            return (int32_t)s->value;
    }
    return -1;
}

void pol_vocab_free(pol_vocab *v)
{
    pol_bytes_free(&v->text);
    pol_free(v->ctx, v->tokens);
    pol_table_free(&v->index);
    v->tokens = NULL;
    v->n = 0;
}
