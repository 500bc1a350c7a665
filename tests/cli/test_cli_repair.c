/* test_cli_repair.c - `pollard repair`: of runs and of masks, judged, stopped and gone on with, evaluated and exported.
 */
#include <math.h>

#include "core/base/endian.h"
#include "stopping.h"

#define PRUNE                                                                                               \
    "prune @model --data @calibration --keep 0.5 --seq-len 64 --passes 0 --held-out 8 --init-sequences 16 " \
    "--init magnitude --method units --no-repair --threads 1 --quiet --out "
#define REPAIR "repair @/run --data @calibration --seq-len 64 --sequences 24 --held-out 8 --threads 1 "
#define OF_MASK                                                                                                   \
    "repair --mask @/other/mask.json --model @model --out @/run --data @calibration --seq-len 64 --sequences 24 " \
    "--held-out 8 --threads 1 --quiet"

static double nll_of(cli *t, const char *what)
{
    char call[256];
    snprintf(call, sizeof call, "eval %s --text @held-out --limit 60 --json", what);
    json_t *j = call_json(t, call);
    const double nll = num(j, "nll");
    json_decref(j);
    return nll;
}

/* The same function, read back. */
static void check_exports(cli *t, double nll)
{
    assert_call(t, 0, "export @/run --format zeros --dtype f32 --out @/zeros --quiet");
    assert_call(t, 0, "export @/run --format hf --dtype f32 --out @/hf --quiet");
    assert_near(nll_of(t, "@/zeros"), nll, 1e-5);
    assert_near(nll_of(t, "@/hf"), nll, 1e-5);
    assert_ok(t->ctx, pol_remove_tree(t->ctx, path(t, "zeros")));
    assert_ok(t->ctx, pol_remove_tree(t->ctx, path(t, "hf")));
}

static void a_run_is_repaired(void **state)
{
    cli *t = *state;
    assert_call(t, 0, PRUNE "@/run");
    const double bare = nll_of(t, "@/run");
    assert_call(t, 0, REPAIR "--eval @held-out --eval-limit 60");
    assert_says(t->out, "24 sequences of 64 are looked at");
    assert_says(t->out, "ridge, half");
    assert_says(t->out, "ridge, local");
    assert_false(there(t, "run/repaired-half.safetensors"));
    const double mended = nll_of(t, "@/run");
    assert_true(mended < bare - 0.02);
    assert_near(nll_of(t, "@/run --bare"), bare, 1e-6);
    assert_true(nll_of(t, "@/run --dense") < mended);

    json_t *run = load_json(t, "run/run.json"), *repair = at(run, "repair"), *results = at(repair, "results");
    assert_string_equal(text(repair, "status"), "done");
    assert_near(num(at(at(results, "masked"), "perplexity"), "nll"), bare, 1e-6);
    assert_near(num(at(at(results, "repaired"), "perplexity"), "nll"), mended, 1e-6);
    json_t *tried = at(results, "held_out_nll");
    const double half = num(tried, "half"), local = num(tried, "local");
    assert_string_equal(text(results, "target"), half < local ? "half" : "local");
    assert_near(num(at(results, "repaired"), "held_out_nll"), fmin(half, local), 1e-9);
    assert_true(fmin(half, local) < num(results, "masked_held_out_nll"));
    assert_int_equal(whole(at(results, "forward_sequences"), "repair"), 7 * 24);

    char form[64];
    snprintf(form, sizeof form, "ridge, target %s", text(results, "target"));
    assert_call(t, 0, "inspect @/run");
    assert_says(t->out, form);
    assert_call(t, 0, "eval @/run --text @held-out --limit 2");
    assert_says(t->out, form);
    check_exports(t, mended);
    assert_call(t, 0, "export @/run --format zeros --bare --dtype f32 --out @/zeros --quiet");
    assert_near(nll_of(t, "@/zeros"), bare, 1e-5);
    assert_ok(t->ctx, pol_remove_tree(t->ctx, path(t, "zeros")));
    assert_call(t, 0, "export @/run --format hf --out @/hf --quiet");
    char *card = slurp(path(t, "hf/README.md"), NULL);
    assert_says(card, form);
    free(card);
    json_t *about = load_json(t, "hf/pollard.json");
    assert_string_equal(text(at(about, "repaired"), "target"), text(results, "target"));
    json_decref(about);
    assert_ok(t->ctx, pol_remove_tree(t->ctx, path(t, "hf")));
    json_decref(run);

    /* Again, in another form: the file is replaced. */
    json_t *j = call_json(t, REPAIR "--target half --refit-inputs 0.5 --json");
    assert_int_equal(json_object_size(at(j, "held_out_nll")), 1);
    assert_true(num(at(j, "held_out_nll"), "half") < num(j, "masked_held_out_nll"));
    json_decref(j);
    assert_call(t, 0, "inspect @/run --json");
    assert_says(t->out, "ridge, target half, inputs re-fitted");
    check_exports(t, nll_of(t, "@/run"));
}

