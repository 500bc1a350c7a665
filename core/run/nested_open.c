/* nested_open.c - the order in which blocks keep their units, and the database of repaired levels: computed, or taken
 * up where an earlier call has left them. */
#include <stdlib.h>
#include <string.h>

#include "core/backend.h"
#include "core/base/file.h"
#include "core/model/source.h"
#include "core/run/stage.h"

/* The model is learnt in as it will be repaired, unless its layers visit the device: there is no room for levels then.
 */
static bool wants_database(const pol_job *r)
{
    if (pol_inputs_have_database(&r->o, &r->in))
        return true;
    if (r->o.repair.kind == POL_REPAIR_RIDGE)
        pol_log(r->ctx, POL_LOG_WARN,
                "layers visit the device: the allocation is learnt in the model as it is, not as it will be repaired");
    return false;
}

/* The sweep of the database gives the order, or in its place a metric of single units. */
static bool is_swept(const pol_job *r) { return r->o.init == POL_METRIC_OBS && !r->in.init_mask; }

/* Where the metric comes from, as a part of the database's identity: of the sweep nothing is needed. */
static pol_status identify_metric(pol_job *r, pol_bytes *text)
{
    char hash[33];
    const pol_inputs *in = &r->in;
    if (is_swept(r))
        return pol_bytes_printf(text, " swept %lld", (long long)r->o.obs_block);
    if (in->init_mask) {
        POL_TRY(pol_file_hash(r->ctx, in->init_mask, hash));
        return pol_bytes_printf(text, " mask %s", hash);
    }
    POL_TRY(pol_bytes_printf(text, " %s %s %llu", pol_metric_name(r->o.init), in->init.n ? in->init.hash : "-",
                             (unsigned long long)r->o.learn.seed));
    for (int kind = 0; kind < POL_UNIT_KINDS; kind++) /* one metric sees what others of the budget leave */
        POL_TRY(pol_bytes_printf(text, " %.17g", in->init_keep[kind]));
    return POL_OK;
}

/* Model, text and settings that the levels depend on; the budget alone only where the metric does, so that several runs
 * may share them. */
static pol_status identify(pol_job *r, char out[33])
{
    char model[33];
    pol_bytes text = {.ctx = r->ctx};
    POL_TRY(pol_source_hash(r->in.src, model));
    pol_status s = pol_bytes_printf(&text, "%s %s %s %lld %lld %.17g %u", model, r->in.repair.hash,
                                    pol_backend_weights(r->in.devices[0]), (long long)r->o.levels,
                                    (long long)r->o.align_channels, r->o.repair.damping, r->o.granularity);
    if (s == POL_OK)
        s = identify_metric(r, &text);
    if (s == POL_OK)
        pol_bytes_hash(text.data, text.len, out);
    pol_bytes_free(&text);
    return s;
}

pol_backend *pol_job_host(const pol_job *r) { return r->host ? r->host : r->in.devices[0]; }

pol_status pol_job_open_host(pol_job *r)
{
    if (r->o.repair.kind != POL_REPAIR_RIDGE || pol_can_repair(r->in.devices[0]))
        return POL_OK;
    pol_log(r->ctx, POL_LOG_INFO, "backend %s has no solvers: the cpu backend does that step",
            r->in.devices[0]->info.backend);
    return pol_backend_open_host(r->ctx, r->o.backend.threads, &r->host);
}

static void build_progress(void *user, int64_t done, int64_t total) { (void)pol_job_progress(user, done, total); }

/* What forward passes have been spent on is counted once, also where a run goes on that has spent them. */
static void count(pol_job *r, bool resumed, pol_purpose purpose, int64_t sequences)
{
    if (!resumed)
        r->sequences[purpose] += sequences;
}

/* The metric of single units that gives the order. Where OBS has had no sequences cut out for it, it sees the
 * repair's. */
static pol_status metric_values(pol_job *r, float *values)
{
    if (r->in.init_mask) {
        unsigned granularity;
        return pol_mask_read(r->ctx, r->in.init_mask, r->in.units, &granularity, r->mask, values);
    }
    const pol_sequences *text = r->in.init.n ? &r->in.init : &r->in.repair;
    pol_job_stage(r, "metric");
    return pol_replicas_on(&r->replicas, 0,
                           pol_metric_compute(r->replicas.of[0].forward, r->o.init, text, r->o.granularity,
                                              r->in.init_keep, r->o.learn.seed, values, NULL));
}

/* Blocks that are missing; `metric` (NULL: the sweep gives the order) is filled in where it is needed for them. */
static pol_status build(pol_job *r, float *metric)
{
    pol_nested *n = &r->nested;
    if (pol_database_whole(n->db))
        return POL_OK;
    if (metric)
        POL_TRY(metric_values(r, metric));
    pol_job_stage(r, "nested order and repaired levels");
    return pol_replicas_on(
        &r->replicas, 0,
        pol_database_build(n->db, r->replicas.of[0].forward, pol_job_host(r), &r->in.repair, build_progress, r, NULL));
}

