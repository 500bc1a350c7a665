/* test_cli_allocation.c - the default method from end to end: counts of units learnt, and the mask repaired, with every
 * order, repair and rule. */
#include <dirent.h>
#include <math.h>

#include "masks.h"

#define SMALL                                                                                                            \
    "prune @model --data @calibration --seq-len 32 --held-out 16 --init-sequences 32 --repair-sequences 64 --passes 96 " \
    "--threads 1 --quiet "

/* ---- the documented run ---- */

static void check_folder(const cli *t, const char *run)
{
    static const char *const files[] = {"run.json",  "log.jsonl",      "initial-mask.json",
                                        "mask.json", "checkpoint.bin", "repaired.safetensors"};
    enum { FILES = sizeof files / sizeof files[0] };
    DIR *d = opendir(path(t, run));
    assert_non_null(d);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));) {
        bool known = e->d_name[0] == '.';
        for (size_t i = 0; i < FILES; i++)
            known |= !strcmp(e->d_name, files[i]);
        if (!known)
            fail_msg("%s/%s is no file of a run that is done", run, e->d_name);
        n += e->d_name[0] != '.';
    }
    closedir(d);
    assert_int_equal(n, FILES);
}

#define STAGES                                                                                                         \
    "@model --data @calibration --seq-len 32 --held-out 16 --repair-sequences 64 --keep 0.6 --passes 2700 --no-pilot " \
    "--candidates 32 --mask-samples 24 --eval-every 20 --eval @held-out --eval-limit 8 --threads 1 "
enum { ALLOCATION = 59, BLOCKS = 16, UNITS = 16 }; /* steps: 0.7, 0.15 and 0.15 of the passes */

/* Steps count through the stages, each line says whose it is. */
static void check_log(const cli *t, const char *name, const int64_t steps[3])
{
    static const char *const stages[] = {"allocation", "blocks", "units"};
    char *log = slurp(path(t, name), NULL), *line = log;
    int64_t step = 0;
    for (int s = 0; s < 3; s++)
        for (int64_t i = 0; i < steps[s]; i++, line = strchr(line, '\n') + 1) {
            json_t *j = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);
            assert_non_null(j);
            assert_int_equal(whole(j, "step"), step++);
            assert_string_equal(text(j, "stage"), stages[s]);
            assert_in_range((uint64_t)(100 * num(j, "kept")), 40, s == 1 ? 100 : 80);
            assert_int_equal(json_object_get(j, "held_out_nll") != NULL, (i + 1) % 20 == 0 || i + 1 == steps[s]);
            json_decref(j);
        }
    assert_string_equal(line, "");
    free(log);
}

