/* tuning.h - CLBlast's parameters as a set: what its tuners' results say, and what is kept of them on disk. Files only,
 * no OpenCL; tune.c says how a set is found and used.
 *
 * Kept under KEY.cltuning, one set for a device, its driver and a version of CLBlast (KEY is of these):
 *
 *   { "format": "pollard-clblast", "version": 1, "key": KEY,
 *     "device": ..., "clblast": ..., "gflops_before": ..., "gflops_after": ...,       for people; not read
 *     "kernels": { "Xgemm": { "MWG": 64, ... }, "GemmRoutine": { "XGEMM_MIN_INDIRECT_SIZE": 96 }, ... },
 *     "hash": XXH3-128 of "kernels", compact and sorted, hex digits }
 *
 * The hash finds damage: parameters that are out of tune with each other may give wrong products.
 */
#ifndef POL_TUNING_H
#define POL_TUNING_H

#include "core/base/base.h"

/* CLBlast's kernels that have a part in a product, by their names in CLBlastOverrideParameters. */
typedef enum ocl_tuned {
    OCL_XGEMM,        /* products, of padded and transposed copies where need be */
    OCL_XGEMM_DIRECT, /* small products, as they lie */
    OCL_COPY,
    OCL_PAD,
    OCL_TRANSPOSE,
    OCL_PADTRANSPOSE,
    OCL_GEMM_ROUTINE, /* which of the two a product is done with */
    OCL_TUNED
} ocl_tuned;
extern const char *const ocl_tuned_names[OCL_TUNED];
/* GemmRoutine's parameter: a product of fewer m n k than its cube is done directly. */
#define OCL_MIN_INDIRECT "XGEMM_MIN_INDIRECT_SIZE"

enum { OCL_PARAMETERS = 24, OCL_PARAMETER_NAME = 32, OCL_PARAMETER_MOST = 1 << 16 };

typedef struct ocl_parameter {
    char name[OCL_PARAMETER_NAME];
    int64_t value; /* 0..OCL_PARAMETER_MOST */
} ocl_parameter;

typedef struct ocl_kernel_tuning {
    int n; /* 0: CLBlast's own */
    ocl_parameter parameters[OCL_PARAMETERS];
} ocl_kernel_tuning;

typedef struct ocl_tuning {
    ocl_kernel_tuning kernels[OCL_TUNED];
} ocl_tuning;

/* What stands beside the parameters in a file. */
typedef struct ocl_tuning_facts {
    const char *device, *clblast;
    double flops_before, flops_after;
} ocl_tuning_facts;

bool ocl_same_parameters(const ocl_kernel_tuning *a, const ocl_kernel_tuning *b); /* in the same order */

/* The JSON file that a tuner of CLBlast's leaves: its best parameters and their time in milliseconds. POL_EFORMAT, with
 * `name` in the sentence, for what is none. */
pol_status ocl_tuner_result(pol_context *ctx, const char *name, const void *text, size_t n, ocl_kernel_tuning *out,
                            double *milliseconds);

/* What is kept for `key`. POL_EFORMAT: damaged, or of something else. */
pol_status ocl_tuning_parse(pol_context *ctx, const char *name, const void *text, size_t n, const char *key,
                            ocl_tuning *out);
/* *there false where nothing is kept; a file that cannot be used fails as above. */
pol_status ocl_tuning_read(pol_context *ctx, const char *path, const char *key, ocl_tuning *out, bool *there);
pol_status ocl_tuning_write(pol_context *ctx, const char *path, const char *key, const ocl_tuning *t,
                            const ocl_tuning_facts *facts);

/* A product, by size, and what it takes in either way. */
typedef struct ocl_both_ways {
    double volume, direct, indirect; /* m n k; seconds in all */
} ocl_both_ways;

/* The least indirect size with which n >= 1 products take the least time: the cube root of a volume between two
 * neighbours, or well outside all of them. Sorts w. */
int64_t ocl_least_indirect(ocl_both_ways *w, int64_t n);

#endif
