/* test_cuda_program.c - what the program says of simulated devices: those that are there, those that cannot be used,
 * and drivers that have none; what it refuses; its benchmark.
 */
#include "tests/cuda/simulated.h"

static void devices_are_listed(void **state)
{
    cli *t = *state;
    setenv("POLLARD_SIM_DEVICES", "2", 1);
    setenv("POLLARD_SIM_ARCH", "90", 1);
    setenv("POLLARD_SIM_MEMORY", "1073741824", 1);
    assert_call(t, 0, "devices");
    assert_says(t->out, "cuda    0  Simulated sm_90\n");
    assert_says(t->out, "cuda    1  Simulated sm_90\n");
    assert_says(t->out, "           type      GPU, with fp16\n           memory    1.00 GiB, ");
    assert_says(t->out, "           detail    sm_90, ");
    assert_null(strstr(t->out, "not usable"));
}

/* Other backends go on, and what is asked of this one is refused in the same words. */
static void why_there_is_none(void **state)
{
    static const struct {
        const char *devices, *says;
    } machines[] = {
        {"0", "the NVIDIA driver finds no device: one must be in this machine"},
        {"-1", "the NVIDIA driver is too old: it is for CUDA 11.4, and 13.0 or later is needed"},
        {"-2", "no NVIDIA driver is installed: install one for CUDA 13.0 or later"},
    };
    cli *t = *state;
    for (size_t i = 0; i < sizeof machines / sizeof machines[0]; i++) {
        setenv("POLLARD_SIM_DEVICES", machines[i].devices, 1);
        assert_call(t, 0, "devices");
        assert_says(t->out, "cuda    -  ");
        assert_says(t->out, machines[i].says);
        assert_says(t->out, "cpu     0  ");
        refused(t, 2, "estimate @model --keep 0.5 --backend cuda", machines[i].says);
        assert_call(t, 0, "estimate @model --keep 0.5 --backend cpu");
    }
}

static void a_device_too_old(void **state)
{
    cli *t = *state;
    setenv("POLLARD_SIM_ARCH", "70", 1);
    assert_call(t, 0, "devices");
    assert_says(t->out, "           not usable: its compute capability is 7.0; 8.0 is needed\n");
    refused(t, 3, "estimate @model --keep 0.5 --backend cuda",
            "cuda 0 (Simulated sm_70) cannot be used: its compute capability is 7.0; 8.0 is needed");
    assert_call(t, 0, "estimate @model --keep 0.5");
    assert_null(strstr(t->out, "cuda")); /* it is not what `auto` means */
}

static void weights_are_bf16(void **state)
{
    cli *t = *state;
    static const char *const refused_weights[] = {"f32", "f16"};
    for (size_t i = 0; i < 2; i++) {
        char call[128], said[64];
        snprintf(call, sizeof call, "estimate @model --keep 0.5 --backend cuda --weights %s", refused_weights[i]);
        snprintf(said, sizeof said, "cuda: weights: '%s': on a GPU weights are stored as bf16 alone",
                 refused_weights[i]);
        refused(t, 3, call, said);
    }
    json_t *plan = call_json(t, "estimate @model --keep 0.5 --backend cuda --json"),
           *same = call_json(t, "estimate @model --keep 0.5 --backend cuda --weights bf16 --json"),
           *cpu = call_json(t, "estimate @model --keep 0.5 --backend cpu --json");
    assert_int_equal(whole(plan, "weight_bytes"), whole(same, "weight_bytes"));
    assert_true(num(plan, "weight_bytes") < 0.6 * num(cpu, "weight_bytes"));
    json_decref(plan);
    json_decref(same);
    json_decref(cpu);
}

/* Of a device that is no CPU `auto` makes use. */
static void auto_takes_the_gpu(void **state)
{
    cli *t = *state;
    assert_call(t, 0, "estimate @model --keep 0.5");
    assert_says(t->out, "plan    device     cuda 0: Simulated sm_80\n");
    setenv("POLLARD_SIM_DEVICES", "2", 1);
    assert_call(t, 0, "estimate @model --keep 0.5 --device all");
    assert_says(t->out, "plan    devices    cuda: 2 x Simulated sm_80\n");
}

/* Less than even visits take is refused with what they would; so is more than the device has. */
static void too_little_memory(void **state)
{
    cli *t = *state;
    refused(t, 3, "estimate @model --keep 0.5 --backend cuda --memory-limit 1000000", "models/trained: needs ",
            "; with layers that visit it one after the other it would need ");
    setenv("POLLARD_SIM_MEMORY", "12000000", 1);
    refused(t, 3, "prune " SETTINGS "--backend cuda --out @/run", "models/trained: needs ", ", which has ");
    assert_false(there(t, "run"));
}

static void a_benchmark(void **state)
{
    cli *t = *state;
    setenv("POLLARD_SIM_REPORT", path(t, "report"), 1);
    json_t *j = call_json(t, "bench @model --backend cuda --batch 1 --seq-len 8 --rounds 2 --threads 1 --json --quiet");
    assert_clean_report(t, "report");
    assert_string_equal(text(j, "device.backend"), "cuda");
    assert_string_equal(text(j, "weights"), "bf16");
    assert_true(num(j, "dense_seconds") > 0 && num(j, "masked_seconds") > 0 && num(j, "change_seconds") > 0);
    json_decref(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(devices_are_listed, simulated_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(why_there_is_none, simulated_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_device_too_old, simulated_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(weights_are_bf16, simulated_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(auto_takes_the_gpu, simulated_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(too_little_memory, simulated_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_benchmark, simulated_setup, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
