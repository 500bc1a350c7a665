/* test_cli_eval_export.c - results out: eval, export, inspect, help. */
#include <math.h>

#include "pollard/pollard.h"
#include "program.h"

#define RUN                                                                                                   \
    "prune @model --data @calibration --keep 0.6 --seq-len 64 --passes 96 --held-out 16 --init-sequences 16 " \
    "--eval @held-out --threads 1 --quiet "

static void assert_keys(const json_t *j, const char *const *keys, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!json_object_get(j, keys[i]))
            fail_msg("no key '%s'", keys[i]);
    assert_int_equal(json_object_size(j), n);
}

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

/* What two evaluations of the same function have in common. */
static void assert_same_loss(const json_t *a, const json_t *b)
{
    assert_near(num(a, "perplexity") / num(b, "perplexity"), 1, 1e-6);
    assert_near(num(a, "nll"), num(b, "nll"), 1e-6);
    assert_int_equal(whole(a, "tokens"), whole(b, "tokens"));
    assert_int_equal(whole(a, "chunks"), whole(b, "chunks"));
}

static void eval_of_a_model(void **state)
{
    cli *t = *state;
    static const char *const keys[] = {
        "perplexity",  "nll",  "standard_error", "tokens", "chunks", "bad_chunks", "seq_len", "protocol", "bos",
        "text_format", "text", "model",          "pruned", "params", "tokenizer",  "device",  "weights",  "placement"};
    json_t *j = call_json(t, "eval @model --text @held-out --json");
    assert_string_equal(t->err, "");
    assert_keys(j, keys, COUNT(keys));
    assert_near(num(j, "perplexity"), exp(num(j, "nll")), 1e-9);
    assert_true(num(j, "nll") > 0.5 && num(j, "nll") < 0.7); /* the text is like what the model was trained on */
    assert_int_equal(whole(j, "tokens"), 127 * whole(j, "chunks"));
    assert_int_equal(whole(j, "seq_len"), 128);
    assert_string_equal(text(j, "protocol"), "paper");
    assert_string_equal(text(j, "bos"), "document");
    assert_string_equal(text(j, "text"), test_file("text/held-out.txt"));
    assert_false(json_is_true(at(j, "pruned")));

    assert_call(t, 0, "eval @model --text @held-out");
    assert_says(t->out, "protocol paper, sequences of 128, BOS document");
    char number[32];
    snprintf(number, sizeof number, "perplexity %.4f", num(j, "perplexity"));
    assert_says(t->out, number);
    json_decref(j);

    assert_call(t, 0, "eval @model --text @held-out --quiet");
    assert_string_equal(t->out, "");
    assert_string_equal(t->err, "");

    /* Changed parts are stated, and the protocol is then no longer that. */
    j = call_json(t, "eval @model --text @held-out --json --seq-len 64 --bos sequence --limit 5 --batch 2");
    assert_string_equal(text(j, "protocol"), "custom");
    assert_string_equal(text(j, "bos"), "sequence");
    assert_int_equal(whole(j, "tokens"), 63 * 5);
    json_decref(j);
    j = call_json(t, "eval @model --text @held-out --json --protocol standard --limit 1");
    assert_says(t->err, "warning: sequences of 2048 tokens are longer than the 256 positions");
    assert_string_equal(text(j, "protocol"), "standard");
    assert_int_equal(whole(j, "tokens"), 2047);
    assert_true(json_is_null(at(j, "standard_error"))); /* one chunk has none */
    json_decref(j);
    /* The way it is cut into batches is no part of the result. */
    json_t *one = call_json(t, "eval @model --text @held-out --json --batch 1 --limit 20");
    json_t *all = call_json(t, "eval @model --text @held-out --json --batch 20 --limit 20");
    assert_same_loss(one, all);
    json_decref(one);
    json_decref(all);
}

