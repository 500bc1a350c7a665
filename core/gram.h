/* gram.h - second moments of activations, summed on a device over any number of passes.
 *
 * One set of sums serves one matrix after the other: it is made for the widest input and reset between them. */
#ifndef POL_GRAM_H
#define POL_GRAM_H

#include "core/backend.h"

typedef struct pol_gram_sums {
    pol_backend *be;           /* borrowed */
    int64_t max_tokens;        /* of a pass */
    int64_t max_n, m;          /* widest x; columns of y, 0: no cross products are ever wanted */
    int64_t n;                 /* width of the x that is summed; set by the reset */
    bool cross;                /* add x^T target too; set by the reset */
    int64_t tokens;            /* summed since the reset */
    pol_buf *a;                /* [2, max_n, max_n] */
    pol_buf *b;                /* [2, max_n, m] or NULL */
    pol_buf *target, *scratch; /* [max_tokens, m] f32 or NULL: y of the pass to come, uploaded before it */
} pol_gram_sums;

/* max_n is rounded up to the backend's width_tile. On success *out is yours: pol_gram_free(). */
pol_status pol_gram_new(pol_backend *be, int64_t max_tokens, int64_t max_n, int64_t m, pol_gram_sums *out);
void pol_gram_free(pol_gram_sums *g); /* takes a zeroed one */
/* Device bytes that pol_gram_new takes; UINT64_MAX where they cannot be counted. And its largest buffer. */
uint64_t pol_gram_bytes(pol_backend *be, int64_t max_tokens, int64_t max_n, int64_t m);
uint64_t pol_gram_largest_buffer(pol_backend *be, int64_t max_tokens, int64_t max_n, int64_t m);

/* Begins sums over inputs of n columns. */
pol_status pol_gram_reset(pol_gram_sums *g, int64_t n, bool cross);
/* Adds T rows of x [T, n]. POL_EARG for another width than the reset's. */
pol_status pol_gram_add(pol_gram_sums *g, pol_view x, int64_t T, int64_t n);
/* The sums as they are, of the first `n` columns: h [n, n] both triangles, b [n, m] (NULL: not wanted). */
pol_status pol_gram_read(pol_gram_sums *g, int64_t n, double *h, double *b);

#endif
