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

/* In the order in which "auto" prefers them. */
static const struct {
    const char *name;
    const pol_backend_driver *driver; /* NULL: a module's, or not in this build */
    const char *needs;                /* of a module, NULL for the others: what has the libraries that it needs */
} backends[] = {
    {"cuda", NULL, "NVIDIA's libcublas of that version (docs/cuda.md)"},
#if defined(POLLARD_HAVE_OPENCL)
    {"opencl", &pol_driver_opencl, NULL},
#else
    {"opencl", NULL, NULL},
#endif
    {"cpu", &pol_driver_cpu, NULL},
};

/* The driver of a backend; without one *out is NULL, and about->note says why. */
static pol_status find_driver(pol_context *ctx, size_t i, pol_backend_summary *about, const pol_backend_driver **out)
{
    *about = (pol_backend_summary){.built = backends[i].driver != NULL};
    *out = backends[i].driver;
    snprintf(about->name, sizeof about->name, "%s", backends[i].name);
    if (backends[i].needs)
        return pol_module_open(ctx, about, backends[i].needs, out);
    if (!*out)
        snprintf(about->note, sizeof about->note, "not in this build: it takes OpenCL and CLBlast (docs/building.md)");
    return POL_OK;
}

/* That of a device in a list: it had one when it was listed. */
static pol_status driver_of(pol_context *ctx, const pol_device_info *d, const pol_backend_driver **out)
{
    pol_backend_summary about = {.built = false};
    *out = NULL;
    for (size_t i = 0; i < POL_COUNT(backends); i++)
        if (strcmp(backends[i].name, d->backend) == 0)
            POL_TRY(find_driver(ctx, i, &about, out));
    return *out ? POL_OK : pol_fail(ctx, POL_EARG, "backend %s: %s", d->backend, about.note);
}

/* Appends the devices of a backend to `list`, and says what stands in the way of others. `asked`: it was asked for by
 * name. */
static pol_status ask_backend(pol_context *ctx, size_t i, bool asked, pol_device_info *list, int64_t *n,
                              pol_backend_summary *about)
{
    const int64_t before = *n;
    const pol_backend_driver *driver;
    POL_TRY(find_driver(ctx, i, about, &driver));
    const pol_status s = driver ? driver->list(ctx, list, MAX_DEVICES, n, about->note) : POL_OK;
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

static pol_status open_device(pol_context *ctx, const pol_device_info *d, const pol_backend_options *o,
                              pol_backend **out)
{
    const pol_backend_driver *driver;
    pol_backend *be = NULL;
    POL_TRY(driver_of(ctx, d, &driver));
    POL_TRY(driver->open(ctx, d, o, &be));
    pol_status s = pol_ops_check(ctx, d->backend, be->ops);
    if (s < 0)
        return s; /* of a table of another version not even `close` can be called */
    *out = be;
    return POL_OK;
}

/* The device that `o` means; the devices, where `several` are allowed. *out is yours: pol_free(). */
static pol_status choose(pol_context *ctx, const pol_backend_options *o, bool several, pol_device_info **out,
                         int64_t *n_out)
{
    const char *name = o->name && strcmp(o->name, "auto") != 0 ? o->name : NULL;
    if (name && !is_known(name))
        return unknown_backend(ctx, name);
    pol_device_info *list;
    pol_backend_summary *about;
    const pol_device_info *chosen[MAX_DEVICES];
    int64_t n, n_about;
    *out = NULL;
    *n_out = 1;
    POL_TRY(survey(ctx, name, &list, &n, &about, &n_about));
    pol_status s = POL_OK;
    if (name && n == 0)
        s = pol_fail(ctx, POL_EARG, "backend %s: %s", name, about[0].note);
    else if (several)
        s = pol_devices_choose(ctx, name, o->device, list, n, chosen, n_out);
    else
        s = pol_device_choose(ctx, name, o->device, list, n, chosen);
    if (s == POL_OK && !(*out = pol_alloc_array(ctx, *n_out, sizeof **out)))
        s = POL_ENOMEM;
    for (int64_t i = 0; s == POL_OK && i < *n_out; i++)
        (*out)[i] = *chosen[i];
    pol_free(ctx, list);
    pol_free(ctx, about);
    return s;
}

static const pol_backend_options automatic;

pol_status pol_backend_open(pol_context *ctx, const pol_backend_options *o, pol_backend **out)
{
    pol_device_info *device;
    int64_t one;
    *out = NULL;
    o = o ? o : &automatic;
    POL_TRY(choose(ctx, o, false, &device, &one));
    const pol_status s = open_device(ctx, device, o, out);
    pol_free(ctx, device);
    return s;
}

pol_status pol_backend_open_host(pol_context *ctx, int32_t threads, pol_backend **out)
{
    return pol_backend_open(ctx, &(pol_backend_options){.name = pol_driver_cpu.name, .threads = threads}, out);
}

/* Devices of two kinds round differently. */
static void note_kinds(pol_context *ctx, const pol_device_info *d, int64_t n)
{
    for (int64_t i = 1; i < n; i++)
        if (strcmp(d[i].name, d[0].name) != 0) {
            pol_log(ctx, POL_LOG_WARN,
                    "%s %d is a %s and %s %d a %s: the last digit of a loss depends on which of them computes it",
                    d[0].backend, d[0].index, d[0].name, d[i].backend, d[i].index, d[i].name);
            return;
        }
}

pol_status pol_backend_open_all(pol_context *ctx, const pol_backend_options *o, pol_backend ***out, int64_t *n)
{
    pol_device_info *devices;
    int64_t chosen;
    *out = NULL;
    *n = 0;
    o = o ? o : &automatic;
    POL_TRY(choose(ctx, o, true, &devices, &chosen));
    pol_backend **list = pol_alloc_zero(ctx, (size_t)chosen * sizeof *list);
    pol_status s = list ? POL_OK : POL_ENOMEM;
    note_kinds(ctx, devices, chosen);
    for (int64_t i = 0; s == POL_OK && i < chosen; i++)
        s = open_device(ctx, &devices[i], o, &list[i]);
    pol_free(ctx, devices);
    if (s < 0) {
        pol_backend_close_all(ctx, list, chosen);
        return s;
    }
    *out = list;
    *n = chosen;
    return POL_OK;
}

void pol_backend_close_all(pol_context *ctx, pol_backend **list, int64_t n)
{
    for (int64_t i = 0; list && i < n; i++)
        pol_backend_close(list[i]);
    pol_free(ctx, list);
}

pol_status pol_backend_tune(pol_context *ctx, const pol_backend_options *o, const pol_tune_job *job,
                            pol_tune_result *result)
{
    memset(result, 0, sizeof *result);
    const pol_backend_driver *driver;
    pol_device_info *device;
    int64_t one;
    POL_TRY(choose(ctx, o, false, &device, &one));
    result->device = *device;
    pol_free(ctx, device);
    POL_TRY(driver_of(ctx, &result->device, &driver));
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
