/* test_cli_several_devices.c - a run on several devices: the same as on one, but for who computes it. The devices are
 * those of fake.c. */
#include "tests/cli/same_run.h"
#include "tests/modules/fakes.h"

/* Batches of two and of one, and no number of them that three devices share equally. */
#define SETTINGS                                                                                                        \
    "@model --data @calibration --method units --keep 0.6 --seq-len 32 --granularity heads,channels,blocks --steps 20 " \
    "--mask-samples 3 --sequences-per-mask 3 --batch 2 --held-out 7 --init-sequences 8 --eval-every 4 "                 \
    "--checkpoint-every 5 --eval @held-out --eval-limit 5 --threads 1 --quiet "

static void equal_bits_however_many(void **state)
{
    cli *t = *state;
    assert_call(t, 0, "prune " SETTINGS "--backend cpu --out @/cpu");
    assert_call(t, 0, "prune " SETTINGS "--backend cuda --out @/one");
    assert_call(t, 0, "prune " SETTINGS "--backend cuda --device 2,0 --out @/two");
    assert_call(t, 0, "prune " SETTINGS "--device all --out @/three");
    assert_same_numbers(t, "cpu", "one");
    assert_same_numbers(t, "one", "two");
    assert_same_numbers(t, "one", "three");
    json_t *run = load_json(t, "three/run.json");
    assert_string_equal(text(run, "device.backend"), "cuda");
    assert_string_equal(text(run, "device.name"), "Fake A");
    assert_int_equal(whole(run, "device.count"), 3);
    assert_int_equal(json_array_size(at(run, "device.names")), 3);
    json_decref(run);
}

static void the_plan_is_of_each(void **state)
{
    cli *t = *state;
#define PLAN "estimate @model --method units --keep 0.6 --seq-len 32 "
    json_t *one = call_json(t, PLAN "--backend cuda --json"), *all = call_json(t, PLAN "--device all --json");
    assert_int_equal(whole(one, "devices"), 1);
    assert_int_equal(whole(all, "devices"), 3);
    static const char *const same[] = {"weight_bytes", "activation_bytes", "host_bytes", "device_bytes", "tokens"};
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++)
        assert_int_equal(whole(one, same[i]), whole(all, same[i]));
    assert_true(num(all, "seconds") < num(one, "seconds"));
    json_decref(one);
    json_decref(all);
    assert_call(t, 0, PLAN "--device all");
    assert_says(t->out, "plan    devices    cuda: 3 x Fake A\n");
    assert_string_equal(t->err, "");
    assert_says(t->out, " on each device: weights ");
    assert_call(t, 0, PLAN "--backend cuda --device 1");
    assert_says(t->out, "plan    device     cuda 1: Fake A\n");
    assert_says(t->out, " on the device: weights ");
    setenv("FAKE_ODD", "2", 1);
    assert_call(t, 0, PLAN "--device all");
    assert_says(t->out, "plan    devices    cuda: 2 x Fake A, 1 x Fake B\n");
    all = call_json(t, PLAN "--device all --json");
    const double seconds = num(all, "seconds");
    json_decref(all);
    setenv("FAKE_SLOW", "1", 1); /* that one is waited for */
    all = call_json(t, PLAN "--device all --json");
    assert_true(num(all, "seconds") > 3 * seconds);
    json_decref(all);
    unsetenv("FAKE_SLOW");
    /* Of the one with least to spare. */
    setenv("FAKE_SMALL", "1", 1);
    setenv("FAKE_MEMORY", "33554432", 1);
    all = call_json(t, PLAN "--device all --json");
    assert_int_equal(whole(all, "device.index"), 1);
    assert_int_equal(whole(all, "device_bytes"), 33554432);
    json_decref(all);
}

/* Fewer passes a step than devices, two masks of one batch: it is said, unless nothing is learnt. */
static void devices_without_work(void **state)
{
    cli *t = *state;
    assert_call(t, 0, PLAN "--device all --mask-samples 2");
    assert_says(t->err, "a step has 2 passes: 1 of 3 devices have none; a lower --batch makes more");
    assert_call(t, 0, PLAN "--device all --mask-samples 2 --sequences-per-mask 4 --batch 2");
    assert_string_equal(t->err, "");
    assert_call(t, 0, PLAN "--device all --mask-samples 2 --passes 0");
    assert_string_equal(t->err, "");
}

/* Memory that is the host's is there once for all of them. */
static void the_plan_is_of_all_where_memory_is_the_hosts(void **state)
{
    cli *t = *state;
    setenv("FAKE_HOST", "1", 1);
    json_t *one = call_json(t, PLAN "--backend cuda --json"), *all = call_json(t, PLAN "--device all --json");
    assert_true(json_is_true(at(all, "shared_memory")));
    assert_int_equal(whole(all, "host_bytes"),
                     whole(one, "host_bytes") + 2 * (whole(one, "weight_bytes") + whole(one, "activation_bytes") +
                                                     whole(one, "repair_bytes")));
    json_decref(one);
    json_decref(all);
}

