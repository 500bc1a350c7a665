/* budget.h - budgets in numbers; internal to the core. */
#ifndef POL_BUDGET_H
#define POL_BUDGET_H

#include "pollard/mask.h"

/* Units that a share of n keeps, and parameters that a share of all decoder blocks keeps: rounded down, but not for the
 * last bits of a product such as 0.7 * 10. */
int64_t pol_budget_count(double keep, int64_t n);
int64_t pol_budget_params(const pol_units *u, double keep_params);

/* Of what the granularity covers and costs anything, the share that the budget leaves, JOINT: what a mask that treats
 * all units alike would keep of each. */
double pol_budget_share(const pol_units *u, unsigned granularity, const pol_budget *b);

/* Blocks and their contents can both go, so that a unit's cost depends on its block: `contents` is GROUP or CHANNEL. */
bool pol_is_coupled(unsigned granularity, pol_unit_kind contents);

/* POL_ENUMERIC naming the first s that is not finite. */
pol_status pol_distribution_check(const pol_distribution *d);

/* The v of the projection: of one kind (SEPARATE), or of all, for costs in the budget's quantity, not over their mean
 * (JOINT; `kind` is not used). */
pol_status pol_budget_shift(const pol_distribution *d, const pol_budget *b, pol_unit_kind kind, double *v);

#endif
