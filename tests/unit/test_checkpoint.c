/* test_checkpoint.c - what is written comes back bit for bit; what is damaged or of another model is refused by name.
 */
#include <float.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "core/base/endian.h"
#include "core/base/file.h"
#include "core/learn/checkpoint.h"
#include "tests/unit/learn_toy.h"

enum {
    UNITS = 7,
    ORDER = 4,
    STATE = 3,
    BYTES_PLAIN = 176 + 4 * (UNITS + ORDER) + 8 * STATE + 8,
    BYTES_BEST = BYTES_PLAIN + 4 * UNITS
};

static const pol_checkpoint_shape SHAPE = {UNITS, ORDER, STATE};

static const char FINGERPRINT[] = "0123456789abcdef0123456789abcdef";

/* Every field another value; floats at the edges of what they may be. */
static void fill(pol_context *ctx, bool best, pol_checkpoint *c)
{
    static const float s[UNITS] = {0.0f, -0.0f, 1e-45f, FLT_MIN, 0.33333334f, 0.99999994f, 1.0f};
    assert_ok(ctx, pol_checkpoint_init(ctx, &SHAPE, c));
    memcpy(c->settings, FINGERPRINT, sizeof c->settings);
    c->step = ((int64_t)1 << 40) + 3;
    c->estimator = (pol_estimator){-1.0 / 3.0, DBL_MIN / 8, c->step};
    memcpy(c->s, s, sizeof s);
    c->has_best = best;
    if (best) {
        c->best_step = 12345;
        c->best_loss = 2.0 / 3.0;
        for (int i = 0; i < UNITS; i++)
            c->best_s[i] = s[UNITS - 1 - i];
    }
    c->stage = 2;
    memcpy(c->state, (double[STATE]){-1e300, -0.0, 1.0 / 3.0}, sizeof(double[STATE]));
    memcpy(c->order, (int32_t[ORDER]){INT32_MIN, -1, 2, INT32_MAX}, sizeof(int32_t[ORDER]));
    for (int i = 0; i < POL_PURPOSES; i++)
        c->sequences[i] = 1000 + i;
    c->seconds = 1e-3;
}

static char *scratch(pol_context *ctx, char dir[32])
{
    strcpy(dir, "/tmp/pollard-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    return pol_path_join(ctx, dir, "checkpoint");
}

static void test_round_trip(void **state)
{
    pol_context *ctx = *state;
    char dir[32], *path = scratch(ctx, dir);
    for (int best = 0; best < 2; best++) {
        pol_checkpoint a, b;
        fill(ctx, best, &a);
        assert_ok(ctx, pol_checkpoint_write(ctx, path, &a)); /* the second over the first */
        assert_ok(ctx, pol_checkpoint_read(ctx, path, &SHAPE, &b));
        assert_string_equal(b.settings, a.settings);
        assert_int_equal(b.stage, a.stage);
        assert_int_equal(b.step, a.step);
        assert_memory_equal(&b.estimator, &a.estimator, sizeof a.estimator);
        assert_memory_equal(b.s, a.s, UNITS * sizeof *a.s);
        assert_int_equal(b.has_best, best);
        assert_int_equal(b.best_step, a.best_step);
        assert_memory_equal(&b.best_loss, &a.best_loss, sizeof a.best_loss);
        assert_memory_equal(b.best_s, a.best_s, UNITS * sizeof *a.best_s);
        assert_memory_equal(b.order, a.order, ORDER * sizeof *a.order);
        assert_memory_equal(b.state, a.state, STATE * sizeof *a.state);
        assert_memory_equal(b.sequences, a.sequences, sizeof a.sequences);
        assert_true(b.seconds == a.seconds);
        struct stat st;
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, best ? BYTES_BEST : BYTES_PLAIN);
        pol_checkpoint_free(&a);
        pol_checkpoint_free(&b);
    }
    assert_ok(ctx, pol_remove_tree(ctx, dir));
    pol_free(ctx, path);
}

static void read_bytes(pol_context *ctx, bool best, pol_bytes *bytes)
{
    char dir[32], *path = scratch(ctx, dir);
    pol_checkpoint c;
    fill(ctx, best, &c);
    assert_ok(ctx, pol_checkpoint_write(ctx, path, &c));
    assert_ok(ctx, pol_file_read(ctx, path, 4096, bytes));
    pol_checkpoint_free(&c);
    assert_ok(ctx, pol_remove_tree(ctx, dir));
    pol_free(ctx, path);
}

