/* test_cli_bad_input.c - what cannot be used is refused in one line that names file, field and value, and leaves
 * nothing behind. */
#include <dirent.h>

#include "program.h"

#define SMALL "--data @calibration --seq-len 64 --held-out 16 --init-sequences 16 --passes 32 --quiet "
#define PRUNE "prune @model --keep 0.6 " SMALL "--out @/run "

/* Refused, and no file or folder more than before in the temporary folder. */
static int entries(const cli *t)
{
    DIR *d = opendir(t->dir);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.' && strcmp(e->d_name, "stdout") && strcmp(e->d_name, "stderr");
    closedir(d);
    return n;
}

#define refused_clean(t, code, call, ...)              \
    do {                                               \
        const int entries_before_ = entries(t);        \
        refused(t, code, call, __VA_ARGS__);           \
        assert_int_equal(entries(t), entries_before_); \
    } while (0)

static void edit_json(cli *t, const char *name, const json_t *whole_file)
{
    assert_int_equal(json_dump_file(whole_file, path(t, name), JSON_REAL_PRECISION(17)), 0);
}

/* ---- models ---- */

/* The model's weights with `from` in their header turned into `to`, which is as long. */
static void edit_header(cli *t, const char *from, const char *to)
{
    size_t n;
    char *file = slurp(test_file("models/trained/model.safetensors"), &n);
    assert_int_equal(strlen(from), strlen(to));
    char *at = memmem(file, n, from, strlen(from));
    assert_non_null(at);
    memcpy(at, to, strlen(to));
    spill(t, "bad/model.safetensors", file, n);
    free(file);
}

/* By every command that opens the weights. */
static void refused_model(cli *t, const char *part, const char *value)
{
    refused_clean(t, 3, "eval @/bad --text @held-out --quiet", "bad", part, value);
    refused_clean(t, 3, "prune @/bad --keep 0.6 " SMALL "--out @/run", "bad", part, value);
    refused_clean(t, 3, "export @/bad --format hf --out @/out", "bad", part, value);
}

static void damaged_weights(void **state)
{
    cli *t = *state;
    copy_model(t, "bad");
    size_t n;
    char *good = slurp(test_file("models/trained/model.safetensors"), &n);
    const size_t cuts[] = {0, 7, 8, 2000, n - 1};
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        spill(t, "bad/model.safetensors", good, cuts[i]);
        refused_model(t, "model.safetensors", "");
    }
    for (int i = 0; i < 3; i++) { /* lengths of the header */
        static const uint64_t lengths[] = {UINT64_MAX, UINT64_C(1) << 40, 0};
        char bad[8];
        memcpy(bad, &lengths[i], 8);
        char *file = malloc(n);
        memcpy(file, good, n);
        memcpy(file, bad, 8);
        spill(t, "bad/model.safetensors", file, n);
        free(file);
        refused_model(t, "model.safetensors", "header");
    }
    free(good);
    edit_header(t, "\"data_offsets\":[38400,38496]", "\"data_offsets\":[38398,38494]");
    refused_model(t, "model.safetensors", "3839");
    edit_header(t, "model.norm.weight", "model.nxrm.weight");
    refused_model(t, "model.norm.weight", "");
    edit_header(t, "\"model.layers.0.mlp.down_proj.weight\":{\"dtype\":\"BF16\"",
                "\"model.layers.0.mlp.down_proj.weight\":{\"dtype\":\"U16\" ");
    refused_model(t, "model.layers.0.mlp.down_proj.weight", "u16");
    edit_header(t, "\"shape\":[48,96]", "\"shape\":[96,48]");
    refused_model(t, "model.layers.0.mlp.down_proj.weight", "96");
    edit_header(t, "model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.down_proj.weight");
    refused_model(t, "model.safetensors", "duplicate");
}

static void weights_that_are_no_numbers(void **state)
{
    cli *t = *state;
    static const uint16_t values[] = {0x7fc0, 0xffc1, 0x7f80, 0xff80}; /* NaN, NaN, infinity, -infinity */
    copy_model(t, "bad");
    size_t n;
    char *file = slurp(test_file("models/trained/model.safetensors"), &n);
    for (int i = 0; i < 4; i++) {
        memcpy(file + n - 2 * 100, &values[i], 2);
        spill(t, "bad/model.safetensors", file, n);
        refused_model(t, "weight", i < 2 ? "nan" : "inf");
    }
    free(file);
}

