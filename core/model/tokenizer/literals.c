/* literals.c - leftmost-longest search for a set of strings. The sets are small and their first bytes rare ('<',
 * mostly), so an index by first byte is enough. */
#include "core/model/tokenizer/literals.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/utf8.h"
#include "core/model/tokenizer/unicode.h"

pol_status pol_literals_add(pol_literals *l, const char *where, const char *text, size_t n, pol_literal flags)
{
    if (!n)
        return POL_OK;
    if (!pol_utf8_check(text, n, NULL))
        return pol_fail(l->ctx, POL_EFORMAT, "%s: token %d is to be found in text, but is not UTF-8", where, flags.id);
    if (l->n == l->cap) {
        const int64_t cap = l->cap ? 2 * l->cap : 16;
        pol_literal *items = pol_realloc(l->ctx, l->items, (size_t)cap * sizeof *items);
        if (!items)
            return POL_ENOMEM;
        l->items = items;
        l->cap = cap;
    }
    flags.len = n;
    flags.text = pol_strndup(l->ctx, text, n);
    if (!flags.text)
        return POL_ENOMEM;
    l->items[l->n++] = flags;
    return POL_OK;
}

static int first_byte_then_longest(const void *a, const void *b)
{
    const pol_literal *x = a, *y = b;
    const uint8_t p = (uint8_t)x->text[0], q = (uint8_t)y->text[0];
    if (p != q)
        return p < q ? -1 : 1;
    if (x->len != y->len)
        return x->len > y->len ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

void pol_literals_seal(pol_literals *l)
{
    if (l->n)
        qsort(l->items, (size_t)l->n, sizeof *l->items, first_byte_then_longest);
    int64_t i = 0;
    for (int b = 0; b < 257; b++) {
        while (i < l->n && (uint8_t)l->items[i].text[0] < b)
            i++;
        l->first[b] = i;
    }
}

void pol_literals_free(pol_literals *l)
{
    for (int64_t i = 0; i < l->n; i++)
        pol_free(l->ctx, l->items[i].text);
    pol_free(l->ctx, l->items);
    l->items = NULL;
    l->n = l->cap = 0;
}

const pol_literal *pol_literals_at(const pol_literals *l, const char *text, size_t n)
{
    if (!n)
        return NULL;
    const uint8_t b = (uint8_t)text[0];
    for (int64_t i = l->first[b]; i < l->first[b + 1]; i++)
        if (l->items[i].len <= n && memcmp(text, l->items[i].text, l->items[i].len) == 0)
            return &l->items[i];
    return NULL;
}

static bool stands_alone(const char *text, size_t n, size_t start, size_t end)
{
    return (start == 0 || !pol_is_word(pol_utf8_last(text, start))) &&
           (end == n || !pol_is_word(pol_utf8_first(text + end)));
}

const pol_literal *pol_literals_next(const pol_literals *l, const char *text, size_t n, bool special, size_t done,
                                     size_t *from, size_t *start, size_t *end)
{
    while (l->n && *from < n) {
        const size_t at = *from;
        const pol_literal *lit = pol_literals_at(l, text + at, n - at);
        if (!lit) {
            ++*from;
            continue;
        }
        const size_t stop = *from = at + lit->len;
        if ((lit->special && !special) || (lit->single_word && !stands_alone(text, n, at, stop)))
            continue;
        *start = at > done ? at : done;
        *end = stop;
        while (lit->lstrip && *start > done && pol_is_space(pol_utf8_last(text, *start)))
            *start -= pol_utf8_last_length(text, *start);
        while (lit->rstrip && *end < n && pol_is_space(pol_utf8_first(text + *end)))
            *end += pol_utf8_length(text + *end);
        return lit;
    }
    return NULL;
}
