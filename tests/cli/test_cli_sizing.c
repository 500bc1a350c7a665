/* test_cli_sizing.c - sizing a run by measurement: what is left open is chosen, what is given stays, and a run that
 * goes on measures nothing. */
#include <math.h>

#include "same_run.h"
#include "stopping.h"

#define SMALL                                                                                         \
    "@model --data @calibration --keep 0.6 --seq-len 32 --held-out 8 --init-sequences 16 --batch 16 " \
    "--repair-sequences 64 --threads 1 --quiet "

static bool is_power_of_two(int64_t x) { return x > 0 && !(x & (x - 1)); }

static json_t *record(const cli *t, const char *run)
{
    char name[64];
    snprintf(name, sizeof name, "%s/run.json", run);
    return load_json(t, name);
}

static int steps_of(const cli *t, const char *run)
{
    json_t *log = timeless_log(t, run);
    const int n = (int)json_array_size(log);
    json_decref(log);
    return n;
}

static void check_measured(const json_t *sizing)
{
    static const char *const positive[] = {"between_masks",  "between_sequences", "residual",
                                           "change_seconds", "pass_seconds",      "learning_rate"};
    for (size_t i = 0; i < 6; i++)
        assert_true(num(sizing, positive[i]) > 0);
    assert_int_equal(whole(sizing, "masks"), 16);
    assert_int_equal(whole(sizing, "sequences"), 16);
    assert_true(is_power_of_two(whole(sizing, "mask_samples")));
    assert_true(is_power_of_two(whole(sizing, "sequences_per_mask")));
    assert_in_range(json_array_size(at(sizing, "reasons")), 4, 7);
}

/* The counts of an allocation; 15 % of what is left goes to each of two more stages. */
static void an_allocation_is_sized(void **state)
{
    cli *t = *state;
    assert_call(t, 0, "prune " SMALL "--passes 3000 --out @/run");
    json_t *run = record(t, "run"), *sizing = at(run, "sizing");
    check_measured(sizing);
    assert_true(num(sizing, "spread") > 0);
    static const char *const open[] = {"settings.allocation.candidates",
                                       "settings.allocation.sequences_per_candidate",
                                       "settings.allocation.learning_rate",
                                       "settings.allocation.spread_channels",
                                       "settings.eval_every",
                                       "settings.steps.allocation"};
    for (size_t i = 0; i < 6; i++)
        assert_string_equal(text(run, open[i]), "auto");
    const int64_t of_step = whole(sizing, "mask_samples") * whole(sizing, "sequences_per_mask");
    const int64_t later = (int64_t)(0.15 * (3000 - 256)), first = 3000 - 256 - 2 * later;
    assert_int_equal(whole(sizing, "steps.allocation"), first / of_step);
    assert_int_equal(whole(sizing, "steps.blocks"), later / 16);
    assert_int_equal(whole(sizing, "steps.units"), later / 16);
    assert_int_equal(steps_of(t, "run"), first / of_step + 2 * (later / 16));
    assert_int_equal(whole(run, "results.stages.allocation.steps"), first / of_step);
    /* Equal candidates are looked at once. */
    const int64_t most = 256 + first / of_step * of_step + 2 * (later / 16 * 16);
    assert_in_range(whole(run, "results.forward_sequences.learning"), most / 2, most);
    json_decref(run);
}

static void units_are_sized(void **state)
{
    cli *t = *state;
    assert_call(t, 0, "prune " SMALL "--method units --passes 2560 --no-repair --out @/run");
    json_t *run = record(t, "run"), *sizing = at(run, "sizing");
    check_measured(sizing);
    assert_near(num(sizing, "learning_rate"), 6 / sqrt(2560 - 256), 1e-9);
    assert_string_equal(text(run, "settings.learn.mask_samples"), "auto");
    assert_string_equal(text(run, "settings.learn.sequences_per_mask"), "auto");
    assert_string_equal(text(run, "settings.learn.learning_rate"), "auto");
    const int64_t of_step = whole(sizing, "mask_samples") * whole(sizing, "sequences_per_mask");
    const int64_t steps = (2560 - 256) / of_step;
    assert_int_equal(steps_of(t, "run"), steps);
    assert_int_equal(whole(run, "results.forward_sequences.learning"), 256 + steps * of_step);
    json_decref(run);
}

/* One pass less is not enough for a pilot; the rest of the settings decides nothing. */
static void few_passes_and_settled_runs_have_no_pilot(void **state)
{
    cli *t = *state;
    static const char *const options[] = {
        "--method units --passes 2559", "--method units --passes 2560 --no-pilot",
        "--method units --passes 2560 --mask-samples 16 --sequences-per-mask 1", "--method units --steps 160",
        "--passes 2560 --candidates 16 --sequences-per-candidate 1 --allocation-lr 3 --spread 0.1 --stages allocation"};
    for (size_t i = 0; i < 5; i++) {
        char call[512], out[32];
        snprintf(call, sizeof call, "prune " SMALL "--no-repair %s --out @/run%zu", options[i], i);
        snprintf(out, sizeof out, "run%zu", i);
        assert_call(t, 0, call);
        json_t *run = record(t, out);
        assert_null(json_object_get(run, "sizing"));
        assert_int_equal(steps_of(t, out), i == 0 ? 159 : 160);
        json_decref(run);
    }
    assert_same_numbers(t, "run1", "run2");
    assert_same_numbers(t, "run1", "run3");
}

