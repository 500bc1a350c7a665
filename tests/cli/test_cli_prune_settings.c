/* test_cli_prune_settings.c - `pollard prune`: masks alone under every kind of setting, and where probabilities begin.
 */
#include <math.h>

#include "masks.h"

/* Small enough for a fraction of a second. */
#define SMALL                                                                                                  \
    "--method units --no-repair --data @calibration --seq-len 64 --held-out 16 --init-sequences 16 --batch 8 " \
    "--keep 0.6"

/* ---- every setting ---- */

typedef struct combination {
    const char *options;
    double keep[4]; /* of heads, channels, attention blocks, MLP blocks; 0 = all of them */
    double params;  /* joint budget; 0 = separate */
} combination;

static const combination combinations[] = {
    {"--keep 0.6", {0.6, 0.6}, 0},
    {"--keep 0.7 --granularity heads", {0.7}, 0},
    {"--keep 0.7 --granularity channels --init magnitude", {0, 0.7}, 0},
    {"--keep 0.75 --granularity blocks", {0, 0, 0.75, 0.75}, 0},
    {"--keep 0.75 --granularity blocks --init random --keep-mlp 0.5", {0, 0, 0.75, 0.5}, 0},
    {"--keep 0.8 --granularity heads,blocks --init uniform", {0.8, 0, 0.8, 0.8}, 0},
    {"--keep 0.8 --granularity channels,blocks", {0, 0.8, 0.8, 0.8}, 0},
    {"--keep 0.8 --granularity heads,channels,blocks --init random", {0.8, 0.8, 0.8, 0.8}, 0},
    {"--keep 0.5 --keep-heads 0.75 --keep-channels 0.333 --init uniform", {0.75, 0.333}, 0},
    {"--keep 1", {1, 1}, 0},
    {"--keep 0.6 --budget joint", {0}, 0.6},
    {"--keep 0.7 --budget joint --granularity heads", {0}, 0.7},
    {"--keep 0.8 --budget joint --granularity channels --init magnitude", {0}, 0.8},
    {"--keep 0.7 --budget joint --granularity blocks", {0}, 0.7},
    {"--keep 0.6 --budget joint --granularity channels,heads,blocks", {0}, 0.6},
    {"--keep 0.6 --baseline moving-average --baseline-window 3", {0.6, 0.6}, 0},
    {"--keep 0.6 --baseline none --score textbook --init random", {0.6, 0.6}, 0},
    {"--keep 0.6 --no-normalise --lr 0.01 --schedule linear", {0.6, 0.6}, 0},
    {"--keep 0.6 --normalise --schedule constant --smin 0.1 --select last", {0.6, 0.6}, 0},
    {"--keep 0.6 --mask-samples 4 --sequences-per-mask 3 --separate-sequences", {0.6, 0.6}, 0},
    {"--keep 0.6 --mask-samples 1 --baseline none --no-normalise --lr 0.01", {0.6, 0.6}, 0},
    {"--keep 0.6 --held-out 0 --select last --init random", {0.6, 0.6}, 0},
    {"--keep 0.6 --eval-every 0 --batch 3 --bos sequence", {0.6, 0.6}, 0},
    {"--keep 0.6 --max-sequences 40 --bos both --separator Clara", {0.6, 0.6}, 0},
    {"--keep 0.6 --method reference --init-seq-len 64", {0.6, 0.6}, 0},
    {"--keep 0.6 --method reference --init uniform --granularity channels,blocks", {0, 0.6, 0.6, 0.6}, 0},
    {"--keep 0.7 --method reference --init random --budget joint --granularity blocks --steps 3", {0}, 0.7},
};

static void check_budget(const combination *c, const counted *got)
{
    if (c->params > 0) {
        /* What is left over is less than any unit that was removed, so less than the largest: a block. */
        const double kept = (double)got->params / (double)got->dense;
        if (!(kept <= c->params && kept > c->params - 0.2))
            fail_msg("%s: %g of the parameters kept", c->options, kept);
        return;
    }
    for (int k = 0; k < 4; k++) {
        const double share = c->keep[k] > 0 ? c->keep[k] : 1;
        if (got->kept[k] != (int64_t)floor(share * (double)got->units[k] + 1e-9))
            fail_msg("%s: kind %d keeps %lld of %lld", c->options, k, (long long)got->kept[k],
                     (long long)got->units[k]);
    }
}

