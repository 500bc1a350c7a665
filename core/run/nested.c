/* nested.c - what counts of units stand for in a run that learns an allocation: which units they are, and the rows that
 * make up for the others. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/backend.h"
#include "core/base/file.h"
#include "core/model/source.h"
#include "core/model/weights.h"
#include "core/run/stage.h"

static int64_t n_counts(const pol_job *r) { return 2 * (int64_t)r->in.units->n_layers; }

static const pol_section *section(const pol_job *r, int64_t i)
{
    const int32_t L = r->in.units->n_layers;
    return pol_units_section(r->in.units, i < L ? POL_UNIT_GROUP : POL_UNIT_CHANNEL, (int32_t)(i % L));
}

/* Where the order of a section begins in that of all: positions are numbered as units of these two kinds are. */
static const int32_t *order_of(const pol_job *r, int64_t i) { return r->nested.order + section(r, i)->first; }

/* The model is learnt in as it will be repaired, unless its layers visit the device: there is no room for levels then.
 */
static bool wants_database(const pol_job *r)
{
    if (r->o.repair.kind != POL_REPAIR_RIDGE)
        return false;
    for (int64_t i = 0; i < r->in.n_devices; i++)
        if (r->in.memory[i].placement.streamed) {
            pol_log(
                r->ctx, POL_LOG_WARN,
                "layers visit the device: the allocation is learnt in the model as it is, not as it will be repaired");
            return false;
        }
    return true;
}

pol_backend *pol_job_host(const pol_job *r) { return r->nested.host ? r->nested.host : r->in.devices[0]; }

static pol_status open_host(pol_job *r)
{
    if (pol_can_repair(r->in.devices[0]))
        return POL_OK;
    pol_log(r->ctx, POL_LOG_INFO, "backend %s has no solvers: the cpu backend does that step",
            r->in.devices[0]->info.backend);
    return pol_backend_open_host(r->ctx, r->o.backend.threads, &r->nested.host);
}

static void build_progress(void *user, int64_t done, int64_t total)
{
    pol_job *r = user;
    if (r->watch && r->watch->progress)
        r->watch->progress(r->watch->user, done, total);
}

/* Model, text and settings that the levels depend on; not the budget, so that several runs may share them. */
static pol_status identify(pol_job *r, char out[33])
{
    char model[33];
    POL_TRY(pol_source_hash(r->in.src, model));
    char *text = pol_format(r->ctx, "%s %s %s %lld %lld %lld %.17g %s %u %llu", model, r->in.repair.hash,
                            pol_backend_weights(r->in.devices[0]), (long long)r->o.levels,
                            (long long)r->o.align_channels, (long long)r->o.obs_block, r->o.repair.damping,
                            r->o.init_run ? r->o.init_run : pol_metric_name(r->o.init), r->o.granularity,
                            (unsigned long long)r->o.learn.seed);
    if (!text)
        return POL_ENOMEM;
    pol_bytes_hash(text, strlen(text), out);
    pol_free(r->ctx, text);
    return POL_OK;
}

static pol_status open_database(pol_job *r, const float *metric)
{
    pol_nested *n = &r->nested;
    pol_database_settings o = {.levels = r->o.levels,
                               .align = r->o.align_channels,
                               .obs_block = r->o.obs_block,
                               .damping = r->o.repair.damping,
                               .metric = metric,
                               .granularity = r->o.granularity};
    int64_t sequences = 0;
    POL_TRY(identify(r, o.identity));
    pol_job_stage(r, "nested order and repaired levels");
    POL_TRY(pol_database_open(r->ctx, r->folder.database, &o, r->replicas.of[0].model, &n->db));
    const pol_status s = pol_database_build(n->db, r->replicas.of[0].forward, pol_job_host(r), &r->in.repair,
                                            build_progress, r, &sequences);
    r->sequences[POL_PURPOSE_REPAIR] += sequences;
    POL_TRY(pol_replicas_on(&r->replicas, 0, s));
    pol_database_full_order(n->db, n->order);
    n->levels = pol_alloc_zero(r->ctx, (size_t)r->in.n_devices * sizeof *n->levels);
    n->rows = pol_alloc_zero(r->ctx, (size_t)r->in.n_devices * sizeof *n->rows);
    if (!n->levels || !n->rows)
        return POL_ENOMEM;
    for (int64_t i = 0; i < r->in.n_devices; i++)
        if (!(n->rows[i] = pol_alloc_zero(r->ctx, (size_t)n_counts(r) * sizeof **n->rows)))
            return POL_ENOMEM;
    for (int64_t i = 0; i < r->in.n_devices; i++)
        POL_TRY(pol_replicas_on(
            &r->replicas, i, pol_levels_new(n->db, r->in.devices[i], r->in.memory[i].levels_resident, &n->levels[i])));
    for (int64_t i = 0; i < n_counts(r); i++) {
        const pol_section *sec = section(r, i);
        n->level[i] = pol_database_level(n->db, sec->layer, sec->kind, &n->n_levels[i]);
    }
    n->rules.level = n->level;
    n->rules.n_levels = n->n_levels;
    return POL_OK;
}

typedef struct ranked {
    float value;
    int32_t unit;
} ranked;

static int by_falling_value(const void *pa, const void *pb)
{
    const ranked *a = pa, *b = pb;
    if (a->value != b->value)
        return a->value < b->value ? 1 : -1;
    return a->unit - b->unit;
}

