/* devices.c - `pollard devices`. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "pollard/json.h"

typedef struct devices_args {
    bool json, quiet;
} devices_args;

enum { N_OPTIONS = 3 };

static void make_options(devices_args *a, cli_option out[N_OPTIONS])
{
    const cli_option table[N_OPTIONS] = {
        {"json", NULL, "print the result as one JSON object", CLI_FLAG, &a->json, 0, 0, NULL},
        {"quiet", NULL, "print nothing on success", CLI_FLAG, &a->quiet, 0, 0, NULL},
        {NULL, NULL, NULL, CLI_FLAG, NULL, 0, 0, NULL},
    };
    memcpy(out, table, sizeof table);
}

void help_devices(void)
{
    devices_args a = {0};
    cli_option options[N_OPTIONS];
    make_options(&a, options);
    cli_print_options(options);
}

/* What there is, and what stands in the way of more. */
typedef struct listing {
    pol_device_info *devices;
    pol_backend_summary *backends;
    int64_t n_devices, n_backends;
} listing;

static int print_listing_json(const listing *l)
{
    json_t *devices = json_array(), *backends = json_array();
    for (int64_t i = 0; i < l->n_devices; i++)
        json_array_append_new(devices, pol_device_json(&l->devices[i]));
    for (int64_t i = 0; i < l->n_backends; i++)
        json_array_append_new(backends, pol_backend_json(&l->backends[i]));
    return cli_print_json(json_pack("{so so}", "devices", devices, "backends", backends));
}

static void print_device(const pol_device_info *d)
{
    char memory[32], buffer[32];
    printf("%-7s %d  %s\n", d->backend, d->index, d->name);
    if (d->platform[0])
        printf("%11splatform  %s\n", "", d->platform);
    printf("%11stype      %s, %s fp16\n", "", pol_device_type_names[d->type], d->fp16 ? "with" : "no");
    printf("%11smemory    %s%s, a buffer up to %s\n", "", cli_bytes(memory, (double)d->memory_bytes),
           d->host_memory ? " of the host's" : "", cli_bytes(buffer, (double)d->max_buffer_bytes));
    printf("%11sdetail    %s\n", "", d->detail);
    if (!d->usable)
        printf("%11snot usable: %s\n", "", d->reason);
}

static void print_listing(const listing *l)
{
    for (int64_t i = 0; i < l->n_devices; i++)
        print_device(&l->devices[i]);
    for (int64_t i = 0; i < l->n_backends; i++)
        if (l->backends[i].note[0])
            printf("%-7s -  %s\n", l->backends[i].name, l->backends[i].note);
}

int cmd_devices(pol_context *ctx, int argc, char **argv)
{
    devices_args a = {0};
    cli_option options[N_OPTIONS];
    listing l = {0};
    int n_args, code = EXIT_DONE;
    make_options(&a, options);
    if (!cli_parse("devices", options, argc, argv, NULL, 0, &n_args))
        return EXIT_USAGE;
    pol_status s = pol_device_list(ctx, &l.devices, &l.n_devices);
    if (s == POL_OK)
        s = pol_backend_list(ctx, &l.backends, &l.n_backends);
    if (s < 0)
        code = cli_failed(ctx, "devices", s);
    else if (a.json)
        code = print_listing_json(&l);
    else if (!a.quiet)
        print_listing(&l);
    pol_device_list_free(ctx, l.devices);
    pol_backend_list_free(ctx, l.backends);
    return code;
}
