/* test_cost.c - what units cost in every quantity, against sizes counted from the configuration; budgets as people say
 * them; reports; tables of times. */
#include <math.h>

#include "core/base/json.h"
#include "core/mask/timing.h"
#include "tests/test.h"
#include "toy.h"

/* Curves with a step at the first unit, a flat part and a bend. */
static pol_timing toy_timing(int64_t groups, int64_t channels)
{
    pol_timing t = {.batch = 8, .seq_len = 128, .rest = 0.75};
    for (int64_t n = 1; n <= groups; n++)
        t.point[0][t.n[0]++] = (pol_timing_point){n, 0.5 + 0.25 * (double)(n / 2)};
    for (int64_t n = 1; n <= channels; n = n == channels ? n + 1 : n + 4 < channels ? n + 4 : channels)
        t.point[1][t.n[1]++] = (pol_timing_point){n, 0.1 + 0.01 * (double)n + (n > channels / 2 ? 0.3 : 0)};
    return t;
}

static pol_cost *cost_of(pol_context *ctx, const pol_units *u, const pol_config *c, pol_quantity q, bool embeddings)
{
    const pol_timing t = toy_timing(c->n_groups, c->ffn);
    const pol_cost_options o = {
        .embeddings = embeddings, .weight_bits = 4.5, .outside_bits = 16, .cache_bits = 16, .timing = &t};
    pol_cost *cost;
    assert_ok(ctx, pol_cost_new(ctx, u, c, q, &o, &cost));
    return cost;
}

/* What the configuration of a pruned model says, by another way than tables. */
static double counted(const pol_config *left, pol_quantity q, bool embeddings)
{
    const double outside = (left->tied ? 1 : 2) * (double)left->vocab * left->hidden + left->hidden;
    double kv = 0;
    for (int32_t l = 0; l < left->n_layers; l++)
        kv += 2.0 * left->head_dim * 2 * left->layers[l].n_groups;
    const double total = (double)pol_config_total_params(left), blocks = (double)pol_config_block_params(left);
    switch (q) {
    case POL_PARAMS: return embeddings ? total : blocks;
    case POL_BYTES: return embeddings ? (total - outside) * 4.5 / 8 + outside * 2 : blocks * 4.5 / 8;
    case POL_KV_BYTES: return kv;
    case POL_MACS: return (double)pol_config_macs(left) - (embeddings ? 0 : (double)left->vocab * left->hidden);
    case POL_MS: break;
    }
    return NAN;
}

static void test_counts_of_the_configuration(void **state)
{
    pol_context *ctx = *state;
    toy_random random = {.seed = 21};
    for (int round = 0; round < 64; round++) {
        pol_config c = toy_config(3, 4, 16);
        c.tied = round & 1;
        c.qkv_bias = round & 2;
        c.o_bias = round & 4;
        c.mlp_bias = round & 8;
        if (round & 16)
            c.layers[1].n_groups = c.layers[2].ffn = 0; /* a source that lacks blocks */
        pol_units *u;
        assert_ok(ctx, pol_units_new(ctx, &c, &u));
        uint8_t mask[128];
        assert_in_range(u->n, 1, 128);
        for (int64_t i = 0; i < u->n; i++)
            mask[i] = toy_uniform(&random) < (round & 32 ? 0.7 : 0.1);
        pol_config left;
        pol_mask_config(u, mask, &c, &left);
        for (pol_quantity q = POL_PARAMS; q < POL_MS; q++)
            for (int embeddings = 0; embeddings < 2; embeddings++) {
                pol_cost *cost = cost_of(ctx, u, &c, q, embeddings);
                assert_near(pol_cost_mask(cost, mask), counted(&left, q, embeddings), 0);
                assert_near(pol_cost_mask(cost, NULL), counted(&c, q, embeddings), 0);
                assert_near(cost->dense, counted(&c, q, embeddings), 0);
                pol_cost_free(cost);
            }
        pol_units_free(u);
    }
}

