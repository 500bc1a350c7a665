/* test_cli_bench.c - `pollard bench` on the CPU: what it measures adds up, and what it refuses. */
#include "program.h"

static void a_benchmark_adds_up(void **state)
{
    cli *t = *state;
    json_t *j = call_json(t, "bench @model --backend cpu --batch 2 --seq-len 32 --rounds 3 --threads 1 --json --quiet");
    assert_string_equal(t->err, "");
    assert_says(text(j, "model"), "models/trained");
    assert_string_equal(text(j, "device.backend"), "cpu");
    assert_string_equal(text(j, "weights"), "f32");
    assert_near(num(j, "keep"), 0.5, 0);
    assert_int_equal(whole(j, "batch"), 2);
    assert_int_equal(whole(j, "seq_len"), 32);
    assert_int_equal(whole(j, "rounds"), 3);
    assert_true(num(j, "kept") > 0.4 && num(j, "kept") < 0.6);
    static const char *const times[] = {"dense_seconds", "masked_seconds", "change_seconds", "first_seconds"};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++)
        assert_true(num(j, times[i]) > 0 && num(j, times[i]) < 60);
    assert_near(num(j, "dense_tokens_per_second") * num(j, "dense_seconds"), 64, 1e-9);
    assert_near(num(j, "masked_tokens_per_second") * num(j, "masked_seconds"), 64, 1e-9);
    assert_true(num(j, "masked_over_dense") > 0 && num(j, "change_over_masked") > 0);
    json_decref(j);
}

/* Of one round the medians are its times, and their ratios. */
static void of_one_round_ratios_are_of_its_times(void **state)
{
    json_t *j = call_json(*state, "bench @model --backend cpu --batch 1 --seq-len 32 --rounds 1 --threads 1 --json");
    assert_near(num(j, "masked_over_dense"), num(j, "masked_seconds") / num(j, "dense_seconds"), 1e-9);
    assert_near(num(j, "change_over_masked"), num(j, "change_seconds") / num(j, "masked_seconds"), 1e-9);
    json_decref(j);
}

static void keep_is_the_share_that_masks_leave(void **state)
{
    static const char *const calls[] = {"bench @model --backend cpu --keep 1 --rounds 1 --threads 1 --json",
                                        "bench @model --backend cpu --keep 0.25 --rounds 1 --threads 1 --json"};
    static const double most[] = {1, 0.3}, least[] = {1, 0.2};
    for (int i = 0; i < 2; i++) {
        json_t *j = call_json(*state, calls[i]);
        assert_true(num(j, "kept") >= least[i] && num(j, "kept") <= most[i]);
        json_decref(j);
    }
}

static void it_is_printed_for_people(void **state)
{
    cli *t = *state;
    assert_call(t, 0, "bench @model --backend cpu --rounds 1 --batch 1 --seq-len 16 --threads 1");
    static const char *const parts[] = {"cpu 0: ", "dense pass", "masked pass", "change of mask", "tokens/s"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        assert_says(t->out, parts[i]);
    assert_call(t, 0, "bench @model --backend cpu --rounds 1 --batch 1 --seq-len 16 --threads 1 --quiet");
    assert_string_equal(t->out, "");
    assert_call(t, 0, "help bench");
    assert_says(t->out, "--tune-opencl");
}

static void what_makes_no_sense_is_refused(void **state)
{
    cli *t = *state;
    refused(t, 2, "bench", "which model");
    refused(t, 2, "bench @model @model", "too many");
    refused(t, 2, "bench @model --keep 0", "--keep", "0");
    refused(t, 2, "bench @model --keep 1.5", "--keep", "1.5");
    refused(t, 2, "bench @model --rounds 0", "--rounds");
    refused(t, 2, "bench @model --rounds 1001", "--rounds");
    refused(t, 2, "bench @model --seq-len 1", "--seq-len");
    refused(t, 2, "bench @model --batch many", "--batch");
    refused(t, 2, "bench @model --tune-minutes 0", "--tune-minutes");
    refused(t, 2, "bench @model --tune-opencl --backend cpu", "--tune-opencl", "opencl alone");
    refused(t, 2, "bench @model --quiet --backend abacus", "abacus");
    refused(t, 3, "bench @/nowhere --quiet", "nowhere");
    refused(t, 3, "bench @model --quiet --backend cpu --memory-limit 1K", "needs", "available");
}

/* Without a device there is nothing to tune; a build without the backend says that instead. */
static void without_a_device_nothing_is_tuned(void **state)
{
    cli *t = *state;
    assert_int_equal(setenv("OCL_ICD_VENDORS", "/nonexistent", 1) || setenv("OCL_ICD_FILENAMES", "", 1), 0);
    refused(t, 2, "bench @model --quiet --tune-opencl", "backend opencl: ");
    unsetenv("OCL_ICD_VENDORS");
    unsetenv("OCL_ICD_FILENAMES");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_benchmark_adds_up, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(of_one_round_ratios_are_of_its_times, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(keep_is_the_share_that_masks_leave, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(it_is_printed_for_people, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(what_makes_no_sense_is_refused, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(without_a_device_nothing_is_tuned, cli_setup, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
