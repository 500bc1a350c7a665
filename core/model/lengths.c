/* lengths.c - masks that are prefixes of the order in which the units lie: nothing moves, rows of a repaired model may
 * stand in for a block's last matrix. */
#include <string.h>

#include "core/model/weights.h"

static pol_status check_length(const pol_model *m, const pol_section *sec, int64_t length)
{
    if (length < 0 || length > sec->count)
        return pol_fail(m->ctx, POL_EARG, "lengths: layer %d has %lld of its %lld %s", sec->layer, (long long)length,
                        (long long)sec->count, pol_unit_kind_name(sec->kind));
    return POL_OK;
}

/* An MLP computes padded widths, so rows reach as far. */
static pol_status check_rows(const pol_model *m, const pol_section *sec, int64_t length, const pol_buf *rows)
{
    const pol_part part = sec->kind == POL_UNIT_GROUP ? POL_W_O : POL_W_DOWN;
    const pol_part_shape s = pol_part_of(&m->config, m->be, sec->layer, part);
    const int64_t units = sec->kind == POL_UNIT_GROUP ? length : pol_padded(m->be, length);
    if (m->visits)
        return pol_fail(m->ctx, POL_EUNSUPPORTED, "lengths: layers that visit the device have their own rows alone");
    if (rows->dtype != s.dtype || rows->n < units * s.unit)
        return pol_fail(m->ctx, POL_ESHAPE,
                        "lengths: layer %d: %lld %s need %lld elements of %s, the rows are %lld of %s", sec->layer,
                        (long long)length, pol_unit_kind_name(sec->kind), (long long)(units * s.unit),
                        pol_dtype_name(s.dtype), (long long)rows->n, pol_dtype_name(rows->dtype));
    return POL_OK;
}

pol_status pol_model_set_lengths(pol_model *m, const int64_t *length, pol_buf *const *rows)
{
    const int64_t L = m->config.n_layers;
    POL_TRY(pol_model_check_whole(m));
    for (int64_t i = 0; i < 2 * L; i++) {
        const pol_section *sec = &m->units->sections[i];
        POL_TRY(check_length(m, sec, length[i]));
        if (rows && rows[i])
            POL_TRY(check_rows(m, sec, length[i], rows[i]));
    }
    memcpy(m->arrangement->kept, length, 2 * (size_t)L * sizeof *length);
    for (int64_t l = 0; l < L; l++) {
        pol_layer_weights *w = &m->layers[l];
        w->n_groups = length[l];
        w->n_channels = length[L + l];
        w->rows_o = rows ? rows[l] : NULL;
        w->rows_down = rows ? rows[L + l] : NULL;
    }
    return POL_OK;
}
