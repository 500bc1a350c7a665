/* test_objective.c - cross entropy, KL to the dense model and accuracy as losses: equal to what they are by definition,
 * asked for late and in any number. */
#include <math.h>

#include "core/objective/kl.h"
#include "core/objective/objective.h"
#include "tests/loaded_model.h"

enum { N = 6, S = 12, BATCH = 2, K = POL_MAX_TARGETS, MAX_V = 400 };

/* Two replicas of a model, and a text of no meaning. */
typedef struct rig {
    pol_context *ctx;
    loaded m[2];
    pol_replica of[2];
    pol_replicas r;
    pol_sequences text;
    int32_t ids[N * S];
    uint8_t *mask;
} rig;

static void open_rig(rig *g, pol_context *ctx, const char *model, int64_t max_tokens, int64_t max_seq_len)
{
    memset(g, 0, sizeof *g);
    g->ctx = ctx;
    for (int i = 0; i < 2; i++) {
        char path[128];
        snprintf(path, sizeof path, "models/%s", model);
        load_placed(&g->m[i], ctx, open_cpu(ctx), test_file(path), NULL, 1, 2);
        pol_forward_free(g->m[i].forward);
        const pol_forward_size size = {max_tokens, max_seq_len, K};
        assert_ok(ctx, pol_forward_new_sized(g->m[i].model, &size, &g->m[i].forward));
        g->of[i] = (pol_replica){g->m[i].model, g->m[i].forward};
    }
    g->r = (pol_replicas){.ctx = ctx, .of = g->of, .n = 2};
    const int32_t vocab = pol_model_config(g->m[0].model)->vocab;
    for (int i = 0; i < N * S; i++)
        g->ids[i] = (i * 37 + i / 5) % vocab;
    g->text = (pol_sequences){.ctx = ctx, .n = N, .seq_len = S, .ids = g->ids};
    g->mask = malloc((size_t)g->m[0].units->n);
}

static void close_rig(rig *g)
{
    free(g->mask);
    for (int i = 0; i < 2; i++)
        unload(&g->m[i]);
}

static pol_objective *open_objective(rig *g, pol_objective_kind kind, const pol_task *task)
{
    pol_objective *q;
    const pol_objective_inputs in = {.text = &g->text, .task = task, .batch = BATCH};
    assert_ok(g->ctx, pol_objective_new(&g->r, kind, &in, &q));
    return q;
}

static void set_mask(rig *g, uint64_t i)
{
    random_mask(g->m[0].units, i, g->mask);
    assert_ok(g->ctx, pol_replicas_set_mask(&g->r, i ? g->mask : NULL));
}

/* Log-probabilities of the whole vocabulary at each position of a sequence but the last: [S - 1, V]. */
static void distribution(rig *g, int64_t sequence, double *logp)
{
    const int32_t V = pol_model_config(g->m[0].model)->vocab;
    int32_t target[S * K];
    float nll[S * K];
    for (int32_t first = 0; first < V; first += K) {
        const int32_t k = V - first < K ? V - first : K;
        for (int32_t i = 0; i < S * k; i++)
            target[i] = first + i % k;
        pol_forward *f = g->m[0].forward;
        assert_ok(g->ctx, pol_forward_queue_targets(f, g->ids + sequence * S, target, 1, S, k, nll));
        assert_ok(g->ctx, pol_forward_settle(f));
        for (int64_t t = 0; t < S - 1; t++)
            for (int32_t i = 0; i < k; i++)
                logp[t * V + first + i] = -(double)nll[t * k + i];
    }
}

