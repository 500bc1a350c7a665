/* test_targets.c - passes with targets of the caller's, and the most probable tokens of a position: resident and
 * streamed, on a backend that serves late, records and replays. */
#include <math.h>

#include "backends/drivers.h"
#include "core/forward.h"
#include "tests/unit/late_backend.h"

enum { B = 2, S = 10, T = B * S, V = 96, K = 64, CELLS = 3 };

/* The same model resident on a plain backend and, late, resident or streamed. */
typedef struct pair {
    pol_context *ctx;
    pol_source *src;
    pol_backend *be[2];
    pol_model *model[2];
    pol_forward *forward[2];
    int32_t ids[T];
} pair;

enum { PLAIN, LATE };

static const pol_forward_size room = {.max_tokens = T, .max_seq_len = S, .max_targets = K};

static void open_pair(pair *p, const char *model, bool streamed)
{
    const pol_placement cells = {.streamed = true, .cells = CELLS};
    memset(p, 0, sizeof *p);
    assert_int_equal(pol_context_new(NULL, &p->ctx), POL_OK);
    assert_ok(p->ctx, pol_source_open(p->ctx, test_file(model), &p->src));
    for (int i = 0; i < 2; i++) {
        const pol_placement *at = i == LATE && streamed ? &cells : NULL;
        assert_ok(p->ctx, pol_reference_open(p->ctx, &p->be[i]));
        if (i == LATE)
            late_start(p->be[i]);
        assert_ok(p->ctx, pol_model_load(p->src, p->be[i], at, &p->model[i]));
        const uint64_t before = p->be[i]->bytes_in_use;
        assert_ok(p->ctx, pol_forward_new_sized(p->model[i], &room, &p->forward[i]));
        assert_int_equal(p->be[i]->bytes_in_use - before,
                         pol_forward_bytes_sized(pol_model_config(p->model[i]), p->be[i], at, &room));
    }
    for (int i = 0; i < T; i++)
        p->ids[i] = (i * 37 + i / 7) % V;
}

static void close_pair(pair *p)
{
    for (int i = 0; i < 2; i++) {
        pol_forward_free(p->forward[i]);
        pol_model_free(p->model[i]);
        assert_int_equal(p->be[i]->bytes_in_use, 0);
        pol_backend_close(p->be[i]);
    }
    late_end();
    pol_source_close(p->src);
    pol_context_free(p->ctx);
}

/* Values of all tokens at each position: [T, V]. */
static void whole_vocabulary(pair *p, int which, float *all)
{
    static int32_t target[T * K];
    static float nll[T * K];
    for (int32_t first = 0; first < V; first += K) {
        const int32_t k = V - first < K ? V - first : K;
        for (int32_t i = 0; i < T * k; i++)
            target[i] = first + i % k;
        assert_ok(p->ctx, pol_forward_queue_targets(p->forward[which], p->ids, target, B, S, k, nll));
        assert_ok(p->ctx, pol_forward_settle(p->forward[which]));
        for (int32_t t = 0; t < T; t++)
            memcpy(all + t * V + first, nll + t * k, (size_t)k * sizeof *all);
    }
}

/* The next token's value is that of an ordinary pass; all tokens' probabilities are 1 together. */
static void check_values(const pair *p, int which, const float *all)
{
    float next[B * (S - 1)];
    assert_ok(p->ctx, pol_forward_nll(p->forward[which], p->ids, B, S, next, NULL));
    for (int t = 0; t < T; t++) {
        double sum = 0;
        for (int v = 0; v < V; v++)
            sum += exp(-(double)all[t * V + v]);
        assert_near(sum, 1, 1e-5);
        if (t % S < S - 1)
            assert_true(next[t / S * (S - 1) + t % S] == all[t * V + p->ids[t + 1]]);
    }
}

static void check_top(pair *p, int which, const float *all, int64_t k)
{
    static int32_t token[T * K];
    static float nll[T * K];
    assert_ok(p->ctx, pol_forward_top(p->forward[which], p->ids, B, S, k, token, nll));
    for (int64_t t = 0; t < T; t++) {
        float worst = 0;
        bool seen[V] = {false};
        for (int64_t i = t * k; i < (t + 1) * k; i++) {
            assert_in_range(token[i], 0, V - 1);
            assert_false(seen[token[i]]);
            seen[token[i]] = true;
            assert_true(nll[i] == all[t * V + token[i]]);
            worst = nll[i] > worst ? nll[i] : worst;
        }
        for (int v = 0; v < V; v++) /* within rounding of the logits */
            assert_true(seen[v] || all[t * V + v] > worst - 1e-5f);
    }
}

