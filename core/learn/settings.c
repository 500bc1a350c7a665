/* settings.c - the presets, and what settings may be. */
#include <math.h>

#include "core/base/base.h"
#include "pollard/allocation.h"

enum { MAX_MASKS = 4096, MAX_SEQUENCES_PER_MASK = 1 << 20, MAX_WINDOW = 1 << 20 };

/* Sequences drawn by a run are counted in int64_t, with room to spare. */
static const int64_t MAX_PASSES = (int64_t)1 << 48;

const char *const pol_baseline_names[] = {[POL_BASELINE_LEAVE_ONE_OUT] = "leave-one-out",
                                          [POL_BASELINE_MOVING_AVERAGE] = "moving-average",
                                          [POL_BASELINE_NONE] = "none",
                                          NULL};
const char *const pol_score_names[] = {[POL_SCORE_SQRT] = "sqrt", [POL_SCORE_TEXTBOOK] = "textbook", NULL};
const char *const pol_schedule_names[] = {
    [POL_SCHEDULE_COSINE] = "cosine", [POL_SCHEDULE_LINEAR] = "linear", [POL_SCHEDULE_CONSTANT] = "constant", NULL};

const char *const pol_advantage_names[] = {
    [POL_ADVANTAGE_RANK] = "rank", [POL_ADVANTAGE_NORMALISED] = "normalised", NULL};
const char *const pol_purpose_names[] = {
    [POL_PURPOSE_INIT] = "initialisation", [POL_PURPOSE_LEARN] = "learning", [POL_PURPOSE_HELD_OUT] = "held_out",
    [POL_PURPOSE_EVAL] = "evaluation",     [POL_PURPOSE_REPAIR] = "repair",  NULL};

/* A unit at the floor is drawn about smin * passes times, 30 in 10,000, and then rises by at most lr A_k / sqrt(smin):
 * back in play, not at the top at once. A higher floor draws it more often, but each mask then differs from the hard
 * mask in that share of the units. On stories260K at keep 0.7, 3,000 passes, the mean loss of three seeds was 2.81,
 * 2.80, 2.83, 2.89, 2.83 at floors 0, 0.001, 0.003, 0.01, 0.03, seeds being 0.04 apart: up to 0.003 a floor costs
 * nothing that could be measured. */
static const double UNITS_SMIN = 0.003;

void pol_learn_units(int64_t passes, pol_learn_settings *out)
{
    *out = (pol_learn_settings){
        .mask_samples = 16,
        .sequences_per_mask = 1,
        .shared_sequences = true,
        .baseline = POL_BASELINE_LEAVE_ONE_OUT,
        .baseline_window = 5,
        .score = POL_SCORE_SQRT,
        .normalise = true,
        .schedule = POL_SCHEDULE_COSINE,
        .seed = 42,
        .smin = UNITS_SMIN,
    };
    out->steps = pol_max_i64(1, passes / (out->mask_samples * out->sequences_per_mask));
}

void pol_learn_reference(int64_t steps, pol_learn_settings *out)
{
    *out = (pol_learn_settings){
        .mask_samples = 2,
        .sequences_per_mask = 8,
        .shared_sequences = true,
        .baseline = POL_BASELINE_MOVING_AVERAGE,
        .baseline_window = 5,
        .score = POL_SCORE_SQRT,
        .learning_rate = 2e-3,
        .schedule = POL_SCHEDULE_COSINE,
        .steps = steps,
        .seed = 42,
    };
}

/* Figures of the ES that was tried on small models. On toys of 10 and 60 blocks, K = 16, learning rate 3, 1,000 and
 * 3,000 passes, runs that adapt the spread ended 1 to 37 % nearer to the optimum where losses had no noise of their
 * own, and between 1 % nearer and 5 % further off where they had. */
void pol_allocation_defaults(pol_allocation_settings *o)
{
    *o = (pol_allocation_settings){
        .candidates = 16,
        .sequences_per_candidate = 1,
        .spread_channels = 0.10,
        .spread_groups = 0.20,
        .spread_least = 0.6,
        .spread_end = 0.3,
        .learning_rate = 3.0,
        .adapt_spread = true,
        .seed = 42,
    };
}