static void a_run_of_all_stages(void **state)
{
    cli *t = *state;
    assert_call(t, 0, "prune " STAGES "--out @/run");
    static const char *const said[] = {"forward    2656 sequences to learn in 91 steps",
                                       ", 512 to repair, 224 to judge, 32 to evaluate; ",
                                       "stage allocation ",
                                       "stage blocks ",
                                       "stage units ",
                                       "repair: target half gives ",
                                       "repair: target local gives ",
                                       "repaired  "};
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++)
        assert_says(t->out, said[i]);
    static const char *const stages[] = {
        "nested order and repaired levels\n", "allocation\n", "blocks\n", "units\n", "repair\n", "repaired model\n"};
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++)
        assert_says(t->err, stages[i]);
    check_folder(t, "run");
    check_log(t, "run/log.jsonl", (const int64_t[]){ALLOCATION, BLOCKS, UNITS});

    json_t *run = load_json(t, "run/run.json");
    assert_string_equal(text(run, "settings.method"), "allocation");
    assert_string_equal(text(run, "settings.allocation.learnt_in"), "repaired");
    assert_int_equal(whole(run, "settings.steps.allocation"), ALLOCATION);
    assert_int_equal(whole(run, "settings.steps.blocks"), BLOCKS);
    assert_int_equal(whole(run, "settings.steps.units"), UNITS);
    for (int i = 0; i < 3; i++) {
        static const char *const names[] = {"results.stages.allocation", "results.stages.blocks",
                                            "results.stages.units"};
        const json_t *stage = at(run, names[i]);
        assert_true(num(stage, "after") <= num(stage, "before"));
        assert_int_equal(whole(stage, "chosen_step") > 0, num(stage, "after") < num(stage, "before"));
    }
    /* Each begins with what the one before it has left, in the same model. */
    assert_near(num(run, "results.stages.blocks.before"), num(run, "results.stages.allocation.after"), 0);
    const double dense = num(run, "results.dense.held_out_nll"), learnt = num(run, "results.learnt.held_out_nll"),
                 repaired = num(run, "results.repaired.held_out_nll");
    assert_true(dense < repaired && repaired < learnt);
    assert_near(num(run, "results.repair.masked_held_out_nll"), learnt, 0);
    const double half = num(run, "results.repair.held_out_nll.half"),
                 local = num(run, "results.repair.held_out_nll.local");
    assert_string_equal(text(run, "results.repair.target"), half <= local ? "half" : "local");
    assert_near(fmin(half, local), repaired, 0);
    assert_int_equal(whole(run, "results.repaired.params"), whole(run, "results.learnt.params"));

    /* The plan is what is used; of equal candidates of a step one is looked at. */
    json_t *plan = call_json(t, "estimate " STAGES "--json");
    static const char *const purposes[] = {"initialisation", "held_out", "evaluation", "repair"};
    for (int i = 0; i < 4; i++)
        assert_int_equal(whole(at(plan, "forward_sequences"), purposes[i]),
                         whole(at(run, "results.forward_sequences"), purposes[i]));
    assert_int_equal(whole(plan, "forward_sequences.learning"), ALLOCATION * 32 + (BLOCKS + UNITS) * 24);
    assert_in_range(whole(run, "results.forward_sequences.learning"), ALLOCATION * 16 + (BLOCKS + UNITS) * 24,
                    ALLOCATION * 32 + (BLOCKS + UNITS) * 24);
    assert_int_equal(whole(run, "results.forward_sequences.repair"), 64 * (1 + 1 + 3 * 2));
    assert_int_equal(whole(run, "results.forward_sequences.held_out"), 16 * (4 + 2 + 4 + 2 + 2));
    json_decref(plan);
    json_decref(run);
}

/* ---- every order and repair ---- */

static void every_order_and_repair(void **state)
{
    cli *t = *state;
    static const struct {
        const char *options;
        bool levels, weights; /* learnt in the repaired model; repaired at the end */
    } runs[] = {
        {"", true, true},
        {"--init wanda-sp", true, true},
        {"--init flap", true, true},
        {"--init magnitude", true, true},
        {"--init random", true, true},
        {"--init uniform", true, true},
        {"--repair bias", false, true},
        {"--repair bias --init flap", false, true},
        {"--no-repair", false, false},
        {"--no-repair --init wanda-sp", false, false},
        {"--repair none --init magnitude", false, false},
        {"--refit-inputs 0.5 --levels 5 --obs-block 8", true, true},
        {"--stages units", true, true},
        {"--stages blocks,units --no-repair", false, false},
        {"--advantage normalised --fixed-spread --spread 0.3 --sequences-per-candidate 3", true, true},
        {"--select last --held-out 0", true, true},
        {"--select last --eval-every 0", true, true},
    };
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        char call[512], run[16], name[64];
        snprintf(run, sizeof run, "run%zu", i);
        snprintf(call, sizeof call, SMALL "--keep 0.6 %s --out @/%s", runs[i].options, run);
        assert_call(t, 0, call);
        assert_budget(t, run, 9, 230); /* floor of 9.6 and 230.4 */
        snprintf(name, sizeof name, "%s/run.json", run);
        json_t *j = load_json(t, name);
        assert_string_equal(text(j, "settings.allocation.learnt_in"), runs[i].levels ? "repaired" : "masked");
        snprintf(name, sizeof name, "%s/repaired.safetensors", run);
        assert_int_equal(there(t, name), runs[i].weights);
        if (json_object_get(at(j, "results"), "repaired") && !strstr(runs[i].options, "--held-out 0"))
            assert_true(num(j, "results.repaired.held_out_nll") < num(j, "results.learnt.held_out_nll"));
        assert_int_equal(json_object_get(at(j, "results"), "repaired") != NULL, runs[i].weights);
        json_decref(j);
    }
}

