/* test_database.c - levels, orders and rows of repaired blocks: against the op on activations that are looked at
 * directly, in the forward pass, on the device and off it. */
#include "core/forward_state.h"
#include "core/repair/walk.h"
#include "tests/unit/database_fixture.h"

static const char *const models[] = {"models/llama-gqa-tied", "models/llama-linear-bias", "models/trained"};

/* ---- which levels ---- */

static void check_levels(int64_t count, pol_unit_kind kind, int64_t levels, int64_t align, const char *want)
{
    int64_t level[64], n;
    char got[256] = "";
    pol_database_levels(count, kind, levels, align, level, &n);
    for (int64_t i = 0; i < n; i++)
        sprintf(got + strlen(got), "%lld ", (long long)level[i]);
    assert_string_equal(got, want);
}

static void test_levels(void **state)
{
    (void)state;
    check_levels(4, POL_UNIT_GROUP, 2, 8, "0 1 2 3 4 ");
    check_levels(1, POL_UNIT_GROUP, 2, 8, "0 1 ");
    check_levels(0, POL_UNIT_GROUP, 2, 8, "0 ");
    check_levels(0, POL_UNIT_CHANNEL, 4, 1, "0 ");
    check_levels(40, POL_UNIT_CHANNEL, 4, 1, "0 10 20 30 40 ");
    check_levels(40, POL_UNIT_CHANNEL, 4, 8, "0 8 24 32 40 "); /* 10, 20, 30: to the nearest, halves up */
    check_levels(41, POL_UNIT_CHANNEL, 4, 8, "0 8 24 32 41 ");
    check_levels(43, POL_UNIT_CHANNEL, 3, 16, "0 16 32 43 ");
    check_levels(5, POL_UNIT_CHANNEL, 16, 1, "0 1 2 3 4 5 ");
    check_levels(5, POL_UNIT_CHANNEL, 16, 8, "0 5 ");
    check_levels(40, POL_UNIT_CHANNEL, 1, 1, "0 40 ");
}

/* ---- orders and rows ---- */

/* What obs_sweep makes of a block, by activations that are downloaded one batch after the other. */
typedef struct direct {
    int64_t n, unit, C;
    int32_t *order;
    double *error, *h;
    float *w, *rows[64];
    double condition;
} direct;

/* Moments of what enters the block's last matrix; the stream goes on behind it. */
static void look(db_fixture *f, float *x, int32_t layer, pol_unit_kind kind, direct *d)
{
    const int64_t N = d->n * d->unit, C = d->C, width = kind == POL_UNIT_GROUP ? N : pol_padded(f->be, N);
    float *mid = malloc((size_t)(DB_S * width) * sizeof *mid);
    for (int64_t i = 0; i < DB_SEQUENCES; i++) {
        assert_ok(f->ctx, pol_forward_put(f->forward, x + i * DB_S * C, 1, DB_S));
        assert_ok(f->ctx, kind == POL_UNIT_GROUP ? pol_forward_attention(f->forward, layer, NULL)
                                                 : pol_forward_mlp(f->forward, layer, NULL));
        assert_ok(f->ctx, pol_download(f->be, f->forward->mid, 0, mid, DB_S * width));
        assert_ok(f->ctx, pol_forward_get(f->forward, x + i * DB_S * C));
        for (int64_t t = 0; t < DB_S; t++)
            for (int64_t a = 0; a < N; a++)
                for (int64_t b = 0; b < N; b++)
                    d->h[a * N + b] += (double)mid[t * width + a] * mid[t * width + b] / (DB_SEQUENCES * DB_S);
    }
    free(mid);
}

