/* test_opencl_weights.c - --weights of the program: what it says, what it records, what a resumed run does with it. */
#include "tests/cli/program.h"
#include "tests/opencl/need_device.h"

#define EVAL "eval @model --text @held-out --seq-len 64 --limit 4 --json --backend opencl --weights "
#define PRUNE                                                                                                       \
    "prune @model --data @calibration --keep 0.6 --seq-len 64 --passes 32 --held-out 16 --init-sequences 16 --out " \
    "@/run --backend "

static double nll_with(cli *t, const char *weights)
{
    char call[256];
    snprintf(call, sizeof call, EVAL "%s", weights);
    json_t *j = call_json(t, call);
    assert_string_equal(text(j, "weights"), strcmp(weights, "auto") ? weights : "f32");
    const double nll = num(j, "nll");
    json_decref(j);
    return nll;
}

/* The file of @model is bf16: in bf16 all of it is there, and sums are the same. */
static void what_the_file_has_is_kept(void **state)
{
    cli *t = *state;
    need_device(t);
    const double nll = nll_with(t, "f32");
    assert_near(nll_with(t, "auto"), nll, 0);
    assert_near(nll_with(t, "bf16"), nll, 0);
    assert_near(nll_with(t, "f16") / nll, 1.0, 1e-5);
}

static void the_plan_says_that_weights_are_rounded(void **state)
{
    cli *t = *state;
    need_device(t);
    assert_call(t, 0, "estimate @model --keep 0.6 --backend opencl --weights f16");
    assert_says(t->out, "weights    in f16: rounded to it, where the model has more digits; sums are f32\n");
    json_t *half = call_json(t, "estimate @model --keep 0.6 --backend opencl --weights f16 --json"),
           *full = call_json(t, "estimate @model --keep 0.6 --backend opencl --json");
    assert_string_equal(text(half, "weights"), "f16");
    assert_string_equal(text(full, "weights"), "f32");
    assert_true(whole(half, "weight_bytes") < 0.6 * (double)whole(full, "weight_bytes"));
    json_decref(half);
    json_decref(full);
    assert_call(t, 0, "estimate @model --keep 0.6 --backend opencl");
    assert_says(t->out, "weights    in f32\n");
    assert_call(t, 0, "eval @model --text @held-out --seq-len 64 --limit 4 --backend opencl --weights bf16");
    assert_says(t->out, ", weights in bf16\n");
}

static void assert_record(const cli *t, const char *weights, int earlier)
{
    json_t *j = load_json(t, "run/run.json");
    assert_string_equal(text(j, "device.weights"), weights);
    assert_int_equal(json_array_size(json_object_get(j, "earlier_devices")), earlier);
    json_decref(j);
}

/* Goes on as it was, unless another type is named; that is said, and both are on record. */
static void a_resumed_run_keeps_its_weights(void **state)
{
    cli *t = *state;
    need_device(t);
    assert_call(t, 0, PRUNE "opencl --weights bf16");
    assert_record(t, "bf16", 0);
    assert_int_equal(remove(path(t, "run/mask.json")), 0); /* so it is unfinished */
    assert_call(t, 0, PRUNE "opencl --resume");
    assert_says(t->out, "weights    in bf16");
    assert_record(t, "bf16", 0);
    assert_int_equal(remove(path(t, "run/mask.json")), 0);
    refused(t, 3, PRUNE "cpu --resume", "the cpu backend has them in f32 alone (--weights f32), not in bf16");
    assert_call(t, 0, PRUNE "opencl --resume --weights f32");
    assert_says(t->err, "goes on with opencl");
    assert_says(t->err, "weights in f32");
    assert_record(t, "f32", 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_the_file_has_is_kept, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(the_plan_says_that_weights_are_rounded, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_resumed_run_keeps_its_weights, cli_setup, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
