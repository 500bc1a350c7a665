/* test_cli_streamed.c - runs whose model does not fit the device: the numbers of those that do, and what is said about
 * them. The devices are those of fake.c. */
#include "tests/cli/same_run.h"
#include "tests/modules/fakes.h"

/* Two passes of a mask, six of a step. */
#define SETTINGS                                                                                                        \
    "@model --data @calibration --method units --keep 0.6 --seq-len 32 --granularity heads,channels,blocks --steps 20 " \
    "--mask-samples 3 --sequences-per-mask 3 --batch 2 --held-out 7 --init-sequences 8 --eval-every 4 "                 \
    "--checkpoint-every 5 --eval @held-out --eval-limit 5 --threads 1 --no-repair --backend cuda "

static json_t *planned(cli *t, const char *device, int64_t limit)
{
    char call[1024];
    snprintf(call, sizeof call, "estimate " SETTINGS "--device %s --memory-limit %lld --json", device,
             (long long)limit);
    return call_json(t, call);
}

static int64_t on_device(const json_t *plan) { return whole(plan, "weight_bytes") + whole(plan, "activation_bytes"); }

/* The least limit under which a visit serves so many passes. */
static int64_t limit_for(cli *t, const char *device, int64_t passes)
{
    json_t *plan = planned(t, device, INT64_C(1) << 40);
    assert_true(json_is_false(at(plan, "placement.streamed")));
    int64_t limit, now;
    do {
        limit = on_device(plan) - 1;
        json_decref(plan);
        plan = planned(t, device, limit);
        assert_true(json_is_true(at(plan, "placement.streamed")));
        assert_true(on_device(plan) <= limit);
        now = whole(plan, "placement.passes_per_visit");
    } while (now > passes);
    assert_int_equal(now, passes);
    limit = on_device(plan);
    json_decref(plan);
    return limit;
}

static void prune(cli *t, int code, const char *device, int64_t limit, const char *out)
{
    char call[1024];
    snprintf(call, sizeof call, "prune " SETTINGS "--device %s --memory-limit %lld --quiet --resume --out @/%s", device,
             (long long)limit, out);
    assert_call(t, code, call);
}

enum { ROOMY = 1 << 30 };

/* But for what was on the device at most, which is what was planned. */
static void same_but_for_memory(cli *t, const char *a, const char *b, int64_t bytes)
{
    char name[64];
    snprintf(name, sizeof name, "%s/run.json", b);
    json_t *run = load_json(t, name);
    assert_true(json_is_true(at(run, "device.streamed")));
    assert_int_equal(whole(run, "results.peak_device_bytes"), bytes);
    snprintf(name, sizeof name, "%s/run.json", a);
    json_t *other = load_json(t, name);
    json_object_set(at(run, "results"), "peak_device_bytes", at(other, "results.peak_device_bytes"));
    char *record = json_dumps(run, JSON_INDENT(1));
    snprintf(name, sizeof name, "%s/run.json", b);
    spill_text(t, name, record);
    free(record);
    json_decref(run);
    json_decref(other);
    assert_same_numbers(t, a, b);
}

static void equal_bits_wherever_the_weights_are(void **state)
{
    cli *t = *state;
    static const int64_t passes[] = {6, 4, 1};
    prune(t, 0, "0", ROOMY, "resident");
    json_t *run = load_json(t, "resident/run.json");
    assert_true(json_is_false(at(run, "device.streamed")));
    json_decref(run);
    for (size_t i = 0; i < sizeof passes / sizeof passes[0]; i++) {
        char out[16];
        const int64_t limit = limit_for(t, "0", passes[i]);
        snprintf(out, sizeof out, "run%d", (int)i);
        prune(t, 0, "0", limit, out);
        same_but_for_memory(t, "resident", out, limit);
    }
    /* On two devices, of which each has its share of the passes. */
    const int64_t limit = limit_for(t, "0,1", 3);
    prune(t, 0, "0,1", limit, "two");
    same_but_for_memory(t, "resident", "two", limit);
    /* The first of them has less memory than the other. */
    char memory[32];
    snprintf(memory, sizeof memory, "%lld", (long long)limit);
    setenv("FAKE_SMALL", "0", 1);
    setenv("FAKE_MEMORY", memory, 1);
    prune(t, 0, "0,1", ROOMY, "mixed");
    run = load_json(t, "mixed/run.json");
    assert_true(json_is_true(at(run, "device.streamed")));
    json_decref(run);
    assert_same_numbers(t, "resident", "mixed"); /* memory too: the most that one of them had */
}

