/* shape.c - what the counts of blocks may be: the rules checked, and laid out as ladders. */
#include "core/learn/shape.h"

#include <math.h>

#include "core/base/base.h"
#include "core/mask/budget.h"
#include "core/mask/units.h"

static const unsigned SHAPED = POL_HEADS | POL_CHANNELS;

void pol_shape_free(pol_shape *s)
{
    if (!s)
        return;
    pol_free(s->ctx, s->block);
    pol_free(s->ctx, s->counts);
    pol_free(s->ctx, s->costs);
    pol_free(s->ctx, s);
}

static double block_params(const pol_units *u, pol_unit_kind kind, int32_t layer, int64_t n)
{
    const int64_t unit = pol_units_section(u, kind, layer)->params;
    return n > 0 ? (double)(n * unit + pol_block_bias(u, kind, layer)) : 0.0;
}

double pol_shape_cost(const pol_shape *s, int32_t block, double x)
{
    const pol_budget *budget = &s->rules.budget;
    const pol_block_rules *b = &s->block[block];
    if (budget->mode == POL_BUDGET_SEPARATE)
        return x;
    if (budget->cost)
        return pol_cost_block(budget->cost, b->kind, b->layer, x);
    const double below = floor(x), part = x - below;
    const double cost = block_params(s->rules.units, b->kind, b->layer, (int64_t)below);
    if (part == 0.0)
        return cost;
    return cost + part * (block_params(s->rules.units, b->kind, b->layer, (int64_t)below + 1) - cost);
}

double pol_shape_params(const pol_shape *s, const int64_t *count)
{
    double sum = 0.0;
    for (int32_t i = 0; i < s->n_blocks; i++)
        sum += block_params(s->rules.units, s->block[i].kind, s->block[i].layer, count[i]);
    return sum;
}

static bool is_shaped(const pol_shape_rules *r, pol_unit_kind kind) { return pol_has_kind(r->granularity, kind); }

static int64_t alignment(const pol_shape_rules *r, pol_unit_kind kind)
{
    return kind == POL_UNIT_CHANNEL ? r->align_channels : 1;
}

static bool is_aligned(const pol_shape_rules *r, const pol_block_rules *b, int64_t n)
{
    return n == b->units || n % alignment(r, b->kind) == 0;
}

static pol_status check_levels(const pol_shape_rules *r, const pol_block_rules *b, int32_t i)
{
    const int64_t *level = r->level[i], n = r->n_levels[i];
    bool good = n > 0 && level[0] == 0 && level[n - 1] == b->units;
    for (int64_t j = 0; good && j < n; j++)
        good = is_aligned(r, b, level[j]) && (j == 0 || level[j] > level[j - 1]);
    if (good)
        return POL_OK;
    return pol_fail(r->units->ctx, POL_EARG, "shape: levels of %s of layer %d do not rise from 0 to %lld, aligned",
                    pol_unit_kind_name(b->kind), b->layer, (long long)b->units);
}

/* First level that is not below `floor`, or `most` where there is none. */
static int64_t lowest_level(const pol_shape_rules *r, int32_t i, int64_t floor, int64_t most)
{
    for (int64_t j = 0; j < r->n_levels[i]; j++)
        if (r->level[i][j] >= floor)
            return pol_min_i64(r->level[i][j], most);
    return most;
}

/* Kind, layer, and the bounds that rules and alignment leave. */
static pol_status bound_block(const pol_shape_rules *r, int32_t i, pol_block_rules *b)
{
    const int32_t L = r->units->n_layers;
    *b = (pol_block_rules){.kind = i < L ? POL_UNIT_GROUP : POL_UNIT_CHANNEL, .layer = i % L};
    b->units = pol_units_section(r->units, b->kind, b->layer)->count;
    if (is_shaped(r, b->kind) && r->level)
        POL_TRY(check_levels(r, b, i));
    const int64_t align = alignment(r, b->kind);
    const int64_t most = r->at_most ? pol_min_i64(r->at_most[i], b->units) : b->units;
    b->most = most == b->units ? most : most / align * align;
    if (!is_shaped(r, b->kind)) {
        b->least = b->units;
    } else {
        const int64_t floor = pol_min_i64(b->kind == POL_UNIT_GROUP ? r->min_groups : r->min_channels, b->units);
        b->least = pol_min_i64((floor + align - 1) / align * align, b->units);
        if (r->level && b->least <= b->most)
            b->least = lowest_level(r, i, b->least, b->most);
    }
    if (b->least > b->most)
        return pol_fail(r->units->ctx, POL_ELIMIT,
                        "shape: %s of layer %d: at least %lld have to stay, but the larger model has %lld",
                        pol_unit_kind_name(b->kind), b->layer, (long long)b->least, (long long)most);
    return POL_OK;
}

/* Adds a count on top; where it costs no more than the one below, in its place: a ladder has no steps for nothing, of
 * which a table of milliseconds may have thousands. */
static void climb(const pol_shape *s, int32_t block, pol_ladder *l, int64_t n)
{
    const double cost = pol_shape_cost(s, block, (double)n);
    if (l->n > 0 && cost <= l->cost[l->n - 1])
        l->n--;
    l->count[l->n] = n;
    l->cost[l->n] = cost;
    l->n++;
}

