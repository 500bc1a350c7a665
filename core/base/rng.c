/* rng.c - Philox4x32-10 and the draws made of it. */
#include "core/base/rng.h"

#include <math.h>
#include <string.h>

/* Blocks made at a time: their words lie side by side, so that loops over them become vector code. */
enum { LANES = 32 };

/* Words w of blocks block, block + 1, ... at c[w][0], c[w][1], ...; `lanes` is a constant of the caller, at most LANES.
 */
static inline void philox(uint64_t seed, pol_stream stream, uint64_t step, uint32_t sample, uint32_t block, int lanes,
                          uint32_t c[4][LANES])
{
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    for (int i = 0; i < lanes; i++) {
        c[0][i] = block + (uint32_t)i;
        c[1][i] = sample;
        c[2][i] = (uint32_t)step;
        c[3][i] = (uint32_t)stream | (uint32_t)(step >> 32) << 8;
    }
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < lanes; i++) {
            const uint64_t p0 = (uint64_t)0xD2511F53u * c[0][i], p1 = (uint64_t)0xCD9E8D57u * c[2][i];
            c[0][i] = (uint32_t)(p1 >> 32) ^ c[1][i] ^ key0;
            c[1][i] = (uint32_t)p1;
            c[2][i] = (uint32_t)(p0 >> 32) ^ c[3][i] ^ key1;
            c[3][i] = (uint32_t)p0;
        }
        key0 += 0x9E3779B9u; /* golden ratio */
        key1 += 0xBB67AE85u; /* sqrt(3) - 1 */
    }
}

void pol_philox(uint64_t seed, pol_stream stream, uint64_t step, uint32_t sample, uint32_t block, uint32_t out[4])
{
    uint32_t c[4][LANES];
    philox(seed, stream, step, sample, block, 1, c);
    for (int w = 0; w < 4; w++)
        out[w] = c[w][0];
}

void pol_uniform_from(uint64_t seed, pol_stream stream, uint64_t step, uint32_t sample, int64_t first, int64_t n,
                      float *out)
{
    for (int64_t i = 0; i < n; i += 4 * LANES) {
        uint32_t c[4][LANES];
        philox(seed, stream, step, sample, (uint32_t)((first + i) / 4), LANES, c);
        float u[4 * LANES];
        for (int j = 0; j < LANES; j++)
            for (int w = 0; w < 4; w++)
                u[4 * j + w] = (float)(int32_t)(c[w][j] >> 8) * 0x1p-24f;
        memcpy(out + i, u, sizeof *u * (size_t)(n - i < 4 * LANES ? n - i : 4 * LANES));
    }
}

void pol_uniform(uint64_t seed, pol_stream stream, uint64_t step, uint32_t sample, int64_t n, float *out)
{
    pol_uniform_from(seed, stream, step, sample, 0, n, out);
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
