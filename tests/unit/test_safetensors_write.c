/* test_safetensors_write.c - the writer by itself: rounding, and what it refuses. */
#include <math.h>

#include "core/base/rng.h"
#include "core/model/half.h"
#include "tests/unit/export_model.h"

/* Nearest value with `digits` binary digits after the leading one and exponents from `least`, ties to even: by the
 * definition, in double. */
static double nearest(double x, int digits, int least)
{
    int e;
    frexp(x, &e);
    const double ulp = ldexp(1, (e - 1 < least ? least : e - 1) - digits);
    return nearbyint(x / ulp) * ulp;
}

static void test_rounding(void **state)
{
    const fixture *f = *state;
    enum { N = 40000 };
    static float x[2 * N];
    pol_normal(3, POL_STREAM_TEST, 0, 0, N, x);
    for (int i = 0; i < N;
         i++) { /* from below the smallest subnormal of f16 to its largest; every third a tie of one of the types */
        x[i] = ldexpf(x[i], i % 36 - 24);
        if (i % 3 == 0)
            x[i] = (float)nearest((double)x[i], i % 2 ? 11 : 8, -200);
        if (fabsf(x[i]) >= 65504)
            x[i] = 65504;
    }
    memcpy(x + N, x, N * sizeof *x);
    const pol_st_tensor t[] = {{"a", POL_F16, 1, {N, 0}}, {"b", POL_BF16, 2, {4, N / 4}}};
    pol_st_writer *w;
    assert_ok(f->ctx, pol_st_open(f->ctx, f->dir, t, 2, UINT64_MAX, &w));
    for (int i = 0; i < 2 * N; i += 100) /* in pieces */
        assert_ok(f->ctx, pol_st_append(w, x + i, 100));
    assert_ok(f->ctx, pol_st_finish(w));
    pol_map m;
    assert_ok(f->ctx, pol_map_open(f->ctx, in(f, "model.safetensors"), &m));
    uint64_t header;
    memcpy(&header, m.data, sizeof header);
    assert_int_equal(m.size, 8 + header + 2 * 2 * N);
    for (int i = 0; i < 2 * N; i++) {
        uint16_t h;
        memcpy(&h, m.data + 8 + header + 2 * i, 2);
        const double got = i < N ? (double)pol_f16_to_f32(h) : (double)pol_bf16_to_f32(h);
        const double want = i < N ? nearest((double)x[i], 10, -14) : nearest((double)x[i], 7, -126);
        if (got != want)
            fail_msg("%.17g written as %.17g, expected %.17g", (double)x[i], got, want);
    }
    pol_map_close(&m);
}

static void test_writer_refuses(void **state)
{
    const fixture *f = *state;
    pol_st_writer *w;
    const pol_st_tensor narrow_first[] = {{"a", POL_F16, 1, {3, 0}}, {"b", POL_F32, 1, {3, 0}}};
    assert_fails(f->ctx, pol_st_open(f->ctx, f->dir, narrow_first, 2, 100, &w), POL_EARG, "'b' is declared after 'a'");
    const pol_st_tensor huge = {"a", POL_F32, 2, {INT64_MAX / 2, INT64_MAX / 2}}, empty = {"a", POL_F32, 1, {0, 0}};
    assert_fails(f->ctx, pol_st_open(f->ctx, f->dir, &huge, 1, 100, &w), POL_EARG, "'a'");
    assert_fails(f->ctx, pol_st_open(f->ctx, f->dir, &empty, 1, 100, &w), POL_EARG, "'a'");
    const pol_st_tensor t = {"a", POL_F16, 1, {3, 0}};
    const float x[4] = {1, 2, 65520, NAN}; /* 65520 is the first that rounds to infinity */
    assert_ok(f->ctx, pol_st_open(f->ctx, f->dir, &t, 1, 100, &w));
    assert_fails(f->ctx, pol_st_append(w, x, 4), POL_EARG, "4 values are more than the 3");
    assert_fails(f->ctx, pol_st_append(w, x + 2, 1), POL_ENUMERIC, "tensor 'a': value 65520 cannot be written as F16");
    assert_fails(f->ctx, pol_st_append(w, x + 3, 1), POL_ENUMERIC, "value nan");
    assert_ok(f->ctx, pol_st_append(w, x, 2));
    assert_fails(f->ctx, pol_st_finish(w), POL_EARG, "'a' lacks 1 values");
    assert_false(pol_path_exists(in(f, "model.safetensors")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rounding, setup, teardown),
        cmocka_unit_test_setup_teardown(test_writer_refuses, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