static void a_run_and_its_exports_are_one_function(void **state)
{
    cli *t = *state;
    assert_call(t, 0, RUN "--out @/run");
    json_t *run = load_json(t, "run/run.json");
    const json_t *learnt = at(run, "results.learnt.perplexity"), *repaired = at(run, "results.repaired.perplexity"),
                 *dense = at(run, "results.dense.perplexity");
    assert_true(num(learnt, "perplexity") > num(repaired, "perplexity"));
    assert_true(num(repaired, "perplexity") > num(dense, "perplexity"));

    json_t *masked = call_json(t, "eval @/run --text @held-out --json");
    assert_same_loss(masked, repaired);
    assert_true(json_is_true(at(masked, "pruned")));
    json_t *bare = call_json(t, "eval --bare @/run --text @held-out --json");
    assert_same_loss(bare, learnt);
    json_decref(bare);
    assert_int_equal(whole(masked, "params"), whole(run, "results.learnt.params"));
    json_t *before = call_json(t, "eval --dense @/run --text @held-out --json");
    assert_same_loss(before, dense);
    assert_false(json_is_true(at(before, "pruned")));
    assert_int_equal(whole(before, "params"), whole(run, "results.dense.params"));

    static const char *const formats[] = {"zeros", "hf"};
    for (int f = 0; f < 2; f++) {
        char call[128];
        snprintf(call, sizeof call, "export @/run --format %s --dtype f32 --out @/%s --json", formats[f], formats[f]);
        json_t *e = call_json(t, call);
        assert_string_equal(text(e, "format"), formats[f]);
        assert_string_equal(text(e, "out"), path(t, formats[f]));
        assert_int_equal(whole(e, "block_params"), whole(run, "results.learnt.block_params"));
        snprintf(call, sizeof call, "eval @/%s --text @held-out --json", formats[f]);
        json_t *read = call_json(t, call);
        assert_same_loss(read, repaired);
        assert_false(json_is_true(at(read, "pruned")));
        assert_int_equal(whole(read, "params"), whole(run, f ? "results.learnt.params" : "results.dense.params"));
        json_decref(e);
        json_decref(read);
    }
    assert_true(there(t, "hf/pollard.json"));
    assert_false(there(t, "zeros/pollard.json"));
    json_t *inspected = call_json(t, "inspect @/hf --json");
    assert_int_equal(whole(inspected, "params"), whole(run, "results.learnt.params"));
    json_decref(inspected);

    /* Nothing is written over. */
    refused(t, 3, "export @/run --format hf --out @/zeros", "zeros", "exists already");
    assert_false(there(t, "zeros/pollard.json"));
    assert_call(t, 0, "export @/run --format hf --dtype f32 --shard-size 64K --out @/sharded --quiet");
    assert_string_equal(t->out, "");
    assert_true(there(t, "sharded/model.safetensors.index.json"));
    json_t *sharded = call_json(t, "eval @/sharded --text @held-out --json");
    assert_same_loss(sharded, repaired);
    json_decref(sharded);

    /* A pruned folder is a model like another: prune it again. */
    assert_call(t, 0,
                "prune @/hf --data @calibration --keep 0.8 --seq-len 64 --passes 32 --held-out 16 --init random "
                "--quiet --out @/again");
    json_t *again = load_json(t, "again/run.json");
    assert_int_equal(whole(again, "results.dense.params"), whole(run, "results.learnt.params"));
    json_decref(again);

    json_decref(masked);
    json_decref(before);
    json_decref(run);
}

/* Whole blocks go, too, and the exports of that are still the run. */
static void blocks_that_are_gone_stay_gone(void **state)
{
    cli *t = *state;
    assert_call(t, 0, RUN "--method units --granularity heads,channels,blocks --keep 0.75 --init random --out @/run");
    json_t *run = load_json(t, "run/run.json"), *mask = load_json(t, "run/mask.json"), *layer;
    size_t l, gone = 0;
    json_array_foreach(at(mask, "layers"), l, layer) gone +=
        json_is_false(at(layer, "attention_block.kept")) + json_is_false(at(layer, "mlp_block.kept"));
    assert_int_equal(gone, 2);
    assert_call(t, 0, "export @/run --format hf --dtype f32 --out @/hf --quiet");
    json_t *hf = call_json(t, "eval @/hf --text @held-out --json");
    assert_same_loss(hf, at(run, "results.repaired.perplexity"));
    json_decref(hf);
    json_decref(mask);
    json_decref(run);
}

