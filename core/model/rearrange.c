/* rearrange.c - applying a mask: unit rows change places until the kept ones are the prefix of every buffer.
 *
 * Of a streamed model a mask changes the books alone, exactly as it would those of a resident one; rows follow when a
 * layer visits. So sums run in the same order and numbers are the same, bit for bit.
 */
#include <string.h>

#include "core/model/weights.h"

pol_status pol_model_check_whole(const pol_model *m)
{
    if (m->torn)
        return pol_fail(m->ctx, POL_EARG,
                        "model: an earlier failure left its rows half moved; it must be loaded again");
    return POL_OK;
}

/* What has to change places, gathered over layers: one call of the op moves it all. */
typedef struct moves {
    pol_swap_args *swap; /* [layers * POL_PARTS] */
    int64_t n;
    int32_t *a, *b; /* the pairs of the swaps so far */
    int64_t n_pairs;
} moves;

/* Room for so many layers, of each of which groups and channels may have to move. */
static pol_status moves_new(pol_model *m, int64_t layers, moves *v)
{
    const int64_t room = layers * 2 * m->arrangement->max_pairs;
    *v = (moves){.swap = pol_alloc_array(m->ctx, layers * POL_PARTS, sizeof *v->swap),
                 .a = pol_alloc_array(m->ctx, 2 * room, sizeof *v->a)};
    v->b = v->a ? v->a + room : NULL;
    return v->swap && v->a ? POL_OK : POL_ENOMEM;
}

static void moves_free(pol_model *m, moves *v)
{
    pol_free(m->ctx, v->swap);
    pol_free(m->ctx, v->a);
}

/* The n pairs after those gathered so far change places in every buffer of w that holds units of this kind. */
static void gather(pol_model *m, int32_t layer, pol_unit_kind kind, pol_layer_weights *w, int64_t n, moves *v)
{
    for (int part = 0; part < POL_PARTS && n; part++) {
        const pol_part_shape s = pol_part_of(&m->config, m->be, layer, (pol_part)part);
        pol_buf *buf = *pol_part_buf(w, (pol_part)part);
        if (buf && s.units && s.kind == kind)
            v->swap[v->n++] = (pol_swap_args){.w = {buf, 0},
                                              .unit = s.unit,
                                              .n_units = pol_units_section(m->units, kind, layer)->count,
                                              .n_pairs = n,
                                              .a = v->a + v->n_pairs,
                                              .b = v->b + v->n_pairs};
    }
    v->n_pairs += n;
}

static pol_status move(pol_model *m, moves *v)
{
    const pol_status s = pol_swap_units(m->be, v->swap, v->n);
    v->n = v->n_pairs = 0;
    return s;
}

/* The arrangement has them exchanged already, so a failure leaves a model whose numbers would be wrong: it is marked.
 */
static pol_status move_or_tear(pol_model *m, moves *v)
{
    const pol_status s = move(m, v);
    m->torn |= s < 0;
    return s;
}

static void gather_mask(pol_model *m, int32_t layer, const uint8_t *mask, moves *v)
{
    const pol_unit_kind kinds[2] = {POL_UNIT_GROUP, POL_UNIT_CHANNEL};
    int64_t *kept[2] = {&m->layers[layer].n_groups, &m->layers[layer].n_channels};
    m->layers[layer].rows_o = m->layers[layer].rows_down = NULL; /* they are of another order */
    for (int i = 0; i < 2; i++) {
        int64_t n;
        pol_arrangement_plan(m->arrangement, layer, kinds[i], mask, v->a + v->n_pairs, v->b + v->n_pairs, &n, kept[i]);
        gather(m, layer, kinds[i], &m->layers[layer], n, v);
    }
}

/* One round of moves that brings what `lying` says nearer to `order`; how many pairs. */
static int64_t gather_order(pol_model *m, pol_arrangement *lying, int32_t layer, pol_layer_weights *w,
                            const int32_t *order, moves *v)
{
    int64_t pairs = 0;
    for (int kind = POL_UNIT_GROUP; kind <= POL_UNIT_CHANNEL; kind++) {
        int64_t n;
        pol_arrangement_approach(lying, layer, (pol_unit_kind)kind, order, v->a + v->n_pairs, v->b + v->n_pairs, &n);
        gather(m, layer, (pol_unit_kind)kind, w, n, v);
        pairs += n;
    }
    return pairs;
}

pol_status pol_model_set_mask(pol_model *m, const uint8_t *mask)
{
    moves v = {0};
    POL_TRY(pol_model_check_whole(m));
    pol_status s = moves_new(m, m->config.n_layers, &v);
    if (s == POL_OK) {
        for (int32_t l = 0; l < m->config.n_layers; l++)
            gather_mask(m, l, mask, &v);
        s = move_or_tear(m, &v);
    }
    moves_free(m, &v);
    return s;
}

pol_status pol_rearrange(pol_model *m, pol_arrangement *lying, int32_t layer, pol_layer_weights *w,
                         const int32_t *order)
{
    moves v = {0};
    pol_status s = moves_new(m, 1, &v);
    /* Two rounds at most: see pol_arrangement_approach. */
    while (s == POL_OK && gather_order(m, lying, layer, w, order, &v))
        s = move(m, &v);
    moves_free(m, &v);
    return s;
}

int64_t pol_model_order_size(const pol_model *m) { return m->arrangement->size; }

void pol_model_get_order(const pol_model *m, int32_t *order)
{
    memcpy(order, m->arrangement->order, (size_t)m->arrangement->size * sizeof *order);
}

static pol_status set_own_order(pol_model *m)
{
    const int64_t n = m->arrangement->size;
    int32_t *own = pol_alloc_array(m->ctx, n, sizeof *own);
    if (!own)
        return POL_ENOMEM;
    for (int64_t i = 0; i < n; i++)
        own[i] = (int32_t)i;
    const pol_status s = pol_model_set_order(m, own);
    pol_free(m->ctx, own);
    return s;
}

pol_status pol_model_set_order(pol_model *m, const int32_t *order)
{
    if (!order)
        return set_own_order(m);
    POL_TRY(pol_model_check_whole(m));
    POL_TRY(pol_arrangement_check(m->arrangement, order));
    moves v = {0};
    pol_status s = moves_new(m, m->config.n_layers, &v);
    for (int64_t left = 1; s == POL_OK && left;) { /* two rounds again, each over all layers */
        left = 0;
        for (int32_t l = 0; l < m->config.n_layers; l++)
            left += gather_order(m, m->arrangement, l, &m->layers[l], order, &v);
        s = move_or_tear(m, &v);
    }
    moves_free(m, &v);
    return s < 0 ? s : pol_model_set_mask(m, NULL);
}