static void sweep(db_fixture *f, float *x, int32_t layer, pol_unit_kind kind, const int32_t *order,
                  const int64_t *level, int64_t n_levels, direct *d)
{
    const pol_section *sec = pol_units_section(f->units, kind, layer);
    const int64_t C = f->config->hidden, unit = pol_unit_inputs(f->config, kind), N = sec->count * unit;
    *d = (direct){.n = sec->count, .unit = unit, .C = C};
    d->order = malloc((size_t)d->n * sizeof *d->order);
    d->error = malloc((size_t)d->n * sizeof *d->error);
    d->h = calloc((size_t)(N * N), sizeof *d->h);
    d->w = malloc((size_t)(N * C) * sizeof *d->w);
    for (int64_t l = 0; l < n_levels; l++)
        d->rows[l] = malloc((size_t)(level[l] * unit * C) * sizeof(float));
    look(f, x, layer, kind, d);
    const pol_layer_weights *w = &f->model->layers[layer];
    assert_ok(f->ctx, pol_download(f->be, kind == POL_UNIT_GROUP ? w->w_o : w->w_down, 0, d->w, N * C));
    if (order)
        memcpy(d->order, order, (size_t)d->n * sizeof *order);
    pol_obs_sweep_args a = {.n_units = d->n,
                            .unit = unit,
                            .C = C,
                            .block = 1,
                            .damping = 0.01,
                            .h = d->h,
                            .w = d->w,
                            .ordered = order != NULL,
                            .order = d->order,
                            .error = d->error,
                            .n_levels = n_levels,
                            .level = level,
                            .rows = d->rows};
    assert_ok(f->ctx, pol_obs_sweep(f->be, &a));
    d->condition = a.condition;
}

static void direct_free(direct *d)
{
    free(d->order);
    free(d->error);
    free(d->h);
    free(d->w);
    for (size_t i = 0; i < POL_COUNT(d->rows); i++)
        free(d->rows[i]);
}

/* tr((W - R)^T A (W - R)) over tr(W^T A W), A the damped moments, R the first `level` units of the order. */
static double loss_of(const direct *d, const float *rows, int64_t level)
{
    const int64_t N = d->n * d->unit, C = d->C;
    double of[2] = {0}, mean = 0, *left = malloc((size_t)(N * C) * sizeof *left);
    for (int64_t i = 0; i < N; i++)
        mean += d->h[i * N + i] / (double)N;
    for (int what = 0; what < 2; what++) {
        for (int64_t i = 0; i < N * C; i++)
            left[i] = d->w[i];
        for (int64_t i = 0; what && i < level * d->unit * C; i++)
            left[(d->order[i / (d->unit * C)] * d->unit * C) + i % (d->unit * C)] -= rows[i];
        for (int64_t a = 0; a < N; a++)
            for (int64_t b = 0; b < N; b++)
                for (int64_t c = 0; c < C; c++)
                    of[what] += left[a * C + c] * (d->h[a * N + b] + (a == b) * 0.01 * mean) * left[b * C + c];
    }
    free(left);
    return of[1] / of[0];
}

static void assert_rows(const float *got, const float *want, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        assert_near(got[i], want[i], 1e-4 * (1 + fabs(want[i])));
}

/* Rows of `length` units: those of the level that has as many, from the file and on the device. */
static void check_length(db_fixture *f, pol_database *db, pol_levels *const levels[2], const direct *d, int32_t layer,
                         pol_unit_kind kind, int64_t length, int64_t level, int64_t index)
{
    const int64_t unit = d->unit * d->C, k = (int64_t)kind * f->units->n_layers + layer;
    float *rows = malloc((size_t)(d->n * unit) * sizeof *rows), *there = malloc((size_t)(d->n * unit) * sizeof *rows);
    int64_t got, lengths[16] = {0};
    pol_buf *of[16];
    assert_ok(f->ctx, pol_levels_read(db, layer, kind, length, rows, &got));
    assert_int_equal(got, level);
    lengths[k] = length;
    for (int resident = 0; resident < 2; resident++) {
        assert_ok(f->ctx, pol_levels_rows(levels[resident], lengths, of));
        for (int64_t i = 0; i < 2 * (int64_t)f->units->n_layers; i++)
            assert_true(!of[i] == (i != k || level == 0 || level == d->n));
        if (!of[k])
            continue;
        assert_ok(f->ctx, pol_download(f->be, of[k], 0, there, level * unit));
        assert_memory_equal(there, rows, (size_t)(length * unit) * sizeof *rows);
        assert_rows(there, d->rows[index], level * unit);
    }
    free(rows);
    free(there);
}