static void every_setting_runs_and_meets_its_budget(void **state)
{
    cli *t = *state;
    for (size_t i = 0; i < sizeof combinations / sizeof combinations[0]; i++) {
        const combination *c = &combinations[i];
        char call[512];
        snprintf(
            call, sizeof call,
            "prune @model --no-repair%s --data @calibration --seq-len 32 --held-out 8 --init-sequences 8 %s --out @/c%zu "
            "--quiet%s",
            strstr(c->options, "--method") ? "" : " --method units", c->options, i,
            strstr(c->options, "--steps") ? "" : " --passes 48");
        assert_call(t, 0, call);
        for (int m = 0; m < 2; m++) {
            char name[64];
            snprintf(name, sizeof name, "c%zu/%s", i, m ? "mask.json" : "initial-mask.json");
            const counted got = count_mask(t, name);
            check_budget(c, &got);
        }
    }
}

/* ---- where probabilities begin ---- */

static void an_earlier_run_gives_the_first_probabilities(void **state)
{
    cli *t = *state;
    assert_call(t, 0, "prune @model " SMALL " --passes 64 --out @/a --quiet");
    assert_call(t, 0, "prune @model " SMALL " --passes 0 --init @/a --out @/b --quiet");
    assert_call(t, 0,
                "prune @model " SMALL " --passes 0 --init @/a/mask.json --granularity channels --out @/c --quiet");
    json_t *a = load_json(t, "a/mask.json"), *b = load_json(t, "b/initial-mask.json"),
           *c = load_json(t, "c/initial-mask.json");
    for (size_t l = 0; l < 4; l++) {
        const json_t *in_a = json_array_get(at(a, "layers"), l), *in_b = json_array_get(at(b, "layers"), l),
                     *in_c = json_array_get(at(c, "layers"), l);
        assert_true(json_equal(at(in_a, "channels.probability"), at(in_b, "channels.probability")));
        assert_true(json_equal(at(in_a, "heads.probability"), at(in_b, "heads.probability")));
        assert_true(json_equal(at(in_a, "channels.probability"), at(in_c, "channels.probability")));
        assert_int_equal(json_array_size(at(in_c, "heads.kept")), 4); /* may not go */
    }
    json_decref(a);
    json_decref(b);
    json_decref(c);
    json_t *run = load_json(t, "b/run.json");
    assert_string_equal(text(run, "settings.init.metric"), "run");
    assert_int_equal(strlen(text(run, "init.hash")), 32);
    json_decref(run);
    refused(t, 3, "prune @model " SMALL " --init @/none --out @/d --quiet", "none");
    refused(t, 3, "prune @model " SMALL " --init @/a/run.json --out @/d --quiet", "a/run.json", "format");
    assert_false(there(t, "d"));
}

static void without_passes_the_metric_decides(void **state)
{
    cli *t = *state;
    assert_call(t, 0, "prune @model " SMALL " --passes 0 --out @/run --json --quiet");
    const counted initial = count_mask(t, "run/initial-mask.json"), learnt = count_mask(t, "run/mask.json");
    assert_memory_equal(&initial, &learnt, sizeof initial);
    json_t *run = load_json(t, "run/run.json");
    assert_int_equal(json_object_size(at(run, "settings.steps")), 0);
    assert_int_equal(whole(run, "results.forward_sequences.learning"), 0);
    assert_near(num(run, "results.learnt.held_out_nll"), num(run, "results.initial.held_out_nll"), 0);
    json_decref(run);
    char *log = slurp(path(t, "run/log.jsonl"), NULL);
    assert_string_equal(log, "");
    free(log);
}

/* Probabilities that the floor has made equal are ranked by what they were at first, before the number of the unit. */
static void ties_go_by_the_first_probabilities(void **state)
{
    cli *t = *state;
    assert_call(t, 0, "prune @model " SMALL " --passes 0 --granularity channels --out @/a --quiet");
    json_t *mask = load_json(t, "a/mask.json"), *layer, *p;
    size_t l, i;
    json_array_foreach(at(mask, "layers"), l, layer) json_array_foreach(at(layer, "channels.probability"), i, p)
        json_array_set_new(at(layer, "channels.probability"), i, json_real(l < 2 ? 0.998 : 1));
    assert_int_equal(json_dump_file(mask, path(t, "first.json"), 0), 0);
    json_decref(mask);
    assert_call(t, 0,
                "prune @model " SMALL " --passes 0 --granularity channels --keep 0.5 --init @/first.json --out @/b "
                "--quiet");
    static const char *const names[] = {"b/initial-mask.json", "b/mask.json"};
    for (int m = 0; m < 2; m++) {
        mask = load_json(t, names[m]);
        json_array_foreach(at(mask, "layers"), l, layer)
            assert_int_equal(json_array_size(at(layer, "channels.kept")), l < 2 ? 0 : 96);
        json_decref(mask);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_setting_runs_and_meets_its_budget, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(an_earlier_run_gives_the_first_probabilities, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(without_passes_the_metric_decides, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(ties_go_by_the_first_probabilities, cli_setup, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
