/* cost.c - what the blocks of a model cost by the number of units that they keep, as tables. */
#include "pollard/cost.h"

#include <math.h>

#include "core/base/base.h"
#include "core/mask/timing.h"
#include "core/mask/units.h"

const char *const pol_quantity_names[] = {[POL_PARAMS] = "params", [POL_BYTES] = "bytes", [POL_KV_BYTES] = "kv-bytes",
                                          [POL_MACS] = "macs",     [POL_MS] = "ms",       NULL};

/* What is proportional to units: of one group, one channel; of a block that is there, besides; of its norm; and of all
 * that lies outside the blocks. */
typedef struct rates {
    double unit[2], block[2]; /* by kind: GROUP, CHANNEL */
    double norm, outside;
} rates;

/* Bytes of n numbers of `bits` each. A 256th is the finest that formats of quantised weights have, in whose units 2^53
 * are 35 terabytes. */
static double bytes_of(double n, double bits) { return round(n * bits / 8 * 256) / 256; }

static rates params_of(const pol_config *c)
{
    const double g = c->heads_per_group, D = c->head_dim, C = c->hidden, V = c->vocab;
    return (rates){
        .unit = {(2 * g + 2) * D * C + (c->qkv_bias ? (g + 2) * D : 0), 3 * C + (c->mlp_bias ? 2 : 0)},
        .block = {c->o_bias ? C : 0, c->mlp_bias ? C : 0},
        .norm = C,
        .outside = (c->tied ? 1 : 2) * V * C + C,
    };
}

/* Of all quantities but milliseconds. */
static rates rates_of(const pol_config *c, pol_quantity quantity, const pol_cost_options *o)
{
    const double g = c->heads_per_group, D = c->head_dim, C = c->hidden;
    rates r = params_of(c);
    switch (quantity) {
    case POL_BYTES:
        for (int k = 0; k < 2; k++) {
            r.unit[k] = bytes_of(r.unit[k], o->weight_bits);
            r.block[k] = bytes_of(r.block[k], o->weight_bits);
        }
        r.norm = bytes_of(r.norm, o->weight_bits);
        r.outside = bytes_of(r.outside, o->outside_bits > 0 ? o->outside_bits : o->weight_bits);
        return r;
    case POL_KV_BYTES: return (rates){.unit = {bytes_of(2 * D, o->cache_bits), 0}};
    case POL_MACS: /* the output matrix works whether it is tied or not */
        return (rates){.unit = {(2 * g + 2) * D * C, 3 * C}, .outside = (double)c->vocab * C};
    case POL_PARAMS:
    case POL_MS: break;
    }
    return r;
}

static int64_t index_of(const pol_units *u, pol_unit_kind kind, int32_t layer)
{
    return (int64_t)kind * u->n_layers + layer;
}

static pol_status new_tables(pol_cost *c)
{
    const pol_units *u = c->units;
    int64_t n = 0;
    c->first = pol_alloc_array(c->ctx, 2 * (int64_t)u->n_layers, sizeof *c->first);
    if (!c->first)
        return POL_ENOMEM;
    for (pol_unit_kind k = POL_UNIT_GROUP; k <= POL_UNIT_CHANNEL; k++)
        for (int32_t l = 0; l < u->n_layers; l++) {
            c->first[index_of(u, k, l)] = n;
            n += pol_units_section(u, k, l)->count + 1;
        }
    c->table = pol_alloc_array(c->ctx, n, sizeof *c->table);
    return c->table ? POL_OK : POL_ENOMEM;
}

static void fill_tables(pol_cost *c, const rates *r, const pol_timing *timing)
{
    const pol_units *u = c->units;
    for (pol_unit_kind k = POL_UNIT_GROUP; k <= POL_UNIT_CHANNEL; k++)
        for (int32_t l = 0; l < u->n_layers; l++) {
            double *table = c->table + c->first[index_of(u, k, l)];
            for (int64_t n = 0; n <= pol_units_section(u, k, l)->count; n++)
                table[n] = n == 0 ? 0 : timing ? pol_timing_at(timing, k, n) : r->block[k] + (double)n * r->unit[k];
        }
    c->norm = r->norm;
    c->outside = timing ? pol_timing_round(timing->rest) : r->outside;
}