static void biases(void **state)
{
    cli *t = *state;
    assert_call(t, 0, PRUNE "@/run --init wanda-sp --keep 0.25");
    const double bare = nll_of(t, "@/run");
    assert_call(t, 0, REPAIR "--repair bias --quiet");
    assert_string_equal(t->out, "");
    assert_string_equal(t->err, "");
    const double mended = nll_of(t, "@/run");
    assert_true(mended < bare - 0.1);
    check_exports(t, mended);
    assert_call(t, 0, "export @/run --format zeros --out @/zeros --quiet");
    json_t *config = load_json(t, "zeros/config.json");
    assert_true(json_is_true(at(config, "attention_bias")) && json_is_true(at(config, "mlp_bias")));
    json_decref(config);
}

/* What does worse than the mask alone is not kept, nor what an earlier call has kept. */
static void no_gain_no_repair(void **state)
{
    cli *t = *state;
    assert_call(t, 0, PRUNE "@/run");
    assert_call(t, 0, REPAIR "--quiet");
    assert_true(there(t, "run/repaired.safetensors"));
    assert_call(t, 0, REPAIR "--repair bias");
    assert_says(t->out, "nothing did better than the mask alone");
    assert_says(t->err, "warning: no repair does better");
    assert_false(there(t, "run/repaired.safetensors"));
    json_t *j = call_json(t, REPAIR "--repair bias --json");
    assert_string_equal(text(j, "kind"), "none");
    assert_true(num(at(j, "held_out_nll"), "bias") > num(j, "masked_held_out_nll"));
    assert_true(json_is_null(at(j, "repaired")));
    json_decref(j);
}

/* A mask that no run has made; and a run of its own from it. */
static void a_mask_is_repaired(void **state)
{
    cli *t = *state;
    assert_call(t, 0, PRUNE "@/other");
    assert_call(t, 0, OF_MASK);
    assert_same_file(t, "other/mask.json", "run/mask.json");
    assert_true(there(t, "run/repaired.safetensors"));
    const double mended = nll_of(t, "@/run");
    assert_true(mended < nll_of(t, "@/other"));
    assert_near(nll_of(t, "@/run --bare"), nll_of(t, "@/other"), 1e-6);
    check_exports(t, mended);
    assert_call(t, 3, OF_MASK);
    assert_says(t->err, "exists already");
    assert_call(t, 2, "prune @model --data @calibration --keep 0.5 --seq-len 64 --method units --out @/run --resume");
    assert_says(t->err, "without 'settings'");
}

/* Wherever it is stopped, the rest gives the same. */
static void stopped_and_resumed(void **state)
{
    cli *t = *state;
    assert_call(t, 0, PRUNE "@/run");
    assert_call(t, 0, REPAIR "--quiet");
    char want[33], got[33];
    assert_ok(t->ctx, pol_file_hash(t->ctx, path(t, "run/repaired.safetensors"), want));
    assert_int_equal(unlink(path(t, "run/repaired.safetensors")), 0);
    for (int tries = 0, stopped = 0; stopped < 2 && tries < 40; tries++) {
        const pid_t pid = start(t, REPAIR "--quiet --resume");
        while (!there(t, "run/repaired-half.safetensors.part") && !has_ended(pid))
            sleep_us(500);
        sleep_us(2000 * tries);
        const bool held = hold(pid);
        const int code = held ? signalled(t, pid, SIGTERM) : finish(t, pid);
        if (code == 130) {
            assert_says(t->err, "--resume goes on");
            json_t *run = load_json(t, "run/run.json");
            assert_string_equal(text(at(run, "repair"), "status"), "interrupted");
            json_decref(run);
            stopped++;
        }
        assert_call(t, 0, REPAIR "--quiet --resume");
        assert_ok(t->ctx, pol_file_hash(t->ctx, path(t, "run/repaired.safetensors"), got));
        assert_string_equal(got, want);
        assert_false(there(t, "run/repaired-half.safetensors.part"));
        assert_int_equal(unlink(path(t, "run/repaired.safetensors")), 0);
    }
}

