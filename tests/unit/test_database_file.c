/* test_database_file.c - the file of a database: gone on with after any cut, begun anew for another model, never half
 * written; and what building refuses. */
#include <signal.h>
#include <sys/resource.h>

#include "tests/ration.h"
#include "tests/unit/database_fixture.h"

static const char MODEL[] = "models/llama-gqa-tied";
enum { BLOCKS = 6 };

static pol_bytes read_file(db_fixture *f)
{
    pol_bytes b;
    assert_ok(f->ctx, pol_file_read(f->ctx, f->path, 1 << 26, &b));
    return b;
}

static void write_file(db_fixture *f, const void *src, size_t n)
{
    assert_ok(f->ctx, pol_file_write(f->ctx, f->path, src, n));
}

/* Where each block of a file ends, [0]: the header. */
typedef struct marks {
    int64_t end[BLOCKS + 1], n;
} marks;

static int64_t size_of(const char *path)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    const int64_t n = ftell(f);
    fclose(f);
    return n;
}

typedef struct watcher {
    db_fixture *f;
    marks m;
    int64_t stop_at; /* blocks; < 0: never */
} watcher;

static void mark(void *user, int64_t done, int64_t total)
{
    watcher *w = user;
    assert_int_equal(total, BLOCKS);
    w->m.end[done] = size_of(w->f->path);
    w->m.n++;
    if (done == w->stop_at)
        pol_context_stop(w->f->ctx);
}

/* The whole file, and its marks. */
static pol_bytes build_whole(db_fixture *f, marks *m)
{
    pol_database *db;
    watcher w = {.f = f, .stop_at = -1};
    assert_ok(f->ctx, pol_database_open(f->ctx, f->path, &f->o, f->model, &db));
    w.m.end[0] = size_of(f->path);
    assert_ok(f->ctx, pol_database_build(db, f->forward, f->be, &f->cal, mark, &w, NULL));
    pol_database_close(db);
    assert_int_equal(w.m.n, BLOCKS);
    if (m)
        *m = w.m;
    return read_file(f);
}

/* Opened as it is there: so many blocks are missing; then completed. */
static void go_on(db_fixture *f, int64_t missing, const pol_bytes *want)
{
    pol_database *db;
    watcher w = {.f = f, .stop_at = -1};
    int64_t sequences;
    assert_ok(f->ctx, pol_database_open(f->ctx, f->path, &f->o, f->model, &db));
    assert_true(pol_database_whole(db) == (missing == 0));
    assert_ok(f->ctx, pol_database_build(db, f->forward, f->be, &f->cal, mark, &w, &sequences));
    assert_int_equal(w.m.n, missing);
    assert_int_equal(sequences, missing ? DB_SEQUENCES : 0);
    pol_database_close(db);
    pol_bytes got = read_file(f);
    assert_int_equal(got.len, want->len);
    assert_memory_equal(got.data, want->data, want->len);
    pol_bytes_free(&got);
}

/* Cut anywhere, in a block or between two, it is gone on with behind the last whole block and is the same file in the
 * end; what came after it, too. */
static void test_cut_anywhere(void **state)
{
    (void)state;
    db_fixture f;
    marks m;
    db_open(&f, MODEL);
    pol_bytes whole = build_whole(&f, &m);
    assert_int_equal(m.end[BLOCKS], whole.len);
    assert_true(whole.len <= pol_database_file_bytes(f.config, DB_LEVELS, f.o.align, f.o.granularity) &&
                whole.len * 10 >= 9 * pol_database_file_bytes(f.config, DB_LEVELS, f.o.align, f.o.granularity));
    go_on(&f, 0, &whole);
    for (int64_t block = 0; block < BLOCKS; block++) {
        const int64_t begin = m.end[block], size = m.end[block + 1] - begin;
        const int64_t cuts[] = {0, 1, 31, 33, size / 3, size - 9, size - 1};
        for (size_t i = 0; i < POL_COUNT(cuts); i++) {
            write_file(&f, whole.data, (size_t)(begin + cuts[i]));
            go_on(&f, BLOCKS - block, &whole);
        }
    }
    for (int64_t n = 0; n <= m.end[0]; n += 12) { /* of the header */
        write_file(&f, whole.data, (size_t)n);
        go_on(&f, BLOCKS, &whole);
    }
    assert_ok(f.ctx, pol_bytes_add(&whole, "more", 4));
    write_file(&f, whole.data, whole.len);
    whole.len -= 4;
    go_on(&f, 0, &whole);
    pol_bytes_free(&whole);
    db_close(&f);
}

