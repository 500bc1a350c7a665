/* trainer.c - the loop body of a run: masks out, losses in, probabilities moved.
 *
 * Every number a step draws is keyed by its step, so the state between steps is s, the estimator and the step to do
 * next. A step works on copies and commits at its end: one that fails or is stopped can be done again.
 */
#include <math.h>
#include <string.h>

#include "core/base/base.h"
#include "core/learn/update.h"

struct pol_trainer {
    pol_context *ctx;
    pol_learn_settings o;
    pol_distribution *d;
    pol_losses from;
    pol_deck *deck;
    pol_estimator estimator;
    int64_t next;
    int64_t dense_params;
    uint8_t *mask_bytes;   /* [K, n] */
    uint8_t **masks;       /* [K] rows of it */
    double *loss;          /* [K] */
    int64_t *index;        /* [K, nb] sequences of each mask */
    double *sequence_loss; /* [K, nb] */
    float *g;              /* [n] */
    float *before;         /* [n] s at the start of the step */
};

void pol_trainer_free(pol_trainer *t)
{
    if (!t)
        return;
    pol_deck_free(t->deck);
    pol_free(t->ctx, t->mask_bytes);
    pol_free(t->ctx, t->masks);
    pol_free(t->ctx, t->loss);
    pol_free(t->ctx, t->index);
    pol_free(t->ctx, t->sequence_loss);
    pol_free(t->ctx, t->g);
    pol_free(t->ctx, t->before);
    pol_free(t->ctx, t);
}

static pol_status allocate(pol_trainer *t)
{
    const int64_t n = t->d->units->n;
    const int64_t K = t->o.mask_samples, cells = K * t->o.sequences_per_mask;
    t->mask_bytes = pol_alloc_array(t->ctx, K, (size_t)n);
    t->masks = pol_alloc_array(t->ctx, K, sizeof *t->masks);
    t->loss = pol_alloc_array(t->ctx, K, sizeof *t->loss);
    t->index = pol_alloc_array(t->ctx, cells, sizeof *t->index);
    t->sequence_loss = pol_alloc_array(t->ctx, cells, sizeof *t->sequence_loss);
    t->g = pol_alloc_array(t->ctx, n, sizeof *t->g);
    t->before = pol_alloc_array(t->ctx, n, sizeof *t->before);
    if (!t->mask_bytes || !t->masks || !t->loss || !t->index || !t->sequence_loss || !t->g || !t->before)
        return POL_ENOMEM;
    for (int64_t k = 0; k < K; k++)
        t->masks[k] = t->mask_bytes + k * n;
    return POL_OK;
}

pol_status pol_trainer_new(pol_context *ctx, const pol_learn_settings *o, pol_distribution *d, int64_t n_sequences,
                           const pol_losses *losses, pol_trainer **out)
{
    *out = NULL;
    POL_TRY(pol_learn_check(ctx, o));
    POL_TRY(pol_budget_check(d->units, d->granularity, &o->budget));
    pol_trainer *t = pol_alloc_zero(ctx, sizeof *t);
    if (!t)
        return POL_ENOMEM;
    t->ctx = ctx;
    t->o = *o;
    t->d = d;
    t->from = *losses;
    pol_status s = allocate(t);
    const pol_deck_settings deck = pol_learn_deck(o);
    if (s == POL_OK)
        s = pol_deck_new(ctx, &deck, n_sequences, &t->deck);
    if (s < 0) {
        pol_trainer_free(t);
        return s;
    }
    t->dense_params = pol_mask_params(d->units, NULL);
    *out = t;
    return POL_OK;
}

/* Draws mask k and its sequences, and asks for their losses. */
static pol_status look(pol_trainer *t, int32_t k)
{
    const int32_t nb = t->o.sequences_per_mask;
    int64_t *index = t->index + (int64_t)k * nb;
    double *loss = t->sequence_loss + (int64_t)k * nb;
    POL_TRY(pol_check_stop(t->ctx));
    POL_TRY(pol_deck_draw(t->deck, t->next, k, index));
    pol_distribution_sample(t->d, t->o.seed, (uint64_t)t->next, (uint32_t)k, t->masks[k]);
    for (int32_t i = 0; i < nb; i++)
        loss[i] = NAN; /* a loss that is not filled in is caught */
    return t->from.look(t->from.user, t->masks[k], index, nb, loss);
}

