/* forward_queue.c - whole passes: queued one after the other, waited for once.
 *
 * The values of each pass travel to a row of its own in nll_host while the next one is computed; settling waits for all
 * and hands them out. What a pass uploads is uploaded before its ops, which form one stretch that a device may record
 * and replay.
 */
#include <string.h>

#include "core/forward_state.h"

/* The target of a position is the next token; the last position of a sequence has none. `row`: of f->target. */
static pol_status put_next_tokens(pol_forward *f, const int32_t *ids, int64_t row)
{
    const int64_t S = f->S, T = f->B * S;
    for (int64_t t = 0; t < T; t++)
        f->target_host[t] = t % S == S - 1 ? -1 : ids[t + 1];
    f->k = 1;
    return pol_upload(f->m->be, f->target, row * pol_forward_room(f), f->target_host, T);
}

pol_status pol_forward_check_targets(const pol_forward *f, int64_t k)
{
    if (k < 1 || k > f->max_targets)
        return pol_fail(f->m->ctx, POL_EARG, "%lld targets a position do not fit a forward pass made for %lld",
                        (long long)k, (long long)f->max_targets);
    return POL_OK;
}

pol_status pol_forward_put_targets(pol_forward *f, const int32_t *target, int64_t k, int64_t row)
{
    const int32_t vocab = f->m->config.vocab;
    const int64_t n = f->B * f->S * k;
    for (int64_t t = 0; t < n; t++)
        if (target[t] < -1 || target[t] >= vocab)
            return pol_fail(f->m->ctx, POL_EARG, "target %d is outside the vocabulary of %d", target[t], vocab);
    f->k = k;
    return pol_upload(f->m->be, f->target, row * pol_forward_room(f), target, n);
}

pol_status pol_forward_score_row(pol_forward *f, int64_t row)
{
    pol_model *m = f->m;
    const pol_config *c = &m->config;
    POL_TRY(pol_forward_norm(f, m->output_norm));
    return pol_nll(m->be, &(pol_nll_args){.nll = {f->nll, 0},
                                          .x = {f->y, 0},
                                          .w = {m->output, 0},
                                          .target = {f->target, row * pol_forward_room(f)},
                                          .scratch = {f->scratch, 0},
                                          .T = f->B * f->S,
                                          .k = f->k,
                                          .C = c->hidden,
                                          .V = c->vocab,
                                          .slice = pol_forward_slice(m->be, c)});
}

static pol_status send_values(pol_forward *f, int64_t i)
{
    f->in_flight = true;
    return pol_download_later(f->m->be, f->nll, 0, f->nll_host + i * pol_forward_room(f), f->B * f->S * f->k);
}

pol_status pol_forward_score(pol_forward *f, int64_t i)
{
    POL_TRY(pol_forward_score_row(f, i));
    return send_values(f, i);
}

static pol_status call_ops(pol_forward *f)
{
    POL_TRY(pol_forward_embed(f));
    for (int32_t l = 0; l < f->m->config.n_layers; l++) {
        POL_TRY(pol_forward_attention(f, l, NULL));
        POL_TRY(pol_forward_mlp(f, l, NULL));
    }
    return pol_forward_score_row(f, 0);
}

/* All that decides which ops a pass calls and with what: the buffers (those of `f`, and those of the model that may
 * change), its shape, what each layer keeps. Padded widths follow from kept ones. */
static size_t make_key(pol_forward *f)
{
    int64_t n = 0;
    f->key[n++] = (int64_t)(intptr_t)f;
    f->key[n++] = f->B;
    f->key[n++] = f->S;
    f->key[n++] = f->k;
    for (int32_t l = 0; l < f->m->config.n_layers; l++) {
        const pol_layer_weights *w = &f->m->layers[l];
        const int64_t of_layer[POL_KEY_LAYER] = {
            w->n_groups,      w->n_channels,       (intptr_t)w->rows_o, (intptr_t)w->rows_down,
            (intptr_t)w->b_o, (intptr_t)w->b_down,
        };
        memcpy(f->key + n, of_layer, sizeof of_layer);
        n += POL_KEY_LAYER;
    }
    return (size_t)n * sizeof *f->key;
}