static void check_block(db_fixture *f, pol_database *db, pol_levels *const levels[2], float *x, int32_t layer,
                        pol_unit_kind kind, bool by_metric)
{
    int64_t n, want_n, want[64];
    const int64_t *level = pol_database_level(db, layer, kind, &n),
                  count = pol_units_section(f->units, kind, layer)->count;
    const int32_t *order = pol_database_order(db, layer, kind);
    const double *error = pol_database_error(db, layer, kind);
    direct d;
    pol_database_levels(count, kind, DB_LEVELS, f->o.align, want, &want_n);
    assert_int_equal(n, want_n);
    assert_memory_equal(level, want, (size_t)n * sizeof *want);
    sweep(f, x, layer, kind, by_metric ? order : NULL, level + 1, n - 2, &d);
    assert_memory_equal(order, d.order, (size_t)count * sizeof *order);
    assert_near(pol_database_condition(db, layer, kind) / d.condition, 1, 1e-3);
    assert_true(error[0] == 1 && error[n - 1] == 0);
    for (int64_t i = 1; i < n - 1; i++) {
        assert_near(error[i], loss_of(&d, d.rows[i - 1], level[i]), 1e-5 * error[i]);
        assert_true(error[i] < error[i - 1]);
    }
    for (int64_t i = 1, length = 0; length <= count; length++) {
        i += length > level[i];
        check_length(f, db, levels, &d, layer, kind, length, length ? level[i] : 0, i - 1);
    }
    direct_free(&d);
}

/* Embeddings of the calibration text, one sequence after the other; yours. */
static float *embeddings(db_fixture *f)
{
    const int64_t C = f->config->hidden;
    float *x = malloc((size_t)(DB_SEQUENCES * DB_S * C) * sizeof *x);
    assert_ok(f->ctx, pol_model_set_mask(f->model, NULL));
    for (int64_t i = 0; i < DB_SEQUENCES; i++) {
        assert_ok(f->ctx, pol_forward_begin(f->forward, f->cal.ids + i * DB_S, 1, DB_S));
        assert_ok(f->ctx, pol_forward_get(f->forward, x + i * DB_S * C));
    }
    return x;
}

/* The moments of a walk are means over tokens, whichever blocks it looks at. */
static void test_walk(void **state)
{
    (void)state;
    for (size_t i = 0; i < POL_COUNT(models); i++) {
        db_fixture f;
        pol_walk w;
        db_open(&f, models[i]);
        const uint64_t before = f.be->bytes_in_use;
        assert_ok(f.ctx, pol_walk_begin(f.forward, &f.cal, POL_HEADS | POL_CHANNELS, &w));
        float *x = embeddings(&f);
        for (int32_t l = 0; l < f.units->n_layers; l++)
            for (int kind = POL_UNIT_GROUP; kind <= POL_UNIT_CHANNEL; kind++) {
                const int64_t N = pol_block_inputs(f.config, l, (pol_unit_kind)kind);
                const bool looks = (l + kind) % 3;
                direct d;
                assert_ok(f.ctx, pol_walk_block(&w, l, (pol_unit_kind)kind, looks));
                sweep(&f, x, l, (pol_unit_kind)kind, NULL, NULL, 0, &d);
                for (int64_t k = 0; looks && k < N * N; k++)
                    assert_near(w.h[k], d.h[k], 1e-5 * sqrt(d.h[k / N * (N + 1)] * d.h[k % N * (N + 1)]) + 1e-12);
                if (looks)
                    assert_memory_equal(w.w, d.w, (size_t)(N * d.C) * sizeof *d.w);
                direct_free(&d);
            }
        pol_walk_end(&w);
        assert_int_equal(f.be->bytes_in_use, before);
        free(x);
        db_close(&f);
    }
}

