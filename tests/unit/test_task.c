/* test_task.c - multiple choice: files to prompts, prompts to rows, rows to log-likelihoods as transformers has them.
 */
#include <math.h>

#include "core/eval/task.h"
#include "tests/loaded_model.h"
#include "tests/unit/text_files.h"

enum { ITEMS = 24, MAX_ROWS = 4 * ITEMS };

static const char *const names[] = {"piqa", "openbookqa", "winogrande", "arc_easy", "boolq", "plain"};

/* ---- files to prompts ---- */

typedef struct prompts {
    char context[4][128], continuation[4][128];
    int32_t n, gold;
    int64_t items;
} prompts;

static pol_status note(void *user, const pol_task_record *r)
{
    prompts *p = user;
    p->n = r->n;
    p->gold = r->gold;
    p->items++;
    for (int32_t i = 0; i < r->n && i < 4; i++) {
        snprintf(p->context[i], sizeof p->context[i], "%s", r->context[i]);
        snprintf(p->continuation[i], sizeof p->continuation[i], "%s", r->continuation[i]);
    }
    return POL_OK;
}

static pol_status parse(pol_context *ctx, const char *name, const char *text, prompts *p)
{
    pol_reader *r;
    memset(p, 0, sizeof *p);
    assert_ok(ctx, pol_reader_open_memory(ctx, "items", text, strlen(text), &r));
    const pol_status s = pol_task_parse(r, pol_task_template_find(name), note, p);
    pol_reader_close(r);
    return s;
}

#define RECORD(query) "{\"query\": \"" query "\", \"choices\": [\"a\", \"b c\"], \"gold\": 1}\n"

static void test_prompts(void **state)
{
    pol_context *ctx = ((fixture *)*state)->ctx;
    static const struct {
        const char *name, *text, *context;
    } cases[] = {
        {"piqa", RECORD("Question: how?\\n"), "Question: how?\nAnswer:"},
        {"piqa", RECORD("Question: how? \\n "), "Question: how?\nAnswer:"},
        {"openbookqa", RECORD("A cat has "), "A cat has "},
        {"arc_easy", RECORD("Question: why"), "Question: why\nAnswer:"},
        {"boolq", RECORD("Passage: It is.\\nQuestion: is it?"), "It is.\nQuestion: is it?\nAnswer:"},
        {"boolq", RECORD("The Passage: one."), "The Passage: one.\nAnswer:"},
        {"plain", RECORD(""), ""},
        {"winogrande", "{\"context_options\": [\"Ada\", \"Ben\"], \"continuation\": \"ran.\", \"gold\": 0}", "Ada"},
    };
    for (size_t i = 0; i < POL_COUNT(cases); i++) {
        prompts p;
        assert_ok(ctx, parse(ctx, cases[i].name, cases[i].text, &p));
        assert_int_equal(p.items, 1);
        assert_int_equal(p.n, 2);
        assert_string_equal(p.context[0], cases[i].context);
        const bool contexts = !strcmp(cases[i].name, "winogrande");
        assert_int_equal(p.gold, contexts ? 0 : 1);
        assert_string_equal(p.context[1], contexts ? "Ben" : cases[i].context);
        assert_string_equal(p.continuation[0], contexts ? " ran." : " a");
        assert_string_equal(p.continuation[1], contexts ? " ran." : " b c");
    }
}