/* A bit that has changed costs its block and those behind it, wherever it is. */
static void test_damage(void **state)
{
    (void)state;
    db_fixture f;
    marks m;
    db_open(&f, MODEL);
    pol_bytes whole = build_whole(&f, &m);
    for (int64_t at = 8; at < (int64_t)whole.len; at += at < m.end[1] - 5000 ? 397 : 4999) {
        int64_t block = -1;
        while (block < BLOCKS && at >= m.end[block + 1])
            block++;
        pol_bytes bad = {.ctx = f.ctx};
        assert_ok(f.ctx, pol_bytes_add(&bad, whole.data, whole.len));
        bad.data[at] ^= 0x10;
        write_file(&f, bad.data, bad.len);
        go_on(&f, block < 0 ? BLOCKS : BLOCKS - block, &whole);
        pol_bytes_free(&bad);
    }
    pol_bytes_free(&whole);
    db_close(&f);
}

/* Another identity, granularity or version begins anew; a file that is none of ours is left alone. */
static void test_of_another_run(void **state)
{
    (void)state;
    db_fixture f;
    pol_database *db;
    db_open(&f, MODEL);
    pol_bytes whole = build_whole(&f, NULL);
    f.o.identity[3] ^= 1;
    assert_ok(f.ctx, pol_database_open(f.ctx, f.path, &f.o, f.model, &db));
    assert_false(pol_database_whole(db));
    pol_database_close(db);
    assert_int_equal(size_of(f.path), 72);
    pol_bytes other = build_whole(&f, NULL);
    assert_int_equal(other.len, whole.len);
    assert_memory_not_equal(other.data, whole.data, whole.len);
    pol_bytes_free(&other);
    f.o.identity[3] ^= 1;
    go_on(&f, BLOCKS, &whole);
    f.o.granularity = POL_HEADS; /* whose first block would be the same */
    assert_ok(f.ctx, pol_database_open(f.ctx, f.path, &f.o, f.model, &db));
    assert_false(pol_database_whole(db));
    pol_database_close(db);
    assert_int_equal(size_of(f.path), 72);
    f.o = db_settings();
    write_file(&f, "My notes.", 9);
    assert_fails(f.ctx, pol_database_open(f.ctx, f.path, &f.o, f.model, &db), POL_EFORMAT, "does not begin with");
    assert_null(db);
    assert_int_equal(size_of(f.path), 9);
    pol_bytes_free(&whole);
    db_close(&f);
}

/* Stopped after any block it goes on; a stop in the middle of one leaves nothing of it. */
static void test_stopping(void **state)
{
    (void)state;
    db_fixture f;
    marks m;
    db_open(&f, MODEL);
    pol_bytes whole = build_whole(&f, &m);
    for (int64_t at = 1; at < BLOCKS; at++) {
        pol_database *db;
        watcher w = {.f = &f, .stop_at = at};
        write_file(&f, "", 0);
        assert_ok(f.ctx, pol_database_open(f.ctx, f.path, &f.o, f.model, &db));
        assert_int_equal(pol_database_build(db, f.forward, f.be, &f.cal, mark, &w, NULL), POL_EINTERRUPTED);
        pol_levels *levels;
        assert_fails(f.ctx, pol_levels_new(db, f.be, true, &levels), POL_EARG, "of its 6 blocks");
        pol_context_resume(f.ctx);
        assert_int_equal(size_of(f.path), m.end[at]);
        if (at % 2) { /* in the same process, too */
            assert_ok(f.ctx, pol_database_build(db, f.forward, f.be, &f.cal, NULL, NULL, NULL));
            pol_database_close(db);
            go_on(&f, 0, &whole);
        } else {
            pol_database_close(db);
            go_on(&f, BLOCKS - at, &whole);
        }
    }
    pol_bytes_free(&whole);
    db_close(&f);
}

