/* database_build.c - computing the blocks of a database: moments, order, rows, errors; each in the file before the next
 * begins. */
#include <stdio.h>
#include <string.h>

#include "core/repair/database_state.h"
#include "core/repair/walk.h"

/* What a block is computed with. Levels here are those with rows: 0 and all are left out. */
typedef struct work {
    pol_database *db;
    pol_db_block *b;
    const pol_walk *walk;
    pol_backend *host;
    const int64_t *level;
    int64_t n;
    float *rows;   /* [units of all levels, unit] */
    float **row;   /* [n] of each level */
    double *error; /* [count] of removals, then of levels: of the rows as they are */
    double *loss;  /* [count + 1] */
} work;

static int64_t removed_at_a_time(const pol_database *db, const pol_section *sec)
{
    const bool automatic = sec->kind == POL_UNIT_GROUP || db->o.obs_block == POL_AUTO;
    return automatic ? pol_obs_block(sec->kind, sec->count) : pol_min_i64(db->o.obs_block, sec->count);
}

static pol_status sweep(work *w)
{
    const pol_database *db = w->db;
    pol_db_block *b = w->b;
    const int64_t inputs = pol_unit_inputs(db->config, b->sec->kind), C = db->config->hidden;
    const bool ordered = db->o.metric;
    if (ordered)
        POL_TRY(pol_order_by_metric(db->ctx, db->o.metric + b->sec->first, b->sec->count, b->order));
    pol_obs_sweep_args a = {.n_units = b->sec->count,
                            .unit = inputs,
                            .C = C,
                            .block = removed_at_a_time(db, b->sec),
                            .damping = db->o.damping,
                            .h = w->walk->h,
                            .w = w->walk->w,
                            .ordered = ordered,
                            .order = b->order,
                            .error = w->error,
                            .loss = w->loss,
                            .n_levels = w->n,
                            .level = w->level,
                            .rows = w->row};
    POL_TRY(pol_obs_sweep(w->host, &a));
    b->condition = a.condition;
    return pol_level_errors(db->ctx, &(pol_level_errors_args){.n_units = b->sec->count,
                                                              .unit = inputs,
                                                              .C = C,
                                                              .n_levels = w->n,
                                                              .h = w->walk->h,
                                                              .w = w->walk->w,
                                                              .order = b->order,
                                                              .level = w->level,
                                                              .rows = w->row,
                                                              .error = w->error});
}

/* Of a block that does nothing nothing is lost. */
static double share(double loss, double whole) { return loss > 0 ? loss / whole : 0; }

/* Levels that are worse than the block's removal go; the others' rows move up. */
static void keep_useful(work *w)
{
    pol_db_block *b = w->b;
    const int64_t count = b->sec->count;
    float *to = w->rows;
    b->n_levels = 0;
    b->level[b->n_levels] = 0;
    b->error[b->n_levels++] = 1;
    for (int64_t i = 0; i < w->n; i++) {
        const int64_t n = w->level[i] * b->unit;
        if (!(w->error[i] <= 1)) {
            pol_log(w->db->ctx, POL_LOG_WARN,
                    "layer %d: repaired rows of %lld of %lld %s lose %.3g times what the block's removal loses: the "
                    "level is left out",
                    b->sec->layer, (long long)w->level[i], (long long)count, pol_unit_kind_name(b->sec->kind),
                    w->error[i]);
            continue;
        }
        memmove(to, w->row[i], (size_t)n * sizeof *to);
        to += n;
        b->level[b->n_levels] = w->level[i];
        b->error[b->n_levels++] = share(w->loss[w->level[i]], w->loss[0]);
    }
    b->level[b->n_levels] = count;
    b->error[b->n_levels++] = 0;
}

static void log_block(const pol_database *db, const pol_db_block *b)
{
    char errors[128];
    size_t at = 0;
    errors[0] = 0;
    for (int64_t quarter = 1, last = 0; quarter < 4; quarter++) {
        const int64_t i = pol_db_level_for(b, (b->sec->count * quarter + 2) / 4);
        if (i != last)
            at += (size_t)snprintf(errors + at, sizeof errors - at, " %lld/%lld: %.4f", (long long)b->level[i],
                                   (long long)b->sec->count, b->error[i]);
        last = i;
    }
    pol_log(db->ctx, POL_LOG_DEBUG, "database layer=%d kind=%s condition=%.2e error%s", b->sec->layer,
            pol_unit_kind_name(b->sec->kind), b->condition, errors);
}

