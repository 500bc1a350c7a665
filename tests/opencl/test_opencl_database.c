/* test_opencl_database.c - the database of repaired rows on an OpenCL device, in each way in which the tests use one.
 */
#include "tests/database_on_device.h"
#include "tests/opencl/profiles.h"

static void a_database_is_that_of_the_cpu(void **state)
{
    for (size_t p = 0; p < n_test_profiles; p++) {
        pol_backend *be = open_profile(*state, &test_profiles[p]);
        if (!be)
            skip();
        /* Weights of this model are the same in 16 bits; rows are not, and lose a bit of theirs there. */
        check_database_on(*state, be, "models/llama-mha-bf16", be->weight_dtype == POL_F32 ? 1e-3 : 1e-2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_database_is_that_of_the_cpu)};
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}
