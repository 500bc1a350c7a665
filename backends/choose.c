/* choose.c - which device, or devices, of a list are meant. What is asked for is taken or refused, never replaced. */
#include "backends/choose.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define ALL "all"

/* Whether a device is the one asked for. */
typedef bool matches(const pol_device_info *d, const char *device);

static bool is_number(const char *s) { return *s && s[strspn(s, "0123456789")] == 0; }

static bool has_index(const pol_device_info *d, const char *device)
{
    char index[16];
    snprintf(index, sizeof index, "%d", d->index);
    return strcmp(index, device) == 0;
}

static bool has_name(const pol_device_info *d, const char *device) { return strcasecmp(d->name, device) == 0; }

static bool has_in_name(const pol_device_info *d, const char *device)
{
    const size_t n = strlen(device);
    for (const char *at = d->name; n && *at; at++)
        if (strncasecmp(at, device, n) == 0)
            return true;
    return false;
}

static int64_t count(matches *match, const char *device, const pol_device_info *list, int64_t n)
{
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++)
        found += match(&list[i], device);
    return found;
}

/* The failure `text`, followed by the devices that match (`match` NULL: all): "opencl 0 (NAME), opencl 1 (NAME)". */
static pol_status fail_listing(pol_context *ctx, const char *text, matches *match, const char *device,
                               const pol_device_info *list, int64_t n)
{
    pol_bytes names = {.ctx = ctx};
    pol_status s = POL_OK;
    for (int64_t i = 0; i < n && s == POL_OK; i++)
        if (!match || match(&list[i], device))
            s = pol_bytes_printf(&names, "%s%s %d (%s)", names.len ? ", " : "", list[i].backend, list[i].index,
                                 list[i].name);
    if (s == POL_OK)
        s = pol_fail(ctx, POL_EARG, "device: '%s' %s: %s", device, text, names.len ? names.data : "none");
    pol_bytes_free(&names);
    return s;
}

static pol_status take(pol_context *ctx, const pol_device_info *d, const pol_device_info **out)
{
    if (!d->usable)
        return pol_fail(ctx, POL_EUNSUPPORTED, "device: %s %d (%s) cannot be used: %s", d->backend, d->index, d->name,
                        d->reason);
    *out = d;
    return POL_OK;
}

static pol_status choose_asked(pol_context *ctx, const char *device, const pol_device_info *list, int64_t n,
                               const pol_device_info **out)
{
    matches *const by_name = count(has_name, device, list, n) ? has_name : has_in_name;
    matches *const match = is_number(device) ? has_index : by_name;
    const int64_t found = count(match, device, list, n);
    if (!found && (strchr(device, ',') || strcmp(device, ALL) == 0))
        return pol_fail(ctx, POL_EARG, "device: '%s' stands for several devices, and one is wanted here", device);
    if (!found)
        return fail_listing(ctx, "is none of the devices", NULL, device, list, n);
    if (found > 1)
        return fail_listing(ctx, "is more than one; --backend and an index say which", match, device, list, n);
    int64_t i = 0;
    while (!match(&list[i], device))
        i++;
    return take(ctx, &list[i], out);
}

/* The processor by way of another backend's driver is several times slower than by the cpu backend: it is taken only
 * where that backend is asked for. */
static pol_status choose_best(pol_context *ctx, bool asked, const pol_device_info *list, int64_t n,
                              const pol_device_info **out)
{
    const pol_device_info *processor = NULL;
    for (int64_t i = 0; i < n; i++) {
        const pol_device_info *d = &list[i];
        if (d->usable && d->type != POL_DEVICE_CPU)
            return take(ctx, d, out);
        if (d->usable && !processor && (asked || strcmp(d->backend, "cpu") == 0))
            processor = d;
    }
    if (!processor && !n)
        return pol_fail(ctx, POL_EARG, "device: there is none");
    return take(ctx, processor ? processor : &list[0], out); /* the first tells why it cannot be used */
}

pol_status pol_device_choose(pol_context *ctx, const char *backend, const char *device, const pol_device_info *list,
                             int64_t n, const pol_device_info **out)
{
    *out = NULL;
    if (!device)
        return choose_best(ctx, backend != NULL, list, n, out);
    if (!backend && is_number(device))
        return pol_fail(ctx, POL_EARG, "device: each backend counts its own: --backend says whose device %s is meant",
                        device);
    return choose_asked(ctx, device, list, n, out);
}

/* Every device like the one that would be taken alone. */
static pol_status choose_all(pol_context *ctx, const char *backend, const pol_device_info *list, int64_t n,
                             const pol_device_info **out, int64_t *n_out)
{
    const pol_device_info *best;
    POL_TRY(choose_best(ctx, backend != NULL, list, n, &best));
    if (best->type == POL_DEVICE_CPU) { /* the processor is there once, however many drivers it has */
        out[(*n_out)++] = best;
        return POL_OK;
    }
    for (int64_t i = 0; i < n; i++)
        if (list[i].usable && list[i].type != POL_DEVICE_CPU && strcmp(list[i].backend, best->backend) == 0)
            out[(*n_out)++] = &list[i];
    return POL_OK;
}

/* The device called `name` beside those chosen before it. */
static pol_status choose_next(pol_context *ctx, const char *backend, const char *name, const pol_device_info *list,
                              int64_t n, const pol_device_info **out, int64_t *n_out)
{
    const pol_device_info *d;
    POL_TRY(pol_device_choose(ctx, backend, name, list, n, &d));
    for (int64_t i = 0; i < *n_out; i++) {
        if (out[i] == d)
            return pol_fail(ctx, POL_EARG, "device: %s %d (%s) is named twice", d->backend, d->index, d->name);
        if (strcmp(out[i]->backend, d->backend) != 0)
            return pol_fail(ctx, POL_EARG,
                            "device: %s %d (%s) and %s %d (%s) are of different backends: their numbers would differ",
                            out[i]->backend, out[i]->index, out[i]->name, d->backend, d->index, d->name);
    }
    out[(*n_out)++] = d;
    return POL_OK;
}

pol_status pol_devices_choose(pol_context *ctx, const char *backend, const char *devices, const pol_device_info *list,
                              int64_t n, const pol_device_info **out, int64_t *n_out)
{
    *n_out = 0;
    if (!devices || count(has_name, devices, list, n)) /* a name may have commas */
        return choose_next(ctx, backend, devices, list, n, out, n_out);
    if (strcmp(devices, ALL) == 0)
        return choose_all(ctx, backend, list, n, out, n_out);
    pol_status s = POL_OK;
    for (const char *at = devices, *end; at && s == POL_OK; at = *end ? end + 1 : NULL) {
        at += strspn(at, " ");
        end = strchrnul(at, ',');
        char *name = pol_strndup(ctx, at, (size_t)(end - at));
        s = name ? choose_next(ctx, backend, name, list, n, out, n_out) : POL_ENOMEM;
        pol_free(ctx, name);
    }
    return s;
}
