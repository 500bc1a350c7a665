/* test_cli_tasks.c - accuracy on multiple-choice files from the command line; several calibration texts. */
#include <math.h>

#include "same_run.h"
#include "stopping.h"

/* "NAME=FILE" of tests/data. */
static const char *task(const char *name)
{
    static char words[4][4096];
    static int turn;
    char *w = words[turn++ % 4], file[64];
    snprintf(file, sizeof file, "tasks/%s.jsonl", name);
    snprintf(w, sizeof words[0], "%s=%s", name, test_file(file));
    return w;
}

static const char *say(const char *format, const char *a, const char *b)
{
    static char call[16384];
    snprintf(call, sizeof call, format, a, b);
    return call;
}

static void accuracy(void **state)
{
    cli *t = *state;
    json_error_t e;
    json_t *golden = json_load_file(test_file("tasks/golden.json"), 0, &e);
    json_t *j = call_json(t, say("eval @model --json --task %s %s", task("piqa"), task("winogrande")));
    assert_null(json_object_get(j, "perplexity"));
    const json_t *tasks = json_object_get(j, "tasks");
    assert_int_equal(json_array_size(tasks), 2);
    static const char *const names[] = {"piqa", "winogrande"};
    for (size_t i = 0; i < 2; i++) {
        const json_t *one = json_array_get(tasks, i);
        const json_t *want = json_object_get(json_object_get(golden, "tasks"), names[i]);
        assert_string_equal(text(one, "task"), names[i]);
        assert_int_equal(whole(one, "items"), 24);
        assert_int_equal(whole(one, "choices"), 48);
        assert_int_equal(whole(one, "bad_items"), 0);
        assert_int_equal(whole(one, "cut_choices"), 0);
        assert_near(num(one, "acc"), num(want, "acc"), 1e-12);
        assert_near(num(one, "acc_standard_error"), sqrt(num(want, "acc") * (1 - num(want, "acc")) / 23), 1e-12);
        assert_non_null(strstr(text(one, "file"), names[i]));
        assert_true(i ? json_is_null(at(one, "acc_norm")) : fabs(num(one, "acc_norm") - num(want, "acc_norm")) < 1e-12);
    }
    json_decref(j);
    json_decref(golden);
}

static void together(void **state)
{
    cli *t = *state;
    json_t *both = call_json(t, say("eval @model --json --text @held-out --task %s --limit 5%s", task("plain"), ""));
    json_t *alone = call_json(t, "eval @model --json --text @held-out --limit 5");
    assert_near(num(both, "nll"), num(alone, "nll"), 1e-6);
    assert_int_equal(whole(json_array_get(at(both, "tasks"), 0), "items"), 5);
    json_decref(both);
    json_decref(alone);
    assert_call(t, 0, say("eval @model --text @held-out --limit 5 --task %s%s", task("boolq"), ""));
    assert_says(t->out, "perplexity ");
    assert_says(t->out, "acc_norm");
    assert_says(t->out, "boolq");
    assert_call(t, 0, say("eval @model --quiet --task %s%s", task("boolq"), ""));
    assert_string_equal(t->out, "");
    assert_string_equal(t->err, "");
}

static void refusals(void **state)
{
    cli *t = *state;
    spill_text(t, "bad.jsonl", "{\"query\": \"q\", \"choices\": [\"a\", \"b\"], \"gold\": 2}\n");
    refused(t, 2, "eval @model", "--text is missing, or --task");
    refused(t, 2, "eval @model --task piqa", "'piqa' is not NAME=FILE");
    refused(t, 2, "eval @model --task piqa=", "'piqa=' is not NAME=FILE");
    refused(t, 2, "eval @model --task pica=x", "'pica' is none of piqa, openbookqa,");
    refused(t, 3, "eval @model --task piqa=/no/such", "/no/such");
    refused(t, 3, say("eval @model --task plain=%s/bad.jsonl%s", t->dir, ""), "bad.jsonl: line 1: 'gold'");
    refused(t, 2, say("eval @model --bos sequence --task %s%s", task("piqa"), ""), "BOS policy 'sequence'");
}

