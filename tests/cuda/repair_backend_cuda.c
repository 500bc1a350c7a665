/* repair_backend_cuda.c - a simulated device, with little staging, so that matrices come and go in pieces. */
#include "tests/cuda/profiles.h"
#include "tests/ops/repair_backend.h"

pol_status open_repair_backend(pol_context *ctx, pol_backend **out)
{
    *out = open_small(ctx, 4096);
    return POL_OK;
}
