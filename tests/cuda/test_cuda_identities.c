/* test_cuda_identities.c - the identities on a simulated device, under every profile that changes what ops do. */
#include "tests/cuda/profiles.h"
#include "tests/ops/identities.h"

int main(void)
{
    pol_context *ctx;
    int failed = 0;
    if (pol_context_new(NULL, &ctx) < 0)
        return 1;
    for (size_t p = 0; p < n_test_profiles; p++) {
        if (test_profiles[p].use.staging_bytes) /* changes how operands get there, for which these are many and large */
            continue;
        pol_backend *be = open_profile(ctx, &test_profiles[p]);
        failed += check_identities(test_profiles[p].name, be);
        pol_backend_close(be);
    }
    pol_context_free(ctx);
    return failed;
}
