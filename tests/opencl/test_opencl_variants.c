/* test_opencl_variants.c - which form of a kernel runs where: what follows from a device's report, and what is then
 * launched. */
#include <string.h>

#include "backends/drivers.h"
#include "tests/opencl/profiles.h"
#include "tests/ops/conformance.h"

/* ---- from report to profile ---- */

static void check_profile(ocl_report r, bool barriers, int vector, int group)
{
    r.alloc_bytes = 3 << 20;
    r.local_bytes = 32 << 10;
    const ocl_profile p = ocl_profile_from(&r);
    assert_int_equal(p.barriers, barriers);
    assert_int_equal(p.vector, vector);
    assert_int_equal(p.group, group);
    assert_true(p.piece_bytes == r.alloc_bytes && p.local_bytes == r.local_bytes);
    assert_false(p.timing || p.cache_dir);
}

static void test_choices(void **state)
{
    (void)state;
    enum { CPU = CL_DEVICE_TYPE_CPU, GPU = CL_DEVICE_TYPE_GPU, ACCELERATOR = CL_DEVICE_TYPE_ACCELERATOR };
    check_profile((ocl_report){.type = GPU, .vector_width = 1, .group_items = 256}, true, 1, 128);
    check_profile((ocl_report){.type = GPU, .vector_width = 4, .group_items = 96}, true, 4, 64);
    check_profile((ocl_report){.type = GPU | CL_DEVICE_TYPE_DEFAULT, .vector_width = 1, .group_items = 1024}, true, 1,
                  128);
    check_profile((ocl_report){.type = CPU, .vector_width = 16, .group_items = 4096}, false, 16, 128);
    check_profile((ocl_report){.type = CPU | CL_DEVICE_TYPE_DEFAULT, .vector_width = 6, .group_items = 1}, false, 4, 1);
    check_profile((ocl_report){.type = ACCELERATOR, .vector_width = 2, .group_items = 1}, false, 2, 1);
    check_profile((ocl_report){.type = ACCELERATOR, .vector_width = 1, .group_items = 2}, true, 1, 2);
    /* What no driver should say. */
    check_profile((ocl_report){.type = GPU, .vector_width = 0, .group_items = 0}, false, 1, 1);
    check_profile((ocl_report){.type = GPU, .vector_width = UINT32_MAX, .group_items = SIZE_MAX}, true, 16, 128);
}

/* No allocation is larger than the device gives, whole words though they are, nor than CLBlast can count in. */
static void test_piece(void **state)
{
    static const uint64_t pieces[][2] = {{0, 0}, {3, 0}, {4, 4}, {1023, 1020}, {UINT64_MAX, 4 * (uint64_t)INT32_MAX}};
    (void)state;
    for (size_t i = 0; i < POL_COUNT(pieces); i++)
        assert_true(ocl_profile_from(&(ocl_report){.alloc_bytes = pieces[i][0]}).piece_bytes == pieces[i][1]);
}

/* ---- from profile to launches ---- */

static const char *const summing[] = {"rmsnorm", "attention", "nll", "activation_stats"};

static bool ends_in(const char *name, const char *end)
{
    const size_t n = strlen(name), m = strlen(end);
    return n > m && strcmp(name + n - m, end) == 0;
}

static uint64_t launches_of(pol_backend *be, const char *stem, const char *form)
{
    char name[64];
    snprintf(name, sizeof name, "%s_%s", stem, form);
    return ocl_launches(ocl_of(be), name);
}

/* The short cases of every op, or of one. */
static void run_cases(pol_backend *be, const char *op)
{
    pol_backend *reference;
    assert_ok(be->ctx, pol_reference_open(be->ctx, &reference));
    for (size_t i = 0; i < n_op_cases; i++)
        if (op_cases[i].T <= 16 && (!op || strcmp(op_cases[i].op, op) == 0))
            check_case(&op_cases[i], be, reference);
    pol_backend_close(reference);
}

/* Of every kernel that sums, this form was launched and the other never. */
static void check_form(pol_backend *be, const char *form, const char *other)
{
    for (const ocl_kernel *k = ocl_of(be)->kernels; k; k = k->next) {
        printf("%-24s %llu launches\n", k->name, (unsigned long long)k->launches);
        assert_false(ends_in(k->name, other));
    }
    for (size_t i = 0; i < POL_COUNT(summing); i++) {
        assert_int_not_equal(launches_of(be, summing[i], form), 0);
        assert_int_equal(launches_of(be, summing[i], other), 0);
    }
}

