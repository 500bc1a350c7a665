/* schedule.c - the learning rate over a run.
 *
 * Cosine without warm-up is the reference's (CosineAnnealingLR, T_max = steps, read before the step). The sized rate
 * fits what did best for S16 with normalised advantages on two small models: 0.12 at 3,000 forward sequences, 0.06 at
 * 10,000; beyond, 1/sqrt(passes) is an extrapolation. Normalised advantages have no unit, so one fit can serve all
 * models; for plain ones the best rate depends on the spread of the loss, so there is no sized rate for them.
 */
#include <math.h>

#include "pollard/learn.h"

static const double PI = 3.141592653589793;

static double base_rate(const pol_learn_settings *o)
{
    if (o->learning_rate > 0.0)
        return o->learning_rate;
    return 6.0 / sqrt((double)o->steps * o->mask_samples * o->sequences_per_mask);
}

double pol_learning_rate(const pol_learn_settings *o, int64_t step)
{
    const double t = (double)step / (double)o->steps;
    switch (o->schedule) {
    case POL_SCHEDULE_COSINE: return base_rate(o) / 2.0 * (1.0 + cos(PI * t));
    case POL_SCHEDULE_LINEAR: return base_rate(o) * (1.0 - t);
    case POL_SCHEDULE_CONSTANT: break;
    }
    return base_rate(o);
}