/* Mean loss of mask k over its sequences. */
static pol_status take_mean(pol_trainer *t, int32_t k)
{
    const int32_t nb = t->o.sequences_per_mask;
    t->loss[k] = 0.0;
    for (int32_t i = 0; i < nb; i++) {
        const double loss = t->sequence_loss[(int64_t)k * nb + i];
        if (!isfinite(loss))
            return pol_fail(t->ctx, POL_ENUMERIC, "step %lld, mask %d, sequence %lld: loss is %g", (long long)t->next,
                            k, (long long)t->index[(int64_t)k * nb + i],
                            isnan(loss) ? fabs(loss) : loss); /* not "-nan" */
        t->loss[k] += loss / nb;
    }
    return POL_OK;
}

/* The step's losses: all masks are asked about before any answer is waited for. */
static pol_status gather_losses(pol_trainer *t)
{
    const int32_t K = t->o.mask_samples;
    pol_status s = POL_OK;
    for (int32_t k = 0; s == POL_OK && k < K; k++)
        s = look(t, k);
    if (s == POL_OK && t->from.settle)
        s = t->from.settle(t->from.user);
    if (s < 0 && t->from.drop)
        t->from.drop(t->from.user);
    for (int32_t k = 0; s == POL_OK && k < K; k++)
        s = take_mean(t, k);
    return s;
}

static double norm(const float *g, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)g[i] * (double)g[i];
    return sqrt(sum);
}

static double mean_entropy(const pol_distribution *d)
{
    double sum = 0.0;
    int64_t n = 0;
    for (int kind = 0; kind < POL_UNIT_KINDS; kind++) {
        const pol_range r = pol_variable_range(d, kind);
        n += r.count;
        for (int64_t i = r.first; i < r.first + r.count; i++) {
            const double s = (double)d->s[i];
            if (s > 0.0 && s < 1.0)
                sum -= s * log(s) + (1.0 - s) * log1p(-s);
        }
    }
    return n ? sum / (double)n : 0.0;
}

static void fill_report(const pol_trainer *t, double grad_norm, double rate, pol_step_report *report)
{
    const int32_t K = t->o.mask_samples;
    *report = (pol_step_report){.step = t->next,
                                .baseline = t->estimator.baseline,
                                .grad_norm = grad_norm,
                                .learning_rate = rate,
                                .mean_entropy = mean_entropy(t->d)};
    for (int32_t k = 0; k < K; k++) {
        report->loss += t->loss[k] / K;
        report->kept += (double)pol_mask_params(t->d->units, t->masks[k]) / (double)t->dense_params / K;
    }
}

pol_status pol_trainer_step(pol_trainer *t, pol_step_report *report)
{
    const size_t bytes = (size_t)t->d->units->n * sizeof *t->d->s;
    if (t->next >= t->o.steps)
        return pol_fail(t->ctx, POL_EARG, "trainer: all %lld steps are done", (long long)t->o.steps);
    POL_TRY(gather_losses(t));

    pol_estimator e = t->estimator;
    POL_TRY(pol_estimate(&t->o, &e, t->d, (const uint8_t *const *)t->masks, t->loss, t->g));
    const double grad_norm = norm(t->g, t->d->units->n);
    if (!isfinite(grad_norm))
        return pol_fail(t->ctx, POL_ENUMERIC, "step %lld: the gradient's norm is %g", (long long)t->next, grad_norm);

    const double rate = pol_learning_rate(&t->o, t->next);
    memcpy(t->before, t->d->s, bytes);
    const pol_status s = pol_learn_update(&t->o, t->d, rate, t->g);
    if (s < 0) {
        memcpy(t->d->s, t->before, bytes);
        return s;
    }
    t->estimator = e;
    if (report)
        fill_report(t, grad_norm, rate, report);
    t->next++;
    return POL_OK;
}

int64_t pol_trainer_next(const pol_trainer *t) { return t->next; }

void pol_trainer_get(const pol_trainer *t, int64_t *next, pol_estimator *e)
{
    *next = t->next;
    *e = t->estimator;
}

pol_status pol_trainer_set(pol_trainer *t, int64_t next, const pol_estimator *e)
{
    if (next < 0 || next > t->o.steps)
        return pol_fail(t->ctx, POL_EARG, "trainer: step %lld is outside 0..%lld", (long long)next,
                        (long long)t->o.steps);
    if (e->steps != next)
        return pol_fail(t->ctx, POL_EARG, "trainer: an estimator of %lld steps does not belong to step %lld",
                        (long long)e->steps, (long long)next);
    if (!isfinite(e->baseline) || !isfinite(e->deviation) || e->deviation < 0.0)
        return pol_fail(t->ctx, POL_EARG, "trainer: estimator of baseline %g and deviation %g", e->baseline,
                        e->deviation);
    t->next = next;
    t->estimator = *e;
    return POL_OK;
}
