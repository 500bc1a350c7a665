/* test_opencl_hostile.c - a driver that answers nonsense, whose compiler fails, or that says late that something went
 * wrong. */
#include <limits.h>
#include <math.h>
#include <string.h>

#include "pollard/model.h"
#include "tests/opencl/profiles.h"
#include "tests/opencl/shim.h"

enum { B = 2, S = 16 };

static pol_context *ctx;
static pol_source *src;
static bool device;

static void need_device(void)
{
    if (!device)
        skip();
    shim_reset();
}

/* Mean loss of a text, on a backend as the device reports; without the disk, where nothing of this is to be kept. */
static pol_status job(double *loss)
{
    pol_backend *be;
    pol_model *model = NULL;
    pol_forward *forward = NULL;
    int32_t ids[B * S];
    double losses[B];
    cl_platform_id platform;
    cl_device_id id;
    pol_device_info info;
    ocl_profile p;
    for (int i = 0; i < B * S; i++)
        ids[i] = i * 7 % pol_source_config(src)->vocab;
    POL_TRY(ocl_find(ctx, 0, &platform, &id, &info));
    POL_TRY(ocl_profile_of(ctx, id, &p));
    POL_TRY(pol_opencl_open(ctx, 0, &p, POL_F32, &be));
    pol_status s = pol_model_load(src, be, NULL, &model);
    if (s == POL_OK)
        s = pol_forward_new(model, B * S, S, &forward);
    if (s == POL_OK)
        s = pol_forward_nll(forward, ids, B, S, NULL, losses);
    *loss = s == POL_OK ? (losses[0] + losses[1]) / 2 : NAN;
    pol_forward_free(forward);
    pol_model_free(model);
    pol_backend_close(be);
    return s;
}

static void nonsense_about_a_device_is_refused_or_harmless(void **state)
{
    static const struct {
        cl_device_info what;
        uint64_t value;
        bool works;
    } lies[] = {
        {CL_DEVICE_MAX_MEM_ALLOC_SIZE, 0, false},
        {CL_DEVICE_MAX_MEM_ALLOC_SIZE, 1, false},
        {CL_DEVICE_MAX_MEM_ALLOC_SIZE, UINT64_MAX, true},
        {CL_DEVICE_GLOBAL_MEM_SIZE, 0, true},
        {CL_DEVICE_GLOBAL_MEM_SIZE, UINT64_MAX, true},
        {CL_DEVICE_MAX_WORK_GROUP_SIZE, 0, false},
        {CL_DEVICE_MAX_WORK_GROUP_SIZE, UINT64_MAX, true},
        {CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, 0, true},
        {CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, UINT32_MAX, true},
        {CL_DEVICE_LOCAL_MEM_SIZE, 0, false},
        {CL_DEVICE_MEM_BASE_ADDR_ALIGN, 0, true},
        {CL_DEVICE_MEM_BASE_ADDR_ALIGN, 1 << 15, true},
        {CL_DEVICE_MAX_COMPUTE_UNITS, 0, true},
        {CL_DEVICE_AVAILABLE, 0, false},
        {CL_DEVICE_COMPILER_AVAILABLE, 0, false},
        {CL_DEVICE_ENDIAN_LITTLE, 0, false},
        {CL_DEVICE_ADDRESS_BITS, 0, false},
        {CL_DEVICE_TYPE, 0, false},
        {CL_DEVICE_TYPE, CL_DEVICE_TYPE_CUSTOM, false},
        {CL_DEVICE_NAME, 0, true},
        {CL_DEVICE_NAME, UINT64_MAX, true},
        {CL_DEVICE_VERSION, 0, false},
        {CL_DEVICE_PROFILE, 0, false},
        {CL_DEVICE_EXTENSIONS, 0, true},
        {CL_DRIVER_VERSION, 0, true},
    };
    (void)state;
    double right, loss;
    need_device();
    assert_ok(ctx, job(&right));
    for (size_t i = 0; i < POL_COUNT(lies); i++) {
        shim_reset();
        shim_device_info(lies[i].what, lies[i].value);
        const pol_status s = job(&loss);
        if ((s == POL_OK) != lies[i].works)
            fail_msg("0x%x is %llu: %s: %s", lies[i].what, (unsigned long long)lies[i].value, pol_status_name(s),
                     pol_error_text(ctx));
        if (s == POL_OK)
            assert_near(loss, right, 1e-5 * right);
        assert_int_equal(shim_live(SHIM_OURS), 0);
    }
}

