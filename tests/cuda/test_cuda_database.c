/* test_cuda_database.c - the database of repaired rows on a simulated device: activations and rows of 16 bits, passes
 * that are recorded, sweeps by the device's own library where it has one. */
#include "tests/cuda/profiles.h"
#include "tests/database_on_device.h"

static void a_database_is_nearly_that_of_the_cpu(void **state)
{
    (void)state;
    pol_context *ctx;
    switch_on(1, 0);
    assert_int_equal(pol_context_new(NULL, &ctx), POL_OK);
    check_database_on(ctx, open_profile(ctx, &test_profiles[0]), "models/llama-mha-bf16", 0.1);
    pol_context_free(ctx);
    assert_clean();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_database_is_nearly_that_of_the_cpu)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
