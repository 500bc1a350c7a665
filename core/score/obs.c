/* obs.c - the order in which optimal-brain-surgeon removal takes a block's units, as a metric. */
#include "core/repair/database.h"
#include "core/repair/walk.h"
#include "core/score/score.h"

/* Ranks: 0 for the unit that goes first. */
static pol_status score_block(const pol_walk *walk, pol_backend *host, const pol_section *sec, float *values)
{
    pol_context *ctx = walk->m->ctx;
    const pol_config *c = &walk->m->config;
    pol_repair_settings o;
    pol_repair_defaults(&o);
    pol_obs_sweep_args a = {.n_units = sec->count,
                            .unit = pol_unit_inputs(c, sec->kind),
                            .C = c->hidden,
                            .block = pol_obs_block(sec->kind, sec->count),
                            .damping = o.damping,
                            .h = walk->h,
                            .w = walk->w,
                            .order = pol_alloc_array(ctx, sec->count, sizeof *a.order),
                            .error = pol_alloc_array(ctx, sec->count, sizeof *a.error)};
    pol_status s = a.order && a.error ? pol_obs_sweep(host, &a) : POL_ENOMEM;
    for (int64_t i = 0; s == POL_OK && i < sec->count; i++)
        values[sec->first + a.order[i]] = (float)(sec->count - 1 - i);
    pol_free(ctx, a.order);
    pol_free(ctx, a.error);
    if (s == POL_OK)
        pol_log(ctx, POL_LOG_DEBUG, "obs layer=%d kind=%s condition=%.2e", sec->layer, pol_unit_kind_name(sec->kind),
                a.condition);
    return s;
}

static pol_status score_all(pol_walk *walk, pol_backend *host, unsigned granularity, float *values)
{
    const pol_units *u = walk->m->units;
    for (int32_t l = 0; l < u->n_layers; l++)
        for (int kind = POL_UNIT_GROUP; kind <= POL_UNIT_CHANNEL; kind++) {
            const pol_section *sec = pol_units_section(u, (pol_unit_kind)kind, l);
            const bool look = granularity & 1u << kind && sec->count;
            POL_TRY(pol_walk_block(walk, l, (pol_unit_kind)kind, look));
            POL_TRY(pol_check_stop(walk->m->ctx));
            if (look)
                POL_TRY(score_block(walk, host, sec, values));
        }
    return POL_OK;
}

pol_status pol_obs_ranks(pol_forward *f, const pol_sequences *cal, unsigned granularity, float *values)
{
    pol_model *m = pol_forward_model(f);
    const bool own = pol_can_repair(m->be);
    pol_backend *host = m->be;
    pol_walk walk = {0};
    POL_TRY(pol_check_tokens(m->ctx, &m->config, granularity, pol_mul_count(cal->n, cal->seq_len)));
    if (!own)
        POL_TRY(pol_backend_open_host(m->ctx, 0, &host));
    pol_status s = pol_walk_begin(f, cal, granularity, &walk);
    if (s == POL_OK)
        s = score_all(&walk, host, granularity, values);
    pol_walk_end(&walk);
    if (!own)
        pol_backend_close(host);
    return s;
}
