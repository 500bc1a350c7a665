/* test_opencl_swap.c - units of a buffer that lies in pieces change places, and the ring that their offsets go through
 * may be full. Every element tells where it came from. */
#include <string.h>

#include "tests/opencl/profiles.h"

enum { RING_PAIRS = 1 << 16 }; /* as in swap.c */

typedef struct fixture {
    pol_context *ctx;
    pol_backend *be;
    pol_buf *buf;
    int64_t rows, row, at, unit, n_units; /* `at` in elements */
    int32_t *holds;                       /* unit that should now be at each place */
} fixture;

/* A value that every element type holds exactly. */
static float value(int64_t i) { return (float)(i % 251) - 125; }

static void open_units(fixture *f, pol_dtype dtype, int64_t rows, int64_t row, int64_t at, int64_t unit)
{
    *f = (fixture){.ctx = f->ctx, .be = f->be, .rows = rows, .row = row, .at = at, .unit = unit};
    f->n_units = (rows * row - at) / unit;
    float *x = malloc((size_t)(rows * row) * sizeof *x);
    f->holds = malloc((size_t)f->n_units * sizeof *f->holds);
    assert_true(x && f->holds);
    for (int64_t i = 0; i < rows * row; i++)
        x[i] = value(i);
    for (int64_t i = 0; i < f->n_units; i++)
        f->holds[i] = (int32_t)i;
    assert_ok(f->ctx, pol_buf_new_rows(f->be, dtype, rows, row, &f->buf));
    assert_ok(f->ctx, pol_upload(f->be, f->buf, 0, x, rows * row));
    free(x);
}

static void swap(fixture *f, int64_t n, const int32_t *a, const int32_t *b)
{
    const pol_swap_args args = {
        .w = {f->buf, f->at}, .unit = f->unit, .n_units = f->n_units, .n_pairs = n, .a = a, .b = b};
    assert_ok(f->ctx, pol_swap_units(f->be, &args, 1));
    for (int64_t i = 0; i < n; i++) {
        const int32_t of_a = f->holds[a[i]];
        f->holds[a[i]] = f->holds[b[i]];
        f->holds[b[i]] = of_a;
    }
}

static void close_units(fixture *f)
{
    float *x = malloc((size_t)(f->rows * f->row) * sizeof *x);
    assert_non_null(x);
    assert_ok(f->ctx, pol_download(f->be, f->buf, 0, x, f->rows * f->row));
    for (int64_t i = 0; i < f->rows * f->row; i++) {
        const int64_t u = (i - f->at) / f->unit;
        const bool moved = i >= f->at && u < f->n_units;
        const int64_t from = moved ? f->at + f->holds[u] * f->unit + (i - f->at) % f->unit : i;
        if (x[i] != value(from))
            fail_msg("element %lld: %g, not that of %lld, %g", (long long)i, (double)x[i], (long long)from,
                     (double)value(from));
    }
    pol_buf_free(f->be, f->buf);
    free(f->holds);
    free(x);
}

/* First with last, second with last but one ... where `step` units lie between one pair and the next. */
static void swap_ends(fixture *f, int32_t step)
{
    int32_t a[512], b[512];
    int64_t n = 0;
    for (int32_t i = 0; 2 * i + 1 < f->n_units && n < 512; i += step, n++) {
        a[n] = i;
        b[n] = (int32_t)f->n_units - 1 - i;
    }
    swap(f, n, a, b);
}

/* Rows of 30 elements, `fit` of them in a piece: pairs inside a piece, and between any two. */
static void check_pieces(pol_context *ctx, int vector, pol_dtype dtype, int64_t fit)
{
    enum { ROWS = 23, ROW = 30 };
    static const int64_t units[] = {30, 15, 10, 1};
    fixture f = {.ctx = ctx};
    const test_profile p = {
        .vector = vector, .group = 1, .piece_bytes = (uint64_t)(fit * ROW) * pol_dtype_size(dtype), .weights = dtype};
    f.be = open_profile(ctx, &p);
    if (!f.be)
        skip();
    for (size_t i = 0; i < POL_COUNT(units); i++) {
        open_units(&f, dtype, ROWS, ROW, 2 * ROW, units[i]);
        assert_int_equal(((ocl_buf *)f.buf)->n_pieces, (ROWS + fit - 1) / fit);
        swap_ends(&f, 1);
        swap_ends(&f, 3);
        swap(&f, 2, (const int32_t[]){0, 1}, (const int32_t[]){2, (int32_t)f.n_units - 1});
        close_units(&f);
    }
    pol_backend_close(f.be);
}

static void test_pieces(void **state)
{
    static const pol_dtype dtypes[] = {POL_F32, POL_F16, POL_BF16};
    for (size_t d = 0; d < POL_COUNT(dtypes); d++)
        for (int vector = 1; vector <= 16; vector *= 4)
            for (int64_t fit = 1; fit <= 9; fit += 4)
                check_pieces(*state, vector, dtypes[d], fit);
}

/* More pairs than the ring has room for: in one call, and in many between which nobody waits. */
static void test_full_ring(void **state)
{
    enum { UNIT = 3, UNITS = 2 * (RING_PAIRS + 100), CALLS = 300 };
    fixture f = {.ctx = *state};
    f.be = open_profile(f.ctx, &(test_profile){.own = true, .weights = POL_F32});
    if (!f.be)
        skip();
    int32_t *a = malloc(UNITS / 2 * sizeof *a), *b = malloc(UNITS / 2 * sizeof *b);
    assert_true(a && b);
    for (int32_t i = 0; i < UNITS / 2; i++) {
        a[i] = UNITS - 1 - i;
        b[i] = i;
    }
    open_units(&f, POL_F32, 1, UNIT * UNITS + 1, 1, UNIT); /* one row may begin anywhere */
    swap(&f, UNITS / 2, a, b);
    for (int i = 0; i < CALLS; i++) /* a different number each, so that the ring does not end where a call does */
        swap(&f, 997 + i, a + i, b + i);
    close_units(&f);
    free(a);
    free(b);
    pol_backend_close(f.be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pieces), cmocka_unit_test(test_full_ring)};
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}
