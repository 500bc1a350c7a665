/* budget.c - what a budget amounts to for a model, and whether it can be met. */
#include "core/mask/budget.h"

#include <math.h>

#include "core/base/base.h"
#include "core/mask/joint.h"
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

double pol_budget_share(const pol_units *u, unsigned granularity, const pol_budget *b)
{
    const pol_joint j = pol_joint_of(u, b);
    const double untouched = pol_joint_untouched(&j, granularity), all = pol_joint_untouched(&j, 0);
    return all > untouched ? (j.limit - untouched) / (all - untouched) : 1;
}

static pol_status check_share(const pol_units *u, const char *name, double share)
{
    if (share > 0 && share <= 1) /* false for NaN */
        return POL_OK;
    return pol_fail(u->ctx, POL_EARG, "keep of %s is %g: a share must be above 0 and at most 1", name, share);
}

/* `what`: why it cannot be less. Rounded up in the last digit shown, so that the share named is one that is accepted.
 */
static pol_status refuse_params(const pol_joint *j, double share, double least, const char *what)
{
    const double all = (double)pol_mask_params(j->units, NULL);
    return pol_fail(j->units->ctx, POL_ELIMIT,
                    "keep of parameters is %g: the least share possible is %.6f, since %s %.0f of %.0f", share,
                    ceil(least / all * 1e6) / 1e6, what, least, all);
}

static pol_status refuse_cost(const pol_joint *j, double least, const char *what)
{
    const pol_cost *c = j->cost;
    char asked[POL_AMOUNT_TEXT], possible[POL_AMOUNT_TEXT], dense[POL_AMOUNT_TEXT];
    pol_amount_text(c->quantity, j->limit, asked);
    pol_amount_text(c->quantity, least, possible);
    pol_amount_text(c->quantity, c->dense, dense);
    return pol_fail(c->ctx, POL_ELIMIT,
                    "budget of %s is %s of %s%s: the least possible is %s, a share of %.6f, since that is what %s",
                    pol_quantity_names[c->quantity], asked, dense, c->embeddings ? " with embeddings" : "", possible,
                    ceil(least / c->dense * 1e6) / 1e6, what);
}

static pol_status check_joint(const pol_units *u, unsigned granularity, const pol_budget *b)
{
    if (!b->cost)
        POL_TRY(check_share(u, "parameters", b->keep_params));
    else if (!(b->limit > 0))
        return pol_fail(u->ctx, POL_EARG, "budget of %s is %g: it must be above 0",
                        pol_quantity_names[b->cost->quantity], b->limit);
    const pol_joint j = pol_joint_of(u, b);
    const double untouched = pol_joint_untouched(&j, granularity);
    const bool some = untouched > j.fixed; /* something of the blocks stays anyway */
    const double least = some ? untouched : untouched + pol_joint_cheapest(&j, granularity);
    if (j.mask_limit >= least || isinf(least))
        return POL_OK;
    return b->cost ? refuse_cost(&j, least, some ? "the granularity leaves untouched" : "the cheapest unit leaves")
                   : refuse_params(&j, b->keep_params, least,
                                   some ? "the granularity leaves untouched" : "the cheapest unit has");
}

pol_status pol_budget_check(const pol_units *u, unsigned granularity, const pol_budget *b)
{
    if (b->mode == POL_BUDGET_JOINT)
        return check_joint(u, granularity, b);
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