static void check_pair(bool streamed, bool replays)
{
    pair p;
    static float all[2][T * V];
    open_pair(&p, "models/llama-gqa-tied", streamed);
    late.replays = replays;
    for (int i = 0; i < 2; i++) {
        whole_vocabulary(&p, i, all[i]);
        check_values(&p, i, all[i]);
        check_top(&p, i, all[i], K);
        check_top(&p, i, all[i], 5);
        check_top(&p, i, all[i], 1);
    }
    assert_memory_equal(all[PLAIN], all[LATE], sizeof all[PLAIN]);
    close_pair(&p);
}

static void test_resident(void **state)
{
    (void)state;
    check_pair(false, false);
}

static void test_replayed(void **state)
{
    (void)state;
    check_pair(false, true);
}

static void test_streamed(void **state)
{
    (void)state;
    check_pair(true, false);
}

/* Passes of either kind and of several k, waited for together: each gets its own values, and no others. */
static void check_mixed(bool streamed)
{
    enum { PASSES = 9 };
    pair p;
    static int32_t target[PASSES][T * K];
    static float nll[2][PASSES][T * K + 1];
    static double loss[2][PASSES][B];
    open_pair(&p, "models/llama-gqa-tied", streamed);
    for (int64_t i = 0; i < 2 * PASSES; i++)
        for (int64_t c = 0; c < T * K + 1; c++)
            nll[i / PASSES][i % PASSES][c] = -7;
    for (int i = 0; i < PASSES; i++)
        for (int64_t c = 0; c < T * K; c++)
            target[i][c] = c % 5 == i % 5 ? -1 : (int32_t)((c * 13 + i) % V);
    for (int which = 0; which < 2; which++) {
        for (int64_t i = 0; i < PASSES; i++) {
            pol_forward *f = p.forward[which];
            if (i % 3 == 2)
                assert_ok(p.ctx, pol_forward_queue(f, p.ids, B, S, nll[which][i], loss[which][i]));
            else
                assert_ok(p.ctx, pol_forward_queue_targets(f, p.ids, target[i], B, S, 1 + 7 * i, nll[which][i]));
        }
        assert_ok(p.ctx, pol_forward_settle(p.forward[which]));
    }
    assert_memory_equal(nll[PLAIN], nll[LATE], sizeof nll[PLAIN]);
    assert_memory_equal(loss[PLAIN], loss[LATE], sizeof loss[PLAIN]);
    for (int64_t i = 0; i < PASSES; i++) {
        const int64_t n = i % 3 == 2 ? B * (S - 1) : T * (1 + 7 * i);
        for (int64_t c = 0; i % 3 != 2 && c < n; c++)
            assert_true(target[i][c] < 0 ? nll[LATE][i][c] == 0 : nll[LATE][i][c] > 0);
        assert_true(nll[LATE][i][n] == -7);
    }
    close_pair(&p);
}

static void test_mixed(void **state)
{
    (void)state;
    check_mixed(false);
    check_mixed(true);
}

static void test_refusals(void **state)
{
    (void)state;
    pair p;
    int32_t target[T * K] = {0};
    float nll[T * K];
    open_pair(&p, "models/llama-gqa-tied", false);
    pol_forward *f = p.forward[PLAIN], *one;
    assert_fails(p.ctx, pol_forward_queue_targets(f, p.ids, target, B, S, 0, nll), POL_EARG, "0 targets a position");
    assert_fails(p.ctx, pol_forward_queue_targets(f, p.ids, target, B, S, K + 1, nll), POL_EARG, "65 targets");
    target[T * 2 - 1] = V;
    assert_fails(p.ctx, pol_forward_queue_targets(f, p.ids, target, B, S, 2, nll), POL_EARG, "target 96 is outside");
    target[T * 2 - 1] = -2;
    assert_fails(p.ctx, pol_forward_queue_targets(f, p.ids, target, B, S, 2, nll), POL_EARG, "target -2 is outside");
    assert_ok(p.ctx, pol_forward_queue_targets(f, p.ids, target, B, S, 1, nll));
    pol_forward_drop(f);
    assert_ok(p.ctx, pol_forward_new(p.model[PLAIN], T, S, &one));
    assert_int_equal(pol_forward_max_targets(one), 1);
    assert_fails(p.ctx, pol_forward_queue_targets(one, p.ids, target, B, S, 2, nll), POL_EARG, "made for 1");
    assert_fails(p.ctx, pol_forward_top(one, p.ids, B, S, 2, target, nll), POL_EARG, "made for 1");
    pol_forward_free(one);
    assert_fails(p.ctx, pol_forward_top(f, p.ids, B, S, V + 1, target, nll), POL_EARG, "of a vocabulary of 96");
    const pol_forward_size large = {.max_tokens = T, .max_seq_len = S, .max_targets = K + 1};
    assert_fails(p.ctx, pol_forward_new_sized(p.model[PLAIN], &large, &one), POL_EARG, "65 targets");
    close_pair(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resident), cmocka_unit_test(test_replayed), cmocka_unit_test(test_streamed),
        cmocka_unit_test(test_mixed),    cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
