/* test_nested.c - what counts of units stand for in a run: masks, probabilities, and the rows that a model gets for the
 * stage in which single units change places. */
#include "core/run/stage.h"
#include "tests/unit/database_fixture.h"

/* A job with no more than a nested order needs, and a database. */
typedef struct nested_fixture {
    db_fixture db;
    pol_replica replica;
    pol_job job;
} nested_fixture;

static void open_nested(nested_fixture *f, const char *model)
{
    memset(f, 0, sizeof *f);
    db_open(&f->db, model);
    pol_job *r = &f->job;
    pol_context *ctx = f->db.ctx;
    f->replica = (pol_replica){f->db.model, f->db.forward};
    r->ctx = ctx;
    r->in.src = f->db.src;
    r->in.units = (pol_units *)f->db.units;
    r->replicas = (pol_replicas){.ctx = ctx, .of = &f->replica, .n = 1};
    pol_prune_defaults(POL_METHOD_ALLOCATION, &r->o);
    r->o.allocation.spread_channels = 0.1;
    pol_nested *n = &r->nested;
    assert_ok(ctx, pol_database_open(ctx, f->db.path, &f->db.o, f->db.model, &n->db));
    assert_ok(ctx, pol_database_build(n->db, f->db.forward, f->db.be, &f->db.cal, NULL, NULL, NULL));
    const int64_t counts = pol_nested_counts(r);
    n->order = pol_alloc_array(ctx, pol_model_order_size(f->db.model), sizeof *n->order);
    n->level = pol_alloc_zero(ctx, (size_t)counts * sizeof *n->level);
    n->n_levels = pol_alloc_zero(ctx, (size_t)counts * sizeof *n->n_levels);
    pol_database_full_order(n->db, n->order);
    for (int64_t i = 0; i < counts; i++) {
        const pol_section *sec = pol_nested_section(r, i);
        n->level[i] = pol_database_level(n->db, sec->layer, sec->kind, &n->n_levels[i]);
    }
    const pol_checkpoint_shape shape = pol_job_checkpoint_shape(r);
    assert_ok(ctx, pol_checkpoint_init(ctx, &shape, &r->ck));
}

static void close_nested(nested_fixture *f)
{
    pol_nested_close(&f->job);
    pol_checkpoint_free(&f->job.ck);
    db_close(&f->db);
}

/* Block i keeps 0, 1, all but one, all, or a number between levels. */
static double count_of(const pol_section *sec, int64_t i)
{
    const int64_t counts[] = {0, 1, sec->count - 1, sec->count, sec->count / 2, sec->count / 2 + 1};
    return (double)pol_max_i64(0, counts[i % 6]);
}

static const char *const models[] = {"models/llama-gqa-tied", "models/llama-linear-bias", "models/trained"};

/* ---- masks and probabilities ---- */

static void test_masks(void **state)
{
    (void)state;
    for (size_t k = 0; k < POL_COUNT(models); k++) {
        nested_fixture f;
        open_nested(&f, models[k]);
        const pol_units *u = f.db.units;
        double *count = pol_job_state_of(&f.job).count;
        uint8_t *mask = malloc((size_t)u->n);
        float *s = malloc((size_t)u->n * sizeof *s);
        for (int64_t i = 0; i < pol_nested_counts(&f.job); i++)
            count[i] = count_of(pol_nested_section(&f.job, i), i);
        pol_nested_mask(&f.job, count, mask);
        pol_nested_probabilities(&f.job, count, s);
        for (int64_t i = 0; i < pol_nested_counts(&f.job); i++) {
            const pol_section *sec = pol_nested_section(&f.job, i);
            const int32_t *order = pol_database_order(f.job.nested.db, sec->layer, sec->kind);
            for (int64_t rank = 0; rank < sec->count; rank++) {
                const int64_t unit = sec->first + order[rank];
                assert_int_equal(mask[unit], rank < (int64_t)count[i]);
                assert_int_equal(s[unit] > 0.5f, mask[unit]); /* so the hard mask of them is the mask */
                assert_true(rank == 0 || s[unit] <= s[sec->first + order[rank - 1]]);
            }
        }
        for (int64_t i = 0; i < u->n_sections; i++)
            if (u->sections[i].kind > POL_UNIT_CHANNEL) {
                assert_int_equal(mask[u->sections[i].first], 1);
                assert_true(s[u->sections[i].first] == 1.0f);
            }
        free(mask);
        free(s);
        close_nested(&f);
    }
}

/* ---- rows ---- */

static float *download(nested_fixture *f, int64_t i)
{
    const pol_section *sec = pol_nested_section(&f->job, i);
    const int64_t n = sec->count * pol_unit_inputs(f->db.config, sec->kind) * f->db.config->hidden;
    pol_layer_weights w;
    float *rows = malloc((size_t)n * sizeof *rows);
    assert_ok(f->db.ctx, pol_model_layer(f->db.model, sec->layer, &w));
    assert_ok(f->db.ctx, pol_download(f->db.be, sec->kind == POL_UNIT_GROUP ? w.w_o : w.w_down, 0, rows, n));
    return rows;
}

/* Every unit of the next larger level has its row of that level, the others their own. */
static void check_rows(nested_fixture *f, int64_t i, const float *original, const float *now)
{
    const pol_section *sec = pol_nested_section(&f->job, i);
    const int64_t unit = pol_unit_inputs(f->db.config, sec->kind) * f->db.config->hidden;
    const int64_t count = (int64_t)pol_job_state_of(&f->job).count[i], *level = f->job.nested.level[i];
    while (*level <= count && *level < sec->count)
        level++;
    const int64_t repaired = count && *level < sec->count ? *level : 0;
    float *rows = malloc((size_t)(sec->count * unit) * sizeof *rows);
    int64_t got;
    if (repaired)
        assert_ok(f->db.ctx, pol_levels_read(f->job.nested.db, sec->layer, sec->kind, repaired, rows, &got));
    assert_memory_equal(now, rows, (size_t)(repaired * unit) * sizeof *rows);
    const int32_t *order = f->job.nested.order + sec->first;
    for (int64_t p = repaired; p < sec->count; p++)
        assert_memory_equal(now + p * unit, original + (order[p] - sec->first) * unit, (size_t)unit * sizeof *rows);
    free(rows);
}

static void test_larger_level(void **state)
{
    (void)state;
    for (size_t k = 0; k < POL_COUNT(models); k++) {
        nested_fixture f;
        open_nested(&f, models[k]);
        const int64_t counts = pol_nested_counts(&f.job);
        float **original = malloc((size_t)counts * sizeof *original);
        for (int shift = 0; shift < 6; shift++) {
            for (int64_t i = 0; i < counts; i++) {
                original[i] = download(&f, i);
                pol_job_state_of(&f.job).count[i] = count_of(pol_nested_section(&f.job, i), i + shift);
            }
            assert_ok(f.db.ctx, pol_nested_put_larger(&f.job));
            for (int64_t i = 0; i < counts; i++) {
                float *now = download(&f, i);
                check_rows(&f, i, original[i], now);
                free(now);
                free(original[i]);
            }
            assert_ok(f.db.ctx, pol_model_reload_last(f.db.model, f.db.src));
        }
        free(original);
        close_nested(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_masks), cmocka_unit_test(test_larger_level)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
