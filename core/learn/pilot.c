/* pilot.c - variances out of a table of losses, and what follows from them for a run.
 *
 * The figures are of an ES on toys of 10 and 60 blocks whose sequences disagree as those of small models do, at 300 to
 * 10,000 passes. With a rate that grows like sqrt(K), K matters little where losses are noisy; where they are not, more
 * steps of fewer candidates win until there are some 120 steps. A spread of 0.15 was better than 0.10 with as much
 * noise as signal or more, and worse with little. Single units: K = 16 was best of 2 to 64 at 3,000 passes and more.
 */
#include "pollard/pilot.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/base/base.h"

enum { LEAST_CANDIDATES = 8, MOST_CANDIDATES = 256, UNIT_CANDIDATES = 16, MOST_SEQUENCES = 16 };
enum { STEPS_WANTED = 120, STEPS_NEEDED = 60 };

static const double SPREAD = 0.10, SPREAD_IN_NOISE = 0.15;

pol_status pol_pilot_variances(pol_context *ctx, const double *loss, int32_t masks, int32_t sequences, pol_pilot *out)
{
    if (masks < 2 || sequences < 2)
        return pol_fail(ctx, POL_EARG, "pilot: %d masks on %d sequences: variances need 2 of each", masks, sequences);
    const double M = masks, N = sequences;
    double mean = 0.0;
    for (int32_t m = 0; m < masks; m++)
        for (int32_t s = 0; s < sequences; s++) {
            const double x = loss[(int64_t)m * sequences + s];
            if (!isfinite(x))
                return pol_fail(ctx, POL_ENUMERIC, "pilot: mask %d, sequence %d: loss is %g", m, s,
                                isnan(x) ? fabs(x) : x); /* not "-nan" */
            mean += x / (M * N);
        }
    /* Sums of squares: of the means of masks, of those of sequences, and of all. */
    double of_masks = 0.0, of_sequences = 0.0, of_all = 0.0;
    for (int32_t m = 0; m < masks; m++) {
        double row = 0.0;
        for (int32_t s = 0; s < sequences; s++) {
            const double x = loss[(int64_t)m * sequences + s] - mean;
            row += x / N;
            of_all += x * x;
        }
        of_masks += N * row * row;
    }
    for (int32_t s = 0; s < sequences; s++) {
        double column = 0.0;
        for (int32_t m = 0; m < masks; m++)
            column += (loss[(int64_t)m * sequences + s] - mean) / M;
        of_sequences += M * column * column;
    }
    const double rest = fmax(0.0, of_all - of_masks - of_sequences) / ((M - 1.0) * (N - 1.0));
    out->masks = masks;
    out->sequences = sequences;
    out->residual = rest;
    out->between_masks = fmax(0.0, (of_masks / (M - 1.0) - rest) / N);
    out->between_sequences = fmax(0.0, (of_sequences / (N - 1.0) - rest) / M);
    return POL_OK;
}

static pol_status check(pol_context *ctx, const pol_pilot *p, const pol_pilot_ask *ask)
{
    const double measured[] = {p->between_masks, p->between_sequences, p->residual, p->change_seconds, p->pass_seconds};
    for (size_t i = 0; i < POL_COUNT(measured); i++)
        if (!(measured[i] >= 0.0 && isfinite(measured[i])))
            return pol_fail(ctx, POL_EARG, "pilot: a variance or time of %g", measured[i]);
    if (p->pass_seconds == 0.0)
        return pol_fail(ctx, POL_EARG, "pilot: a pass takes no time");
    if (ask->passes < 1 || ask->variables < 1)
        return pol_fail(ctx, POL_EARG, "pilot: %lld passes for %lld variables", (long long)ask->passes,
                        (long long)ask->variables);
    if (ask->candidates < 0 || ask->sequences < 0 || !(ask->learning_rate >= 0.0) || !(ask->spread >= 0.0))
        return pol_fail(ctx, POL_EARG, "pilot: a setting below 0");
    if (ask->allocation && ask->candidates % 2)
        return pol_fail(ctx, POL_EARG, "pilot: candidates: %d is odd, but each draw has its mirror image",
                        ask->candidates);
    return POL_OK;
}

static int64_t steps_of(const pol_pilot_ask *ask, int64_t K, int64_t nb)
{
    return pol_max_i64(1, ask->passes / (K * nb));
}

/* A line more; room is for all that there are. */
static void say(pol_pilot_choice *c, const char *fmt, ...) POL_PRINTF(2, 3);
static void say(pol_pilot_choice *c, const char *fmt, ...)
{
    int i = 0;
    while (c->reason[i][0])
        i++;
    va_list args;
    va_start(args, fmt);
    vsnprintf(c->reason[i], sizeof c->reason[i], fmt, args);
    va_end(args);
}

