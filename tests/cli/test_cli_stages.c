/* test_cli_stages.c - each stage where there is something for it to gain, and where there is not: models that were
 * spoilt in one place, so that what is best is known. */
#include <math.h>

#include "core/base/endian.h"
#include "core/base/rng.h"
#include "masks.h"

/* The trained model as @/NAME with one tensor's values multiplied by `scale` and `noise` added to them. */
static void spoilt_model(cli *t, const char *name, const char *tensor, float scale, float noise)
{
    char file[64];
    size_t size;
    copy_model(t, name);
    snprintf(file, sizeof file, "%s/model.safetensors", name);
    char *all = slurp(path(t, file), &size);
    const size_t header = (size_t)pol_get_u64le((const uint8_t *)all);
    json_t *j = json_loadb(all + 8, header, 0, NULL);
    const json_t *range = json_object_get(json_object_get(j, tensor), "data_offsets");
    assert_non_null(range);
    const int64_t begin = json_integer_value(json_array_get(range, 0)),
                  n = (json_integer_value(json_array_get(range, 1)) - begin) / 2;
    float *normal = malloc((size_t)n * sizeof *normal);
    pol_normal(7, POL_STREAM_INIT, 0, 0, n, normal);
    for (int64_t i = 0; i < n; i++) { /* bf16 */
        uint8_t *at = (uint8_t *)all + 8 + header + begin + 2 * i;
        uint32_t bits = (uint32_t)at[0] << 16 | (uint32_t)at[1] << 24;
        float x;
        memcpy(&x, &bits, sizeof x);
        x = scale * x + noise * normal[i];
        memcpy(&bits, &x, sizeof x);
        at[0] = (uint8_t)(bits >> 16);
        at[1] = (uint8_t)(bits >> 24);
    }
    spill(t, file, all, size);
    free(normal);
    json_decref(j);
    free(all);
}

#define SMALL                                                                                                           \
    " --data @calibration --seq-len 32 --held-out 32 --init-sequences 32 --repair-sequences 64 --no-pilot --threads 1 " \
    "--eval-every 5 --out @/run "

typedef struct stage {
    int64_t chosen;
    double before, after;
} stage;

static stage result_of(const cli *t, const char *name)
{
    json_t *run = load_json(t, "run/run.json");
    const json_t *j = at(at(run, "results.stages"), name);
    const stage s = {whole(j, "chosen_step"), num(j, "before"), num(j, "after")};
    assert_int_equal(whole(run, "results.chosen_step"), s.chosen); /* the only one */
    json_decref(run);
    return s;
}

static void assert_gained(cli *t, const char *name)
{
    char line[64];
    const stage s = result_of(t, name);
    if (!(s.chosen > 0 && s.after < s.before))
        fail_msg("stage %s: %g to %g", name, s.before, s.after);
    snprintf(line, sizeof line, "stage %s: %.4f to %.4f on what is held out, at its step %d", name, s.before, s.after,
             (int)s.chosen);
    assert_says(t->err, line);
    assert_null(strstr(t->out, "dropped"));
}

/* And the mask is the one that it began with. */
static void assert_dropped(cli *t, const char *name)
{
    char line[64];
    const stage s = result_of(t, name);
    assert_int_equal(s.chosen, 0);
    assert_near(s.after, s.before, 0);
    snprintf(line, sizeof line, "stage %s: gained nothing over %.4f, and is dropped", name, s.before);
    assert_says(t->err, line);
    assert_says(t->out, ": gained nothing, dropped");
    assert_same_file(t, "run/initial-mask.json", "run/mask.json");
}

/* A run again, elsewhere in the test. */
static void again(const cli *t) { assert_ok(t->ctx, pol_remove_tree(t->ctx, path(t, "run"))); }

/* ---- allocation ---- */

