/* shape_round.c - real counts onto the budget, and from there to whole ones. The rule is in allocation.h. */
#include <math.h>
#include <string.h>

#include "core/base/base.h"
#include "core/learn/shape.h"

static double clamp(double x, double lo, double hi) { return x < lo ? lo : x > hi ? hi : x; }

static double shifted(const pol_block_rules *b, double x, double share)
{
    return clamp(x + share * (double)b->units, (double)b->least, (double)b->most);
}

static double shifted_cost(const pol_shape *s, const pol_pot *p, const double *x, double share)
{
    double sum = 0.0;
    for (int32_t i = p->first; i < p->first + p->count; i++)
        sum += pol_shape_cost(s, i, shifted(&s->block[i], x[i], share));
    return sum;
}

enum { HALVINGS = 64 };

/* Costs never fall as the shift grows, so the largest shift that fits is bisected. Its two ends bring every block to
 * one of its bounds. */
static void centre_pot(const pol_shape *s, const pol_pot *p, double *x)
{
    double lo = 0.0, hi = 0.0;
    for (int32_t i = p->first; i < p->first + p->count; i++) {
        const pol_block_rules *b = &s->block[i];
        if (b->units == 0)
            continue;
        lo = fmin(lo, ((double)b->least - x[i]) / (double)b->units);
        hi = fmax(hi, ((double)b->most - x[i]) / (double)b->units);
    }
    for (int j = 0; j < HALVINGS; j++) {
        const double mid = lo + (hi - lo) / 2;
        if (shifted_cost(s, p, x, mid) <= p->limit)
            lo = mid;
        else
            hi = mid;
    }
    for (int32_t i = p->first; i < p->first + p->count; i++)
        x[i] = shifted(&s->block[i], x[i], lo);
}

void pol_shape_centre(const pol_shape *s, double *x)
{
    for (int32_t p = 0; p < s->n_pots; p++)
        centre_pot(s, &s->pot[p], x);
}

/* The last rung of a ladder at or below n; the first where n is lower still. */
static int64_t rung_below(const pol_ladder *l, double n)
{
    int64_t lo = 0, hi = l->n;
    while (hi - lo > 1) {
        const int64_t mid = lo + (hi - lo) / 2;
        if ((double)l->count[mid] <= n)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

/* n as a place on the ladder: a whole number on each rung, a straight line between. */
static double place(const pol_ladder *l, double n)
{
    const int64_t j = rung_below(l, n);
    if (j + 1 == l->n)
        return (double)j;
    return (double)j + (n - (double)l->count[j]) / (double)(l->count[j + 1] - l->count[j]);
}

/* Block whose next step fits and is most missing; -1: none fits. */
static int32_t most_missing(const pol_shape *s, const pol_pot *p, const double *want, const int64_t *rung, double left)
{
    int32_t best = -1;
    for (int32_t i = p->first; i < p->first + p->count; i++) {
        const pol_ladder *l = &s->block[i].level;
        if (rung[i] + 1 < l->n && l->cost[rung[i] + 1] - l->cost[rung[i]] <= left &&
            (best < 0 || want[i] - (double)rung[i] > want[best] - (double)rung[best]))
            best = i;
    }
    return best;
}

/* Gives steps until none fits; what is left of the budget. count[] is where that leads, and `want` becomes the steps
 * that are missing from there. */
static double give_steps(const pol_shape *s, const pol_pot *p, double *want, int64_t *count)
{
    double left = p->limit;
    int64_t *rung = count; /* until the end */
    for (int32_t i = p->first; i < p->first + p->count; i++) {
        const pol_ladder *l = &s->block[i].level;
        /* Up to here the steps cost no more than `want` itself, which is within the budget: all are given. */
        rung[i] = rung_below(l, want[i]);
        want[i] = place(l, want[i]);
        left -= l->cost[rung[i]];
    }
    int32_t next;
    while ((next = most_missing(s, p, want, rung, left)) >= 0) {
        const pol_ladder *l = &s->block[next].level;
        left -= l->cost[rung[next] + 1] - l->cost[rung[next]];
        rung[next]++;
    }
    for (int32_t i = p->first; i < p->first + p->count; i++) {
        want[i] -= (double)rung[i];
        count[i] = s->block[i].level.count[rung[i]];
    }
    return left;
}

/* The largest allowed count from n up that costs at most `left` more; n itself where there is none. */
static int64_t reach(const pol_shape *s, int32_t block, int64_t n, double left)
{
    const pol_ladder *l = &s->block[block].allowed;
    const double budget = left + pol_shape_cost(s, block, (double)n);
    for (int64_t j = rung_below(l, (double)n); j < l->n && l->cost[j] <= budget; j++)
        n = pol_max_i64(n, l->count[j]);
    return n;
}

/* Of one kind, blocks [first, first + n), the one with most of a step missing goes as far as `left` allows. */
static double take_up(const pol_shape *s, int32_t first, int32_t n, const double *missing, int64_t *count, double left)
{
    int32_t best = -1;
    for (int32_t i = first; i < first + n; i++)
        if ((best < 0 || missing[i] > missing[best]) && reach(s, i, count[i], left) > count[i])
            best = i;
    if (best < 0)
        return left;
    const double before = pol_shape_cost(s, best, (double)count[best]);
    count[best] = reach(s, best, count[best], left);
    return left - (pol_shape_cost(s, best, (double)count[best]) - before);
}

void pol_shape_fill(const pol_shape *s, const double *want, double *scratch, int64_t *count)
{
    memcpy(scratch, want, (size_t)s->n_blocks * sizeof *scratch);
    pol_shape_centre(s, scratch);
    const int32_t L = s->n_blocks / 2;
    for (int32_t p = 0; p < s->n_pots; p++) {
        const pol_pot *pot = &s->pot[p];
        double left = give_steps(s, pot, scratch, count);
        for (int32_t first = pot->first; first < pot->first + pot->count; first += L)
            left = take_up(s, first, L, scratch, count, left);
    }
}

pol_status pol_shape_round(const pol_shape_rules *r, const double *want, int64_t *count)
{
    pol_context *ctx = r->units->ctx;
    for (int32_t i = 0; i < 2 * r->units->n_layers; i++)
        if (!isfinite(want[i]))
            return pol_fail(ctx, POL_ENUMERIC, "shape: count of block %d is not a number", i);
    pol_shape *s;
    POL_TRY(pol_shape_new(r, &s));
    double *scratch = pol_alloc_array(ctx, s->n_blocks, sizeof *scratch);
    if (scratch)
        pol_shape_fill(s, want, scratch, count);
    pol_free(ctx, scratch);
    pol_shape_free(s);
    return scratch ? POL_OK : POL_ENOMEM;
}