/* A disk that is full in the middle of a block: nothing of it is left, and with room it goes on. */
static void test_full_disk(void **state)
{
    (void)state;
    db_fixture f;
    marks m;
    struct rlimit before, little;
    db_open(&f, MODEL);
    pol_bytes whole = build_whole(&f, &m);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    for (int64_t block = -1; block < BLOCKS; block++) {
        const int64_t least = block < 0 ? 0 : m.end[block];
        pol_database *db;
        write_file(&f, "", 0);
        little = before;
        little.rlim_cur = (rlim_t)(block < 0 ? 30 : (m.end[block] + m.end[block + 1]) / 2);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
        pol_status s = pol_database_open(f.ctx, f.path, &f.o, f.model, &db);
        if (s == POL_OK)
            s = pol_database_build(db, f.forward, f.be, &f.cal, NULL, NULL, NULL);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(s, POL_EIO);
        assert_non_null(strstr(pol_error_text(f.ctx), "database.bin: cannot be written"));
        assert_int_equal(size_of(f.path), least);
        pol_database_close(db);
        go_on(&f, block < 0 ? BLOCKS : BLOCKS - block, &whole);
    }
    signal(SIGXFSZ, SIG_DFL);
    pol_bytes_free(&whole);
    db_close(&f);
}

/* ---- blocks that are of no use ---- */

static const pol_ops *below;

/* Rows of one level that are as wrong as numbers can be. */
static pol_status spoiled_sweep(pol_backend *be, pol_obs_sweep_args *a)
{
    POL_TRY(below->obs_sweep(be, a));
    if (a->unit == 1 && a->n_levels > 2)
        for (int64_t i = 0; i < a->level[1] * a->C; i++)
            a->rows[1][i] = 10 * a->rows[1][i] + 3;
    return POL_OK;
}

typedef struct heard {
    int warnings;
    char last[512];
} heard;

static void listen(void *user, pol_log_level level, const char *line)
{
    heard *h = user;
    h->warnings += level == POL_LOG_WARN;
    snprintf(h->last, sizeof h->last, "%s", line);
}

/* A level that loses more than its block's removal is left out and told of; the others keep their rows. */
static void test_a_level_that_is_worse_than_none(void **state)
{
    (void)state;
    db_fixture f;
    db_open(&f, MODEL);
    pol_database *plain = db_build(&f, f.be);
    int64_t n, want_n;
    heard h = {0};
    char whole[100];
    pol_ops ops = *f.be->ops;
    below = f.be->ops;
    ops.obs_sweep = spoiled_sweep;
    f.be->ops = &ops;
    pol_context_log(f.ctx, listen, &h, POL_LOG_WARN);
    strcpy(whole, f.path);
    strcat(f.path, "2");
    pol_database *db = db_build(&f, f.be);
    assert_int_equal(h.warnings, 1 + 3); /* few tokens; each MLP */
    assert_non_null(strstr(h.last, "repaired rows of 15 of 40 channels lose"));
    for (int reopened = 0; reopened < 2; reopened++) {
        for (int32_t l = 0; l < 3; l++) {
            const int64_t *want = pol_database_level(plain, l, POL_UNIT_CHANNEL, &want_n);
            const int64_t *level = pol_database_level(db, l, POL_UNIT_CHANNEL, &n);
            assert_int_equal(n, want_n - 1);
            assert_true(level[1] == want[1] && level[2] == want[3] && level[3] == want[4]);
            for (int64_t i = 1; i < n; i++)
                assert_true(pol_database_error(db, l, POL_UNIT_CHANNEL)[i] ==
                            pol_database_error(plain, l, POL_UNIT_CHANNEL)[i + (i > 1)]);
            for (int64_t length = 1; length < 40; length++) {
                float got[40 * 24], rows[40 * 24];
                int64_t here, there;
                assert_ok(f.ctx, pol_levels_read(db, l, POL_UNIT_CHANNEL, length, got, &here));
                assert_ok(f.ctx, pol_levels_read(plain, l, POL_UNIT_CHANNEL, length, rows, &there));
                if (there == want[2])
                    assert_int_equal(here, want[3]);
                else
                    assert_int_equal(here, there);
                if (here == there && here < 40)
                    assert_memory_equal(got, rows, (size_t)(length * 24) * sizeof *got);
            }
        }
        pol_database_close(db);
        assert_ok(f.ctx, pol_database_open(f.ctx, f.path, &f.o, f.model, &db));
        assert_true(pol_database_whole(db));
    }
    pol_database_close(db);
    pol_database_close(plain);
    f.be->ops = below;
    db_close(&f);
}