/* All blocks of a database that was built. */
static void check_database(db_fixture *f, bool by_metric)
{
    pol_levels *levels[2];
    pol_database *db = db_build(f, f->be);
    int64_t bytes = 0;
    for (int resident = 0; resident < 2; resident++) {
        const uint64_t before = f->be->bytes_in_use;
        assert_ok(f->ctx, pol_levels_new(db, f->be, resident, &levels[resident]));
        bytes = (int64_t)(f->be->bytes_in_use - before);
        assert_int_equal(
            bytes, resident ? pol_database_bytes(f->config, f->be, DB_LEVELS, f->o.align, f->o.granularity)
                            : pol_database_least_bytes(f->config, f->be, DB_LEVELS, f->o.align, f->o.granularity));
    }
    float *x = embeddings(f);
    for (int32_t l = 0; l < f->units->n_layers; l++)
        for (int kind = POL_UNIT_GROUP; kind <= POL_UNIT_CHANNEL; kind++)
            check_block(f, db, levels, x, l, (pol_unit_kind)kind, by_metric);
    for (int resident = 0; resident < 2; resident++)
        pol_levels_free(levels[resident]);
    pol_database_close(db);
    free(x);
}

static void test_blocks_are_those_of_the_op(void **state)
{
    (void)state;
    for (size_t i = 0; i < POL_COUNT(models); i++) {
        db_fixture f;
        db_open(&f, models[i]);
        check_database(&f, false);
        db_close(&f);
    }
}

/* By a metric: falling, ties to the smaller number; the rows are then those of that order. */
static void test_orders_by_metric(void **state)
{
    (void)state;
    for (size_t i = 0; i < POL_COUNT(models); i++) {
        db_fixture f;
        db_open(&f, models[i]);
        float *metric = calloc((size_t)f.units->n, sizeof *metric);
        for (int64_t u = 0; u < f.units->n; u++)
            metric[u] = (float)((u * 7) % 5);
        f.o.metric = metric;
        check_database(&f, true);
        pol_database *db = db_build(&f, f.be);
        for (int32_t l = 0; l < f.units->n_layers; l++)
            for (int kind = POL_UNIT_GROUP; kind <= POL_UNIT_CHANNEL; kind++) {
                const pol_section *sec = pol_units_section(f.units, (pol_unit_kind)kind, l);
                const int32_t *order = pol_database_order(db, l, (pol_unit_kind)kind);
                for (int64_t k = 1; k < sec->count; k++) {
                    const float a = metric[sec->first + order[k - 1]], b = metric[sec->first + order[k]];
                    assert_true(a > b || (a == b && order[k - 1] < order[k]));
                }
            }
        pol_database_close(db);
        free(metric);
        db_close(&f);
    }
}

/* ---- what it is for ---- */

/* The model in the database's order with level rows loses less than without them, at every level; between levels the
 * same rows serve. */
static void test_rows_mend_the_model(void **state)
{
    (void)state;
    db_fixture f;
    pol_levels *levels;
    db_open(&f, "models/trained");
    f.cal.n = DB_SEQUENCES;
    pol_database *db = db_build(&f, f.be);
    int32_t *order = malloc((size_t)pol_model_order_size(f.model) * sizeof *order);
    int64_t length[16];
    pol_buf *rows[16];
    double dense[DB_BATCH], bare[DB_BATCH], mended[DB_BATCH];
    assert_ok(f.ctx, pol_levels_new(db, f.be, true, &levels));
    pol_database_full_order(db, order);
    assert_ok(f.ctx, pol_model_set_order(f.model, order));
    assert_ok(f.ctx, pol_forward_nll(f.forward, f.cal.ids, DB_BATCH, DB_S, NULL, dense));
    int better = 0, all = 0;
    for (int cut = 1; cut <= 5; cut++) {
        for (int64_t k = 0; k < 2 * (int64_t)f.units->n_layers; k++)
            length[k] = f.units->sections[k].count * (10 - cut) / 10;
        assert_ok(f.ctx, pol_levels_rows(levels, length, rows));
        assert_ok(f.ctx, pol_model_set_lengths(f.model, length, NULL));
        assert_ok(f.ctx, pol_forward_nll(f.forward, f.cal.ids, DB_BATCH, DB_S, NULL, bare));
        assert_ok(f.ctx, pol_model_set_lengths(f.model, length, rows));
        assert_ok(f.ctx, pol_forward_nll(f.forward, f.cal.ids, DB_BATCH, DB_S, NULL, mended));
        for (int b = 0; b < DB_BATCH; b++, all++)
            better += fabs(mended[b] - dense[b]) < fabs(bare[b] - dense[b]);
    }
    assert_true(better >= all * 9 / 10);
    pol_levels_free(levels);
    pol_database_close(db);
    free(order);
    db_close(&f);
}

