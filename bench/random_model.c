/* random_model.c - the parts of a model (core/model/weights.h), filled with one block of random numbers. */
#include "bench/random_model.h"

#include <string.h>

#include "core/base/rng.h"
#include "core/model/half.h"
#include "core/model/weights.h"

enum { SEED = 5, BLOCK = 1 << 20 };
static const float deviation = 0.02f;

typedef struct maker {
    pol_model *m;
    float *block;   /* [BLOCK] */
    uint16_t *bf16; /* [BLOCK] the same */
} maker;

static pol_status fill(maker *k, pol_buf *b)
{
    for (int64_t at = 0; at < b->n; at += BLOCK)
        POL_TRY(pol_upload(k->m->be, b, at, k->block, pol_min_i64(BLOCK, b->n - at)));
    return POL_OK;
}

static void fill_home(const maker *k, uint16_t *home, int64_t n)
{
    for (int64_t at = 0; at < n; at += BLOCK)
        memcpy(home + at, k->bf16, (size_t)pol_min_i64(BLOCK, n - at) * sizeof *home);
}

static pol_status new_gain(maker *k, pol_buf **out)
{
    POL_TRY(pol_buf_new(k->m->be, POL_F32, k->m->config.hidden, out));
    return fill(k, *out);
}

static pol_status new_table(maker *k, pol_buf **out)
{
    const pol_config *c = &k->m->config;
    POL_TRY(pol_buf_new_rows(k->m->be, k->m->be->weight_dtype, c->vocab, c->hidden, out));
    return fill(k, *out);
}

static pol_status make_part(maker *k, int32_t layer, pol_part part)
{
    pol_model *m = k->m;
    const pol_part_shape s = pol_part_of(&m->config, m->be, layer, part);
    if (!s.units)
        return POL_OK;
    if (m->visits) {
        fill_home(k, pol_visits_home(m, layer, part), s.units * s.unit);
        return POL_OK;
    }
    pol_buf **buf = pol_part_buf(&m->layers[layer], part);
    POL_TRY(pol_part_new(m->be, &s, buf));
    return fill(k, *buf);
}

static pol_status make_layer(maker *k, int32_t layer)
{
    pol_layer_weights *w = &k->m->layers[layer];
    w->n_groups = k->m->config.layers[layer].n_groups;
    w->n_channels = k->m->config.layers[layer].ffn;
    POL_TRY(new_gain(k, &w->attn_norm));
    POL_TRY(new_gain(k, &w->mlp_norm));
    for (int part = 0; part < POL_PARTS; part++)
        POL_TRY(make_part(k, layer, (pol_part)part));
    return POL_OK;
}

static pol_status make_block(maker *k)
{
    pol_context *ctx = k->m->ctx;
    k->block = pol_alloc_array(ctx, BLOCK, sizeof *k->block);
    k->bf16 = pol_alloc_array(ctx, BLOCK, sizeof *k->bf16);
    if (!k->block || !k->bf16)
        return POL_ENOMEM;
    pol_normal(SEED, POL_STREAM_BENCH, 0, 0, BLOCK, k->block);
    for (int64_t i = 0; i < BLOCK; i++) {
        k->block[i] *= deviation;
        k->bf16[i] = pol_f32_to_bf16(k->block[i]);
    }
    return POL_OK;
}

static pol_status make(maker *k)
{
    pol_model *m = k->m;
    POL_TRY(pol_units_new(m->ctx, &m->config, &m->units));
    POL_TRY(pol_arrangement_new(m->units, &m->arrangement));
    m->layers = pol_alloc_zero(m->ctx, (size_t)m->config.n_layers * sizeof *m->layers);
    if (!m->layers)
        return POL_ENOMEM;
    POL_TRY(make_block(k));
    if (m->placement.streamed)
        POL_TRY(pol_visits_new(m));
    POL_TRY(new_table(k, &m->embed));
    if (m->config.tied)
        m->output = m->embed;
    else
        POL_TRY(new_table(k, &m->output));
    POL_TRY(new_gain(k, &m->output_norm));
    for (int32_t l = 0; l < m->config.n_layers; l++)
        POL_TRY(make_layer(k, l));
    return pol_sync(m->be);
}

pol_status random_model_new(pol_backend *be, const pol_config *c, const pol_placement *p, pol_model **out)
{
    *out = NULL;
    pol_model *m = pol_alloc_zero(be->ctx, sizeof *m);
    if (!m)
        return POL_ENOMEM;
    m->ctx = be->ctx;
    m->be = be;
    m->config = *c;
    m->placement = *p;
    maker k = {.m = m};
    const pol_status s = make(&k);
    pol_free(be->ctx, k.block);
    pol_free(be->ctx, k.bf16);
    if (s < 0) {
        pol_model_free(m);
        return s;
    }
    *out = m;
    return POL_OK;
}
