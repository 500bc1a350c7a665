/* needs_absent.c - a module that needs a library which is not there when it is opened. */
#include "backends/module.h"

int pol_test_nothing(void);

POL_API pol_module_about_fn pol_module_about;

const pol_module *pol_module_about(void) { return pol_test_nothing() ? 0 : (const pol_module *)0; }