static pol_backend *open_own(pol_context *ctx)
{
    pol_backend *be = open_profile(ctx, &(test_profile){.own = true, .weights = POL_F32});
    if (!be)
        skip();
    return be;
}

static pol_backend *open_with_groups(pol_context *ctx, int vector, int group, uint64_t local_bytes)
{
    pol_backend *own = open_own(ctx), *be;
    ocl_profile p = ocl_of(own)->profile;
    p.barriers = true;
    p.vector = vector;
    p.group = group;
    p.local_bytes = local_bytes ? local_bytes : p.local_bytes;
    pol_backend_close(own);
    assert_ok(ctx, pol_opencl_open(ctx, 0, &p, POL_F32, &be));
    return be;
}

/* As the device reports: no barriers on a CPU. */
static void test_own_profile(void **state)
{
    pol_backend *be = open_own(*state);
    cl_device_type type = 0;
    assert_int_equal(clGetDeviceInfo(ocl_of(be)->device, CL_DEVICE_TYPE, sizeof type, &type, NULL), CL_SUCCESS);
    run_cases(be, NULL);
    if (type & CL_DEVICE_TYPE_CPU)
        check_form(be, "item", "group");
    else
        check_form(be, "group", "item");
    pol_backend_close(be);
}

static void test_barriers(void **state)
{
    pol_backend *be = open_with_groups(*state, 1, 64, 0);
    run_cases(be, NULL);
    check_form(be, "group", "item");
    for (const ocl_kernel *k = ocl_of(be)->kernels; k; k = k->next)
        assert_int_equal(k->group, 64);
    pol_backend_close(be);
}

/* Groups that the device cannot run are built again, smaller, until it can. */
static void test_group_too_large(void **state)
{
    enum { ASKED = 1 << 14 };
    pol_backend *be = open_with_groups(*state, 1, ASKED, 0);
    size_t items = 0;
    assert_int_equal(clGetDeviceInfo(ocl_of(be)->device, CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof items, &items, NULL),
                     CL_SUCCESS);
    assert_in_range(items, 1, ASKED - 1);
    run_cases(be, "rmsnorm");
    run_cases(be, "activation_stats");
    for (const ocl_kernel *k = ocl_of(be)->kernels; k; k = k->next) {
        assert_true(ends_in(k->name, "_group") && k->launches);
        assert_true(k->group <= items && 2 * k->group > items); /* as large as can be */
    }
    pol_backend_close(be);
}

/* So are groups whose local memory is more than there is: two vectors an item in activation_stats, a float in rmsnorm.
 */
static void test_local_memory_too_small(void **state)
{
    enum { VECTOR = 4, ASKED = 128, FITS = 64, BYTES = FITS * 2 * VECTOR * sizeof(float) };
    pol_backend *be = open_with_groups(*state, VECTOR, ASKED, BYTES);
    run_cases(be, "rmsnorm");
    run_cases(be, "activation_stats");
    for (const ocl_kernel *k = ocl_of(be)->kernels; k; k = k->next)
        assert_int_equal(k->group, strcmp(k->name, "rmsnorm_group") == 0 ? ASKED : FITS);
    pol_backend_close(be);
}

static void test_no_room_at_all(void **state)
{
    pol_backend *be = open_with_groups(*state, 4, 64, 1);
    rig r = rig_open(be);
    const pol_activation_stats_args a = {.x = rig_zero(&r, POL_F32, 6),
                                         .sum = rig_zero(&r, POL_F32, 3),
                                         .sumsq = rig_zero(&r, POL_F32, 3),
                                         .T = 2,
                                         .N = 3};
    assert_fails(be->ctx, pol_activation_stats(be, &a), POL_EUNSUPPORTED,
                 "opencl: activation_stats_group: it does not fit the device");
    rig_close(&r);
    pol_backend_close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choices),         cmocka_unit_test(test_piece),
        cmocka_unit_test(test_own_profile),     cmocka_unit_test(test_barriers),
        cmocka_unit_test(test_group_too_large), cmocka_unit_test(test_local_memory_too_small),
        cmocka_unit_test(test_no_room_at_all),
    };
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}