static void test_hostile_records(void **state)
{
    pol_context *ctx = ((fixture *)*state)->ctx;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"\n[1]\n", "items: line 2: not an object"},
        {"{\"query\": \"q\", \"gold\": 0}", "line 1: 'choices' is missing"},
        {"{\"query\": \"q\", \"choices\": \"a\", \"gold\": 0}", "'choices' is not a list"},
        {"{\"query\": \"q\", \"choices\": [\"a\"], \"gold\": 0}", "'choices' has not between 2 and 64 entries"},
        {"{\"query\": \"q\", \"choices\": [\"a\", 3], \"gold\": 0}", "'choices' is not a string"},
        {"{\"query\": \"q\", \"choices\": [\"a\", \"\"], \"gold\": 0}", "'choices' is empty"},
        {"{\"query\": \"q\", \"choices\": [\"a\", \"b\\u0000\"], \"gold\": 0}", "'choices' has a 0 byte"},
        {"{\"choices\": [\"a\", \"b\"], \"gold\": 0}", "'query' is missing"},
        {"{\"query\": 1, \"choices\": [\"a\", \"b\"], \"gold\": 0}", "'query' is not a string"},
        {"{\"query\": \"q\", \"choices\": [\"a\", \"b\"]}", "'gold' is missing"},
        {"{\"query\": \"q\", \"choices\": [\"a\", \"b\"], \"gold\": \"0\"}", "'gold' is not a number"},
        {"{\"query\": \"q\", \"choices\": [\"a\", \"b\"], \"gold\": 2}", "'gold' is the number of no choice"},
        {"{\"query\": \"q\", \"choices\": [\"a\", \"b\"], \"gold\": -1}", "'gold' is the number of no choice"},
        {"{\"query\": \"q\", \"choices\": [\"a\", \"b\"], \"gold\": 0.5}", "'gold' is the number of no choice"},
        {"{\"query\": \"q\", \"choices\": [\"a\", \"b\"], \"gold\": 1e300}", "'gold' is the number of no choice"},
        {"{\"context_options\": [\"a\", \"b\"], \"gold\": 0}", "'continuation' is missing"},
        {"{\"context_options\": [\"a\", \"b\"], \"continuation\": \"\", \"gold\": 0}", "'continuation' is empty"},
        {RECORD("q") "\xff", "line 2, byte"},
    };
    for (size_t i = 0; i < POL_COUNT(cases); i++) {
        prompts p;
        assert_fails(ctx, parse(ctx, "plain", cases[i].text, &p), POL_EFORMAT, cases[i].says);
    }
    prompts p;
    assert_ok(ctx, parse(ctx, "plain", "\n" RECORD("q") "\n" RECORD("r"), &p));
    assert_int_equal(p.items, 2);
}

/* ---- prompts to rows ---- */

typedef struct scored {
    loaded m;
    pol_tokenizer *tok;
} scored;

static void open_scored(scored *s, pol_context *ctx, int64_t tokens)
{
    load_placed(&s->m, ctx, open_cpu(ctx), test_file("models/trained"), NULL, 1, tokens);
    assert_ok(ctx, pol_tokenizer_open(s->m.src, &s->tok));
}

static void close_scored(scored *s)
{
    pol_tokenizer_free(s->tok);
    unload(&s->m);
}

static pol_task *read_task(scored *s, const char *name, const char *path, pol_bos bos, int64_t limit)
{
    pol_task *t;
    assert_ok(s->m.ctx, pol_task_read(s->m.ctx, s->tok, pol_model_config(s->m.model), name, path, bos, limit, &t));
    return t;
}

static void test_rows(void **state)
{
    fixture *f = *state;
    scored s;
    open_scored(&s, f->ctx, 256);
    static const char text[] = "{\"query\": \"The cat \", \"choices\": [\"ran\", \"saw Ada\"], \"gold\": 0}\n"
                               "{\"query\": \"\", \"choices\": [\"ran\", \"caf\\u00e9\"], \"gold\": 0}\n";
    const char *path = write_file(f, "rows.jsonl", text, sizeof text - 1);
    const int32_t bos = pol_tokenizer_bos(s.tok);

    pol_task *t = read_task(&s, "plain", path, POL_BOS_MODEL, 0); /* the tokenizer adds BOS */
    assert_int_equal(pol_task_items(t), 2);
    assert_int_equal(pol_task_rows(t, 0, 2), 4);
    assert_int_equal(t->ids.ids[t->rows[0].at], bos);
    assert_int_equal(t->ids.ids[t->rows[2].at], bos);
    assert_int_equal(t->rows[2].scored, 1);
    assert_int_equal(t->rows[3].characters, 4);
    const int32_t context = t->rows[0].scored;
    pol_task_free(t);

    t = read_task(&s, "plain", path, POL_BOS_NONE, 0);
    assert_int_not_equal(t->ids.ids[t->rows[0].at], bos);
    assert_int_equal(t->rows[0].scored, context - 1);
    assert_int_equal(t->ids.ids[t->rows[2].at], bos); /* an empty context cannot do without */
    assert_int_equal(t->rows[2].scored, 1);
    pol_task_free(t);

    t = read_task(&s, "plain", path, POL_BOS_DOCUMENT, 1);
    assert_int_equal(pol_task_items(t), 1);
    assert_int_equal(t->ids.ids[t->rows[0].at], bos);
    pol_task_free(t);
    close_scored(&s);
}

