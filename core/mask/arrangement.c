/* arrangement.c - the prefix order: minimal swaps for a mask, and the way to any given order. */
#include "core/mask/arrangement.h"

#include <string.h>

#include "core/mask/units.h"

pol_status pol_arrangement_new(const pol_units *u, pol_arrangement **out)
{
    *out = NULL;
    pol_arrangement *arr = pol_alloc_zero(u->ctx, sizeof *arr);
    if (!arr)
        return POL_ENOMEM;
    arr->units = u;
    arr->size = u->n_of[POL_UNIT_GROUP] + u->n_of[POL_UNIT_CHANNEL];
    arr->order = pol_alloc_array(u->ctx, arr->size, sizeof *arr->order);
    arr->position = pol_alloc_array(u->ctx, arr->size, sizeof *arr->position);
    arr->seen = pol_alloc_array(u->ctx, arr->size, sizeof *arr->seen);
    arr->kept = pol_alloc_array(u->ctx, 2 * (int64_t)u->n_layers, sizeof *arr->kept);
    if (!arr->order || !arr->position || !arr->seen || !arr->kept) {
        pol_arrangement_free(arr);
        return POL_ENOMEM;
    }
    for (int64_t i = 0; i < arr->size; i++)
        arr->order[i] = arr->position[i] = (int32_t)i;
    for (int64_t i = 0; i < 2 * (int64_t)u->n_layers; i++) {
        arr->kept[i] = u->sections[i].count;
        arr->max_pairs = pol_max_i64(arr->max_pairs, u->sections[i].count / 2);
    }
    *out = arr;
    return POL_OK;
}

void pol_arrangement_free(pol_arrangement *arr)
{
    if (!arr)
        return;
    pol_context *ctx = arr->units->ctx;
    pol_free(ctx, arr->order);
    pol_free(ctx, arr->position);
    pol_free(ctx, arr->seen);
    pol_free(ctx, arr->kept);
    pol_free(ctx, arr);
}

/* Exchanges the units at two order indices. */
static void exchange(pol_arrangement *arr, int64_t i, int64_t j)
{
    const int32_t unit = arr->order[i];
    arr->order[i] = arr->order[j];
    arr->order[j] = unit;
    arr->position[arr->order[i]] = (int32_t)i;
    arr->position[arr->order[j]] = (int32_t)j;
}

void pol_arrangement_plan(pol_arrangement *arr, int32_t layer, pol_unit_kind kind, const uint8_t *mask, int32_t *a,
                          int32_t *b, int64_t *n_pairs, int64_t *n_kept)
{
    const pol_section *sec = pol_units_section(arr->units, kind, layer);
    const int64_t kept = pol_section_kept(arr->units, mask, kind, layer);
    *n_pairs = 0;
    *n_kept = arr->kept[(int64_t)kind * arr->units->n_layers + layer] = kept;
    if (kept == 0 || kept == sec->count)
        return;
    /* As many removed units lie inside the new prefix as kept ones outside, so the two walks end together. */
    int64_t outside = kept;
    for (int64_t inside = 0; inside < kept; inside++) {
        if (mask[arr->order[sec->first + inside]])
            continue;
        while (!mask[arr->order[sec->first + outside]])
            outside++;
        a[*n_pairs] = (int32_t)inside;
        b[*n_pairs] = (int32_t)outside;
        ++*n_pairs;
        exchange(arr, sec->first + inside, sec->first + outside);
        outside++;
    }
}

void pol_arrangement_reset(pol_arrangement *arr, int32_t layer)
{
    for (int kind = POL_UNIT_GROUP; kind <= POL_UNIT_CHANNEL; kind++) {
        const pol_section *sec = pol_units_section(arr->units, (pol_unit_kind)kind, layer);
        for (int64_t i = sec->first; i < sec->first + sec->count; i++)
            arr->order[i] = arr->position[i] = (int32_t)i;
    }
}

pol_status pol_arrangement_check(pol_arrangement *arr, const int32_t *order)
{
    memset(arr->seen, 0, (size_t)arr->size);
    for (int64_t k = 0; k < 2 * (int64_t)arr->units->n_layers; k++) {
        const pol_section *sec = &arr->units->sections[k];
        for (int64_t i = sec->first; i < sec->first + sec->count; i++) {
            if (order[i] < sec->first || order[i] >= sec->first + sec->count || arr->seen[order[i]])
                return pol_fail(arr->units->ctx, POL_EARG,
                                "order[%lld] is %d: %s layer %d are units %lld..%lld, each once", (long long)i,
                                order[i], pol_unit_kind_name(sec->kind), sec->layer, (long long)sec->first,
                                (long long)(sec->first + sec->count - 1));
            arr->seen[order[i]] = 1;
        }
    }
    return POL_OK;
}

/* Following i -> the index that holds order[i] gives cycles p_0, p_1, ..., p_{k-1}: p_j wants what lies at p_{j+1}.
 * Exchanging p_j with p_{k-1-j} reverses the cycle; what remains to do is then again a set of exchanges, p_j with
 * p_{k-2-j} (indices modulo k), which are cycles of length 2 that the next round reverses. */
void pol_arrangement_approach(pol_arrangement *arr, int32_t layer, pol_unit_kind kind, const int32_t *order, int32_t *a,
                              int32_t *b, int64_t *n_pairs)
{
    const pol_section *sec = pol_units_section(arr->units, kind, layer);
    *n_pairs = 0;
    memset(arr->seen + sec->first, 0, (size_t)sec->count);
    for (int64_t start = sec->first; start < sec->first + sec->count; start++) {
        if (arr->seen[start])
            continue;
        /* The first half of the cycle goes into a, the second half, walked on, into b from its far end. */
        int64_t length = 0;
        for (int64_t i = start; !arr->seen[i]; i = arr->position[order[i]], length++)
            arr->seen[i] = 1;
        int64_t i = start;
        for (int64_t j = 0; j < length; j++, i = arr->position[order[i]]) {
            if (j < length / 2)
                a[*n_pairs + j] = (int32_t)(i - sec->first);
            else if (j >= length - length / 2)
                b[*n_pairs + length - 1 - j] = (int32_t)(i - sec->first);
        }
        *n_pairs += length / 2;
    }
    for (int64_t i = 0; i < *n_pairs; i++)
        exchange(arr, sec->first + a[i], sec->first + b[i]);
}
