/* database.c - a database in memory: what is known of each block, and what is asked of it. */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "core/repair/database_state.h"

pol_status pol_db_block_new(pol_database *db, pol_db_block *b, int64_t n_levels)
{
    b->order = pol_alloc_array(db->ctx, b->sec->count, sizeof *b->order);
    b->level = pol_alloc_array(db->ctx, n_levels, sizeof *b->level);
    b->error = pol_alloc_array(db->ctx, n_levels, sizeof *b->error);
    b->n_levels = n_levels;
    return b->order && b->level && b->error ? POL_OK : POL_ENOMEM;
}

void pol_db_block_free(pol_database *db, pol_db_block *b)
{
    pol_free(db->ctx, b->order);
    pol_free(db->ctx, b->level);
    pol_free(db->ctx, b->error);
    b->order = NULL;
    b->level = NULL;
    b->error = NULL;
}

/* Of a block that is not covered: nothing is known of its units, and nothing between all and none. */
static pol_status fill_uncovered(pol_database *db, pol_db_block *b)
{
    const int64_t count = b->sec->count;
    POL_TRY(pol_db_block_new(db, b, count ? 2 : 1));
    for (int64_t i = 0; i < count; i++)
        b->order[i] = (int32_t)i;
    for (int64_t i = 0; i < b->n_levels; i++) {
        b->level[i] = i * count;
        b->error[i] = i ? 0 : 1;
    }
    b->there = true;
    return POL_OK;
}

static pol_status fill(pol_database *db)
{
    const int64_t n = 2 * (int64_t)db->units->n_layers;
    db->block = pol_alloc_zero(db->ctx, (size_t)n * sizeof *db->block);
    if (!db->block)
        return POL_ENOMEM;
    for (int64_t i = 0; i < n; i++) {
        pol_db_block *b = &db->block[i];
        b->sec = &db->units->sections[i];
        b->unit = pol_unit_inputs(db->config, b->sec->kind) * db->config->hidden;
        b->covered = db->o.granularity & 1u << b->sec->kind && b->sec->count;
        db->n_total += b->covered;
        if (!b->covered)
            POL_TRY(fill_uncovered(db, b));
    }
    return POL_OK;
}

static pol_status check(pol_context *ctx, const pol_database_settings *o)
{
    const struct {
        const char *name;
        int64_t value, most;
    } ranges[] = {{"levels", o->levels, 1 << 20},
                  {"alignment", o->align, 1 << 20},
                  {"channels removed at a time", o->obs_block == POL_AUTO ? 1 : o->obs_block, 1 << 20}};
    for (size_t i = 0; i < POL_COUNT(ranges); i++)
        if (ranges[i].value < 1 || ranges[i].value > ranges[i].most)
            return pol_fail(ctx, POL_EARG, "database: %s: %lld is outside 1..%lld", ranges[i].name,
                            (long long)ranges[i].value, (long long)ranges[i].most);
    if (!(o->damping > 0 && o->damping <= 10))
        return pol_fail(ctx, POL_EARG, "database: damping: %g is outside (0, 10]", o->damping);
    if (strspn(o->identity, "0123456789abcdef") != sizeof o->identity - 1)
        return pol_fail(ctx, POL_EARG, "database: identity: not 32 hex digits");
    return POL_OK;
}

pol_status pol_db_new(pol_context *ctx, const char *path, const pol_database_settings *o, const pol_units *u,
                      const pol_config *c, pol_database **out)
{
    *out = NULL;
    POL_TRY(check(ctx, o));
    pol_database *db = pol_alloc_zero(ctx, sizeof *db);
    if (!db)
        return POL_ENOMEM;
    *db = (pol_database){.ctx = ctx, .file = -1, .units = u, .config = c, .o = *o};
    pol_status s = (db->path = pol_strdup(ctx, path)) ? fill(db) : POL_ENOMEM;
    if (s < 0) {
        pol_database_close(db);
        return s;
    }
    *out = db;
    return POL_OK;
}

pol_status pol_database_open(pol_context *ctx, const char *path, const pol_database_settings *o, const pol_model *m,
                             pol_database **out)
{
    POL_TRY(pol_db_new(ctx, path, o, m->units, &m->config, out));
    const pol_status s = pol_db_open_file(*out);
    if (s < 0) {
        pol_database_close(*out);
        *out = NULL;
    }
    return s;
}

void pol_database_close(pol_database *db)
{
    if (!db)
        return;
    for (int64_t i = 0; db->block && i < 2 * (int64_t)db->units->n_layers; i++)
        pol_db_block_free(db, &db->block[i]);
    if (db->file >= 0)
        close(db->file);
    pol_free(db->ctx, db->block);
    pol_free(db->ctx, db->path);
    pol_free(db->ctx, db);
}

pol_db_block *pol_db_next(const pol_database *db)
{
    for (int32_t l = 0; l < db->units->n_layers; l++)
        for (int kind = POL_UNIT_GROUP; kind <= POL_UNIT_CHANNEL; kind++) {
            pol_db_block *b = pol_db_block_of(db, l, (pol_unit_kind)kind);
            if (!b->there)
                return b;
        }
    return NULL;
}

int64_t pol_db_units_before(const pol_db_block *b, int64_t i)
{
    int64_t units = 0;
    for (int64_t j = 0; j < i; j++)
        units += b->level[j];
    return units;
}

int64_t pol_db_level_for(const pol_db_block *b, int64_t length)
{
    int64_t i = 0;
    while (b->level[i] < length)
        i++;
    return i;
}

int64_t pol_database_done(const pol_database *db) { return db->n_done; }

bool pol_database_whole(const pol_database *db) { return db->n_done == db->n_total; }

const int32_t *pol_database_order(const pol_database *db, int32_t layer, pol_unit_kind kind)
{
    return pol_db_block_of(db, layer, kind)->order;
}

void pol_database_full_order(const pol_database *db, int32_t *order)
{
    for (int64_t k = 0; k < 2 * (int64_t)db->units->n_layers; k++) {
        const pol_db_block *b = &db->block[k];
        for (int64_t i = 0; i < b->sec->count; i++)
            order[b->sec->first + i] = (int32_t)b->sec->first + b->order[i];
    }
}

const int64_t *pol_database_level(const pol_database *db, int32_t layer, pol_unit_kind kind, int64_t *n)
{
    const pol_db_block *b = pol_db_block_of(db, layer, kind);
    *n = b->n_levels;
    return b->level;
}

const double *pol_database_error(const pol_database *db, int32_t layer, pol_unit_kind kind)
{
    return pol_db_block_of(db, layer, kind)->error;
}

double pol_database_condition(const pol_database *db, int32_t layer, pol_unit_kind kind)
{
    return pol_db_block_of(db, layer, kind)->condition;
}

pol_status pol_levels_read(pol_database *db, int32_t layer, pol_unit_kind kind, int64_t length, float *dst,
                           int64_t *level)
{
    const pol_db_block *b = pol_db_block_of(db, layer, kind);
    if (length < 0 || length > b->sec->count)
        return pol_fail(db->ctx, POL_EARG, "database: layer %d has %lld of its %lld %s", layer, (long long)length,
                        (long long)b->sec->count, pol_unit_kind_name(kind));
    const int64_t i = pol_db_level_for(b, length);
    *level = b->level[i];
    if (*level == 0 || *level == b->sec->count)
        return POL_OK;
    return pol_db_read_rows(db, b, pol_db_units_before(b, i) * b->unit, dst, length * b->unit);
}
