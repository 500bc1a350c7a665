/* swap_units through the seam: many buffers of units of every size in one launch, byte for byte. */
#include "tests/cuda/seam.h"

/* A buffer of n_units units of `bytes`, `off` bytes off alignment, of which n_pairs pairs change places. */
typedef struct shape {
    int64_t bytes, n_units, n_pairs;
    size_t off;
} shape;

typedef struct buffer {
    seam_operand units, pairs;
    unsigned char *want;
} buffer;

/* The widest words that the unit and its place allow, as the backend chooses them. */
static int32_t word_of(const shape *c)
{
    int32_t word = 16;
    while (c->bytes % word || c->off % (size_t)word)
        word /= 2;
    return word;
}

static void exchange(unsigned char *u, unsigned char *v, int64_t bytes)
{
    for (int64_t i = 0; i < bytes; i++) {
        const unsigned char kept = u[i];
        u[i] = v[i];
        v[i] = kept;
    }
}

/* Unit 3 i mod n (n no multiple of 3) with the next of that row: no two alike, near and far, either one first. */
static buffer make(const shape *c, uint32_t key)
{
    const size_t all = (size_t)(c->bytes * c->n_units), n = (size_t)c->n_pairs;
    buffer b = {.want = malloc(all + 4)};
    int32_t *pairs = malloc(2 * n * sizeof *pairs);
    float *u = malloc(all + 4);
    assert_true(b.want && pairs && u && c->n_units % 3 && 2 * c->n_pairs <= c->n_units);
    pol_uniform(1, POL_STREAM_TEST, 0, key, (int64_t)all / 4 + 1, u);
    memcpy(b.want, u, all);
    b.units = seam_put(b.want, all, c->off);
    for (int64_t i = 0; i < 2 * c->n_pairs; i++)
        pairs[i] = (int32_t)(3 * i % c->n_units);
    b.pairs = seam_put(pairs, 2 * n * sizeof *pairs, 4);
    for (int64_t i = 0; i < c->n_pairs; i++)
        exchange(b.want + pairs[2 * i] * c->bytes, b.want + pairs[2 * i + 1] * c->bytes, c->bytes);
    free(u);
    free(pairs);
    return b;
}

static void check(cudaStream_t stream, const shape *shapes, size_t n)
{
    buffer *buffers = malloc(n * sizeof *buffers);
    cu_swap *list = malloc(n * sizeof *list);
    assert_true(buffers && list);
    cu_swaps a = {.n = (int64_t)n};
    for (size_t i = 0; i < n; i++) {
        const shape *c = &shapes[i];
        buffers[i] = make(c, (uint32_t)i);
        list[i] = (cu_swap){.base = seam_at(&buffers[i].units),
                            .pairs = seam_at(&buffers[i].pairs),
                            .bytes = c->bytes,
                            .n_pairs = c->n_pairs,
                            .vector = word_of(c)};
        a.n_pairs += c->n_pairs;
        a.longest = c->bytes / word_of(c) > a.longest ? c->bytes / word_of(c) : a.longest;
    }
    seam_operand swaps = seam_put(list, n * sizeof *list, 0);
    a.swaps = seam_at(&swaps);
    assert_cuda(pol_cu_swap_units(stream, &a));
    assert_cuda(cudaStreamSynchronize(stream));
    seam_take(&swaps, NULL);
    for (size_t i = 0; i < n; i++) {
        unsigned char *got = malloc(buffers[i].units.bytes);
        seam_take(&buffers[i].units, got);
        seam_take(&buffers[i].pairs, NULL);
        for (size_t at = 0; at < buffers[i].units.bytes; at++)
            if (got[at] != buffers[i].want[at])
                fail_msg("buffer %zu of %zu, units of %lld bytes: byte %zu of unit %zu is wrong", i, n,
                         (long long)shapes[i].bytes, at % (size_t)shapes[i].bytes, at / (size_t)shapes[i].bytes);
        free(got);
        free(buffers[i].want);
    }
    free(list);
    free(buffers);
}

static const shape mixed[] = {
    {.bytes = 2, .n_units = 2, .n_pairs = 1},
    {.bytes = 8, .n_units = 100, .n_pairs = 50}, /* a channel's two biases */
    {.bytes = 6, .n_units = 7, .n_pairs = 2},
    {.bytes = 4, .n_units = 10, .n_pairs = 3},
    {.bytes = 12, .n_units = 11, .n_pairs = 5},
    {.bytes = 16, .n_units = 11, .n_pairs = 5},
    {.bytes = 24, .n_units = 11, .n_pairs = 5},
    {.bytes = 34, .n_units = 11, .n_pairs = 4},
    {.bytes = 160, .n_units = 16, .n_pairs = 8},
    {.bytes = 160, .n_units = 16, .n_pairs = 8, .off = 8},
    {.bytes = 160, .n_units = 16, .n_pairs = 8, .off = 4},
    {.bytes = 160, .n_units = 16, .n_pairs = 8, .off = 2},
    {.bytes = 16384, .n_units = 5, .n_pairs = 2},      /* one chunk exactly */
    {.bytes = 16384 + 16, .n_units = 5, .n_pairs = 2}, /* and a word */
    {.bytes = 50000, .n_units = 5, .n_pairs = 1},
    {.bytes = 100 * 1000 + 2, .n_units = 2, .n_pairs = 1},
};
enum { MIXED = sizeof mixed / sizeof *mixed };

static void test_each(void **state)
{
    for (size_t i = 0; i < MIXED; i++) {
        sim_seed(i + 1);
        check(*state, &mixed[i], 1);
    }
}

/* More buffers than a warp has lanes, in more than one order. */
static void test_all_together(void **state)
{
    shape many[5 * MIXED];
    for (size_t i = 0; i < 5 * MIXED; i++)
        many[i] = mixed[(i * 7 + i / MIXED) % MIXED];
    const size_t lengths[] = {2, 31, 33, 5 * MIXED};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        sim_seed(i + 1);
        check(*state, many, lengths[i]);
    }
}

/* More chunks than blocks. */
static void test_many_pairs(void **state)
{
    const shape c[] = {{.bytes = 2, .n_units = 2200, .n_pairs = 1100}, {.bytes = 4, .n_units = 2000, .n_pairs = 999}};
    check(*state, c, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each),
        cmocka_unit_test(test_all_together),
        cmocka_unit_test(test_many_pairs),
    };
    return cmocka_run_group_tests(tests, seam_open, seam_close);
}
