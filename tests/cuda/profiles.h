/* profiles.h - simulated machines, and the ways in which a device can be used that tests try. */
#ifndef POL_TEST_CUDA_PROFILES_H
#define POL_TEST_CUDA_PROFILES_H

#include "backends/cuda/cuda.h"
#include "tests/cuda/sim/sim_control.h"
#include "tests/test.h"

typedef struct test_profile {
    const char *name;
    const char *ops; /* whose results it may change, ' ' around each; NULL: all */
    int64_t max_S;   /* of sequences: long ones take long on a simulated device; 0: any */
    cu_profile use;  /* 0: as the device reports */
} test_profile;

extern const test_profile test_profiles[];
extern const size_t n_test_profiles;

/* Opens device 0 so. On success the backend is yours: pol_backend_close(). */
pol_backend *open_profile(pol_context *ctx, const test_profile *p);
/* With a staging ring of parts of so many bytes, which goes round at once. */
pol_backend *open_small(pol_context *ctx, size_t staging_bytes);

enum { NO_DEVICE = 0, OLD_DRIVER = -1, NO_DRIVER = -2 };

/* A machine just switched on, of so many devices of so many bytes (0: the simulator's default). */
void switch_on(int devices, uint64_t memory_bytes);

/* Nothing is left of what was opened, and nothing was asked for that the simulator calls a misuse. */
void assert_clean(void);

#endif
