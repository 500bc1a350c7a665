/* bfloat16 as kernels see it against core/model/half.h: of the simulator, and, where there is a toolkit, of its header.
 */
#include <cuda_bf16.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

extern "C" {
#include <cmocka.h>
}

#include "core/model/half.h"

static unsigned bits_of(__nv_bfloat16 h)
{
    uint16_t u;
    memcpy(&u, &h, sizeof u);
    return u;
}

static __nv_bfloat16 of_bits(unsigned bits)
{
    const uint16_t u = (uint16_t)bits;
    __nv_bfloat16 h;
    memcpy(static_cast<void *>(&h), &u, sizeof h);
    return h;
}

static void all_numbers_widen(void **)
{
    for (unsigned u = 0; u < 0x10000; u++) {
        const __nv_bfloat16 h = of_bits(u), other = of_bits(u ^ 0x1234u);
        const uint32_t expected = pol_f32_bits(pol_bf16_to_f32((uint16_t)u));
        assert_int_equal(pol_f32_bits(__bfloat162float(h)), expected);
        const __nv_bfloat162 low = __halves2bfloat162(h, other), high(other, h);
        assert_int_equal(pol_f32_bits(__low2float(low)), expected);
        assert_int_equal(pol_f32_bits(__high2float(high)), expected);
        assert_int_equal(bits_of(__low2bfloat16(low)), u);
        assert_int_equal(bits_of(__high2bfloat16(high)), u);
        assert_int_equal(bits_of(__ushort_as_bfloat16((unsigned short)u)), u);
        assert_int_equal(__bfloat16_as_ushort(h), u);
        const float2 both = __bfloat1622float2(low);
        assert_int_equal(pol_f32_bits(both.x), expected);
        assert_int_equal(pol_f32_bits(both.y), pol_f32_bits(__bfloat162float(other)));
    }
}

/* Every upper half with the lower halves at which rounding turns. NaN stays NaN, all else agrees to the bit. */
static void all_roundings_agree(void **)
{
    const uint32_t lower[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    for (uint32_t upper = 0; upper < 0x10000; upper++)
        for (uint32_t l : lower) {
            const float x = pol_f32_from_bits(upper << 16 | l);
            const bool nan = x != x;
            const unsigned expected = nan ? 0x7fff : pol_f32_to_bf16(x);
            assert_int_equal(bits_of(__float2bfloat16_rn(x)), expected);
            assert_int_equal(bits_of(__float2bfloat16(x)), expected);
            const __nv_bfloat162 pair = __floats2bfloat162_rn(x, 1.0f),
                                 swapped = __float22bfloat162_rn(make_float2(1.0f, x));
            assert_int_equal(bits_of(pair.x), expected);
            assert_int_equal(bits_of(pair.y), 0x3f80);
            assert_int_equal(bits_of(swapped.x), 0x3f80);
            assert_int_equal(bits_of(swapped.y), expected);
        }
}

static void vectors_are_aligned_alike(void **)
{
    assert_int_equal(sizeof(__nv_bfloat16), 2);
    assert_int_equal(alignof(__nv_bfloat16), 2);
    assert_int_equal(sizeof(__nv_bfloat162), 4);
    assert_int_equal(alignof(__nv_bfloat162), 4);
    const size_t sizes[][2] = {{sizeof(float2), alignof(float2)},
                               {sizeof(int2), alignof(int2)},
                               {sizeof(uint2), alignof(uint2)},
                               {sizeof(ushort4), alignof(ushort4)}};
    for (const auto &s : sizes) {
        assert_int_equal(s[0], 8);
        assert_int_equal(s[1], 8);
    }
    const size_t large[][2] = {
        {sizeof(float4), alignof(float4)}, {sizeof(int4), alignof(int4)}, {sizeof(uint4), alignof(uint4)}};
    for (const auto &s : large) {
        assert_int_equal(s[0], 16);
        assert_int_equal(s[1], 16);
    }
    assert_int_equal(alignof(ushort2), 4);
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_numbers_widen),
        cmocka_unit_test(all_roundings_agree),
        cmocka_unit_test(vectors_are_aligned_alike),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
