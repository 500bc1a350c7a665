/* ops_check.h - what the front doors of ops.c and ops_host.c check alike. */
#ifndef POL_OPS_CHECK_H
#define POL_OPS_CHECK_H

#include "core/backend.h"

typedef struct pol_dimension {
    const char *name;
    int64_t value, min;
} pol_dimension;

static inline pol_status pol_check_dimensions(pol_backend *be, const char *op, const pol_dimension *d, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (d[i].value < d[i].min)
            return pol_fail(be->ctx, POL_EARG, "%s: %s: %lld is below %lld", op, d[i].name, (long long)d[i].value,
                            (long long)d[i].min);
    return POL_OK;
}

#define CHECK_DIMENSIONS(be, op, ...)                                          \
    POL_TRY(pol_check_dimensions(be, op, (const pol_dimension[]){__VA_ARGS__}, \
                                 sizeof((const pol_dimension[]){__VA_ARGS__}) / sizeof(pol_dimension)))

#endif
