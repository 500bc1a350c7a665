/* test_cli_allocation_text.c - allocations by other objectives and texts, and of text that is too short. */
#include "masks.h"

/* ---- texts, objectives ---- */

static void other_objectives_and_texts(void **state)
{
    cli *t = *state;
    char items[4096] = "";
    for (int i = 0; i < 24; i++) /* the trained model's own kind of text, and what is not */
        strcat(items, i % 2 ? "{\"query\": \"Clara has\", \"choices\": [\" a cat\", \" xq zz\"], \"gold\": 0}\n"
                            : "{\"query\": \"The\", \"choices\": [\" qq zzz\", \" cat is\"], \"gold\": 1}\n");
    spill_text(t, "items.jsonl", items);
    static const struct {
        const char *options;
        double least, most; /* of a step's mean loss */
    } runs[] = {{"--objective kl", 0, 3},
                {"--objective accuracy=arc_easy=@/items.jsonl", 0, 1},
                {"--data @calibration @held-out --data-weights 3,1", 0.4, 3}};
    for (int i = 0; i < 3; i++) {
        char call[768], name[32], options[256];
        snprintf(options, sizeof options, "%s", runs[i].options);
        char *file = strstr(options, "@/items.jsonl");
        if (file)
            strcpy(file, path(t, "items.jsonl"));
        snprintf(
            call, sizeof call,
            "prune @model %s --seq-len 32 --held-out 16 --repair-sequences 64 --passes 2700 --no-pilot --candidates 32 "
            "--mask-samples 24 --keep 0.6 --threads 1 --quiet %s --out @/run%d",
            i == 2 ? "" : "--data @calibration", options, i);
        assert_call(t, 0, call);
        snprintf(name, sizeof name, "run%d", i);
        assert_budget(t, name, 9, 230);
        snprintf(name, sizeof name, "run%d/log.jsonl", i);
        char *log = slurp(path(t, name), NULL);
        assert_int_equal(lines_of(log), 59 + 16 + 16);
        for (char *line = log; *line; line = strchr(line, '\n') + 1) {
            json_t *j = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);
            if (!(num(j, "loss") >= runs[i].least && num(j, "loss") <= runs[i].most))
                fail_msg("%s: a loss of %g", runs[i].options, num(j, "loss"));
            json_decref(j);
        }
        free(log);
        snprintf(name, sizeof name, "run%d/run.json", i);
        json_t *run = load_json(t, name);
        snprintf(
            call, sizeof call,
            "estimate @model %s --seq-len 32 --held-out 16 --repair-sequences 64 --passes 2700 --no-pilot --candidates "
            "32 --mask-samples 24 --keep 0.6 --json %s",
            i == 2 ? "" : "--data @calibration", options);
        json_t *plan = call_json(t, call);
        static const char *const purposes[] = {"initialisation", "held_out", "evaluation", "repair"};
        for (int p = 0; p < 4; p++)
            if (p || i) /* of KL's sequences as many are planned as could be drawn */
                assert_int_equal(whole(at(plan, "forward_sequences"), purposes[p]),
                                 whole(at(run, "results.forward_sequences"), purposes[p]));
        json_decref(plan);
        json_decref(run);
    }
}

/* ---- text that is too short ---- */

/* Least squares over 96 columns. */
static void tokens_for_the_columns(void **state)
{
    cli *t = *state;
#define SHORT "prune @model --data @calibration --seq-len 32 --held-out 16 --passes 32 --keep 0.6 --threads 1 "
    static const char *const methods[] = {"allocation", "units"};
    for (int i = 0; i < 2; i++) {
        char call[512];
        snprintf(call, sizeof call, SHORT "--method %s --repair-sequences 11 --quiet --out @/run", methods[i]);
        refused(t, 3, call, "352 tokens for least squares over 96 columns", "at least 4 a column, 384 tokens");
        assert_false(there(t, "run"));
        snprintf(call, sizeof call, SHORT "--method %s --repair-sequences 12 --json --out @/run%d", methods[i], i);
        assert_call(t, 0, call);
        assert_says(t->err, "warning: 384 tokens for least squares over ");
        assert_says(t->err, "below 10 a column it over-fits");
    }
    assert_call(t, 0, SHORT "--repair-sequences 30 --quiet --out @/enough");
    assert_string_equal(t->err, "");
    assert_call(t, 0, SHORT "--repair bias --repair-sequences 1 --quiet --out @/bias");
}

/* As much of it as the whole model's widest block takes, whatever the mask leaves: as planned. */
static void text_for_the_repair(void **state)
{
    cli *t = *state;
    static const char *const methods[] = {"allocation", "units --init random"};
    for (int i = 0; i < 2; i++) {
        char call[512];
#define TINY \
    "@model --data @calibration --seq-len 4 --held-out 16 --passes 0 --keep 0.5 --threads 1 --json --method %s "
        snprintf(call, sizeof call, "estimate " TINY, methods[i]);
        json_t *plan = call_json(t, call);
        snprintf(call, sizeof call, "prune " TINY "--quiet --out @/run%d", methods[i], i);
        json_t *run = call_json(t, call);
        enum { SEQUENCES = 20 * 96 / 4 };
        assert_int_equal(whole(run, "data.repaired_from"), SEQUENCES);
        assert_int_equal(whole(run, "results.repair.sequences"), SEQUENCES);
        assert_int_equal(whole(run, "results.forward_sequences.repair"), SEQUENCES * (i ? 7 : 8));
        assert_true(json_equal(at(plan, "forward_sequences"), at(run, "results.forward_sequences")));
        json_decref(plan);
        json_decref(run);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(other_objectives_and_texts, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(tokens_for_the_columns, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(text_for_the_repair, cli_setup, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
