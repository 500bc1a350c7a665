/* rope.c - frequencies and the cosine and sine table. */
#include "core/model/rope.h"

#include <math.h>

static float scale_llama3(const pol_config *c, float freq)
{
    const double wavelength = 2.0 * 3.14159265358979323846 / freq;
    const double longest = (double)c->rope_original_positions / c->rope_low_freq;
    const double shortest = (double)c->rope_original_positions / c->rope_high_freq;
    if (wavelength < shortest)
        return freq;
    if (wavelength > longest)
        return freq / c->rope_factor;
    const double smooth =
        (c->rope_original_positions / wavelength - c->rope_low_freq) / (c->rope_high_freq - c->rope_low_freq);
    return (float)((1.0 - smooth) * freq / c->rope_factor + smooth * freq);
}

void pol_rope_frequencies(const pol_config *c, float *freq)
{
    const int32_t half = c->head_dim / 2;
    for (int32_t i = 0; i < half; i++) {
        freq[i] = (float)(1.0 / pow(c->rope_theta, 2.0 * i / c->head_dim));
        switch (c->rope_scaling) {
        case POL_ROPE_NONE: break;
        case POL_ROPE_LINEAR: freq[i] /= c->rope_factor; break;
        case POL_ROPE_LLAMA3: freq[i] = scale_llama3(c, freq[i]); break;
        }
    }
}

void pol_rope_table(const pol_config *c, int64_t n, float *table)
{
    const int32_t half = c->head_dim / 2;
    float *freq = table; /* row 0 is written last */
    pol_rope_frequencies(c, freq);
    for (int64_t p = n - 1; p >= 0; p--) {
        float *row = table + p * c->head_dim;
        for (int32_t i = 0; i < half; i++) {
            const float angle = (float)p * freq[i];
            const float cosine = (float)cos(angle), sine = (float)sin(angle);
            row[half + i] = sine;
            row[i] = cosine; /* p == 0 overwrites freq[i], its last use */
        }
    }
}
