/* test_pack.c - documents to sequences: where BOS goes, what is cut, what is refused. */
#include "pollard/data.h"
#include "tests/unit/text_files.h"

/* Token ids: 0 = BOS "<s>", 1..4 = a, b, c, d, 5 = newline, 6 = "ab", 7..9 = the characters that spell BOS. */
enum { VOCAB = 10 };
#define TOKENIZER(tail)                                                                                                    \
    "{\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"special\":true,\"normalized\":false}],"                            \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"<s>\":0,\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"\\n\":5,\"ab\":6,\"<\":7,\"s\":8," \
    "\">\":9},\"merges\":[\"a b\"]}" tail "}"
#define ADDS_BOS                                                                                                          \
    ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}}," \
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[0],\"tokens\":[\"<s>\"]}}}"

static pol_tokenizer *open_tokenizer(fixture *f, const char *json)
{
    pol_tokenizer *tok;
    assert_ok(f->ctx, pol_tokenizer_open_file(f->ctx, write_file(f, "tokenizer.json", json, strlen(json)), &tok));
    return tok;
}

/* Reads `path` and compares the ids with `expected`, n rows of seq_len. */
static void check_ids(fixture *f, const pol_tokenizer *tok, const char *path, int64_t seq_len, pol_bos bos,
                      int64_t limit, pol_bos applied, int64_t documents, int64_t text_tokens, int64_t n,
                      const int32_t *expected)
{
    pol_sequences s;
    assert_ok(f->ctx, pol_sequences_read(f->ctx, tok, VOCAB, &path, 1, NULL, seq_len, bos, limit, &s));
    assert_int_equal(s.n, n);
    assert_int_equal(s.seq_len, seq_len);
    assert_int_equal(s.bos, applied);
    assert_int_equal(s.documents, documents);
    assert_int_equal(s.text_tokens, text_tokens);
    assert_memory_equal(s.ids, expected, (size_t)(n * seq_len) * sizeof *expected);
    char hash[33];
    pol_bytes_hash(expected, (size_t)(n * seq_len) * sizeof *expected, hash);
    assert_string_equal(s.hash, hash);
    pol_sequences_free(&s);
    assert_null(s.ids);
}
#define ROWS(n, seq_len, ...) \
    n, (const int32_t[(n) * (seq_len)]) { __VA_ARGS__ }

static void test_bos(void **state)
{
    fixture *f = *state;
    pol_tokenizer *plain = open_tokenizer(f, TOKENIZER("")), *adds = open_tokenizer(f, TOKENIZER(ADDS_BOS));
    assert_false(pol_tokenizer_adds_bos(plain));
    assert_true(pol_tokenizer_adds_bos(adds));
    static const char jsonl[] = "{\"text\":\"abcd\"}\n{\"text\":\"\"}\n{\"text\":\"cc\"}\n{\"text\":\"dddd\"}\n";
    char path[128];
    strcpy(path, write_file(f, "x.jsonl", jsonl, sizeof jsonl - 1));
    check_ids(f, plain, path, 4, POL_BOS_MODEL, 0, POL_BOS_NONE, 3, 9, ROWS(2, 4, 6, 3, 4, 3, 3, 4, 4, 4));
    check_ids(f, adds, path, 4, POL_BOS_NONE, 0, POL_BOS_NONE, 3, 9, ROWS(2, 4, 6, 3, 4, 3, 3, 4, 4, 4));
    check_ids(f, adds, path, 4, POL_BOS_MODEL, 0, POL_BOS_DOCUMENT, 3, 12,
              ROWS(3, 4, 0, 6, 3, 4, 0, 3, 3, 0, 4, 4, 4, 4));
    check_ids(f, adds, path, 4, POL_BOS_DOCUMENT, 0, POL_BOS_DOCUMENT, 3, 12,
              ROWS(3, 4, 0, 6, 3, 4, 0, 3, 3, 0, 4, 4, 4, 4));
    check_ids(f, adds, path, 4, POL_BOS_SEQUENCE, 0, POL_BOS_SEQUENCE, 3, 9,
              ROWS(3, 4, 0, 6, 3, 4, 0, 3, 3, 4, 0, 4, 4, 4));
    check_ids(f, adds, path, 4, POL_BOS_BOTH, 0, POL_BOS_BOTH, 3, 12,
              ROWS(4, 4, 0, 0, 6, 3, 0, 4, 0, 3, 0, 3, 0, 4, 0, 4, 4, 4));
    check_ids(f, adds, path, 2, POL_BOS_SEQUENCE, 2, POL_BOS_SEQUENCE, 1, 3, ROWS(2, 2, 0, 6, 0, 3));
    /* BOS that a text spells out is text. */
    strcpy(path, write_file(f, "x.txt", "<s>ab", 5));
    check_ids(f, adds, path, 5, POL_BOS_MODEL, 0, POL_BOS_DOCUMENT, 1, 5, ROWS(1, 5, 0, 7, 8, 9, 6));
    for (int b = POL_BOS_MODEL; b <= POL_BOS_BOTH; b++)
        assert_string_not_equal(pol_bos_name((pol_bos)b), "unknown");
    pol_tokenizer_free(plain);
    pol_tokenizer_free(adds);
}

