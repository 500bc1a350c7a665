/* test_cli_lost_loss.c - a loss that is not a finite number ends a run. */
#include "core/base/endian.h"
#include "overflow_model.h"

static void a_lost_loss_stops_the_run(void **state)
{
    cli *t = *state;
    overflow_model(t, "bad", true);
    const char *call =
        "prune @/bad --method units --no-repair --data @calibration --seq-len 32 --held-out 8 --init uniform --granularity channels "
        "--keep 0.75 --mask-samples 2 --no-normalise --lr 1e-4 --passes 320 --out @/run --quiet "
        "--checkpoint-every 1";
    refused(t, 1, call, "step ", "mask ", "sequence ", "loss is ");
    int step, mask;
    assert_int_equal(sscanf(t->err, "pollard prune: step %d, mask %d, sequence", &step, &mask), 2);
    assert_true(step > 0);
    char *checkpoint = slurp(path(t, "run/checkpoint.bin"), NULL);
    assert_int_equal(pol_get_u64le((const uint8_t *)checkpoint + 80), step);
    free(checkpoint);
    json_t *run = load_json(t, "run/run.json");
    assert_string_equal(text(run, "status"), "failed");
    json_decref(run);
    assert_false(there(t, "run/mask.json"));
    /* The checkpoint is whole: going on meets the same loss again. */
    char *before = strdup(t->err), again[512];
    snprintf(again, sizeof again, "%s --resume", call);
    assert_call(t, 1, again);
    assert_string_equal(t->err, before);
    free(before);
    refused(t, 3, "eval @/run --text @held-out", "run", "unfinished");
}

/* A model that is not sound at all is refused as a failure, with nothing left. */
static void a_model_without_a_loss_is_no_beginning(void **state)
{
    cli *t = *state;
    overflow_model(t, "bad", false);
    refused(
        t, 1,
        "prune @/bad --method units --no-repair --data @calibration --seq-len 32 --held-out 8 --keep 0.75 --passes 32 --out @/run --quiet "
        "--init uniform",
        "bad", "dense", "held-out", "nan");
    assert_false(there(t, "run"));
    assert_call(t, 1, "eval @/bad --text @held-out --json");
    json_t *j = json_loads(t->out, JSON_REJECT_DUPLICATES, NULL);
    assert_true(json_is_null(at(j, "perplexity")) && json_is_null(at(j, "nll")));
    assert_int_equal(whole(j, "bad_chunks"), whole(j, "chunks"));
    json_decref(j);
    assert_says(t->err, "a loss that is not finite");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_lost_loss_stops_the_run, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_model_without_a_loss_is_no_beginning, cli_setup, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
