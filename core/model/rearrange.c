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

/* Exchanges the same pairs of units in every buffer that a layer's kind has. The arrangement has them exchanged
 * already, so a failure leaves a model whose numbers would be wrong: it is marked. */
static pol_status swap_in_buffers(pol_model *m, int32_t layer, pol_unit_kind kind, const int32_t *a, const int32_t *b,
                                  int64_t n)
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
    const int64_t n_units = pol_units_section(m->units, kind, layer)->count;
    pol_status s = POL_OK;
    for (size_t i = 0; i < POL_COUNT(group) && n && s == POL_OK; i++)
        if (part[i].buf)
            s = pol_swap_units(
                m->be,
                &(pol_swap_args){
                    .w = {part[i].buf, 0}, .unit = part[i].unit, .n_units = n_units, .n_pairs = n, .a = a, .b = b});
    m->torn |= s < 0;
    return s;
}

/* Room for the pairs of one section. */
static pol_status new_pairs(pol_model *m, int32_t **a, int32_t **b)
{
    const int64_t room = m->arrangement->max_pairs;
    *a = pol_alloc_array(m->ctx, 2 * room, sizeof **a);
    *b = *a ? *a + room : NULL;
    return *a ? POL_OK : POL_ENOMEM;
}

pol_status pol_model_set_mask(pol_model *m, const uint8_t *mask)
{
    int32_t *a, *b;
    POL_TRY(pol_model_check_whole(m));
    POL_TRY(new_pairs(m, &a, &b));
    pol_status s = POL_OK;
    for (int32_t l = 0; s == POL_OK && l < m->config.n_layers; l++) {
        const pol_unit_kind kinds[2] = {POL_UNIT_GROUP, POL_UNIT_CHANNEL};
        int64_t *kept[2] = {&m->layers[l].n_groups, &m->layers[l].n_channels};
        for (int i = 0; s == POL_OK && i < 2; i++) {
            int64_t n;
            pol_arrangement_plan(m->arrangement, l, kinds[i], mask, a, b, &n, kept[i]);
            s = swap_in_buffers(m, l, kinds[i], a, b, n);
        }
    }
    pol_free(m->ctx, a);
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
    int32_t *a, *b;
    POL_TRY(new_pairs(m, &a, &b));
    pol_status s = POL_OK;
    for (int32_t l = 0; s == POL_OK && l < m->config.n_layers; l++)
        for (int kind = POL_UNIT_GROUP; s == POL_OK && kind <= POL_UNIT_CHANNEL; kind++)
            for (int64_t n = 1; s == POL_OK && n;) {
                pol_arrangement_approach(m->arrangement, l, (pol_unit_kind)kind, order, a, b, &n);
                s = swap_in_buffers(m, l, (pol_unit_kind)kind, a, b, n);
            }
    pol_free(m->ctx, a);
    return s < 0 ? s : pol_model_set_mask(m, NULL);
}