/* Each needs the whole model, so the smallest decides. */
static void one_too_small_is_named(void **state)
{
    cli *t = *state;
    setenv("FAKE_SMALL", "1", 1);
    setenv("FAKE_MEMORY", "65536", 1);
    refused(t, 3, "prune " SETTINGS "--device all --out @/run", "models/trained on cuda 1 (Fake A): needs ",
            " on the device (weights ", ", which has 0.06 MiB; ");
    assert_false(there(t, "run"));
    refused(t, 3, PLAN "--backend cuda --device 0,1", "on cuda 1 (Fake A): needs ");
    refused(t, 3, PLAN "--backend cuda --device 1", "models/trained: needs ");
    assert_call(t, 0, PLAN "--backend cuda --device 0,2");
}

/* In the middle of learning: the dense and the initial model take fewer than 20 passes, of which this is a third. */
static void a_device_that_fails(void **state)
{
    cli *t = *state;
    assert_call(t, 0, "prune " SETTINGS "--device all --out @/whole");
    setenv("FAKE_BROKEN", "1", 1);
    setenv("FAKE_PASS", "20", 1);
    refused(t, 1, "prune " SETTINGS "--device all --out @/run", "cuda 1 (Fake A): the fake is broken");
    json_t *run = load_json(t, "run/run.json");
    assert_string_equal(text(run, "status"), "failed");
    json_decref(run);
    /* Without that one it goes on from its last checkpoint, and nothing tells. */
    unsetenv("FAKE_BROKEN");
    assert_call(t, 0, "prune " SETTINGS "--backend cuda --device 0,2 --resume --out @/run");
    assert_string_equal(t->err, "");
    assert_same_numbers(t, "whole", "run");
    /* While it has nothing saved it leaves nothing behind. */
    setenv("FAKE_BROKEN", "2", 1);
    setenv("FAKE_PASS", "1", 1);
    refused(t, 1, "prune " SETTINGS "--device all --out @/early", "cuda 2 (Fake A): the fake is broken");
    assert_false(there(t, "early"));
    unsetenv("FAKE_BROKEN");
    setenv("FAKE_METRIC", "0", 1);
    refused(t, 1, "prune " SETTINGS "--device all --out @/early", "cuda 0 (Fake A): the fake is broken");
}

/* A run that a failing device has ended in the middle. */
static void begun(cli *t, const char *call)
{
    setenv("FAKE_BROKEN", "0", 1);
    setenv("FAKE_PASS", "20", 1);
    assert_call(t, 1, call);
    unsetenv("FAKE_BROKEN");
}

/* A warning where numbers can differ: not because of how many devices there are. */
static void resumed_on_others(void **state)
{
    cli *t = *state;
#define LOUD                                                                                               \
    "prune @model --data @calibration --method units --keep 0.6 --seq-len 32 --steps 20 --mask-samples 3 " \
    "--held-out 7 --init uniform --checkpoint-every 2 --threads 1 --out @/run "
    begun(t, LOUD "--backend cuda");
    assert_call(t, 0, LOUD "--resume --device all");
    assert_null(strstr(t->err, "goes on with"));
    json_t *run = load_json(t, "run/run.json");
    assert_null(json_object_get(run, "earlier_devices"));
    assert_int_equal(whole(run, "device.count"), 3);
    json_decref(run);

    assert_ok(t->ctx, pol_remove_tree(t->ctx, path(t, "run")));
    begun(t, LOUD "--backend cuda");
    setenv("FAKE_ODD", "2", 1);
    assert_call(t, 0, LOUD "--resume --device all");
    assert_says(t->err, "cuda 0 is a Fake A and cuda 2 a Fake B");
    assert_says(t->err,
                "goes on with cuda (Fake A, Fake A, Fake B, weights in f32), so far it was with cuda (Fake A, f32)");
    run = load_json(t, "run/run.json");
    assert_int_equal(json_array_size(at(run, "earlier_devices")), 1);
    json_decref(run);

    /* The same two kinds in the same order: the same numbers. */
    assert_ok(t->ctx, pol_remove_tree(t->ctx, path(t, "run")));
    begun(t, LOUD "--device all");
    assert_call(t, 0, LOUD "--resume --device all");
    assert_null(strstr(t->err, "goes on with"));
}

/* What a killed run has done on other devices is on record, since its checkpoint is of them. */
static void killed_on_others(void **state)
{
    cli *t = *state;
    begun(t, LOUD "--backend cuda");
    setenv("FAKE_ODD", "0", 1);
    setenv("FAKE_KILLS", "1", 1);
    setenv("FAKE_BROKEN", "0", 1);
    setenv("FAKE_PASS", "10", 1);
    assert_call(t, 1000 + SIGKILL, LOUD "--resume --backend cuda");
    unsetenv("FAKE_BROKEN");
    json_t *run = load_json(t, "run/run.json");
    assert_string_equal(text(run, "status"), "running");
    assert_string_equal(text(run, "device.name"), "Fake B");
    assert_int_equal(json_array_size(at(run, "earlier_devices")), 1);
    json_decref(run);
    unsetenv("FAKE_ODD");
    assert_call(t, 0, LOUD "--resume --backend cuda");
    assert_says(t->err, "goes on with cuda (Fake A, weights in f32), so far it was with cuda (Fake B, f32)");
    run = load_json(t, "run/run.json");
    assert_int_equal(json_array_size(at(run, "earlier_devices")), 2);
    json_decref(run);
}

