/* test_identities.c - the identities on the CPU. */
#include "tests/ops/identities.h"
#include "tests/test.h"

int main(void)
{
    pol_context *ctx;
    pol_backend *be;
    if (pol_context_new(NULL, &ctx) < 0 || pol_backend_open(ctx, &(pol_backend_options){.name = "cpu"}, &be) < 0)
        return 1;
    const int failed = check_identities("cpu", be);
    pol_backend_close(be);
    pol_context_free(ctx);
    return failed;
}
