/* test_cli_budget.c - `pollard prune --budget`: amounts and shares of every quantity, what is printed and recorded of
 * them, times that a run keeps, budgets that cannot be. */
#include <math.h>

#include "pollard/pollard.h"
#include "program.h"

#define SMALL "prune @model --data @calibration --seq-len 32 --held-out 8 --init-sequences 8 --passes 32 "

/* Of the trained model of tests/data: 4 layers of 4 groups and 96 channels, tied, bf16. */
enum { LAYERS = 4, GROUP = 6 * 8 * 48, CHANNEL = 3 * 48, BLOCKS = LAYERS * (4 * GROUP + 96 * CHANNEL), TOTAL = 111792 };
enum { MATRIX = 400 * 48 }; /* of the output */

typedef struct counted {
    double groups, channels, blocks; /* effectively kept; blocks that are there */
} counted;

static counted count_mask(const cli *t, const char *name)
{
    json_t *j = load_json(t, name), *layer;
    counted c = {0};
    size_t l;
    json_array_foreach(at(j, "layers"), l, layer)
    {
        const double groups = (double)json_array_size(at(at(layer, "heads"), "kept"));
        const double channels = (double)json_array_size(at(at(layer, "channels"), "kept"));
        c.groups += groups;
        c.channels += channels;
        c.blocks += (groups > 0) + (channels > 0);
    }
    json_decref(j);
    return c;
}

typedef struct row {
    const char *options, *quantity;
    bool embeddings;
    double asked, dense;
    double per_param, per_group; /* what the quantity counts: so much a parameter of the blocks, so much a group */
    double outside;              /* besides, where embeddings count */
} row;

static const row rows[] = {
    {"--budget params=0.7", "params", false, 0.7 * BLOCKS, BLOCKS, 1, 0, 0},
    {"--budget params=-25% --embeddings in", "params", true, 0.75 * TOTAL, TOTAL, 1, 0, TOTAL - BLOCKS},
    {"--budget params=80k", "params", true, 80000, TOTAL, 1, 0, TOTAL - BLOCKS},
    {"--keep 0.7 --budget joint --embeddings in", "params", true, 0.7 * TOTAL, TOTAL, 1, 0, TOTAL - BLOCKS},
    {"--budget bytes=160KiB", "bytes", true, 160 * 1024, 2 * TOTAL, 2, 0, 2 * (TOTAL - BLOCKS)},
    {"--budget bytes=-50%", "bytes", false, BLOCKS, 2 * BLOCKS, 2, 0, 0},
    {"--budget kv-bytes=-40%", "kv-bytes", false, 0.6 * 512, 512, 0, 32, 0},
    {"--budget kv-bytes=300B --granularity heads", "kv-bytes", true, 300, 512, 0, 32, 0},
    {"--budget macs=-30%", "macs", false, 0.7 * BLOCKS, BLOCKS, 1, 0, 0},
    {"--budget macs=90k", "macs", true, 90000, BLOCKS + MATRIX, 1, 0, MATRIX},
};

static void amounts_are_met_to_one_unit(void **state)
{
    cli *t = *state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const row *r = &rows[i];
        char call[512], name[64], said[64];
        snprintf(call, sizeof call, SMALL "%s --out @/r%zu", r->options, i);
        assert_call(t, 0, call);
        snprintf(said, sizeof said, "budget: %s ", r->quantity);
        assert_non_null(strstr(t->out, said));
        assert_non_null(strstr(t->out, " % of the decoder blocks, "));
        assert_non_null(strstr(t->out, " % with embeddings"));
        snprintf(name, sizeof name, "r%zu/run.json", i);
        json_t *run = load_json(t, name);
        const json_t *budget = at(run, "results.budget");
        snprintf(name, sizeof name, "r%zu/mask.json", i);
        const counted c = count_mask(t, name);
        const bool whole_params = r->embeddings && r->per_param > 0 && strcmp(r->quantity, "macs") != 0;
        const double params = c.groups * GROUP + c.channels * CHANNEL;
        const double norms = whole_params ? 48 * (c.blocks - 2 * LAYERS) : 0; /* those of blocks that are gone */
        const double want = r->per_param * (params + norms) + r->per_group * c.groups + r->outside;
        assert_string_equal(text(budget, "quantity"), r->quantity);
        assert_int_equal(json_is_true(at(budget, "embeddings")), r->embeddings);
        assert_near(num(budget, "achieved"), want, 0);
        assert_near(num(budget, "dense"), r->dense, 0);
        assert_near(num(budget, "asked"), r->asked, 1e-6);
        assert_true(want <= r->asked * (1 + 1e-9));
        assert_true(want + (r->per_param > 0 ? r->per_param * CHANNEL : r->per_group) > r->asked);
        if (r->per_group > 0)
            assert_near(c.channels, 96 * LAYERS, 0);
        if (r->per_param > 0)
            assert_near(num(budget, "share"), params / BLOCKS, 1e-12);
        json_decref(run);
    }
}

/* What a budget says nothing about begins as certain. */
static void free_units_begin_at_one(void **state)
{
    cli *t = *state;
    assert_call(t, 0, SMALL "--method units --budget kv-bytes=-40% --init uniform --smin 0 --out @/run");
    json_t *mask = load_json(t, "run/initial-mask.json"), *layer, *s;
    size_t l, i;
    json_array_foreach(at(mask, "layers"), l, layer)
    {
        json_array_foreach(at(layer, "channels.probability"), i, s) assert_near(json_number_value(s), 1, 0);
        json_array_foreach(at(layer, "heads.probability"), i, s) assert_near(json_number_value(s), 0.6, 1e-6);
        assert_int_equal(i, 4);
    }
    assert_int_equal(l, 4);
    json_decref(mask);
}

