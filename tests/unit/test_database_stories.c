/* test_database_stories.c - what level rows are worth on a real small model: stories260K in the order of removal, each
 * layer cut to 11 of 16 levels of its channels and 3 of 4 groups, on stories that the rows were not made for. */
#include <math.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/repair/database.h"
#include "pollard/eval.h"
#include "tests/test.h"

enum { SEQ_LEN = 128, CALIBRATION = 128, HELD_OUT = 48, BATCH = 8 };

static pol_sequences read_text(pol_context *ctx, pol_source *src, const char *name, const char *separator, int64_t n)
{
    pol_tokenizer *tok;
    pol_sequences s;
    const char *path = shared_file(name);
    assert_ok(ctx, pol_tokenizer_open(src, &tok));
    assert_ok(ctx, pol_sequences_read(ctx, tok, pol_source_config(src)->vocab, &path, 1,
                                      &(pol_text_options){.separator = separator}, SEQ_LEN, POL_BOS_BOTH, n, &s));
    pol_tokenizer_free(tok);
    return s;
}

static double loss(pol_context *ctx, pol_forward *f, const pol_sequences *text)
{
    pol_perplexity p;
    assert_ok(ctx, pol_eval_sequences(f, text, NULL, NULL, &p));
    return p.nll;
}

static void test_level_rows_beat_the_mask(void **state)
{
    pol_context *ctx = *state;
    const char *model = shared_file("models/stories260K/stories260K.gguf");
    char dir[] = "/tmp/pollard-stories-XXXXXX", path[64];
    pol_source *src;
    pol_backend *be;
    pol_model *m;
    pol_forward *f;
    pol_database *db;
    pol_levels *levels;
    assert_ok(ctx, pol_source_open(ctx, model, &src));
    assert_ok(ctx, pol_backend_open(ctx, &(pol_backend_options){.name = "cpu", .threads = 1}, &be));
    assert_ok(ctx, pol_model_load(src, be, NULL, &m));
    assert_ok(ctx, pol_forward_new(m, BATCH * SEQ_LEN, SEQ_LEN, &f));
    pol_sequences cal = read_text(ctx, src, "text/tinystories/tinystories-10k-1.4M.txt", "<|endoftext|>", CALIBRATION);
    pol_sequences text = read_text(ctx, src, "text/tinystories/tinystories-val-794K.txt", NULL, HELD_OUT);
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/database.bin", dir);
    const pol_database_settings o = {.levels = 16,
                                     .align = 1,
                                     .obs_block = 1,
                                     .damping = 0.01,
                                     .granularity = POL_HEADS | POL_CHANNELS,
                                     .identity = "00000000000000000000000000000000"};
    assert_ok(ctx, pol_database_open(ctx, path, &o, m, &db));
    assert_ok(ctx, pol_database_build(db, f, be, &cal, NULL, NULL, NULL));
    assert_ok(ctx, pol_levels_new(db, be, true, &levels));

    const pol_units *u = pol_model_units(m);
    int64_t length[64], n;
    pol_buf *rows[64];
    int32_t *order = malloc((size_t)pol_model_order_size(m) * sizeof *order);
    for (int64_t k = 0; k < 2 * (int64_t)u->n_layers; k++) {
        const int64_t *level = pol_database_level(db, u->sections[k].layer, u->sections[k].kind, &n);
        length[k] = level[u->sections[k].kind == POL_UNIT_GROUP ? 3 : 11];
    }
    pol_database_full_order(db, order);
    assert_ok(ctx, pol_model_set_order(m, order));
    const double dense = loss(ctx, f, &text);
    assert_ok(ctx, pol_model_set_lengths(m, length, NULL));
    const double bare = loss(ctx, f, &text);
    assert_ok(ctx, pol_levels_rows(levels, length, rows));
    assert_ok(ctx, pol_model_set_lengths(m, length, rows));
    const double mended = loss(ctx, f, &text);
    printf("dense %.3f, masked %.3f, with level rows %.3f\n", dense, bare, mended);
    assert_true(dense < 2 && bare > dense + 0.7);
    assert_true(mended < bare - 0.4);

    free(order);
    pol_levels_free(levels);
    pol_database_close(db);
    assert_ok(ctx, pol_remove_tree(ctx, dir));
    pol_sequences_free(&cal);
    pol_sequences_free(&text);
    pol_forward_free(f);
    pol_model_free(m);
    pol_backend_close(be);
    pol_source_close(src);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_level_rows_beat_the_mask)};
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}
