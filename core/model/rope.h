/* rope.h - the table of rotary position embedding that every backend reads (Su et al. 2021, arXiv 2104.09864). */
#ifndef POL_ROPE_H
#define POL_ROPE_H

#include "pollard/config.h"

/* Angular frequencies of the D/2 pairs, scaling included: linear divides by the factor; llama3 divides the long
 * wavelengths, keeps the short ones and blends between (Llama 3.1, as in transformers' rope_type "llama3"). */
void pol_rope_frequencies(const pol_config *c, float *freq);

/* table [n, D]: for position p, D/2 cosines then D/2 sines. Angles are f32 products, as in transformers, so that long
 * positions agree. */
void pol_rope_table(const pol_config *c, int64_t n, float *table);

#endif
