/* bench.h - timing for the benchmarks: medians over interleaved rounds, since these machines are shared and noisy. */
#ifndef BENCH_H
#define BENCH_H

#include <stdlib.h>
#include <time.h>

#include "core/run/bench.h" /* pol_bench_median() */

static inline double bench_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
