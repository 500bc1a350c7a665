/* test_cli_prune.c - `pollard prune`: what a run prints and leaves, by the method that has one stage and no repair. */
#include <dirent.h>
#include <math.h>

#include "masks.h"
#include "pollard/pollard.h"

/* Small enough for a fraction of a second. */
#define SMALL                                                                                                  \
    "--method units --no-repair --data @calibration --seq-len 64 --held-out 16 --init-sequences 16 --batch 8 " \
    "--keep 0.6"

/* ---- the documented run ---- */

static void check_folder(const cli *t, const char *run)
{
    static const char *const files[] = {"run.json", "log.jsonl", "initial-mask.json", "mask.json", "checkpoint.bin"};
    DIR *d = opendir(path(t, run));
    assert_non_null(d);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));) {
        bool known = !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..");
        for (size_t i = 0; i < 5; i++)
            if (!strcmp(e->d_name, files[i])) {
                known = true;
                n++;
            }
        if (!known)
            fail_msg("%s/%s is no file of a run", run, e->d_name);
    }
    closedir(d);
    assert_int_equal(n, 5);
}

static void check_log(const cli *t, const char *name, int64_t steps)
{
    char *log = slurp(path(t, name), NULL), *line = log;
    for (int64_t step = 0; step < steps; step++) {
        char *end = strchr(line, '\n');
        assert_non_null(end);
        json_t *j = json_loadb(line, (size_t)(end - line), JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(j);
        assert_int_equal(whole(j, "step"), step);
        assert_in_range((uint64_t)(100 * num(j, "loss")), 50, 600);
        assert_near(num(j, "baseline"), num(j, "loss"), 1e-8); /* leave-one-out */
        assert_in_range((uint64_t)(100 * num(j, "kept")), 30, 100);
        assert_true(num(j, "grad_norm") > 0 && num(j, "learning_rate") > 0 && num(j, "tokens_per_second") > 0);
        assert_true(num(j, "mean_entropy") > 0 && num(j, "mean_entropy") < log2(2));
        assert_int_equal(json_object_get(j, "held_out_nll") != NULL, (step + 1) % 2 == 0); /* --eval-every 2 */
        json_decref(j);
        line = end + 1;
    }
    assert_string_equal(line, "");
    free(log);
}

static void check_outcomes(const cli *t, const json_t *run)
{
    const counted initial = count_mask(t, "run/initial-mask.json"), learnt = count_mask(t, "run/mask.json");
    assert_int_equal(whole(run, "results.dense.block_params"), learnt.dense);
    assert_int_equal(whole(run, "results.initial.block_params"), initial.params);
    assert_int_equal(whole(run, "results.learnt.block_params"), learnt.params);
    assert_int_equal(whole(run, "results.dense.params") - whole(run, "results.learnt.params"),
                     learnt.dense - learnt.params);
    assert_int_equal(whole(run, "results.dense.macs") - whole(run, "results.learnt.macs"),
                     learnt.dense - learnt.params);
    static const char *const rows[] = {"results.dense", "results.initial", "results.learnt"};
    for (int i = 0; i < 3; i++) {
        const json_t *row = at(run, rows[i]);
        assert_near(num(row, "perplexity.perplexity"), exp(num(row, "perplexity.nll")), 1e-9);
        assert_int_equal(whole(row, "perplexity.tokens"), 20 * 127);
        assert_int_equal(whole(row, "perplexity.bad_chunks"), 0);
        assert_string_equal(text(row, "perplexity.protocol"), "paper");
        assert_string_equal(text(row, "perplexity.bos"), "document");
        assert_true(num(row, "perplexity.standard_error") > 0);
        assert_true(num(row, "held_out_nll") >= num(run, "results.dense.held_out_nll"));
    }
    /* The best judged mask is taken: never worse than the initial one. */
    assert_true(num(run, "results.learnt.held_out_nll") <= num(run, "results.initial.held_out_nll") + 1e-6);
}

static void a_run_leaves_what_is_documented(void **state)
{
    cli *t = *state;
    assert_call(
        t, 0,
        "prune @model --method units --no-repair --data @calibration --keep 0.6 --out @/run --seq-len 64 --passes 128 "
        "--eval-every 2 --init-sequences 16 --held-out 16 --eval @held-out --eval-limit 20 --threads 1");
    /* The plan stands before the table; what happens meanwhile is on standard error. */
    const char *plan = strstr(t->out, "plan "), *table = strstr(t->out, "perplexity");
    assert_true(plan && table && plan < table);
    static const char *const said[] = {"memory",
                                       "forward    128 sequences to learn in 8 steps",
                                       "time       about",
                                       "dense ",
                                       "initial mask",
                                       "learnt mask",
                                       "MACs/token",
                                       "+-",
                                       "protocol paper, sequences of 128, BOS document, 2540 tokens of ",
                                       "forward sequences: 128 to learn, 32 to initialise",
                                       "wall time",
                                       "peak memory"};
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++)
        assert_says(t->out, said[i]);
    assert_says(t->err, "learning\n");
    assert_says(t->err, "step 2: the hard mask has loss ");
    assert_says(t->err, "step 8 of 8  loss ");
    assert_null(strchr(t->err, '\r')); /* no terminal: plain lines */

    check_folder(t, "run");
    check_log(t, "run/log.jsonl", 8);
    json_t *run = load_json(t, "run/run.json");
    assert_string_equal(text(run, "format"), "pollard-run");
    assert_int_equal(whole(run, "version"), 1);
    assert_string_equal(text(run, "pollard"), pol_version());
    assert_string_equal(text(run, "status"), "done");
    assert_string_equal(text(run, "settings.method"), "units");
    assert_int_equal(whole(run, "settings.passes"), 128);
    assert_int_equal(whole(run, "settings.steps.units"), 8);
    assert_near(num(run, "settings.keep.heads"), 0.6, 0);
    assert_near(num(run, "settings.learn.learning_rate"), 6 / sqrt(128), 1e-12);
    char *record = slurp(path(t, "run/run.json"), NULL);
    assert_says(record, "\"heads\": 0.6,"); /* as a person writes it */
    assert_says(record, "\"smin\": 0.003");
    free(record);
    assert_int_equal(strlen(text(run, "model.hash")), 32);
    assert_int_equal(strlen(text(run, "data.hash")), 32);
    assert_int_equal(strlen(text(run, "eval.hash")), 32);
    assert_true(text(run, "model.path")[0] == '/');
    assert_int_equal(whole(run, "data.learnt_from"), whole(run, "data.sequences") - 16);
    assert_says(text(run, "device.detail"), "1 threads, OpenBLAS");
    check_outcomes(t, run);

    /* What the plan says is what is spent: dense, initial mask, four judgements, learnt mask. */
    assert_int_equal(whole(run, "results.forward_sequences.learning"), 128);
    assert_int_equal(whole(run, "results.forward_sequences.initialisation"), 32);
    assert_int_equal(whole(run, "results.forward_sequences.held_out"), 16 * 7);
    assert_int_equal(whole(run, "results.forward_sequences.evaluation"), 20 * 3);
    json_t *estimate =
        call_json(t, "estimate @model --method units --no-repair --data @calibration --keep 0.6 --seq-len 64 "
                     "--passes 128 --eval-every 2 --init-sequences 16 --held-out 16 --eval @held-out --eval-limit 20 "
                     "--threads 1 --json");
    assert_true(json_equal(at(estimate, "forward_sequences"), at(run, "results.forward_sequences")));
    assert_int_equal(whole(estimate, "steps"), 8);
    assert_true(whole(estimate, "weight_bytes") > 4 * whole(run, "model.block_params"));
    json_decref(estimate);
    json_decref(run);
}