static void damaged_configuration(void **state)
{
    cli *t = *state;
    static const struct {
        const char *key, *value, *said;
    } edits[] = {
        {"hidden_size", "-48", "-48"},
        {"hidden_size", "\"48\"", "a string"},
        {"hidden_size", "1e30", "hidden_size"},
        {"hidden_size", "null", "missing"},
        {"hidden_size", "64", "shape"},
        {"num_hidden_layers", "100000", "100000"},
        {"num_hidden_layers", "5", "model.layers.4."},
        {"num_attention_heads", "7", "7"},
        {"rms_norm_eps", "-1", "rms_norm_eps"},
        {"model_type", "\"mamba\"", "mamba"},
        {"hidden_act", "\"relu\"", "relu"},
    };
    static const struct {
        const char *text, *said;
    } texts[] = {{"", "line 1"},
                 {"{\"hidden_size\": 48", "line 1"},
                 {"[1]", ""},
                 {"{\"model_type\": \"llama\", \"hidden_size\": 48, \"hidden_size\": 64}", "duplicate"}};
    copy_model(t, "bad");
    json_t *good = load_json(t, "bad/config.json");
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        json_t *bad = json_deep_copy(good);
        json_object_set_new(bad, edits[i].key, json_loads(edits[i].value, JSON_DECODE_ANY, NULL));
        edit_json(t, "bad/config.json", bad);
        json_decref(bad);
        refused_model(t, "", edits[i].said);
    }
    json_decref(good);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        spill_text(t, "bad/config.json", texts[i].text);
        refused_model(t, "config.json", texts[i].said);
        refused_clean(t, 3, "inspect @/bad", "config.json", texts[i].said);
    }
    unlink(path(t, "bad/config.json"));
    refused_model(t, "bad", "config.json");
    refused_clean(t, 3, "inspect @/nothing", "nothing", "No such file");
    refused_clean(t, 3, "prune @/nothing --keep 0.6 " SMALL "--out @/run", "nothing", "No such file");
    spill_text(t, "no.gguf", "GGUF");
    refused_clean(t, 3, "inspect @/no.gguf", "no.gguf");
}

static void damaged_tokenizer(void **state)
{
    cli *t = *state;
    copy_model(t, "bad");
    size_t n;
    char *good = slurp(test_file("models/trained/tokenizer.json"), &n);
    spill(t, "bad/tokenizer.json", good, n / 2);
    free(good);
    refused_clean(t, 3, "eval @/bad --text @held-out", "tokenizer.json");
    unlink(path(t, "bad/tokenizer.json"));
    refused_clean(t, 3, "prune @/bad --keep 0.6 " SMALL "--out @/run", "bad", "tokenizer");
}

/* ---- texts ---- */

static void texts_that_cannot_be_used(void **state)
{
    cli *t = *state;
    static const struct {
        const char *name, *text;
        size_t n;
        const char *said;
    } files[] = {
        {"empty.txt", "", 0, "empty.txt"},
        {"latin1.txt", "fine\nna\xefve\n", 11, "line 2"},
        {"cut.txt", "ends in half a character \xc3", 26, "UTF-8"},
        {"short.txt", "too little", 10, "short.txt"},
        {"bad.jsonl", "{\"text\": \"a\"}\n{\"text\": 7}\n", 26, "line 2"},
        {"other.jsonl", "{\"body\": \"a\"}\n", 14, "text"},
        {"broken.jsonl", "{\"text\": \"a\"\n", 13, "line 1"},
        {"not.gz", "\x1f\x8b\x08\x00zzzzzzzzzzzz", 16, "not.gz"},
        {"not.zst", "\x28\xb5\x2f\xfdzzzzzzzzzzzz", 16, "not.zst"},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char call[512];
        spill(t, files[i].name, files[i].text, files[i].n);
        snprintf(call, sizeof call, "eval @model --text @/%s --quiet", files[i].name);
        refused_clean(t, 3, call, files[i].name, files[i].said);
        snprintf(call, sizeof call, "prune @model --data @/%s --keep 0.6 --seq-len 64 --passes 32 --quiet --out @/run",
                 files[i].name);
        refused_clean(t, 3, call, files[i].name, files[i].said);
        snprintf(call, sizeof call, PRUNE "--eval @/%s", files[i].name);
        refused_clean(t, 3, call, files[i].name, files[i].said);
    }
    refused_clean(t, 3, "eval @model --text @/none.txt --quiet", "none.txt", "No such file");
    refused_clean(t, 3, "eval @model --text @model --quiet", "trained", "not a regular file");
    /* Enough to cut, too little to hold some out. */
    refused_clean(t, 3, PRUNE "--held-out 624", "calibration.txt", "624 sequences of 64 tokens", "hold 624 out");
    refused_clean(t, 3, PRUNE "--method units --init-seq-len 50000", "calibration.txt", "no sequence of 50000",
                  "wanda-sp");
}

