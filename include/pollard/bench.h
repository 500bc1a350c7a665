/* bench.h - how fast a model goes on a device, and making it faster there. */
#ifndef POLLARD_BENCH_H
#define POLLARD_BENCH_H

#include "pollard/memory.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pol_bench_settings {
    const char *model; /* folder or GGUF file */
    double keep;       /* share of the groups and channels of each layer that the masks leave */
    int64_t batch, seq_len;
    int64_t rounds; /* after one that warms up; at most POL_BENCH_ROUNDS */
    pol_backend_options backend;
    uint64_t memory_limit; /* as of pol_memory_plan() */
} pol_bench_settings;
enum { POL_BENCH_ROUNDS = 1000 };

/* keep 0.5, batch 8, seq_len 128, 7 rounds; the model is left to the caller. */
POL_API void pol_bench_defaults(pol_bench_settings *o);

/* Medians over the rounds. A round is a dense pass, a change to a fresh random mask and a pass under it. A ratio is the
 * median of the rounds' ratios: what slows a whole round down is not in it. Where layers visit the device a pass is one
 * of as many as a visit serves, and rows change places in the pass. */
typedef struct pol_bench_result {
    pol_device_info device;
    const char *weights;  /* "f32"; a literal */
    pol_memory memory;    /* as planned */
    int64_t tokens;       /* of a pass */
    double kept;          /* share of decoder-block parameters under the last mask */
    double first_seconds; /* the round that warms up: what is built at first use is built in it */
    double dense_seconds, masked_seconds, change_seconds;
    double masked_over_dense, change_over_masked;
} pol_bench_result;

/* What the caller is told, a line at a time, without newline. NULL: nothing. */
typedef struct pol_bench_observer {
    void *user;
    void (*say)(void *user, const char *line);
} pol_bench_observer;

POL_API pol_status pol_bench(pol_context *ctx, const pol_bench_settings *o, const pol_bench_observer *watch,
                             pol_bench_result *result);

typedef struct pol_tune_result {
    pol_device_info device;
    double seconds;      /* that it took */
    double flops_before; /* a second, in the model's products: with the library's own parameters */
    double flops_after;  /* with the best found */
    int64_t tried;       /* sets of parameters that gave right results, measured here */
    bool kept;           /* the best found is faster by more than chance, and lies in `file` */
    char file[512];      /* "" where nothing is kept */
} pol_tune_result;

/* Looks for the parameters of the vendor's BLAS that suit this model's products on the device of o->backend, for about
 * `seconds`, and keeps them for every later open of the device. With OpenCL it runs CLBlast's own tuners, programs that
 * have to be on the PATH (docs/opencl.md). POL_EUNSUPPORTED: a backend that has nothing to tune, tuners that are not
 * installed. To be called with no backend open: such parameters belong to the whole process. */
POL_API pol_status pol_bench_tune(pol_context *ctx, const pol_bench_settings *o, double seconds,
                                  const pol_bench_observer *watch, pol_tune_result *result);

#ifdef __cplusplus
}
#endif
#endif
