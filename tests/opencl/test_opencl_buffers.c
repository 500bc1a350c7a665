/* test_opencl_buffers.c - device memory in pieces: what is written anywhere is what is read from there. */
#include "core/base/rng.h"
#include "core/model/half.h"
#include "tests/opencl/profiles.h"

enum { ROWS = 37, ROW = 11, N = ROWS * ROW, ROUNDS = 300 };

/* The value as the buffer's type holds it; integers as they are. */
static float held(pol_dtype dtype, float x)
{
    return dtype == POL_F16    ? pol_f16_to_f32(pol_f32_to_f16(x))
           : dtype == POL_BF16 ? pol_bf16_to_f32(pol_f32_to_bf16(x))
                               : x;
}

/* Ranges anywhere, of any length, against a copy on the host. */
static void check_ranges(pol_backend *be, pol_dtype dtype)
{
    pol_buf *buf;
    union {
        float f32[N];
        int32_t i32[N];
    } copy = {{0}}, part;
    assert_ok(be->ctx, pol_buf_new_rows(be, dtype, ROWS, ROW, &buf));
    assert_true(((ocl_buf *)buf)->n_pieces > 4);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        float u[2], x[N];
        pol_uniform(3, POL_STREAM_TEST, 1, i, 2, u);
        pol_normal(3, POL_STREAM_TEST, 2, i, N, x);
        const int64_t at = (int64_t)(u[0] * N), n = (int64_t)(u[1] * (float)(N + 1 - at));
        if (i % 2) {
            for (int64_t j = 0; j < n; j++)
                if (dtype == POL_I32)
                    copy.i32[at + j] = part.i32[j] = (int32_t)(1e9f * x[j]);
                else
                    copy.f32[at + j] = held(dtype, part.f32[j] = x[j]);
            assert_ok(be->ctx, pol_upload(be, buf, at, &part, n));
        } else {
            assert_ok(be->ctx, pol_download(be, buf, at, &part, n));
            assert_memory_equal(part.i32, copy.i32 + at, (size_t)n * sizeof *part.i32);
        }
    }
    assert_ok(be->ctx, pol_download(be, buf, 0, &part, N));
    assert_memory_equal(&part, &copy, sizeof copy);
    pol_buf_free(be, buf);
}

static void test_ranges(void **state)
{
    pol_context *ctx = *state;
    static const pol_dtype types[] = {POL_F32, POL_F16, POL_BF16, POL_I32};
    const test_profile pieces = {.name = "pieces", .vector = 1, .group = 1, .piece_bytes = 4 * ROW * 4 + 3};
    pol_backend *be = open_profile(ctx, &pieces);
    if (!be)
        skip();
    for (size_t i = 0; i < POL_COUNT(types); i++)
        check_ranges(be, types[i]);
    assert_int_equal(be->bytes_in_use, 0);
    pol_backend_close(be);
}

/* Every piece is of whole rows and at most as large as the driver gives; rows that are not there take no memory. */
static void test_pieces(void **state)
{
    pol_context *ctx = *state;
    const test_profile pieces = {.name = "pieces", .vector = 1, .group = 1, .piece_bytes = 100};
    pol_backend *be = open_profile(ctx, &pieces);
    if (!be)
        skip();
    static const struct {
        pol_dtype dtype;
        int64_t rows, row, n_pieces, piece_rows;
    } cases[] = {
        {POL_F32, 7, 5, 2, 5}, {POL_F32, 5, 5, 1, 5},  {POL_F16, 21, 5, 3, 10}, {POL_F32, 1, 5, 1, 1},
        {POL_F32, 0, 5, 1, 1}, {POL_I32, 3, 25, 3, 1}, {POL_F32, 2, 26, 2, 1},
    };
    for (size_t i = 0; i < POL_COUNT(cases); i++) {
        pol_buf *buf;
        assert_ok(ctx, pol_buf_new_rows(be, cases[i].dtype, cases[i].rows, cases[i].row, &buf));
        const ocl_buf *b = (const ocl_buf *)buf;
        assert_int_equal(b->n_pieces, cases[i].n_pieces);
        assert_int_equal(b->piece_rows, cases[i].piece_rows);
        int64_t covered = 0;
        for (ocl_stretch s = ocl_stretch_of((pol_view){buf, 0}, buf->n); ocl_next(&s); covered += s.n) {
            assert_int_equal(s.first, covered);
            assert_int_equal(s.at, 0);
            assert_ptr_equal(s.mem, b->piece[covered / (b->piece_rows * buf->row)]);
        }
        assert_int_equal(covered, buf->n);
        pol_buf_free(be, buf);
    }
    pol_backend_close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ranges), cmocka_unit_test(test_pieces)};
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}
