/* test_cli_opencl_devices.c - choosing an OpenCL device and fitting its memory, by the program. Any driver will do;
 * where PoCL is the driver, a small device is made of it. */
#include "program.h"

/* What `devices --json` says of OpenCL's first device: yours. The test is skipped where there is none. */
static json_t *first_device(cli *t)
{
    json_t *j = call_json(t, "devices --json"), *found = NULL, *d;
    size_t i;
    json_array_foreach(at(j, "devices"), i, d) if (!found && !strcmp(text(d, "backend"), "opencl")) found =
        json_incref(d);
    json_decref(j);
    const char *need = getenv("POLLARD_TEST_OPENCL");
    if (!found && need && !strcmp(need, "required"))
        fail_msg("no OpenCL device, but POLLARD_TEST_OPENCL=required");
    if (!found)
        skip();
    return found;
}

static void devices_are_listed(void **state)
{
    cli *t = *state;
    json_t *d = first_device(t);
    assert_int_equal(whole(d, "index"), 0);
    assert_true(text(d, "name")[0] && text(d, "platform")[0] && text(d, "type")[0]);
    assert_true(json_is_boolean(at(d, "fp16")) && json_is_boolean(at(d, "host_memory")));
    assert_true(whole(d, "max_buffer_bytes") > 0);
    assert_true(whole(d, "max_buffer_bytes") <= whole(d, "memory_bytes"));
    assert_says(text(d, "detail"), "OpenCL ");
    assert_true(json_is_true(at(d, "usable")));
    assert_call(t, 0, "devices");
    assert_says(t->out, "opencl  0  ");
    assert_says(t->out, text(d, "name"));
    assert_says(t->out, text(d, "platform"));
    json_decref(d);
}

static void devices_are_asked_for(void **state)
{
    cli *t = *state;
    json_t *d = first_device(t);
    char expect[512], call[512];
    snprintf(expect, sizeof expect, "device     opencl 0: %s, %s\n", text(d, "name"), text(d, "platform"));
    assert_call(t, 0, "estimate @model --keep 0.6 --backend opencl --device 0");
    assert_says(t->out, expect);
    snprintf(call, sizeof call, "estimate @model --keep 0.6 --backend opencl --device %.*s",
             (int)strcspn(text(d, "name"), " "), text(d, "name"));
    assert_call(t, 0, call);
    assert_says(t->out, expect);
    refused(t, 2, "estimate @model --keep 0.6 --backend opencl --device 1000",
            "device: '1000' is none of the devices: opencl 0 (", text(d, "name"));
    refused(t, 2, "estimate @model --keep 0.6 --backend opencl --device abacus", "'abacus' is none of the devices");
    refused(t, 2, "eval @model --text @held-out --device 0 --quiet", "--backend says whose device 0 is meant");
    json_decref(d);
}

/* The processor by way of OpenCL is not what auto takes. */
static void auto_takes_no_cpu_by_opencl(void **state)
{
    cli *t = *state;
    json_t *d = first_device(t);
    if (strcmp(text(d, "type"), "CPU")) {
        json_decref(d);
        skip();
    }
    assert_call(t, 0, "estimate @model --keep 0.6");
    assert_says(t->out, "device     cpu 0: ");
    json_decref(d);
}

/* What a run took is what its estimate said, and 16 bits take about half. */
static void memory_is_as_planned(void **state)
{
    cli *t = *state;
#define SETTINGS                                                                                        \
    "--data @calibration --keep 0.6 --seq-len 64 --held-out 16 --init-sequences 16 --passes 32 --json " \
    "--backend opencl "
    json_decref(first_device(t));
    static const struct {
        const char *estimate, *prune;
    } calls[] = {
        {"estimate @model " SETTINGS, "prune @model --out @/run --quiet " SETTINGS},
        {"estimate @model --weights bf16 " SETTINGS, "prune @model --weights bf16 --out @/half --quiet " SETTINGS},
    };
    int64_t weights[2];
    for (int i = 0; i < 2; i++) {
        json_t *plan = call_json(t, calls[i].estimate);
        json_t *run = call_json(t, calls[i].prune);
        weights[i] = whole(plan, "weight_bytes");
        assert_string_equal(text(plan, "device.backend"), "opencl");
        assert_string_equal(text(run, "device.backend"), "opencl");
        assert_int_equal(whole(run, "results.peak_device_bytes"),
                         weights[i] + whole(plan, "activation_bytes") + whole(plan, "repair_bytes"));
        json_decref(plan);
        json_decref(run);
    }
    assert_in_range(weights[1], weights[0] / 2, weights[0] * 6 / 10);
}

/* Of PoCL a device with 1 GiB of memory, of which it gives a quarter at a time. */
static void a_small_device(void **state)
{
    cli *t = *state;
    setenv("POCL_MEMORY_LIMIT", "1", 1);
    json_t *d = first_device(t);
    const bool small = whole(d, "memory_bytes") <= 1 << 30 && whole(d, "max_buffer_bytes") <= 1 << 28;
    json_decref(d);
    if (!small) {
        unsetenv("POCL_MEMORY_LIMIT");
        skip();
    }
#define ON_OPENCL " --backend opencl --memory-limit 1000G "
    refused(t, 3, "estimate @model --keep 0.6 --batch 10000" ON_OPENCL, "trained: needs ",
            "on the device (weights 0.43 MiB", "which has 1.00 GiB", "a lower --batch or --seq-len needs less");
    refused(t, 3, "eval @model --text @held-out --batch 10000 --quiet" ON_OPENCL, "which has 1.00 GiB");
    refused(t, 3,
            "prune @model --data @calibration --keep 0.6 --seq-len 64 --batch 20000 --out @/run --quiet" ON_OPENCL,
            "which has 1.00 GiB");
    assert_false(there(t, "run"));
    /* With more and more sequences, one buffer is too large long before all of them are. */
    char call[128];
    int code = 0;
    for (int batch = 100; code == 0; batch += batch / 4) {
        snprintf(call, sizeof call, "estimate @model --keep 0.6 --batch %d" ON_OPENCL, batch);
        code = pollard(t, call);
    }
    refused(t, 3, call, "of activations in one buffer, the device gives 256.00 MiB at a time",
            "a lower --batch or --seq-len needs less");
    unsetenv("POCL_MEMORY_LIMIT");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(devices_are_listed, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(devices_are_asked_for, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(auto_takes_no_cpu_by_opencl, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(memory_is_as_planned, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_small_device, cli_setup, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
