/* test_dequant.c - every stored weight type against the Python package gguf, and the 16-bit floats against their
 * definition. */
#include <math.h>

#include "core/base/rng.h"
#include "core/model/dequant.h"
#include "core/model/gguf.h"
#include "core/model/half.h"
#include "tests/test.h"

/* tests/golden/dequant.py made the file: tensor "T" in blocks, tensor "T.f32" as it must come out, to the last bit. */
static void test_types_against_golden(void **state)
{
    pol_context *ctx = *state;
    static const char *const types[] = {"f32",  "f16",  "bf16", "q8_0", "q4_0", "q4_1",
                                        "q5_0", "q5_1", "q4_k", "q5_k", "q6_k"};
    pol_gguf *g;
    assert_ok(ctx, pol_gguf_open(ctx, test_file("dequant.gguf"), &g));
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char name[16];
        snprintf(name, sizeof name, "%s.f32", types[i]);
        const pol_gguf_tensor *t = pol_gguf_tensor_find(g, types[i]), *want = pol_gguf_tensor_find(g, name);
        assert_non_null(t);
        assert_non_null(want);
        assert_string_equal(t->coding->name, types[i]);
        const int64_t n = t->ne[0] * t->ne[1];
        assert_int_equal(want->bytes, (size_t)n * sizeof(float));
        float *got = malloc((size_t)n * sizeof *got);
        t->coding->decode(pol_gguf_data(g) + t->at, n / t->coding->values, got);
        const float *expected = (const float *)(pol_gguf_data(g) + want->at);
        for (int64_t k = 0; k < n; k++)
            if (pol_f32_bits(got[k]) != pol_f32_bits(expected[k]))
                fail_msg("%s: value %lld is %.9g, expected %.9g", types[i], (long long)k, got[k], expected[k]);
        free(got);
    }
    pol_gguf_close(g);
}

/* By the format's definition: sign, 5 bits of exponent, 10 of fraction. */
static double f16_by_definition(uint16_t h)
{
    const int e = h >> 10 & 31, m = h & 1023;
    const double v = e == 0 ? ldexp(m, -24) : e == 31 ? (m ? NAN : INFINITY) : ldexp(1024 + m, e - 25);
    return h & 0x8000 ? -v : v;
}

static void test_all_halves_widen_and_return(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        const double want = f16_by_definition((uint16_t)h);
        const float got = pol_f16_to_f32((uint16_t)h), brain = pol_bf16_to_f32((uint16_t)h);
        if (isnan(want)) {
            assert_true(isnan(got));
            assert_true(isnan(pol_f16_to_f32(pol_f32_to_f16(got))));
        } else {
            assert_true(got == want && !signbit(got) == !signbit(want));
            assert_int_equal(pol_f32_to_f16(got), h);
        }
        if (isnan(brain))
            assert_true(isnan(pol_bf16_to_f32(pol_f32_to_bf16(brain))));
        else
            assert_int_equal(pol_f32_to_bf16(brain), h);
    }
}

/* `h` is right for x if no neighbour is nearer, and of two equally near the even one is taken. Magnitudes only. */
static void check_nearest(float x, uint16_t h, uint16_t infinity, double (*value)(uint16_t))
{
    const double limit = 2 * value((uint16_t)(infinity - 1)) -
                         value((uint16_t)(infinity - 2)); /* where infinity stands in for rounding */
    const double at = h == infinity ? limit : value(h), above = h + 1 == infinity ? limit : value((uint16_t)(h + 1));
    const double here = fabs(x - at);
    if (h > 0) {
        const double below = fabs(x - value((uint16_t)(h - 1)));
        if (!(here < below || (here == below && h % 2 == 0)) && !(h == infinity && x > limit))
            fail_msg("%.9g became %04x, the value below is as near", x, h);
    }
    if (h < infinity) {
        const double over = fabs(x - above);
        if (!(here < over || (here == over && h % 2 == 0)))
            fail_msg("%.9g became %04x, the value above is as near", x, h);
    }
}

static double bf16_value(uint16_t h) { return pol_bf16_to_f32(h); }

static void test_narrowing_is_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 200000; i++) {
        uint32_t w[4];
        pol_philox(1, POL_STREAM_TEST, 0, 0, i, w);
        /* Any magnitude, for f16 also within its range; and ties: a value with all lower bits but the first clear. */
        const float x = pol_f32_from_bits(w[0] % 0x7f800000u);
        const float near = pol_f32_from_bits(0x32000000u + w[1] % (0x47900000u - 0x32000000u));
        const float tie16 = pol_f32_from_bits((pol_f32_bits(near) & ~0x1fffu) | 0x1000u);
        const float tie_brain = pol_f32_from_bits((w[2] % 0x7f800000u & ~0xffffu) | 0x8000u);
        check_nearest(x, pol_f32_to_bf16(x), 0x7f80, bf16_value);
        check_nearest(tie_brain, pol_f32_to_bf16(tie_brain), 0x7f80, bf16_value);
        check_nearest(x, pol_f32_to_f16(x), 0x7c00, f16_by_definition);
        check_nearest(near, pol_f32_to_f16(near), 0x7c00, f16_by_definition);
        check_nearest(tie16, pol_f32_to_f16(tie16), 0x7c00, f16_by_definition);
        assert_int_equal(pol_f32_to_f16(-near), pol_f32_to_f16(near) | 0x8000);
    }
    assert_int_equal(pol_f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(pol_f32_to_f16(65520.0f), 0x7c00);
}

static void test_unknown_types(void **state)
{
    (void)state;
    assert_null(pol_coding_of_gguf(10)); /* q2_k */
    assert_null(pol_coding_of_gguf(UINT32_MAX));
    assert_null(pol_coding_of_safetensors("F4"));
    assert_null(pol_coding_of_safetensors("f32"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_types_against_golden, test_context_open, test_context_close),
        cmocka_unit_test(test_all_halves_widen_and_return),
        cmocka_unit_test(test_narrowing_is_to_nearest_even),
        cmocka_unit_test(test_unknown_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
