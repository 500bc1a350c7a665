/* drivers.h - every backend that this build knows. A new one is a declaration here and a row in registry.c. */
#ifndef POL_DRIVERS_H
#define POL_DRIVERS_H

#include "core/backend.h"

extern const pol_backend_driver pol_driver_cpu;
extern const pol_backend_driver pol_driver_opencl; /* with POLLARD_HAVE_OPENCL */

/* The type that `o` asks for weights to be stored in, `automatic` where it leaves that open; POL_EARG where it names
 * none. */
pol_status pol_weights_asked(pol_context *ctx, const pol_backend_options *o, pol_dtype automatic, pol_dtype *out);

/* The driver in libpollard-NAME.so, NAME being about->name (module.c). Where there is none to be used *out is NULL,
 * which is no failure: about->note says why, with `needs` for what has the libraries that it needs. about->built: the
 * file is there. */
pol_status pol_module_open(pol_context *ctx, pol_backend_summary *about, const char *needs,
                           const pol_backend_driver **out);

/* A CPU backend whose ops are those of cpu/reference.c; not listed. For tests. On success *out is yours:
 * pol_backend_close(). */
pol_status pol_reference_open(pol_context *ctx, pol_backend **out);

#endif