static pol_bytes file_of(db_fixture *f)
{
    pol_bytes b;
    pol_database_close(db_build(f, f->be));
    assert_ok(f->ctx, pol_file_read(f->ctx, f->path, 1 << 26, &b));
    return b;
}

/* The same bytes wherever the weights are, and in whatever order they lay before. */
static void test_the_file_is_the_model_s_alone(void **state)
{
    (void)state;
    for (size_t i = 0; i < POL_COUNT(models); i++) {
        db_fixture f, other;
        pol_context *ctx;
        db_open(&f, models[i]);
        assert_int_equal(pol_context_new(NULL, &ctx), POL_OK);
        db_open_on(&other, ctx, db_cpu(ctx, 4), models[i], &(pol_placement){true, 2});
        uint8_t *mask = malloc((size_t)other.units->n);
        for (int64_t u = 0; u < other.units->n; u++)
            mask[u] = u % 3 != 1;
        assert_ok(ctx, pol_model_set_mask(other.model, mask));
        pol_bytes want = file_of(&f), got = file_of(&other);
        assert_int_equal(got.len, want.len);
        assert_memory_equal(got.data, want.data, want.len);
        pol_bytes_free(&want);
        pol_bytes_free(&got);
        free(mask);
        db_close(&f);
        db_close(&other);
    }
}

/* Of kinds that are not covered nothing is known but that they are there. */
static void test_granularity(void **state)
{
    (void)state;
    static const unsigned some[] = {POL_HEADS, POL_CHANNELS, POL_BLOCKS};
    for (size_t i = 0; i < POL_COUNT(some); i++) {
        db_fixture f;
        pol_levels *levels;
        int64_t n, sequences, length[16];
        pol_buf *rows[16];
        pol_database *db;
        db_open(&f, "models/llama-gqa-tied");
        f.o.granularity = some[i];
        assert_ok(f.ctx, pol_database_open(f.ctx, f.path, &f.o, f.model, &db));
        assert_true(pol_database_whole(db) == (some[i] == POL_BLOCKS));
        assert_ok(f.ctx, pol_database_build(db, f.forward, f.be, &f.cal, NULL, NULL, &sequences));
        assert_int_equal(sequences, some[i] == POL_BLOCKS ? 0 : DB_SEQUENCES);
        assert_ok(f.ctx, pol_levels_new(db, f.be, true, &levels));
        for (int64_t k = 0; k < 2 * (int64_t)f.units->n_layers; k++) {
            const pol_section *sec = &f.units->sections[k];
            const int64_t *level = pol_database_level(db, sec->layer, sec->kind, &n);
            const bool covered = some[i] & 1u << sec->kind;
            length[k] = sec->count - 1;
            assert_true(level[0] == 0 && level[n - 1] == sec->count && (n > 2) == (covered && sec->count > 1));
            for (int64_t j = 0; j < sec->count && !covered; j++)
                assert_int_equal(pol_database_order(db, sec->layer, sec->kind)[j], j);
        }
        assert_ok(f.ctx, pol_levels_rows(levels, length, rows));
        for (int64_t k = 0; k < 2 * (int64_t)f.units->n_layers; k++)
            if (!(some[i] & 1u << f.units->sections[k].kind))
                assert_null(rows[k]);
        pol_levels_free(levels);
        pol_database_close(db);
        db_close(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_walk),
        cmocka_unit_test(test_blocks_are_those_of_the_op),
        cmocka_unit_test(test_orders_by_metric),
        cmocka_unit_test(test_rows_mend_the_model),
        cmocka_unit_test(test_granularity),
        cmocka_unit_test(test_the_file_is_the_model_s_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