/* Weights stay as they were; a backend that does not take them so is refused with a word about where they are from. */
static void resumed_where_weights_are_not_taken(void **state)
{
    cli *t = *state;
    begun(t, LOUD "--backend cuda");
    json_t *run = load_json(t, "run/run.json");
    json_object_set_new(at(run, "device"), "weights", json_string("f16"));
    char *record = json_dumps(run, JSON_INDENT(1));
    spill_text(t, "run/run.json", record);
    free(record);
    json_decref(run);
    refused(t, 3, LOUD "--resume --backend cpu",
            "weights: the cpu backend has them in f32 alone (--weights f32), not in ",
            "f16; the run has been with --backend cuda and --weights f16 so far");
    refused(t, 3, LOUD "--resume --backend cpu --weights bf16", "not in bf16");
    assert_null(strstr(t->err, "so far"));
    assert_call(t, 0, LOUD "--resume --backend cpu --weights f32");
}

static void lists_that_make_no_sense(void **state)
{
    cli *t = *state;
    refused(t, 2, PLAN "--backend cuda --device 1,1", "device: cuda 1 (Fake A) is named twice");
    refused(t, 2, PLAN "--backend cuda --device 0,3", "device: '3' is none of the devices: cuda 0 (Fake A), ");
    refused(t, 2, PLAN "--backend cuda --device 0,", "device: '' is none of the devices");
    refused(t, 2, PLAN "--backend cuda --device 0,all", "device: 'all' stands for several devices");
    refused(t, 2, PLAN "--device 0,1", "--backend says whose device 0 is meant");
    /* What one device does is asked of one. */
    static const char *const calls[] = {"eval @model --text @held-out --limit 1 --backend cuda --device ",
                                        "bench @model --rounds 1 --seq-len 16 --batch 1 --backend cuda --device "};
    for (size_t i = 0; i < 2; i++) {
        char call[256];
        snprintf(call, sizeof call, "%s0,1 --quiet", calls[i]);
        refused(t, 2, call, "device: '0,1' stands for several devices, and one is wanted here");
        snprintf(call, sizeof call, "%sall --quiet", calls[i]);
        refused(t, 2, call, "device: 'all' stands for several devices, and one is wanted here");
        snprintf(call, sizeof call, "%s1", calls[i]);
        assert_call(t, 0, call);
        assert_says(t->out, "cuda 1: Fake A");
    }
}

static void copy(cli *t, const char *from, const char *to)
{
    assert_ok(t->ctx, pol_file_copy(t->ctx, from, path(t, to)));
    assert_int_equal(chmod(path(t, to), 0755), 0);
}

/* Without POLLARD_MODULE_DIR: beside libpollard, else in the folder pollard there. */
static void found_beside_the_library(void **state)
{
    cli *t = *state;
    char before[4096] = "";
    if (getenv("LD_LIBRARY_PATH"))
        snprintf(before, sizeof before, "%s", getenv("LD_LIBRARY_PATH"));
    unsetenv("POLLARD_MODULE_DIR");
    copy(t, POL_TEST_LIBRARY, "library.so");
    assert_int_equal(symlink(path(t, "library.so"), path(t, POL_TEST_SONAME)), 0);
    setenv("LD_LIBRARY_PATH", t->dir, 1);
    assert_call(t, 0, "devices");
    assert_says(t->out, "cuda    -  libpollard-cuda.so is not beside the program: this build has no cuda backend "
                        "(docs/cuda.md)\n");
    assert_int_equal(mkdir(path(t, "pollard"), 0777), 0);
    copy(t, POL_TEST_MODULES "/good/libpollard-cuda.so", "pollard/libpollard-cuda.so");
    assert_call(t, 0, "devices");
    assert_says(t->out, "cuda    2  Fake A\n");
    setenv("POLLARD_MODULE_DIR", "", 1); /* as if it were not set */
    assert_call(t, 0, "devices");
    assert_says(t->out, "cuda    2  Fake A\n");
    unsetenv("POLLARD_MODULE_DIR");
    copy(t, POL_TEST_MODULES "/no_symbol/libpollard-cuda.so", "libpollard-cuda.so"); /* comes first */
    assert_call(t, 0, "devices");
    assert_says(t->out, "cuda    -  libpollard-cuda.so is no module of Pollard");
    if (before[0])
        setenv("LD_LIBRARY_PATH", before, 1);
    else
        unsetenv("LD_LIBRARY_PATH");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(equal_bits_however_many, fakes_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(the_plan_is_of_each, fakes_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(devices_without_work, fakes_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(the_plan_is_of_all_where_memory_is_the_hosts, fakes_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(one_too_small_is_named, fakes_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_device_that_fails, fakes_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(resumed_on_others, fakes_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(killed_on_others, fakes_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(resumed_where_weights_are_not_taken, fakes_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(lists_that_make_no_sense, fakes_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(found_beside_the_library, fakes_setup, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
