/* nested.c - what counts of units stand for in a run that learns an allocation: which units they are, and the rows that
 * make up for the others. */
#include <math.h>
#include <string.h>

#include "core/run/stage.h"

int64_t pol_nested_counts(const pol_job *r) { return 2 * (int64_t)r->in.units->n_layers; }

const pol_section *pol_nested_section(const pol_job *r, int64_t i)
{
    const int32_t L = r->in.units->n_layers;
    return pol_units_section(r->in.units, i < L ? POL_UNIT_GROUP : POL_UNIT_CHANNEL, (int32_t)(i % L));
}

/* Where the order of a section begins in that of all: positions are numbered as units of these two kinds are. */
static const int32_t *order_of(const pol_job *r, int64_t i)
{
    return r->nested.order + pol_nested_section(r, i)->first;
}

/* The share of the budget that every block keeps; of an earlier run, what its probabilities expect. */
pol_status pol_nested_start(pol_job *r, double *want)
{
    float *s = NULL;
    if (r->in.init_mask) {
        unsigned granularity;
        s = pol_alloc_array(r->ctx, r->in.units->n, sizeof *s);
        const pol_status read =
            s ? pol_mask_read(r->ctx, r->in.init_mask, r->in.units, &granularity, r->mask, s) : POL_ENOMEM;
        if (read < 0) {
            pol_free(r->ctx, s);
            return read;
        }
    }
    for (int64_t i = 0; i < pol_nested_counts(r); i++) {
        const pol_section *sec = pol_nested_section(r, i);
        const bool may_go = r->o.granularity >> sec->kind & 1;
        want[i] = may_go ? r->in.init_keep[sec->kind] * (double)sec->count : (double)sec->count;
        if (s && may_go) {
            want[i] = 0;
            for (int64_t k = 0; k < sec->count; k++)
                want[i] += s[sec->first + k];
        }
    }
    pol_free(r->ctx, s);
    return POL_OK;
}

pol_status pol_nested_fill(pol_job *r)
{
    pol_nested *n = &r->nested;
    pol_shape_rules rules = n->rules;
    rules.at_most = n->at_most;
    return pol_shape_round(&rules, n->want, n->count);
}

void pol_nested_mask(const pol_job *r, const double *count, uint8_t *mask)
{
    memset(mask, 1, (size_t)r->in.units->n);
    for (int64_t i = 0; i < pol_nested_counts(r); i++) {
        const pol_section *sec = pol_nested_section(r, i);
        for (int64_t k = (int64_t)count[i]; k < sec->count; k++)
            mask[order_of(r, i)[k]] = 0;
    }
}

void pol_nested_probabilities(const pol_job *r, const double *count, float *s)
{
    const double share = r->o.allocation.spread_channels * r->o.allocation.spread_end;
    for (int64_t i = 0; i < r->in.units->n; i++)
        s[i] = 1.0f;
    for (int64_t i = 0; i < pol_nested_counts(r); i++) {
        const pol_section *sec = pol_nested_section(r, i);
        if (!(r->o.granularity >> sec->kind & 1))
            continue;
        const double spread = fmax(share * (double)sec->count, 0.25);
        for (int64_t k = 0; k < sec->count; k++)
            s[order_of(r, i)[k]] = (float)pol_allocation_probability(count[i], spread, k);
    }
}

pol_status pol_nested_set(pol_job *r, const int64_t *count)
{
    pol_nested *n = &r->nested;
    for (int64_t i = 0; n->db && i < r->in.n_devices; i++)
        POL_TRY(pol_replicas_on(&r->replicas, i, pol_levels_rows(n->levels[i], count, n->rows[i])));
    return pol_replicas_set_lengths(&r->replicas, count, n->db ? (pol_buf *const *const *)n->rows : NULL);
}

/* Rows of the next larger level in place of the model's own, for every unit of it. */
static pol_status put_larger(pol_job *r, int64_t i, float *rows)
{
    const pol_section *sec = pol_nested_section(r, i);
    const int64_t count = (int64_t)pol_job_state_of(r).count[i], *level = r->nested.level[i];
    if (count == 0 || count == sec->count)
        return POL_OK;
    while (*level <= count)
        level++;
    if (*level == sec->count)
        return POL_OK;
    int64_t read;
    POL_TRY(pol_levels_read(r->nested.db, sec->layer, sec->kind, *level, rows, &read));
    return pol_replicas_put(&r->replicas, sec->layer, sec->kind == POL_UNIT_GROUP ? POL_W_O : POL_W_DOWN, 0, read,
                            rows);
}

/* Gives back what levels take: after it counts stand for masks alone. */
void pol_nested_drop_levels(pol_job *r)
{
    pol_nested *n = &r->nested;
    for (int64_t i = 0; n->levels && i < r->in.n_devices; i++) {
        pol_levels_free(n->levels[i]);
        n->levels[i] = NULL;
    }
}

pol_status pol_nested_put_larger(pol_job *r)
{
    const pol_config *c = pol_source_config(r->in.src);
    int64_t widest = 0;
    if (!r->nested.db)
        return POL_OK;
    for (int32_t l = 0; l < c->n_layers; l++)
        widest = pol_max_i64(widest, pol_max_i64(c->layers[l].n_groups * pol_ctx_cols(c), c->layers[l].ffn));
    float *rows = pol_alloc_array(r->ctx, widest * c->hidden, sizeof *rows);
    pol_status s = rows ? POL_OK : POL_ENOMEM;
    if (s == POL_OK)
        s = pol_replicas_set_order(&r->replicas, r->nested.order);
    for (int64_t i = 0; s == POL_OK && i < pol_nested_counts(r); i++)
        s = put_larger(r, i, rows);
    pol_free(r->ctx, rows);
    return s;
}