static void test_refusals(void **state)
{
    fixture *f = *state;
    pol_context *ctx = f->ctx;
    scored s;
    open_scored(&s, ctx, 256);
    pol_config c = *pol_model_config(s.m.model);
    pol_task *t;
    static const char text[] = "\n" RECORD("It was here that");
    const char *path = write_file(f, "one.jsonl", text, sizeof text - 1);
    assert_fails(ctx, pol_task_read(ctx, s.tok, &c, "pica", path, POL_BOS_MODEL, 0, &t), POL_EARG,
                 "task 'pica' is none of piqa");
    assert_null(t);
    assert_fails(ctx, pol_task_read(ctx, s.tok, &c, "plain", path, POL_BOS_SEQUENCE, 0, &t), POL_EARG,
                 "BOS policy 'sequence'");
    assert_fails(ctx, pol_task_read(ctx, s.tok, &c, "plain", "/no/file", POL_BOS_MODEL, 0, &t), POL_EIO, "/no/file");
    c.vocab = 70;
    assert_fails(ctx, pol_task_read(ctx, s.tok, &c, "plain", path, POL_BOS_MODEL, 0, &t), POL_EFORMAT, "line 2: token");
    c.vocab = pol_model_config(s.m.model)->vocab;
    c.max_positions = 1; /* " a" is one token, " b c" more */
    assert_fails(ctx, pol_task_read(ctx, s.tok, &c, "plain", path, POL_BOS_MODEL, 0, &t), POL_EFORMAT,
                 "line 2: a choice is longer than the model's positions");
    path = write_file(f, "none.jsonl", "\n\n", 2);
    assert_fails(ctx, pol_task_read(ctx, s.tok, &c, "plain", path, POL_BOS_MODEL, 0, &t), POL_EFORMAT, "no item in it");
    close_scored(&s);
}

/* ---- log-likelihoods ---- */

static const json_t *golden_task(const json_t *golden, const char *name)
{
    const json_t *t = json_object_get(json_object_get(golden, "tasks"), name);
    assert_non_null(t);
    return t;
}

static pol_task *read_golden(scored *s, const char *name)
{
    char file[64];
    snprintf(file, sizeof file, "tasks/%s.jsonl", name);
    return read_task(s, name, test_file(file), POL_BOS_MODEL, 0);
}

static void check_items(const pol_task *t, const json_t *items, const double *loglik)
{
    int64_t row = 0;
    assert_int_equal(json_array_size(items), t->n);
    for (int64_t i = 0; i < t->n; i++) {
        const json_t *item = json_array_get(items, (size_t)i), *want = json_object_get(item, "loglik");
        assert_int_equal(json_array_size(want), t->items[i].rows);
        assert_int_equal(json_integer_value(json_object_get(item, "gold")), t->items[i].gold);
        for (int32_t k = 0; k < t->items[i].rows; k++, row++) {
            assert_near(loglik[row], json_number_value(json_array_get(want, (size_t)k)), 1e-3);
            assert_int_equal(t->rows[row].n - t->rows[row].scored,
                             json_integer_value(json_array_get(json_object_get(item, "tokens"), (size_t)k)));
            assert_int_equal(t->rows[row].characters,
                             json_integer_value(json_array_get(json_object_get(item, "length"), (size_t)k)));
        }
    }
}

