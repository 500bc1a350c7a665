/* database_on_device.h - the database of a small model with statistics of a device, beside the CPU's: the same orders,
 * nearly the same rows, and what the device makes of them in its forward pass. */
#ifndef POL_TEST_DATABASE_ON_DEVICE_H
#define POL_TEST_DATABASE_ON_DEVICE_H

#include "tests/unit/database_fixture.h"

enum { DB_MOST_BLOCKS = 16 };

/* An order of its own, so that no rounding decides which unit goes first. */
static inline float *db_metric(const pol_units *u)
{
    float *metric = calloc((size_t)u->n, sizeof *metric);
    for (int64_t i = 0; i < u->n; i++)
        metric[i] = (float)((i * 7) % 5);
    return metric;
}

static inline void db_compare_rows(db_fixture *f, pol_database *db, db_fixture *cpu, pol_database *on_cpu, int64_t k,
                                   double tolerance)
{
    const pol_section *sec = &f->units->sections[k];
    const int64_t unit = pol_unit_inputs(f->config, sec->kind) * f->config->hidden;
    int64_t n, level;
    const int64_t *levels = pol_database_level(db, sec->layer, sec->kind, &n);
    const double *error = pol_database_error(db, sec->layer, sec->kind);
    const double *want_error = pol_database_error(on_cpu, sec->layer, sec->kind);
    float *got = malloc((size_t)(sec->count * unit) * sizeof *got);
    float *want = malloc((size_t)(sec->count * unit) * sizeof *want);
    assert_memory_equal(pol_database_order(db, sec->layer, sec->kind),
                        pol_database_order(on_cpu, sec->layer, sec->kind), (size_t)sec->count * sizeof(int32_t));
    for (int64_t i = 0; i < n; i++)
        assert_near(error[i], want_error[i], tolerance * want_error[i]);
    for (int64_t i = 1; i < n - 1; i++) {
        double largest = 0;
        assert_ok(f->ctx, pol_levels_read(db, sec->layer, sec->kind, levels[i], got, &level));
        assert_ok(cpu->ctx, pol_levels_read(on_cpu, sec->layer, sec->kind, levels[i], want, &level));
        for (int64_t j = 0; j < level * unit; j++)
            largest = fmax(largest, fabs(want[j]));
        for (int64_t j = 0; j < level * unit; j++)
            assert_near(got[j], want[j], tolerance * largest);
    }
    free(got);
    free(want);
}

static inline void db_losses(db_fixture *f, double loss[DB_BATCH])
{
    assert_ok(f->ctx, pol_forward_nll(f->forward, f->cal.ids, DB_BATCH, DB_S, NULL, loss));
}

/* Lengths are masks, level rows replace the model's own, once more when the pass is replayed, whether all levels are
 * there or one at a time; put in for good they are the same. `loss`: of the rows. */
static inline void db_use(db_fixture *f, pol_database *db, double loss[DB_BATCH])
{
    int64_t length[DB_MOST_BLOCKS], level;
    double by_mask[DB_BATCH], by_length[DB_BATCH], again[DB_BATCH];
    pol_buf *rows[DB_MOST_BLOCKS];
    int32_t *order = malloc((size_t)pol_model_order_size(f->model) * sizeof *order);
    uint8_t *mask = malloc((size_t)f->units->n);
    const int64_t blocks = 2 * (int64_t)f->units->n_layers;
    pol_database_full_order(db, order);
    memset(mask, 1, (size_t)f->units->n);
    for (int64_t k = 0; k < blocks; k++) {
        const pol_section *sec = &f->units->sections[k];
        length[k] = sec->count * (k % 2 ? 4 : 7) / 8;
        for (int64_t i = length[k]; i < sec->count; i++)
            mask[order[sec->first + i]] = 0;
    }
    assert_ok(f->ctx, pol_model_set_order(f->model, order));
    assert_ok(f->ctx, pol_model_set_mask(f->model, mask));
    db_losses(f, by_mask);
    assert_ok(f->ctx, pol_model_set_order(f->model, order));
    assert_ok(f->ctx, pol_model_set_lengths(f->model, length, NULL));
    db_losses(f, by_length);
    assert_memory_equal(by_length, by_mask, sizeof by_mask);
    for (int resident = 0; resident < 2; resident++) {
        pol_levels *levels;
        assert_ok(f->ctx, pol_levels_new(db, f->be, resident, &levels));
        assert_ok(f->ctx, pol_levels_rows(levels, length, rows));
        assert_ok(f->ctx, pol_model_set_lengths(f->model, length, rows));
        db_losses(f, resident ? again : loss);
        for (int round = 0; round < 3; round++) {
            db_losses(f, again);
            assert_memory_equal(again, loss, sizeof again);
        }
        assert_ok(f->ctx, pol_model_set_lengths(f->model, length, NULL));
        db_losses(f, again);
        assert_memory_equal(again, by_mask, sizeof again);
        pol_levels_free(levels);
    }
    assert_true(fabs(loss[0] - by_mask[0]) > 1e-3);
    for (int64_t k = 0; k < blocks; k++) {
        const pol_section *sec = &f->units->sections[k];
        const int64_t unit = pol_unit_inputs(f->config, sec->kind) * f->config->hidden;
        float *values = malloc((size_t)(sec->count * unit) * sizeof *values);
        assert_ok(f->ctx, pol_levels_read(db, sec->layer, sec->kind, length[k], values, &level));
        if (level > 0 && level < sec->count)
            assert_ok(f->ctx, pol_model_put(f->model, sec->layer, sec->kind == POL_UNIT_GROUP ? POL_W_O : POL_W_DOWN, 0,
                                            length[k], values));
        free(values);
    }
    db_losses(f, again);
    assert_memory_equal(again, loss, sizeof again);
    free(order);
    free(mask);
}

/* Takes the backend over. Rows and losses are near the CPU's by `tolerance`, of the largest row and relative. */
static inline void check_database_on(pol_context *ctx, pol_backend *be, const char *model, double tolerance)
{
    db_fixture f, cpu;
    double loss[DB_BATCH], want[DB_BATCH];
    db_open_on(&f, ctx, be, model, NULL);
    db_open_on(&cpu, ctx, db_cpu(ctx, 1), model, NULL);
    float *metric = db_metric(f.units);
    f.o.metric = cpu.o.metric = metric;
    pol_database *db = db_build(&f, cpu.be), *on_cpu = db_build(&cpu, cpu.be);
    assert_true(2 * f.units->n_layers <= DB_MOST_BLOCKS);
    for (int64_t k = 0; k < 2 * (int64_t)f.units->n_layers; k++)
        db_compare_rows(&f, db, &cpu, on_cpu, k, tolerance);
    if (pol_can_repair(be)) { /* where it sweeps as well, that gives the same */
        pol_database_close(db);
        assert_ok(ctx, pol_file_write(ctx, f.path, "", 0));
        db = db_build(&f, be);
        for (int64_t k = 0; k < 2 * (int64_t)f.units->n_layers; k++)
            db_compare_rows(&f, db, &cpu, on_cpu, k, tolerance);
    }
    db_use(&f, db, loss);
    db_use(&cpu, on_cpu, want);
    for (int b = 0; b < DB_BATCH; b++)
        assert_near(loss[b] / want[b], 1, tolerance);
    pol_database_close(db);
    pol_database_close(on_cpu);
    free(metric);
    pol_backend *const host = cpu.be;
    db_close_model(&f);
    db_close_model(&cpu);
    pol_backend_close(host);
    pol_backend_close(be);
}

#endif
