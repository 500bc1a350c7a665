/* test_perplexity.c - protocols and the arithmetic of perplexity. */
#include <math.h>

#include "core/base/rng.h"
#include "core/eval/nll_sum.h"
#include "pollard/model.h"
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

enum { SEQUENCES = 7, SEQ_LEN = 24 };

typedef struct progress {
    int64_t calls, done;
    pol_status answer;
} progress;

static pol_status note(void *user, int64_t done, int64_t total)
{
    progress *p = user;
    assert_true(done > p->done);
    assert_int_equal(total, SEQUENCES);
    p->done = done;
    p->calls++;
    return p->answer;
}

/* Whatever the batches: the mean over single sequences. */
static void test_sequences(void **state)
{
    (void)state;
    pol_context *ctx;
    pol_source *src;
    pol_backend *be;
    pol_model *m;
    pol_forward *f;
    int32_t ids[SEQUENCES * SEQ_LEN];
    double want = 0, loss;
    for (int i = 0; i < SEQUENCES * SEQ_LEN; i++)
        ids[i] = (i * 37 + 5) % 96;
    assert_int_equal(pol_context_new(NULL, &ctx), POL_OK);
    assert_ok(ctx, pol_source_open(ctx, test_file("models/llama-gqa-tied"), &src));
    assert_ok(ctx, pol_backend_open(ctx, &(pol_backend_options){.name = "cpu", .threads = 1}, &be));
    assert_ok(ctx, pol_model_load(src, be, NULL, &m));
    pol_sequences s = {.ctx = ctx, .n = SEQUENCES, .seq_len = SEQ_LEN, .ids = ids};
    pol_perplexity p;
    assert_ok(ctx, pol_forward_new(m, SEQ_LEN, SEQ_LEN, &f));
    for (int i = 0; i < SEQUENCES; i++) {
        assert_ok(ctx, pol_forward_nll(f, ids + i * SEQ_LEN, 1, SEQ_LEN, NULL, &loss));
        want += loss / SEQUENCES;
    }
    s.seq_len++;
    assert_fails(ctx, pol_eval_sequences(f, &s, NULL, NULL, &p), POL_ELIMIT, "7 sequences of 25 tokens do not fit");
    s.seq_len = 1;
    assert_fails(ctx, pol_eval_sequences(f, &s, NULL, NULL, &p), POL_ELIMIT, "7 sequences of 1 tokens");
    s.seq_len = SEQ_LEN;
    pol_forward_free(f);
    for (int64_t batch = 1; batch <= SEQUENCES + 1; batch++) {
        progress seen = {.answer = POL_OK};
        assert_ok(ctx, pol_forward_new(m, batch * SEQ_LEN + 3, SEQ_LEN, &f));
        assert_ok(ctx, pol_eval_sequences(f, &s, note, &seen, &p));
        assert_near(p.nll / want, 1, 1e-6); /* products of other shapes differ in the last bits */
        assert_int_equal(p.tokens, SEQUENCES * (SEQ_LEN - 1));
        assert_int_equal(p.chunks, SEQUENCES);
        assert_int_equal(p.seq_len, SEQ_LEN);
        assert_int_equal(seen.calls, (SEQUENCES + batch - 1) / batch);
        seen = (progress){.answer = POL_EIO};
        assert_int_equal(pol_eval_sequences(f, &s, note, &seen, &p), POL_EIO);
        assert_int_equal(seen.calls, 1);
        pol_context_stop(ctx);
        assert_int_equal(pol_eval_sequences(f, &s, NULL, NULL, &p), POL_EINTERRUPTED);
        pol_context_resume(ctx);
        pol_forward_free(f);
    }
    pol_model_free(m);
    pol_backend_close(be);
    pol_source_close(src);
    pol_context_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_protocols),  cmocka_unit_test(test_mean_and_error), cmocka_unit_test(test_many_chunks),
        cmocka_unit_test(test_bad_values), cmocka_unit_test(test_sequences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
