/* visit.c - layers of a model whose weights do not fit the device: they live in host memory and visit two slots.
 *
 * While the passes that are queued are taken through one layer in one slot, the next layer travels to the other. Rows
 * come as they lie at home, each unit at its own number, and are put in order in the slot; nothing travels back.
 */
#include <string.h>

#include "core/model/half.h"
#include "core/model/weights.h"

void *pol_visits_home(const pol_model *m, int32_t layer, pol_part part)
{
    return (char *)m->visits->home[layer] + pol_layer_home_bytes(&m->config, m->be, layer, part);
}

void pol_visits_store(pol_model *m, int32_t layer, pol_part part, int64_t at, const float *src, int64_t n)
{
    const pol_dtype dtype = pol_part_of(&m->config, m->be, layer, part).dtype;
    char *dst = (char *)pol_visits_home(m, layer, part) + (size_t)at * pol_dtype_size(dtype);
    uint16_t *half = (uint16_t *)dst;
    if (dtype == POL_F32)
        memcpy(dst, src, (size_t)n * sizeof *src);
    for (int64_t i = 0; i < n && dtype == POL_F16; i++)
        half[i] = pol_f32_to_f16(src[i]);
    for (int64_t i = 0; i < n && dtype == POL_BF16; i++)
        half[i] = pol_f32_to_bf16(src[i]);
}

static pol_status make_slot(pol_model *m, pol_slot *slot)
{
    slot->layer = -1;
    for (int part = 0; part < POL_PARTS; part++) {
        const pol_part_shape largest = pol_part_largest(&m->config, m->be, (pol_part)part);
        POL_TRY(pol_part_new(m->be, &largest, pol_part_buf(&slot->w, (pol_part)part)));
    }
    return POL_OK;
}

/* Zero, because the units that pad a width must be. */
static pol_status make_home(pol_model *m, int32_t layer)
{
    const size_t bytes = (size_t)pol_layer_home_bytes(&m->config, m->be, layer, POL_PARTS);
    POL_TRY(pol_host_new(m->be, bytes, &m->visits->home[layer]));
    memset(m->visits->home[layer], 0, bytes);
    return POL_OK;
}

pol_status pol_visits_new(pol_model *m)
{
    pol_visits *v = m->visits = pol_alloc_zero(m->ctx, sizeof *v);
    if (!v)
        return POL_ENOMEM;
    v->home = pol_alloc_zero(m->ctx, (size_t)m->config.n_layers * sizeof *v->home);
    if (!v->home)
        return POL_ENOMEM;
    POL_TRY(pol_arrangement_new(m->units, &v->lying));
    for (int i = 0; i < 2; i++)
        POL_TRY(make_slot(m, &v->slot[i]));
    for (int32_t l = 0; l < m->config.n_layers; l++)
        POL_TRY(make_home(m, l));
    return POL_OK;
}

/* Slots first: what is still on its way to them is then no longer. */
void pol_visits_free(pol_model *m)
{
    pol_visits *v = m->visits;
    if (!v)
        return;
    for (int i = 0; i < 2; i++)
        for (int part = 0; part < POL_PARTS; part++)
            pol_buf_free(m->be, *pol_part_buf(&v->slot[i].w, (pol_part)part));
    for (int32_t l = 0; v->home && l < m->config.n_layers; l++)
        pol_host_free(m->be, v->home[l]);
    pol_arrangement_free(v->lying);
    pol_free(m->ctx, v->home);
    pol_free(m->ctx, v);
    m->visits = NULL;
}

/* A call for each part that the layer has. */
static pol_status for_parts(pol_model *m, pol_slot *slot, int32_t layer, bool wait)
{
    for (int part = 0; part < POL_PARTS; part++) {
        const pol_part_shape s = pol_part_of(&m->config, m->be, layer, (pol_part)part);
        pol_buf *to = *pol_part_buf(&slot->w, (pol_part)part);
        if (!s.units)
            continue;
        POL_TRY(wait ? pol_stream_wait(m->be, to)
                     : pol_stream_in(m->be, to, pol_visits_home(m, layer, (pol_part)part), s.units * s.unit));
    }
    return POL_OK;
}

pol_status pol_model_fetch(pol_model *m, int32_t layer)
{
    pol_slot *slot = &m->visits->slot[layer % 2];
    if (slot->layer == layer)
        return POL_OK;
    slot->layer = -1; /* until all parts are on their way */
    slot->arrived = false;
    POL_TRY(for_parts(m, slot, layer, false));
    pol_arrangement_reset(m->visits->lying, layer);
    slot->layer = layer;
    return POL_OK;
}

/* A copy reads home until the device is done with it, which only a wait for the device tells. */
pol_status pol_visits_recall(pol_model *m, int32_t layer)
{
    for (int i = 0; i < 2; i++) {
        pol_slot *slot = &m->visits->slot[i];
        if (slot->layer >= 0 && !slot->arrived)
            POL_TRY(for_parts(m, slot, slot->layer, true));
        slot->arrived = true;
    }
    POL_TRY(pol_sync(m->be));
    pol_slot *slot = &m->visits->slot[layer % 2];
    if (slot->layer == layer)
        slot->layer = -1;
    return POL_OK;
}

pol_status pol_model_visit(pol_model *m, int32_t layer, const int32_t *order, pol_layer_weights *out)
{
    pol_slot *slot = &m->visits->slot[layer % 2];
    POL_TRY(pol_model_fetch(m, layer));
    if (!slot->arrived)
        POL_TRY(for_parts(m, slot, layer, true));
    slot->arrived = true;
    const pol_status s = pol_rearrange(m, m->visits->lying, layer, &slot->w, order);
    if (s < 0) {
        slot->layer = -1; /* it has to come again: rows may lie anywhere */
        return s;
    }
    for (int part = 0; part < POL_PARTS; part++)
        *pol_part_buf(out, (pol_part)part) = *pol_part_buf(&slot->w, (pol_part)part);
    return POL_OK;
}

pol_status pol_model_layer(pol_model *m, int32_t layer, pol_layer_weights *out)
{
    *out = m->layers[layer];
    return m->visits ? pol_model_visit(m, layer, m->arrangement->order, out) : POL_OK;
}
