/* module.c - the library's one symbol. */
#include "backends/module.h"

#include "backends/cuda/cuda.h"
#include "pollard/version.h"

static const pol_module about = {
    .abi = POL_OPS_ABI, .ops_size = sizeof(pol_ops), .version = POL_VERSION_STRING, .driver = &pol_driver_cuda};

POL_API const pol_module *pol_module_about(void);

const pol_module *pol_module_about(void) { return &about; }
