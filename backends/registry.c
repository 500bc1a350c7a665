/* registry.c - which devices there are, and opening one of them by name, by index or by choice. */
#include <stdio.h>
#include <string.h>

#include "backends/choose.h"
#include "backends/drivers.h"

enum { MAX_DEVICES = 64 };

const char *const pol_device_type_names[] = {[POL_DEVICE_CPU] = "CPU",
                                             [POL_DEVICE_GPU] = "GPU",
                                             [POL_DEVICE_ACCELERATOR] = "accelerator",
                                             [POL_DEVICE_OTHER] = "other",
                                             NULL};

/* In the order in which "auto" prefers them. Without a driver: not in this build. */
static const struct {
    const char *name;
    const pol_backend_driver *driver;
} backends[] = {
#if defined(POLLARD_HAVE_OPENCL)
    {"opencl", &pol_driver_opencl},
#else
    {"opencl", NULL},
#endif
    {"cpu", &pol_driver_cpu},
};

/* Appends the devices of a backend to `list`, and says what stands in the way of others. `asked`: it was asked for by
 * name. */
static pol_status ask_backend(pol_context *ctx, size_t i, bool asked, pol_device_info *list, int64_t *n,
                              pol_backend_summary *about)
{
    const int64_t before = *n;
    *about = (pol_backend_summary){.built = backends[i].driver != NULL};
    snprintf(about->name, sizeof about->name, "%s", backends[i].name);
    pol_status s = POL_OK;
    if (about->built)
        s = backends[i].driver->list(ctx, list, MAX_DEVICES, n, about->note);
    else
        snprintf(about->note, sizeof about->note, "not in this build: it takes OpenCL and CLBlast (docs/building.md)");
    about->n_devices = *n - before;
    return s == POL_EDEVICE && !asked ? POL_OK : s; /* it stands in the way of its own devices only */
}

/* Both of the backend called `name`, or of all where it is NULL: a driver that is not asked for is not woken. *devices
 * and *about, of room for all, are yours: pol_free(). */
static pol_status survey(pol_context *ctx, const char *name, pol_device_info **devices, int64_t *n_devices,
                         pol_backend_summary **about, int64_t *n_about)
{
    *n_devices = *n_about = 0;
    *devices = pol_alloc_zero(ctx, MAX_DEVICES * sizeof **devices);
    *about = *devices ? pol_alloc_zero(ctx, POL_COUNT(backends) * sizeof **about) : NULL;
    pol_status s = *about ? POL_OK : POL_ENOMEM;
    for (size_t i = 0; i < POL_COUNT(backends) && s == POL_OK; i++)
        if (!name || strcmp(backends[i].name, name) == 0)
            s = ask_backend(ctx, i, name != NULL, *devices, n_devices, &(*about)[(*n_about)++]);
    if (s < 0) {
        pol_free(ctx, *devices);
        pol_free(ctx, *about);
        *devices = NULL;
        *about = NULL;
    }
    return s;
}

pol_status pol_device_list(pol_context *ctx, pol_device_info **out, int64_t *n)
{
    pol_backend_summary *about;
    int64_t n_about;
    POL_TRY(survey(ctx, NULL, out, n, &about, &n_about));
    pol_free(ctx, about);
    return POL_OK;
}

pol_status pol_backend_list(pol_context *ctx, pol_backend_summary **out, int64_t *n)
{
    pol_device_info *devices;
    int64_t n_devices;
    POL_TRY(survey(ctx, NULL, &devices, &n_devices, out, n));
    pol_free(ctx, devices);
    return POL_OK;
}

void pol_device_list_free(pol_context *ctx, pol_device_info *list) { pol_free(ctx, list); }

void pol_backend_list_free(pol_context *ctx, pol_backend_summary *list) { pol_free(ctx, list); }

static bool is_known(const char *name)
{
    for (size_t i = 0; i < POL_COUNT(backends); i++)
        if (strcmp(backends[i].name, name) == 0)
            return true;
    return false;
}

static pol_status unknown_backend(pol_context *ctx, const char *name)
{
    pol_bytes known = {.ctx = ctx};
    pol_status s = POL_OK;
    for (size_t i = 0; i < POL_COUNT(backends) && s == POL_OK; i++)
        s = pol_bytes_printf(&known, "%s, ", backends[i].name);
    if (s == POL_OK)
        s = pol_fail(ctx, POL_EARG, "backend: '%s' is none of %sauto", name, known.data);
    pol_bytes_free(&known);
    return s;
}

static const pol_backend_driver *find_driver(const char *name)
{
    for (size_t i = 0; i < POL_COUNT(backends); i++)
        if (strcmp(backends[i].name, name) == 0)
            return backends[i].driver;
    return NULL;
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

/* The device that `o` means. */
static pol_status choose(pol_context *ctx, const pol_backend_options *o, pol_device_info *out)
{
    const char *name = o->name && strcmp(o->name, "auto") != 0 ? o->name : NULL;
    if (name && !is_known(name))
        return unknown_backend(ctx, name);
    pol_device_info *list;
    const pol_device_info *device;
    pol_backend_summary *about;
    int64_t n, n_about;
    POL_TRY(survey(ctx, name, &list, &n, &about, &n_about));
    pol_status s = name && n == 0 ? pol_fail(ctx, POL_EARG, "backend %s: %s", name, about[0].note)
                                  : pol_device_choose(ctx, name, o->device, list, n, &device);
    if (s == POL_OK)
        *out = *device;
    pol_free(ctx, list);
    pol_free(ctx, about);
    return s;
}

pol_status pol_backend_open(pol_context *ctx, const pol_backend_options *o, pol_backend **out)
{
    static const pol_backend_options automatic;
    pol_device_info device;
    *out = NULL;
    o = o ? o : &automatic;
    POL_TRY(choose(ctx, o, &device));
    return open_device(ctx, &device, o, out);
}

pol_status pol_backend_tune(pol_context *ctx, const pol_backend_options *o, const pol_tune_job *job,
                            pol_tune_result *result)
{
    memset(result, 0, sizeof *result);
    POL_TRY(choose(ctx, o, &result->device));
    const pol_backend_driver *driver = find_driver(result->device.backend);
    if (!driver->tune)
        return pol_fail(ctx, POL_EUNSUPPORTED, "backend %s: there is nothing to tune", driver->name);
    return driver->tune(ctx, &result->device, job, result);
}

void pol_backend_close(pol_backend *be)
{
    if (be)
        be->ops->close(be);
}

const pol_device_info *pol_backend_info(const pol_backend *be) { return &be->info; }

const char *pol_backend_weights(const pol_backend *be) { return pol_dtype_name(be->weight_dtype); }
