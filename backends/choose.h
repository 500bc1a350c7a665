/* choose.h - which device, or devices, of a list are meant. */
#ifndef POL_CHOOSE_H
#define POL_CHOOSE_H

#include "core/base/base.h"
#include "pollard/device.h"

/* The rules of pol_backend_options. `backend` NULL: auto; else `list` has devices of that one alone. *out is of `list`.
 * POL_EARG: the device is not there, or is one of several so called. POL_EUNSUPPORTED: it cannot be used. */
pol_status pol_device_choose(pol_context *ctx, const char *backend, const char *device, const pol_device_info *list,
                             int64_t n, const pol_device_info **out);

/* Those of pol_backend_open_all: `devices` names one or, with commas between, several, or is "all". out [n], *n_out of
 * them set, in the order in which they are named. */
pol_status pol_devices_choose(pol_context *ctx, const char *backend, const char *devices, const pol_device_info *list,
                              int64_t n, const pol_device_info **out, int64_t *n_out);

#endif
