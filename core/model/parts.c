/* parts.c - what the buffers of a model are and what they take, on the device and, where layers visit, on the host. */
#include "core/model/weights.h"

static pol_part_shape shape(const pol_config *c, const pol_backend *be, int64_t groups, int64_t channels, pol_part part)
{
    const int64_t C = c->hidden, padded = pol_padded(be, channels);
    const pol_dtype matrix = be->weight_dtype;
    switch (part) {
    case POL_W_QKV: return (pol_part_shape){POL_UNIT_GROUP, matrix, groups, pol_qkv_rows(c) * C, false};
    case POL_W_O: return (pol_part_shape){POL_UNIT_GROUP, matrix, groups, pol_ctx_cols(c) * C, false};
    case POL_W_GATE_UP: return (pol_part_shape){POL_UNIT_CHANNEL, matrix, padded, 2 * C, false};
    case POL_W_DOWN: return (pol_part_shape){POL_UNIT_CHANNEL, matrix, padded, C, false};
    case POL_B_QKV: return (pol_part_shape){POL_UNIT_GROUP, POL_F32, c->qkv_bias ? groups : 0, pol_qkv_rows(c), true};
    case POL_B_GATE_UP: return (pol_part_shape){POL_UNIT_CHANNEL, POL_F32, c->mlp_bias ? padded : 0, 2, true};
    case POL_PARTS: break;
    }
    return (pol_part_shape){0};
}

pol_part_shape pol_part_of(const pol_config *c, const pol_backend *be, int32_t layer, pol_part part)
{
    return shape(c, be, c->layers[layer].n_groups, c->layers[layer].ffn, part);
}

pol_part_shape pol_part_largest(const pol_config *c, const pol_backend *be, pol_part part)
{
    int64_t groups = 0, channels = 0;
    for (int32_t l = 0; l < c->n_layers; l++) {
        groups = pol_max_i64(groups, c->layers[l].n_groups);
        channels = pol_max_i64(channels, c->layers[l].ffn);
    }
    return shape(c, be, groups, channels, part);
}

pol_status pol_part_new(pol_backend *be, const pol_part_shape *s, pol_buf **out)
{
    *out = NULL;
    if (!s->units)
        return POL_OK;
    return s->whole ? pol_buf_new(be, s->dtype, s->units * s->unit, out)
                    : pol_buf_new_rows(be, s->dtype, s->units, s->unit, out);
}

pol_buf **pol_part_buf(pol_layer_weights *w, pol_part part)
{
    pol_buf **const all[POL_PARTS] = {&w->w_qkv, &w->w_o, &w->w_gate_up, &w->w_down, &w->b_qkv, &w->b_gate_up};
    return all[part];
}

static uint64_t part_bytes(const pol_backend *be, pol_part_shape s)
{
    return s.units ? pol_buf_bytes(be, s.dtype, s.units * s.unit) : 0;
}

/* Norms and output biases, which stay on the device. */
static uint64_t vector_bytes(const pol_config *c, const pol_backend *be, int32_t layer)
{
    const bool attention = c->layers[layer].n_groups, mlp = c->layers[layer].ffn;
    const int64_t n = attention + mlp + (attention && c->o_bias) + (mlp && c->mlp_bias);
    return (uint64_t)n * pol_buf_bytes(be, POL_F32, c->hidden);
}

uint64_t pol_model_slot_bytes(const pol_config *c, const pol_backend *be)
{
    uint64_t bytes = 0;
    for (int part = 0; part < POL_PARTS; part++)
        bytes += part_bytes(be, pol_part_largest(c, be, (pol_part)part));
    return bytes;
}

uint64_t pol_model_bytes(const pol_config *c, const pol_backend *be, const pol_placement *p)
{
    const bool streamed = p && p->streamed;
    const uint64_t table = pol_buf_bytes(be, be->weight_dtype, (int64_t)c->vocab * c->hidden);
    uint64_t bytes = (c->tied ? 1 : 2) * table + pol_buf_bytes(be, POL_F32, c->hidden);
    for (int32_t l = 0; l < c->n_layers; l++) {
        bytes += vector_bytes(c, be, l);
        for (int part = 0; part < POL_PARTS && !streamed; part++)
            bytes += part_bytes(be, pol_part_of(c, be, l, (pol_part)part));
    }
    return bytes + (streamed ? 2 * pol_model_slot_bytes(c, be) : 0);
}

/* Bytes of a part at home: what follows is as well aligned for any type, and for a copy. */
static uint64_t home_bytes(pol_part_shape s)
{
    const uint64_t n = (uint64_t)(s.units * s.unit) * pol_dtype_size(s.dtype);
    return (n + 63) / 64 * 64;
}

uint64_t pol_layer_home_bytes(const pol_config *c, const pol_backend *be, int32_t layer, pol_part before)
{
    uint64_t bytes = 0;
    for (int part = 0; part < (int)before; part++)
        bytes += home_bytes(pol_part_of(c, be, layer, (pol_part)part));
    return bytes;
}

uint64_t pol_model_home_bytes(const pol_config *c, const pol_backend *be)
{
    uint64_t bytes = 0;
    for (int32_t l = 0; l < c->n_layers; l++)
        bytes += pol_layer_home_bytes(c, be, l, POL_PARTS);
    return bytes;
}

uint64_t pol_model_largest_row(const pol_config *c, const pol_backend *be)
{
    uint64_t largest = (uint64_t)c->hidden * sizeof(float); /* a vector, or a row of the embedding */
    for (int part = 0; part < POL_PARTS; part++) {
        const pol_part_shape s = pol_part_largest(c, be, (pol_part)part);
        const int64_t row = !s.units ? 0 : s.whole ? s.units * s.unit : s.unit;
        const uint64_t bytes = (uint64_t)row * pol_dtype_size(s.dtype);
        largest = bytes > largest ? bytes : largest;
    }
    return largest;
}

int64_t pol_widest_input(const pol_config *c, unsigned granularity)
{
    int64_t widest = 0;
    for (int32_t l = 0; l < c->n_layers; l++)
        for (int kind = POL_UNIT_GROUP; kind <= POL_UNIT_CHANNEL; kind++)
            if (granularity & 1u << kind)
                widest = pol_max_i64(widest, pol_block_inputs(c, l, (pol_unit_kind)kind));
    return widest;
}
