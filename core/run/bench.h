/* bench.h - a benchmark of a model, round by round, for those who measure something beside it (bench/bench_step.c). */
#ifndef POL_RUN_BENCH_H
#define POL_RUN_BENCH_H

#include "core/backend.h"
#include "pollard/mask.h"
#include "pollard/memory.h"

typedef struct pol_bench_run {
    pol_context *ctx;
    const pol_bench_settings *o; /* borrowed */
    pol_source *src;
    pol_backend *be;
    pol_memory memory;
    pol_model *model;
    pol_forward *forward;
    int32_t *ids;    /* [batch, seq_len] */
    double *loss;    /* [batch] */
    int64_t *order;  /* for drawing: as long as the longest section */
    uint8_t *mask;   /* of the last round */
    pol_config left; /* what it leaves */
} pol_bench_run;

typedef struct pol_bench_times {
    double dense, change, masked; /* seconds: passes, and the change from the one mask to the other */
    double host;                  /* of `masked`: processor time of the calling thread, its waiting left out */
} pol_bench_times;

/* `be` NULL: as the settings say; else it is the run's from here on, also where this fails. On failure *r holds
 * nothing. */
pol_status pol_bench_open(pol_context *ctx, const pol_bench_settings *o, pol_backend *be, pol_bench_run *r);
pol_status pol_bench_round(pol_bench_run *r, uint64_t round, pol_bench_times *t);
void pol_bench_close(pol_bench_run *r); /* takes a zeroed one */

/* Sorts v. */
double pol_bench_median(double *v, int64_t n);

#endif
