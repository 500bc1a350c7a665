/* replicas.c - a model on several devices: loading it, masks for all, passes in turn. One thread queues for all of
 * them; they compute side by side because a device's queue does. */
#include "core/replicas.h"

#include <string.h>

#include "core/forward.h"

static pol_status on_device(const pol_replicas *r, const pol_backend *be, pol_status s)
{
    const pol_device_info *d = &be->info;
    if (s >= 0 || r->n == 1 || s == POL_EINTERRUPTED)
        return s;
    return pol_fail(r->ctx, s, "%s %d (%s): %s", d->backend, d->index, d->name, pol_error_text(r->ctx));
}

pol_status pol_replicas_on(const pol_replicas *r, int64_t i, pol_status s)
{
    return on_device(r, r->of[i].model->be, s);
}

static pol_status load(pol_source *src, pol_backend *be, const pol_memory *memory, int64_t max_tokens,
                       int64_t max_seq_len, pol_replica *out)
{
    POL_TRY(pol_memory_reserve(be, memory));
    POL_TRY(pol_model_load(src, be, &memory->placement, &out->model));
    const pol_forward_size size = {max_tokens, max_seq_len, memory->max_targets};
    return pol_forward_new_sized(out->model, &size, &out->forward);
}

pol_status pol_replicas_open(pol_source *src, pol_backend *const *devices, const pol_memory *memory, int64_t n,
                             int64_t max_tokens, int64_t max_seq_len, pol_replicas *r)
{
    pol_context *ctx = devices[0]->ctx;
    *r = (pol_replicas){.ctx = ctx, .of = pol_alloc_zero(ctx, (size_t)n * sizeof *r->of), .n = n};
    pol_status s = r->of ? POL_OK : POL_ENOMEM;
    for (int64_t i = 0; s == POL_OK && i < n; i++)
        s = on_device(r, devices[i], load(src, devices[i], &memory[i], max_tokens, max_seq_len, &r->of[i]));
    if (s < 0)
        pol_replicas_close(r);
    return s;
}

void pol_replicas_close(pol_replicas *r)
{
    if (!r->ctx)
        return;
    for (int64_t i = 0; r->of && i < r->n; i++) {
        pol_forward_free(r->of[i].forward);
        pol_model_free(r->of[i].model);
    }
    pol_free(r->ctx, r->of);
    memset(r, 0, sizeof *r);
}

pol_status pol_replicas_set_mask(pol_replicas *r, const uint8_t *mask)
{
    for (int64_t i = 0; i < r->n; i++)
        POL_TRY(pol_replicas_on(r, i, pol_model_set_mask(r->of[i].model, mask)));
    return POL_OK;
}

pol_status pol_replicas_set_order(pol_replicas *r, const int32_t *order)
{
    for (int64_t i = 0; i < r->n; i++)
        POL_TRY(pol_replicas_on(r, i, pol_model_set_order(r->of[i].model, order)));
    return POL_OK;
}

pol_status pol_replicas_set_lengths(pol_replicas *r, const int64_t *length, pol_buf *const *const *rows)
{
    for (int64_t i = 0; i < r->n; i++)
        POL_TRY(pol_replicas_on(r, i, pol_model_set_lengths(r->of[i].model, length, rows ? rows[i] : NULL)));
    return POL_OK;
}

pol_status pol_replicas_put(pol_replicas *r, int32_t layer, pol_part part, int64_t first, int64_t n,
                            const float *values)
{
    for (int64_t i = 0; i < r->n; i++)
        POL_TRY(pol_replicas_on(r, i, pol_model_put(r->of[i].model, layer, part, first, n, values)));
    return POL_OK;
}

pol_status pol_replicas_put_bias(pol_replicas *r, int32_t layer, pol_unit_kind kind, const float *values)
{
    for (int64_t i = 0; i < r->n; i++)
        POL_TRY(pol_replicas_on(r, i, pol_model_put_bias(r->of[i].model, layer, kind, values)));
    return POL_OK;
}

pol_status pol_replicas_reload_last(pol_replicas *r, pol_source *src)
{
    for (int64_t i = 0; i < r->n; i++)
        POL_TRY(pol_replicas_on(r, i, pol_model_reload_last(r->of[i].model, src)));
    return POL_OK;
}

pol_status pol_replicas_follow_first(pol_replicas *r)
{
    const pol_model *first = r->of[0].model;
    int32_t *order = pol_alloc_array(r->ctx, pol_model_order_size(first), sizeof *order);
    if (!order)
        return POL_ENOMEM;
    pol_model_get_order(first, order);
    const pol_status s = pol_replicas_set_order(r, order);
    pol_free(r->ctx, order);
    return s;
}

/* All that is queued is under way on every device before any of them is waited for. Layer by layer, because a host that
 * is far ahead of a device has to wait for it. */
static pol_status set_out(pol_replicas *r)
{
    for (bool left = true; left;) {
        left = false;
        for (int64_t i = 0; i < r->n; i++) {
            bool more;
            POL_TRY(pol_replicas_on(r, i, pol_forward_advance(r->of[i].forward, &more)));
            left |= more;
        }
    }
    return POL_OK;
}

/* Room for a pass on the replica whose turn it is: *i. */
static pol_status take_turn(pol_replicas *r, int64_t *i)
{
    *i = r->next;
    r->next = (*i + 1) % r->n;
    return pol_forward_is_full(r->of[*i].forward) ? set_out(r) : POL_OK;
}

pol_status pol_replicas_queue(pol_replicas *r, const int32_t *ids, int64_t B, int64_t S, float *nll, double *loss)
{
    int64_t i;
    pol_status s = take_turn(r, &i);
    if (s == POL_OK)
        s = pol_replicas_on(r, i, pol_forward_queue(r->of[i].forward, ids, B, S, nll, loss));
    if (s < 0)
        pol_replicas_drop(r);
    return s;
}

pol_status pol_replicas_queue_targets(pol_replicas *r, const int32_t *ids, const int32_t *target, int64_t B, int64_t S,
                                      int64_t k, float *nll)
{
    int64_t i;
    pol_status s = take_turn(r, &i);
    if (s == POL_OK)
        s = pol_replicas_on(r, i, pol_forward_queue_targets(r->of[i].forward, ids, target, B, S, k, nll));
    if (s < 0)
        pol_replicas_drop(r);
    return s;
}

pol_status pol_replicas_settle(pol_replicas *r)
{
    pol_status s = set_out(r);
    for (int64_t i = 0; s == POL_OK && i < r->n; i++)
        s = pol_replicas_on(r, i, pol_forward_settle(r->of[i].forward));
    if (s < 0)
        pol_replicas_drop(r);
    r->next = 0;
    return s;
}

void pol_replicas_drop(pol_replicas *r)
{
    for (int64_t i = 0; i < r->n; i++)
        pol_forward_drop(r->of[i].forward);
    r->next = 0;
}