/* The limit stops the reading itself: the second file, which is not there, is never opened. */
static void test_limit_and_files(void **state)
{
    fixture *f = *state;
    pol_tokenizer *tok = open_tokenizer(f, TOKENIZER(""));
    char first[128], second[128];
    strcpy(first, write_file(f, "1.txt", "abcab", 5));
    strcpy(second, write_file(f, "2.txt", "dab\n", 4));
    static const int32_t ids[] = {6, 3, 6, 4, 6, 5};
    check_ids(f, tok, first, 3, POL_BOS_NONE, 1, POL_BOS_NONE, 1, 3, 1, ids);
    pol_sequences s;
    const char *paths[] = {first, second}, *absent[] = {first, "/nowhere/x.txt"};
    assert_ok(f->ctx, pol_sequences_read(f->ctx, tok, VOCAB, paths, 2, NULL, 3, POL_BOS_NONE, 0, &s));
    assert_int_equal(s.n, 2); /* files follow each other without a seam */
    assert_memory_equal(s.ids, ids, sizeof ids);
    pol_sequences_free(&s);
    assert_ok(f->ctx, pol_sequences_read(f->ctx, tok, VOCAB, absent, 2, NULL, 3, POL_BOS_NONE, 1, &s));
    pol_sequences_free(&s);
    assert_fails(f->ctx, pol_sequences_read(f->ctx, tok, VOCAB, absent, 2, NULL, 3, POL_BOS_NONE, 2, &s), POL_EIO,
                 "/nowhere/x.txt");
    assert_null(s.ids);
    assert_ok(f->ctx, pol_sequences_read(f->ctx, tok, VOCAB, paths, 2, NULL, 3, POL_BOS_NONE, INT64_MAX, &s));
    assert_int_equal(s.n, 2);
    pol_sequences_free(&s);
    pol_tokenizer_free(tok);
}