/* ---- the compiler ---- */

static char logged[8192];

static void keep_log(void *user, pol_log_level level, const char *line)
{
    (void)user;
    if (level == POL_LOG_ERROR && strlen(logged) + strlen(line) + 2 < sizeof logged)
        strcat(strcat(logged, line), "\n");
}

/* Our own first program does not compile, and the compiler says so. */
static void built_badly(const char *log, size_t claimed)
{
    double loss;
    *logged = 0;
    shim_reset();
    shim_fail(SHIM_clBuildProgram, 1, CL_BUILD_PROGRAM_FAILURE, SHIM_ONCE);
    shim_build_log(log, claimed);
    assert_fails(ctx, job(&loss), POL_EDEVICE, "opencl: embed: clBuildProgram: CL_BUILD_PROGRAM_FAILURE (-11)");
    assert_int_equal(shim_live(SHIM_OURS), 0);
}

static void the_log_of_a_failed_build_is_shown(void **state)
{
    static const char log[] = "warning: unused\nembed.cl:7:12: error: use of undeclared identifier 'x'\n    x = 1;\n";
    (void)state;
    need_device();
    pol_context_log(ctx, keep_log, NULL, POL_LOG_ERROR);
    built_badly(log, sizeof log);
    assert_non_null(strstr(pol_error_text(ctx), ": embed.cl:7:12: error: use of undeclared identifier 'x'"));
    assert_non_null(strstr(logged, "embed.cl:7:12: error: use of undeclared identifier 'x'\n"));
    assert_non_null(strstr(logged, "warning: unused\n"));
    /* Whatever its length is said to be. */
    static const size_t claimed[] = {0, 1, 2, 7, sizeof log + 100, (size_t)1 << 40, SIZE_MAX};
    for (size_t i = 0; i < POL_COUNT(claimed); i++)
        built_badly(log, claimed[i]);
    built_badly("", 1);
    built_badly("\n\n\n", 4);
    pol_context_log(ctx, NULL, NULL, POL_LOG_ERROR);
}

/* The real compiler, of a source with a fault: it names our file and its line. */
static void the_real_compiler_names_file_and_line(void **state)
{
    (void)state;
    need_device();
    pol_backend *be = open_profile(ctx, &test_profiles[0]);
    ocl_kernel *k;
    assert_fails(ctx, ocl_kernel_get(ocl_of(be), "embed", "embed", "-Dids=3", &k), POL_EDEVICE, "embed.cl:");
    pol_backend_close(be);
    assert_int_equal(shim_live(SHIM_OURS), 0);
}

/* ---- late faults ---- */

static void a_late_fault_comes_out_of_sync_and_download(void **state)
{
    (void)state;
    need_device();
    pol_backend *be = open_profile(ctx, &test_profiles[0]);
    pol_buf *x;
    float one = 1, back = 0;
    assert_ok(ctx, pol_buf_new(be, POL_F32, 1, &x));
    assert_ok(ctx, pol_upload(be, x, 0, &one, 1));
    shim_reset();
    shim_fail(SHIM_clFinish, 1, CL_INVALID_COMMAND_QUEUE, SHIM_ONCE);
    assert_fails(ctx, pol_sync(be), POL_EDEVICE, "opencl: sync: clFinish: CL_INVALID_COMMAND_QUEUE (-36)");
    shim_fail(SHIM_clEnqueueReadBuffer, 1, CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST, SHIM_ONCE);
    assert_fails(ctx, pol_download(be, x, 0, &back, 1), POL_EDEVICE, "opencl: download: clEnqueueReadBuffer: CL_EXEC");
    shim_reset();
    assert_ok(ctx, pol_download(be, x, 0, &back, 1));
    assert_true(back == 1);
    pol_buf_free(be, x);
    pol_backend_close(be);
}

static int setup(void **state)
{
    (void)state;
    assert_int_equal(pol_context_new(NULL, &ctx), POL_OK);
    assert_ok(ctx, pol_source_open(ctx, test_file("models/llama-linear-bias"), &src));
    pol_backend *be = open_profile(ctx, &test_profiles[0]);
    device = be;
    pol_backend_close(be);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    pol_source_close(src);
    pol_context_free(ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nonsense_about_a_device_is_refused_or_harmless),
        cmocka_unit_test(the_log_of_a_failed_build_is_shown),
        cmocka_unit_test(the_real_compiler_names_file_and_line),
        cmocka_unit_test(a_late_fault_comes_out_of_sync_and_download),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
