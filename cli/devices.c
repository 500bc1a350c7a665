/* devices.c - `pollard devices`. */
#include <stdio.h>

#include "cli.h"
#include "pollard/json.h"

void help_devices(void) { puts("  --json                         print the result as one JSON object"); }

int cmd_devices(pol_context *ctx, int argc, char **argv)
{
    bool json = false;
    const cli_option options[] = {{"json", NULL, "", CLI_FLAG, &json, 0, 0, NULL}, {NULL, NULL, NULL, CLI_FLAG, NULL, 0, 0, NULL}};
    int n_args;
    if (!cli_parse("devices", options, argc, argv, NULL, 0, &n_args))
        return EXIT_USAGE;
    pol_device_info *list;
    int64_t n;
    const pol_status s = pol_device_list(ctx, &list, &n);
    if (s < 0)
        return cli_failed(ctx, "devices", s);
    int code = EXIT_DONE;
    if (json) {
        json_t *devices = json_array();
        for (int64_t i = 0; i < n; i++)
            json_array_append_new(devices, pol_device_json(&list[i]));
        code = cli_print_json(json_pack("{so}", "devices", devices));
    } else {
        for (int64_t i = 0; i < n; i++) {
            char memory[32];
            printf("%-7s %d  %s, %s%s%s\n", list[i].backend, list[i].index, list[i].name, cli_bytes(memory, (double)list[i].memory_bytes),
                   list[i].usable ? "; " : "; not usable: ", list[i].usable ? list[i].detail : list[i].reason);
        }
    }
    pol_device_list_free(ctx, list);
    return code;
}