/* The held-out loss by the library alone: the last sequences of the text, which nothing was learnt from. */
static void the_held_out_loss_is_of_the_last_sequences(void **state)
{
    cli *t = *state;
    const char *model = test_file("models/trained"), *data = test_file("text/calibration.txt");
    assert_call(t, 0, "prune @model " SMALL " --passes 64 --out @/run --quiet --threads 1");
    pol_source *src;
    pol_tokenizer *tok;
    pol_sequences s;
    pol_backend *be;
    pol_model *m;
    pol_forward *f;
    assert_ok(t->ctx, pol_source_open(t->ctx, model, &src));
    assert_ok(t->ctx, pol_tokenizer_open(src, &tok));
    assert_ok(t->ctx,
              pol_sequences_read(t->ctx, tok, pol_source_config(src)->vocab, &data, 1, NULL, 64, POL_BOS_MODEL, 0, &s));
    assert_ok(t->ctx, pol_backend_open(t->ctx, &(pol_backend_options){.threads = 1}, &be));
    assert_ok(t->ctx, pol_model_load(src, be, NULL, &m));
    assert_ok(t->ctx, pol_forward_new(m, 16 * 64, 64, &f));
    const pol_units *u = pol_model_units(m);
    uint8_t *mask = malloc((size_t)u->n);
    unsigned granularity;
    assert_ok(t->ctx, pol_mask_read(t->ctx, path(t, "run/mask.json"), u, &granularity, mask, NULL));

    json_t *run = load_json(t, "run/run.json");
    assert_int_equal(whole(run, "data.sequences"), s.n);
    for (int pass = 0; pass < 2; pass++) {
        double loss[16], mean = 0;
        assert_ok(t->ctx, pol_model_set_mask(m, pass ? mask : NULL));
        assert_ok(t->ctx, pol_forward_nll(f, s.ids + (s.n - 16) * 64, 16, 64, NULL, loss));
        for (int i = 0; i < 16; i++)
            mean += loss[i] / 16;
        assert_near(num(run, pass ? "results.learnt.held_out_nll" : "results.dense.held_out_nll"), mean, 1e-6);
    }
    json_decref(run);
    free(mask);
    pol_forward_free(f);
    pol_model_free(m);
    pol_backend_close(be);
    pol_sequences_free(&s);
    pol_tokenizer_free(tok);
    pol_source_close(src);
}