/* Units of each block by falling metric, ties to the lower number. */
static pol_status order_by_metric(pol_job *r, const float *metric)
{
    for (int64_t i = 0; i < n_counts(r); i++) {
        const pol_section *sec = section(r, i);
        ranked *list = pol_alloc_array(r->ctx, sec->count, sizeof *list);
        if (!list)
            return POL_ENOMEM;
        for (int64_t k = 0; k < sec->count; k++)
            list[k] = (ranked){metric[sec->first + k], (int32_t)(sec->first + k)};
        qsort(list, (size_t)sec->count, sizeof *list, by_falling_value);
        for (int64_t k = 0; k < sec->count; k++)
            r->nested.order[sec->first + k] = list[k].unit;
        pol_free(r->ctx, list);
    }
    return POL_OK;
}

/* The metric of single units that gives the order; not asked for where the sweep of the database does. */
static pol_status metric_values(pol_job *r, float *values)
{
    double passes = 0;
    if (r->in.init_mask) {
        unsigned granularity;
        return pol_mask_read(r->ctx, r->in.init_mask, r->in.units, &granularity, r->mask, values);
    }
    pol_job_stage(r, "metric");
    const pol_status s = pol_metric_compute(r->replicas.of[0].forward, r->o.init, &r->in.init, r->o.granularity,
                                            r->in.init_keep, r->o.learn.seed, values, &passes);
    r->sequences[POL_PURPOSE_INIT] += (int64_t)passes;
    return pol_replicas_on(&r->replicas, 0, s);
}

static pol_status find_order(pol_job *r, bool resumed)
{
    const bool database = wants_database(r), obs = r->o.init == POL_METRIC_OBS && !r->in.init_mask;
    if (resumed && !database) {
        memcpy(r->nested.order, r->ck.order, (size_t)r->ck.shape.n_order * sizeof *r->ck.order);
        return POL_OK;
    }
    float *metric = NULL;
    pol_status s = POL_OK;
    if (!(obs && database) && !resumed) {
        metric = pol_alloc_array(r->ctx, r->in.units->n, sizeof *metric);
        s = metric ? metric_values(r, metric) : POL_ENOMEM;
    }
    if (s == POL_OK)
        s = database ? open_database(r, metric) : order_by_metric(r, metric);
    pol_free(r->ctx, metric);
    return s;
}

static pol_status allocate(pol_job *r)
{
    pol_nested *n = &r->nested;
    const int64_t counts = n_counts(r);
    n->order = pol_alloc_array(r->ctx, pol_model_order_size(r->replicas.of[0].model), sizeof *n->order);
    n->level = pol_alloc_zero(r->ctx, (size_t)counts * sizeof *n->level);
    n->n_levels = pol_alloc_zero(r->ctx, (size_t)counts * sizeof *n->n_levels);
    n->want = pol_alloc_array(r->ctx, counts, sizeof *n->want);
    n->count = pol_alloc_array(r->ctx, counts, sizeof *n->count);
    n->at_most = pol_alloc_array(r->ctx, counts, sizeof *n->at_most);
    return n->order && n->level && n->n_levels && n->want && n->count && n->at_most ? POL_OK : POL_ENOMEM;
}

pol_status pol_nested_open(pol_job *r, bool resumed)
{
    pol_nested *n = &r->nested;
    POL_TRY(allocate(r));
    n->rules = (pol_shape_rules){.units = r->in.units,
                                 .granularity = r->o.granularity,
                                 .budget = r->o.learn.budget,
                                 .align_channels = r->o.align_channels,
                                 .min_groups = r->o.min_groups};
    POL_TRY(open_host(r));
    POL_TRY(find_order(r, resumed));
    POL_TRY(pol_shape_check(&n->rules));
    return pol_replicas_set_order(&r->replicas, n->order);
}

void pol_nested_close(pol_job *r)
{
    pol_nested *n = &r->nested;
    for (int64_t i = 0; n->levels && i < r->in.n_devices; i++)
        pol_levels_free(n->levels[i]);
    for (int64_t i = 0; n->rows && i < r->in.n_devices; i++)
        pol_free(r->ctx, n->rows[i]);
    pol_database_close(n->db);
    pol_backend_close(n->host);
    pol_free(r->ctx, n->levels);
    pol_free(r->ctx, n->rows);
    pol_free(r->ctx, n->order);
    pol_free(r->ctx, n->level);
    pol_free(r->ctx, n->n_levels);
    pol_free(r->ctx, n->want);
    pol_free(r->ctx, n->count);
    pol_free(r->ctx, n->at_most);
    memset(n, 0, sizeof *n);
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
    for (int64_t i = 0; i < n_counts(r); i++) {
        const pol_section *sec = section(r, i);
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
    for (int64_t i = 0; i < n_counts(r); i++) {
        const pol_section *sec = section(r, i);
        for (int64_t k = (int64_t)count[i]; k < sec->count; k++)
            mask[order_of(r, i)[k]] = 0;
    }
}

void pol_nested_probabilities(const pol_job *r, const double *count, float *s)
{
    const double share = r->o.allocation.spread_channels * r->o.allocation.spread_end;
    for (int64_t i = 0; i < r->in.units->n; i++)
        s[i] = 1.0f;
    for (int64_t i = 0; i < n_counts(r); i++) {
        const pol_section *sec = section(r, i);
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
    const pol_section *sec = section(r, i);
    const int64_t count = (int64_t)pol_job_state_of(r).count[i];
    int64_t level;
    if (count == 0 || count + 1 >= sec->count)
        return POL_OK;
    POL_TRY(pol_levels_read(r->nested.db, sec->layer, sec->kind, count + 1, rows, &level));
    return level < sec->count ? pol_replicas_put(&r->replicas, sec->layer,
                                                 sec->kind == POL_UNIT_GROUP ? POL_W_O : POL_W_DOWN, 0, level, rows)
                              : POL_OK;
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
    for (int64_t i = 0; s == POL_OK && i < n_counts(r); i++)
        s = put_larger(r, i, rows);
    pol_free(r->ctx, rows);
    return s;
}
