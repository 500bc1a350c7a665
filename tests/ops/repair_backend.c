/* repair_backend.c - the host's processor; or device 0 of the backend that $POLLARD_TEST_REPAIR names. */
#include "tests/ops/repair_backend.h"

#include <stdlib.h>

pol_status open_repair_backend(pol_context *ctx, pol_backend **out)
{
    const char *name = getenv("POLLARD_TEST_REPAIR");
    if (name)
        return pol_backend_open(ctx, &(pol_backend_options){.name = name}, out);
    return pol_backend_open_host(ctx, 1, out);
}