/* A disk that is full is a failure; what was written stays, and serves once there is room: with --resume alone. */
static void full_disk(void **state)
{
    cli *t = *state;
    size_t n;
    assert_call(t, 0, PRUNE "@/run");
    assert_call(t, 0, REPAIR "--quiet --target half");
    char *whole_file = slurp(path(t, "run/repaired.safetensors"), &n), want[33], got[33];
    assert_ok(t->ctx, pol_file_hash(t->ctx, path(t, "run/repaired.safetensors"), want));
    const uint64_t data = 8 + pol_get_u64le((const uint8_t *)whole_file);
    free(whole_file);
    for (int resume = 0; resume < 2; resume++) {
        assert_int_equal(unlink(path(t, "run/repaired.safetensors")), 0);
        t->file_limit = n * 9 / 10; /* three of four layers */
        assert_call(t, 3, REPAIR "--quiet --target half");
        assert_says(t->err, "repaired-half.safetensors");
        t->file_limit = 0;
        assert_false(there(t, "run/repaired.safetensors"));
        json_t *run = load_json(t, "run/run.json");
        assert_string_equal(text(at(run, "repair"), "status"), "failed");
        json_decref(run);
        char *part = slurp(path(t, "run/repaired-half.safetensors.part"), &n);
        part[data] ^= 1; /* the first value's last digit tells whether it has been computed again */
        spill(t, "run/repaired-half.safetensors.part", part, n);
        free(part);
        assert_call(t, 0, resume ? REPAIR "--quiet --target half --resume" : REPAIR "--quiet --target half");
        assert_ok(t->ctx, pol_file_hash(t->ctx, path(t, "run/repaired.safetensors"), got));
        assert_int_equal(!strcmp(got, want), !resume);
        free(slurp(path(t, "run/repaired.safetensors"), &n));
    }
    /* One that has ended is not done again. */
    struct stat before, after;
    assert_int_equal(stat(path(t, "run/repaired.safetensors"), &before), 0);
    json_t *j = call_json(t, REPAIR "--target half --resume --json");
    assert_int_equal(stat(path(t, "run/repaired.safetensors"), &after), 0);
    assert_true(before.st_ino == after.st_ino && before.st_mtime == after.st_mtime);
    assert_true(num(at(j, "held_out_nll"), "half") < num(j, "masked_held_out_nll"));
    json_decref(j);
}

static void what_is_refused(void **state)
{
    cli *t = *state;
    assert_call(t, 0, PRUNE "@/run");
    static const struct {
        const char *call;
        int code;
        const char *part;
    } cases[] = {
        {"repair", 2, "which run?"},
        {"repair @/run", 2, "--data is missing"},
        {"repair @/run --data @calibration --out @/x", 2, "--out belongs to --mask"},
        {"repair @/run --data @calibration --mask @/run/mask.json", 2, "--mask"},
        {"repair --data @calibration --mask @/run/mask.json --out @/x", 2, "--mask needs --model"},
        {"repair @model --data @calibration", 2, "is no run"},
        {"repair @/none --data @calibration", 3, "none"},
        {"repair @/run --data @calibration --repair none", 2, "none"},
        {"repair @/run --data @calibration --refit-inputs 2", 2, "--refit-inputs"},
        {REPAIR "--sequences 1", 3, "tokens for least squares"},
        {REPAIR "--memory-limit 200K", 3, "needs"},
        {"repair --mask @/run/run.json --model @model --out @/x --data @calibration", 3, "run.json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_call(t, cases[i].code, cases[i].call);
        assert_says(t->err, cases[i].part);
        assert_false(there(t, "x"));
    }
    /* Weights that belong to another mask, or are damaged, are not taken for this one's. */
    assert_call(t, 0, REPAIR "--quiet");
    size_t n;
    char *file = slurp(path(t, "run/repaired.safetensors"), &n);
    spill(t, "run/repaired.safetensors", file, n - 4);
    assert_call(t, 3, "eval @/run --text @held-out --limit 2");
    assert_says(t->err, "repaired.safetensors");
    spill(t, "run/repaired.safetensors", file, n);
    free(file);
    assert_call(t, 0,
                "prune @model --data @calibration --keep 0.8 --seq-len 64 --passes 0 --held-out 8 "
                "--init magnitude --method units --no-repair --threads 1 --quiet --out @/second");
    assert_ok(t->ctx, pol_file_copy(t->ctx, path(t, "second/mask.json"), path(t, "run/mask.json")));
    assert_call(t, 3, "inspect @/run");
    assert_says(t->err, "was made for another mask");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_run_is_repaired, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(biases, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(no_gain_no_repair, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_mask_is_repaired, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(stopped_and_resumed, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(full_disk, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(what_is_refused, cli_setup, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