static void a_run_finds_its_model_where_it_has_moved(void **state)
{
    cli *t = *state;
    copy_model(t, "here");
    assert_call(t, 0,
                "prune @/here --data @calibration --keep 0.6 --seq-len 64 --passes 0 --init magnitude "
                "--held-out 16 --threads 1 --quiet --out @/run");
    json_t *before = call_json(t, "eval @/run --text @held-out --limit 20 --json");
    assert_int_equal(rename(path(t, "here"), path(t, "there")), 0);
    json_t *after = call_json(t, "eval @/run --text @held-out --limit 20 --json --model @/there");
    assert_same_loss(before, after);
    json_decref(before);
    json_decref(after);
    assert_call(t, 0, "inspect @/run --model @/there --quiet");
    assert_call(t, 0, "export @/run --model @/there --format hf --out @/hf --quiet");
    /* Not any model, only the run's; and only of a run. */
    assert_call(t, 0, "export @/there --dtype f32 --format zeros --out @/other --quiet");
    refused(t, 3, "inspect @/run --model @/other", "run.json", "other has changed since the run, or is another");
    refused(t, 2, "inspect @/there --model @/there", "there is no run");
}

static void inspect_shows_shapes(void **state)
{
    cli *t = *state;
    static const char *const keys[] = {"family",    "layers",    "hidden_size",  "query_heads",   "groups",
                                       "head_size", "mlp_width", "vocabulary",   "max_positions", "window",
                                       "tied",      "params",    "block_params", "macs",          "layer_shapes",
                                       "path",      "tokenizer", "pruned"};
    json_t *j = call_json(t, "inspect @model --json");
    assert_keys(j, keys, COUNT(keys));
    assert_int_equal(whole(j, "layers"), 4);
    assert_int_equal(whole(j, "groups"), 4);
    assert_int_equal(whole(j, "mlp_width"), 96);
    assert_true(json_is_true(at(j, "tied")));
    assert_int_equal(json_array_size(at(j, "layer_shapes")), 4);
    assert_string_equal(text(j, "tokenizer"), "bpe (tokenizer.json)");
    const int64_t dense = whole(j, "params");
    json_decref(j);
    assert_call(t, 0, "inspect @model");
    assert_says(t->out, "layers 4, hidden size 48, query heads 8 in 4 groups of size 8, MLP width 96");
    assert_says(t->out, "tokenizer bpe");

    assert_call(t, 0, RUN "--out @/run");
    j = call_json(t, "inspect @/run --json");
    assert_int_equal(json_object_size(j), COUNT(keys) + 2); /* the dense model, and how it was repaired */
    assert_says(text(j, "repaired"), "ridge, target ");
    assert_int_equal(whole(j, "dense.params"), dense);
    json_t *run = load_json(t, "run/run.json");
    assert_int_equal(whole(j, "params"), whole(run, "results.learnt.params"));
    json_decref(run);
    json_decref(j);
    assert_call(t, 0, "inspect @/run");
    assert_int_equal(lines_of(t->out), 6 + 4);
    assert_says(t->out, "  layer  3  heads ");
    assert_call(t, 0, "inspect @/run --quiet");
    assert_string_equal(t->out, "");
    assert_call(t, 0, "export @/run --format hf --out @/hf --quiet");
    assert_call(t, 0, "inspect @/hf");
    assert_int_equal(lines_of(t->out), 4 + 4);
    assert_says(t->out, "  layer  3  heads ");
    /* A model whose tokenizer is missing has a shape all the same. */
    copy_model(t, "mute");
    unlink(path(t, "mute/tokenizer.json"));
    j = call_json(t, "inspect @/mute --json");
    assert_true(json_is_null(at(j, "tokenizer")));
    json_decref(j);
}

