/* profile.c - how a device is used, which follows from what it reports: never from its name. */
#include <limits.h>

#include "backends/opencl/opencl.h"

enum { USUAL_GROUP = 128, MOST_VECTOR = 16, SLICE_ROWS = 4096, MOST_DIMENSIONS = 16 };

/* CLBlast's kernels count elements in ints. */
static const uint64_t countable_bytes = (uint64_t)INT_MAX * sizeof(float);

/* The largest power of two that is at most `limit` and `most`; at least 1. */
static int power_of_two(uint64_t limit, int most)
{
    int n = 1;
    while (2 * n <= most && (uint64_t)(2 * n) <= limit)
        n *= 2;
    return n;
}

ocl_profile ocl_profile_from(const ocl_report *r)
{
    ocl_profile p = {.piece_bytes = r->alloc_bytes, .local_bytes = r->local_bytes, .slice_rows = SLICE_ROWS};
    if (p.piece_bytes > countable_bytes)
        p.piece_bytes = countable_bytes;
    p.piece_bytes -= p.piece_bytes % sizeof(cl_uint); /* which buffers are whole numbers of */
    p.align_bytes = r->align_bits > 8 * sizeof(float) ? r->align_bits / 8 : sizeof(float);
    p.vector = power_of_two(r->vector_width, MOST_VECTOR);
    p.group = power_of_two(r->group_items, USUAL_GROUP);
    p.barriers = !(r->type & CL_DEVICE_TYPE_CPU) && p.group > 1;
    return p;
}

pol_status ocl_profile_of(pol_context *ctx, cl_device_id device, ocl_profile *out)
{
    ocl_report r = {0};
    size_t items[MOST_DIMENSIONS] = {0};
    const struct {
        cl_device_info what;
        void *to;
        size_t size;
    } facts[] = {
        {CL_DEVICE_TYPE, &r.type, sizeof r.type},
        {CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, &r.vector_width, sizeof r.vector_width},
        {CL_DEVICE_MAX_WORK_GROUP_SIZE, &r.group_items, sizeof r.group_items},
        {CL_DEVICE_MAX_WORK_ITEM_SIZES, items, sizeof items},
        {CL_DEVICE_MAX_MEM_ALLOC_SIZE, &r.alloc_bytes, sizeof r.alloc_bytes},
        {CL_DEVICE_LOCAL_MEM_SIZE, &r.local_bytes, sizeof r.local_bytes},
        {CL_DEVICE_MEM_BASE_ADDR_ALIGN, &r.align_bits, sizeof r.align_bits},
    };
    for (size_t i = 0; i < POL_COUNT(facts); i++)
        OCL_TRY(ctx, "device", clGetDeviceInfo, device, facts[i].what, facts[i].size, facts[i].to, NULL);
    if (r.group_items > items[0]) /* groups lie along dimension 0 */
        r.group_items = items[0];
    *out = ocl_profile_from(&r);
    return POL_OK;
}
