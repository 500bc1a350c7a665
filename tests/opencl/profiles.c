#include "tests/opencl/profiles.h"

#include <string.h>

/* Bytes in which every matrix of the conformance table lies in several pieces, if only for its fences. */
enum { SMALL_PIECE = 128 };

const test_profile test_profiles[] = {
    {.name = "as the device reports", .own = true, .weights = POL_F32},
    {.name = "work-groups", .barriers = true, .vector = 1, .group = 64, .local_bytes = 32 << 10, .weights = POL_F32},
    {.name = "work-items, 4 floats", .vector = 4, .group = 1, .weights = POL_F32},
    {.name = "f16, slices", .barriers = true, .vector = 2, .group = 16, .slice_rows = 7, .weights = POL_F16},
    {.name = "bf16, pieces, slices",
     .vector = 8,
     .group = 1,
     .piece_bytes = SMALL_PIECE,
     .slice_rows = 3,
     .weights = POL_BF16},
    {.name = "pieces", .barriers = true, .vector = 1, .group = 64, .piece_bytes = SMALL_PIECE, .weights = POL_F32},
};
const size_t n_test_profiles = POL_COUNT(test_profiles);

pol_backend *open_profile(pol_context *ctx, const test_profile *p)
{
    pol_device_info info;
    cl_platform_id platform;
    cl_device_id device;
    ocl_profile use;
    pol_backend *be;
    if (ocl_find(ctx, 0, &platform, &device, &info) < 0) {
        const char *need = getenv("POLLARD_TEST_OPENCL");
        if (need && strcmp(need, "required") == 0)
            fail_msg("no OpenCL device, but POLLARD_TEST_OPENCL=required: %s", pol_error_text(ctx));
        return NULL;
    }
    assert_ok(ctx, ocl_profile_of(ctx, device, &use));
    if (!p->own) {
        use.barriers = p->barriers;
        use.vector = p->vector;
        use.group = p->group;
        use.piece_bytes = p->piece_bytes ? p->piece_bytes : use.piece_bytes;
        use.local_bytes = p->local_bytes ? p->local_bytes : use.local_bytes;
        use.slice_rows = p->slice_rows ? p->slice_rows : use.slice_rows;
    }
    assert_ok(ctx, pol_opencl_open(ctx, 0, &use, p->weights, &be));
    be->info.max_buffer_bytes = info.max_buffer_bytes; /* buffers of one row are as large as ever */
    return be;
}
