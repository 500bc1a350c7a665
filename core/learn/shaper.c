/* shaper.c - the loop body of a run over counts: candidates out, losses in, mean and spread moved.
 *
 * Every number a step draws is keyed by its step, so the state between steps is all there is to keep. A step works on
 * copies and commits at its end: one that fails or is stopped can be done again.
 */
#include <math.h>
#include <string.h>

#include "core/base/base.h"
#include "core/learn/evolve.h"

static const double RATE_FALLS = 0.8;   /* of the learning rate, over the run */
static const double SPREAD_RANGE = 4.0; /* an adapted spread stays within this factor of its start */

struct pol_shaper {
    pol_context *ctx;
    pol_allocation_settings o;
    pol_shape *shape;
    pol_allocation_losses from;
    pol_deck *deck;
    pol_allocation_state state;
    int32_t n;             /* blocks */
    int32_t different;     /* candidates of the last step */
    int64_t *count;        /* [K, n] */
    int32_t *twin;         /* [K] the first candidate with the same counts */
    int64_t *index;        /* [nb] the step's sequences */
    double *sequence_loss; /* [K, nb] */
    double *loss, *A;      /* [K] */
    double *start_spread;  /* [n] */
    double *sigma, *slope; /* [n] */
    double *delta, *want;  /* [n] */
    double *scratch;       /* [n] */
};

void pol_shaper_free(pol_shaper *a)
{
    if (!a)
        return;
    pol_deck_free(a->deck);
    pol_shape_free(a->shape);
    pol_free(a->ctx, a->state.mean);
    pol_free(a->ctx, a->state.spread);
    pol_free(a->ctx, a->count);
    pol_free(a->ctx, a->twin);
    pol_free(a->ctx, a->index);
    pol_free(a->ctx, a->sequence_loss);
    pol_free(a->ctx, a->loss);
    pol_free(a->ctx, a->A);
    pol_free(a->ctx, a->start_spread);
    pol_free(a->ctx, a->sigma);
    pol_free(a->ctx, a->slope);
    pol_free(a->ctx, a->delta);
    pol_free(a->ctx, a->want);
    pol_free(a->ctx, a->scratch);
    pol_free(a->ctx, a);
}

static pol_status allocate(pol_shaper *a)
{
    const int64_t n = a->n, K = a->o.candidates, nb = a->o.sequences_per_candidate;
    double **const of_blocks[] = {&a->state.mean, &a->state.spread, &a->start_spread, &a->sigma,
                                  &a->slope,      &a->delta,        &a->want,         &a->scratch};
    for (size_t i = 0; i < POL_COUNT(of_blocks); i++)
        if (!(*of_blocks[i] = pol_alloc_array(a->ctx, n, sizeof(double))))
            return POL_ENOMEM;
    a->count = pol_alloc_array(a->ctx, K * n, sizeof *a->count);
    a->twin = pol_alloc_array(a->ctx, K, sizeof *a->twin);
    a->index = pol_alloc_array(a->ctx, nb, sizeof *a->index);
    a->sequence_loss = pol_alloc_array(a->ctx, K * nb, sizeof *a->sequence_loss);
    a->loss = pol_alloc_array(a->ctx, K, sizeof *a->loss);
    a->A = pol_alloc_array(a->ctx, K, sizeof *a->A);
    return a->count && a->twin && a->index && a->sequence_loss && a->loss && a->A ? POL_OK : POL_ENOMEM;
}

/* The first mean, on the budget, and the first spreads. */
static pol_status begin(pol_shaper *a, const double *start)
{
    for (int32_t i = 0; i < a->n; i++) {
        const pol_block_rules *b = &a->shape->block[i];
        if (start && !isfinite(start[i]))
            return pol_fail(a->ctx, POL_EARG, "allocation: start of block %d is not a number", i);
        a->state.mean[i] = start ? start[i] : 0.0;
        const double units = (double)b->units;
        a->start_spread[i] = b->least == b->most         ? 0.0
                             : b->kind == POL_UNIT_GROUP ? fmax(a->o.spread_groups * units, a->o.spread_least)
                                                         : a->o.spread_channels * units;
        a->state.spread[i] = a->start_spread[i];
    }
    pol_shape_centre(a->shape, a->state.mean);
    return POL_OK;
}

