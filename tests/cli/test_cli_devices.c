/* test_cli_devices.c - `pollard devices`, and asking for one, on a machine without any OpenCL driver and without
 * modules: both are looked for in an empty place. */
#include "program.h"

enum { COUNT_BACKENDS = 3 };

static int setup_without_drivers(void **state)
{
    if (cli_setup(state) || setenv("POLLARD_MODULE_DIR", "/nonexistent", 1))
        return -1;
    return setenv("OCL_ICD_VENDORS", "/nonexistent", 1) || setenv("OCL_ICD_FILENAMES", "", 1);
}

/* The backend of that name in what `devices --json` said. */
static const json_t *backend(const json_t *j, const char *name)
{
    size_t i;
    const json_t *b;
    json_array_foreach(at(j, "backends"), i, b) if (!strcmp(text(b, "name"), name)) return b;
    fail_msg("no backend '%s' in the JSON", name);
    return NULL;
}

static void devices_are_listed(void **state)
{
    cli *t = *state;
    static const char *const texts[] = {"backend", "name", "platform", "type", "detail"};
    static const char *const flags[] = {"host_memory", "fp16", "usable"};
    json_t *j = call_json(t, "devices --json");
    assert_int_equal(json_array_size(at(j, "devices")), 1);
    assert_int_equal(json_array_size(at(j, "backends")), COUNT_BACKENDS);
    const json_t *cpu = json_array_get(at(j, "devices"), 0);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_non_null(text(cpu, texts[i]));
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        assert_true(json_is_boolean(at(cpu, flags[i])));
    assert_string_equal(text(cpu, "backend"), "cpu");
    assert_string_equal(text(cpu, "type"), "CPU");
    assert_int_equal(whole(cpu, "index"), 0);
    assert_true(json_is_true(at(cpu, "usable")) && json_is_true(at(cpu, "host_memory")));
    assert_true(whole(cpu, "memory_bytes") > 0 && whole(cpu, "max_buffer_bytes") > 0);
    assert_true(json_is_true(at(backend(j, "cpu"), "built")) && json_is_null(at(backend(j, "cpu"), "note")));
    assert_int_equal(whole(backend(j, "cpu"), "devices"), 1);
    json_decref(j);
    assert_call(t, 0, "devices");
    assert_says(t->out, "cpu     0  ");
    assert_says(t->out, " of the host's");
    assert_call(t, 0, "devices --quiet");
    assert_string_equal(t->out, "");
}

static void no_driver_is_no_error(void **state)
{
    cli *t = *state;
    json_t *j = call_json(t, "devices --json");
    const json_t *opencl = backend(j, "opencl");
    const char *note = json_is_true(at(opencl, "built")) ? "no OpenCL driver (ICD) is installed" : "not in this build";
    assert_int_equal(whole(opencl, "devices"), 0);
    assert_says(text(opencl, "note"), note);
    assert_call(t, 0, "devices");
    assert_says(t->out, "opencl  -  ");
    assert_says(t->out, note);
    assert_false(json_is_true(at(backend(j, "cuda"), "built")));
    assert_says(text(backend(j, "cuda"), "note"), "libpollard-cuda.so is not in POLLARD_MODULE_DIR");
    assert_says(t->out, "cuda    -  libpollard-cuda.so is not in");
    refused(t, 2, "eval @model --text @held-out --backend cuda --quiet", "backend cuda: libpollard-cuda.so is not in");
    /* Asked for by name it is: in each command, and the CPU is not taken instead. */
    refused(t, 2, "eval @model --text @held-out --backend opencl --quiet", "backend opencl", note);
    refused(t, 2, "eval @model --text @held-out --backend opencl --device 0 --quiet", "backend opencl", note);
    refused(t, 2, "estimate @model --keep 0.6 --backend opencl", "backend opencl", note);
    refused(t, 2, "prune @model --data @calibration --keep 0.6 --seq-len 64 --backend opencl --out @/run",
            "backend opencl", note);
    assert_false(there(t, "run"));
    json_decref(j);
    assert_call(t, 0, "estimate @model --keep 0.6");
    assert_says(t->out, "plan    device     cpu 0: ");
}

static void devices_by_name(void **state)
{
    cli *t = *state;
    json_t *j = call_json(t, "devices --json");
    char call[512], name[256];
    snprintf(name, sizeof name, "%s", text(json_array_get(at(j, "devices"), 0), "name"));
    *strchrnul(name, ' ') = 0; /* its first word; a call is split at spaces */
    json_decref(j);
    snprintf(call, sizeof call, "estimate @model --keep 0.6 --device %s", name);
    assert_call(t, 0, call);
    assert_says(t->out, "device     cpu 0: ");
    assert_call(t, 0, "eval @model --text @held-out --limit 1 --backend cpu --device 0");
    assert_says(t->out, "\ncpu 0: ");
    refused(t, 2, "estimate @model --keep 0.6 --device 0", "--backend says whose device 0 is meant");
    refused(t, 2, "estimate @model --keep 0.6 --backend cpu --device 0,0", "cpu 0 (", "is named twice");
    assert_call(t, 0, "estimate @model --keep 0.6 --backend cpu --device all");
    assert_says(t->out, "plan    device     cpu 0: ");
    refused(t, 2, "estimate @model --keep 0.6 --backend cpu --device 1", "device: '1' is none of the devices: cpu 0");
    refused(t, 2, "estimate @model --keep 0.6 --device abacus", "'abacus' is none of the devices: cpu 0 (");
    refused(t, 2, "estimate @model --keep 0.6 --backend abacus", "'abacus' is none of cuda, opencl, cpu, auto");
}

/* What a run took of the device's memory is what its estimate said. */
static void memory_is_as_planned(void **state)
{
    cli *t = *state;
#define SETTINGS "--data @calibration --keep 0.6 --seq-len 64 --held-out 16 --init-sequences 16 --passes 32 "
    json_t *plan = call_json(t, "estimate @model --json " SETTINGS);
    json_t *run = call_json(t, "prune @model --json --quiet --out @/run " SETTINGS);
    const int64_t bytes = whole(plan, "weight_bytes") + whole(plan, "activation_bytes") + whole(plan, "repair_bytes");
    char said[64];
    snprintf(said, sizeof said, "of buffers on the device %.2f MiB\n", (double)bytes / 0x1p20);
    assert_int_equal(whole(run, "results.peak_device_bytes"), bytes);
    assert_true(json_is_true(at(plan, "shared_memory")));
    json_decref(plan);
    json_decref(run);
    assert_call(t, 0, "prune @model --resume --out @/run " SETTINGS); /* as it was recorded */
    assert_says(t->out, said);
    assert_call(t, 0, "prune @model --out @/again " SETTINGS);
    assert_says(t->out, said);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(devices_are_listed, setup_without_drivers, cli_teardown),
        cmocka_unit_test_setup_teardown(no_driver_is_no_error, setup_without_drivers, cli_teardown),
        cmocka_unit_test_setup_teardown(devices_by_name, setup_without_drivers, cli_teardown),
        cmocka_unit_test_setup_teardown(memory_is_as_planned, setup_without_drivers, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