/* ---- what is printed ---- */

static void quiet_is_silent_and_json_is_one_object(void **state)
{
    cli *t = *state;
    assert_call(t, 0, "prune @model " SMALL " --passes 32 --out @/quiet --quiet");
    assert_string_equal(t->out, "");
    assert_string_equal(t->err, "");
    json_t *j = call_json(t, "prune @model " SMALL " --passes 32 --out @/json --json");
    assert_says(t->err, "learning\n");
    assert_string_equal(text(j, "run"), path(t, "json"));
    assert_string_equal(text(j, "status"), "done");
    json_t *file = load_json(t, "json/run.json");
    assert_int_equal(json_object_size(file) + 1, json_object_size(j));
    assert_near(num(file, "results.learnt.held_out_nll"), num(j, "results.learnt.held_out_nll"), 1e-13);
    json_decref(file);
    json_decref(j);
    j = call_json(t, "prune @model " SMALL " --passes 32 --out @/both --json --quiet");
    assert_string_equal(t->err, "");
    json_decref(j);
    /* A warning is said, and only then. */
    assert_call(t, 0, "prune @model " SMALL " --passes 32 --init-sequences 5000 --out @/warned --json");
    assert_says(t->err, "warning: the metric sees 608 sequences of 64 tokens, 5000 were asked for");
    assert_call(t, 0, "estimate @model " SMALL " --quiet");
    assert_string_equal(t->out, "");
    assert_string_equal(t->err, "");
}

