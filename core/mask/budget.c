/* budget.c - what a budget amounts to for a model, and whether it can be met. */
#include "core/mask/budget.h"

#include <math.h>

#include "core/base/base.h"
#include "core/mask/units.h"

const char *const pol_budget_mode_names[] = {[POL_BUDGET_SEPARATE] = "separate", [POL_BUDGET_JOINT] = "joint", NULL};

int64_t pol_budget_count(double keep, int64_t n) { return (int64_t)floor(keep * (double)n + 1e-9); }

int64_t pol_budget_params(const pol_units *u, double keep_params)
{
    const int64_t all = pol_mask_params(u, NULL);
    return pol_min_i64(all, (int64_t)floor(keep_params * (double)all * (1 + 1e-12)));
}

bool pol_is_coupled(unsigned granularity, pol_unit_kind contents)
{
    return pol_has_kind(granularity, contents) && pol_has_kind(granularity, pol_block_of(contents));
}

int64_t pol_untouched_params(const pol_units *u, unsigned granularity)
{
    int64_t params = 0;
    for (int32_t l = 0; l < u->n_layers; l++)
        for (pol_unit_kind k = POL_UNIT_GROUP; k <= POL_UNIT_CHANNEL; k++) {
            const pol_section *block = pol_units_section(u, pol_block_of(k), l);
            if (block->count == 0 || pol_has_kind(granularity, block->kind))
                continue;
            params += pol_has_kind(granularity, k) ? pol_block_bias(u, k, l) : block->params;
        }
    return params;
}

/* The cheapest thing that a mask can keep beside what it must. */
static int64_t cheapest(const pol_units *u, unsigned granularity)
{
    int64_t least = INT64_MAX;
    for (int64_t i = 0; i < u->n_sections; i++) {
        const pol_section *sec = &u->sections[i];
        const pol_unit_kind contents = pol_contents_of(sec->kind);
        if (sec->count == 0 || !pol_has_kind(granularity, sec->kind) ||
            (pol_is_block(sec->kind) && pol_is_coupled(granularity, contents)))
            continue;
        const int64_t bias = pol_is_coupled(granularity, contents) ? pol_block_bias(u, contents, sec->layer) : 0;
        least = pol_min_i64(least, sec->params + bias);
    }
    return least;
}

static pol_status check_share(const pol_units *u, const char *name, double share)
{
    if (share > 0 && share <= 1) /* false for NaN */
        return POL_OK;
    return pol_fail(u->ctx, POL_EARG, "keep of %s is %g: a share must be above 0 and at most 1", name, share);
}

static pol_status check_joint(const pol_units *u, unsigned granularity, double share)
{
    POL_TRY(check_share(u, "parameters", share));
    const int64_t untouched = pol_untouched_params(u, granularity);
    const int64_t least = untouched > 0 ? untouched : cheapest(u, granularity);
    if (pol_budget_params(u, share) >= least)
        return POL_OK;
    const double all = (double)pol_mask_params(u, NULL);
    /* Rounded up in the last digit shown, so that the share named is one that is accepted. */
    return pol_fail(
        u->ctx, POL_ELIMIT, "keep of parameters is %g: the least share possible is %.6f, since %s %lld of %.0f", share,
        ceil((double)least / all * 1e6) / 1e6,
        untouched > 0 ? "the granularity leaves untouched" : "the cheapest unit has", (long long)least, all);
}

pol_status pol_budget_check(const pol_units *u, unsigned granularity, const pol_budget *b)
{
    if (b->mode == POL_BUDGET_JOINT)
        return check_joint(u, granularity, b->keep_params);
    for (pol_unit_kind k = 0; k < POL_UNIT_KINDS; k++) {
        if (!pol_has_kind(granularity, k))
            continue;
        POL_TRY(check_share(u, pol_unit_kind_name(k), b->keep[k]));
        if (u->n_of[k] > 0 && pol_budget_count(b->keep[k], u->n_of[k]) < 1)
            return pol_fail(u->ctx, POL_ELIMIT, "keep of %s is %g: keeps none of %lld", pol_unit_kind_name(k),
                            b->keep[k], (long long)u->n_of[k]);
    }
    return POL_OK;
}
