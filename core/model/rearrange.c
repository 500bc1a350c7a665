/* rearrange.c - applying a mask: unit rows change places until the kept ones are the prefix of every buffer. */
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
    pol_swap_args *swap; /* [6 n_layers] */
    int64_t n;
    int32_t *a, *b; /* the pairs of the swaps so far, [size / 2] each */
    int64_t n_pairs;
} moves;

static pol_status moves_new(pol_model *m, moves *v)
{
    const int64_t room = m->arrangement->size / 2 + 1;
    *v = (moves){.swap = pol_alloc_array(m->ctx, 6 * (int64_t)m->config.n_layers, sizeof *v->swap),
                 .a = pol_alloc_array(m->ctx, 2 * room, sizeof *v->a)};
    v->b = v->a ? v->a + room : NULL;
    return v->swap && v->a ? POL_OK : POL_ENOMEM;
}

static void moves_free(pol_model *m, moves *v)
{
    pol_free(m->ctx, v->swap);
    pol_free(m->ctx, v->a);
}

/* The n pairs after those gathered so far change places in every buffer that a layer's kind has. */
static void gather(pol_model *m, int32_t layer, pol_unit_kind kind, int64_t n, moves *v)
{
    const pol_config *c = &m->config;
    const pol_layer_weights *w = &m->layers[layer];
    const int64_t C = c->hidden;
    const struct {
        pol_buf *buf;
        int64_t unit;
    } group[] = {{w->w_qkv, pol_qkv_rows(c) * C}, {w->w_o, pol_ctx_cols(c) * C}, {w->b_qkv, pol_qkv_rows(c)}},
      channel[] = {{w->w_gate_up, 2 * C}, {w->w_down, C}, {w->b_gate_up, 2}},
      *part = kind == POL_UNIT_GROUP ? group : channel;
    for (size_t i = 0; i < POL_COUNT(group) && n; i++)
        if (part[i].buf)
            v->swap[v->n++] = (pol_swap_args){.w = {part[i].buf, 0},
                                              .unit = part[i].unit,
                                              .n_units = pol_units_section(m->units, kind, layer)->count,
                                              .n_pairs = n,
                                              .a = v->a + v->n_pairs,
                                              .b = v->b + v->n_pairs};
    v->n_pairs += n;
}

/* The arrangement has them exchanged already, so a failure leaves a model whose numbers would be wrong: it is marked.
 */
static pol_status move(pol_model *m, moves *v)
{
    const pol_status s = pol_swap_units(m->be, v->swap, v->n);
    m->torn |= s < 0;
    v->n = v->n_pairs = 0;
    return s;
}

static void gather_mask(pol_model *m, int32_t layer, const uint8_t *mask, moves *v)
{
    const pol_unit_kind kinds[2] = {POL_UNIT_GROUP, POL_UNIT_CHANNEL};
    int64_t *kept[2] = {&m->layers[layer].n_groups, &m->layers[layer].n_channels};
    for (int i = 0; i < 2; i++) {
        int64_t n;
        pol_arrangement_plan(m->arrangement, layer, kinds[i], mask, v->a + v->n_pairs, v->b + v->n_pairs, &n, kept[i]);
        gather(m, layer, kinds[i], n, v);
    }
}

pol_status pol_model_set_mask(pol_model *m, const uint8_t *mask)
{
    moves v = {0};
    POL_TRY(pol_model_check_whole(m));
    pol_status s = moves_new(m, &v);
    if (s == POL_OK) {
        for (int32_t l = 0; l < m->config.n_layers; l++)
            gather_mask(m, l, mask, &v);
        s = move(m, &v);
    }
    moves_free(m, &v);
    return s;
}

int64_t pol_model_order_size(const pol_model *m) { return m->arrangement->size; }

void pol_model_get_order(const pol_model *m, int32_t *order)
{
    memcpy(order, m->arrangement->order, (size_t)m->arrangement->size * sizeof *order);
}

pol_status pol_model_set_order(pol_model *m, const int32_t *order)
{
    POL_TRY(pol_model_check_whole(m));
    POL_TRY(pol_arrangement_check(m->arrangement, order));
    moves v = {0};
    pol_status s = moves_new(m, &v);
    /* Two rounds at most: see pol_arrangement_approach. */
    for (int64_t left = 1; s == POL_OK && left;) {
        left = 0;
        for (int32_t l = 0; l < m->config.n_layers; l++)
            for (int kind = POL_UNIT_GROUP; kind <= POL_UNIT_CHANNEL; kind++) {
                int64_t n;
                pol_arrangement_approach(m->arrangement, l, (pol_unit_kind)kind, order, v.a + v.n_pairs,
                                         v.b + v.n_pairs, &n);
                gather(m, l, (pol_unit_kind)kind, n, &v);
                left += n;
            }
        s = move(m, &v);
    }
    moves_free(m, &v);
    return s < 0 ? s : pol_model_set_mask(m, NULL);
}