static void results_that_cannot_be_printed_are_a_failure(void **state)
{
    cli *t = *state;
    t->stdout_to = "/dev/full";
    assert_call(t, 1, "prune @model " SMALL " --passes 32 --out @/full");
    assert_says(t->err, "standard output");
    assert_call(t, 1, "help");
    assert_call(t, 1, "devices --json");
    t->stdout_to = ""; /* closed: no file of the run may take its number */
    assert_call(t, 1, "prune @model " SMALL " --passes 32 --out @/closed");
    assert_call(t, 0, "prune @model " SMALL " --passes 32 --out @/unheard --quiet");
    t->stdout_to = NULL;
    assert_same_file(t, "full/mask.json", "closed/mask.json"); /* the runs themselves are whole */
    assert_same_file(t, "full/mask.json", "unheard/mask.json");
    json_decref(load_json(t, "closed/run.json"));
}

/* ---- the same numbers ---- */

static json_t *first_line(const cli *t, const char *name)
{
    char *log = slurp(path(t, name), NULL);
    json_t *j = json_loads(log, JSON_DISABLE_EOF_CHECK, NULL);
    assert_non_null(j);
    free(log);
    return j;
}

static void the_seed_decides(void **state)
{
    cli *t = *state;
    assert_call(t, 0, "prune @model " SMALL " --passes 96 --init uniform --out @/a --quiet");
    assert_call(t, 0, "prune @model " SMALL " --passes 96 --init uniform --out @/b --quiet --json --seed 42");
    assert_call(t, 0, "prune @model " SMALL " --passes 96 --init uniform --out @/c --quiet --seed 43");
    assert_same_file(t, "a/mask.json", "b/mask.json");
    assert_same_file(t, "a/initial-mask.json", "b/initial-mask.json");
    size_t na, nc;
    char *a = slurp(path(t, "a/mask.json"), &na), *c = slurp(path(t, "c/mask.json"), &nc);
    assert_false(na == nc && !memcmp(a, c, na));
    free(a);
    free(c);
    /* From equal probabilities other masks are drawn at once, and other sequences. */
    json_t *line_a = first_line(t, "a/log.jsonl"), *line_b = first_line(t, "b/log.jsonl"),
           *line_c = first_line(t, "c/log.jsonl");
    assert_near(num(line_a, "kept"), num(line_b, "kept"), 0);
    assert_near(num(line_a, "loss"), num(line_b, "loss"), 0);
    assert_true(num(line_a, "kept") != num(line_c, "kept"));
    assert_true(num(line_a, "loss") != num(line_c, "loss"));
    json_decref(line_a);
    json_decref(line_b);
    json_decref(line_c);
}

/* Masks are equal as long as losses are; and the share kept by a step's masks says whether they are. */
static void threads_draw_the_same_masks(void **state)
{
    cli *t = *state;
    assert_call(t, 0, "prune @model " SMALL " --passes 64 --init uniform --threads 1 --out @/one --quiet");
    assert_call(t, 0, "prune @model " SMALL " --passes 64 --init uniform --threads 2 --out @/two --quiet");
    char *one = slurp(path(t, "one/log.jsonl"), NULL), *two = slurp(path(t, "two/log.jsonl"), NULL);
    for (char *a = one, *b = two; *a; a = strchr(a, '\n') + 1, b = strchr(b, '\n') + 1) {
        json_t *x = json_loads(a, JSON_DISABLE_EOF_CHECK, NULL), *y = json_loads(b, JSON_DISABLE_EOF_CHECK, NULL);
        assert_near(num(x, "kept"), num(y, "kept"), 0);
        assert_near(num(x, "loss"), num(y, "loss"), 1e-5);
        json_decref(x);
        json_decref(y);
    }
    free(one);
    free(two);
    const counted a = count_mask(t, "one/mask.json"), b = count_mask(t, "two/mask.json");
    assert_int_equal(a.params, b.params);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_run_leaves_what_is_documented, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(the_held_out_loss_is_of_the_last_sequences, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(quiet_is_silent_and_json_is_one_object, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(results_that_cannot_be_printed_are_a_failure, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(the_seed_decides, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(threads_draw_the_same_masks, cli_setup, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
