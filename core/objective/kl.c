/* kl.c - KL divergence from the dense model, by its most probable tokens and the rest.
 *
 * KL(p || q) over k tokens and one event for all others is what is left of the divergence when these others are not
 * told apart, so it is a lower bound, and exact where the vocabulary has no others. Both models' values come from the
 * same op on the same targets: the dense model's divergence from itself is 0 to the last bit.
 */
#include "core/objective/kl.h"

#include <math.h>
#include <string.h>

/* The rest is what the top tokens leave of 1: of less than this f32 values do not say how much it is. Where they leave
 * nothing both models' rests are this, and cancel. */
static const double LEAST_REST = 1e-6;

static double rest_of(const float *nll, int64_t k)
{
    double sum = 0;
    for (int64_t i = 0; i < k; i++)
        sum += exp(-(double)nll[i]);
    const double rest = 1 - sum;
    return rest < LEAST_REST ? LEAST_REST : rest; /* NaN stays */
}

double pol_kl(const float *p, const float *q, int64_t k)
{
    double sum = 0;
    for (int64_t i = 0; i < k; i++)
        sum += exp(-(double)p[i]) * ((double)q[i] - (double)p[i]);
    const double p_rest = rest_of(p, k), q_rest = rest_of(q, k);
    return sum + p_rest * log(p_rest / q_rest);
}

pol_status pol_dense_top_new(const pol_sequences *text, int32_t vocab, pol_dense_top *out)
{
    *out = (pol_dense_top){.text = text, .k = pol_min_i64(vocab, POL_MAX_TARGETS)};
    out->place = pol_alloc_array(text->ctx, text->n, sizeof *out->place);
    if (!out->place) {
        memset(out, 0, sizeof *out);
        return POL_ENOMEM;
    }
    for (int64_t i = 0; i < text->n; i++)
        out->place[i] = -1;
    return POL_OK;
}

void pol_dense_top_free(pol_dense_top *d)
{
    if (!d->text)
        return;
    pol_free(d->text->ctx, d->place);
    pol_free(d->text->ctx, d->token);
    pol_free(d->text->ctx, d->nll);
    memset(d, 0, sizeof *d);
}

/* Values of a sequence. */
static int64_t per_sequence(const pol_dense_top *d) { return (d->text->seq_len - 1) * d->k; }

/* The sequences that are to be added, each once: *list, yours. */
static pol_status list_missing(pol_dense_top *d, const int64_t *index, int64_t first, int64_t n, int64_t **list,
                               int64_t *missing)
{
    bool *seen = pol_alloc_zero(d->text->ctx, (size_t)d->text->n);
    *list = pol_alloc_array(d->text->ctx, n, sizeof **list);
    *missing = 0;
    for (int64_t i = 0; seen && *list && i < n; i++) {
        const int64_t sequence = index ? index[i] : first + i;
        if (d->place[sequence] < 0 && !seen[sequence])
            (*list)[(*missing)++] = sequence;
        seen[sequence] = true;
    }
    const bool good = seen && *list;
    pol_free(d->text->ctx, seen);
    return good ? POL_OK : POL_ENOMEM;
}

static pol_status reserve(pol_dense_top *d, int64_t more)
{
    const int64_t values = pol_mul_count(d->n + more, per_sequence(d));
    if (values > INT64_MAX / (int64_t)sizeof *d->nll)
        return pol_fail(d->text->ctx, POL_ENOMEM, "%lld sequences' dense log-probabilities are more than memory holds",
                        (long long)(d->n + more));
    int32_t *token = pol_realloc(d->text->ctx, d->token, (size_t)values * sizeof *token);
    if (!token)
        return POL_ENOMEM;
    d->token = token;
    float *nll = pol_realloc(d->text->ctx, d->nll, (size_t)values * sizeof *nll);
    if (!nll)
        return POL_ENOMEM;
    d->nll = nll;
    return POL_OK;
}

/* One pass: ids [B, S], token and nll [B, S, k]. */
typedef struct pass {
    int32_t *ids, *token;
    float *nll;
} pass;

static pol_status add_batch(pol_dense_top *d, pol_forward *f, const int64_t *sequence, int64_t B, const pass *p)
{
    const int64_t S = d->text->seq_len, values = per_sequence(d);
    for (int64_t b = 0; b < B; b++)
        memcpy(p->ids + b * S, d->text->ids + sequence[b] * S, (size_t)S * sizeof *p->ids);
    POL_TRY(pol_forward_top(f, p->ids, B, S, d->k, p->token, p->nll));
    for (int64_t b = 0; b < B; b++) {
        memcpy(d->token + d->n * values, p->token + b * S * d->k, (size_t)values * sizeof *d->token);
        memcpy(d->nll + d->n * values, p->nll + b * S * d->k, (size_t)values * sizeof *d->nll);
        d->place[sequence[b]] = d->n++;
    }
    return POL_OK;
}

static pol_status add_all(pol_dense_top *d, pol_forward *f, int64_t batch, const int64_t *list, int64_t n,
                          const pass *p, pol_eval_progress_fn fn, void *user)
{
    for (int64_t i = 0, B; i < n; i += B) {
        B = pol_min_i64(batch, n - i);
        POL_TRY(pol_check_stop(d->text->ctx));
        POL_TRY(add_batch(d, f, list + i, B, p));
        if (fn)
            POL_TRY(fn(user, i + B, n));
    }
    return POL_OK;
}

pol_status pol_dense_top_add(pol_dense_top *d, pol_forward *f, int64_t batch, const int64_t *index, int64_t first,
                             int64_t n, pol_eval_progress_fn fn, void *user)
{
    pol_context *ctx = d->text->ctx;
    const int64_t cells = pol_mul_count(batch, d->text->seq_len);
    int64_t *list, missing;
    pol_status s = list_missing(d, index, first, n, &list, &missing);
    if (s == POL_OK && missing)
        s = reserve(d, missing);
    if (s == POL_OK && missing) {
        const pass p = {.ids = pol_alloc_array(ctx, cells, sizeof *p.ids),
                        .token = pol_alloc_array(ctx, pol_mul_count(cells, d->k), sizeof *p.token),
                        .nll = pol_alloc_array(ctx, pol_mul_count(cells, d->k), sizeof *p.nll)};
        s = p.ids && p.token && p.nll ? add_all(d, f, batch, list, missing, &p, fn, user) : POL_ENOMEM;
        pol_free(ctx, p.ids);
        pol_free(ctx, p.token);
        pol_free(ctx, p.nll);
    }
    pol_free(ctx, list);
    return s;
}

void pol_dense_top_targets(const pol_dense_top *d, int64_t sequence, int32_t *target)
{
    const int64_t values = per_sequence(d);
    memcpy(target, d->token + d->place[sequence] * values, (size_t)values * sizeof *target);
    for (int64_t i = 0; i < d->k; i++)
        target[values + i] = -1;
}

double pol_dense_top_kl(const pol_dense_top *d, int64_t sequence, const float *nll)
{
    const int64_t positions = d->text->seq_len - 1;
    const float *dense = d->nll + d->place[sequence] * per_sequence(d);
    double sum = 0;
    for (int64_t p = 0; p < positions; p++)
        sum += pol_kl(dense + p * d->k, nll + p * d->k, d->k);
    return sum / (double)positions;
}
