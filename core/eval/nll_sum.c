/* nll_sum.c - the arithmetic of perplexity. */
#include "core/eval/nll_sum.h"

#include <math.h>

void pol_nll_sum_add(pol_nll_sum *a, const float *nll, int64_t chunks, int64_t targets)
{
    for (int64_t c = 0; c < chunks; c++, nll += targets) {
        double sum = 0;
        for (int64_t t = 0; t < targets; t++)
            sum += nll[t];
        a->tokens += targets;
        a->chunks++;
        if (!isfinite(sum)) { /* f32 values do not overflow a double sum: one of them is not finite */
            a->bad++;
            continue;
        }
        /* Welford: no difference of large sums. */
        const double mean = sum / (double)targets, off = mean - a->mean;
        a->sum += sum;
        a->mean += off / (double)(a->chunks - a->bad);
        a->squares += off * (mean - a->mean);
    }
}

void pol_nll_sum_result(const pol_nll_sum *a, pol_perplexity *out)
{
    const double n = (double)a->chunks;
    const bool good = a->bad == 0 && a->tokens > 0;
    out->nll = good ? a->sum / (double)a->tokens : NAN;
    out->perplexity = exp(out->nll);
    out->standard_error = good && a->chunks > 1 ? sqrt(a->squares / (n - 1) / n) : NAN;
    out->tokens = a->tokens;
    out->chunks = a->chunks;
    out->bad_chunks = a->bad;
}