#define RUN "prune @model --keep 0.6 --seq-len 64 --passes 64 --init-sequences 8 --threads 1 --quiet --method units "

static void weights(void **state)
{
    cli *t = *state;
    assert_call(t, 0, RUN "--data @calibration @held-out --data-weights 3,1 --held-out 16 --out @/both");
    json_t *run = load_json(t, "both/run.json");
    const json_t *given = at(run, "settings.text.weights");
    assert_int_equal(json_array_size(given), 2);
    assert_near(json_number_value(json_array_get(given, 0)), 3, 0);
    json_decref(run);
    assert_call(t, 0, RUN "--data @calibration @held-out --held-out 16 --out @/one");
    run = load_json(t, "one/run.json");
    assert_null(json_object_get(at(run, "settings.text"), "weights"));
    json_decref(run);
    refused(t, 2, RUN "--data @calibration @held-out --data-weights 3 --out @/no", "one weight for each file");
    refused(t, 2, RUN "--data @calibration @held-out --data-weights 3,1,2 --out @/no", "one weight for each file");
    refused(t, 2, RUN "--data @calibration @held-out --data-weights 3,0 --out @/no", "list of positive numbers");
    refused(t, 2, RUN "--data @calibration @held-out --data-weights 3, --out @/no", "list of positive numbers");
    refused(t, 2, RUN "--data @calibration --objective accuracy --out @/no", "none of cross-entropy, kl, accuracy=");
    refused(t, 2, RUN "--data @calibration --objective kl=x --out @/no", "none of cross-entropy, kl, accuracy=");
    refused(t, 2, RUN "--data @calibration --objective accuracy=pica=x --out @/no", "'pica' is none of");
    refused(t, 2, RUN "--data @calibration --objective kl --objective-items 3 --out @/no", "kl: takes no task");
    refused(t, 2, RUN "--data @calibration @held-out --held-out 16 --objective kl --out @/one --resume",
            "settings.objective.kind was \"cross-entropy\" and is \"kl\"");
}

/* With any objective, and texts with weights: a run that is stopped ends where it would have ended. */
static void resumed(void **state)
{
    cli *t = *state;
    static const char *const methods[] = {"units", "allocation"};
    const char *const objectives[] = {"kl", say("accuracy=%s%s", task("openbookqa"), "")};
    for (int i = 0; i < 4; i++) {
        char call[8192], out[24], more[16384];
        snprintf(out, sizeof out, "whole%d", i);
        snprintf(
            call, sizeof call,
            "prune @model --keep 0.6 --seq-len 32 --passes 256 --init-sequences 32 --threads 1 --quiet --method %s "
            "--data @calibration @held-out --data-weights 2,1 --held-out 8 --eval-every 4 --no-repair "
            "--objective %s --out @/",
            methods[i % 2], objectives[i / 2]);
        snprintf(more, sizeof more, "%s%s", call, out);
        assert_call(t, 0, more);
        snprintf(more, sizeof more, "%srun", call);
        assert_int_equal(signalled(t, held_after(t, more, "run", 5), SIGINT), 130);
        strcat(more, " --resume");
        assert_call(t, 0, more);
        assert_same_run(t, out, "run");
        json_t *run = load_json(t, "run/run.json");
        const json_t *learning = at(run, "results.forward_sequences.learning");
        assert_true(json_integer_value(learning) > (i / 2 ? 256 : 128)); /* of an item every choice is one */
        json_decref(run);
        assert_ok(t->ctx, pol_remove_tree(t->ctx, path(t, "run")));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accuracy), cmocka_unit_test(together), cmocka_unit_test(refusals),
        cmocka_unit_test(weights),  cmocka_unit_test(resumed),
    };
    return cmocka_run_group_tests(tests, cli_setup, cli_teardown);
}
