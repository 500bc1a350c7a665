/* test_opencl_runs.c - whole runs of the program on OpenCL beside the same runs on the CPU: what they leave, going on
 * with the other backend, perplexity. */
#include <math.h>

#include "tests/cli/stopping.h"
#include "tests/opencl/need_device.h"

#define SMALL                                                                                                         \
    "@model --method units --no-repair --data @calibration --seq-len 64 --held-out 16 --init-sequences 16 --batch 8 " \
    "--threads 1 "

/* ---- two runs beside each other ---- */

typedef struct probabilities {
    double s[1024];
    int n;
} probabilities;

static void add(probabilities *p, const json_t *s)
{
    assert_in_range(p->n, 0, POL_COUNT(p->s) - 1);
    p->s[p->n++] = json_number_value(s);
}

/* All that a mask.json has: those of the units that may go. */
static probabilities read_probabilities(const cli *t, const char *name)
{
    static const char *const units[] = {"heads", "channels"}, *const blocks[] = {"attention_block", "mlp_block"};
    probabilities p = {.n = 0};
    json_t *j = load_json(t, name), *layer, *s;
    size_t l, i;
    json_array_foreach(at(j, "layers"), l, layer)
    {
        for (int k = 0; k < 2; k++) {
            json_array_foreach(json_object_get(at(layer, units[k]), "probability"), i, s) add(&p, s);
            if ((s = json_object_get(at(layer, blocks[k]), "probability")))
                add(&p, s);
        }
    }
    json_decref(j);
    return p;
}

static double largest_difference(const cli *t, const char *a, const char *b)
{
    const probabilities x = read_probabilities(t, a), y = read_probabilities(t, b);
    double most = 0;
    assert_true(x.n == y.n && x.n > 0);
    for (int i = 0; i < x.n; i++)
        most = fmax(most, fabs(x.s[i] - y.s[i]));
    return most;
}

/* The masks of every step kept the same share of the parameters, so they were the same; their losses are alike. */
static void assert_same_steps(const cli *t, const char *a, const char *b, int steps)
{
    char *x = slurp(path(t, a), NULL), *y = slurp(path(t, b), NULL), *p = x, *q = y;
    assert_int_equal(lines_of(x), steps);
    assert_int_equal(lines_of(y), steps);
    for (int i = 0; i < steps; i++, p = strchr(p, '\n') + 1, q = strchr(q, '\n') + 1) {
        json_t *mine = json_loads(p, JSON_DISABLE_EOF_CHECK, NULL), *cpu = json_loads(q, JSON_DISABLE_EOF_CHECK, NULL);
        assert_near(num(mine, "kept"), num(cpu, "kept"), 0);
        assert_near(num(mine, "loss") / num(cpu, "loss"), 1.0, 1e-5);
        json_decref(mine);
        json_decref(cpu);
    }
    free(x);
    free(y);
}

static void assert_same_outcomes(const json_t *mine, const json_t *cpu)
{
    static const char *const rows[] = {"dense", "initial", "learnt"};
    for (int i = 0; i < 3; i++) {
        const json_t *a = at(at(mine, "results"), rows[i]), *b = at(at(cpu, "results"), rows[i]);
        assert_int_equal(whole(a, "params"), whole(b, "params"));
        assert_near(num(a, "held_out_nll") / num(b, "held_out_nll"), 1.0, 1e-5);
        assert_near(num(a, "perplexity.nll") / num(b, "perplexity.nll"), 1.0, 1e-5);
    }
}

/* @/ocl was made by OpenCL, @/cpu by the CPU, with the same settings. */
static void assert_alike(const cli *t, int steps)
{
    json_t *mine = load_json(t, "ocl/run.json"), *cpu = load_json(t, "cpu/run.json");
    assert_string_equal(text(mine, "device.backend"), "opencl");
    assert_string_equal(text(cpu, "device.backend"), "cpu");
    assert_same_steps(t, "ocl/log.jsonl", "cpu/log.jsonl", steps);
    assert_same_outcomes(mine, cpu);
    assert_near(largest_difference(t, "ocl/initial-mask.json", "cpu/initial-mask.json"), 0, 1e-5);
    assert_near(largest_difference(t, "ocl/mask.json", "cpu/mask.json"), 0, 1e-3);
    /* And something was learnt that could have differed. */
    assert_true(largest_difference(t, "ocl/mask.json", "ocl/initial-mask.json") > 0.01);
    json_decref(mine);
    json_decref(cpu);
}