/* A block that nothing enters has an order and rows like any other: its own. */
static void test_a_block_that_nothing_enters(void **state)
{
    (void)state;
    db_fixture f;
    db_open(&f, MODEL);
    int64_t n;
    float *zeros = calloc(40 * 48, sizeof *zeros);
    float w[40 * 24], rows[40 * 24];
    assert_ok(f.ctx, pol_model_put(f.model, 1, POL_W_GATE_UP, 0, 40, zeros));
    assert_ok(f.ctx, pol_download(f.be, f.model->layers[1].w_down, 0, w, 40 * 24));
    pol_database *db = db_build(&f, f.be);
    const int64_t *level = pol_database_level(db, 1, POL_UNIT_CHANNEL, &n);
    const int32_t *order = pol_database_order(db, 1, POL_UNIT_CHANNEL);
    assert_true(n > 3 && level[1] > 0);
    assert_ok(f.ctx, pol_levels_read(db, 1, POL_UNIT_CHANNEL, level[1], rows, &n));
    for (int64_t i = 0; i < level[1] * 24; i++)
        assert_near(rows[i], w[order[i / 24] * 24 + i % 24], 1e-6);
    pol_database_close(db);
    free(zeros);
    db_close(&f);
}

/* Numbers that are none end it, and the sentence names the block. */
static void test_lost_numbers(void **state)
{
    (void)state;
    db_fixture f;
    pol_database *db;
    db_open(&f, MODEL);
    float nan[24];
    for (int i = 0; i < 24; i++)
        nan[i] = NAN;
    assert_ok(f.ctx, pol_model_put(f.model, 1, POL_W_DOWN, 3, 1, nan));
    assert_ok(f.ctx, pol_database_open(f.ctx, f.path, &f.o, f.model, &db));
    assert_fails(f.ctx, pol_database_build(db, f.forward, f.be, &f.cal, NULL, NULL, NULL), POL_ENUMERIC,
                 "layer 1, channels: obs_sweep: row 3");
    pol_database_close(db);
    db_close(&f);
}

/* Fewer than four tokens a column are refused before any work, fewer than ten warned of once. */
static void test_tokens(void **state)
{
    (void)state;
    db_fixture f;
    db_open(&f, MODEL); /* 40 channels, 48 columns of attention */
    static const struct {
        int64_t n;
        pol_status want;
        int warnings;
    } cases[] = {{11, POL_ELIMIT, 0}, {12, POL_OK, 1}, {24, POL_OK, 1}, {30, POL_OK, 0}};
    pol_sequences cal = {.ctx = f.ctx, .seq_len = DB_S, .ids = calloc(30 * DB_S, sizeof(int32_t))};
    for (int i = 0; i < 30 * DB_S; i++)
        cal.ids[i] = f.cal.ids[i % (DB_SEQUENCES * DB_S)];
    for (size_t i = 0; i < POL_COUNT(cases); i++) {
        pol_database *db;
        heard h = {0};
        pol_context_log(f.ctx, listen, &h, POL_LOG_WARN);
        write_file(&f, "", 0);
        cal.n = cases[i].n;
        assert_ok(f.ctx, pol_database_open(f.ctx, f.path, &f.o, f.model, &db));
        assert_int_equal(pol_database_build(db, f.forward, f.be, &cal, NULL, NULL, NULL), cases[i].want);
        assert_int_equal(h.warnings, cases[i].warnings);
        if (cases[i].want == POL_ELIMIT)
            assert_non_null(strstr(pol_error_text(f.ctx), "176 tokens for least squares over 48 columns"));
        pol_database_close(db);
    }
    free(cal.ids);
    db_close(&f);
}

