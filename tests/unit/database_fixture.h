/* database_fixture.h - a small model on the CPU, calibration text, and a database of its blocks in a folder of its own.
 */
#ifndef POL_TEST_DATABASE_FIXTURE_H
#define POL_TEST_DATABASE_FIXTURE_H

#include <math.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/rng.h"
#include "core/model/source.h"
#include "core/repair/database.h"
#include "tests/test.h"

enum { DB_S = 16, DB_SEQUENCES = 24, DB_BATCH = 5, DB_LEVELS = 5 };

typedef struct db_fixture {
    pol_context *ctx;
    pol_source *src;
    pol_backend *be;
    pol_model *model;
    pol_forward *forward;
    const pol_units *units;
    const pol_config *config;
    pol_sequences cal;
    pol_database_settings o;
    char dir[64], path[96];
} db_fixture;

static inline pol_database_settings db_settings(void)
{
    return (pol_database_settings){.levels = DB_LEVELS,
                                   .align = 3,
                                   .obs_block = 1,
                                   .damping = 0.01,
                                   .granularity = POL_HEADS | POL_CHANNELS,
                                   .identity = "0123456789abcdef0123456789abcdef"};
}

static inline void db_open_on(db_fixture *f, pol_context *ctx, pol_backend *be, const char *model,
                              const pol_placement *placement)
{
    memset(f, 0, sizeof *f);
    f->ctx = ctx;
    f->be = be;
    assert_ok(ctx, pol_source_open(ctx, test_file(model), &f->src));
    assert_ok(ctx, pol_model_load(f->src, be, placement, &f->model));
    assert_ok(ctx, pol_forward_new(f->model, DB_BATCH * DB_S, DB_S, &f->forward));
    f->units = pol_model_units(f->model);
    f->config = pol_model_config(f->model);
    f->cal = (pol_sequences){.ctx = ctx, .n = DB_SEQUENCES, .seq_len = DB_S};
    f->cal.ids = pol_alloc_array(ctx, DB_SEQUENCES * DB_S, sizeof *f->cal.ids);
    float u[DB_SEQUENCES * DB_S];
    pol_uniform(4, POL_STREAM_TEST, 0, 0, DB_SEQUENCES * DB_S, u);
    for (int i = 0; i < DB_SEQUENCES * DB_S; i++)
        f->cal.ids[i] = (int32_t)(u[i] * (float)f->config->vocab);
    f->o = db_settings();
    strcpy(f->dir, "/tmp/pollard-database-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/database.bin", f->dir);
}

static inline pol_backend *db_cpu(pol_context *ctx, int64_t width_tile)
{
    pol_backend *be;
    assert_ok(ctx, pol_backend_open(ctx, &(pol_backend_options){.name = "cpu", .threads = 1}, &be));
    be->width_tile = width_tile;
    return be;
}

static inline void db_open(db_fixture *f, const char *model)
{
    pol_context *ctx;
    assert_int_equal(pol_context_new(NULL, &ctx), POL_OK);
    db_open_on(f, ctx, db_cpu(ctx, 4), model, NULL);
}

/* All but context and backend. */
static inline void db_close_model(db_fixture *f)
{
    pol_sequences_free(&f->cal);
    pol_forward_free(f->forward);
    pol_model_free(f->model);
    pol_source_close(f->src);
    assert_int_equal(f->be->bytes_in_use, 0);
    assert_ok(f->ctx, pol_remove_tree(f->ctx, f->dir));
}

static inline void db_close(db_fixture *f)
{
    db_close_model(f);
    pol_backend_close(f->be);
    pol_context_free(f->ctx);
}

/* Opened and, by `host`, completed. */
static inline pol_database *db_build(db_fixture *f, pol_backend *host)
{
    pol_database *db;
    assert_ok(f->ctx, pol_database_open(f->ctx, f->path, &f->o, f->model, &db));
    assert_ok(f->ctx, pol_database_build(db, f->forward, host, &f->cal, NULL, NULL, NULL));
    assert_true(pol_database_whole(db));
    return db;
}

#endif
