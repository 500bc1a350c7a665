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

/* Text k says one word again and again. */
static void open_rig(rig *g, fixture *f, const int64_t *words, int64_t n)
{
    static const char *const word[] = {" apple", " basket", " garden"};
    memset(g, 0, sizeof *g);
    g->f = f;
    g->in.ctx = f->ctx;
    assert_ok(f->ctx, pol_source_open(f->ctx, test_file("models/trained"), &g->in.src));
    assert_ok(f->ctx, pol_tokenizer_open(g->in.src, &g->in.tok));
    for (int64_t i = 0; i < n; i++) {
        char name[8], text[4096] = "";
        snprintf(name, sizeof name, "%d.txt", (int)i);
        for (int64_t k = 0; k < words[i]; k++)
            strcat(text, word[i]);
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

/* Which text a sequence is of: by a token in its middle that each text has of its own. */
static int64_t text_of(rig *g, int64_t sequence)
{
    for (int64_t i = 0; i < g->o.n_data; i++) {
        pol_sequences one;
        assert_ok(g->f->ctx,
                  pol_sequences_read(g->f->ctx, g->in.tok, 400, &g->data[i], 1, &g->o.text, S, POL_BOS_NONE, 0, &one));
        bool found = false;
        for (int64_t k = 0; k < one.n; k++)
            found |= !memcmp(one.ids + k * S, g->in.text.ids + sequence * S, S * sizeof *one.ids);
        pol_sequences_free(&one);
        if (found)
            return i;
    }
    return -1;
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
    for (int64_t i = 0; i < g.in.n_learn; i++)
        assert_int_equal(text_of(&g, i), i >= g.in.parts[0].n);
    int64_t held[2] = {0};
    double weight[2] = {0}, loss[7];
    for (int64_t i = 0; i < 7; i++) {
        const int64_t text = text_of(&g, g.in.n_learn + i);
        held[text]++;
        weight[text] += g.in.held_weight[i];
        loss[i] = text ? 10 : 1;
    }
    assert_int_equal(held[0], 5);
    assert_int_equal(held[1], 2);
    assert_near(weight[0], 2.0 / 3, 1e-12);
    assert_near(weight[1], 1.0 / 3, 1e-12);
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
    g.o.held_out = 40;
    assert_fails(g.f->ctx, pol_texts_read(&g.o, &g.in), POL_EFORMAT, "1.txt:");
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
