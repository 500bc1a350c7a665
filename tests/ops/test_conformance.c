/* test_conformance.c - every case of the table on every usable device, against the reference.
 *
 *   test_conformance [BACKEND]   on those of one backend alone
 */
#include "backends/drivers.h"
#include "tests/ops/conformance.h"

static const char *only_backend; /* NULL: all */

static void check_backend(pol_context *ctx, const pol_backend_options *o)
{
    pol_backend *be, *reference;
    assert_ok(ctx, pol_backend_open(ctx, o, &be));
    assert_ok(ctx, pol_reference_open(ctx, &reference));
    for (size_t i = 0; i < n_op_cases; i++)
        check_case(&op_cases[i], be, reference);
    assert_int_equal(be->bytes_in_use, 0);
    pol_backend_close(reference);
    pol_backend_close(be);
}

static void test_every_device(void **state)
{
    pol_context *ctx = *state;
    pol_device_info *list;
    int64_t n;
    assert_ok(ctx, pol_device_list(ctx, &list, &n));
    for (int64_t i = 0; i < n; i++) {
        char index[16];
        if (only_backend && strcmp(only_backend, list[i].backend) != 0)
            continue;
        snprintf(index, sizeof index, "%d", list[i].index);
        if (list[i].usable) {
            printf("on %s %s: %s\n", list[i].backend, index, list[i].name);
            check_backend(ctx, &(pol_backend_options){.name = list[i].backend, .device = index});
        } else
            printf("skipped: %s %s: %s\n", list[i].backend, index, list[i].reason);
    }
    pol_device_list_free(ctx, list);
}

/* libgomp is not built for ThreadSanitizer, which then sees races in every barrier. */
#if !defined(__SANITIZE_THREAD__)
static void test_thread_counts(void **state)
{
    if (only_backend && strcmp(only_backend, "cpu") != 0)
        skip();
    for (int32_t threads = 2; threads <= 3; threads++)
        check_backend(*state, &(pol_backend_options){.name = "cpu", .threads = threads});
}
#endif

int main(int argc, char **argv)
{
    only_backend = argc > 1 ? argv[1] : NULL;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_device),
#if !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(test_thread_counts),
#endif
    };
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}
