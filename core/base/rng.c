/* rng.c - Philox4x32-10 and the draws made of it. */
#include "core/base/rng.h"

#include <math.h>

static void philox_round(uint32_t c[4], const uint32_t k[2])
{
    const uint64_t p0 = (uint64_t)0xD2511F53u * c[0];
    const uint64_t p1 = (uint64_t)0xCD9E8D57u * c[2];
    const uint32_t next[4] = {(uint32_t)(p1 >> 32) ^ c[1] ^ k[0], (uint32_t)p1, (uint32_t)(p0 >> 32) ^ c[3] ^ k[1],
                              (uint32_t)p0};
    for (int i = 0; i < 4; i++)
        c[i] = next[i];
}

void pol_philox(uint64_t seed, pol_stream stream, uint64_t step, uint32_t sample, uint32_t block, uint32_t out[4])
{
    uint32_t k[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t c[4] = {block, sample, (uint32_t)step, (uint32_t)stream | (uint32_t)(step >> 32) << 8};
    for (int r = 0; r < 10; r++) {
        if (r) {
            k[0] += 0x9E3779B9u; /* golden ratio */
            k[1] += 0xBB67AE85u; /* sqrt(3) - 1 */
        }
        philox_round(c, k);
    }
    for (int i = 0; i < 4; i++)
        out[i] = c[i];
}

void pol_uniform(uint64_t seed, pol_stream stream, uint64_t step, uint32_t sample, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t w[4];
        pol_philox(seed, stream, step, sample, (uint32_t)(i / 4), w);
        for (int64_t j = i; j < n && j < i + 4; j++)
            out[j] = pol_uniform_of(w[j - i]);
    }
}

void pol_normal(uint64_t seed, pol_stream stream, uint64_t step, uint32_t sample, int64_t n, float *out)
{
    const double tau = 6.283185307179586;
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t w[4];
        pol_philox(seed, stream, step, sample, (uint32_t)(i / 4), w);
        double z[4];
        for (int p = 0; p < 2; p++) {
            const double radius = sqrt(-2.0 * log(((double)w[2 * p] + 0.5) * 0x1p-32));
            const double angle = tau * ((double)w[2 * p + 1] * 0x1p-32);
            z[2 * p] = radius * cos(angle);
            z[2 * p + 1] = radius * sin(angle);
        }
        for (int64_t j = i; j < n && j < i + 4; j++)
            out[j] = (float)z[j - i];
    }
}

void pol_permutation(uint64_t seed, pol_stream stream, uint64_t step, int64_t n, int64_t *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        uint32_t w[4];
        pol_philox(seed, stream, step, (uint32_t)(i >> 32), (uint32_t)i, w);
        /* 64 bits modulo i + 1: the bias is below 2^-32 for any n that fits memory. */
        const int64_t j = (int64_t)(((uint64_t)w[0] << 32 | w[1]) % (uint64_t)(i + 1));
        const int64_t t = out[i];
        out[i] = out[j];
        out[j] = t;
    }
}