static void test_tables(void **state)
{
    pol_context *ctx = *state;
    pol_config c = toy_config(2, 4, 12);
    c.o_bias = true;
    pol_units *u;
    assert_ok(ctx, pol_units_new(ctx, &c, &u));
    for (pol_quantity q = POL_PARAMS; q <= POL_MS; q++)
        for (int embeddings = 0; embeddings < 2; embeddings++) {
            pol_cost *cost = cost_of(ctx, u, &c, q, embeddings);
            double sum = cost->fixed;
            for (pol_unit_kind k = POL_UNIT_GROUP; k <= POL_UNIT_CHANNEL; k++)
                for (int32_t l = 0; l < 2; l++) {
                    const pol_section *sec = pol_units_section(u, k, l);
                    assert_near(pol_cost_block(cost, k, l, 0), 0, 0);
                    for (int64_t n = 0; n < sec->count; n++) {
                        const double at = pol_cost_block(cost, k, l, (double)n);
                        const double next = pol_cost_block(cost, k, l, (double)n + 1);
                        assert_true(next >= at);
                        assert_near(pol_cost_block(cost, k, l, (double)n + 0.25), at + 0.25 * (next - at),
                                    1e-12 * next);
                        assert_true(next * 0x1p20 == floor(next * 0x1p20)); /* sums are exact */
                    }
                    const double whole = pol_cost_block(cost, k, l, (double)sec->count);
                    assert_near(pol_cost_unit(cost, sec), whole / (double)sec->count, 0);
                    assert_near(pol_cost_unit(cost, pol_units_section(u, (pol_unit_kind)(k + 2), l)), whole, 0);
                    sum += whole;
                }
            assert_near(sum, cost->dense, 0);
            assert_int_equal(pol_cost_kinds(cost), q == POL_KV_BYTES ? POL_HEADS | 1u << POL_UNIT_ATTENTION
                                                                     : POL_HEADS | POL_CHANNELS | POL_BLOCKS);
            if (q == POL_MS)
                assert_near(cost->fixed, embeddings ? 0.75 : 0, 0);
            pol_cost_free(cost);
        }
    pol_units_free(u);
}

static void test_refused_costs(void **state)
{
    pol_context *ctx = *state;
    const pol_config c = toy_config(2, 4, 12);
    pol_units *u;
    pol_cost *cost;
    assert_ok(ctx, pol_units_new(ctx, &c, &u));
    assert_fails(ctx, pol_cost_new(ctx, u, &c, POL_BYTES, &(pol_cost_options){0}, &cost), POL_EARG, "cost in bytes: 0");
    assert_null(cost);
    assert_fails(ctx, pol_cost_new(ctx, u, &c, POL_KV_BYTES, &(pol_cost_options){.cache_bits = NAN}, &cost), POL_EARG,
                 "cost in kv-bytes: nan");
    assert_fails(ctx, pol_cost_new(ctx, u, &c, POL_MS, &(pol_cost_options){0}, &cost), POL_EARG, "no table");
    pol_timing t = toy_timing(4, 11);
    assert_fails(ctx, pol_cost_new(ctx, u, &c, POL_MS, &(pol_cost_options){.timing = &t}, &cost), POL_EARG,
                 "ends at 11 channels, layer 0 has 12");
    t = toy_timing(4, 12);
    t.point[0][2].ms = 0.1;
    assert_fails(ctx, pol_cost_new(ctx, u, &c, POL_MS, &(pol_cost_options){.timing = &t}, &cost), POL_EARG,
                 "attention: 3 units of 0.1 ms cannot follow 2 of 0.75 ms");
    pol_units_free(u);
}

/* ---- --budget ---- */

