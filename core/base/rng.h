/* rng.h - counter-based random numbers: Philox4x32-10.
 *
 * A draw is a pure function of (seed, stream, step, sample, index): the same on every backend, in every thread order,
 * after every resume. No state is kept anywhere. Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
 */
#ifndef POL_RNG_H
#define POL_RNG_H

#include <stdint.h>

/* What the numbers are for; part of the counter, so that uses never share draws. */
typedef enum pol_stream {
    POL_STREAM_MASK = 1,    /* step, mask k, unit */
    POL_STREAM_SHUFFLE = 2, /* epoch, 0, position */
    POL_STREAM_INIT = 3,    /* 0, 0, unit: random initial scores */
    POL_STREAM_TEST = 4,
    POL_STREAM_REPAIR = 8,    /* 0, 0, position: sequences that the repair looks at */
    POL_STREAM_BENCH = 5,     /* round, 0, unit of a section: masks that a benchmark draws */
    POL_STREAM_PROBE = 6,     /* 0, 0, probe and output: signs by which the errors of repaired rows are told */
    POL_STREAM_ALLOCATION = 7 /* step, pair of candidates, block: how far counts lie from their mean */
} pol_stream;

/* Four 32-bit words of block `block`. Counter words: {block, sample, step low, stream | step high << 8}; step below
 * 2^56. */
void pol_philox(uint64_t seed, pol_stream stream, uint64_t step, uint32_t sample, uint32_t block, uint32_t out[4]);

/* out[i], i in [0, n): uniform in [0, 1), number i of its key: the upper 24 bits of word i % 4 of block i / 4, exactly
 * representable in f32. _from gives the numbers first, first + 1, ...; `first` is a multiple of 4. */
void pol_uniform(uint64_t seed, pol_stream stream, uint64_t step, uint32_t sample, int64_t n, float *out);
void pol_uniform_from(uint64_t seed, pol_stream stream, uint64_t step, uint32_t sample, int64_t first, int64_t n,
                      float *out);
/* out[i]: standard normal by Box-Muller on pairs of 32-bit words. */
void pol_normal(uint64_t seed, pol_stream stream, uint64_t step, uint32_t sample, int64_t n, float *out);
/* Fisher-Yates on 64-bit draws: a permutation of 0..n-1, keyed by (seed, stream, step). */
void pol_permutation(uint64_t seed, pol_stream stream, uint64_t step, int64_t n, int64_t *out);

#endif
