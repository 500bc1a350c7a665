/* test_cuda_runs.c - whole runs of the program on simulated devices: beside the CPU's, gone on with by it and back, on
 * several devices, with layers that visit.
 */
#include <math.h>

#include "tests/cuda/simulated.h"

#define EVAL "--eval @held-out --eval-limit 1 "

/* ---- beside the CPU ---- */

/* What activations and weights of 16 bits are worth of a mean loss (test_cuda_forward), here over fewer tokens. */
static const double LIKE = 5e-3;

static void assert_alike(const json_t *a, const json_t *b, const char *what)
{
    assert_near(num(a, what) / num(b, what), 1.0, LIKE);
}

/* Losses under the same masks: those of the first step at least. */
static void assert_like_steps(const cli *t, const char *a, const char *b)
{
    int same = 0;
    for (int i = 0; i < STEPS; i++) {
        if (logged(t, a, i, "kept") != logged(t, b, i, "kept"))
            continue;
        assert_near(logged(t, a, i, "loss") / logged(t, b, i, "loss"), 1.0, LIKE);
        same++;
    }
    assert_true(logged(t, a, 0, "kept") == logged(t, b, 0, "kept"));
    assert_true(same >= STEPS / 2);
}

/* Of the dense model. Which units the first mask keeps hangs on a metric's last digits, one or two of them at least. */
static void assert_like_results(const cli *t, const char *a, const char *b)
{
    char name_a[64], name_b[64];
    snprintf(name_a, sizeof name_a, "%s/run.json", a);
    snprintf(name_b, sizeof name_b, "%s/run.json", b);
    json_t *x = load_json(t, name_a), *y = load_json(t, name_b);
    assert_int_equal(whole(x, "results.dense.params"), whole(y, "results.dense.params"));
    assert_alike(x, y, "results.dense.held_out_nll");
    assert_alike(x, y, "results.dense.perplexity.nll");
    assert_near(num(x, "results.initial.params") / num(y, "results.initial.params"), 1, 0.01);
    json_decref(x);
    json_decref(y);
}

/* The run's result is evaluated, exported, and what was exported is evaluated by the CPU. */
static void assert_of_use(cli *t, const char *run)
{
    char call[256];
    snprintf(call, sizeof call, "eval @/%s --text @held-out --limit 1 --seq-len 40 --json --backend cuda", run);
    json_t *masked = call_json(t, call);
    assert_string_equal(text(masked, "device.backend"), "cuda");
    snprintf(call, sizeof call, "export @/%s --format hf --out @/small --quiet", run);
    assert_call(t, 0, call);
    json_t *small =
        call_json(t, "eval @/small --text @held-out --limit 1 --seq-len 40 --json --backend cpu --threads 1");
    assert_int_equal(whole(masked, "tokens"), whole(small, "tokens"));
    assert_alike(masked, small, "nll");
    json_decref(masked);
    json_decref(small);
}

static void a_run_beside_the_cpus(void **state)
{
    cli *t = *state;
    assert_call(t, 0, "prune " SETTINGS EVAL "--backend cpu --out @/cpu --quiet");
    assert_call_under(t, "POLLARD_SIM_REPORT", path(t, "report"), 0,
                      "prune " SETTINGS EVAL "--backend cuda --out @/run");
    assert_says(t->out, "plan    device     cuda 0: Simulated sm_80\n");
    assert_says(t->out, "        weights    in bf16");
    assert_clean_report(t, "report");
    assert_like_steps(t, "run", "cpu");
    assert_like_results(t, "run", "cpu");
    json_t *run = load_json(t, "run/run.json");
    assert_string_equal(text(run, "device.backend"), "cuda");
    assert_string_equal(text(run, "device.weights"), "bf16");
    assert_true(json_is_false(at(run, "device.streamed")));
    json_decref(run);
    assert_of_use(t, "run");
}

/* Moments, order, rows and the solutions of the repair are the device's too. Fewer than 4 tokens a column are
 * refused. */
static void a_default_run_beside_the_cpus(void **state)
{
#define DEFAULTS                                                                                                         \
    "prune @model --data @calibration --keep 0.7 --seq-len 8 --passes 16 --repair-sequences 56 --held-out 2 --levels 2 " \
    "--batch 2 --obs-block 8 --threads 1 "
    cli *t = *state;
    assert_call(t, 0, DEFAULTS "--backend cpu --out @/cpu --quiet");
    assert_call_under(t, "POLLARD_SIM_REPORT", path(t, "report"), 0, DEFAULTS "--backend cuda --out @/run --quiet");
    assert_clean_report(t, "report");
    json_t *x = load_json(t, "run/run.json"), *y = load_json(t, "cpu/run.json");
    assert_alike(x, y, "results.dense.held_out_nll");
    assert_alike(x, y, "results.learnt.held_out_nll");
    assert_near(logged(t, "run", 0, "loss") / logged(t, "cpu", 0, "loss"), 1, LIKE);
    json_decref(x);
    json_decref(y);
}

/* ---- going on ---- */

