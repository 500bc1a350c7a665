/* units.c - the numbering of the units, what each costs, and what a mask leaves of a model. */
#include "core/mask/units.h"

#include <string.h>

#include "core/base/base.h"

const char *pol_unit_kind_name(pol_unit_kind k)
{
    static const char *const name[POL_UNIT_KINDS] = {"heads", "channels", "attention_blocks", "mlp_blocks"};
    return name[k];
}

/* Parameters of one group, one channel, and of what each block has besides (its output bias). Doubles: they are exact
 * up to 2^53, which pol_units_new makes the limit of the whole, and cannot wrap on a hostile configuration. */
typedef struct costs {
    double unit[2], bias[2]; /* by POL_UNIT_GROUP, POL_UNIT_CHANNEL */
} costs;

static costs costs_of(const pol_config *c)
{
    const double g = c->heads_per_group, D = c->head_dim, C = c->hidden;
    return (costs){
        .unit = {(g + 2) * D * C + g * D * C + (c->qkv_bias ? (g + 2) * D : 0), 3 * C + (c->mlp_bias ? 2 : 0)},
        .bias = {c->o_bias ? C : 0, c->mlp_bias ? C : 0},
    };
}

static int32_t unit_count(const pol_config *c, pol_unit_kind kind, int32_t layer)
{
    const pol_layer_shape *shape = &c->layers[layer];
    const int32_t contents = pol_contents_of(kind) == POL_UNIT_GROUP ? shape->n_groups : shape->ffn;
    return pol_is_block(kind) ? contents > 0 : contents;
}

static pol_status check_config(pol_context *ctx, const pol_config *c)
{
    if (c->n_layers < 1 || c->n_layers > POL_MAX_LAYERS)
        return pol_fail(ctx, POL_EARG, "units: n_layers is %d, outside 1..%d", c->n_layers, POL_MAX_LAYERS);
    if (c->hidden < 1 || c->heads_per_group < 1 || c->head_dim < 1)
        return pol_fail(ctx, POL_EARG, "units: hidden %d, heads_per_group %d, head_dim %d: each must be positive",
                        c->hidden, c->heads_per_group, c->head_dim);
    const costs cost = costs_of(c);
    double params = 0, units = 0;
    for (int32_t l = 0; l < c->n_layers; l++) {
        const pol_layer_shape *shape = &c->layers[l];
        if (shape->n_groups < 0 || shape->ffn < 0)
            return pol_fail(ctx, POL_EARG, "units: layer %d has %d groups and %d channels", l, shape->n_groups,
                            shape->ffn);
        units += 2.0 + shape->n_groups + shape->ffn;
        params += shape->n_groups * cost.unit[0] + cost.bias[0] + shape->ffn * cost.unit[1] + cost.bias[1];
    }
    if (units > INT32_MAX || params > 0x1p53)
        return pol_fail(ctx, POL_ELIMIT, "units: %.0f units with %.3g parameters are more than Pollard numbers", units,
                        params);
    return POL_OK;
}

pol_status pol_units_new(pol_context *ctx, const pol_config *c, pol_units **out)
{
    *out = NULL;
    POL_TRY(check_config(ctx, c));
    pol_units *u = pol_alloc_zero(ctx, sizeof *u);
    if (!u)
        return POL_ENOMEM;
    u->ctx = ctx;
    u->n_layers = c->n_layers;
    u->n_sections = (int64_t)POL_UNIT_KINDS * c->n_layers;
    u->sections = pol_alloc_array(ctx, u->n_sections, sizeof *u->sections);
    if (!u->sections) {
        pol_units_free(u);
        return POL_ENOMEM;
    }
    const costs cost = costs_of(c);
    for (int64_t i = 0; i < u->n_sections; i++) {
        const pol_unit_kind kind = (pol_unit_kind)(i / c->n_layers), contents = pol_contents_of(kind);
        const int32_t layer = (int32_t)(i % c->n_layers), count = unit_count(c, kind, layer);
        double params = cost.unit[contents];
        if (pol_is_block(kind))
            params = count ? unit_count(c, contents, layer) * params + cost.bias[contents] : 0;
        u->sections[i] = (pol_section){kind, layer, u->n, count, (int64_t)params};
        u->n += u->sections[i].count;
        u->n_of[kind] += u->sections[i].count;
    }
    *out = u;
    return POL_OK;
}

void pol_units_free(pol_units *u)
{
    if (!u)
        return;
    pol_free(u->ctx, u->sections);
    pol_free(u->ctx, u);
}

const pol_section *pol_units_section(const pol_units *u, pol_unit_kind kind, int32_t layer)
{
    return &u->sections[(int64_t)kind * u->n_layers + layer];
}

int64_t pol_section_kept(const pol_units *u, const uint8_t *mask, pol_unit_kind contents, int32_t layer)
{
    const pol_section *sec = pol_units_section(u, contents, layer);
    if (!mask || sec->count == 0)
        return sec->count;
    if (!mask[pol_units_section(u, pol_block_of(contents), layer)->first])
        return 0;
    int64_t kept = 0;
    for (int64_t i = sec->first; i < sec->first + sec->count; i++)
        kept += mask[i] != 0;
    return kept;
}

void pol_mask_effective(const pol_units *u, const uint8_t *mask, uint8_t *out)
{
    if (!mask)
        memset(out, 1, (size_t)u->n);
    else if (out != mask)
        memcpy(out, mask, (size_t)u->n);
    for (int32_t l = 0; l < u->n_layers; l++)
        for (pol_unit_kind k = POL_UNIT_GROUP; k <= POL_UNIT_CHANNEL; k++) {
            const pol_section *sec = pol_units_section(u, k, l);
            if (sec->count > 0 && !out[pol_units_section(u, pol_block_of(k), l)->first])
                memset(out + sec->first, 0, (size_t)sec->count);
        }
}

void pol_mask_layer_counts(const pol_units *u, const uint8_t *mask, pol_layer_shape *out)
{
    for (int32_t l = 0; l < u->n_layers; l++)
        out[l] = (pol_layer_shape){(int32_t)pol_section_kept(u, mask, POL_UNIT_GROUP, l),
                                   (int32_t)pol_section_kept(u, mask, POL_UNIT_CHANNEL, l)};
}

int64_t pol_mask_params(const pol_units *u, const uint8_t *mask)
{
    int64_t params = 0;
    for (int32_t l = 0; l < u->n_layers; l++)
        for (pol_unit_kind k = POL_UNIT_GROUP; k <= POL_UNIT_CHANNEL; k++) {
            const int64_t kept = pol_section_kept(u, mask, k, l);
            if (kept > 0)
                params += kept * pol_units_section(u, k, l)->params + pol_block_bias(u, k, l);
        }
    return params;
}

void pol_mask_config(const pol_units *u, const uint8_t *mask, const pol_config *dense, pol_config *out)
{
    *out = *dense;
    pol_mask_layer_counts(u, mask, out->layers);
}