pol_deck_settings pol_allocation_deck(const pol_allocation_settings *o)
{
    return (pol_deck_settings){.seed = o->seed,
                               .steps = o->steps,
                               .masks = o->candidates,
                               .sequences = o->sequences_per_candidate,
                               .shared = true,
                               .parts = o->parts,
                               .n_parts = o->n_parts};
}

static pol_status set_up(pol_shaper *a, const pol_shape_rules *r, const double *start, int64_t n_sequences)
{
    const pol_deck_settings deck = pol_allocation_deck(&a->o);
    POL_TRY(pol_shape_new(r, &a->shape));
    POL_TRY(allocate(a));
    POL_TRY(pol_deck_new(a->ctx, &deck, n_sequences, &a->deck));
    return begin(a, start);
}

pol_status pol_shaper_new(pol_context *ctx, const pol_allocation_settings *o, const pol_shape_rules *r,
                          const double *start, int64_t n_sequences, const pol_allocation_losses *losses,
                          pol_shaper **out)
{
    *out = NULL;
    POL_TRY(pol_allocation_check(ctx, o));
    pol_shaper *a = pol_alloc_zero(ctx, sizeof *a);
    if (!a)
        return POL_ENOMEM;
    a->ctx = ctx;
    a->o = *o;
    a->from = *losses;
    a->n = 2 * r->units->n_layers;
    const pol_status s = set_up(a, r, start, n_sequences);
    if (s < 0) {
        pol_shaper_free(a);
        return s;
    }
    *out = a;
    return POL_OK;
}

static int64_t *counts_of(const pol_shaper *a, int32_t k) { return a->count + (int64_t)k * a->n; }
static double *losses_of(const pol_shaper *a, int32_t k)
{
    return a->sequence_loss + (int64_t)k * a->o.sequences_per_candidate;
}

/* Candidates 2 p and 2 p + 1 are the mean and what a draw takes it to, in both directions. */
static void make_candidate(pol_shaper *a, int32_t k)
{
    if (k % 2 == 0)
        pol_evolve_draw(a->shape, &a->o, a->state.next, k / 2, a->sigma, a->slope, a->delta);
    for (int32_t i = 0; i < a->n; i++)
        a->want[i] = a->state.mean[i] + (k % 2 == 0 ? a->delta[i] : -a->delta[i]);
    pol_shape_fill(a->shape, a->want, a->scratch, counts_of(a, k));
    a->twin[k] = 0;
    while (memcmp(counts_of(a, a->twin[k]), counts_of(a, k), (size_t)a->n * sizeof *a->count) != 0)
        a->twin[k]++; /* at the latest it is its own */
}

/* Makes candidate k and asks for its losses, unless it is another one's twin. */
static pol_status look(pol_shaper *a, int32_t k)
{
    const int32_t nb = a->o.sequences_per_candidate;
    POL_TRY(pol_check_stop(a->ctx));
    make_candidate(a, k);
    if (a->twin[k] != k)
        return POL_OK;
    for (int32_t i = 0; i < nb; i++)
        losses_of(a, k)[i] = NAN; /* a loss that is not filled in is caught */
    return a->from.look(a->from.user, counts_of(a, k), a->index, nb, losses_of(a, k));
}

/* Mean loss of candidate k over the step's sequences. */
static pol_status take_mean(pol_shaper *a, int32_t k)
{
    const int32_t nb = a->o.sequences_per_candidate;
    const double *from = losses_of(a, a->twin[k]);
    a->loss[k] = 0.0;
    for (int32_t i = 0; i < nb; i++) {
        if (!isfinite(from[i]))
            return pol_fail(a->ctx, POL_ENUMERIC, "step %lld, candidate %d, sequence %lld: loss is %g",
                            (long long)a->state.next, k, (long long)a->index[i],
                            isnan(from[i]) ? fabs(from[i]) : from[i]); /* not "-nan" */
        a->loss[k] += from[i] / nb;
    }
    return POL_OK;
}

