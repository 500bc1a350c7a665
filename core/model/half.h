/* half.h - 16-bit floats: IEEE binary16 and bfloat16, exact widening and narrowing to nearest, ties to even.
 *
 * Bit operations only, without branches on the value, so that loops over them vectorise.
 */
#ifndef POL_HALF_H
#define POL_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t pol_f32_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float pol_f32_from_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static inline float pol_bf16_to_f32(uint16_t h) { return pol_f32_from_bits((uint32_t)h << 16); }

static inline float pol_f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = (uint32_t)(h & 0x7fffu) << 13;
    /* Exponent rebiased from 15 to 127 by one multiplication, which also normalises subnormals: 2^(127 - 15). */
    const float scaled = pol_f32_from_bits(rest) * 0x1p112f;
    /* All exponent bits set is infinity or NaN in both formats. */
    const uint32_t special = rest >= 0x0f800000u ? 0x7f800000u : 0u;
    return pol_f32_from_bits(sign | pol_f32_bits(scaled) | special);
}

static inline uint16_t pol_f32_to_bf16(float x)
{
    const uint32_t u = pol_f32_bits(x);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x40u); /* NaN: rounding could carry it to infinity; keep it quiet instead */
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

static inline uint16_t pol_f32_to_f16(float x)
{
    const uint32_t u = pol_f32_bits(x), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u);
    if (a >= 0x477ff000u) /* 65520: the first that rounds to infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (a < 0x38800000u) /* below 2^-14: adding 0.5 puts the subnormal's last bit, 2^-24, at the last bit of the sum */
        return (uint16_t)(sign | (pol_f32_bits(pol_f32_from_bits(a) + 0.5f) - 0x3f000000u));
    return (uint16_t)(sign | ((a - 0x38000000u + 0xfffu + (a >> 13 & 1u)) >> 13));
}

#endif