static pol_status open_database(pol_job *r)
{
    float *metric = is_swept(r) ? NULL : pol_alloc_array(r->ctx, r->in.units->n, sizeof *metric);
    pol_database_settings o = {.levels = r->o.levels,
                               .align = r->o.align_channels,
                               .obs_block = r->o.obs_block,
                               .damping = r->o.repair.damping,
                               .metric = metric,
                               .granularity = r->o.granularity};
    pol_status s = is_swept(r) || metric ? identify(r, o.identity) : POL_ENOMEM;
    if (s == POL_OK)
        s = pol_database_open(r->ctx, r->folder.database, &o, r->replicas.of[0].model, &r->nested.db);
    if (s == POL_OK)
        s = build(r, metric);
    if (s == POL_OK)
        pol_database_full_order(r->nested.db, r->nested.order);
    pol_free(r->ctx, metric);
    return s;
}

/* On each device, and as what the counts' rules prefer. */
static pol_status open_levels(pol_job *r)
{
    pol_nested *n = &r->nested;
    n->levels = pol_alloc_zero(r->ctx, (size_t)r->in.n_devices * sizeof *n->levels);
    n->rows = pol_alloc_zero(r->ctx, (size_t)r->in.n_devices * sizeof *n->rows);
    if (!n->levels || !n->rows)
        return POL_ENOMEM;
    for (int64_t i = 0; i < r->in.n_devices; i++)
        if (!(n->rows[i] = pol_alloc_zero(r->ctx, (size_t)pol_nested_counts(r) * sizeof **n->rows)))
            return POL_ENOMEM;
    for (int64_t i = 0; i < r->in.n_devices; i++)
        POL_TRY(pol_replicas_on(
            &r->replicas, i, pol_levels_new(n->db, r->in.devices[i], r->in.memory[i].levels_resident, &n->levels[i])));
    for (int64_t i = 0; i < pol_nested_counts(r); i++) {
        const pol_section *sec = pol_nested_section(r, i);
        n->level[i] = pol_database_level(n->db, sec->layer, sec->kind, &n->n_levels[i]);
    }
    n->rules.level = n->level;
    n->rules.n_levels = n->n_levels;
    return POL_OK;
}

/* Without a database: units of each block by falling metric. */
static pol_status order_by_metric(pol_job *r)
{
    float *metric = pol_alloc_array(r->ctx, r->in.units->n, sizeof *metric);
    pol_status s = metric ? metric_values(r, metric) : POL_ENOMEM;
    for (int64_t i = 0; s == POL_OK && i < pol_nested_counts(r); i++) {
        const pol_section *sec = pol_nested_section(r, i);
        int32_t *order = r->nested.order + sec->first;
        s = pol_order_by_metric(r->ctx, metric + sec->first, sec->count, order);
        for (int64_t k = 0; s == POL_OK && k < sec->count; k++)
            order[k] += (int32_t)sec->first;
    }
    pol_free(r->ctx, metric);
    return s;
}

static pol_status find_order(pol_job *r, bool resumed)
{
    count(r, resumed, POL_PURPOSE_INIT, pol_metric_passes(r->o.init) * r->in.init.n);
    if (wants_database(r)) {
        count(r, resumed, POL_PURPOSE_REPAIR, r->in.repair.n);
        POL_TRY(open_database(r));
        return open_levels(r);
    }
    double *order = pol_job_state_of(r).order; /* in the checkpoint: another device's metric might give another one */
    if (!resumed)
        POL_TRY(order_by_metric(r));
    for (int64_t i = 0; i < r->ck.shape.n_order; i++)
        if (resumed)
            r->nested.order[i] = (int32_t)order[i];
        else
            order[i] = r->nested.order[i];
    return POL_OK;
}

static pol_status allocate(pol_job *r)
{
    pol_nested *n = &r->nested;
    const int64_t counts = pol_nested_counts(r);
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
    POL_TRY(find_order(r, resumed));
    POL_TRY(pol_shape_check(&n->rules));
    return pol_job_set_saved_order(r, n->order); /* if not the checkpoint's, it is sound */
}

void pol_nested_close(pol_job *r)
{
    pol_nested *n = &r->nested;
    for (int64_t i = 0; n->levels && i < r->in.n_devices; i++)
        pol_levels_free(n->levels[i]);
    for (int64_t i = 0; n->rows && i < r->in.n_devices; i++)
        pol_free(r->ctx, n->rows[i]);
    pol_database_close(n->db);
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