static void stop_and_go_on(cli *t, const char *first, const char *second, const char *run)
{
    char call[512], said[96], name[64];
    snprintf(call, sizeof call, "prune " SETTINGS "--backend %s --out @/%s --quiet", first, run);
    assert_int_equal(signalled(t, held_after(t, call, run, 2), SIGINT), 130);
    snprintf(call, sizeof call, "prune " SETTINGS "--backend %s --out @/%s --resume", second, run);
    if (!strcmp(first, second)) {
        assert_call(t, 0, call);
        assert_null(strstr(t->err, "goes on with"));
        return;
    }
    /* Of weights that the other cannot have it wants to be told. */
    assert_call(t, 3, call);
    assert_says(t->err, "weights: ");
    strcat(call, strcmp(second, "cpu") ? " --weights bf16" : " --weights f32");
    assert_call(t, 0, call);
    snprintf(said, sizeof said, "warning: the run goes on with %s (", second);
    assert_says(t->err, said);
    snprintf(said, sizeof said, "so far it was with %s (", first);
    assert_says(t->err, said);
    snprintf(name, sizeof name, "%s/run.json", run);
    json_t *j = load_json(t, name);
    assert_string_equal(text(j, "device.backend"), second);
    assert_string_equal(text(json_array_get(at(j, "earlier_devices"), 0), "backend"), first);
    json_decref(j);
}

/* On the same device as if it had not been stopped; on the other in the same way, but for the noise of the losses. */
static void a_run_goes_on_here_and_there(void **state)
{
    cli *t = *state;
    assert_call(t, 0, "prune " SETTINGS "--backend cuda --out @/whole --quiet");
    stop_and_go_on(t, "cuda", "cuda", "same");
    assert_same_numbers(t, "whole", "same");
    stop_and_go_on(t, "cuda", "cpu", "there");
    stop_and_go_on(t, "cpu", "cuda", "back");
    assert_like_steps(t, "there", "whole");
    assert_like_steps(t, "back", "whole");
}

/* ---- several devices, and less memory ---- */

/* And in whatever order they do what they may. */
static void equal_bits_however_many_devices(void **state)
{
    static const struct {
        const char *devices, *seed, *run;
    } runs[] = {{"1", "1", "one"}, {"2", "3", "two"}, {"3", "5", "three"}};
    cli *t = *state;
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        char call[512];
        snprintf(call, sizeof call, "prune " SETTINGS "--backend cuda --device all --out @/%s --quiet", runs[i].run);
        setenv("POLLARD_SIM_DEVICES", runs[i].devices, 1);
        setenv("POLLARD_SIM_REPORT", path(t, "report"), 1);
        assert_call_under(t, "POLLARD_SIM_SEED", runs[i].seed, 0, call);
        assert_clean_report(t, "report");
        assert_same_numbers(t, "one", runs[i].run);
    }
    json_t *run = load_json(t, "three/run.json");
    assert_int_equal(whole(run, "device.count"), 3);
    json_decref(run);
}

/* But for what was on the device at most, which is what was planned. */
static void assert_same_but_for_memory(cli *t, const char *a, const char *b, int64_t bytes)
{
    char name_a[64], name_b[64];
    snprintf(name_a, sizeof name_a, "%s/run.json", a);
    snprintf(name_b, sizeof name_b, "%s/run.json", b);
    json_t *other = load_json(t, name_a), *run = load_json(t, name_b);
    assert_true(json_is_true(at(run, "device.streamed")));
    assert_int_equal(whole(run, "results.peak_device_bytes"), bytes);
    json_object_set(at(run, "results"), "peak_device_bytes", at(other, "results.peak_device_bytes"));
    char *record = json_dumps(run, JSON_INDENT(1));
    spill_text(t, name_b, record);
    free(record);
    json_decref(run);
    json_decref(other);
    assert_same_numbers(t, a, b);
}

/* A byte less than the whole model takes: its layers visit, and every number stays as it is. */
static void equal_bits_where_layers_visit(void **state)
{
    cli *t = *state;
    char call[512];
    json_t *roomy = call_json(t, "estimate " SETTINGS "--backend cuda --json");
    assert_true(json_is_false(at(roomy, "placement.streamed")));
    const int64_t limit = whole(roomy, "weight_bytes") + whole(roomy, "activation_bytes") - 1;
    snprintf(call, sizeof call, "estimate " SETTINGS "--backend cuda --memory-limit %lld --json", (long long)limit);
    json_t *plan = call_json(t, call);
    assert_true(json_is_true(at(plan, "placement.streamed")));
    const int64_t bytes = whole(plan, "weight_bytes") + whole(plan, "activation_bytes");
    assert_true(bytes <= limit);
    assert_call(t, 0, "prune " SETTINGS "--backend cuda --out @/resident --quiet");
    snprintf(call, sizeof call, "prune " SETTINGS "--backend cuda --memory-limit %lld --out @/streamed",
             (long long)limit);
    assert_call_under(t, "POLLARD_SIM_REPORT", path(t, "report"), 0, call);
    assert_says(t->out, "        streamed   4 layers of at most ");
    assert_clean_report(t, "report");
    assert_same_but_for_memory(t, "resident", "streamed", bytes);
    json_decref(roomy);
    json_decref(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_run_beside_the_cpus, simulated_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_default_run_beside_the_cpus, simulated_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_run_goes_on_here_and_there, simulated_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(equal_bits_however_many_devices, simulated_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(equal_bits_where_layers_visit, simulated_setup, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