static void test_requests(void **state)
{
    pol_context *ctx = *state;
    static const struct {
        const char *text;
        pol_quantity quantity;
        bool absolute;
        double value;
    } good[] = {
        {"params=0.7", POL_PARAMS, false, 0.7},
        {"params=70%", POL_PARAMS, false, 0.7},
        {"params=-30%", POL_PARAMS, false, 0.7},
        {"params=1", POL_PARAMS, false, 1},
        {"macs=-0%", POL_MACS, false, 1},
        {"ms=-12.5%", POL_MS, false, 0.875},
        {"kv-bytes=.5", POL_KV_BYTES, false, 0.5},
        {"params=350M", POL_PARAMS, true, 350e6},
        {"params=5.0B", POL_PARAMS, true, 5e9},
        {"params=5G", POL_PARAMS, true, 5e9},
        {"params=12k", POL_PARAMS, true, 12e3},
        {"params=1234567", POL_PARAMS, true, 1234567},
        {"macs=1.5T", POL_MACS, true, 1.5e12},
        {"bytes=3GiB", POL_BYTES, true, 3 * 0x1p30},
        {"bytes=1.5GB", POL_BYTES, true, 1.5e9},
        {"bytes=0.5GB", POL_BYTES, true, 0.5e9},
        {"bytes=700MiB", POL_BYTES, true, 700 * 0x1p20},
        {"bytes=123456B", POL_BYTES, true, 123456},
        {"kv-bytes=24KiB", POL_KV_BYTES, true, 24 * 1024},
        {"kv-bytes=24kB", POL_KV_BYTES, true, 24000},
        {"ms=12.5", POL_MS, true, 12.5},
        {"ms=0.5ms", POL_MS, true, 0.5},
        {"ms=500us", POL_MS, true, 0.5},
        {"ms=2s", POL_MS, true, 2000},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        pol_budget_request r;
        assert_ok(ctx, pol_budget_parse(ctx, good[i].text, &r));
        assert_int_equal(r.quantity, good[i].quantity);
        assert_int_equal(r.absolute, good[i].absolute);
        assert_int_equal(r.embeddings, good[i].absolute);
        assert_near(r.value, good[i].value, 0);
    }
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"0.7", "'0.7': neither separate nor joint"},
        {"", "neither separate"},
        {"=0.7", "is none of params"},
        {"param=0.7", "'param' is none of params, bytes, kv-bytes, macs, ms"},
        {"paramss=0.7", "'paramss' is none"},
        {"params=", "no number"},
        {"params=.", "no number"},
        {"params=%", "no number"},
        {"params=x", "no number"},
        {"params=inf", "no number"},
        {"params=nan", "no number"},
        {"params=--3%", "no number"},
        {"params=+3%", "no number"},
        {"params=1234567890123456", "no number"},
        {"params=0x10", "'x10' is no unit of params"},
        {"params=1e9", "'e9' is no unit of params"},
        {"params=0", "above 0"},
        {"params=0%", "above 0"},
        {"params=-100%", "above 0"},
        {"params=-101%", "above 0"},
        {"params=101%", "at most all"},
        {"params=0M", "amount must be above 0"},
        {"params=-0.3", "in per cent"},
        {"params=-3M", "in per cent"},
        {"params=3GiB", "'GiB' is no unit of params"},
        {"params=3 M", "' M' is no unit"},
        {"params=3%%", "'%%' is no unit"},
        {"bytes=3G", "'G' is no unit of bytes"},
        {"kv-bytes=3k", "'k' is no unit of kv-bytes"},
        {"ms=3M", "'M' is no unit of ms"},
        {"macs=3ms", "'ms' is no unit of macs"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pol_budget_request r;
        assert_fails(ctx, pol_budget_parse(ctx, bad[i].text, &r), POL_EARG, bad[i].part);
        assert_non_null(strstr(pol_error_text(ctx), bad[i].text));
    }
}

static void test_limits(void **state)
{
    pol_context *ctx = *state;
    const pol_config c = toy_config(2, 3, 10); /* 2 (3 * 192 + 10 * 24) = 1632; outside 2 * 128 + 8, norms 4 * 8 */
    pol_units *u;
    assert_ok(ctx, pol_units_new(ctx, &c, &u));
    pol_cost *blocks = cost_of(ctx, u, &c, POL_PARAMS, false), *whole = cost_of(ctx, u, &c, POL_PARAMS, true);
    double limit;
    assert_ok(ctx, pol_budget_limit(&(pol_budget_request){POL_PARAMS, false, false, 0.5}, blocks, &limit));
    assert_near(limit, 816, 1e-8);
    assert_true(limit >= 816);
    assert_ok(ctx, pol_budget_limit(&(pol_budget_request){POL_PARAMS, false, true, 0.5}, whole, &limit));
    assert_near(limit, 964, 1e-8);
    assert_ok(ctx, pol_budget_limit(&(pol_budget_request){POL_PARAMS, false, false, 1}, blocks, &limit));
    assert_near(limit, 1632, 0);
    assert_ok(ctx, pol_budget_limit(&(pol_budget_request){POL_PARAMS, true, true, 1928}, whole, &limit));
    assert_near(limit, 1928, 0);
    assert_fails(ctx, pol_budget_limit(&(pol_budget_request){POL_PARAMS, true, true, 1929}, whole, &limit), POL_EARG,
                 "budget of params: 1.93 k is more than the 1.93 k of the whole model");
    pol_cost_free(blocks);
    pol_cost_free(whole);
    pol_units_free(u);

    /* A share of a round number keeps all of it, though 0.41 * 600 is just below 246. */
    const pol_config round_one = toy_config(1, 1, 17);
    assert_ok(ctx, pol_units_new(ctx, &round_one, &u));
    blocks = cost_of(ctx, u, &round_one, POL_PARAMS, false);
    assert_near(blocks->dense, 600, 0);
    for (int percent = 1; percent <= 100; percent++) {
        char text[32];
        pol_budget_request r;
        snprintf(text, sizeof text, "params=%d%%", percent);
        assert_ok(ctx, pol_budget_parse(ctx, text, &r));
        assert_ok(ctx, pol_budget_limit(&r, blocks, &limit));
        assert_true(limit >= 6 * percent && limit < 6 * percent + 1e-6);
    }
    pol_cost_free(blocks);
    pol_units_free(u);
}

