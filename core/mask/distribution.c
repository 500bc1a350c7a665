/* distribution.c - Bernoulli probabilities over the units, and drawing masks from them. */
#include <math.h>

#include "core/base/base.h"
#include "core/base/rng.h"
#include "core/mask/budget.h"
#include "core/mask/units.h"

pol_status pol_distribution_new(const pol_units *u, unsigned granularity, pol_distribution **out)
{
    *out = NULL;
    if (granularity == 0 || granularity >> POL_UNIT_KINDS)
        return pol_fail(u->ctx, POL_EARG, "granularity %#x: not a set of unit kinds", granularity);
    pol_distribution *d = pol_alloc_zero(u->ctx, sizeof *d);
    if (!d)
        return POL_ENOMEM;
    *d = (pol_distribution){.units = u, .granularity = granularity, .s = pol_alloc_array(u->ctx, u->n, sizeof *d->s)};
    if (!d->s) {
        pol_distribution_free(d);
        return POL_ENOMEM;
    }
    for (int64_t i = 0; i < u->n; i++)
        d->s[i] = 1;
    *out = d;
    return POL_OK;
}

void pol_distribution_free(pol_distribution *d)
{
    if (!d)
        return;
    pol_context *ctx = d->units->ctx;
    pol_free(ctx, d->s);
    pol_free(ctx, d);
}

/* Number i of the draw belongs to unit i, whatever the granularity, so that a unit's luck does not depend on which
 * kinds are learnt. */
void pol_distribution_sample(const pol_distribution *d, uint64_t seed, uint64_t step, uint32_t k, uint8_t *mask)
{
    enum { CHUNK = 256 };
    for (int64_t i = 0; i < d->units->n; i += CHUNK) {
        float u[CHUNK];
        const int64_t n = pol_min_i64(CHUNK, d->units->n - i);
        const float *s = d->s + i;
        pol_uniform_from(seed, POL_STREAM_MASK, step, k, i, n, u);
        for (int64_t j = 0; j < n; j++)
            mask[i + j] = u[j] < s[j];
    }
}

void pol_distribution_clamp(pol_distribution *d, float smin)
{
    for (int64_t k = 0; k < d->units->n_sections; k++) {
        const pol_section *sec = &d->units->sections[k];
        if (!pol_has_kind(d->granularity, sec->kind))
            continue;
        for (int64_t i = sec->first; i < sec->first + sec->count; i++)
            d->s[i] = fminf(fmaxf(d->s[i], smin), 1 - smin);
    }
}

pol_status pol_distribution_check(const pol_distribution *d)
{
    for (int64_t k = 0; k < d->units->n_sections; k++) {
        const pol_section *sec = &d->units->sections[k];
        for (int64_t i = sec->first; i < sec->first + sec->count; i++)
            if (!isfinite(d->s[i]))
                return pol_fail(d->units->ctx, POL_ENUMERIC, "probability of %s layer %d unit %lld is %g",
                                pol_unit_kind_name(sec->kind), sec->layer, (long long)(i - sec->first), d->s[i]);
    }
    return POL_OK;
}
