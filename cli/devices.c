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

static int print_devices_json(const pol_device_info *list, int64_t n)
{
    json_t *devices = json_array();
    for (int64_t i = 0; i < n; i++)
        json_array_append_new(devices, pol_device_json(&list[i]));
    return cli_print_json(json_pack("{so}", "devices", devices));
}

static void print_device(const pol_device_info *d)
{
    char memory[32];
    printf("%-7s %d  %s, %s%s%s\n", d->backend, d->index, d->name, cli_bytes(memory, (double)d->memory_bytes),
           d->usable ? "; " : "; not usable: ", d->usable ? d->detail : d->reason);
}

int cmd_devices(pol_context *ctx, int argc, char **argv)
{
    devices_args a = {0};
    cli_option options[N_OPTIONS];
    int n_args;
    make_options(&a, options);
    if (!cli_parse("devices", options, argc, argv, NULL, 0, &n_args))
        return EXIT_USAGE;
    pol_device_info *list;
    int64_t n;
    const pol_status s = pol_device_list(ctx, &list, &n);
    if (s < 0)
        return cli_failed(ctx, "devices", s);
    const int code = a.json ? print_devices_json(list, n) : EXIT_DONE;
    for (int64_t i = 0; i < n && !a.json && !a.quiet; i++)
        print_device(&list[i]);
    pol_device_list_free(ctx, list);
    return code;
}