/* Channels of an MLP that adds nothing are the ones to give up. */
static void an_allocation_leaves_what_is_dead(void **state)
{
    cli *t = *state;
    int64_t kept[LAYERS];
    spoilt_model(t, "dead", "model.layers.2.mlp.down_proj.weight", 0, 0);
    assert_call(t, 0,
                "prune @/dead" SMALL "--granularity channels --keep 0.5 --passes 960 --stages allocation --spread 0.3");
    assert_gained(t, "allocation");
    kept_by_layer(t, "run/mask.json", "channels", kept);
    for (int l = 0; l < LAYERS; l++)
        if (!(l == 2 ? kept[l] < 24 : kept[l] >= 48)) /* they began with 48 each */
            fail_msg("layer %d keeps %lld channels", l, (long long)kept[l]);
    again(t);
    /* Where nothing moves nothing is gained. */
    assert_call(t, 0,
                "prune @/dead" SMALL "--granularity channels --keep 0.5 --passes 160 --stages allocation "
                "--allocation-lr 1e-6");
    assert_dropped(t, "allocation");
    again(t);
    /* Where all goes wrong what it began with comes back. */
    assert_call(t, 0,
                "prune @model" SMALL "--granularity channels --keep 0.5 --passes 320 --stages allocation "
                "--allocation-lr 900 --spread 1");
    assert_dropped(t, "allocation");
}

/* ---- blocks ---- */

/* An attention block that adds noise goes whole; the budget is for the others. */
static void a_block_of_noise_goes(void **state)
{
    cli *t = *state;
    int64_t kept[LAYERS];
    spoilt_model(t, "noisy", "model.layers.1.self_attn.o_proj.weight", 0, 0.4f);
#define BLOCKS "--granularity heads --keep 0.75 --passes 1600 --stages blocks "
    assert_call(t, 0, "prune @/noisy" SMALL BLOCKS);
    assert_gained(t, "blocks");
    kept_by_layer(t, "run/initial-mask.json", "heads", kept);
    for (int l = 0; l < LAYERS; l++)
        assert_int_equal(kept[l], 3);
    kept_by_layer(t, "run/mask.json", "heads", kept);
    for (int l = 0; l < LAYERS; l++)
        assert_int_equal(kept[l], l == 1 ? 0 : 4);
    again(t);
    /* In the model as it was every block is worth something; by such a rate some go all the same, and come back. */
    assert_call(t, 0, "prune @model" SMALL BLOCKS "--lr 30");
    assert_dropped(t, "blocks");
}

/* ---- units ---- */

static void units_mend_a_bad_order(void **state)
{
    cli *t = *state;
#define UNITS "--granularity heads --keep 0.5 --init random --stages units --passes 960 "
    assert_call(t, 0, "prune @model" SMALL UNITS);
    assert_gained(t, "units");
    assert_budget(t, "run", HEADS / 2, CHANNELS);
    again(t);
    assert_call(t, 0, "prune @model" SMALL UNITS "--lr 1e-9");
    assert_dropped(t, "units");
}

/* The last and the best: what the record says of the stage is of what it was left with. */
static void the_last_is_taken_where_it_is_asked_for(void **state)
{
    cli *t = *state;
    assert_call(
        t, 0, "prune @model" SMALL "--granularity heads --keep 0.5 --stages units --passes 960 --lr 30 --select last");
    const stage s = result_of(t, "units");
    char *log = slurp(path(t, "run/log.jsonl"), NULL), *line = log;
    for (int i = 1; i < lines_of(log); i++)
        line = strchr(line, '\n') + 1;
    assert_true(s.after > s.before); /* by such a rate it got worse */
    json_t *last = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);
    assert_int_equal(s.chosen, whole(last, "step") + 1);
    assert_near(s.after, num(last, "held_out_nll"), 1e-8);
    json_decref(last);
    free(log);
}

/* The model is learnt in with rows for its larger neighbour; what is measured, and left, is the mask alone, then what
 * was repaired. */
static void what_is_left_is_what_was_measured(void **state)
{
    cli *t = *state;
    assert_call(t, 0, "prune @model" SMALL UNITS "--eval @held-out");
    json_t *run = load_json(t, "run/run.json"), *bare = call_json(t, "eval --bare @/run --text @held-out --json"),
           *repaired = call_json(t, "eval @/run --text @held-out --json");
    assert_near(num(bare, "nll"), num(run, "results.learnt.perplexity.nll"), 1e-6);
    assert_near(num(repaired, "nll"), num(run, "results.repaired.perplexity.nll"), 1e-6);
    /* Learning began near the allocation as it was repaired: with rows for a head or two more. */
    const double initial = num(run, "results.initial.held_out_nll"), before = num(run, "results.stages.units.before");
    assert_true(before < initial);
    json_decref(run);
    json_decref(bare);
    json_decref(repaired);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_allocation_leaves_what_is_dead, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_block_of_noise_goes, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(units_mend_a_bad_order, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(the_last_is_taken_where_it_is_asked_for, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(what_is_left_is_what_was_measured, cli_setup, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