enum { STEPS = 20 };

static void check_run(cli *t, const char *options)
{
    static const char *const backends[] = {"cpu", "opencl"}, *const runs[] = {"cpu", "ocl"};
    for (int i = 0; i < 2; i++) {
        char call[512];
        snprintf(call, sizeof call,
                 "prune " SMALL "--steps 20 --eval @held-out --eval-limit 8 --select last %s --backend %s --out @/%s "
                 "--quiet",
                 options, backends[i], runs[i]);
        assert_call(t, 0, call);
    }
    assert_alike(t, STEPS);
    assert_ok(t->ctx, pol_remove_tree(t->ctx, path(t, "cpu")));
    assert_ok(t->ctx, pol_remove_tree(t->ctx, path(t, "ocl")));
}

/* Learning rates of some runs are below the sized one: a draw that a last digit decides moves a probability by more
 * than the tolerance at that rate, and with hundreds of units there may be one. */
static void method_units_ends_where_it_does_on_the_cpu(void **state)
{
    need_device(*state);
    check_run(*state, "--keep 0.6 --mask-samples 8 --lr 0.05");
}

static void method_reference_ends_where_it_does_on_the_cpu(void **state)
{
    need_device(*state);
    check_run(*state, "--keep 0.6 --method reference --init-seq-len 64 --lr 0.01");
}

static void blocks_end_where_they_do_on_the_cpu(void **state)
{
    need_device(*state);
    check_run(*state, "--keep 0.75 --granularity blocks --mask-samples 8");
}

static void all_kinds_end_where_they_do_on_the_cpu(void **state)
{
    need_device(*state);
    check_run(*state, "--keep 0.7 --budget joint --granularity heads,channels,blocks --mask-samples 4 --lr 0.05 "
                      "--init magnitude --batch 3");
}

/* The default: counts learnt in the repaired model, by ranks, which a last digit can turn; and the repair. What another
 * count of a step is worth is little beside what the whole comes to. */
static void an_allocation_comes_to_what_it_does_on_the_cpu(void **state)
{
    cli *t = *state;
    need_device(t);
#define DEFAULT                                                                                                        \
    "prune @model --data @calibration --keep 0.6 --seq-len 32 --held-out 16 --passes 96 --repair-sequences 64 --eval " \
    "@held-out --eval-limit 8 --threads 1 --quiet "
    assert_call(t, 0, DEFAULT "--backend cpu --out @/cpu");
    assert_call(t, 0, DEFAULT "--backend opencl --out @/ocl");
    json_t *mine = load_json(t, "ocl/run.json"), *cpu = load_json(t, "cpu/run.json");
    static const struct {
        const char *value;
        double tolerance;
    } same[] = {{"results.dense.held_out_nll", 1e-5},
                {"results.initial.held_out_nll", 1e-4}, /* the nested order: two units that are worth the same */
                {"results.stages.allocation.before", 1e-4},
                {"results.stages.allocation.after", 5e-3},
                {"results.repaired.held_out_nll", 5e-3}};
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++)
        assert_near(num(mine, same[i].value) / num(cpu, same[i].value), 1, same[i].tolerance);
    assert_int_equal(whole(mine, "results.repaired.block_params"), whole(cpu, "results.repaired.block_params"));
    assert_true(num(mine, "results.repaired.held_out_nll") < num(mine, "results.learnt.held_out_nll"));
    json_decref(mine);
    json_decref(cpu);
}

/* ---- going on with the other backend ---- */

#define GOES_ON \
    "prune " SMALL "--steps 20 --mask-samples 4 --lr 0.05 --keep 0.6 --eval @held-out --eval-limit 8 --select last "