/* KL over the whole vocabulary, and of it the part that is inside the rest: what is not among the K largest of p. */
static void full_kl(const double *p, const double *q, int32_t V, double *whole, double *inside)
{
    *whole = *inside = 0;
    for (int64_t t = 0; t < S - 1; t++, p += V, q += V) {
        double rest_p = 0, rest_q = 0, rest = 0;
        for (int32_t v = 0; v < V; v++) {
            int32_t larger = 0;
            for (int32_t u = 0; u < V; u++)
                larger += p[u] > p[v];
            const double term = exp(p[v]) * (p[v] - q[v]);
            *whole += term / (S - 1);
            if (larger < K)
                continue;
            rest_p += exp(p[v]);
            rest_q += exp(q[v]);
            rest += term;
        }
        if (rest_p > 0)
            *inside += (rest - rest_p * log(rest_p / rest_q)) / (S - 1);
    }
}

static void check_kl(pol_context *ctx, const char *model)
{
    static double dense[N][(S - 1) * MAX_V], masked[(S - 1) * MAX_V];
    rig g;
    open_rig(&g, ctx, model, BATCH * S, S);
    const int32_t V = pol_model_config(g.m[0].model)->vocab;
    pol_objective *q = open_objective(&g, POL_OBJECTIVE_KL, NULL);
    assert_ok(ctx, pol_objective_prepare(q, NULL, 0, N, NULL, NULL));
    for (int64_t i = 0; i < N; i++)
        distribution(&g, i, dense[i]);

    double loss[N];
    assert_ok(ctx, pol_objective_look(q, NULL, 0, N, loss));
    assert_ok(ctx, pol_objective_settle(q));
    for (int64_t i = 0; i < N; i++)
        assert_near(loss[i], 0, 1e-6);

    set_mask(&g, 3);
    assert_ok(ctx, pol_objective_look(q, NULL, 0, N, loss));
    assert_ok(ctx, pol_objective_settle(q));
    for (int64_t i = 0; i < N; i++) {
        double whole, inside;
        distribution(&g, i, masked);
        full_kl(dense[i], masked, V, &whole, &inside);
        assert_true(whole > 1e-4 && inside > -1e-9);
        assert_true(loss[i] <= whole + 1e-6);
        assert_true(V > K ? inside > 0 : inside == 0);
        assert_near(loss[i], whole - inside, 1e-5); /* the chain rule */
    }
    pol_objective_free(q);
    close_rig(&g);
}

static void test_kl_is_exact_where_nothing_is_lumped(void **state) { check_kl(*state, "sharded-mix"); }

static void test_kl_of_many_tokens(void **state)
{
    check_kl(*state, "llama-gqa-tied");
    check_kl(*state, "trained");
}

static void test_kl_by_hand(void **state)
{
    (void)state;
    const float p[] = {(float)log(2), (float)log(4)}, q[] = {(float)log(4), (float)log(4)};
    assert_near(pol_kl(p, q, 2), 0.5 * log(2) + 0.25 * log(0.5), 1e-6); /* rests of 1/4 and 1/2 */
    assert_near(pol_kl(p, p, 2), 0, 1e-12);
    const float all[] = {(float)log(2), (float)log(2)}, far[] = {(float)log(2), 40};
    assert_near(pol_kl(all, far, 2), 0.5 * (40 - log(2)), 1e-4);
    assert_near(pol_kl(all, all, 2), 0, 1e-12); /* a rest of nothing, whatever rounding makes of it */
    const float over[] = {0.6931f, 0.6931f};    /* more than 1 together */
    assert_near(pol_kl(over, over, 2), 0, 1e-12);
    assert_true(isnan(pol_kl(p, (float[]){NAN, 1}, 2)));
    assert_true(isfinite(pol_kl(p, over, 2))); /* the masked model leaves nothing for a rest of 1/4 */
}

