/* flap.c - FLAP's metric: how much an input of a block's last matrix fluctuates, times what its weights make of that
 * (An et al. 2023, arXiv 2312.11983, "weighted input feature variance"), on the dense model's activations. */
#include <string.h>

#include "core/score/score.h"
#include "core/streams.h"

typedef struct flap {
    pol_model *m;
    pol_streams streams;
    pol_tap tap[2]; /* of groups, of channels: [widest input] */
    double *square; /* [widest input] of the weights of each column */
    float *values;
} flap;

/* Sample variance of column i over all tokens. */
static double variance(const flap *w, const pol_tap *tap, int64_t i)
{
    const double T = (double)(w->streams.n * w->streams.S), mean = tap->sum[i] / T;
    return (tap->sumsq[i] - T * mean * mean) / (T - 1);
}

static pol_status score_kind(flap *w, int32_t layer, pol_unit_kind kind)
{
    pol_model *m = w->m;
    const pol_section *sec = pol_units_section(m->units, kind, layer);
    const int64_t width = pol_block_inputs(&m->config, layer, kind), unit = pol_unit_inputs(&m->config, kind);
    pol_layer_weights l;
    POL_TRY(pol_model_layer(m, layer, &l));
    memset(w->square, 0, (size_t)width * sizeof *w->square);
    POL_TRY(
        pol_row_sums(m, kind == POL_UNIT_GROUP ? l.w_o : l.w_down, width, m->config.hidden, POL_ROW_SQUARE, w->square));
    for (int64_t u = 0; u < sec->count; u++) {
        double sum = 0;
        for (int64_t i = u * unit; i < (u + 1) * unit; i++)
            sum += variance(w, &w->tap[kind], i) * w->square[i];
        w->values[m->arrangement->order[sec->first + u]] = (float)(sum / (double)unit);
    }
    return POL_OK;
}

static pol_status score_layer(flap *w, int32_t layer)
{
    const pol_config *c = &w->m->config;
    for (int kind = 0; kind < 2; kind++) {
        const size_t bytes = (size_t)pol_block_inputs(c, layer, (pol_unit_kind)kind) * sizeof(double);
        memset(w->tap[kind].sum, 0, bytes);
        memset(w->tap[kind].sumsq, 0, bytes);
    }
    POL_TRY(pol_streams_layer(&w->streams, layer, &w->tap[0], &w->tap[1], layer + 1 < c->n_layers));
    for (int kind = 0; kind < 2; kind++)
        if (pol_block_inputs(c, layer, (pol_unit_kind)kind))
            POL_TRY(score_kind(w, layer, (pol_unit_kind)kind));
    return POL_OK;
}

static pol_status prepare(flap *w, pol_forward *f, const pol_sequences *cal)
{
    pol_context *ctx = w->m->ctx;
    const int64_t widest = pol_widest_input(&w->m->config, POL_HEADS | POL_CHANNELS);
    for (int kind = 0; kind < 2; kind++) {
        w->tap[kind].sum = pol_alloc_array(ctx, widest, sizeof(double));
        w->tap[kind].sumsq = pol_alloc_array(ctx, widest, sizeof(double));
        if (!w->tap[kind].sum || !w->tap[kind].sumsq)
            return POL_ENOMEM;
    }
    w->square = pol_alloc_array(ctx, widest, sizeof *w->square);
    return w->square ? pol_streams_begin(f, cal, &w->streams) : POL_ENOMEM;
}

pol_status pol_flap(pol_forward *f, const pol_sequences *cal, float *values)
{
    flap w = {.m = pol_forward_model(f), .values = values};
    pol_status s = prepare(&w, f, cal);
    for (int32_t l = 0; s == POL_OK && l < w.m->config.n_layers; l++) {
        s = score_layer(&w, l);
        pol_log(w.m->ctx, POL_LOG_DEBUG, "flap layer=%d of=%d", l + 1, w.m->config.n_layers);
    }
    for (int kind = 0; kind < 2; kind++) {
        pol_free(w.m->ctx, w.tap[kind].sum);
        pol_free(w.m->ctx, w.tap[kind].sumsq);
    }
    pol_free(w.m->ctx, w.square);
    pol_streams_free(&w.streams);
    return s;
}