static void test_report(void **state)
{
    pol_context *ctx = *state;
    const pol_config c = toy_config(2, 3, 10);
    pol_units *u;
    assert_ok(ctx, pol_units_new(ctx, &c, &u));
    uint8_t mask[64];
    memset(mask, 1, sizeof mask);
    mask[0] = 0;                                            /* a group of 192 */
    mask[pol_units_section(u, POL_UNIT_MLP, 1)->first] = 0; /* 240, and its norm of 8 */
    for (int embeddings = 0; embeddings < 2; embeddings++) {
        pol_cost *cost = cost_of(ctx, u, &c, POL_PARAMS, embeddings);
        pol_cost_report r;
        char text[POL_COST_TEXT];
        pol_cost_reported(cost, 1500, mask, &r);
        assert_near(r.share, 1200.0 / 1632, 1e-15);
        assert_near(r.share_with_embeddings, 1488.0 / 1928, 1e-15);
        assert_near(r.achieved, embeddings ? 1488 : 1200, 0);
        assert_near(r.dense, embeddings ? 1928 : 1632, 0);
        pol_cost_report_text(&r, text);
        assert_string_equal(text, embeddings ? "params 1.49 k of at most 1.50 k, dense 1.93 k: 73.53 % of the decoder "
                                               "blocks, 77.18 % with embeddings"
                                             : "params 1.20 k of at most 1.50 k, dense 1.63 k: 73.53 % of the decoder "
                                               "blocks, 77.18 % with embeddings");
        r.asked = NAN;
        pol_cost_report_text(&r, text);
        assert_null(strstr(text, "at most"));
        pol_cost_free(cost);
    }
    static const struct {
        pol_quantity q;
        double amount;
        const char *text;
    } amounts[] = {{POL_PARAMS, 999, "999"},       {POL_PARAMS, 134515008, "134.52 M"}, {POL_BYTES, 0x1p30, "1.00 GiB"},
                   {POL_KV_BYTES, 1023, "1023 B"}, {POL_MACS, 2.5e12, "2.50 T"},        {POL_MS, 12.345678, "12.35 ms"},
                   {POL_PARAMS, 5e15, "5000.00 T"}};
    for (size_t i = 0; i < sizeof amounts / sizeof *amounts; i++) {
        char text[POL_AMOUNT_TEXT];
        pol_amount_text(amounts[i].q, amounts[i].amount, text);
        assert_string_equal(text, amounts[i].text);
    }
    pol_units_free(u);
}

/* ---- tables of times ---- */

/* Nearest never-falling numbers by their other definition: the largest over beginnings of the smallest over ends of
 * means. */
static double isotonic(const double *x, int n, int i)
{
    double best = -INFINITY;
    for (int a = 0; a <= i; a++) {
        double least = INFINITY, sum = 0;
        for (int b = a; b < n; b++) {
            sum += x[b];
            if (b >= i)
                least = fmin(least, sum / (b - a + 1));
        }
        best = fmax(best, least);
    }
    return best;
}

static void test_smoothing(void **state)
{
    pol_context *ctx = *state;
    toy_random random = {.seed = 22};
    for (int round = 0; round < 200; round++) {
        pol_timing t = {.batch = 1, .seq_len = 2};
        double x[POL_TIMING_POINTS];
        t.n[1] = 1 + toy_below(&random, round % 10 ? 20 : POL_TIMING_POINTS);
        for (int64_t i = 0; i < t.n[1]; i++) {
            x[i] = toy_uniform(&random) * (round % 3 ? 1 : (double)i);
            t.point[1][i] = (pol_timing_point){i + 1, x[i]};
        }
        pol_timing_smooth(&t, POL_UNIT_CHANNEL);
        for (int64_t i = 0; i < t.n[1]; i++)
            assert_near(t.point[1][i].ms, isotonic(x, (int)t.n[1], (int)i), 1e-6);
        assert_ok(ctx, pol_timing_check(ctx, POL_EARG, "t", &t));
    }
}