/* The whole pass, now: of a resident model. */
static pol_status compute(pol_forward *f)
{
    bool replayed;
    POL_TRY(pol_pass_begin(f->m->be, f->key, make_key(f), &replayed));
    return replayed ? POL_OK : pol_pass_end(f->m->be, call_ops(f));
}

/* Of a pass that is to be: `target` NULL where it is the next token. */
static pol_status queue(pol_forward *f, const int32_t *ids, const int32_t *target, const pol_pending *p)
{
    if (f->n_pending == f->max_pending || f->n_visited) /* those that have set out take no one along */
        POL_TRY(pol_forward_settle(f));
    const int64_t i = f->n_pending;
    const int64_t row = f->m->visits ? i : 0;
    POL_TRY(pol_forward_put_ids(f, ids, p->B, p->S));
    POL_TRY(target ? pol_forward_put_targets(f, target, p->k, row) : put_next_tokens(f, ids, row));
    if (f->m->visits) {
        POL_TRY(pol_forward_note_cell(f, i));
    } else {
        POL_TRY(compute(f));
        POL_TRY(send_values(f, i));
    }
    f->pending[f->n_pending++] = *p;
    return POL_OK;
}

/* Values [B, S] or [B, S, k] of a pass to where its caller wants them. */
static void hand_out(const pol_pending *p, const float *value)
{
    const int64_t targets = p->S - 1;
    if (p->k) {
        memcpy(p->nll, value, (size_t)(p->B * p->S * p->k) * sizeof *value);
        return;
    }
    for (int64_t b = 0; b < p->B; b++) {
        double sum = 0;
        for (int64_t i = 0; i < targets; i++) {
            const float v = value[b * p->S + i];
            sum += v;
            if (p->nll)
                p->nll[b * targets + i] = v;
        }
        if (p->loss)
            p->loss[b] = sum / (double)targets;
    }
}

pol_status pol_forward_queue(pol_forward *f, const int32_t *ids, int64_t B, int64_t S, float *nll, double *loss)
{
    const pol_status s = queue(f, ids, NULL, &(pol_pending){.B = B, .S = S, .nll = nll, .loss = loss});
    if (s < 0)
        pol_forward_drop(f);
    return s;
}

pol_status pol_forward_queue_targets(pol_forward *f, const int32_t *ids, const int32_t *target, int64_t B, int64_t S,
                                     int64_t k, float *nll)
{
    pol_status s = pol_forward_check_targets(f, k);
    if (s == POL_OK)
        s = queue(f, ids, target, &(pol_pending){.B = B, .S = S, .k = k, .nll = nll});
    if (s < 0)
        pol_forward_drop(f);
    return s;
}

pol_status pol_forward_advance(pol_forward *f, bool *more)
{
    const int32_t visits = f->m->visits && f->n_pending ? pol_forward_visits(f) : 0;
    const pol_status s = f->n_visited < visits ? pol_forward_visit(f, f->n_visited++) : POL_OK;
    *more = s == POL_OK && f->n_visited < visits;
    if (s < 0)
        pol_forward_drop(f);
    return s;
}

static pol_status wait_for_values(pol_forward *f)
{
    for (bool more = true; more;)
        POL_TRY(pol_forward_advance(f, &more));
    const pol_status s = pol_sync(f->m->be);
    f->in_flight = false;
    return s;
}

pol_status pol_forward_settle(pol_forward *f)
{
    if (!f->n_pending)
        return POL_OK;
    const pol_status s = wait_for_values(f);
    for (int64_t i = 0; s == POL_OK && i < f->n_pending; i++)
        hand_out(&f->pending[i], f->nll_host + i * pol_forward_room(f));
    pol_forward_drop(f);
    return s;
}

/* Values that are still on their way arrive in nll_host and stay there: rows are filled in the order of the calls, so
 * that a later pass may use them again. */
void pol_forward_drop(pol_forward *f) { f->n_pending = f->n_visited = 0; }

int64_t pol_forward_max_pending(const pol_forward *f) { return f->max_pending; }
bool pol_forward_is_full(const pol_forward *f) { return f->n_pending == f->max_pending && !f->n_visited; }

pol_status pol_forward_nll(pol_forward *f, const int32_t *ids, int64_t B, int64_t S, float *nll, double *loss)
{
    POL_TRY(pol_forward_queue(f, ids, B, S, nll, loss));
    return pol_forward_settle(f);
}
