/* repair_backend.c - the host's processor. */
#include "tests/ops/repair_backend.h"

pol_status open_repair_backend(pol_context *ctx, pol_backend **out) { return pol_backend_open_host(ctx, 1, out); }