static void a_plan_is_printed_without_work(void **state)
{
    cli *t = *state;
    static const char *const keys[] = {
        "device",           "devices",           "placement",   "step_passes",     "weights",    "weight_bytes",
        "activation_bytes", "repair_bytes",      "level_bytes", "levels_resident", "host_bytes", "device_bytes",
        "available_bytes",  "shared_memory",     "units",       "variables",       "steps",      "pilot",
        "tokens",           "forward_sequences", "seconds",     "text_assumed"};
    json_t *j = call_json(t, "estimate @model --data @calibration --keep 0.6 --seq-len 64 --json");
    assert_keys(j, keys, COUNT(keys));
    assert_int_equal(whole(j, "steps"), 1000 / 16);
    assert_int_equal(whole(j, "forward_sequences.learning"), 1000 / 16 * 16);
    assert_true(whole(j, "level_bytes") > 0 && json_is_true(at(j, "levels_resident")));
    json_decref(j);
    j = call_json(t, "estimate @model --method units --data @calibration --keep 0.6 --seq-len 64 --json");
    assert_int_equal(whole(j, "pilot"), 256);
    assert_int_equal(whole(j, "steps"), (3000 - 256) / 16);
    assert_int_equal(whole(j, "level_bytes"), 0);
    assert_int_equal(whole(j, "units"), 4 * (4 + 96 + 2));
    assert_int_equal(whole(j, "variables"), 4 * (4 + 96));
    assert_int_equal(whole(j, "forward_sequences.learning"), 256 + (3000 - 256) / 16 * 16);
    json_decref(j);
    j = call_json(
        t, "estimate @model --data @calibration --keep 0.6 --seq-len 64 --json --method reference --init random");
    assert_int_equal(whole(j, "steps"), 15000);
    assert_int_equal(whole(j, "forward_sequences.learning"), 240000);
    json_decref(j);
    /* What is said in steps is what its passes would be: the held-out part follows. */
    j = call_json(t, "estimate @model --data @calibration --keep 0.6 --seq-len 64 --json --method units --steps 400 "
                     "--eval-every 0");
    assert_int_equal(whole(j, "forward_sequences.learning"), 6400);
    assert_int_equal(whole(j, "forward_sequences.held_out"), 7 * 128); /* four rows, two ways of repair, an end */
    json_decref(j);
    assert_call(t, 0, "estimate @model --data @calibration --keep 0.6 --seq-len 64");
    assert_says(t->out, "400 of 408 units");
    /* Without text the passes are the same; not even a tokenizer is needed. */
    copy_model(t, "mute");
    unlink(path(t, "mute/tokenizer.json"));
    json_t *with = call_json(t, "estimate @model --data @calibration --keep 0.6 --seq-len 64 --json");
    json_t *without = call_json(t, "estimate @/mute --keep 0.6 --seq-len 64 --json");
    assert_false(json_is_true(at(with, "text_assumed")));
    assert_true(json_is_true(at(without, "text_assumed")));
    assert_true(json_equal(at(with, "forward_sequences"), at(without, "forward_sequences")));
    assert_int_equal(whole(with, "tokens"), whole(without, "tokens"));
    json_decref(with);
    json_decref(without);
    assert_call(t, 0, "estimate @model --keep 0.6 --method reference --separate-sequences");
    assert_says(t->out, "240000 sequences to learn in 15000 steps");
    assert_says(t->out, "none given (--data)");
}

static void help_is_there_for_each_command(void **state)
{
    cli *t = *state;
    static const char *const commands[] = {"prune", "estimate", "eval", "export", "inspect", "devices"};
    assert_call(t, 0, "help");
    for (size_t i = 0; i < COUNT(commands); i++)
        assert_says(t->out, commands[i]);
    assert_says(t->out, "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 unusable input, 130 interrupted");
    for (size_t i = 0; i < COUNT(commands); i++) {
        char call[64];
        snprintf(call, sizeof call, "help %s", commands[i]);
        assert_call(t, 0, call);
        assert_says(t->out, "Usage: pollard ");
        assert_says(t->out, "--json");
        assert_says(t->out, "--quiet");
        char *help = strdup(t->out);
        for (const char *line = strstr(help, "\n\n"), *end; *(line += strspn(line, "\n")); line = end) {
            end = line + strcspn(line, "\n");
            assert_in_range(end - line, 1, 80); /* options fit a terminal */
        }
        static const char *const forms[] = {"%s --help", "%s -h", "%s whatever --json --help"};
        for (size_t f = 0; f < COUNT(forms); f++) {
            snprintf(call, sizeof call, forms[f], commands[i]);
            assert_call(t, 0, call);
            assert_string_equal(t->out, help);
        }
        free(help);
    }
    assert_call(t, 0, "--version");
    assert_says(t->out, pol_version());
    assert_call(t, 0, "--help");
    assert_call(t, 0, "help help");
    refused(t, 2, "help nothing", "'nothing' is no command");
    assert_call(t, 2, "");
    assert_string_equal(t->out, "");
    assert_says(t->err, "Exit codes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(eval_of_a_model, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_run_and_its_exports_are_one_function, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_run_finds_its_model_where_it_has_moved, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(blocks_that_are_gone_stay_gone, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(inspect_shows_shapes, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_plan_is_printed_without_work, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(help_is_there_for_each_command, cli_setup, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