static pol_status compute(work *w, int64_t *level)
{
    pol_context *ctx = w->db->ctx;
    pol_db_block *b = w->b;
    int64_t n, units = 0;
    pol_database_levels(b->sec->count, b->sec->kind, w->db->o.levels, w->db->o.align, level, &n);
    w->level = level + 1;
    w->n = n - 2;
    for (int64_t i = 0; i < w->n; i++)
        units += w->level[i];
    w->rows = pol_alloc_array(ctx, units, (size_t)b->unit * sizeof *w->rows);
    w->row = pol_alloc_array(ctx, n, sizeof *w->row);
    w->error = pol_alloc_array(ctx, pol_max_i64(b->sec->count, n), sizeof *w->error);
    w->loss = pol_alloc_array(ctx, b->sec->count + 1, sizeof *w->loss);
    if (!w->rows || !w->row || !w->error || !w->loss)
        return POL_ENOMEM;
    for (int64_t i = 0, at = 0; i < w->n; at += w->level[i++] * b->unit)
        w->row[i] = w->rows + at;
    POL_TRY(pol_db_block_new(w->db, b, n));
    const pol_status s = sweep(w);
    if (s < 0)
        return pol_fail(ctx, s, "layer %d, %s: %s", b->sec->layer, pol_unit_kind_name(b->sec->kind),
                        pol_error_text(ctx));
    keep_useful(w);
    POL_TRY(pol_db_append(w->db, b, w->rows));
    log_block(w->db, b);
    return POL_OK;
}

static pol_status build_block(pol_database *db, pol_db_block *b, const pol_walk *walk, pol_backend *host)
{
    work w = {.db = db, .b = b, .walk = walk, .host = host};
    int64_t *level = pol_alloc_array(db->ctx, b->sec->count + 1, sizeof *level);
    const pol_status s = level ? compute(&w, level) : POL_ENOMEM;
    if (s < 0)
        pol_db_block_free(db, b);
    pol_free(db->ctx, level);
    pol_free(db->ctx, w.rows);
    pol_free(db->ctx, w.row);
    pol_free(db->ctx, w.error);
    pol_free(db->ctx, w.loss);
    return s;
}

static pol_status build_missing(pol_database *db, pol_walk *walk, pol_backend *host, pol_database_watch watch,
                                void *user)
{
    for (int32_t l = 0; l < db->units->n_layers; l++)
        for (int kind = POL_UNIT_GROUP; kind <= POL_UNIT_CHANNEL; kind++) {
            pol_db_block *b = pol_db_block_of(db, l, (pol_unit_kind)kind);
            const bool missing = !b->there;
            if (pol_database_whole(db))
                return POL_OK;
            POL_TRY(pol_walk_block(walk, l, (pol_unit_kind)kind, missing));
            if (!missing)
                continue;
            POL_TRY(pol_check_stop(db->ctx));
            POL_TRY(build_block(db, b, walk, host));
            if (watch)
                watch(user, db->n_done, db->n_total);
        }
    return POL_OK;
}

pol_status pol_database_build(pol_database *db, pol_forward *f, pol_backend *host, const pol_sequences *cal,
                              pol_database_watch watch, void *user, int64_t *sequences)
{
    pol_walk walk = {0};
    if (sequences)
        *sequences = 0;
    if (pol_database_whole(db))
        return POL_OK;
    POL_TRY(pol_check_tokens(db->ctx, db->config, db->o.granularity, pol_mul_count(cal->n, cal->seq_len)));
    pol_status s = pol_walk_begin(f, cal, db->o.granularity, &walk);
    if (s == POL_OK)
        s = build_missing(db, &walk, host, watch, user);
    pol_walk_end(&walk);
    if (s == POL_OK && sequences)
        *sequences = cal->n;
    return s;
}
