/* test_perplexity.c - protocols and the arithmetic of perplexity. */
#include <math.h>

#include "core/base/rng.h"
#include "core/eval/nll_sum.h"
#include "tests/test.h"

static void test_protocols(void **state)
{
    (void)state;
    assert_int_equal(pol_protocol_find("paper")->seq_len, 128);
    assert_int_equal(pol_protocol_find("standard")->seq_len, 2048);
    assert_null(pol_protocol_find("papers"));
    int64_t n = 0;
    for (const pol_protocol *p; (p = pol_protocol_at(n)); n++) {
        assert_ptr_equal(pol_protocol_find(p->name), p);
        assert_int_equal(p->bos, POL_BOS_MODEL);
        assert_true(strlen(p->name) < sizeof((pol_perplexity *)0)->protocol);
    }
    assert_int_equal(n, 2);
    assert_null(pol_protocol_at(-1));
}

/* Chunk means 1, 2 and 6: mean 3, deviations 4 + 1 + 9, variance of the mean 14 / 2 / 3. */
static void test_mean_and_error(void **state)
{
    (void)state;
    static const float nll[] = {0.5f, 1.5f, 2, 2, 4, 8};
    pol_nll_sum a = {0};
    pol_perplexity p = {0};
    pol_nll_sum_add(&a, nll, 1, 2);
    pol_nll_sum_result(&a, &p);
    assert_near(p.nll, 1, 1e-15);
    assert_true(isnan(p.standard_error)); /* one chunk has no spread */
    pol_nll_sum_add(&a, nll + 2, 2, 2);
    pol_nll_sum_result(&a, &p);
    assert_near(p.nll, 3, 1e-15);
    assert_near(p.perplexity, exp(3.0), 1e-12);
    assert_near(p.standard_error, sqrt(14.0 / 6), 1e-15);
    assert_int_equal(p.tokens, 6);
    assert_int_equal(p.chunks, 3);
    assert_int_equal(p.bad_chunks, 0);
}

/* Against two passes in long double; the batches must not matter, and sums in f32 would be off by 1e-4. */
static void test_many_chunks(void **state)
{
    (void)state;
    enum { CHUNKS = 2000, TARGETS = 127, N = CHUNKS * TARGETS };
    float *nll = malloc(N * sizeof *nll);
    pol_uniform(3, POL_STREAM_TEST, 0, 0, N, nll);
    long double mean = 0, spread = 0;
    for (int i = 0; i < N; i++) {
        nll[i] = 11 + nll[i] * 0.1f; /* a large mean beside a small spread: what cancellation would spoil */
        mean += (long double)nll[i] / N;
    }
    for (int c = 0; c < CHUNKS; c++) {
        long double m = 0;
        for (int t = 0; t < TARGETS; t++)
            m += (long double)nll[c * TARGETS + t] / TARGETS;
        spread += (m - mean) * (m - mean);
    }
    const double se = (double)sqrtl(spread / (CHUNKS - 1) / CHUNKS);
    for (int64_t batch = 1; batch < CHUNKS; batch = 3 * batch + 1) {
        pol_nll_sum a = {0};
        pol_perplexity p = {0};
        for (int64_t c = 0; c < CHUNKS; c += batch)
            pol_nll_sum_add(&a, nll + c * TARGETS, c + batch < CHUNKS ? batch : CHUNKS - c, TARGETS);
        pol_nll_sum_result(&a, &p);
        assert_int_equal(p.tokens, N);
        assert_near(p.nll, (double)mean, 1e-11);
        assert_near(p.standard_error / se, 1, 1e-9);
    }
    free(nll);
}

/* One bad value spoils the mean, and says where it counts: the chunk. It is never left out in silence. */
static void test_bad_values(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const float nll[] = {1, 2, bad[i], 3, 4, 5, bad[i], bad[i]};
        pol_nll_sum a = {0};
        pol_perplexity p = {0};
        pol_nll_sum_add(&a, nll, 4, 2);
        pol_nll_sum_result(&a, &p);
        assert_int_equal(p.chunks, 4);
        assert_int_equal(p.bad_chunks, 2);
        assert_int_equal(p.tokens, 8);
        assert_true(isnan(p.nll) && isnan(p.perplexity) && isnan(p.standard_error));
    }
    const pol_nll_sum none = {0};
    pol_perplexity p = {0};
    pol_nll_sum_result(&none, &p);
    assert_true(isnan(p.nll));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_protocols),
        cmocka_unit_test(test_mean_and_error),
        cmocka_unit_test(test_many_chunks),
        cmocka_unit_test(test_bad_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
