/* sim_sum.h - how matrix units add up products of bf16: not as processors do. The sum so far and 8 products are lined
 * up with the largest of them, and of each what does not fit there in 25 bits is cut off; of their sum all but 24 bits
 * are. So errors are towards 0, each time. This is an A100; an H100 keeps more. Fasi, Higham, Mikaitis and Pranesh
 * 2021, Numerical behavior of NVIDIA tensor cores.
 */
#ifndef SIM_SUM_H
#define SIM_SUM_H

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace sim
{

enum { AT_ONCE = 8, SIGNIFICANT = 24, EXPONENTS_FROM = SIGNIFICANT - 1, INFINITE = 0xff };

/* 2^n, for what f64 has. */
static inline double power_of_2(int n)
{
    const uint64_t bits = (uint64_t)(1023 + n) << 52;
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float add_products(float sum, const float *a, const float *b)
{
    float term[AT_ONCE + 1];
    uint32_t largest = 0; /* of their magnitudes, which are in order as their bits are */
    for (int i = 0; i < AT_ONCE; i++)
        term[i] = a[i] * b[i];
    term[AT_ONCE] = sum;
    for (float t : term) {
        uint32_t bits;
        memcpy(&bits, &t, sizeof bits);
        bits &= 0x7fffffffu;
        largest = bits > largest ? bits : largest;
    }
    int exponent = (int)(largest >> EXPONENTS_FROM);
    if (exponent == INFINITE) {
        for (int i = 0; i < AT_ONCE; i++)
            sum += term[i];
        return sum;
    }
    exponent = (exponent ? exponent : 1) - 127 - SIGNIFICANT; /* of the last of 25 bits */
    const double to_units = power_of_2(-exponent);
    int32_t units = 0;
    for (float t : term)
        units += (int32_t)(t * to_units);
    int excess = 0;
    while (abs(units) >> excess >= 1 << SIGNIFICANT)
        excess++;
    units = (units < 0 ? -1 : 1) * (abs(units) >> excess << excess);
    return (float)(units * power_of_2(exponent));
}

/* The sum of n products. */
static inline float sum_of_products(const float *a, const float *b, uint64_t n)
{
    float sum = 0, last_a[AT_ONCE] = {}, last_b[AT_ONCE] = {};
    uint64_t i = 0;
    for (; i + AT_ONCE <= n; i += AT_ONCE)
        sum = add_products(sum, a + i, b + i);
    if (i == n)
        return sum;
    memcpy(last_a, a + i, (n - i) * sizeof *a);
    memcpy(last_b, b + i, (n - i) * sizeof *b);
    return add_products(sum, last_a, last_b);
}

} // namespace sim

#endif
