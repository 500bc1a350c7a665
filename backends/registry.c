/* registry.c - which devices there are, and opening one of them by name, by index or by choice. */
#include <stdio.h>
#include <string.h>

#include "backends/drivers.h"

enum { MAX_DEVICES = 64 };

/* In the order in which "auto" prefers them. */
static const pol_backend_driver *const drivers[] = {
#if defined(POLLARD_HAVE_OPENCL)
    &pol_driver_opencl,
#endif
    &pol_driver_cpu};

/* Devices of the backend called `name`, or of all where it is NULL: a driver that is not asked for is not woken. */
static pol_status list_devices(pol_context *ctx, const char *name, pol_device_info **out, int64_t *n)
{
    *out = NULL;
    *n = 0;
    pol_device_info *list = pol_alloc_zero(ctx, MAX_DEVICES * sizeof *list);
    if (!list)
        return POL_ENOMEM;
    int64_t count = 0;
    for (size_t i = 0; i < POL_COUNT(drivers); i++) {
        if (name && strcmp(drivers[i]->name, name) != 0)
            continue;
        pol_status s = drivers[i]->list(ctx, list, MAX_DEVICES, &count);
        if (s < 0) {
            pol_free(ctx, list);
            return s;
        }
    }
    *out = list;
    *n = count;
    return POL_OK;
}

pol_status pol_device_list(pol_context *ctx, pol_device_info **out, int64_t *n)
{
    return list_devices(ctx, NULL, out, n);
}

void pol_device_list_free(pol_context *ctx, pol_device_info *list) { pol_free(ctx, list); }

static const pol_backend_driver *find_driver(const char *name)
{
    for (size_t i = 0; i < POL_COUNT(drivers); i++)
        if (strcmp(drivers[i]->name, name) == 0)
            return drivers[i];
    return NULL;
}

static pol_status unknown_backend(pol_context *ctx, const char *name)
{
    pol_bytes known = {.ctx = ctx};
    pol_status s = POL_OK;
    for (size_t i = 0; i < POL_COUNT(drivers) && s == POL_OK; i++)
        s = pol_bytes_printf(&known, "%s%s", i ? ", " : "", drivers[i]->name);
    if (s == POL_OK)
        s = pol_fail(ctx, POL_EARG, "backend: '%s' is not one of this build's: %s", name, known.data);
    pol_bytes_free(&known);
    return s;
}

/* `device` is the name or the index, in decimal. */
static bool device_matches(const pol_device_info *d, const char *device)
{
    char index[16];
    snprintf(index, sizeof index, "%d", d->index);
    return strcmp(d->name, device) == 0 || strcmp(index, device) == 0;
}

/* The processor by way of another backend's driver: several times slower than by the cpu backend, so it is taken only
 * where it is asked for. */
static bool is_second_way(const pol_device_info *d) { return d->is_cpu && strcmp(d->backend, "cpu") != 0; }

static pol_status choose(pol_context *ctx, const char *name, const char *device, const pol_device_info *list, int64_t n,
                         const pol_device_info **out)
{
    const pol_device_info *refused = NULL;
    for (int64_t i = 0; i < n; i++) {
        const pol_device_info *d = &list[i];
        if (device ? !device_matches(d, device) : !name && is_second_way(d))
            continue;
        if (d->usable) {
            *out = d;
            return POL_OK;
        }
        if (!refused)
            refused = d;
    }
    if (refused)
        return pol_fail(ctx, POL_EARG, "device: %s %d (%s) cannot be used: %s", refused->backend, refused->index,
                        refused->name, refused->reason);
    return pol_fail(ctx, POL_EARG, "device: '%s' is not one of backend %s's", device ? device : "any",
                    name ? name : "auto");
}

static pol_status open_device(pol_context *ctx, const pol_device_info *d, const pol_backend_options *o,
                              pol_backend **out)
{
    pol_backend *be = NULL;
    POL_TRY(find_driver(d->backend)->open(ctx, d, o, &be));
    pol_status s = pol_ops_check(ctx, d->backend, be->ops);
    if (s < 0)
        return s; /* of a table of another version not even `close` can be called */
    *out = be;
    return POL_OK;
}

pol_status pol_backend_open(pol_context *ctx, const pol_backend_options *o, pol_backend **out)
{
    static const pol_backend_options automatic;
    *out = NULL;
    o = o ? o : &automatic;
    const char *name = o->name && strcmp(o->name, "auto") != 0 ? o->name : NULL;
    if (name && !find_driver(name))
        return unknown_backend(ctx, name);
    pol_device_info *list;
    const pol_device_info *device = NULL;
    int64_t n;
    POL_TRY(list_devices(ctx, name, &list, &n));
    pol_status s = choose(ctx, name, o->device, list, n, &device);
    if (s == POL_OK)
        s = open_device(ctx, device, o, out);
    pol_device_list_free(ctx, list);
    return s;
}

void pol_backend_close(pol_backend *be)
{
    if (be)
        be->ops->close(be);
}

const pol_device_info *pol_backend_info(const pol_backend *be) { return &be->info; }