/* Shares of units are reported in parameters. */
static void a_separate_budget_is_reported(void **state)
{
    cli *t = *state;
    assert_call(t, 0, SMALL "--keep 0.5 --budget separate --out @/run");
    json_t *run = load_json(t, "run/run.json");
    assert_string_equal(text(run, "results.budget.quantity"), "params");
    assert_null(json_object_get(at(run, "results.budget"), "asked"));
    assert_near(num(run, "results.budget.achieved"), BLOCKS / 2, 0);
    assert_near(num(run, "results.budget.share_with_embeddings"), 1 - BLOCKS / 2 / (double)TOTAL, 1e-12);
    json_decref(run);
}

static double at_count(const json_t *points, double n)
{
    double units = 0, ms = 0;
    size_t i;
    json_t *p;
    json_array_foreach(points, i, p)
    {
        const double next = json_number_value(json_array_get(p, 0)), then = json_number_value(json_array_get(p, 1));
        if (next >= n)
            return ms + (n - units) / (next - units) * (then - ms);
        units = next;
        ms = then;
    }
    return ms;
}

/* The mask's time by the table that the record has. */
static double time_of(const cli *t, const json_t *run, const char *mask)
{
    json_t *j = load_json(t, mask), *layer;
    double ms = 0;
    size_t l;
    json_array_foreach(at(j, "layers"), l, layer)
    {
        ms += at_count(at(run, "timing.attention"), (double)json_array_size(at(at(layer, "heads"), "kept")));
        ms += at_count(at(run, "timing.mlp"), (double)json_array_size(at(at(layer, "channels"), "kept")));
    }
    json_decref(j);
    return ms;
}

static void a_run_keeps_its_times(void **state)
{
    cli *t = *state;
    const char *call = SMALL "--budget ms=-25% --out @/run --json";
    json_t *run = call_json(t, call);
    assert_int_equal(json_array_size(at(run, "timing.attention")), 4);
    assert_int_equal(json_array_size(at(run, "timing.mlp")), 17);
    assert_near(num(run, "results.budget.achieved"), time_of(t, run, "run/mask.json"), 1e-4);
    assert_true(num(run, "results.budget.achieved") <= num(run, "results.budget.asked"));
    assert_near(num(run, "results.budget.asked"), 0.75 * num(run, "results.budget.dense"), 1e-9);
    /* As if it had been killed at its end: it goes on by the table it has, whatever this machine would say now. */
    size_t n;
    char *mask = slurp(path(t, "run/mask.json"), &n);
    assert_int_equal(unlink(path(t, "run/mask.json")), 0);
    char again[512];
    snprintf(again, sizeof again, "%s --resume", call);
    json_t *resumed = call_json(t, again);
    assert_true(json_equal(at(run, "timing"), at(resumed, "timing")));
    assert_true(json_equal(at(run, "results.budget"), at(resumed, "results.budget")));
    char *mask_again = slurp(path(t, "run/mask.json"), &n);
    assert_string_equal(mask, mask_again);
    free(mask);
    free(mask_again);
    /* A finished one is read back. */
    json_decref(resumed);
    snprintf(again, sizeof again, "%s --resume", SMALL "--budget ms=-25% --out @/run");
    assert_call(t, 0, again);
    assert_non_null(strstr(t->out, "budget: ms "));
    /* A record that is damaged there is refused. */
    assert_int_equal(unlink(path(t, "run/mask.json")), 0);
    json_array_set_new(json_array_get(at(run, "timing.mlp"), 3), 1, json_real(0));
    assert_int_equal(json_dump_file(run, path(t, "run/run.json"), JSON_REAL_PRECISION(15)), 0);
    refused(t, 3, SMALL "--budget ms=-25% --out @/run --resume --quiet", "run.json", "mlp", "cannot follow");
    json_decref(run);
}

static void what_cannot_be_is_refused(void **state)
{
    cli *t = *state;
    refused(t, 2, "estimate @model --budget params=5B", "budget of params: 5.00 G is more than the 111.79 k");
    refused(t, 2, "estimate @model --budget params=x", "budget 'params=x'", "no number");
    refused(t, 2, "estimate @model --budget 0.7", "budget '0.7'", "neither separate nor joint");
    refused(t, 2, "estimate @model --budget params=0.7 --keep 0.7", "--keep and --budget QUANTITY=VALUE");
    refused(t, 2, "estimate @model --budget joint", "--keep is missing");
    refused(t, 2, "estimate @model --keep 0.7 --budget separate --embeddings in", "--embeddings in");
    refused(t, 2, "estimate @model --budget params=0.7 --keep-heads 0.5", "a joint budget has no shares by kind");
    refused(t, 3, "estimate @model --budget params=-70% --granularity heads", "budget of params is 27.65 k of 92.16 k",
            "the least possible is 55.30 k, a share of 0.600000", "the granularity leaves untouched");
    refused(t, 3, "estimate @model --budget kv-bytes=-99%", "the least possible is 32 B");
    refused(t, 3, SMALL "--budget ms=-99.9% --out @/late --quiet", "budget of ms", "the least possible is");
    assert_false(there(t, "late"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(amounts_are_met_to_one_unit, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(free_units_begin_at_one, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_separate_budget_is_reported, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_run_keeps_its_times, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_is_refused, cli_setup, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