/* Nothing was removed, so no constant makes up for it. */
static void a_repair_that_is_no_better_is_none(void **state)
{
    cli *t = *state;
    json_t *run = call_json(t, "prune @model --data @calibration --seq-len 32 --held-out 16 --repair bias "
                               "--repair-sequences 64 --keep 1 --passes 0 --threads 1 --json --out @/run");
    assert_says(t->err, "warning: no repair does better on held-out text than the mask alone: none is kept");
    assert_string_equal(text(run, "results.repair.kind"), "none");
    assert_null(json_object_get(at(run, "results"), "repaired"));
    assert_false(there(t, "run/repaired.safetensors"));
    json_decref(run);
    assert_call(t, 0,
                "prune @model --data @calibration --seq-len 32 --held-out 16 --repair bias --repair-sequences 64 "
                "--keep 1 --passes 0 --threads 1 --out @/run --resume"); /* as it is on record */
    assert_says(t->out, "repair: nothing did better than the mask alone\n");
    assert_null(strstr(t->out, "repaired  "));
    assert_call(t, 0, "eval @/run --text @held-out --limit 5");
    assert_null(strstr(t->out, "repaired"));
}

/* ---- without learning ---- */

static void without_passes_the_order_decides(void **state)
{
    cli *t = *state;
    assert_call(t, 0, SMALL "--keep 0.6 --passes 0 --out @/run");
    assert_same_file(t, "run/initial-mask.json", "run/mask.json");
    json_t *run = load_json(t, "run/run.json");
    assert_int_equal(json_object_size(at(run, "settings.steps")), 0);
    assert_int_equal(json_object_size(at(run, "results.stages")), 0);
    assert_int_equal(whole(run, "results.forward_sequences.learning"), 0);
    assert_near(num(run, "results.learnt.held_out_nll"), num(run, "results.initial.held_out_nll"), 0);
    assert_true(num(run, "results.repaired.held_out_nll") < num(run, "results.learnt.held_out_nll"));
    json_decref(run);
    /* The same share of every block, the first of its order. */
    int64_t kept[LAYERS];
    kept_by_layer(t, "run/mask.json", "channels", kept);
    for (int l = 0; l < 4; l++)
        assert_in_range(kept[l], 54, 60); /* levels are 6 channels apart */
}

/* An earlier run gives the order and the counts to begin with. */
static void an_earlier_run_goes_on(void **state)
{
    cli *t = *state;
    assert_call(t, 0, SMALL "--keep 0.6 --method units --no-repair --passes 320 --out @/first");
    assert_call(t, 0, SMALL "--keep 0.6 --passes 0 --init @/first --out @/second");
    json_t *a = load_json(t, "first/mask.json"), *b = load_json(t, "second/mask.json");
    int64_t both = 0, all = 0;
    for (size_t l = 0; l < 4; l++) {
        json_t *x = at(json_array_get(at(a, "layers"), l), "channels.kept"),
               *y = at(json_array_get(at(b, "layers"), l), "channels.kept");
        size_t i, k;
        json_t *u, *v;
        all += (int64_t)json_array_size(x);
        json_array_foreach(x, i, u) json_array_foreach(y, k, v) both += json_equal(u, v);
    }
    assert_true(both > all * 9 / 10); /* but for rounding to levels */
    json_decref(a);
    json_decref(b);
    json_t *run = load_json(t, "second/run.json");
    assert_string_equal(text(run, "settings.init.metric"), "run");
    assert_int_equal(strlen(text(run, "init.hash")), 32);
    json_decref(run);
}

/* ---- rules of the counts ---- */