/* A run that ends in the middle goes on, streamed or not, as if it had not ended; nothing is said about it. */
static void resumed_with_other_limits(void **state)
{
    cli *t = *state;
    prune(t, 0, "0", ROOMY, "whole");
    const int64_t limit = limit_for(t, "0", 6);
    const int64_t limits[3][2] = {{limit, limit}, {limit, ROOMY}, {ROOMY, limit}};
    for (int i = 0; i < 3; i++) {
        char out[16], name[32];
        snprintf(out, sizeof out, "run%d", i);
        setenv("FAKE_BROKEN", "0", 1);
        setenv("FAKE_PASS", "90", 1);
        prune(t, 1, "0", limits[i][0], out);
        assert_says(t->err, "the fake is broken");
        unsetenv("FAKE_BROKEN");
        prune(t, 0, "0", limits[i][1], out);
        assert_string_equal(t->err, "");
        snprintf(name, sizeof name, "%s/run.json", out);
        json_t *run = load_json(t, name);
        assert_null(json_object_get(run, "earlier_devices"));
        json_decref(run);
        if (limits[i][1] == limit)
            same_but_for_memory(t, "whole", out, limit);
        else
            assert_same_numbers(t, "whole", out);
    }
}

static void the_plan_says_how(void **state)
{
    cli *t = *state;
    char call[1024];
    json_t *roomy = planned(t, "0", ROOMY);
    const int64_t limit = limit_for(t, "0", 6);
    json_t *plan = planned(t, "0", limit);
    assert_int_equal(whole(plan, "placement.layers"), 4);
    assert_int_equal(whole(roomy, "placement.layers"), 0);
    assert_int_equal(whole(roomy, "placement.passes_per_visit"), 1);
    assert_int_equal(whole(plan, "step_passes"), 6);
    assert_int_equal(whole(roomy, "step_passes"), 6);
    /* Layers of one size: what is pinned is twice the two slots, and the weights less by the two layers that are not
     * there. */
    const int64_t slot = whole(plan, "placement.slot_bytes");
    assert_int_equal(whole(plan, "placement.pinned_bytes"), 4 * slot);
    assert_int_equal(whole(roomy, "weight_bytes") - whole(plan, "weight_bytes"), 2 * slot);
    assert_true(whole(plan, "activation_bytes") > whole(roomy, "activation_bytes"));
    /* Copying decides where it takes longer than computing: 20 ms a slot, four slots a visit, a visit a step at least.
     */
    assert_true(num(plan, "seconds") < 1);
    json_decref(plan);
    setenv("FAKE_FAR", "0", 1);
    plan = planned(t, "0", limit);
    assert_true(num(plan, "seconds") > 20 * 4 * 0.02);
    json_decref(plan);
    json_decref(roomy);
    roomy = planned(t, "0", ROOMY);
    assert_true(num(roomy, "seconds") < 1);
    json_decref(roomy);
    unsetenv("FAKE_FAR");
    snprintf(call, sizeof call, "estimate " SETTINGS "--device 0 --memory-limit %lld", (long long)limit);
    assert_call(t, 0, call);
    assert_says(t->out, "        streamed   4 layers of at most ");
    assert_says(t->out, " visit two slots; ");
    assert_says(t->out, " of pinned host memory; 6 passes a visit, of 6 in a step\n");
    snprintf(call, sizeof call, "estimate " SETTINGS "--device 0 --memory-limit %d", ROOMY);
    assert_call(t, 0, call);
    assert_null(strstr(t->out, "streamed"));
    /* Of two devices, one of which has no room for all. */
    snprintf(call, sizeof call, "%lld", (long long)limit_for(t, "0,1", 3));
    setenv("FAKE_SMALL", "1", 1);
    setenv("FAKE_MEMORY", call, 1);
    plan = planned(t, "0,1", ROOMY);
    assert_int_equal(whole(plan, "device.index"), 1);
    assert_int_equal(whole(plan, "placement.passes_per_visit"), 3);
    json_decref(plan);
}