/* ---- budgets and limits ---- */

static void budgets_that_cannot_be_met(void **state)
{
    cli *t = *state;
    refused_clean(t, 3, PRUNE "--keep 0.001", "heads", "0.001", "none of 16");
    refused_clean(t, 3, PRUNE "--keep-heads 0.01", "heads", "0.01", "none of 16");
    refused_clean(t, 3, PRUNE "--method units --keep 0.01 --granularity blocks", "attention_blocks", "0.01",
                  "none of 4");
    refused_clean(t, 3, PRUNE "--keep 0.3 --granularity heads --budget joint", "parameters", "0.3", "least share");
    refused_clean(t, 3, "estimate @model --keep 0.001 " SMALL, "heads", "0.001");
    refused_clean(t, 2, PRUNE "--keep 0", "--keep", "'0'");
    refused_clean(t, 2, PRUNE "--keep 1.5", "--keep", "'1.5'");
    refused_clean(t, 2, PRUNE "--keep nan", "--keep", "'nan'");
    refused_clean(t, 2, PRUNE "--budget joint --keep-heads 0.5", "heads", "0.5", "joint");
    refused_clean(t, 2, PRUNE "--granularity channels --keep-heads 0.5", "heads", "0.5");
    refused_clean(t, 2, PRUNE "--granularity heads,blocks", "granularity: blocks", "heads and channels");
}

static void memory_that_is_not_there(void **state)
{
    cli *t = *state;
    refused_clean(t, 3, PRUNE "--memory-limit 1M", "trained", "needs 1", "MiB (weights 0.43 MiB",
                  "1.00 MiB are available");
    refused_clean(t, 3, PRUNE "--batch 1000000 --memory-limit 100G", "trained", "needs ", "100.00 GiB are available",
                  "a lower --batch or --seq-len needs less");
    refused_clean(t, 3, "estimate @model --keep 0.6 " SMALL "--memory-limit 1M", "trained", "needs ");
    refused_clean(t, 3, "eval @model --text @held-out --memory-limit 1M --quiet", "trained", "needs ", "are available");
    refused_clean(t, 3, "eval @model --text @held-out --batch 1000000 --quiet", "trained", "needs ", "--batch");
}

/* ---- places that cannot be written ---- */

static void places_that_cannot_be_written(void **state)
{
    cli *t = *state;
    spill_text(t, "file", "");
    refused_clean(t, 3, "prune @model --keep 0.6 " SMALL "--out @/file/run", "file/run", "Not a directory");
    refused_clean(t, 3, "prune @model --keep 0.6 " SMALL "--out @/none/run", "none/run", "No such file");
    refused_clean(t, 3, "prune @model --keep 0.6 " SMALL "--out /proc/pollard-run", "/proc/pollard-run");
    refused_clean(t, 3, "export @model --format hf --out @/file/out", "file/out", "Not a directory");
    refused_clean(t, 3, "export @model --format hf --out /proc/pollard-out", "/proc/pollard-out");
    refused_clean(t, 3, "export @model --format hf --out @/file", "file", "exists already");
}

/* A disk that is full, as a limit on the size of a file: the error comes out of the same calls. */
static void a_disk_that_is_full(void **state)
{
    cli *t = *state;
    static const struct {
        rlim_t limit;
        const char *file;
        bool saved; /* a checkpoint was written before */
    } cases[] = {
        {100, "run.json", false},
        {2100, "initial-mask.json", false}, /* run.json has no results yet */
        {6000, "log.jsonl", true},          /* 40 steps are longer, all else is shorter */
    };
    const char *call =
        "prune @model --method units --no-repair --granularity heads --keep 0.5 --data @calibration --seq-len 64 --held-out 16 "
        "--init random --passes 640 --quiet --out @/run";
    assert_call(
        t, 0,
        "prune @model --method units --no-repair --granularity heads --keep 0.5 --data @calibration --seq-len 64 --held-out 16 "
        "--init random --passes 640 --quiet --out @/whole");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        t->file_limit = cases[i].limit;
        refused(t, 3, call, cases[i].file, "cannot be written", "File too large");
        t->file_limit = 0;
        assert_int_equal(there(t, "run"), cases[i].saved);
        if (cases[i].saved) { /* with room again, it goes on */
            char resume[512];
            snprintf(resume, sizeof resume, "%s --resume", call);
            assert_call(t, 0, resume);
            assert_same_file(t, "run/mask.json", "whole/mask.json");
        }
    }
    t->file_limit = 100000;
    refused_clean(t, 3, "export @/whole --format zeros --out @/out", "out", "cannot be written", "File too large");
    refused_clean(t, 3, "export @/whole --format hf --dtype f32 --out @/out", "out", "cannot be written");
    t->file_limit = 0;
}