static void test_refusals(void **state)
{
    fixture *f = *state;
    pol_context *ctx = f->ctx;
    pol_tokenizer *tok = open_tokenizer(f, TOKENIZER(""));
    pol_tokenizer *no_bos = open_tokenizer(f, "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}");
    char path[128];
    strcpy(path, write_file(f, "x.txt", "abcd", 4));
    const char *paths[] = {path};
    pol_sequences s;
    assert_fails(ctx, pol_sequences_read(ctx, tok, VOCAB, paths, 1, NULL, 4, POL_BOS_NONE, 0, &s), POL_EFORMAT,
                 "3 tokens of text are less than one sequence of 4");
    assert_fails(ctx, pol_sequences_read(ctx, tok, VOCAB, paths, 1, NULL, INT64_MAX, POL_BOS_NONE, INT64_MAX, &s),
                 POL_EFORMAT, "less than one sequence");
    assert_fails(ctx, pol_sequences_read(ctx, tok, 6, paths, 1, NULL, 3, POL_BOS_NONE, 0, &s), POL_EFORMAT,
                 "x.txt: document 1: token 6 of the tokenizer is outside the model's vocabulary of 6");
    assert_fails(ctx, pol_sequences_read(ctx, tok, VOCAB, paths, 1, NULL, 1, POL_BOS_NONE, 0, &s), POL_EARG,
                 "sequence length 1");
    assert_fails(ctx, pol_sequences_read(ctx, tok, VOCAB, paths, 0, NULL, 2, POL_BOS_NONE, 0, &s), POL_EARG,
                 "0 text files");
    assert_fails(ctx, pol_sequences_read(ctx, tok, VOCAB, paths, 1, NULL, 2, POL_BOS_NONE, -1, &s), POL_EARG,
                 "limit -1");
    assert_fails(ctx, pol_sequences_read(ctx, no_bos, VOCAB, paths, 1, NULL, 2, POL_BOS_SEQUENCE, 0, &s), POL_EARG,
                 "BOS is -1");
    assert_fails(ctx, pol_sequences_read(ctx, no_bos, VOCAB, paths, 1, NULL, 2, POL_BOS_BOTH, 0, &s), POL_EARG,
                 "BOS is -1");
    assert_null(s.ids);
    pol_sequences_free(&s);
    pol_tokenizer_free(tok);
    pol_tokenizer_free(no_bos);
}

/* LLaMA's tokenizer gives 341,469 tokens for WikiText-2's test split, BOS included: the figure behind the published
 * perplexities. */
static void test_wikitext_protocol(void **state)
{
    fixture *f = *state;
    const char *path = shared_file("text/wikitext2/wiki.test.raw");
    pol_tokenizer *tok;
    pol_sequences s;
    assert_ok(f->ctx, pol_tokenizer_open_file(f->ctx, shared_file("tokenizers/llama2/tokenizer.model"), &tok));
    assert_ok(f->ctx, pol_sequences_read(f->ctx, tok, 32000, &path, 1, NULL, 128, POL_BOS_MODEL, 0, &s));
    assert_int_equal(s.text_tokens, 341469);
    assert_int_equal(s.n, 341469 / 128);
    assert_int_equal(s.format, POL_TEXT_WIKITEXT);
    assert_int_equal(s.bos, POL_BOS_DOCUMENT);
    assert_int_equal(s.ids[0], pol_tokenizer_bos(tok));
    for (int64_t i = 1; i < s.n * s.seq_len; i++)
        assert_int_not_equal(s.ids[i], pol_tokenizer_bos(tok));
    pol_sequences_free(&s);
    pol_tokenizer_free(tok);
}

/* Stories split at their mark, BOS before each and at the start of every sequence. */
static void test_stories(void **state)
{
    fixture *f = *state;
    const char *path = shared_file("text/tinystories/tinystories-10k-1.4M.txt");
    const pol_text_options o = {.separator = "<|endoftext|>"};
    pol_tokenizer *tok;
    pol_sequences s;
    assert_ok(f->ctx, pol_tokenizer_open_file(f->ctx, shared_file("models/stories260K/stories260K.gguf"), &tok));
    assert_ok(f->ctx, pol_sequences_read(f->ctx, tok, 512, &path, 1, &o, 128, POL_BOS_BOTH, 0, &s));
    assert_int_equal(s.documents, 1728);
    assert_int_equal(s.text_tokens, 681862);
    assert_int_equal(s.n, 5368);
    pol_sequences_free(&s);
    pol_tokenizer_free(tok);
}

int main(void)
{
#define WITH_FILES(test) cmocka_unit_test_setup_teardown(test, fixture_open, fixture_close)
    const struct CMUnitTest tests[] = {
        WITH_FILES(test_bos),     WITH_FILES(test_limit_and_files),   WITH_FILES(test_refusals),
        WITH_FILES(test_stories), WITH_FILES(test_wikitext_protocol),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