static void test_golden(void **state)
{
    pol_context *ctx = ((fixture *)*state)->ctx;
    json_t *golden;
    assert_ok(ctx, pol_json_read(ctx, test_file("tasks/golden.json"), 1 << 24, &golden));
    scored s;
    open_scored(&s, ctx, 1024);
    int64_t cut = 0;
    for (size_t i = 0; i < POL_COUNT(names); i++) {
        const json_t *want = golden_task(golden, names[i]);
        pol_task *t = read_golden(&s, names[i]);
        double loglik[MAX_ROWS];
        pol_task_result r;
        assert_true(pol_task_rows(t, 0, t->n) <= MAX_ROWS);
        assert_ok(ctx, pol_task_eval(s.m.forward, t, 0, t->n, NULL, NULL, loglik, &r));
        check_items(t, json_object_get(want, "items"), loglik);
        const double acc = json_number_value(json_object_get(want, "acc"));
        const double norm = json_number_value(json_object_get(want, "acc_norm"));
        assert_near(r.acc, acc, 1e-12);
        assert_near(r.acc_error, sqrt(acc * (1 - acc) / (ITEMS - 1)), 1e-12);
        assert_true(pol_task_template_of(t)->normed ? fabs(r.norm - norm) < 1e-12 : isnan(r.norm));
        assert_int_equal(r.items, ITEMS);
        assert_int_equal(r.bad_items, 0);
        cut += r.cut;
        pol_task_free(t);
    }
    assert_true(cut > 0); /* some of boolq's are longer than the model's 256 positions */
    close_scored(&s);
    json_decref(golden);
}

/* A row's value does not depend on the rows beside it, nor on what fills it up. */
static void test_batches(void **state)
{
    pol_context *ctx = ((fixture *)*state)->ctx;
    scored wide, narrow;
    open_scored(&wide, ctx, 1024);
    open_scored(&narrow, ctx, 256);
    pol_task *t = read_golden(&wide, "boolq");
    double all[MAX_ROWS], one[MAX_ROWS];
    pol_task_result r;
    assert_ok(ctx, pol_task_eval(wide.m.forward, t, 0, t->n, NULL, NULL, all, &r));
    for (int64_t i = 0; i < t->n; i += 5) {
        assert_ok(ctx, pol_task_eval(narrow.m.forward, t, i, 1, NULL, NULL, one, &r));
        assert_true(isnan(r.acc_error)); /* one item has no spread */
        for (int32_t k = 0; k < t->items[i].rows; k++)
            assert_near(one[k] / all[t->items[i].first + k], 1, 1e-5);
    }
    const int64_t longest = pol_task_longest(t);
    assert_int_equal(longest, 256);
    assert_fails(ctx, pol_task_eval(wide.m.forward, t, 20, 5, NULL, NULL, NULL, &r), POL_EARG, "5 items from 20 on");
    pol_forward *small;
    assert_ok(ctx, pol_forward_new(wide.m.model, longest - 1, 16, &small));
    assert_fails(ctx, pol_task_eval(small, t, 0, 1, NULL, NULL, NULL, &r), POL_ELIMIT, "a choice of 256 tokens");
    pol_forward_free(small);
    pol_task_free(t);
    close_scored(&wide);
    close_scored(&narrow);
}

static void test_choosing(void **state)
{
    (void)state;
    pol_task_item item = {.first = 0, .rows = 3, .gold = 1};
    pol_task_row rows[3] = {{.characters = 2}, {.characters = 8}, {.characters = 4}};
    const pol_task t = {.n = 1, .items = &item, .rows = rows};
    assert_int_equal(pol_task_choose(&t, 0, (double[]){-2, -3, -2}, false), 0); /* the first of equals */
    assert_int_equal(pol_task_choose(&t, 0, (double[]){-2, -3, -1.5}, true), 1);
    assert_int_equal(pol_task_choose(&t, 0, (double[]){-2, -8, -4}, true), 0);
    assert_int_equal(pol_task_choose(&t, 0, (double[]){-2, NAN, -4}, false), -1);
    assert_int_equal(pol_task_choose(&t, 0, (double[]){-2, -1, -INFINITY}, true), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompts),  cmocka_unit_test(test_hostile_records), cmocka_unit_test(test_rows),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_golden),          cmocka_unit_test(test_batches),
        cmocka_unit_test(test_choosing),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
