/* test_texts.c - the calibration text of a run: files that follow each other, or texts with weights. */
#include "core/run/run.h"
#include "tests/unit/text_files.h"

enum { S = 8 };

typedef struct rig {
    fixture *f;
    pol_inputs in;
    char path[3][128];
    const char *data[3];
    pol_prune_settings o;
} rig;

/* Text k says words of its own in no order, so that no two sequences are alike. */
static void open_rig(rig *g, fixture *f, const int64_t *words, int64_t n)
{
    static const char *const word[3][4] = {
        {" apple", " Ada", " in", " gave"}, {" basket", " Ben", " on", " took"}, {" garden", " Eva", " at", " lost"}};
    memset(g, 0, sizeof *g);
    g->f = f;
    g->in.ctx = f->ctx;
    assert_ok(f->ctx, pol_source_open(f->ctx, test_file("models/trained"), &g->in.src));
    assert_ok(f->ctx, pol_tokenizer_open(g->in.src, &g->in.tok));
    for (int64_t i = 0; i < n; i++) {
        char name[8], text[4096] = "";
        snprintf(name, sizeof name, "%d.txt", (int)i);
        for (int64_t k = 0; k < words[i]; k++)
            strcat(text, word[i][(k * k / 3 + k / 5) % 4]);
        snprintf(g->path[i], sizeof g->path[i], "%s", write_file(f, name, text, strlen(text)));
        g->data[i] = g->path[i];
    }
    pol_prune_defaults(POL_METHOD_UNITS, &g->o);
    g->o.data = g->data;
    g->o.n_data = n;
    g->o.seq_len = S;
    g->o.bos = POL_BOS_NONE;
    g->o.held_out = 0;
}

static void close_rig(rig *g)
{
    g->in.ctx = g->f->ctx;
    pol_inputs_close(&g->in);
}

/* Sequences of the set from `at` on are those of text i from `from` on. */
static void assert_same(rig *g, int64_t at, int64_t i, int64_t from, int64_t n)
{
    pol_sequences one;
    assert_ok(g->f->ctx,
              pol_sequences_read(g->f->ctx, g->in.tok, 400, &g->data[i], 1, &g->o.text, S, POL_BOS_NONE, 0, &one));
    assert_true(from + n <= one.n);
    assert_memory_equal(g->in.text.ids + at * S, one.ids + from * S, (size_t)(n * S) * sizeof *one.ids);
    pol_sequences_free(&one);
}

static void test_layout(void **state)
{
    rig g;
    const double weights[] = {2, 1};
    open_rig(&g, *state, (int64_t[]){200, 120}, 2);
    g.o.data_weights = weights;
    g.o.held_out = 7;
    assert_ok(g.f->ctx, pol_texts_read(&g.o, &g.in));
    assert_int_equal(g.in.n_parts, 2);
    assert_int_equal(g.in.parts[0].n + g.in.parts[1].n, g.in.n_learn);
    assert_int_equal(g.in.n_learn + 7, g.in.text.n);
    assert_int_equal(g.in.text.documents, 2);
    assert_near(g.in.parts[0].weight / g.in.parts[1].weight, 2, 1e-12);
    const int64_t n[] = {g.in.parts[0].n, g.in.parts[1].n};
    assert_same(&g, 0, 0, 0, n[0]);
    assert_same(&g, n[0], 1, 0, n[1]);
    assert_same(&g, n[0] + n[1], 0, n[0], 5); /* of two weights to one, 5 and 2 of 7 */
    assert_same(&g, n[0] + n[1] + 5, 1, n[1], 2);
    double loss[7];
    for (int64_t i = 0; i < 7; i++) {
        assert_near(g.in.held_weight[i], i < 5 ? 2.0 / 15 : 1.0 / 6, 1e-12);
        loss[i] = i < 5 ? 1 : 10;
    }
    assert_near(pol_held_out_mean(&g.in, loss, 7), 4, 1e-12);
    close_rig(&g);
}

/* Without weights the files are one text: packed over their borders, equal in the mean. */
static void test_one_text(void **state)
{
    rig g;
    open_rig(&g, *state, (int64_t[]){201, 121}, 2);
    g.o.held_out = 2;
    assert_ok(g.f->ctx, pol_texts_read(&g.o, &g.in));
    assert_null(g.in.parts);
    assert_null(g.in.held_weight);
    assert_near(pol_held_out_mean(&g.in, (double[]){1, 4}, 2), 2.5, 1e-12);
    const int64_t n = g.in.text.n;
    close_rig(&g);
    const double weights[] = {1, 1};
    open_rig(&g, *state, (int64_t[]){201, 121}, 2);
    g.o.data_weights = weights;
    assert_ok(g.f->ctx, pol_texts_read(&g.o, &g.in));
    assert_true(g.in.text.n <= n);
    close_rig(&g);
}

static void test_limits(void **state)
{
    rig g;
    const double weights[] = {3, 1, 1};
    open_rig(&g, *state, (int64_t[]){400, 200, 200}, 3);
    g.o.data_weights = weights;
    g.o.max_sequences = 20;
    g.o.held_out = 3;
    assert_ok(g.f->ctx, pol_texts_read(&g.o, &g.in));
    assert_int_equal(g.in.parts[0].n, 12);
    assert_int_equal(g.in.parts[1].n, 4);
    assert_int_equal(g.in.parts[2].n, 4);
    assert_int_equal(g.in.n_learn, 20);
    close_rig(&g);
}

static void test_refusals(void **state)
{
    rig g;
    double weights[] = {1, 0};
    open_rig(&g, *state, (int64_t[]){200, 12}, 2);
    g.o.data_weights = weights;
    assert_fails(g.f->ctx, pol_texts_read(&g.o, &g.in), POL_EARG, "1.txt: 0 is no positive number");
    weights[1] = 1;
    g.o.held_out = 1;
    assert_fails(g.f->ctx, pol_texts_read(&g.o, &g.in), POL_EARG, "held-out sequences: 1, but there are 2 texts");
    pol_sequences one;
    assert_ok(g.f->ctx,
              pol_sequences_read(g.f->ctx, g.in.tok, 400, &g.data[1], 1, &g.o.text, S, POL_BOS_NONE, 0, &one));
    g.o.held_out = 2 * one.n; /* nothing would be left to learn from */
    pol_sequences_free(&one);
    assert_fails(g.f->ctx, pol_texts_read(&g.o, &g.in), POL_EFORMAT, "1.txt:");
    g.o.held_out -= 2;
    assert_ok(g.f->ctx, pol_texts_read(&g.o, &g.in));
    close_rig(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_one_text),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
