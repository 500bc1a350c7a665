/* repair_backend.h - what test_repair_ops runs on: a program of it is linked with one of the files that say so. */
#ifndef POL_TEST_REPAIR_BACKEND_H
#define POL_TEST_REPAIR_BACKEND_H

#include "core/backend.h"

/* On success the backend is yours: pol_backend_close(). */
pol_status open_repair_backend(pol_context *ctx, pol_backend **out);

#endif
