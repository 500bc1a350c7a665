/* order.c - a nested order by a metric of single units. */
#include <stdlib.h>

#include "core/repair/database.h"

typedef struct ranked {
    float metric;
    int32_t unit;
} ranked;

static int by_falling_metric(const void *pa, const void *pb)
{
    const ranked *a = pa, *b = pb;
    if (a->metric != b->metric)
        return a->metric < b->metric ? 1 : -1;
    return a->unit < b->unit ? -1 : 1;
}

pol_status pol_order_by_metric(pol_context *ctx, const float *metric, int64_t n, int32_t *order)
{
    ranked *r = pol_alloc_array(ctx, n, sizeof *r);
    if (!r)
        return POL_ENOMEM;
    for (int64_t i = 0; i < n; i++)
        r[i] = (ranked){metric[i], (int32_t)i};
    qsort(r, (size_t)n, sizeof *r, by_falling_metric);
    for (int64_t i = 0; i < n; i++)
        order[i] = r[i].unit;
    pol_free(ctx, r);
    return POL_OK;
}
