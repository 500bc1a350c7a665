/* test_opencl_device.c - where a driver is expected (POLLARD_TEST_OPENCL=required) there is a device that can be used:
 * the tests of the backend are then not left out in silence. */
#include "tests/opencl/profiles.h"

int main(void)
{
    const char *need = getenv("POLLARD_TEST_OPENCL");
    const bool required = need && strcmp(need, "required") == 0;
    pol_context *ctx;
    pol_device_info *list;
    int64_t n, usable = 0;
    if (pol_context_new(NULL, &ctx) != POL_OK || pol_device_list(ctx, &list, &n) != POL_OK)
        return 1;
    for (int64_t i = 0; i < n; i++) {
        const pol_device_info *d = &list[i];
        if (strcmp(d->backend, "opencl") != 0)
            continue;
        printf("opencl %d: %s, %s%s%s\n", d->index, d->name, d->detail, d->usable ? "" : "; not usable: ", d->reason);
        usable += d->usable;
    }
    pol_device_list_free(ctx, list);
    pol_context_free(ctx);
    if (usable)
        return 0;
    printf("no OpenCL device: %s\n", required ? "one is required" : "the tests of the backend are skipped");
    return required ? 1 : 77;
}