static void stop_and_go_on(cli *t, const char *first, const char *second, const char *run)
{
    char call[512];
    snprintf(call, sizeof call, GOES_ON "--quiet --backend %s --out @/%s", first, run);
    assert_int_equal(signalled(t, held_after(t, call, run, 5), SIGINT), 130);
    snprintf(call, sizeof call, GOES_ON "--backend %s --out @/%s --resume", second, run);
    assert_call(t, 0, call);
    char said[64], name[64];
    snprintf(said, sizeof said, "warning: the run goes on with %s (", second);
    assert_says(t->err, said);
    snprintf(said, sizeof said, "so far it was with %s (", first);
    assert_says(t->err, said);
    snprintf(name, sizeof name, "%s/run.json", run);
    json_t *j = load_json(t, name);
    assert_string_equal(text(j, "device.backend"), second);
    assert_int_equal(json_array_size(at(j, "earlier_devices")), 1);
    assert_string_equal(text(json_array_get(at(j, "earlier_devices"), 0), "backend"), first);
    json_decref(j);
}

static void a_run_goes_on_with_the_other_backend(void **state)
{
    cli *t = *state;
    need_device(t);
    assert_call(t, 0, GOES_ON "--quiet --backend cpu --out @/whole");
    static const struct {
        const char *first, *second, *run;
    } ways[] = {{"opencl", "cpu", "there"}, {"cpu", "opencl", "back"}};
    for (int i = 0; i < 2; i++) {
        char log[64], mask[64];
        stop_and_go_on(t, ways[i].first, ways[i].second, ways[i].run);
        snprintf(log, sizeof log, "%s/log.jsonl", ways[i].run);
        snprintf(mask, sizeof mask, "%s/mask.json", ways[i].run);
        assert_same_steps(t, log, "whole/log.jsonl", STEPS);
        assert_near(largest_difference(t, mask, "whole/mask.json"), 0, 1e-3);
    }
    /* Done is done: nothing goes on, and nothing is said to. */
    assert_call(t, 0, GOES_ON "--backend opencl --out @/there --resume");
    assert_null(strstr(t->err, "goes on"));
}

/* The order of the rows is in the checkpoint: stopped and gone on with, the same backend repeats every bit. */
static void a_stopped_run_repeats_every_bit(void **state)
{
    cli *t = *state;
    need_device(t);
    assert_call(t, 0, GOES_ON "--quiet --backend opencl --out @/whole");
    const char *call = GOES_ON "--quiet --backend opencl --checkpoint-every 3 --out @/run";
    assert_int_equal(signalled(t, held_after(t, call, "run", 4), SIGKILL), 1000 + SIGKILL);
    assert_call(t, 0, GOES_ON "--backend opencl --out @/run --resume");
    assert_null(strstr(t->err, "goes on with"));
    assert_same_file(t, "whole/mask.json", "run/mask.json");
    assert_same_file(t, "whole/initial-mask.json", "run/initial-mask.json");
}

/* ---- perplexity ---- */

static void eval_gives_the_perplexity_of_the_cpu(void **state)
{
    cli *t = *state;
    need_device(t);
    assert_call(t, 0, "prune " SMALL "--keep 0.6 --passes 0 --backend cpu --out @/run --quiet");
    static const char *const models[] = {"@model", "@/run"};
    for (int i = 0; i < 2; i++) {
        char call[256];
        snprintf(call, sizeof call, "eval %s --text @held-out --json --backend opencl --device 0", models[i]);
        json_t *mine = call_json(t, call);
        snprintf(call, sizeof call, "eval %s --text @held-out --json --backend cpu --threads 1", models[i]);
        json_t *cpu = call_json(t, call);
        assert_string_equal(text(mine, "device.backend"), "opencl");
        assert_int_equal(whole(mine, "tokens"), whole(cpu, "tokens"));
        assert_near(num(mine, "nll") / num(cpu, "nll"), 1.0, 1e-5);
        json_decref(mine);
        json_decref(cpu);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(method_units_ends_where_it_does_on_the_cpu, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(method_reference_ends_where_it_does_on_the_cpu, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(blocks_end_where_they_do_on_the_cpu, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(all_kinds_end_where_they_do_on_the_cpu, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(an_allocation_comes_to_what_it_does_on_the_cpu, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_run_goes_on_with_the_other_backend, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_stopped_run_repeats_every_bit, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(eval_gives_the_perplexity_of_the_cpu, cli_setup, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
