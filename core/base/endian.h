/* endian.h - little-endian numbers in files, whatever the host. Addresses need no alignment. */
#ifndef POL_ENDIAN_H
#define POL_ENDIAN_H

#include <stdint.h>
#include <string.h>

static inline uint16_t pol_get_u16le(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }

static inline uint32_t pol_get_u32le(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t pol_get_u64le(const uint8_t *p)
{
    return (uint64_t)pol_get_u32le(p) | (uint64_t)pol_get_u32le(p + 4) << 32;
}

static inline float pol_get_f32le(const uint8_t *p)
{
    const uint32_t bits = pol_get_u32le(p);
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline double pol_get_f64le(const uint8_t *p)
{
    const uint64_t bits = pol_get_u64le(p);
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline void pol_put_u32le(uint8_t *p, uint32_t x)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(x >> 8 * i);
}

static inline void pol_put_u64le(uint8_t *p, uint64_t x)
{
    pol_put_u32le(p, (uint32_t)x);
    pol_put_u32le(p + 4, (uint32_t)(x >> 32));
}

static inline void pol_put_f32le(uint8_t *p, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    pol_put_u32le(p, bits);
}

static inline void pol_put_f64le(uint8_t *p, double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    pol_put_u64le(p, bits);
}

#endif
