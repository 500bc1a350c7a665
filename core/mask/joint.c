/* joint.c - the cost of blocks in a joint budget. */
#include "core/mask/joint.h"

#include <math.h>

#include "core/base/base.h"
#include "core/mask/budget.h"
#include "core/mask/units.h"

pol_joint pol_joint_of(const pol_units *u, const pol_budget *b)
{
    if (b->cost)
        return (pol_joint){
            .units = u, .cost = b->cost, .limit = b->limit, .mask_limit = b->limit, .fixed = b->cost->fixed};
    return (pol_joint){.units = u,
                       .limit = b->keep_params * (double)pol_mask_params(u, NULL),
                       .mask_limit = (double)pol_budget_params(u, b->keep_params)};
}

double pol_joint_block(const pol_joint *j, pol_unit_kind contents, int32_t layer, double n)
{
    if (j->cost)
        return pol_cost_block(j->cost, contents, layer, n);
    return (double)pol_block_bias(j->units, contents, layer) * fmin(n, 1) +
           (double)pol_units_section(j->units, contents, layer)->params * n;
}

static double whole_block(const pol_joint *j, pol_unit_kind contents, int32_t layer)
{
    return pol_joint_block(j, contents, layer, (double)pol_units_section(j->units, contents, layer)->count);
}

double pol_joint_unit(const pol_joint *j, const pol_section *sec)
{
    if (j->cost)
        return pol_cost_unit(j->cost, sec);
    const pol_unit_kind contents = pol_contents_of(sec->kind);
    const double count = (double)pol_units_section(j->units, contents, sec->layer)->count;
    const double whole = whole_block(j, contents, sec->layer);
    return pol_is_block(sec->kind) || count == 0 ? whole : whole / count;
}

double pol_joint_untouched(const pol_joint *j, unsigned granularity)
{
    double sum = j->fixed;
    for (int32_t l = 0; l < j->units->n_layers; l++)
        for (pol_unit_kind k = POL_UNIT_GROUP; k <= POL_UNIT_CHANNEL; k++)
            if (!pol_has_kind(granularity, k) && !pol_has_kind(granularity, pol_block_of(k)))
                sum += whole_block(j, k, l);
    return sum;
}

double pol_joint_cheapest(const pol_joint *j, unsigned granularity)
{
    double least = INFINITY;
    for (int32_t l = 0; l < j->units->n_layers; l++)
        for (pol_unit_kind k = POL_UNIT_GROUP; k <= POL_UNIT_CHANNEL; k++) {
            double cost = 0;
            if (pol_has_kind(granularity, k))
                cost = pol_joint_block(j, k, l, fmin(1, (double)pol_units_section(j->units, k, l)->count));
            else if (pol_has_kind(granularity, pol_block_of(k)))
                cost = whole_block(j, k, l);
            if (cost > 0)
                least = fmin(least, cost);
        }
    return least;
}

bool pol_joint_proportional(const pol_joint *j)
{
    if (j->cost && j->cost->quantity == POL_MS)
        return false;
    for (int32_t l = 0; l < j->units->n_layers; l++)
        for (pol_unit_kind k = POL_UNIT_GROUP; k <= POL_UNIT_CHANNEL; k++) {
            const double count = (double)pol_units_section(j->units, k, l)->count;
            if (count > 0 && pol_joint_block(j, k, l, 1) * count != whole_block(j, k, l))
                return false;
        }
    return true;
}