/* The layout is a promise to files of older runs: places and byte order, not only that reader and writer agree. */
static void test_layout(void **state)
{
    pol_bytes b;
    read_bytes(*state, true, &b);
    const uint8_t *f = (const uint8_t *)b.data;
    assert_memory_equal(f, "POLCKPT1\2\0\0\0\1\0\0\0", 16);
    assert_memory_equal(f + 16, FINGERPRINT, 32);
    assert_memory_equal(f + 48, "\7\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0", 24); /* n_units, n_order, n_state */
    assert_memory_equal(f + 72, "\2\0\0\0\0\0\0\0\3\0\0\0\0\1\0\0", 16);                 /* stage, step */
    assert_memory_equal(f + 88, "\x55\x55\x55\x55\x55\x55\xd5\xbf", 8);                  /* -1/3 */
    assert_memory_equal(f + 112, "\x39\x30\0\0\0\0\0\0", 8);                             /* best step */
    assert_memory_equal(f + 128, "\xe8\3\0\0\0\0\0\0\xe9\3\0\0\0\0\0\0", 16);            /* sequences */
    assert_memory_equal(f + 176 + 4 * 4, "\xab\xaa\xaa\x3e", 4);                         /* s[4] */
    assert_memory_equal(f + 176 + 4 * UNITS, "\0\0\x80\x3f", 4);                         /* best_s[0] = 1 */
    assert_memory_equal(f + 176 + 8 * UNITS, "\0\0\0\x80\xff\xff\xff\xff\2\0\0\0\xff\xff\xff\x7f", 16);
    assert_memory_equal(f + 176 + 8 * UNITS + 32, "\x55\x55\x55\x55\x55\x55\xd5\x3f", 8); /* state[2] = 1/3 */
    pol_bytes_free(&b);
}

static void test_every_flipped_bit_is_seen(void **state)
{
    pol_context *ctx = *state;
    pol_bytes b;
    pol_checkpoint c;
    read_bytes(ctx, true, &b);
    for (size_t bit = 0; bit < 8 * b.len; bit++) {
        b.data[bit / 8] ^= (char)(1u << bit % 8);
        assert_fails(ctx, pol_checkpoint_parse(ctx, "f", b.data, b.len, &SHAPE, &c), POL_EFORMAT, "f: ");
        assert_null(c.s);
        b.data[bit / 8] ^= (char)(1u << bit % 8);
    }
    for (size_t n = 0; n < b.len; n++) {
        uint8_t *exact = malloc(n ? n : 1);
        memcpy(exact, b.data, n);
        assert_fails(ctx, pol_checkpoint_parse(ctx, "f", exact, n, &SHAPE, &c), POL_EFORMAT, "f: ");
        free(exact);
    }
    assert_ok(ctx, pol_checkpoint_parse(ctx, "f", b.data, b.len, &SHAPE, &c));
    pol_checkpoint_free(&c);
    pol_bytes_free(&b);
}

/* A wrong value under a right checksum. */
static void refuse(pol_context *ctx, size_t offset, const void *value, size_t n, const char *message)
{
    pol_bytes b;
    pol_checkpoint c;
    read_bytes(ctx, true, &b);
    memcpy(b.data + offset, value, n);
    pol_put_u64le((uint8_t *)b.data + b.len - 8, XXH3_64bits(b.data, b.len - 8));
    assert_fails(ctx, pol_checkpoint_parse(ctx, "f", b.data, b.len, &SHAPE, &c), POL_EFORMAT, message);
    assert_null(c.s);
    pol_bytes_free(&b);
}

static void test_every_field_is_checked(void **state)
{
    pol_context *ctx = *state;
    refuse(ctx, 0, "GGUF", 4, "f: magic: not a checkpoint");
    refuse(ctx, 8, "\1", 1, "f: version: 1, this program reads 2");
    refuse(ctx, 12, "\2", 1, "f: best snapshot: flag is 2");
    refuse(ctx, 12, "\0", 1, "bytes do not hold 7 units");
    refuse(ctx, 16, "G", 1, "f: settings: 'G123");
    refuse(ctx, 16, "\0", 1, "f: settings: ''");
    refuse(ctx, 48, "\x08", 1, "f: n_units: 8, this run has 7");
    refuse(ctx, 55, "\xff", 1, "f: n_units: -");
    refuse(ctx, 56, "\x05", 1, "f: n_order: 5, this run has 4");
    refuse(ctx, 64, "\x05", 1, "f: n_state: 5, this run has 3");
    refuse(ctx, 79, "\x80", 1, "f: stage: -");
    refuse(ctx, 87, "\x80", 1, "f: step: -");
    refuse(ctx, 94, "\xf0\x7f", 2, "f: estimator.baseline: nan");
    refuse(ctx, 96, "\0\0\0\0\0\0\xf0\x7f", 8, "f: estimator.deviation: inf");
    refuse(ctx, 103, "\x80", 1, "f: estimator.deviation: -");
    refuse(ctx, 111, "\x80", 1, "f: estimator.steps: -");
    refuse(ctx, 119, "\x80", 1, "f: best.step: -");
    refuse(ctx, 126, "\xf0\x7f", 2, "f: best.loss: nan");
    refuse(ctx, 135, "\x80", 1, "f: sequences.init: -");
    refuse(ctx, 159, "\x80", 1, "f: sequences.eval: -");
    refuse(ctx, 167, "\x80", 1, "f: sequences.repair: -");
    refuse(ctx, 175, "\xbf", 1, "f: seconds: -");
    refuse(ctx, 176, "\1\0\x80\x3f", 4, "f: s: unit 0 has probability 1");
    refuse(ctx, 176 + 24, "\0\0\xc0\x7f", 4, "f: s: unit 6 has probability nan");
    refuse(ctx, 176 + 28, "\0\0\x80\xbf", 4, "f: best.s: unit 0 has probability -1");
    refuse(ctx, 176 + 56 + 16 + 6, "\xf0\x7f", 2, "f: state: nan");
}

