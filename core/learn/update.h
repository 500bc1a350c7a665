/* update.h - how a gradient moves the distribution; and the units of a kind as one range. */
#ifndef POL_UPDATE_H
#define POL_UPDATE_H

#include "pollard/learn.h"

typedef struct pol_range {
    int64_t first, count;
} pol_range;

/* Units are numbered kind by kind, so those of one kind are neighbours. Empty where the granularity leaves the kind
 * alone: loops over all kinds then touch exactly the variables. */
static inline pol_range pol_variable_range(const pol_distribution *d, pol_unit_kind kind)
{
    pol_range r = {0, d->granularity & 1u << kind ? d->units->n_of[kind] : 0};
    for (int k = 0; k < (int)kind; k++)
        r.first += d->units->n_of[k];
    return r;
}

/* s <- s - rate g in float, as the reference does with f32 tensors; then the projection onto the budget; then into
 * [smin, 1 - smin]. The clamp comes last because the projection can push s to 0, where a unit would never be drawn
 * again; the expected cost may then exceed the budget, by at most smin of the units at the floor, until the next
 * projection. On failure s is undefined. */
pol_status pol_learn_update(const pol_learn_settings *o, pol_distribution *d, double rate, const float *g);

#endif
