/* test_simd.c - the inlines of cpu/simd.h against libm and against plain loops. */
#include <math.h>

#include "core/base/rng.h"
#include "cpu/simd.h"
#include "tests/test.h"

/* Every 1009th float of the range, both signs: about four million arguments. */
static void test_expf_range(void **state)
{
    (void)state;
    double worst = 0;
    for (uint32_t bits = 0; bits < 0x42b00000u; bits += 1009) { /* 88.0f */
        float x;
        memcpy(&x, &bits, sizeof x);
        for (int sign = 0; sign < 2; sign++, x = -x) {
            if (x < -87.33f)
                continue;
            const double want = exp((double)x), e = fabs(cpu_expf(x) - want) / want;
            worst = e > worst || isnan(e) ? e : worst;
        }
    }
    assert_near(worst, 0, 2e-7);
}

static void test_expf_ends(void **state)
{
    (void)state;
    assert_true(cpu_expf(0.0f) == 1.0f);
    assert_true(cpu_expf(-0.0f) == 1.0f);
    assert_true(cpu_expf(-87.34f) == 0.0f);
    assert_true(cpu_expf(-1e30f) == 0.0f);
    assert_true(cpu_expf(-INFINITY) == 0.0f);
    assert_true(cpu_expf(88.38f) == INFINITY);
    assert_true(cpu_expf(INFINITY) == INFINITY);
    assert_true(isnan(cpu_expf(NAN)));
    assert_true(isnan(cpu_expf(-NAN)));
}

static void test_max(void **state)
{
    (void)state;
    enum { N = 131 };
    float x[N];
    assert_true(cpu_max(x, 0) == -INFINITY);
    pol_normal(1, POL_STREAM_TEST, 0, 0, N, x);
    for (int n = 1; n <= N; n++)
        for (int at = 0; at < n; at++) { /* the largest in each place in turn */
            const float kept = x[at];
            x[at] = 50.0f;
            assert_true(cpu_max(x, n) == 50.0f);
            x[at] = kept;
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expf_range),
        cmocka_unit_test(test_expf_ends),
        cmocka_unit_test(test_max),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
