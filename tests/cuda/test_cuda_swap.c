/* test_cuda_swap.c - units of many buffers change places at once. Every element tells where it came from. */
#include "tests/cuda/profiles.h"

enum { BUFFERS = 11, STAGING = 1 << 16 };

static int setup(void **state)
{
    switch_on(1, 64 << 20);
    return test_context_open(state);
}

/* A value that every element type holds exactly. */
static float value(int64_t i) { return (float)(i % 251) - 125; }

/* A buffer of n_units units of `unit` elements, from `at` on. */
typedef struct units {
    pol_buf *buf;
    int64_t at, unit, n_units, n_pairs;
    int32_t *holds, *a, *b; /* the unit that should now be at each place; pairs */
} units;

static units new_units(pol_backend *be, pol_dtype dtype, int64_t at, int64_t unit, int64_t n_units)
{
    units u = {.at = at, .unit = unit, .n_units = n_units};
    const int64_t n = u.at + unit * n_units;
    float *x = malloc((size_t)n * sizeof *x);
    u.holds = malloc((size_t)n_units * sizeof *u.holds);
    u.a = malloc((size_t)n_units * sizeof *u.a);
    u.b = malloc((size_t)n_units * sizeof *u.b);
    assert_true(x && u.holds && u.a && u.b);
    for (int64_t i = 0; i < n; i++)
        x[i] = value(i);
    for (int64_t i = 0; i < n_units; i++)
        u.holds[i] = (int32_t)i;
    assert_ok(be->ctx, pol_buf_new_rows(be, dtype, at % unit ? 1 : n / unit, at % unit ? n : unit, &u.buf));
    assert_ok(be->ctx, pol_upload(be, u.buf, 0, x, n));
    free(x);
    return u;
}

static void check_and_free(pol_backend *be, units *u)
{
    const int64_t n = u->buf->n;
    float *x = malloc((size_t)n * sizeof *x);
    assert_non_null(x);
    assert_ok(be->ctx, pol_download(be, u->buf, 0, x, n));
    for (int64_t i = 0; i < n; i++) {
        const int64_t from = i < u->at ? i : u->at + u->holds[(i - u->at) / u->unit] * u->unit + (i - u->at) % u->unit;
        if (x[i] != value(from))
            fail_msg("%lld units of %lld: element %lld: %g, not that of %lld, %g", (long long)u->n_units,
                     (long long)u->unit, (long long)i, (double)x[i], (long long)from, (double)value(from));
    }
    pol_buf_free(be, u->buf);
    free(x);
    free(u->holds);
    free(u->a);
    free(u->b);
}

/* Pairs that step over the units, and what they make of them. */
static pol_swap_args make_pairs(units *u, int32_t turn)
{
    u->n_pairs = 0;
    for (int32_t i = turn % 2; 2 * i + 1 < u->n_units; i += 1 + turn % 3) {
        const int32_t j = (int32_t)u->n_units - 1 - i, held = u->holds[i];
        u->a[u->n_pairs] = turn % 2 ? j : i;
        u->b[u->n_pairs++] = turn % 2 ? i : j;
        u->holds[i] = u->holds[j];
        u->holds[j] = held;
    }
    return (pol_swap_args){
        .w = {u->buf, u->at}, .unit = u->unit, .n_units = u->n_units, .n_pairs = u->n_pairs, .a = u->a, .b = u->b};
}

/* Buffers of every alignment that a unit can have, one of them without pairs. */
static void open_all(pol_backend *be, units all[BUFFERS])
{
    static const struct {
        pol_dtype dtype;
        int64_t at, unit, n_units;
    } of[BUFFERS] = {{POL_BF16, 0, 64, 33},    {POL_BF16, 4, 4, 200}, {POL_BF16, 7, 7, 64}, {POL_F32, 3, 3, 40},
                     {POL_BF16, 0, 1, 300},    {POL_BF16, 6, 2, 1},   {POL_BF16, 0, 2, 90}, {POL_F32, 0, 1000, 8},
                     {POL_BF16, 2600, 520, 9}, {POL_BF16, 3, 16, 40}, {POL_F32, 1, 8, 30}};
    for (int i = 0; i < BUFFERS; i++)
        all[i] = new_units(be, of[i].dtype, of[i].at, of[i].unit, of[i].n_units);
}

static void check_swaps(pol_context *ctx, size_t staging, int rounds)
{
    pol_backend *be = open_small(ctx, staging);
    units all[BUFFERS];
    pol_swap_args args[BUFFERS];
    open_all(be, all);
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < BUFFERS; i++)
            args[i] = make_pairs(&all[i], round);
        assert_ok(ctx, pol_swap_units(be, args, BUFFERS));
        for (int i = 0; i < BUFFERS; i++) /* host arrays are the caller's at once */
            memset(all[i].a, 0xff, (size_t)all[i].n_units * sizeof *all[i].a);
    }
    for (int i = 0; i < BUFFERS; i++)
        check_and_free(be, &all[i]);
    pol_backend_close(be);
    assert_clean();
}

static void units_of_all_buffers_change_places(void **state) { check_swaps(*state, STAGING, 6); }

/* In as many launches as it takes; then the ring goes round many times. */
static void long_lists_go_in_several(void **state)
{
    static const size_t sizes[] = {128, 144, 256, 400, 1024};
    for (size_t i = 0; i < POL_COUNT(sizes); i++)
        check_swaps(*state, sizes[i], 4);
}

/* A mask is one copy and one launch, and nothing waits. */
static void a_mask_is_one_copy_and_one_launch(void **state)
{
    pol_context *ctx = *state;
    pol_backend *be = open_small(ctx, STAGING);
    units all[BUFFERS];
    pol_swap_args args[BUFFERS];
    int64_t pairs = 0;
    open_all(be, all);
    assert_ok(ctx, pol_sync(be));
    sim_count_anew();
    for (int i = 0; i < BUFFERS; i++) {
        args[i] = make_pairs(&all[i], 0);
        pairs += args[i].n_pairs;
    }
    assert_ok(ctx, pol_swap_units(be, args, BUFFERS));
    assert_int_equal(sim_calls("cudaMemcpyAsync"), 1);
    assert_int_equal(sim_counted().launches, 1);
    assert_int_equal(sim_counted().waits, 0);
    assert_ok(ctx, pol_sync(be));
    const int64_t bytes = sim_counted().bytes_to_device;
    assert_true(bytes >= pairs * 8 && bytes <= pairs * 8 + BUFFERS * (int64_t)sizeof(cu_swap));
    for (int i = 0; i < BUFFERS; i++)
        check_and_free(be, &all[i]);
    pol_backend_close(be);
    assert_clean();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units_of_all_buffers_change_places),
        cmocka_unit_test(long_lists_go_in_several),
        cmocka_unit_test(a_mask_is_one_copy_and_one_launch),
    };
    return cmocka_run_group_tests(tests, setup, test_context_close);
}