/* Each of two devices has half of a step's passes to serve, and the host has the weights of both. */
static void the_plan_of_two(void **state)
{
    cli *t = *state;
    json_t *roomy = planned(t, "0,1", ROOMY);
    assert_int_equal(whole(roomy, "step_passes"), 3);
    json_t *two = planned(t, "0,1", on_device(roomy) - 1), *one = planned(t, "0", limit_for(t, "0", 3));
    assert_int_equal(whole(two, "placement.passes_per_visit"), 3); /* though there is room for more */
    assert_int_equal(whole(one, "placement.passes_per_visit"), 3);
    assert_int_equal(whole(two, "host_bytes"), whole(one, "host_bytes") + whole(one, "placement.pinned_bytes"));
    json_decref(roomy);
    json_decref(two);
    json_decref(one);
}

/* What even streaming does not fit is refused, with what it would take. */
static void too_little_for_two_layers(void **state)
{
    cli *t = *state;
    char call[1024];
    const int64_t limit = limit_for(t, "0", 1);
    snprintf(call, sizeof call, "prune " SETTINGS "--device 0 --memory-limit %lld --out @/run", (long long)limit - 1);
    refused(t, 3, call, "models/trained: needs ", " on the device (weights ",
            "; with layers that visit it one after the other it would need ",
            "; a lower --batch or --seq-len needs less");
    assert_false(there(t, "run"));
    setenv("FAKE_HOST", "1", 1); /* where nothing is gained by it */
    refused(t, 3, call, "models/trained: needs ", " are available");
    assert_null(strstr(t->err, "visit"));
}

/* The less there is, the fewer passes a visit serves; ten are all that the text has. */
static void evaluation(void **state)
{
    cli *t = *state;
    char call[512];
#define EVAL "eval @model --text @held-out --seq-len 32 --limit 20 --batch 2 --backend cuda --device 0 "
    json_t *resident = call_json(t, EVAL "--json");
    assert_true(json_is_false(at(resident, "placement.streamed")));
    int64_t passes = 11;
    for (int64_t limit = 640000; limit > 460000; limit -= 40000) {
        snprintf(call, sizeof call, EVAL "--memory-limit %lld --json", (long long)limit);
        json_t *j = call_json(t, call);
        assert_true(json_is_true(at(j, "placement.streamed")));
        assert_true(num(j, "nll") == num(resident, "nll"));
        assert_true(whole(j, "placement.passes_per_visit") <= 10 && whole(j, "placement.passes_per_visit") <= passes);
        passes = whole(j, "placement.passes_per_visit");
        json_decref(j);
    }
    assert_true(passes < 5);
    json_decref(resident);
    assert_call(t, 0, EVAL "--memory-limit 640000");
    assert_says(t->out, "\nstreamed: 4 layers of at most ");
    assert_says(t->out, "; 10 passes a visit\n");
    assert_call(t, 0, EVAL);
    assert_null(strstr(t->out, "streamed"));
}

static void benchmark(void **state)
{
    cli *t = *state;
#define BENCH "bench @model --backend cuda --device 0 --batch 1 --seq-len 32 --rounds 1 --threads 1 "
    json_t *j = call_json(t, BENCH "--memory-limit 500000 --json");
    assert_true(json_is_true(at(j, "placement.streamed")));
    assert_int_equal(whole(j, "placement.passes_per_visit"), 16);
    assert_true(num(j, "dense_seconds") > 0 && num(j, "masked_seconds") > 0);
    json_decref(j);
    assert_call(t, 0, BENCH "--memory-limit 500000");
    assert_says(t->out, "\nstreamed: 4 layers of at most ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(equal_bits_wherever_the_weights_are, fakes_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(resumed_with_other_limits, fakes_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(the_plan_says_how, fakes_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(the_plan_of_two, fakes_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(too_little_for_two_layers, fakes_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(evaluation, fakes_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(benchmark, fakes_setup, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
