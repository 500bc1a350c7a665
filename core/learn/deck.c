/* deck.c - which sequences a cell sees.
 *
 * The draws of a run are numbered: cell (step, k) owns the nb numbers from (step K + k) nb on, or from step nb on where
 * the masks of a step share their sequences. Number p is place p mod n of the permutation of epoch p / n. So each
 * sequence is seen once an epoch, and a resumed run draws what an uninterrupted one would, with nothing saved. Only
 * the permutation of the epoch last used is kept.
 *
 * Of several parts with weights each has its own numbers and permutations. The first takes those p at which
 * floor(p share) goes up, and has then taken floor(p share) before; what it leaves is numbered anew and dealt out among
 * the others in the same way. So after any number of draws the first has its share but for less than one draw, and the
 * others have theirs of what is left.
 */
#include <math.h>

#include "core/base/base.h"
#include "core/base/rng.h"
#include "pollard/learn.h"

/* Weights as whole numbers: shares are then exact, and draws times weights fit 64 bits. */
enum { SHARES = 1 << 15, MAX_PARTS = 256, EPOCH_BITS = 48 };

typedef struct part {
    int64_t first, n;
    uint64_t weight, rest; /* its own; of it and those behind it */
    int64_t epoch;         /* of `order`; -1: none yet */
    int64_t *order;        /* [n] */
} part;

struct pol_deck {
    pol_context *ctx;
    pol_deck_settings o;
    int64_t n_parts;
    part *parts;
};

pol_deck_settings pol_learn_deck(const pol_learn_settings *o)
{
    return (pol_deck_settings){.seed = o->seed,
                               .steps = o->steps,
                               .masks = o->mask_samples,
                               .sequences = o->sequences_per_mask,
                               .shared = o->shared_sequences,
                               .parts = o->parts,
                               .n_parts = o->n_parts};
}

static pol_status check_parts(pol_context *ctx, const pol_deck_part *parts, int64_t n_parts, int64_t n)
{
    int64_t sum = 0;
    if (n_parts < 1 || n_parts > MAX_PARTS)
        return pol_fail(ctx, POL_EARG, "%lld texts with weights: between 1 and %d can be", (long long)n_parts,
                        MAX_PARTS);
    for (int64_t i = 0; i < n_parts; i++) {
        if (parts[i].n < 1 || parts[i].n > n - sum)
            return pol_fail(ctx, POL_EARG, "text %lld: %lld of the %lld sequences of the calibration set",
                            (long long)i + 1, (long long)parts[i].n, (long long)n);
        if (!(parts[i].weight > 0 && parts[i].weight <= 1e9))
            return pol_fail(ctx, POL_EARG, "text %lld: weight %g is no positive number up to 1e9", (long long)i + 1,
                            parts[i].weight);
        sum += parts[i].n;
    }
    return sum == n ? POL_OK
                    : pol_fail(ctx, POL_EARG, "texts with weights: %lld of the %lld sequences of the calibration set",
                               (long long)sum, (long long)n);
}

static pol_status make_parts(pol_deck *d, const pol_deck_part *parts, int64_t n_parts)
{
    double sum = 0;
    d->parts = pol_alloc_zero(d->ctx, (size_t)n_parts * sizeof *d->parts);
    if (!d->parts)
        return POL_ENOMEM;
    d->n_parts = n_parts;
    for (int64_t i = 0; i < n_parts; i++)
        sum += parts[i].weight;
    for (int64_t i = 0, first = 0; i < n_parts; first += parts[i++].n) {
        part *x = &d->parts[i];
        *x = (part){.first = first, .n = parts[i].n, .epoch = -1};
        x->weight = (uint64_t)fmax(1, round(parts[i].weight / sum * SHARES));
        x->order = pol_alloc_array(d->ctx, x->n, sizeof *x->order);
        if (!x->order)
            return POL_ENOMEM;
    }
    for (int64_t i = n_parts; i-- > 0;)
        d->parts[i].rest = d->parts[i].weight + (i + 1 < n_parts ? d->parts[i + 1].rest : 0);
    return POL_OK;
}

pol_status pol_deck_new(pol_context *ctx, const pol_deck_settings *o, int64_t n, pol_deck **out)
{
    const pol_deck_part whole = {.n = n, .weight = 1};
    *out = NULL;
    if (o->steps < 1 || o->masks < 1 || o->sequences < 1)
        return pol_fail(ctx, POL_EARG, "deck: %lld steps of %d masks of %d sequences", (long long)o->steps, o->masks,
                        o->sequences);
    if (n < o->sequences)
        return pol_fail(ctx, POL_EARG, "deck: %d sequences a mask, but the calibration set has %lld", o->sequences,
                        (long long)n);
    if (o->parts)
        POL_TRY(check_parts(ctx, o->parts, o->n_parts, n));
    pol_deck *d = pol_alloc_zero(ctx, sizeof *d);
    if (!d)
        return POL_ENOMEM;
    d->ctx = ctx;
    d->o = *o;
    const pol_status s = o->parts ? make_parts(d, o->parts, o->n_parts) : make_parts(d, &whole, 1);
    if (s < 0) {
        pol_deck_free(d);
        return s;
    }
    *out = d;
    return POL_OK;
}

void pol_deck_free(pol_deck *d)
{
    if (!d)
        return;
    for (int64_t i = 0; i < d->n_parts; i++)
        pol_free(d->ctx, d->parts[i].order);
    pol_free(d->ctx, d->parts);
    pol_free(d->ctx, d);
}

/* Whose draw number *p is; *p becomes its number among that part's own. */
static int64_t find_part(const pol_deck *d, uint64_t *p)
{
    int64_t i = 0;
    for (; i + 1 < d->n_parts; i++) {
        const part *x = &d->parts[i];
        const uint64_t before = *p * x->weight / x->rest, after = (*p + 1) * x->weight / x->rest;
        if (after > before) {
            *p = before;
            return i;
        }
        *p -= before;
    }
    return i;
}

static int64_t sequence_at(const pol_deck *d, uint64_t p)
{
    const int64_t i = find_part(d, &p);
    part *x = &d->parts[i];
    const int64_t epoch = (int64_t)p / x->n;
    if (epoch != x->epoch) {
        pol_permutation(d->o.seed, POL_STREAM_SHUFFLE, (uint64_t)epoch | (uint64_t)i << EPOCH_BITS, x->n, x->order);
        x->epoch = epoch;
    }
    return x->first + x->order[(int64_t)p % x->n];
}

pol_status pol_deck_draw(pol_deck *d, int64_t step, int32_t k, int64_t *index)
{
    if (step < 0 || step >= d->o.steps)
        return pol_fail(d->ctx, POL_EARG, "deck: step %lld is outside 0..%lld", (long long)step,
                        (long long)(d->o.steps - 1));
    if (k < 0 || k >= d->o.masks)
        return pol_fail(d->ctx, POL_EARG, "deck: mask %d is outside 0..%d", k, d->o.masks - 1);
    const int64_t cell = d->o.shared ? step : step * d->o.masks + k;
    for (int32_t i = 0; i < d->o.sequences; i++)
        index[i] = sequence_at(d, (uint64_t)(cell * d->o.sequences + i));
    return POL_OK;
}