static pol_status check_range(pol_context *ctx, const char *name, int64_t value, int64_t lo, int64_t hi)
{
    if (value < lo || value > hi)
        return pol_fail(ctx, POL_EARG, "settings: %s: %lld is outside %lld..%lld", name, (long long)value,
                        (long long)lo, (long long)hi);
    return POL_OK;
}

pol_status pol_learn_check(pol_context *ctx, const pol_learn_settings *o)
{
    POL_TRY(check_range(ctx, "baseline", o->baseline, POL_BASELINE_LEAVE_ONE_OUT, POL_BASELINE_NONE));
    POL_TRY(check_range(ctx, "score", o->score, POL_SCORE_SQRT, POL_SCORE_TEXTBOOK));
    POL_TRY(check_range(ctx, "schedule", o->schedule, POL_SCHEDULE_COSINE, POL_SCHEDULE_CONSTANT));
    POL_TRY(check_range(ctx, "mask_samples", o->mask_samples, 1, MAX_MASKS));
    if (o->mask_samples < 2 && o->baseline != POL_BASELINE_NONE)
        return pol_fail(ctx, POL_EARG, "settings: mask_samples: 1 mask a step, baseline %s needs 2",
                        pol_baseline_names[o->baseline]);
    if (o->mask_samples < 2 && o->normalise)
        return pol_fail(ctx, POL_EARG, "settings: mask_samples: 1 mask a step has no deviation to normalise by");
    POL_TRY(check_range(ctx, "sequences_per_mask", o->sequences_per_mask, 1, MAX_SEQUENCES_PER_MASK));
    if (o->baseline == POL_BASELINE_MOVING_AVERAGE)
        POL_TRY(check_range(ctx, "baseline_window", o->baseline_window, 1, MAX_WINDOW));
    POL_TRY(check_range(ctx, "steps", o->steps, 1, MAX_PASSES / o->mask_samples / o->sequences_per_mask));
    if (!isfinite(o->learning_rate) || o->learning_rate < 0.0)
        return pol_fail(ctx, POL_EARG, "settings: learning_rate: %g is not a positive number", o->learning_rate);
    if (o->learning_rate == 0.0 && !o->normalise)
        return pol_fail(ctx, POL_EARG, "settings: learning_rate: 0 means sized to the passes, which needs normalise");
    if (!(o->smin >= 0 && o->smin < 0.5))
        return pol_fail(ctx, POL_EARG, "settings: smin: %g is outside [0, 0.5)", o->smin);
    return POL_OK;
}

/* (0, most]; false for NaN */
static pol_status check_positive(pol_context *ctx, const char *name, double value, double most)
{
    if (value > 0.0 && value <= most)
        return POL_OK;
    return pol_fail(ctx, POL_EARG, "settings: %s: %g is not above 0 and at most %g", name, value, most);
}

pol_status pol_allocation_check(pol_context *ctx, const pol_allocation_settings *o)
{
    POL_TRY(check_range(ctx, "candidates", o->candidates, 2, MAX_MASKS));
    if (o->candidates % 2)
        return pol_fail(ctx, POL_EARG, "settings: candidates: %d is odd, but each draw has its mirror image",
                        o->candidates);
    POL_TRY(check_range(ctx, "sequences_per_candidate", o->sequences_per_candidate, 1, MAX_SEQUENCES_PER_MASK));
    POL_TRY(check_range(ctx, "advantage", o->advantage, POL_ADVANTAGE_RANK, POL_ADVANTAGE_NORMALISED));
    POL_TRY(check_positive(ctx, "spread_channels", o->spread_channels, 1.0));
    POL_TRY(check_positive(ctx, "spread_groups", o->spread_groups, 1.0));
    if (!(o->spread_least >= 0.0 && isfinite(o->spread_least)))
        return pol_fail(ctx, POL_EARG, "settings: spread_least: %g is not 0 or more", o->spread_least);
    POL_TRY(check_positive(ctx, "spread_end", o->spread_end, 1.0));
    POL_TRY(check_positive(ctx, "learning_rate", o->learning_rate, 1e3));
    return check_range(ctx, "steps", o->steps, 1, MAX_PASSES / o->candidates / o->sequences_per_candidate);
}
