/* tuner.h - CLBlast's tuners, which are programs: one run of one of them. No OpenCL in here. */
#ifndef POL_TUNER_H
#define POL_TUNER_H

#include "backends/opencl/tuning.h"

typedef struct ocl_tuner {
    const char *program; /* on the PATH */
    const char *family;  /* its results are clblast_FAMILY_32.json, or clblast_FAMILY_N_32.json of its parts */
    ocl_tuned kernel;
} ocl_tuner;

typedef struct ocl_tuner_call {
    int platform, device; /* as the loader numbers them */
    int64_t m, n, k;      /* k 0: the tuner takes none */
    int fraction;         /* one in so many sets of parameters is tried, chosen at random */
    double seconds;       /* after which it is ended */
} ocl_tuner_call;

typedef struct ocl_tuner_part {
    ocl_kernel_tuning parameters;
    double milliseconds;
} ocl_tuner_part;

enum { OCL_TUNER_PARTS = 4 };

/* Runs the tuner in a temporary folder inside `folder`, and waits. Each part of it that came to its end has a result;
 * what crashes, is ended or leaves something else has none, and the log says so. POL_EUNSUPPORTED: it is not installed;
 * POL_EINTERRUPTED: pol_context_stop(), and it has been ended. */
pol_status ocl_tuner_run(pol_context *ctx, const char *folder, const ocl_tuner *t, const ocl_tuner_call *call,
                         ocl_tuner_part out[OCL_TUNER_PARTS], int *n);

double ocl_seconds(void); /* monotonic clock */

#endif
