/* test_cli_allocation_devices.c - the default method on other devices than the CPU's: several, small ones, ones that
 * solve nothing, ones that fail. The devices are those of fake.c. */
#include "tests/cli/same_run.h"
#include "tests/modules/fakes.h"

/* All stages, batches that three devices do not share equally. */
#define SETTINGS                                                                                                     \
    "@model --data @calibration --keep 0.6 --seq-len 32 --passes 2700 --no-pilot --candidates 32 --mask-samples 24 " \
    "--batch 3 --held-out 7 --repair-sequences 64 --eval @held-out --eval-limit 5 --threads 1 "

static void assert_same_weights(const cli *t, const char *a, const char *b)
{
    char x[64], y[64];
    snprintf(x, sizeof x, "%s/repaired.safetensors", a);
    snprintf(y, sizeof y, "%s/repaired.safetensors", b);
    assert_same_numbers(t, a, b);
    assert_same_file(t, x, y);
}

static void equal_bits_however_many(void **state)
{
    cli *t = *state;
    assert_call(t, 0, "prune " SETTINGS "--quiet --backend cpu --out @/cpu");
    assert_call(t, 0, "prune " SETTINGS "--quiet --backend cuda --out @/one");
    assert_call(t, 0, "prune " SETTINGS "--quiet --backend cuda --device 2,0 --out @/two");
    assert_call(t, 0, "prune " SETTINGS "--quiet --device all --out @/three");
    assert_same_weights(t, "cpu", "one");
    assert_same_weights(t, "cpu", "two");
    assert_same_weights(t, "cpu", "three");
}

/* The cpu backend's solvers then, in every method. */
static void devices_that_solve_nothing(void **state)
{
    cli *t = *state;
    static const char *const methods[] = {"allocation", "units --steps 8", "allocation --init wanda-sp --passes 0"};
    for (int i = 0; i < 3; i++) {
        char call[768];
        const char *settings = "@model --data @calibration --keep 0.6 --seq-len 32 --held-out 7 --repair-sequences 64 "
                               "--no-pilot --threads 1";
        snprintf(call, sizeof call, "prune %s %s --method %s --quiet --backend cpu --out @/cpu%d", settings,
                 strchr(methods[i], ' ') ? "" : "--passes 96", methods[i], i);
        assert_call(t, 0, call);
        setenv("FAKE_UNSOLVED", "1", 1);
        snprintf(call, sizeof call, "prune %s %s --method %s --verbose --device all --out @/fake%d", settings,
                 strchr(methods[i], ' ') ? "" : "--passes 96", methods[i], i);
        assert_call(t, 0, call);
        unsetenv("FAKE_UNSOLVED");
        assert_says(t->err, "backend cuda has no solvers: the cpu backend does that step");
        snprintf(call, sizeof call, "cpu%d", i);
        char other[16];
        snprintf(other, sizeof other, "fake%d", i);
        assert_same_weights(t, call, other);
    }
}

/* ---- little memory ---- */

static json_t *planned(cli *t, int64_t limit)
{
    char call[1024];
    snprintf(call, sizeof call, "estimate " SETTINGS "--backend cuda --device 0 --memory-limit %lld --json",
             (long long)limit);
    return call_json(t, call);
}

static int64_t on_device(const json_t *plan)
{
    return whole(plan, "weight_bytes") + whole(plan, "activation_bytes") + whole(plan, "repair_bytes");
}

static void prune(cli *t, int64_t limit, const char *run, const char *options)
{
    char call[1024];
    snprintf(call, sizeof call, "prune " SETTINGS "--backend cuda --device 0 --memory-limit %lld --out @/%s %s",
             (long long)limit, run, options);
    assert_call(t, 0, call);
}

enum { ROOMY = 1 << 30 };

