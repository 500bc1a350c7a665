/* test_opencl_identities.c - the identities on an OpenCL device, under every profile that keeps weights in f32. */
#include "tests/opencl/profiles.h"
#include "tests/ops/identities.h"

enum { SKIPPED = 77 };

int main(void)
{
    pol_context *ctx;
    int failed = 0;
    if (pol_context_new(NULL, &ctx) < 0)
        return 1;
    for (size_t p = 0; p < n_test_profiles; p++) {
        if (test_profiles[p].weights != POL_F32)
            continue;
        pol_backend *be = open_profile(ctx, &test_profiles[p]);
        if (!be) {
            pol_context_free(ctx);
            return SKIPPED;
        }
        failed += check_identities(test_profiles[p].name, be);
        pol_backend_close(be);
    }
    pol_context_free(ctx);
    return failed;
}