static void test_what_is_kept(void **state)
{
    pol_context *ctx = *state;
    rig g;
    pol_dense_top d;
    int32_t target[S * K];
    open_rig(&g, ctx, "llama-gqa-tied", BATCH * S, S);
    assert_ok(ctx, pol_dense_top_new(&g.text, 96, &d));
    assert_ok(ctx, pol_dense_top_add(&d, g.m[0].forward, BATCH, (int64_t[]){4, 1, 4}, 0, 3, NULL, NULL));
    assert_int_equal(d.n, 2);
    assert_ok(ctx, pol_dense_top_add(&d, g.m[0].forward, BATCH, (int64_t[]){1, 5}, 0, 2, NULL, NULL));
    assert_int_equal(d.n, 3);
    pol_dense_top_targets(&d, 5, target);
    for (int64_t i = 0; i < S * K; i++) /* of the last position there is nothing to predict */
        assert_true(i < (S - 1) * K ? target[i] >= 0 && target[i] < 96 : target[i] == -1);
    pol_dense_top_free(&d);
    close_rig(&g);
}

/* The same bits whatever was done before, and units back where they lay. */
static void test_preparing_late(void **state)
{
    enum { UNITS = 256 };
    pol_context *ctx = *state;
    double loss[2][N];
    int32_t before[UNITS], after[UNITS];
    for (int late = 0; late < 2; late++) {
        rig g;
        open_rig(&g, ctx, "llama-gqa-tied", BATCH * S, S);
        pol_objective *q = open_objective(&g, POL_OBJECTIVE_KL, NULL);
        assert_true(pol_model_order_size(g.m[0].model) <= UNITS);
        for (uint64_t i = 1; late && i < 5; i++)
            set_mask(&g, i);
        pol_model_get_order(g.m[0].model, before);
        assert_ok(ctx, pol_objective_prepare(q, NULL, 0, N, NULL, NULL));
        pol_model_get_order(g.m[0].model, after);
        assert_memory_equal(before, after, (size_t)pol_model_order_size(g.m[0].model) * sizeof *before);
        pol_model_get_order(g.m[1].model, after);
        assert_memory_equal(before, after, (size_t)pol_model_order_size(g.m[0].model) * sizeof *before);
        for (int64_t i = 0; i < pol_model_order_size(g.m[0].model); i++)
            after[i] = (int32_t)i;
        assert_ok(ctx, pol_replicas_set_order(&g.r, after));
        set_mask(&g, 3);
        assert_ok(ctx, pol_objective_look(q, NULL, 0, N, loss[late]));
        assert_ok(ctx, pol_objective_settle(q));
        pol_objective_free(q);
        close_rig(&g);
    }
    assert_memory_equal(loss[0], loss[1], sizeof loss[0]);
}

/* Sequences that are kept once, in whichever order and however often they are asked for. */
static void test_preparing(void **state)
{
    pol_context *ctx = *state;
    rig g;
    open_rig(&g, ctx, "llama-gqa-tied", BATCH * S, S);
    pol_objective *a = open_objective(&g, POL_OBJECTIVE_KL, NULL), *b = open_objective(&g, POL_OBJECTIVE_KL, NULL);
    const int64_t some[] = {4, 1, 4}, more[] = {1, 5};
    double x[N] = {0}, y[N];
    assert_ok(ctx, pol_objective_prepare(a, some, 0, 3, NULL, NULL));
    assert_ok(ctx, pol_objective_prepare(a, more, 0, 2, NULL, NULL));
    assert_ok(ctx, pol_objective_prepare(b, NULL, 0, N, NULL, NULL));
    assert_fails(ctx, pol_objective_prepare(a, NULL, 1, N, NULL, NULL), POL_EARG, "index 6 of 6");
    set_mask(&g, 2);
    assert_ok(ctx, pol_objective_look(b, NULL, 0, N, y));
    assert_ok(ctx, pol_objective_settle(b));
    const int64_t ask[] = {5, 4, 1};
    assert_ok(ctx, pol_objective_look(a, ask, 0, 3, x));
    assert_ok(ctx, pol_objective_settle(a));
    for (int i = 0; i < 3; i++)
        assert_near(x[i], y[ask[i]], 1e-6);
    x[0] = -7;
    assert_fails(ctx, pol_objective_look(a, NULL, 0, 2, x), POL_EARG, "sequence 0 is not prepared");
    assert_true(x[0] == -7);
    assert_fails(ctx, pol_objective_look(a, (int64_t[]){-1}, 0, 1, x), POL_EARG, "index -1 of 6");
    pol_objective_free(a);
    pol_objective_free(b);
    close_rig(&g);
}

