/* nll_sum.h - from per-token negative log-likelihoods to a mean with its standard error. */
#ifndef POL_EVAL_NLL_SUM_H
#define POL_EVAL_NLL_SUM_H

#include "pollard/eval.h"

/* Over chunks of equal length; zero-initialise. */
typedef struct pol_nll_sum {
    double sum;           /* of all values */
    double mean, squares; /* of the chunks' means so far: their mean, and the sum of squared deviations from it */
    int64_t tokens, chunks, bad;
} pol_nll_sum;

/* nll [chunks, targets]. A chunk with a value that is not finite counts as bad and is not summed. */
void pol_nll_sum_add(pol_nll_sum *a, const float *nll, int64_t chunks, int64_t targets);
/* perplexity, nll, standard_error, tokens, chunks and bad_chunks of *out. With a bad chunk, or none at all, the first
 * three are NaN; with one chunk the standard error is. */
void pol_nll_sum_result(const pol_nll_sum *a, pol_perplexity *out);

#endif