/* The step's losses: all candidates are asked about before any answer is waited for. */
static pol_status gather_losses(pol_shaper *a)
{
    const int32_t K = a->o.candidates;
    pol_evolve_sigma(&a->o, a->state.next, a->state.spread, a->n, a->sigma);
    pol_evolve_slope(a->shape, a->state.mean, a->sigma, a->slope);
    pol_status s = pol_deck_draw(a->deck, a->state.next, 0, a->index);
    for (int32_t k = 0; s == POL_OK && k < K; k++)
        s = look(a, k);
    if (s == POL_OK && a->from.settle)
        s = a->from.settle(a->from.user);
    if (s < 0 && a->from.drop)
        a->from.drop(a->from.user);
    for (int32_t k = 0; s == POL_OK && k < K; k++)
        s = take_mean(a, k);
    return s;
}

static double learning_rate(const pol_shaper *a)
{
    return a->o.learning_rate * (1.0 - RATE_FALLS * (double)a->state.next / (double)a->o.steps);
}

static void adapt_spreads(pol_shaper *a)
{
    double factor[2];
    pol_evolve_widen(a->shape, a->A, a->count, a->o.candidates, a->state.mean, a->sigma, factor);
    for (int32_t i = 0; i < a->n; i++)
        a->state.spread[i] =
            fmin(fmax(a->state.spread[i] * factor[a->shape->block[i].kind], a->start_spread[i] / SPREAD_RANGE),
                 a->start_spread[i] * SPREAD_RANGE);
}

/* Moves spreads and mean; the length of the mean's move in standard deviations. */
static double move_policy(pol_shaper *a)
{
    const int32_t K = a->o.candidates;
    if (a->o.advantage == POL_ADVANTAGE_NORMALISED)
        a->state.deviation = pol_evolve_deviation(a->state.next == 0 ? -1.0 : a->state.deviation, a->loss, K);
    pol_evolve_advantages(a->o.advantage, a->loss, K, a->state.deviation, a->A);
    if (a->o.adapt_spread)
        adapt_spreads(a);
    pol_evolve_move(a->A, a->count, K, a->n, a->state.mean, learning_rate(a), a->delta);
    double square = 0.0;
    for (int32_t i = 0; i < a->n; i++) {
        a->state.mean[i] += a->delta[i];
        square += a->sigma[i] > 0.0 ? (a->delta[i] / a->sigma[i]) * (a->delta[i] / a->sigma[i]) : 0.0;
    }
    pol_shape_centre(a->shape, a->state.mean);
    return sqrt(square);
}

/* Of the Gaussians that the next step would draw from were the schedule to stand still, nats a variable. */
static double mean_entropy(const pol_shaper *a)
{
    const double unit = 1.4189385332046727; /* of a Gaussian with standard deviation 1: log(2 pi e) / 2 */
    double sum = 0.0;
    int64_t n = 0;
    for (int32_t i = 0; i < a->n; i++)
        if (a->sigma[i] > 0.0) {
            sum += unit + log(a->sigma[i]);
            n++;
        }
    return n ? sum / (double)n : 0.0;
}

static void fill_report(const pol_shaper *a, double moved, double rate, pol_step_report *report)
{
    const int32_t K = a->o.candidates;
    const double dense = (double)pol_mask_params(a->shape->rules.units, NULL);
    *report = (pol_step_report){.step = a->state.next, .grad_norm = moved, .learning_rate = rate};
    for (int32_t k = 0; k < K; k++) {
        report->loss += a->loss[k] / K;
        report->kept += pol_shape_params(a->shape, counts_of(a, k)) / dense / K;
    }
    report->baseline = report->loss;
    report->mean_entropy = mean_entropy(a);
}

pol_status pol_shaper_step(pol_shaper *a, pol_step_report *report)
{
    if (a->state.next >= a->o.steps)
        return pol_fail(a->ctx, POL_EARG, "allocation: all %lld steps are done", (long long)a->o.steps);
    POL_TRY(gather_losses(a));
    const double rate = learning_rate(a), moved = move_policy(a);
    if (report)
        fill_report(a, moved, rate, report);
    a->different = 0;
    for (int32_t k = 0; k < a->o.candidates; k++)
        a->different += a->twin[k] == k;
    a->state.next++;
    return POL_OK;
}