/* Ladders lie in s->counts and s->costs from *at on. */
static void build_ladders(pol_shape *s, int32_t i, int64_t *at)
{
    const pol_shape_rules *r = &s->rules;
    pol_block_rules *b = &s->block[i];
    b->allowed = (pol_ladder){.count = s->counts + *at, .cost = s->costs + *at};
    climb(s, i, &b->allowed, b->least);
    const int64_t align = alignment(r, b->kind);
    for (int64_t n = b->least + align; n < b->most; n += align)
        climb(s, i, &b->allowed, n);
    if (b->most > b->least)
        climb(s, i, &b->allowed, b->most);
    *at += b->allowed.n;
    b->level = b->allowed;
    if (!r->level || !is_shaped(r, b->kind))
        return;
    b->level = (pol_ladder){.count = s->counts + *at, .cost = s->costs + *at};
    climb(s, i, &b->level, b->least);
    for (int64_t j = 0; j < r->n_levels[i]; j++)
        if (r->level[i][j] > b->least && r->level[i][j] < b->most)
            climb(s, i, &b->level, r->level[i][j]);
    if (b->most > b->least)
        climb(s, i, &b->level, b->most);
    *at += b->level.n;
}

static pol_status build_blocks(pol_shape *s)
{
    int64_t room = 0;
    s->block = pol_alloc_array(s->ctx, s->n_blocks, sizeof *s->block);
    if (!s->block)
        return POL_ENOMEM;
    for (int32_t i = 0; i < s->n_blocks; i++) {
        POL_TRY(bound_block(&s->rules, i, &s->block[i]));
        room += s->block[i].units + 1 + (s->rules.level ? s->rules.n_levels[i] + 1 : 0);
    }
    s->counts = pol_alloc_array(s->ctx, room, sizeof *s->counts);
    s->costs = pol_alloc_array(s->ctx, room, sizeof *s->costs);
    if (!s->counts || !s->costs)
        return POL_ENOMEM;
    int64_t at = 0;
    for (int32_t i = 0; i < s->n_blocks; i++)
        build_ladders(s, i, &at);
    return POL_OK;
}

/* What a cost has besides the blocks. Costs are such that sums and differences of them are exact. */
static double fixed_cost(const pol_shape *s, const pol_cost *cost)
{
    double blocks = 0.0;
    for (int32_t i = 0; i < s->n_blocks; i++)
        blocks += pol_shape_cost(s, i, (double)s->block[i].units);
    return pol_cost_mask(cost, NULL) - blocks;
}

static void build_pots(pol_shape *s)
{
    const pol_units *u = s->rules.units;
    const pol_budget *b = &s->rules.budget;
    if (b->mode == POL_BUDGET_JOINT) {
        s->n_pots = 1;
        s->pot[0] = (pol_pot){.count = s->n_blocks,
                              .limit = b->cost ? b->limit - fixed_cost(s, b->cost)
                                               : (double)pol_budget_params(u, b->keep_params)};
        return;
    }
    s->n_pots = 2;
    for (pol_unit_kind k = POL_UNIT_GROUP; k <= POL_UNIT_CHANNEL; k++)
        s->pot[k] = (pol_pot){
            .first = (int32_t)k * u->n_layers,
            .count = u->n_layers,
            .limit = (double)(is_shaped(&s->rules, k) ? pol_budget_count(b->keep[k], u->n_of[k]) : u->n_of[k])};
}

/* The least that the rules leave has to be within the budget. */
static pol_status check_pots(const pol_shape *s)
{
    const bool joint = s->rules.budget.mode == POL_BUDGET_JOINT;
    for (int32_t p = 0; p < s->n_pots; p++) {
        const pol_pot *pot = &s->pot[p];
        double least = 0.0;
        for (int32_t i = pot->first; i < pot->first + pot->count; i++)
            least += s->block[i].level.cost[0];
        if (least > pot->limit)
            return pol_fail(s->ctx, POL_ELIMIT,
                            "shape: the budget leaves %.12g %s, but floors, alignment and granularity keep %.12g",
                            pot->limit, joint ? "for the blocks" : pol_unit_kind_name(s->block[pot->first].kind),
                            least);
    }
    return POL_OK;
}

static pol_status check_rules(const pol_shape_rules *r)
{
    pol_context *ctx = r->units->ctx;
    if (!(r->granularity & SHAPED))
        return pol_fail(ctx, POL_EARG, "shape: the granularity has neither heads nor channels");
    if (r->align_channels < 1)
        return pol_fail(ctx, POL_EARG, "shape: align_channels: %lld is below 1", (long long)r->align_channels);
    if (r->min_groups < 0 || r->min_channels < 0)
        return pol_fail(ctx, POL_EARG, "shape: %s: %lld is negative", r->min_groups < 0 ? "min_groups" : "min_channels",
                        (long long)pol_min_i64(r->min_groups, r->min_channels));
    for (int32_t i = 0; r->at_most && i < 2 * r->units->n_layers; i++)
        if (r->at_most[i] < 0)
            return pol_fail(ctx, POL_EARG, "shape: at_most of block %d: %lld is negative", i, (long long)r->at_most[i]);
    return pol_budget_check(r->units, r->granularity & SHAPED, &r->budget);
}

pol_status pol_shape_new(const pol_shape_rules *r, pol_shape **out)
{
    *out = NULL;
    POL_TRY(check_rules(r));
    pol_shape *s = pol_alloc_zero(r->units->ctx, sizeof *s);
    if (!s)
        return POL_ENOMEM;
    s->ctx = r->units->ctx;
    s->rules = *r;
    s->n_blocks = 2 * r->units->n_layers;
    pol_status status = build_blocks(s);
    if (status == POL_OK) {
        build_pots(s);
        status = check_pots(s);
    }
    if (status < 0) {
        pol_shape_free(s);
        return status;
    }
    *out = s;
    return POL_OK;
}

pol_status pol_shape_check(const pol_shape_rules *r)
{
    pol_shape *s;
    POL_TRY(pol_shape_new(r, &s));
    pol_shape_free(s);
    return POL_OK;
}
