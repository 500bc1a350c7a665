/* joint.h - a joint budget as projection, check and hard mask see it: what blocks cost, whether by a pol_cost or, where
 * the budget has none, in parameters of the decoder blocks; internal to core/mask. */
#ifndef POL_JOINT_H
#define POL_JOINT_H

#include "pollard/cost.h"

typedef struct pol_joint {
    const pol_units *units; /* borrowed, as is cost */
    const pol_cost *cost;   /* NULL: parameters */
    double limit;           /* of fixed + blocks, as an expectation */
    double mask_limit;      /* of a mask: the same, but for the last bits of a product such as 0.7 * 10 */
    double fixed;
} pol_joint;

pol_joint pol_joint_of(const pol_units *u, const pol_budget *b);

/* As pol_cost_block and pol_cost_unit. */
double pol_joint_block(const pol_joint *j, pol_unit_kind contents, int32_t layer, double n);
double pol_joint_unit(const pol_joint *j, const pol_section *sec);

/* What stays whatever the mask says: fixed, and the blocks that the granularity does not cover. A block whose contents
 * may all go is not among it. */
double pol_joint_untouched(const pol_joint *j, unsigned granularity);
/* The cheapest thing of a cost that a mask can keep beside that; infinite where there is none. */
double pol_joint_cheapest(const pol_joint *j, unsigned granularity);
/* Every block costs its units times what one costs: nothing comes with the first of them. */
bool pol_joint_proportional(const pol_joint *j);

#endif