static void test_interpolation(void **state)
{
    (void)state;
    pol_timing t = {.n = {0, 3}, .point = {{{0}}, {{2, 1}, {4, 1}, {8, 3}}}};
    static const double want[] = {0, 0.5, 1, 1, 1, 1.5, 2, 2.5, 3};
    for (int64_t n = 0; n <= 8; n++)
        assert_near(pol_timing_at(&t, POL_UNIT_CHANNEL, n), want[n], 0);
}

static pol_status timing_from(pol_context *ctx, const char *text, pol_timing *out)
{
    json_t *j;
    POL_TRY(pol_json_parse(ctx, "run.json", text, strlen(text), &j));
    const pol_status s = pol_timing_from_json(ctx, "run.json: timing", j, out);
    json_decref(j);
    return s;
}

static void test_timing_json(void **state)
{
    pol_context *ctx = *state;
    pol_timing t = toy_timing(5, 60), back;
    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; i < t.n[k]; i++)
            t.point[k][i].ms = pol_timing_round(t.point[k][i].ms * M_PI);
    json_t *j = pol_timing_to_json(&t);
    char *text = json_dumps(j, JSON_REAL_PRECISION(15)); /* as records are written */
    assert_ok(ctx, timing_from(ctx, text, &back));
    assert_memory_equal(&t, &back, sizeof t);
    free(text);
    json_decref(j);
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"[]", "timing"},
        {"{\"seq_len\": 8, \"rest_ms\": 1, \"attention\": [], \"mlp\": []}", "batch"},
        {"{\"batch\": 0, \"seq_len\": 8, \"rest_ms\": 1, \"attention\": [], \"mlp\": []}", "batch"},
        {"{\"batch\": 1, \"seq_len\": 8, \"rest_ms\": -1, \"attention\": [], \"mlp\": []}", "rest_ms"},
        {"{\"batch\": 1, \"seq_len\": 8, \"rest_ms\": 1, \"attention\": 3, \"mlp\": []}", "attention"},
        {"{\"batch\": 1, \"seq_len\": 8, \"rest_ms\": 1, \"attention\": []}", "mlp"},
        {"{\"batch\": 1, \"seq_len\": 8, \"rest_ms\": 1, \"attention\": [[1]], \"mlp\": []}", "attention[0]"},
        {"{\"batch\": 1, \"seq_len\": 8, \"rest_ms\": 1, \"attention\": [[1, 2, 3]], \"mlp\": []}", "attention[0]"},
        {"{\"batch\": 1, \"seq_len\": 8, \"rest_ms\": 1, \"attention\": [], \"mlp\": [[1.5, 2]]}", "mlp[0]"},
        {"{\"batch\": 1, \"seq_len\": 8, \"rest_ms\": 1, \"attention\": [], \"mlp\": [[0, 2]]}", "0 units of 2 ms"},
        {"{\"batch\": 1, \"seq_len\": 8, \"rest_ms\": 1, \"attention\": [], \"mlp\": [[1, 2], [1, 3]]}",
         "cannot follow"},
        {"{\"batch\": 1, \"seq_len\": 8, \"rest_ms\": 1, \"attention\": [], \"mlp\": [[1, 2], [2, 1]]}",
         "cannot follow"},
        {"{\"batch\": 1, \"seq_len\": 8, \"rest_ms\": 1, \"attention\": [], \"mlp\": [[1, 1e300]]}", "outside 0.."},
        {"{\"batch\": 1, \"seq_len\": 8, \"rest_ms\": 1, \"attention\": [], \"mlp\": [[9999999999, 1]]}",
         "cannot follow"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_fails(ctx, timing_from(ctx, bad[i].text, &back), POL_EFORMAT, bad[i].part);
    char many[4096] = "{\"batch\": 1, \"seq_len\": 8, \"rest_ms\": 1, \"mlp\": [], \"attention\": [[1, 1]";
    for (int i = 2; i <= POL_TIMING_POINTS + 1; i++)
        snprintf(many + strlen(many), sizeof many - strlen(many), ", [%d, 1]", i);
    strcat(many, "]}");
    assert_fails(ctx, timing_from(ctx, many, &back), POL_EFORMAT, "129 points, 128 is the most");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts_of_the_configuration),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_refused_costs),
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_report),
        cmocka_unit_test(test_smoothing),
        cmocka_unit_test(test_interpolation),
        cmocka_unit_test(test_timing_json),
    };
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}