/* Looks under several masks before anything is waited for, on two replicas: as each by itself. */
static void check_many_looks(rig *g, pol_objective *q, int64_t n)
{
    enum { LOOKS = 7 };
    double loss[LOOKS][N], alone[N];
    int64_t index[N];
    for (int64_t i = 0; i < n; i++)
        index[i] = (i * 5 + 2) % n;
    for (uint64_t i = 0; i < LOOKS; i++) {
        set_mask(g, i);
        assert_ok(g->ctx, pol_objective_look(q, index, 0, n, loss[i]));
    }
    assert_ok(g->ctx, pol_objective_settle(q));
    for (uint64_t i = 0; i < LOOKS; i++) {
        set_mask(g, i);
        assert_ok(g->ctx, pol_objective_look(q, NULL, 0, n, alone));
        assert_ok(g->ctx, pol_objective_settle(q));
        for (int64_t k = 0; k < n; k++)
            assert_near(loss[i][k], alone[index[k]], 1e-5);
    }
    for (int64_t k = 0; k < n; k++)
        loss[0][k] = -7;
    assert_ok(g->ctx, pol_objective_look(q, NULL, 0, n, loss[0]));
    pol_objective_drop(q);
    assert_ok(g->ctx, pol_objective_settle(q));
    assert_true(loss[0][0] == -7 && loss[0][n - 1] == -7);
}

static void test_many_looks(void **state)
{
    pol_context *ctx = *state;
    rig g;
    open_rig(&g, ctx, "llama-gqa-tied", BATCH * S, S);
    for (int kind = POL_OBJECTIVE_CROSS_ENTROPY; kind <= POL_OBJECTIVE_KL; kind++) {
        set_mask(&g, 0);
        pol_objective *q = open_objective(&g, (pol_objective_kind)kind, NULL);
        assert_ok(ctx, pol_objective_prepare(q, NULL, 0, N, NULL, NULL));
        check_many_looks(&g, q, N);
        assert_int_equal(pol_objective_sequences(q, NULL, 0, 4), 4);
        pol_objective_free(q);
    }
    close_rig(&g);
}

static void test_cross_entropy(void **state)
{
    pol_context *ctx = *state;
    rig g;
    double loss[N], want[N];
    open_rig(&g, ctx, "llama-gqa-tied", BATCH * S, S);
    pol_objective *q = open_objective(&g, POL_OBJECTIVE_CROSS_ENTROPY, NULL);
    set_mask(&g, 4);
    assert_ok(ctx, pol_objective_look(q, NULL, 0, N, loss));
    assert_ok(ctx, pol_objective_settle(q));
    for (int64_t i = 0; i < N; i += BATCH)
        assert_ok(ctx, pol_forward_nll(g.m[1].forward, g.ids + i * S, BATCH, S, NULL, want + i));
    for (int64_t i = 0; i < N; i++)
        assert_true(loss[i] == want[i]);
    pol_objective_free(q);
    close_rig(&g);
}

