/* test_cli_stories.c - learning on a real small model: stories260K at keep 0.7, as in bench/quality/stories260k.sh but
 * with bounds that leave room for other BLAS kernels. Measured there: dense 1.638, the metric's own mask 3.095, learnt
 * 2.872 to 2.906 over three seeds; by a tenth of the passes an allocation with repair comes to 2.36. */
#include "pollard/pollard.h"
#include "program.h"

#define CUT "--separator <|endoftext|> --bos both --threads 1 "

/* The validation text has no marks between its stories: one goes before each "Once upon a time". */
static void mark_stories(const cli *t, const char *from, const char *name)
{
    static const char start[] = "Once upon a time", mark[] = "<|endoftext|>";
    char *text = slurp(from, NULL);
    FILE *f = fopen(path(t, name), "wb");
    assert_non_null(f);
    const char *at = text;
    for (const char *hit; (hit = strstr(at, start)); at = hit + strlen(start)) {
        fwrite(at, 1, (size_t)(hit - at), f);
        fprintf(f, "%s%s", mark, start);
    }
    fputs(at, f);
    assert_int_equal(fclose(f), 0);
    free(text);
}

static double loss_of(cli *t, const char *target)
{
    char call[1024];
    snprintf(call, sizeof call, "eval %s --text @/val.txt --limit 256 --json " CUT, target);
    json_t *j = call_json(t, call);
    const double nll = num(j, "nll");
    json_decref(j);
    return nll;
}

static void prune(cli *t, const char *model, const char *data, const char *rest)
{
    char call[2048];
    snprintf(call, sizeof call, "prune %s --data %s --keep 0.7 --quiet " CUT "%s", model, data, rest);
    assert_call(t, 0, call);
}

static void learning_pays(void **state)
{
    cli *t = *state;
    const char *model = shared_file("models/stories260K/stories260K.gguf");
    const char *data = shared_file("text/tinystories/tinystories-10k-1.4M.txt");
    mark_stories(t, shared_file("text/tinystories/tinystories-val-794K.txt"), "val.txt");
    prune(t, model, data, "--method units --no-repair --passes 0 --out @/metric");
    prune(t, model, data, "--method units --no-repair --passes 3000 --out @/learnt");
    const double dense = loss_of(t, model), metric = loss_of(t, "@/metric"), learnt = loss_of(t, "@/learnt");
    assert_near(dense, 1.6382, 1e-3);
    assert_near(metric, 3.08, 0.12);
    assert_true(learnt < metric - 0.1);
    assert_true(learnt < 2.96);
}

static void counts_in_the_repaired_model_pay_more(void **state)
{
    cli *t = *state;
    const char *model = shared_file("models/stories260K/stories260K.gguf");
    mark_stories(t, shared_file("text/tinystories/tinystories-val-794K.txt"), "val.txt");
    prune(t, model, shared_file("text/tinystories/tinystories-10k-1.4M.txt"), "--passes 300 --out @/run");
    assert_true(loss_of(t, "@/run") < 2.42);
    json_t *run = load_json(t, "run/run.json");
    assert_true(num(run, "results.stages.allocation.after") < num(run, "results.stages.allocation.before") - 0.02);
    assert_true(num(run, "results.repaired.held_out_nll") < num(run, "results.learnt.held_out_nll") - 0.5);
    json_decref(run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(learning_pays, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(counts_in_the_repaired_model_pay_more, cli_setup, cli_teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
