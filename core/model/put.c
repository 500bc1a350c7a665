/* put.c - values of a loaded model that are replaced by others. */
#include "core/model/weights.h"

static pol_status put_on_device(pol_model *m, const pol_part_shape *s, int32_t layer, pol_part part, int64_t first,
                                int64_t n, const float *values)
{
    return pol_upload(m->be, *pol_part_buf(&m->layers[layer], part), first * s->unit, values, n * s->unit);
}

/* At home units lie at their own numbers, wherever they are in a slot. */
static pol_status put_at_home(pol_model *m, const pol_part_shape *s, int32_t layer, pol_part part, int64_t first,
                              int64_t n, const float *values)
{
    const pol_section *sec = pol_units_section(m->units, s->kind, layer);
    POL_TRY(pol_visits_recall(m, layer));
    for (int64_t i = 0; i < n; i++) {
        const int64_t unit = m->arrangement->order[sec->first + first + i] - sec->first;
        pol_visits_store(m, layer, part, unit * s->unit, values + i * s->unit, s->unit);
    }
    return POL_OK;
}

pol_status pol_model_put(pol_model *m, int32_t layer, pol_part part, int64_t first, int64_t n, const float *values)
{
    const pol_part_shape s = pol_part_of(&m->config, m->be, layer, part);
    const int64_t count = s.units ? pol_units_section(m->units, s.kind, layer)->count : 0;
    POL_TRY(pol_model_check_whole(m));
    if (first < 0 || n < 0 || first > count || n > count - first)
        return pol_fail(m->ctx, POL_EARG, "put: layer %d: units %lld..%lld of a part that has %lld", layer,
                        (long long)first, (long long)(first + n - 1), (long long)count);
    return (m->visits ? put_at_home : put_on_device)(m, &s, layer, part, first, n, values);
}

pol_status pol_model_put_bias(pol_model *m, int32_t layer, pol_unit_kind kind, const float *values)
{
    pol_layer_weights *w = &m->layers[layer];
    pol_buf **bias = kind == POL_UNIT_GROUP ? &w->b_o : &w->b_down;
    POL_TRY(pol_model_check_whole(m));
    if (!*bias)
        POL_TRY(pol_buf_new(m->be, POL_F32, m->config.hidden, bias));
    return pol_upload(m->be, *bias, 0, values, m->config.hidden);
}