/* Each alone: it stays, and the others are chosen. */
static void what_is_given_stays(void **state)
{
    cli *t = *state;
    static const struct {
        const char *option, *key;
        double value;
    } given[] = {{"--candidates 6", "mask_samples", 6},
                 {"--sequences-per-candidate 3", "sequences_per_mask", 3},
                 {"--allocation-lr 1.7", "learning_rate", 1.7},
                 {"--spread 0.07", "spread", 0.07}};
    static const char *const settings[] = {"candidates", "sequences_per_candidate", "learning_rate", "spread_channels"};
    for (size_t i = 0; i < 4; i++) {
        char call[512], out[32], key[64];
        snprintf(call, sizeof call, "prune " SMALL "--no-repair --passes 2560 --stages allocation %s --out @/run%zu",
                 given[i].option, i);
        assert_call(t, 0, call);
        snprintf(out, sizeof out, "run%zu", i);
        json_t *run = record(t, out);
        for (size_t k = 0; k < 4; k++) {
            snprintf(key, sizeof key, "settings.allocation.%s", settings[k]);
            const json_t *value = at(run, key);
            if (k == i)
                assert_near(json_number_value(value), given[i].value, 1e-12);
            else
                assert_string_equal(json_string_value(value), "auto");
        }
        assert_near(json_number_value(at(at(run, "sizing"), given[i].key)), given[i].value, 1e-12);
        json_decref(run);
    }
}

/* What is on record is what is learnt with: another rate there is another rate from then on. */
static void a_run_that_goes_on_takes_its_sizing(void **state)
{
    cli *t = *state;
    static const char call[] = "prune " SMALL "--method units --passes 2560 --no-repair --sequences-per-mask 1";
    char text[512];
    snprintf(text, sizeof text, "%s --out @/whole", call);
    assert_call(t, 0, text);
    snprintf(text, sizeof text, "%s --out @/run", call);
    assert_int_equal(signalled(t, held_after(t, text, "run", 20), SIGINT), 130);
    json_t *run = record(t, "run"), *sizing = json_deep_copy(at(run, "sizing"));
    json_decref(run);
    snprintf(text, sizeof text, "%s --out @/run --resume", call);
    assert_call(t, 0, text);
    assert_same_numbers(t, "whole", "run");
    run = record(t, "run");
    assert_same_json(sizing, json_incref(at(run, "sizing")), "sizings");
    json_decref(run);

    snprintf(text, sizeof text, "%s --out @/other", call);
    assert_int_equal(signalled(t, held_after(t, text, "other", 20), SIGINT), 130);
    run = record(t, "other");
    json_object_set_new(at(run, "sizing"), "learning_rate", json_real(1e-6));
    char *changed = json_dumps(run, 0);
    spill(t, "other/run.json", changed, strlen(changed));
    free(changed);
    json_decref(run);
    snprintf(text, sizeof text, "%s --out @/other --resume", call);
    assert_call(t, 0, text);
    json_t *log = timeless_log(t, "other");
    assert_true(num(json_array_get(log, 0), "learning_rate") > 1e-3);
    assert_true(num(json_array_get(log, json_array_size(log) - 2), "learning_rate") < 1e-6);
    json_decref(log);
    /* And a record without it is none of a run that has begun to learn. */
    run = record(t, "other");
    json_object_del(run, "sizing");
    changed = json_dumps(run, 0);
    spill(t, "other/run.json", changed, strlen(changed));
    free(changed);
    json_decref(run);
    refused(t, 3, text, "run.json", "sizing");
    snprintf(text, sizeof text, "%s --out @/whole --resume --no-pilot", call);
    refused(t, 2, text, "settings.", "\"auto\"");
}

/* The dense model's predictions are kept of all that any choice could draw: 8 masks a step at least. */
static void a_divergence_can_be_sized(void **state)
{
    cli *t = *state;
    static const char *const methods[] = {"units", "allocation"};
    for (size_t i = 0; i < 2; i++) {
        char call[512];
        snprintf(call, sizeof call,
                 "prune " SMALL "--passes 2560 --init magnitude --no-repair --objective kl %s%s --out @/%s",
                 i ? "--stages allocation --method " : "--method ", methods[i], methods[i]);
        assert_call(t, 0, call);
        json_t *run = record(t, methods[i]);
        check_measured(at(run, "sizing"));
        assert_int_equal(whole(run, "results.forward_sequences.initialisation"), (2560 - 256) / 8 + 8);
        json_decref(run);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_allocation_is_sized, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(units_are_sized, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(few_passes_and_settled_runs_have_no_pilot, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(what_is_given_stays, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_run_that_goes_on_takes_its_sizing, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_divergence_can_be_sized, cli_setup, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
