/* spd_condition.c - an estimate of ||A|| ||A^-1|| in the 1-norm, from below: a search for the column of A^-1 whose sum
 * of absolute values is largest, which takes a few solutions (Hager 1984; Higham 1988, algorithm 4.1). What it has to
 * look at between them are vectors, on the host.
 */
#include <math.h>

#include "backends/cuda/spd.h"

enum { SEARCHES = 5 };

/* x = A^-1 x, and the sum of its absolute values. */
static pol_status apply(const cu_spd *s, const double *u, double *x, double *sum)
{
    const size_t bytes = (size_t)s->N * sizeof *x;
    POL_TRY(cu_send(s->c, s->vector, x, bytes));
    POL_TRY(cu_spd_solve(s, u, s->N, s->vector, 1, 1, true));
    POL_TRY(cu_spd_solve(s, u, s->N, s->vector, 1, 1, false));
    POL_TRY(cu_fetch(s->c, x, s->vector, bytes));
    *sum = 0;
    for (int64_t i = 0; i < s->N; i++)
        *sum += fabs(x[i]);
    return POL_OK;
}

static int64_t largest(const double *x, int64_t n)
{
    int64_t at = 0;
    for (int64_t i = 1; i < n; i++)
        if (fabs(x[i]) > fabs(x[at]))
            at = i;
    return at;
}

/* From x, which is A^-1 of some vector, on: to the column whose sum rises fastest from there, until it is the same. */
static pol_status search(const cu_spd *s, const double *u, double *x, double *most)
{
    int64_t column = -1;
    for (int k = 0; k < SEARCHES; k++) {
        double sum;
        for (int64_t i = 0; i < s->N; i++)
            x[i] = x[i] < 0 ? -1 : 1;
        POL_TRY(apply(s, u, x, &sum));
        const int64_t next = largest(x, s->N);
        if (next == column)
            return POL_OK;
        column = next;
        for (int64_t i = 0; i < s->N; i++)
            x[i] = i == column;
        POL_TRY(apply(s, u, x, &sum));
        if (sum <= *most)
            return POL_OK;
        *most = sum;
    }
    return POL_OK;
}

pol_status cu_spd_condition(const cu_spd *s, const double *u, double norm, double *condition)
{
    const int64_t N = s->N;
    double *x = s->host, most, sum;
    for (int64_t i = 0; i < N; i++)
        x[i] = 1.0 / (double)N;
    POL_TRY(apply(s, u, x, &most));
    POL_TRY(search(s, u, x, &most));
    for (int64_t i = 0; i < N; i++) /* where signs make the search miss it */
        x[i] = (i % 2 ? -1 : 1) * (1 + (N > 1 ? (double)i / (double)(N - 1) : 0));
    POL_TRY(apply(s, u, x, &sum));
    *condition = norm * fmax(most, 2 * sum / (3 * (double)N));
    return POL_OK;
}
