/* test_cuda_ops.c - the conformance table under every profile.
 *
 *   test_cuda_ops [OP...]   only these ops
 */
#include <string.h>

#include "backends/drivers.h"
#include "tests/cuda/profiles.h"
#include "tests/ops/conformance.h"

static int n_only;
static char **only;

static bool wanted(const test_profile *p, const op_case *c)
{
    char word[64];
    snprintf(word, sizeof word, " %s ", c->op);
    if ((p->ops && !strstr(p->ops, word)) || (p->max_S && c->S > p->max_S))
        return false;
    for (int i = 0; i < n_only; i++)
        if (strcmp(only[i], c->op) == 0)
            return true;
    return n_only == 0;
}

static void test_conformance(void **state)
{
    pol_context *ctx = *state;
    pol_backend *reference;
    assert_ok(ctx, pol_reference_open(ctx, &reference));
    for (size_t p = 0; p < n_test_profiles; p++) {
        pol_backend *be = open_profile(ctx, &test_profiles[p]);
        printf("%s: %s\n", be->info.name, test_profiles[p].name);
        for (size_t i = 0; i < n_op_cases; i++)
            if (wanted(&test_profiles[p], &op_cases[i]))
                check_case(&op_cases[i], be, reference);
        assert_int_equal(be->bytes_in_use, 0);
        pol_backend_close(be);
        assert_clean();
    }
    pol_backend_close(reference);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_conformance)};
    n_only = argc - 1;
    only = argv + 1;
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}