static pol_status check_options(pol_context *ctx, const pol_units *u, pol_quantity quantity, const pol_cost_options *o)
{
    const double bits = quantity == POL_BYTES ? o->weight_bits : quantity == POL_KV_BYTES ? o->cache_bits : 1;
    if (!(bits > 0 && bits <= 64)) /* also NaN */
        return pol_fail(ctx, POL_EARG, "cost in %s: %g bits a number are outside 0..64", pol_quantity_names[quantity],
                        bits);
    if (quantity != POL_MS)
        return POL_OK;
    if (!o->timing)
        return pol_fail(ctx, POL_EARG, "cost in ms: there is no table of times");
    POL_TRY(pol_timing_check(ctx, POL_EARG, "cost in ms", o->timing));
    for (pol_unit_kind k = POL_UNIT_GROUP; k <= POL_UNIT_CHANNEL; k++)
        for (int32_t l = 0; l < u->n_layers; l++) {
            const int64_t count = pol_units_section(u, k, l)->count, n = o->timing->n[k];
            const int64_t last = n ? o->timing->point[k][n - 1].units : 0;
            if (count > last)
                return pol_fail(ctx, POL_EARG, "cost in ms: the table of times ends at %lld %s, layer %d has %lld",
                                (long long)last, pol_unit_kind_name(k), l, (long long)count);
        }
    return POL_OK;
}

pol_status pol_cost_new(pol_context *ctx, const pol_units *u, const pol_config *dense, pol_quantity quantity,
                        const pol_cost_options *o, pol_cost **out)
{
    *out = NULL;
    POL_TRY(check_options(ctx, u, quantity, o));
    pol_cost *c = pol_alloc_zero(ctx, sizeof *c);
    if (!c)
        return POL_ENOMEM;
    *c = (pol_cost){.ctx = ctx, .units = u, .quantity = quantity, .embeddings = o->embeddings};
    const pol_status s = new_tables(c);
    if (s < 0) {
        pol_cost_free(c);
        return s;
    }
    const bool timed = quantity == POL_MS;
    const rates r = timed ? (rates){.norm = 0} : rates_of(dense, quantity, o);
    fill_tables(c, &r, timed ? o->timing : NULL);
    c->fixed = c->embeddings ? c->outside : 0;
    c->dense = pol_cost_mask(c, NULL);
    *out = c;
    return POL_OK;
}

void pol_cost_free(pol_cost *c)
{
    if (!c)
        return;
    pol_free(c->ctx, c->first);
    pol_free(c->ctx, c->table);
    pol_free(c->ctx, c);
}

/* A norm goes with the last of its units, so below one unit it is there in part, as the table is. */
double pol_cost_block(const pol_cost *c, pol_unit_kind kind, int32_t layer, double n)
{
    const int64_t count = pol_units_section(c->units, kind, layer)->count;
    const double *table = c->table + c->first[index_of(c->units, kind, layer)];
    const double norm = c->embeddings ? c->norm * fmin(n, 1) : 0;
    const int64_t below = (int64_t)n;
    if (below >= count)
        return table[count] + norm;
    return table[below] + (n - (double)below) * (table[below + 1] - table[below]) + norm;
}

double pol_cost_mask(const pol_cost *c, const uint8_t *mask)
{
    const pol_units *u = c->units;
    double sum = c->fixed;
    for (int32_t l = 0; l < u->n_layers; l++)
        for (pol_unit_kind k = POL_UNIT_GROUP; k <= POL_UNIT_CHANNEL; k++)
            sum += pol_cost_block(c, k, l, (double)pol_section_kept(u, mask, k, l));
    return sum;
}

double pol_cost_unit(const pol_cost *c, const pol_section *sec)
{
    const pol_unit_kind contents = pol_contents_of(sec->kind);
    const double count = (double)pol_units_section(c->units, contents, sec->layer)->count;
    const double whole = pol_cost_block(c, contents, sec->layer, count);
    return pol_is_block(sec->kind) || count == 0 ? whole : whole / count;
}

unsigned pol_cost_kinds(const pol_cost *c)
{
    unsigned kinds = 0;
    for (int64_t i = 0; i < c->units->n_sections; i++) {
        const pol_section *sec = &c->units->sections[i];
        if (sec->count > 0 && pol_cost_unit(c, sec) > 0)
            kinds |= 1u << sec->kind;
    }
    return kinds;
}
