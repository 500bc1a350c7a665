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

typedef struct wanda {
    pol_forward *f;
    pol_model *m;
    const pol_sequences *cal;
    unsigned granularity;
    const double *keep;
    int64_t batch;  /* sequences that go through at a time */
    float *stream;  /* [n, seq_len, C] */
    pol_tap tap[2]; /* of groups, of channels: [widest input] */
    double *norm;   /* [widest input] */
    uint8_t *mask;  /* [units->n] all kept, except in the layer under way */
    float *values;
} wanda;

static int64_t input_width(const wanda *w, int32_t layer, pol_unit_kind kind)
{
    const pol_config *c = &w->m->config;
    return kind == POL_UNIT_GROUP ? c->layers[layer].n_groups * pol_ctx_cols(c) : c->layers[layer].ffn;
}

/* Both blocks of a layer over all sequences; with taps the stream stays as it is, without them it moves on. */
static pol_status pass_layer(wanda *w, int32_t layer, bool tapped)
{
    const int64_t S = w->cal->seq_len, C = w->m->config.hidden;
    for (int64_t i = 0; i < w->cal->n; i += w->batch) {
        POL_TRY(pol_check_stop(w->m->ctx));
        const int64_t B = pol_min_i64(w->batch, w->cal->n - i);
        float *x = w->stream + i * S * C;
        POL_TRY(pol_forward_put(w->f, x, B, S));
        POL_TRY(pol_forward_attention(w->f, layer, tapped ? &w->tap[0] : NULL));
        POL_TRY(pol_forward_mlp(w->f, layer, tapped ? &w->tap[1] : NULL));
        if (!tapped)
            POL_TRY(pol_forward_get(w->f, x));
    }
    return POL_OK;
}

/* Metric of the units of one (layer, kind) from the tap and the unit rows of the block's last matrix. */
static pol_status score_kind(wanda *w, int32_t layer, pol_unit_kind kind)
{
    pol_model *m = w->m;
    const pol_config *c = &m->config;
    const pol_section *sec = pol_units_section(m->units, kind, layer);
    const int64_t width = input_width(w, layer, kind), per_unit = width / sec->count;
    const int64_t heads = kind == POL_UNIT_GROUP ? c->heads_per_group : 1;
    pol_layer_weights l;
    POL_TRY(pol_model_layer(m, layer, &l));
    memset(w->norm, 0, (size_t)width * sizeof *w->norm);
    POL_TRY(pol_row_sums(m, kind == POL_UNIT_GROUP ? l.w_o : l.w_down, width, c->hidden, POL_ROW_ABS, w->norm));
    for (int64_t u = 0; u < sec->count; u++) {
        double sum = 0;
        for (int64_t i = u * per_unit; i < (u + 1) * per_unit; i++)
            sum += w->norm[i] / c->hidden * sqrt(w->tap[kind].sumsq[i] / (double)w->cal->n);
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
        memset(w->tap[i].sumsq, 0, (size_t)input_width(w, layer, kinds[i]) * sizeof(double));
    POL_TRY(pass_layer(w, layer, true));
    memset(w->mask, 1, (size_t)w->m->units->n);
    for (int i = 0; i < 2; i++) {
        if (!input_width(w, layer, kinds[i]))
            continue;
        POL_TRY(score_kind(w, layer, kinds[i]));
        if (w->granularity & 1u << kinds[i])
            POL_TRY(mask_kind(w, layer, kinds[i]));
    }
    if (layer + 1 == w->m->config.n_layers)
        return POL_OK; /* nobody reads the last stream */
    POL_TRY(pol_model_set_mask(w->m, w->mask));
    POL_TRY(pass_layer(w, layer, false));
    return pol_model_set_mask(w->m, NULL);
}

static pol_status prepare(wanda *w)
{
    pol_context *ctx = w->m->ctx;
    const pol_config *c = &w->m->config;
    const int64_t S = w->cal->seq_len, T = w->cal->n * S;
    if (w->cal->n < 1 || S < 2)
        return pol_fail(ctx, POL_EARG, "wanda-sp: %lld sequences of %lld tokens: it takes one of at least 2",
                        (long long)w->cal->n, (long long)S);
    int64_t widest = 0;
    for (int32_t l = 0; l < c->n_layers; l++)
        for (int kind = 0; kind < 2; kind++)
            widest = pol_max_i64(widest, input_width(w, l, (pol_unit_kind)kind));
    for (int kind = 0; kind < 2; kind++)
        if (!(w->tap[kind].sumsq = pol_alloc_array(ctx, widest, sizeof(double))))
            return POL_ENOMEM;
    w->norm = pol_alloc_array(ctx, widest, sizeof *w->norm);
    w->mask = pol_alloc(ctx, (size_t)w->m->units->n);
    w->stream = pol_alloc_array(ctx, T * c->hidden, sizeof *w->stream);
    if (!w->norm || !w->mask || !w->stream)
        return POL_ENOMEM;
    w->batch = pol_forward_max_tokens(w->f) / S;
    for (int64_t i = 0; i < w->cal->n; i += w->batch) {
        POL_TRY(pol_forward_begin(w->f, w->cal->ids + i * S, pol_min_i64(w->batch, w->cal->n - i), S));
        POL_TRY(pol_forward_get(w->f, w->stream + i * S * c->hidden));
    }
    return POL_OK;
}

pol_status pol_wanda_sp(pol_forward *f, const pol_sequences *cal, unsigned granularity,
                        const double keep[POL_UNIT_KINDS], float *values, double *passes)
{
    wanda w = {
        .f = f, .m = pol_forward_model(f), .cal = cal, .granularity = granularity, .keep = keep, .values = values};
    pol_status s = prepare(&w);
    for (int32_t l = 0; s == POL_OK && l < w.m->config.n_layers; l++) {
        s = score_layer(&w, l);
        pol_log(w.m->ctx, POL_LOG_DEBUG, "wanda-sp layer=%d of=%d", l + 1, w.m->config.n_layers);
    }
    if (s == POL_OK && passes)
        *passes = 2.0 * (double)cal->n;
    for (int kind = 0; kind < 2; kind++)
        pol_free(w.m->ctx, w.tap[kind].sumsq);
    pol_free(w.m->ctx, w.norm);
    pol_free(w.m->ctx, w.mask);
    pol_free(w.m->ctx, w.stream);
    return s;
}
