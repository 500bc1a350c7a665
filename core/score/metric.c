/* metric.c - the metric table, what metrics take, and the metrics that need no text. */
#include <math.h>
#include <string.h>

#include "core/base/rng.h"
#include "core/repair/walk.h"
#include "core/score/score.h"

/* Elements of a weight matrix on the host at a time. */
enum { PIECE = 1 << 20 };

static const char *const names[] = {
    [POL_METRIC_WANDA_SP] = "wanda-sp", [POL_METRIC_MAGNITUDE] = "magnitude", [POL_METRIC_RANDOM] = "random",
    [POL_METRIC_UNIFORM] = "uniform",   [POL_METRIC_FLAP] = "flap",           [POL_METRIC_OBS] = "obs",
};

const char *pol_metric_name(pol_metric m) { return names[m]; }

int32_t pol_metric_passes(pol_metric m)
{
    return m == POL_METRIC_WANDA_SP ? 2 : m == POL_METRIC_FLAP || m == POL_METRIC_OBS ? 1 : 0;
}

uint64_t pol_metric_host_bytes(pol_metric m, const pol_config *c, unsigned granularity, int64_t n, int64_t S)
{
    const uint64_t N = (uint64_t)pol_widest_input(c, granularity), C = (uint64_t)c->hidden;
    if (m == POL_METRIC_OBS) /* obs_sweep has a matrix of its own and W in f64 */
        return pol_walk_host_bytes(c, granularity, n, S) + N * (N + C) * sizeof(double);
    return pol_metric_passes(m) ? pol_streams_bytes(c, n, S) : 0;
}

uint64_t pol_metric_device_bytes(pol_metric m, const pol_config *c, pol_backend *be, unsigned granularity,
                                 int64_t max_tokens)
{
    const int64_t widest = pol_widest_input(c, granularity);
    return m == POL_METRIC_OBS && widest ? pol_gram_bytes(be, max_tokens, widest, 0) : 0;
}

bool pol_metric_find(const char *name, pol_metric *out)
{
    for (size_t i = 0; i < POL_COUNT(names); i++)
        if (!strcmp(name, names[i])) {
            *out = (pol_metric)i;
            return true;
        }
    return false;
}

pol_status pol_row_sums(pol_model *m, const pol_buf *w, int64_t n_rows, int64_t cols, pol_row_sum what, double *sums)
{
    const int64_t step = pol_max_i64(1, PIECE / cols);
    float *piece = pol_alloc_array(m->ctx, pol_min_i64(step, n_rows) * cols, sizeof *piece);
    pol_status s = piece ? POL_OK : POL_ENOMEM;
    for (int64_t r = 0; s == POL_OK && r < n_rows; r += step) {
        const int64_t n = pol_min_i64(step, n_rows - r);
        s = pol_download(m->be, w, r * cols, piece, n * cols);
        for (int64_t i = 0; s == POL_OK && i < n; i++)
            for (int64_t j = 0; j < cols; j++) {
                const double v = piece[i * cols + j];
                sums[r + i] += what == POL_ROW_ABS ? fabs(v) : v * v;
            }
    }
    pol_free(m->ctx, piece);
    return s;
}

/* A unit is one row of `unit` elements in each of its two buffers. */
static pol_status magnitude(pol_model *m, float *values)
{
    const pol_config *c = &m->config;
    for (int32_t l = 0; l < c->n_layers; l++) {
        pol_layer_weights w;
        POL_TRY(pol_model_layer(m, l, &w));
        const struct {
            pol_unit_kind kind;
            const pol_buf *in, *out;
            int64_t in_cols, out_cols;
        } part[] = {
            {POL_UNIT_GROUP, w.w_qkv, w.w_o, pol_qkv_rows(c) * c->hidden, pol_ctx_cols(c) * c->hidden},
            {POL_UNIT_CHANNEL, w.w_gate_up, w.w_down, (int64_t)2 * c->hidden, c->hidden},
        };
        for (size_t p = 0; p < POL_COUNT(part); p++) {
            const pol_section *sec = pol_units_section(m->units, part[p].kind, l);
            double *sums = pol_alloc_zero(m->ctx, (size_t)sec->count * sizeof *sums);
            pol_status s = sums ? POL_OK : POL_ENOMEM;
            if (s == POL_OK && sec->count)
                s = pol_row_sums(m, part[p].in, sec->count, part[p].in_cols, POL_ROW_SQUARE, sums);
            if (s == POL_OK && sec->count)
                s = pol_row_sums(m, part[p].out, sec->count, part[p].out_cols, POL_ROW_SQUARE, sums);
            for (int64_t i = 0; s == POL_OK && i < sec->count; i++)
                values[m->arrangement->order[sec->first + i]] = (float)sqrt(sums[i]);
            pol_free(m->ctx, sums);
            POL_TRY(s);
        }
    }
    return POL_OK;
}

static pol_status compute(pol_forward *f, pol_metric metric, const pol_sequences *calibration, unsigned granularity,
                          const double keep[POL_UNIT_KINDS], uint64_t seed, float *values)
{
    pol_model *m = pol_forward_model(f);
    switch (metric) {
    case POL_METRIC_WANDA_SP: return pol_wanda_sp(f, calibration, granularity, keep, values);
    case POL_METRIC_FLAP: return pol_flap(f, calibration, values);
    case POL_METRIC_OBS: return pol_obs_ranks(f, calibration, granularity, values);
    case POL_METRIC_MAGNITUDE: return magnitude(m, values);
    case POL_METRIC_RANDOM: pol_normal(seed, POL_STREAM_INIT, 0, 0, m->units->n, values); return POL_OK;
    case POL_METRIC_UNIFORM: return POL_OK;
    }
    return pol_fail(m->ctx, POL_EARG, "metric %d is none", (int)metric);
}

pol_status pol_metric_compute(pol_forward *f, pol_metric metric, const pol_sequences *calibration, unsigned granularity,
                              const double keep[POL_UNIT_KINDS], uint64_t seed, float *values, double *passes)
{
    pol_model *m = pol_forward_model(f);
    const int32_t each = pol_metric_passes(metric);
    if (passes)
        *passes = 0;
    memset(values, 0, (size_t)m->units->n * sizeof *values);
    POL_TRY(pol_model_set_mask(m, NULL));
    POL_TRY(compute(f, metric, calibration, granularity, keep, seed, values));
    if (passes && each)
        *passes = (double)each * (double)calibration->n;
    return POL_OK;
}
