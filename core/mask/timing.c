/* timing.c - times of blocks: what a table may be, smoothing it, reading between its points, and its JSON. */
#include "core/mask/timing.h"

#include <math.h>
#include <string.h>

#include "core/base/json.h"
#include "core/mask/units.h"

/* An hour for a block, and as many tokens as any pass has: beyond them a file is wrong. */
static const double MOST_MS = 3.6e6;
static const int64_t MOST_UNITS = INT32_MAX, MOST_SEQUENCES = 1 << 20, MOST_TOKENS = 1 << 20;

static const char *const kind_keys[] = {[POL_UNIT_GROUP] = "attention", [POL_UNIT_CHANNEL] = "mlp"};

double pol_timing_round(double ms) { return round(ms * 0x1p20) * 0x1p-20; }

static pol_status check_ms(pol_context *ctx, pol_status code, const char *name, const char *what, double ms)
{
    if (ms >= 0 && ms <= MOST_MS) /* not for NaN */
        return POL_OK;
    return pol_fail(ctx, code, "%s: %s: %g ms are outside 0..%g", name, what, ms, MOST_MS);
}

pol_status pol_timing_check(pol_context *ctx, pol_status code, const char *name, const pol_timing *t)
{
    POL_TRY(check_ms(ctx, code, name, "rest", t->rest));
    for (pol_unit_kind k = POL_UNIT_GROUP; k <= POL_UNIT_CHANNEL; k++) {
        if (t->n[k] < 0 || t->n[k] > POL_TIMING_POINTS)
            return pol_fail(ctx, code, "%s: %s: %lld points are outside 0..%d", name, kind_keys[k], (long long)t->n[k],
                            POL_TIMING_POINTS);
        pol_timing_point last = {0, 0};
        for (int64_t i = 0; i < t->n[k]; i++) {
            const pol_timing_point p = t->point[k][i];
            POL_TRY(check_ms(ctx, code, name, kind_keys[k], p.ms));
            if (p.units <= last.units || p.units > MOST_UNITS || p.ms < last.ms)
                return pol_fail(ctx, code, "%s: %s: %lld units of %g ms cannot follow %lld of %g ms", name,
                                kind_keys[k], (long long)p.units, p.ms, (long long)last.units, last.ms);
            last = p;
        }
    }
    return POL_OK;
}

void pol_timing_smooth(pol_timing *t, pol_unit_kind kind)
{
    double mean[POL_TIMING_POINTS]; /* pools, each of `size` points, rising */
    int64_t size[POL_TIMING_POINTS], pools = 0;
    for (int64_t i = 0; i < t->n[kind]; i++) {
        mean[pools] = t->point[kind][i].ms;
        size[pools++] = 1;
        for (; pools > 1 && mean[pools - 2] > mean[pools - 1]; pools--) {
            const double a = (double)size[pools - 2], b = (double)size[pools - 1];
            mean[pools - 2] = (a * mean[pools - 2] + b * mean[pools - 1]) / (a + b);
            size[pools - 2] += size[pools - 1];
        }
    }
    for (int64_t p = 0, i = 0; p < pools; p++)
        for (int64_t j = 0; j < size[p]; j++)
            t->point[kind][i++].ms = pol_timing_round(mean[p]);
}

double pol_timing_at(const pol_timing *t, pol_unit_kind kind, int64_t n)
{
    pol_timing_point below = {0, 0};
    for (int64_t i = 0; i < t->n[kind]; i++) {
        const pol_timing_point p = t->point[kind][i];
        if (p.units >= n) {
            const double part = (double)(n - below.units) / (double)(p.units - below.units);
            return pol_timing_round(below.ms + part * (p.ms - below.ms));
        }
        below = p;
    }
    return pol_timing_round(below.ms);
}

static json_t *points_json(const pol_timing *t, pol_unit_kind kind)
{
    json_t *a = json_array();
    for (int64_t i = 0; a && i < t->n[kind]; i++)
        json_array_append_new(a, json_pack("[If]", (json_int_t)t->point[kind][i].units, t->point[kind][i].ms));
    return a;
}

json_t *pol_timing_to_json(const pol_timing *t)
{
    return json_pack("{sI sI sf so so}", "batch", (json_int_t)t->batch, "seq_len", (json_int_t)t->seq_len, "rest_ms",
                     t->rest, kind_keys[POL_UNIT_GROUP], points_json(t, POL_UNIT_GROUP), kind_keys[POL_UNIT_CHANNEL],
                     points_json(t, POL_UNIT_CHANNEL));
}

static pol_status read_points(pol_context *ctx, const char *name, const json_t *j, pol_unit_kind kind, pol_timing *out)
{
    json_t *points;
    POL_TRY(pol_json_array(ctx, name, j, kind_keys[kind], &points));
    const size_t n = json_array_size(points);
    if (n > POL_TIMING_POINTS)
        return pol_fail(ctx, POL_EFORMAT, "%s: %s: %zu points, %d is the most", name, kind_keys[kind], n,
                        POL_TIMING_POINTS);
    for (size_t i = 0; i < n; i++) {
        const json_t *p = json_array_get(points, i), *units = json_array_get(p, 0), *ms = json_array_get(p, 1);
        if (json_array_size(p) != 2 || !json_is_integer(units) || !json_is_number(ms))
            return pol_fail(ctx, POL_EFORMAT, "%s: %s[%zu]: not a pair of units and milliseconds", name,
                            kind_keys[kind], i);
        out->point[kind][i] = (pol_timing_point){json_integer_value(units), pol_timing_round(json_number_value(ms))};
    }
    out->n[kind] = (int64_t)n;
    return POL_OK;
}

pol_status pol_timing_from_json(pol_context *ctx, const char *name, const json_t *j, pol_timing *out)
{
    memset(out, 0, sizeof *out);
    POL_TRY(pol_json_int(ctx, name, j, "batch", 1, MOST_SEQUENCES, &out->batch));
    POL_TRY(pol_json_int(ctx, name, j, "seq_len", 2, MOST_TOKENS, &out->seq_len));
    POL_TRY(pol_json_num(ctx, name, j, "rest_ms", 0, MOST_MS, &out->rest));
    out->rest = pol_timing_round(out->rest);
    POL_TRY(read_points(ctx, name, j, POL_UNIT_GROUP, out));
    POL_TRY(read_points(ctx, name, j, POL_UNIT_CHANNEL, out));
    return pol_timing_check(ctx, POL_EFORMAT, name, out);
}
