/* deck.c - which sequences a cell sees.
 *
 * The draws of a run are numbered: cell (step, k) owns the nb numbers from (step K + k) nb on, or from step nb on where
 * the masks of a step share their sequences. Number p is place p mod n of the permutation of epoch p / n. So each
 * sequence is seen once an epoch, and a resumed run draws what an uninterrupted one would, with nothing saved. Only
 * the permutation of the epoch last used is kept.
 */
#include "core/base/base.h"
#include "core/base/rng.h"
#include "pollard/learn.h"

struct pol_deck {
    pol_context *ctx;
    pol_deck_settings o;
    int64_t n;
    int64_t epoch;  /* of `order`; -1: none yet */
    int64_t *order; /* [n] */
};

pol_deck_settings pol_learn_deck(const pol_learn_settings *o)
{
    return (pol_deck_settings){.seed = o->seed,
                               .steps = o->steps,
                               .masks = o->mask_samples,
                               .sequences = o->sequences_per_mask,
                               .shared = o->shared_sequences};
}

pol_status pol_deck_new(pol_context *ctx, const pol_deck_settings *o, int64_t n, pol_deck **out)
{
    *out = NULL;
    if (o->steps < 1 || o->masks < 1 || o->sequences < 1)
        return pol_fail(ctx, POL_EARG, "deck: %lld steps of %d masks of %d sequences", (long long)o->steps, o->masks,
                        o->sequences);
    if (n < o->sequences)
        return pol_fail(ctx, POL_EARG, "deck: %d sequences a mask, but the calibration set has %lld", o->sequences,
                        (long long)n);
    pol_deck *d = pol_alloc(ctx, sizeof *d);
    if (!d)
        return POL_ENOMEM;
    *d = (pol_deck){.ctx = ctx, .o = *o, .n = n, .epoch = -1};
    d->order = pol_alloc_array(ctx, n, sizeof *d->order);
    if (!d->order) {
        pol_deck_free(d);
        return POL_ENOMEM;
    }
    *out = d;
    return POL_OK;
}

void pol_deck_free(pol_deck *d)
{
    if (!d)
        return;
    pol_free(d->ctx, d->order);
    pol_free(d->ctx, d);
}

pol_status pol_deck_draw(pol_deck *d, int64_t step, int32_t k, int64_t *index)
{
    if (step < 0 || step >= d->o.steps)
        return pol_fail(d->ctx, POL_EARG, "deck: step %lld is outside 0..%lld", (long long)step,
                        (long long)(d->o.steps - 1));
    if (k < 0 || k >= d->o.masks)
        return pol_fail(d->ctx, POL_EARG, "deck: mask %d is outside 0..%d", k, d->o.masks - 1);
    const int64_t cell = d->o.shared ? step : step * d->o.masks + k;
    for (int32_t i = 0; i < d->o.sequences; i++) {
        const int64_t p = cell * d->o.sequences + i, epoch = p / d->n;
        if (epoch != d->epoch) {
            pol_permutation(d->o.seed, POL_STREAM_SHUFFLE, (uint64_t)epoch, d->n, d->order);
            d->epoch = epoch;
        }
        index[i] = d->order[p % d->n];
    }
    return POL_OK;
}