/* The same items as pol_task_eval() takes to be right. */
static void test_accuracy(void **state)
{
    pol_context *ctx = *state;
    rig g;
    pol_tokenizer *tok;
    pol_task *t;
    open_rig(&g, ctx, "trained", 512, 64);
    assert_ok(ctx, pol_tokenizer_open(g.m[0].src, &tok));
    assert_ok(ctx, pol_task_read(ctx, tok, pol_model_config(g.m[0].model), "openbookqa",
                                 test_file("tasks/openbookqa.jsonl"), POL_BOS_MODEL, 0, &t));
    pol_objective *q = open_objective(&g, POL_OBJECTIVE_ACCURACY, t);
    assert_ok(ctx, pol_objective_prepare(q, NULL, 0, pol_task_items(t), NULL, NULL));
    assert_int_equal(pol_objective_sequences(q, (int64_t[]){3, 3}, 0, 2), 8);
    for (uint64_t i = 0; i < 3; i++) {
        double loss[24], sum = 0;
        pol_task_result r;
        set_mask(&g, i);
        assert_ok(ctx, pol_task_eval(g.m[0].forward, t, 2, 22, NULL, NULL, NULL, &r));
        assert_ok(ctx, pol_objective_look(q, NULL, 2, 22, loss));
        assert_ok(ctx, pol_objective_settle(q));
        for (int k = 0; k < 22; k++) {
            assert_true(loss[k] == 0 || loss[k] == 1);
            sum += loss[k];
        }
        assert_near(1 - sum / 22, r.acc, 1e-12);
        assert_true(sum > 0 && sum < 22);
    }
    check_many_looks(&g, q, N);

    int64_t n;
    assert_ok(ctx, pol_objective_items(&(pol_objective_settings){.task_file = "f"}, t, &n));
    assert_int_equal(n, 12);
    assert_ok(ctx, pol_objective_items(&(pol_objective_settings){.task_items = 23, .task_file = "f"}, t, &n));
    assert_int_equal(n, 23);
    assert_fails(ctx, pol_objective_items(&(pol_objective_settings){.task_items = 24, .task_file = "f"}, t, &n),
                 POL_EFORMAT, "f: 24 items: 24 to learn from");
    pol_objective_free(q);
    pol_task_free(t);
    pol_tokenizer_free(tok);
    close_rig(&g);
}

static void test_settings(void **state)
{
    pol_context *ctx = *state;
    const struct {
        pol_objective_settings o;
        const char *says;
    } bad[] = {
        {{.kind = (pol_objective_kind)3}, "objective: 3"},
        {{.task_items = -1}, "-1 items"},
        {{.kind = POL_OBJECTIVE_KL, .task = "piqa"}, "objective kl: takes no task"},
        {{.task_items = 3}, "objective cross-entropy: takes no task"},
        {{.kind = POL_OBJECTIVE_ACCURACY, .task = "piqa"}, "no task is given"},
        {{.kind = POL_OBJECTIVE_ACCURACY, .task = "pica", .task_file = "f"}, "'pica' is the name of no task"},
    };
    for (size_t i = 0; i < POL_COUNT(bad); i++)
        assert_fails(ctx, pol_objective_check(ctx, &bad[i].o), POL_EARG, bad[i].says);
    assert_ok(ctx, pol_objective_check(ctx, &(pol_objective_settings){0}));
    assert_ok(ctx, pol_objective_check(
                       ctx, &(pol_objective_settings){
                                .kind = POL_OBJECTIVE_ACCURACY, .task = "piqa", .task_file = "f", .task_items = 3}));
    assert_int_equal(pol_objective_targets(POL_OBJECTIVE_KL), 64);
    assert_int_equal(pol_objective_targets(POL_OBJECTIVE_ACCURACY), 1);
    assert_int_equal(pol_objective_bytes(POL_OBJECTIVE_KL, 128, 10, 3), 128 * 64 * (10 * 8 + 3 * 4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kl_is_exact_where_nothing_is_lumped),
        cmocka_unit_test(test_kl_of_many_tokens),
        cmocka_unit_test(test_kl_by_hand),
        cmocka_unit_test(test_what_is_kept),
        cmocka_unit_test(test_preparing_late),
        cmocka_unit_test(test_preparing),
        cmocka_unit_test(test_many_looks),
        cmocka_unit_test(test_cross_entropy),
        cmocka_unit_test(test_accuracy),
        cmocka_unit_test(test_settings),
    };
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}
