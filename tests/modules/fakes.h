/* fakes.h - tests of the program with the devices of fake.c: they begin with as many as there are by default, all in
 * order. */
#ifndef POL_TEST_FAKES_H
#define POL_TEST_FAKES_H

#include "tests/cli/program.h"

static inline int fakes_setup(void **state)
{
    static const char *const settings[] = {"FAKE_DEVICES", "FAKE_ODD",    "FAKE_SMALL",   "FAKE_MEMORY", "FAKE_HOST",
                                           "FAKE_METRIC",  "FAKE_BROKEN", "FAKE_PASS",    "FAKE_KILLS",  "FAKE_SLOW",
                                           "FAKE_FAR",     "FAKE_MOMENT", "FAKE_UNSOLVED"};
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        unsetenv(settings[i]);
    return cli_setup(state) || setenv("POLLARD_MODULE_DIR", POL_TEST_MODULES "/good", 1);
}

#endif