int64_t pol_shaper_next(const pol_shaper *a) { return a->state.next; }
const pol_allocation_state *pol_shaper_state(const pol_shaper *a) { return &a->state; }

static pol_status check_block(const pol_shaper *a, int32_t i, double mean, double spread)
{
    const pol_block_rules *b = &a->shape->block[i];
    const double start = a->start_spread[i], range = a->o.adapt_spread ? SPREAD_RANGE : 1.0;
    if (!(mean >= (double)b->least && mean <= (double)b->most))
        return pol_fail(a->ctx, POL_EARG, "allocation: a mean of %g %s in layer %d, where %lld to %lld can be", mean,
                        pol_unit_kind_name(b->kind), b->layer, (long long)b->least, (long long)b->most);
    if (!(spread >= start / range && spread <= start * range))
        return pol_fail(a->ctx, POL_EARG, "allocation: a spread of %g %s in layer %d, which began as %g", spread,
                        pol_unit_kind_name(b->kind), b->layer, start);
    return POL_OK;
}

pol_status pol_shaper_set(pol_shaper *a, const pol_allocation_state *s)
{
    if (s->next < 0 || s->next > a->o.steps)
        return pol_fail(a->ctx, POL_EARG, "allocation: step %lld is outside 0..%lld", (long long)s->next,
                        (long long)a->o.steps);
    if (!(s->deviation >= 0.0 && isfinite(s->deviation)))
        return pol_fail(a->ctx, POL_EARG, "allocation: a deviation of %g", s->deviation);
    for (int32_t i = 0; i < a->n; i++)
        POL_TRY(check_block(a, i, s->mean[i], s->spread[i]));
    a->state.next = s->next;
    a->state.deviation = s->deviation;
    memcpy(a->state.mean, s->mean, (size_t)a->n * sizeof *s->mean);
    memcpy(a->state.spread, s->spread, (size_t)a->n * sizeof *s->spread);
    return POL_OK;
}

void pol_shaper_counts(pol_shaper *a, int64_t *count) { pol_shape_fill(a->shape, a->state.mean, a->scratch, count); }

void pol_shaper_stats(const pol_shaper *a, pol_allocation_stats *out)
{
    *out =
        (pol_allocation_stats){.least = {1.0, 1.0}, .candidates = {a->different ? a->o.candidates : 0, a->different}};
    const double fall = 1.0 - (1.0 - a->o.spread_end) * (double)a->state.next / (double)a->o.steps;
    double units[2] = {0.0};
    int64_t vary[2] = {0};
    for (int32_t i = 0; i < a->n; i++) {
        const pol_block_rules *b = &a->shape->block[i];
        if (b->units == 0)
            continue;
        const double share = a->state.mean[i] / (double)b->units;
        units[b->kind] += (double)b->units;
        out->kept[b->kind] += a->state.mean[i];
        out->least[b->kind] = fmin(out->least[b->kind], share);
        out->most[b->kind] = fmax(out->most[b->kind], share);
        out->spread[b->kind] += a->state.spread[i] * fall / (double)b->units;
        vary[b->kind] += a->state.spread[i] > 0.0;
    }
    for (int k = 0; k < 2; k++) {
        out->kept[k] = units[k] > 0.0 ? out->kept[k] / units[k] : 1.0;
        out->spread[k] = vary[k] ? out->spread[k] / (double)vary[k] : 0.0;
    }
}

/* The count is the Gaussian rounded, so rank r is kept where the Gaussian is above r + 1/2. */
double pol_allocation_probability(double mean, double spread, int64_t rank)
{
    const double above = mean - (double)rank - 0.5;
    if (spread <= 0.0)
        return above >= 0.0 ? 1.0 : 0.0;
    return 0.5 * erfc(-above / (spread * sqrt(2.0)));
}
