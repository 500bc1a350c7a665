/* test_opencl_attention.c - what the conformance table does not show of attention: that its local memory stays within
 * what a device reports, and what it refuses. */
#include "tests/opencl/profiles.h"

static const ocl_kernel *kernel_named(const ocl *cl, const char *name)
{
    for (const ocl_kernel *k = cl->kernels; k; k = k->next)
        if (strcmp(k->name, name) == 0)
            return k; /* the latest first */
    fail_msg("no kernel is called %s", name);
    return NULL;
}

static pol_status attend(pol_backend *be, int64_t S, int64_t g, int64_t D)
{
    pol_buf *qkv, *out;
    assert_ok(be->ctx, pol_buf_new(be, POL_F32, S * (g + 2) * D, &qkv));
    assert_ok(be->ctx, pol_buf_new(be, POL_F32, S * g * D, &out));
    const pol_status s = pol_attention(
        be,
        &(pol_attention_args){.out = {out, 0}, .qkv = {qkv, 0}, .T = S, .S = S, .G = 1, .g = g, .D = D, .scale = 1});
    pol_sync(be);
    pol_buf_free(be, qkv);
    pol_buf_free(be, out);
    return s;
}

static pol_backend *open_with(pol_context *ctx, uint64_t local_bytes)
{
    return open_profile(ctx, &(test_profile){.name = "a small device",
                                             .barriers = true,
                                             .vector = 1,
                                             .group = 32,
                                             .local_bytes = local_bytes,
                                             .weights = POL_F32});
}

/* OpenCL asks for 32 KiB of a full device; a part of it may be the driver's. */
static void test_local_memory(void **state)
{
    pol_context *ctx = *state;
    static const int64_t heads[] = {1, 7, 64, 80, 128, 256};
    for (uint64_t local_bytes = 16 << 10; local_bytes <= 64 << 10; local_bytes *= 2) {
        pol_backend *be = open_with(ctx, local_bytes);
        if (!be)
            skip();
        for (size_t i = 0; i < POL_COUNT(heads); i++) {
            cl_ulong used = 0;
            assert_ok(ctx, attend(be, 3, 1, heads[i]));
            assert_int_equal(clGetKernelWorkGroupInfo(kernel_named(ocl_of(be), "attention_group")->kernel,
                                                      ocl_of(be)->device, CL_KERNEL_LOCAL_MEM_SIZE, sizeof used, &used,
                                                      NULL),
                             CL_SUCCESS);
            assert_true(used > 0 && used <= local_bytes / 2);
        }
        pol_backend_close(be);
    }
}

static void test_refusals(void **state)
{
    pol_context *ctx = *state;
    pol_backend *be = open_with(ctx, 1 << 10);
    if (!be)
        skip();
    assert_ok(ctx, attend(be, 2, 1, 64));
    assert_fails(ctx, attend(be, 2, 1, 65), POL_EUNSUPPORTED, "heads of 65 are too large");
    pol_backend_close(be);
    be = open_profile(ctx, &test_profiles[0]);
    assert_ok(ctx, attend(be, 2, 1, 1024));
    assert_fails(ctx, attend(be, 2, 1, 1025), POL_EUNSUPPORTED, "heads of 1025 are too large");
    /* More rows than an int counts; the buffers are not looked at. */
    assert_fails(ctx,
                 attention_opencl(be, &(pol_attention_args){.T = 1 << 20, .S = 1 << 20, .G = 1, .g = 2048, .D = 8}),
                 POL_EUNSUPPORTED, "attention: S * g, in blocks");
    pol_backend_close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_local_memory), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}
