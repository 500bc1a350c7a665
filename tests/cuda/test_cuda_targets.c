/* test_cuda_targets.c - several targets a position on a simulated device: its most probable tokens by its own values,
 * resident and streamed. */
#include <math.h>

#include "core/forward.h"
#include "tests/cuda/profiles.h"
#include "tests/loaded_model.h"

enum { B = 2, S = 12, T = B * S, V = 400, K = POL_MAX_TARGETS, CHUNKS = (V + K - 1) / K };

static const pol_forward_size room = {.max_tokens = T, .max_seq_len = S, .max_targets = K};

/* In passes that are waited for together, the last of fewer targets. */
static void whole_vocabulary(loaded *m, pol_forward *f, float *all)
{
    static int32_t target[T * K];
    static float nll[CHUNKS][T * K];
    for (int32_t c = 0; c < CHUNKS; c++) {
        const int32_t k = V - c * K < K ? V - c * K : K;
        for (int32_t i = 0; i < T * k; i++)
            target[i] = c * K + i % k;
        assert_ok(m->ctx, pol_forward_queue_targets(f, m->ids, target, B, S, k, nll[c]));
    }
    assert_ok(m->ctx, pol_forward_settle(f));
    for (int32_t t = 0; t < T; t++)
        for (int32_t v = 0; v < V; v++)
            all[t * V + v] = nll[v / K][t * (V - v / K * K < K ? V - v / K * K : K) + v % K];
}

/* Values are those of the same op, so they agree but for the odd bit of another way to the same product; which tokens
 * are taken is up to logits in bf16, of which numbers near 4 are 0.03 apart. */
static void check_top(loaded *m, pol_forward *f, const float *all)
{
    static int32_t token[T * K];
    static float nll[T * K];
    assert_ok(m->ctx, pol_forward_top(f, m->ids, B, S, K, token, nll));
    for (int64_t t = 0; t < T; t++) {
        bool seen[V] = {false};
        float worst = 0;
        double sum = 0;
        for (int64_t i = t * K; i < (t + 1) * K; i++) {
            assert_in_range(token[i], 0, V - 1);
            assert_false(seen[token[i]]);
            seen[token[i]] = true;
            assert_near(nll[i], all[t * V + token[i]], 1e-4);
            worst = fmaxf(worst, nll[i]);
            sum += exp(-(double)nll[i]);
        }
        assert_true(sum <= 1 + 1e-4);
        for (int v = 0; v < V; v++)
            assert_true(seen[v] || all[t * V + v] > worst - 0.1f);
    }
}

static void check_placed(pol_context *ctx, const pol_placement *placement, float *all)
{
    loaded m;
    pol_forward *f;
    load_placed(&m, ctx, open_profile(ctx, &test_profiles[0]), test_file("models/trained"), placement, 1, 2);
    assert_ok(ctx, pol_forward_new_sized(m.model, &room, &f));
    whole_vocabulary(&m, f, all);
    for (int t = 0; t < T; t++) {
        double sum = 0;
        for (int v = 0; v < V; v++)
            sum += exp(-(double)all[t * V + v]);
        assert_near(sum, 1, 1e-4);
    }
    check_top(&m, f, all);
    pol_forward_free(f);
    unload(&m);
    assert_clean();
}

static void test_top(void **state)
{
    pol_context *ctx = *state;
    static float resident[T * V], streamed[T * V];
    switch_on(1, 0);
    check_placed(ctx, NULL, resident);
    check_placed(ctx, &(pol_placement){.streamed = true, .cells = 4}, streamed);
    assert_memory_equal(resident, streamed, sizeof resident);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_top)};
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}
