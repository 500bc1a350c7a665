/* update.c - one step of stochastic gradient descent on the probabilities. */
#include "core/learn/update.h"

pol_status pol_learn_update(const pol_learn_settings *o, pol_distribution *d, double rate, const float *g)
{
    const float lr = (float)rate;
    for (int kind = 0; kind < POL_UNIT_KINDS; kind++) {
        const pol_range r = pol_variable_range(d, kind);
        for (int64_t i = r.first; i < r.first + r.count; i++)
            d->s[i] -= lr * g[i];
    }
    POL_TRY(pol_project_budget(d, &o->budget));
    pol_distribution_clamp(d, (float)o->smin);
    return POL_OK;
}
