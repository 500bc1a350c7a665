/* module.h - what a backend that is a library of its own, opened at run time, says of itself (backends/module.c). */
#ifndef POL_MODULE_H
#define POL_MODULE_H

#include "core/backend.h"

/* The one symbol of such a library: const pol_module *pol_module_about(void). It must come from the same build: it has
 * its own copy of core/base, and both sides work on the same contexts. */
typedef struct pol_module {
    uint32_t abi;        /* POL_OPS_ABI; the first member in every version */
    uint32_t ops_size;   /* sizeof(pol_ops) */
    const char *version; /* POL_VERSION_STRING */
    const pol_backend_driver *driver;
} pol_module;

typedef const pol_module *pol_module_about_fn(void);
#define POL_MODULE_ABOUT "pol_module_about"

#endif