/* Sizes of another model, and sizes that no memory could hold, are refused before memory is taken. */
static void test_sizes_are_the_callers(void **state)
{
    pol_context *ctx = *state;
    pol_bytes b;
    pol_checkpoint c;
    read_bytes(ctx, false, &b);
    assert_fails(ctx,
                 pol_checkpoint_parse(ctx, "f", b.data, b.len, &(pol_checkpoint_shape){UNITS + 1, ORDER, STATE}, &c),
                 POL_EFORMAT, "n_units: 7");
    assert_fails(ctx, pol_checkpoint_parse(ctx, "f", b.data, b.len, &(pol_checkpoint_shape){UNITS, 0, STATE}, &c),
                 POL_EFORMAT, "n_order: 4");
    /* 7 + 2^62 units: four bytes each wrap round to the file's true size. */
    b.data[55] = 0x40;
    pol_put_u64le((uint8_t *)b.data + b.len - 8, XXH3_64bits(b.data, b.len - 8));
    const int64_t huge = UNITS + ((int64_t)1 << 62);
    assert_fails(ctx, pol_checkpoint_parse(ctx, "f", b.data, b.len, &(pol_checkpoint_shape){huge, ORDER, STATE}, &c),
                 POL_EFORMAT, "bytes do not hold");
    pol_bytes_free(&b);
}

static void test_writer_refuses_what_the_reader_would(void **state)
{
    pol_context *ctx = *state;
    char dir[32], *path = scratch(ctx, dir);
    pol_checkpoint c, back;
    fill(ctx, true, &c);
    assert_ok(ctx, pol_checkpoint_write(ctx, path, &c));
    c.s[3] = NAN;
    assert_fails(ctx, pol_checkpoint_write(ctx, path, &c), POL_EARG, "checkpoint: s: unit 3 has probability nan");
    c.s[3] = 0.5f;
    c.settings[4] = 0;
    assert_fails(ctx, pol_checkpoint_write(ctx, path, &c), POL_EARG, "settings: '0123' is not a fingerprint");
    memcpy(c.settings, FINGERPRINT, sizeof c.settings);
    assert_fails(ctx, pol_checkpoint_write(ctx, "/nowhere/at/all", &c), POL_EIO, "/nowhere/at/all: cannot be written");
    /* The checkpoint before is still whole. */
    assert_ok(ctx, pol_checkpoint_read(ctx, path, &SHAPE, &back));
    assert_true(back.s[3] == FLT_MIN);
    pol_checkpoint_free(&back);
    pol_checkpoint_free(&c);
    assert_ok(ctx, pol_remove_tree(ctx, dir));
    assert_fails(ctx, pol_checkpoint_read(ctx, path, &SHAPE, &back), POL_EIO, "cannot be opened");
    assert_null(back.s);
    pol_free(ctx, path);
}

static void test_other_settings_are_refused(void **state)
{
    pol_context *ctx = *state;
    pol_checkpoint c;
    fill(ctx, false, &c);
    assert_ok(ctx, pol_checkpoint_check_settings(ctx, "RUN/checkpoint", &c, FINGERPRINT));
    assert_fails(ctx, pol_checkpoint_check_settings(ctx, "RUN/c", &c, "0123456789abcdef0123456789abcdee"), POL_EARG,
                 "RUN/c: settings: the checkpoint was made with settings 0123456789abcdef0123456789abcdef, "
                 "this run has 0123456789abcdef0123456789abcdee");
    pol_checkpoint_free(&c);
    pol_checkpoint_free(&c); /* a zeroed one */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, toy_setup, toy_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip),
        TEST(test_layout),
        TEST(test_every_flipped_bit_is_seen),
        TEST(test_every_field_is_checked),
        TEST(test_sizes_are_the_callers),
        TEST(test_writer_refuses_what_the_reader_would),
        TEST(test_other_settings_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
