/* profiles.h - the ways in which the tests use an OpenCL device, whatever its own report would have chosen. */
#ifndef POL_TEST_PROFILES_H
#define POL_TEST_PROFILES_H

#include "backends/opencl/opencl.h"
#include "tests/test.h"

typedef struct test_profile {
    const char *name;
    bool own; /* what the device reports; else what follows */
    bool barriers;
    int vector, group;
    uint64_t piece_bytes; /* of buffers of several rows; 0: as the device reports */
    uint64_t local_bytes; /* 0: as the device reports */
    int64_t slice_rows;   /* 0: the usual */
    pol_dtype weights;
} test_profile;

extern const test_profile test_profiles[];
extern const size_t n_test_profiles;

/* A backend on OpenCL device 0, or NULL where no driver has one: the test then skips, or fails where
 * POLLARD_TEST_OPENCL=required. */
pol_backend *open_profile(pol_context *ctx, const test_profile *p);

#endif