/* ---- runs that were changed ---- */

static void refused_run(cli *t, const char *file, const char *part)
{
    refused_clean(t, 3, "eval @/run --text @held-out --quiet", file, part);
    refused_clean(t, 3, "inspect @/run", file, part);
    refused_clean(t, 3, "export @/run --format hf --out @/out", file, part);
}

static void a_mask_that_was_changed(void **state)
{
    cli *t = *state;
    static const struct {
        const char *key, *value, *said;
    } edits[] = {
        {"kept", "[0, 96]", "96"},
        {"kept", "[3, 1]", "kept"},
        {"kept", "[1, 1]", "kept"},
        {"kept", "[-1]", "-1"},
        {"kept", "\"all\"", "kept"},
        {"count", "95", "95"},
        {"probability", "[0.5]", "probability"},
        {"probability", "null", "probability"},
    };
    assert_call(t, 0, PRUNE);
    json_t *good = load_json(t, "run/mask.json");
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        json_t *bad = json_deep_copy(good);
        json_t *channels = at(json_array_get(at(bad, "layers"), 2), "channels");
        json_object_set_new(channels, edits[i].key, json_loads(edits[i].value, JSON_DECODE_ANY, NULL));
        edit_json(t, "run/mask.json", bad);
        json_decref(bad);
        refused_run(t, "mask.json", edits[i].said);
    }
    json_t *bad = json_deep_copy(good);
    json_array_remove(at(bad, "layers"), 0);
    edit_json(t, "run/mask.json", bad);
    json_decref(bad);
    refused_run(t, "mask.json", "layers");
    spill_text(t, "run/mask.json", "{\"format\": \"pollard-mask\", \"format\": 1}");
    refused_run(t, "mask.json", "duplicate");
    edit_json(t, "run/mask.json", good);
    json_decref(good);
    assert_call(t, 0, "inspect @/run --quiet");
}

static void a_record_that_was_changed(void **state)
{
    cli *t = *state;
    assert_call(t, 0, PRUNE);
    json_t *good = load_json(t, "run/run.json");
    static const struct {
        const char *part, *key, *value, *said;
    } edits[] = {
        {NULL, "format", "\"pollard-mask\"", "pollard-mask"},
        {NULL, "version", "2", "version"},
        {NULL, "model", "null", "model"},
        {"model", "path", "7", "path"},
        {"model", "path", "\"/nowhere\"", "/nowhere"},
        {"model", "hash", "\"0123\"", "0123"},
    };
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        json_t *bad = json_deep_copy(good);
        json_object_set_new(edits[i].part ? at(bad, edits[i].part) : bad, edits[i].key,
                            json_loads(edits[i].value, JSON_DECODE_ANY, NULL));
        edit_json(t, "run/run.json", bad);
        json_decref(bad);
        refused_run(t, "", edits[i].said);
    }
    json_decref(good);
    spill_text(t, "run/run.json", "");
    refused_run(t, "run.json", "");
}

static void a_model_that_was_changed(void **state)
{
    cli *t = *state;
    copy_model(t, "model");
    assert_call(t, 0, "prune @/model --keep 0.6 " SMALL "--out @/run");
    assert_call(t, 0, "eval @/run --text @held-out --quiet");
    size_t n;
    char *file = slurp(path(t, "model/model.safetensors"), &n);
    file[n - 1] ^= 1; /* one bit of one weight */
    spill(t, "model/model.safetensors", file, n);
    free(file);
    refused_run(t, "run.json", "has changed since the run");
    assert_ok(t->ctx, pol_remove_tree(t->ctx, path(t, "model")));
    refused_run(t, "run.json", "model is not there any more; --model PATH");
}

/* ---- wrong usage ---- */