/* Without room for all levels, but for the largest of each block: the same rows come from the file. */
static void levels_from_the_file(void **state)
{
    cli *t = *state;
    json_t *roomy = planned(t, ROOMY), *tight = planned(t, on_device(roomy) - 1);
    assert_true(json_is_true(at(roomy, "levels_resident")) && json_is_false(at(tight, "levels_resident")));
    assert_false(json_is_true(at(tight, "placement.streamed")));
    assert_true(on_device(tight) < on_device(roomy));
    prune(t, ROOMY, "roomy", "--quiet");
    prune(t, on_device(tight), "tight", "");
    assert_says(t->out, " (levels are read from disk)");
    json_t *run = load_json(t, "tight/run.json");
    assert_string_equal(text(run, "settings.allocation.learnt_in"), "repaired");
    assert_in_range(whole(run, "results.peak_device_bytes"), on_device(tight) / 2, on_device(tight));
    json_decref(run);
    assert_same_weights(t, "roomy", "tight");
    json_decref(roomy);
    json_decref(tight);
}

/* Layers visit the device: counts are learnt in the model as it is, and that is said. Such a run does not go on in the
 * repaired model, nor the other way round. */
static void layers_that_visit(void **state)
{
    cli *t = *state;
    json_t *roomy = planned(t, ROOMY), *tight = planned(t, on_device(roomy) - 1);
    const int64_t limit = whole(tight, "weight_bytes") + whole(tight, "activation_bytes") - 1;
    json_decref(roomy);
    json_decref(tight);
    tight = planned(t, limit);
    assert_true(json_is_true(at(tight, "placement.streamed")));
    assert_int_equal(whole(tight, "level_bytes"), 0);
    prune(t, limit, "streamed", "");
    assert_says(t->err, "warning: layers visit the device: the allocation is learnt in the model as it is, not as it "
                        "will be repaired");
    json_t *run = load_json(t, "streamed/run.json");
    assert_string_equal(text(run, "settings.allocation.learnt_in"), "masked");
    assert_true(json_is_true(at(run, "device.streamed")));
    assert_false(there(t, "streamed/database.bin"));
    assert_true(num(run, "results.stages.allocation.after") <= num(run, "results.stages.allocation.before"));
    assert_true(num(run, "results.repaired.held_out_nll") < num(run, "results.learnt.held_out_nll"));
    static const char *const purposes[] = {"initialisation", "held_out", "evaluation", "repair"};
    for (int i = 0; i < 4; i++)
        assert_int_equal(whole(at(tight, "forward_sequences"), purposes[i]),
                         whole(at(run, "results.forward_sequences"), purposes[i]));
    json_decref(run);
    json_decref(tight);
    unlink(path(t, "streamed/mask.json")); /* not done */
    char call[1024];
    snprintf(call, sizeof call, "prune " SETTINGS "--quiet --backend cuda --device 0 --out @/streamed --resume");
    refused(t, 2, call, "settings.allocation.learnt_in was \"masked\" and is \"repaired\" in this call");
}

/* ---- failures ---- */

/* While blocks of the database are computed: those that are done stay. Before the first one nothing does. */
static void a_device_that_fails_in_the_database(void **state)
{
    cli *t = *state;
    const char *call = "prune " SETTINGS "--quiet --backend cuda --device 0 --out @/run";
    assert_call(t, 0, "prune " SETTINGS "--quiet --backend cuda --device 0 --out @/whole");
    setenv("FAKE_BROKEN", "0", 1);
    setenv("FAKE_MOMENT", "1", 1);
    refused(t, 1, call, "the fake is broken");
    assert_false(there(t, "run"));
    setenv("FAKE_MOMENT", "100", 1);
    refused(t, 1, call, "the fake is broken");
    unsetenv("FAKE_BROKEN");
    assert_true(there(t, "run/database.bin") && !there(t, "run/checkpoint.bin"));
    json_t *run = load_json(t, "run/run.json");
    assert_string_equal(text(run, "status"), "failed");
    json_decref(run);
    assert_call(t, 0, "prune " SETTINGS "--quiet --backend cuda --device 0 --out @/run --resume");
    assert_same_weights(t, "whole", "run");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(equal_bits_however_many, fakes_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(devices_that_solve_nothing, fakes_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(levels_from_the_file, fakes_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(layers_that_visit, fakes_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_device_that_fails_in_the_database, fakes_setup, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
