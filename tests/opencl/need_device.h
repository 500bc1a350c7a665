/* need_device.h - for tests that start the program. */
#ifndef POL_TEST_NEED_DEVICE_H
#define POL_TEST_NEED_DEVICE_H

#include "tests/cli/program.h"

/* Without a device the test skips, or fails where POLLARD_TEST_OPENCL=required. */
static inline void need_device(cli *t)
{
    const char *need = getenv("POLLARD_TEST_OPENCL");
    json_t *j = call_json(t, "devices --json"), *d;
    size_t i;
    bool found = false;
    json_array_foreach(at(j, "devices"), i, d) found |= !strcmp(text(d, "backend"), "opencl");
    json_decref(j);
    if (found)
        return;
    if (need && !strcmp(need, "required"))
        fail_msg("no OpenCL device, but POLLARD_TEST_OPENCL=required");
    skip();
}

#endif