static void choose_sequences(const pol_pilot *p, const pol_pilot_ask *ask, pol_pilot_choice *c)
{
    if (ask->sequences > 0) {
        c->sequences = ask->sequences;
        say(c, "%d sequences a mask, as set", c->sequences);
        return;
    }
    if (p->residual == 0.0 || p->change_seconds == 0.0) {
        c->sequences = 1;
        say(c, "1 sequence a mask: %s",
            p->residual == 0.0 ? "all sequences judge masks alike" : "masks change at no cost");
        return;
    }
    const double best = sqrt(p->residual * p->change_seconds / (p->between_masks * p->pass_seconds));
    const int64_t K = ask->candidates > 0 ? ask->candidates : LEAST_CANDIDATES;
    const double most = (double)pol_min_i64(MOST_SEQUENCES, pol_max_i64(1, ask->passes / (K * STEPS_NEEDED)));
    const double wanted = fmax(1.0, exp2(round(log2(best)))); /* the nearest, by ratio */
    c->sequences = (int32_t)fmin(wanted, exp2(floor(log2(most))));
    say(c, "%d sequence%s a mask: sqrt(residual x change / (between masks x pass)) is %.2f%s", c->sequences,
        c->sequences == 1 ? "" : "s", best, wanted > most ? ", but that leaves too few steps" : "");
}

/* The largest power of two, LEAST_CANDIDATES or more, that leaves `steps`, and not above `most`. */
static int32_t largest_that_leaves(const pol_pilot_ask *ask, int64_t nb, int64_t steps, int32_t most)
{
    int32_t K = LEAST_CANDIDATES;
    while (2 * K <= most && ask->passes / (2 * K * nb) >= steps)
        K *= 2;
    return K;
}

static void choose_candidates(const pol_pilot *p, const pol_pilot_ask *ask, pol_pilot_choice *c)
{
    if (ask->candidates > 0) {
        c->candidates = ask->candidates;
        say(c, "%d masks a step, as set", c->candidates);
        return;
    }
    if (!ask->allocation) {
        c->candidates = largest_that_leaves(ask, c->sequences, STEPS_NEEDED, UNIT_CANDIDATES);
        say(c, "%d masks a step: 16 did best for single units, 8 where that leaves fewer than %d steps", c->candidates,
            STEPS_NEEDED);
        return;
    }
    const double noise = p->residual / c->sequences;
    const double signal = p->between_masks > 0.0 ? p->between_masks / (p->between_masks + noise) : 0.0;
    const double wanted = signal > 0.0 ? 4.0 * sqrt((double)ask->variables / signal) : INFINITY;
    const double power = fmin(MOST_CANDIDATES, exp2(round(log2(wanted)))); /* the nearest, by ratio */
    c->candidates = largest_that_leaves(ask, c->sequences, STEPS_WANTED, (int32_t)power);
    say(c, "%d masks a step: %lld counts with %.0f %% signal in a loss want about %.0f, and a run %d steps",
        c->candidates, (long long)ask->variables, 100.0 * signal, fmin(wanted, MOST_CANDIDATES), STEPS_WANTED);
}

static void choose_rate(const pol_pilot *p, const pol_pilot_ask *ask, pol_pilot_choice *c)
{
    if (ask->learning_rate > 0.0) {
        c->learning_rate = ask->learning_rate;
        say(c, "learning rate %g, as set", c->learning_rate);
    } else if (!ask->allocation) {
        c->learning_rate = 6.0 / sqrt((double)ask->passes);
        say(c, "learning rate %.3g: 6 / sqrt(%lld passes)", c->learning_rate, (long long)ask->passes);
    } else {
        const double hurry = fmin(2.0, fmax(1.0, sqrt((double)STEPS_WANTED / (double)c->steps)));
        c->learning_rate = 3.0 * sqrt(c->candidates / 16.0) * hurry;
        say(c, "learning rate %.3g: 3 sqrt(%d masks / 16)%s", c->learning_rate, c->candidates,
            hurry > 1.0 ? ", more for few steps" : "");
    }
    if (!ask->allocation)
        return;
    const bool noisy = p->residual / c->sequences > p->between_masks;
    c->spread = ask->spread > 0.0 ? ask->spread : noisy ? SPREAD_IN_NOISE : SPREAD;
    say(c, "spread %g%s", c->spread,
        ask->spread > 0.0 ? ", as set"
        : noisy           ? ": wide, since noise exceeds what masks differ by"
                          : "");
}

pol_status pol_pilot_choose(pol_context *ctx, const pol_pilot *p, const pol_pilot_ask *ask, pol_pilot_choice *out)
{
    POL_TRY(check(ctx, p, ask));
    *out = (pol_pilot_choice){.steps = 1};
    say(out,
        "variance between masks %.3g, between sequences %.3g, residual %.3g; another mask takes %.3g ms, a pass %.3g",
        p->between_masks, p->between_sequences, p->residual, 1e3 * p->change_seconds, 1e3 * p->pass_seconds);
    choose_sequences(p, ask, out);
    choose_candidates(p, ask, out);
    out->steps = steps_of(ask, out->candidates, out->sequences);
    choose_rate(p, ask, out);
    if (out->steps < STEPS_NEEDED)
        say(out, "only %lld steps: with %d or more it would learn better", (long long)out->steps, STEPS_NEEDED);
    return POL_OK;
}