static void test_refusals(void **state)
{
    (void)state;
    db_fixture f;
    pol_database *db;
    float rows[8];
    int64_t level;
    db_open(&f, MODEL);
#define REFUSED(change, part)                                                                      \
    do {                                                                                           \
        f.o = db_settings();                                                                       \
        change;                                                                                    \
        assert_fails(f.ctx, pol_database_open(f.ctx, f.path, &f.o, f.model, &db), POL_EARG, part); \
        assert_null(db);                                                                           \
    } while (0)
    REFUSED(f.o.levels = 0, "levels: 0 is outside 1");
    REFUSED(f.o.align = 0, "alignment: 0");
    REFUSED(f.o.obs_block = 0, "channels removed at a time: 0");
    REFUSED(f.o.damping = NAN, "damping: nan");
    REFUSED(f.o.damping = 0, "damping: 0");
    REFUSED(f.o.identity[5] = 'x', "identity");
    f.o = db_settings();
    f.o.obs_block = POL_AUTO;
    db = db_build(&f, f.be);
    assert_fails(f.ctx, pol_levels_read(db, 0, POL_UNIT_CHANNEL, 41, rows, &level), POL_EARG, "has 41 of its 40");
    assert_fails(f.ctx, pol_levels_read(db, 0, POL_UNIT_CHANNEL, -1, rows, &level), POL_EARG, "has -1 of its 40");
    pol_database_close(db);
    snprintf(f.path, sizeof f.path, "%s/absent/database.bin", f.dir);
    assert_fails(f.ctx, pol_database_open(f.ctx, f.path, &f.o, f.model, &db), POL_EIO, "cannot be opened");
    db_close(&f);
}

/* Wherever memory runs out the call says so, and what is in the file stays good. */
static void test_memory_failures(void **state)
{
    (void)state;
    int64_t left = INT64_MAX;
    const pol_allocator rationed = ration(&left);
    pol_context *ctx;
    db_fixture f;
    assert_int_equal(pol_context_new(&rationed, &ctx), POL_OK);
    db_open_on(&f, ctx, db_cpu(ctx, 4), MODEL, NULL);
    pol_bytes whole = build_whole(&f, NULL);
    int failures = 0;
    write_file(&f, "", 0);
    bool done = false;
    for (int64_t ration = 0; !done; ration++) { /* a round goes on where the last one ended */
        pol_database *db;
        pol_levels *levels = NULL;
        left = ration;
        pol_status s = pol_database_open(f.ctx, f.path, &f.o, f.model, &db);
        if (s == POL_OK)
            s = pol_database_build(db, f.forward, f.be, &f.cal, NULL, NULL, NULL);
        if (s == POL_OK)
            s = pol_levels_new(db, f.be, ration % 2, &levels);
        left = INT64_MAX;
        done = s == POL_OK;
        failures += !done;
        assert_true(s == POL_OK || s == POL_ENOMEM);
        pol_levels_free(levels);
        pol_database_close(db);
    }
    assert_true(failures > 30);
    go_on(&f, 0, &whole);
    pol_bytes_free(&whole);
    db_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_anywhere),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_of_another_run),
        cmocka_unit_test(test_stopping),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_a_level_that_is_worse_than_none),
        cmocka_unit_test(test_a_block_that_nothing_enters),
        cmocka_unit_test(test_lost_numbers),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_memory_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