static void wrong_usage(void **state)
{
    cli *t = *state;
    refused_clean(t, 2, "frobnicate", "'frobnicate'", "no command");
    refused_clean(t, 2, "prune", "which model");
    refused_clean(t, 2, "prune @model --keep 0.5 --out @/run", "--data");
    refused_clean(t, 2, "prune @model --data @calibration --out @/run", "--keep");
    refused_clean(t, 2, "prune @model --data @calibration --keep 0.5", "--out");
    refused_clean(t, 2, PRUNE "--frobnicate 3", "--frobnicate", "pollard help prune");
    refused_clean(t, 2, PRUNE "--frobnicate=3", "--frobnicate is");
    refused_clean(t, 2, PRUNE "-x", "-x is no option");
    refused_clean(t, 2, "prune @model @calibration " SMALL "--out @/run", "calibration.txt", "one argument too many");
    refused_clean(t, 2, PRUNE "--passes", "--passes needs a value");
    refused_clean(t, 2, PRUNE "--passes --resume", "--passes needs a value");
    refused_clean(t, 2, PRUNE "--passes many", "--passes", "'many'");
    refused_clean(t, 2, PRUNE "--passes 1e3", "--passes", "'1e3'");
    refused_clean(t, 2, PRUNE "--passes -1", "--passes", "'-1'");
    refused_clean(t, 2, PRUNE "--passes 15", "passes", "15", "16");
    refused_clean(t, 2, PRUNE "--steps 4", "--steps", "--passes");
    refused_clean(t, 2,
                  "prune @model --keep 0.5 --data @calibration --out @/run --steps 9000000000000000 "
                  "--sequences-per-mask 1048576",
                  "--steps");
    refused_clean(t, 2, PRUNE "--seq-len 1", "--seq-len", "'1'");
    refused_clean(t, 2, PRUNE "--seed 99999999999999999999", "--seed");
    refused_clean(t, 2, PRUNE "--lr 0x", "--lr", "'0x'");
    refused_clean(t, 2, PRUNE "--smin 0.5", "--smin", "'0.5'");
    refused_clean(t, 2, PRUNE "--method magic", "--method", "'magic'", "units", "reference");
    refused_clean(t, 2, PRUNE "--granularity heads,tails", "--granularity", "'tails'");
    refused_clean(t, 2, PRUNE "--granularity ,", "--granularity", "''");
    refused_clean(t, 2, PRUNE "--protocol mine", "--protocol", "'mine'", "paper", "standard");
    refused_clean(t, 2, PRUNE "--baseline high", "--baseline", "'high'", "leave-one-out");
    refused_clean(t, 2, PRUNE "--memory-limit 5X", "--memory-limit", "'5X'");
    refused_clean(t, 2, PRUNE "--json=yes", "--json", "'yes'");
    refused_clean(t, 2, PRUNE "--method units --normalise --no-normalise", "--normalise", "contradict");
    refused_clean(t, 2, PRUNE "--method units --no-normalise", "learning_rate");
    refused_clean(t, 2, PRUNE "--method units --mask-samples 1", "mask_samples", "1");
    refused_clean(t, 2, PRUNE "--held-out 0", "held-out", "0");
    refused_clean(t, 2, PRUNE "--backend abacus", "'abacus'", "cpu");
    refused_clean(t, 2, PRUNE "--device 7", "--backend says whose device 7 is meant");
    refused_clean(t, 2, "eval @model", "--text");
    refused_clean(t, 2, "eval --text @held-out", "which model");
    refused_clean(t, 2, "eval @model --text @held-out --protocol mine", "--protocol", "'mine'", "paper");
    refused_clean(t, 2, "eval @model --text @held-out --backend abacus", "'abacus'");
    refused_clean(t, 2, PRUNE "--weights f64", "--weights: 'f64' is none of auto, f32, f16, bf16");
    refused_clean(t, 3, PRUNE "--backend cpu --weights bf16", "the cpu backend has them in f32 alone");
    refused_clean(t, 3, "eval @model --text @held-out --backend cpu --weights f16", "not in f16");
    refused_clean(t, 2, "export @model --format zip --out @/out", "--format", "'zip'", "zeros", "hf");
    refused_clean(t, 2, "export @model --out @/out", "--format");
    refused_clean(t, 2, "export @model --format hf", "--out");
    refused_clean(t, 2, "inspect", "which model");
    refused_clean(t, 2, "devices @model", "one argument too many");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(damaged_weights, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(weights_that_are_no_numbers, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(damaged_configuration, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(damaged_tokenizer, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(texts_that_cannot_be_used, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(budgets_that_cannot_be_met, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(memory_that_is_not_there, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(places_that_cannot_be_written, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_disk_that_is_full, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_mask_that_was_changed, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_record_that_was_changed, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_model_that_was_changed, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(wrong_usage, cli_setup, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