static void one_kind_alone(void **state)
{
    cli *t = *state;
    assert_call(t, 0, SMALL "--keep 0.7 --granularity heads --out @/heads");
    assert_budget(t, "heads", 11, CHANNELS);
    assert_call(t, 0, SMALL "--keep 0.7 --granularity channels --out @/channels");
    assert_budget(t, "channels", HEADS, 268);
    /* Blocks that have nothing to lose stay, in all stages. */
    assert_call(t, 0, SMALL "--keep 0.7 --granularity channels --stages blocks,units --out @/late");
    assert_budget(t, "late", HEADS, 268);
    assert_call(t, 0, SMALL "--keep 0.7 --granularity heads --stages blocks --out @/blocks");
    assert_budget(t, "blocks", 11, CHANNELS);
    assert_call(t, 0, SMALL "--keep 0.9 --keep-heads 0.75 --keep-channels 0.333 --out @/both");
    assert_budget(t, "both", 12, 127);
    refused(t, 2, SMALL "--keep 0.7 --granularity heads --min-groups 1 --stages blocks --out @/none",
            "stages: none of");
    refused(t, 2, SMALL "--keep 0.7 --granularity heads,blocks --out @/none", "granularity: blocks");
    refused(t, 2, SMALL "--keep 0.7 --granularity blocks --out @/none", "granularity: blocks");
    assert_false(there(t, "none"));
}

/* In every stage, the last one too, whose variables are single units. */
static void alignment_and_floors_hold(void **state)
{
    cli *t = *state;
    static const char *const stages[] = {"allocation", "blocks", "units", "allocation,units"};
    for (int i = 0; i < 4; i++) {
        char call[512], name[32];
        snprintf(name, sizeof name, "run%d/mask.json", i);
        snprintf(call, sizeof call,
                 SMALL "--keep 0.5 --passes 480 --lr 0.3 --align-channels 8 --min-groups 1 --select last --stages %s "
                       "--init random --out @/run%d",
                 stages[i], i);
        assert_call(t, 0, call);
        int64_t kept[LAYERS], sum = 0;
        kept_by_layer(t, name, "channels", kept);
        for (int l = 0; l < 4; l++) {
            assert_int_equal(kept[l] % 8, 0);
            sum += kept[l];
        }
        assert_int_equal(sum, CHANNELS / 2);
        sum = 0;
        kept_by_layer(t, name, "heads", kept);
        for (int l = 0; l < 4; l++) {
            assert_true(kept[l] >= 1);
            sum += kept[l];
        }
        assert_int_equal(sum, HEADS / 2);
    }
    refused(t, 3, SMALL "--keep 0.2 --min-groups 1 --out @/none", "shape: the budget leaves 3 heads", "keep 4");
}

/* Of a joint budget nothing is left that a removed unit would fit in. */
static void joint_budgets_are_used_up(void **state)
{
    cli *t = *state;
    static const struct {
        const char *options;
        double share;
    } runs[] = {{"--keep 0.6 --budget joint", 0.6},
                {"--budget params=-40%", 0.6},
                {"--budget kv-bytes=-50%", 0.5},
                {"--budget macs=-30% --passes 2700 --no-pilot --candidates 32", 0.7}};
    for (int i = 0; i < 4; i++) {
        char call[512], name[32];
        snprintf(call, sizeof call, SMALL "%s --out @/run%d", runs[i].options, i);
        assert_call(t, 0, call);
        snprintf(name, sizeof name, "run%d/run.json", i);
        json_t *run = load_json(t, name);
        const double share = num(run, "results.budget.share");
        if (!(share <= runs[i].share && share > runs[i].share - 0.07)) /* of the cache a unit is a sixteenth */
            fail_msg("%s: %g of %g", runs[i].options, share, runs[i].share);
        json_decref(run);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_run_of_all_stages, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(every_order_and_repair, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_repair_that_is_no_better_is_none, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(without_passes_the_order_decides, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(an_earlier_run_goes_on, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(one_kind_alone, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(alignment_and_floors_hold, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(joint_budgets_are_used_up, cli_setup, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
