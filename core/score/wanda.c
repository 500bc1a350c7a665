/* wanda.c - Wanda-sp, layer after layer on the pruned stream (reference: prune_channel/init.py of the paper's code).
 *
 * The streams of all calibration sequences lie on the host between layers. A layer is passed twice: dense with taps,
 * for the statistics of what enters w_o and w_down; then under its own initial mask, for the stream that the next layer
 * sees.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/score/score.h"
#include "core/streams.h"

typedef struct wanda {
    pol_model *m;
    unsigned granularity;
    const double *keep;
    pol_streams streams;
    pol_tap tap[2]; /* of groups, of channels: [widest input] */
    double *norm;   /* [widest input] */
    uint8_t *mask;  /* [units->n] all kept, except in the layer under way */
    float *values;
} wanda;

/* Metric of the units of one (layer, kind) from the tap and the unit rows of the block's last matrix. */
static pol_status score_kind(wanda *w, int32_t layer, pol_unit_kind kind)
{
    pol_model *m = w->m;
    const pol_config *c = &m->config;
    const pol_section *sec = pol_units_section(m->units, kind, layer);
    const int64_t width = pol_block_inputs(&w->m->config, layer, kind), per_unit = width / sec->count;
    const int64_t heads = kind == POL_UNIT_GROUP ? c->heads_per_group : 1;
    pol_layer_weights l;
    POL_TRY(pol_model_layer(m, layer, &l));
    memset(w->norm, 0, (size_t)width * sizeof *w->norm);
    POL_TRY(pol_row_sums(m, kind == POL_UNIT_GROUP ? l.w_o : l.w_down, width, c->hidden, POL_ROW_ABS, w->norm));
    for (int64_t u = 0; u < sec->count; u++) {
        double sum = 0;
        for (int64_t i = u * per_unit; i < (u + 1) * per_unit; i++)
            sum += w->norm[i] / c->hidden * sqrt(w->tap[kind].sumsq[i] / (double)w->streams.n);
        w->values[m->arrangement->order[sec->first + u]] = (float)(sum / (double)heads);
    }
    return POL_OK;
}

typedef struct ranked {
    float value;
    int64_t unit;
} ranked;

static int by_falling_value(const void *pa, const void *pb)
{
    const ranked *a = pa, *b = pb;
    if (a->value != b->value)
        return a->value < b->value ? 1 : -1;
    return a->unit < b->unit ? -1 : 1;
}

/* Keeps the top n - floor(n (1 - keep)) units of the section in w->mask; ties go to the smaller number. */
static pol_status mask_kind(wanda *w, int32_t layer, pol_unit_kind kind)
{
    const pol_section *sec = pol_units_section(w->m->units, kind, layer);
    ranked *r = pol_alloc_array(w->m->ctx, sec->count, sizeof *r);
    if (!r)
        return POL_ENOMEM;
    for (int64_t i = 0; i < sec->count; i++)
        r[i] = (ranked){w->values[sec->first + i], sec->first + i};
    qsort(r, (size_t)sec->count, sizeof *r, by_falling_value);
    const int64_t drop = (int64_t)((double)sec->count * (1.0 - w->keep[kind]));
    for (int64_t i = 0; i < sec->count; i++)
        w->mask[r[i].unit] = i < sec->count - drop;
    pol_free(w->m->ctx, r);
    return POL_OK;
}

static pol_status score_layer(wanda *w, int32_t layer)
{
    const pol_unit_kind kinds[2] = {POL_UNIT_GROUP, POL_UNIT_CHANNEL};
    for (int i = 0; i < 2; i++)
        memset(w->tap[i].sumsq, 0, (size_t)pol_block_inputs(&w->m->config, layer, kinds[i]) * sizeof(double));
    POL_TRY(pol_streams_layer(&w->streams, layer, &w->tap[0], &w->tap[1], false));
    memset(w->mask, 1, (size_t)w->m->units->n);
    for (int i = 0; i < 2; i++) {
        if (!pol_block_inputs(&w->m->config, layer, kinds[i]))
            continue;
        POL_TRY(score_kind(w, layer, kinds[i]));
        if (w->granularity & 1u << kinds[i])
            POL_TRY(mask_kind(w, layer, kinds[i]));
    }
    if (layer + 1 == w->m->config.n_layers)
        return POL_OK; /* nobody reads the last stream */
    POL_TRY(pol_model_set_mask(w->m, w->mask));
    POL_TRY(pol_streams_layer(&w->streams, layer, NULL, NULL, true));
    return pol_model_set_mask(w->m, NULL);
}

static pol_status prepare(wanda *w, pol_forward *f, const pol_sequences *cal)
{
    pol_context *ctx = w->m->ctx;
    const int64_t widest = pol_widest_input(&w->m->config, POL_HEADS | POL_CHANNELS);
    for (int kind = 0; kind < 2; kind++)
        if (!(w->tap[kind].sumsq = pol_alloc_array(ctx, widest, sizeof(double))))
            return POL_ENOMEM;
    w->norm = pol_alloc_array(ctx, widest, sizeof *w->norm);
    w->mask = pol_alloc(ctx, (size_t)w->m->units->n);
    if (!w->norm || !w->mask)
        return POL_ENOMEM;
    return pol_streams_begin(f, cal, &w->streams);
}

pol_status pol_wanda_sp(pol_forward *f, const pol_sequences *cal, unsigned granularity,
                        const double keep[POL_UNIT_KINDS], float *values)
{
    wanda w = {.m = pol_forward_model(f), .granularity = granularity, .keep = keep, .values = values};
    pol_status s = prepare(&w, f, cal);
    for (int32_t l = 0; s == POL_OK && l < w.m->config.n_layers; l++) {
        s = score_layer(&w, l);
        pol_log(w.m->ctx, POL_LOG_DEBUG, "wanda-sp layer=%d of=%d", l + 1, w.m->config.n_layers);
    }
    for (int kind = 0; kind < 2; kind++)
        pol_free(w.m->ctx, w.tap[kind].sumsq);
    pol_free(w.m->ctx, w.norm);
    pol_free(w.m->ctx, w.mask);
    pol_streams_free(&w.streams);
    return s;
}
