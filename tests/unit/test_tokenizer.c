/* test_tokenizer.c - ids equal to those of tokenizers, sentencepiece, tiktoken and llama.cpp, from golden files. */
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/model/tokenizer/internal.h"
#include "tests/test.h"

static pol_context *ctx;

static int setup(void **state)
{
    (void)state;
    return pol_context_new(NULL, &ctx) < 0;
}

static int teardown(void **state)
{
    (void)state;
    pol_context_free(ctx);
    return 0;
}

static json_t *read_json(const char *path)
{
    json_t *j;
    assert_ok(ctx, pol_json_read(ctx, path, 1 << 24, &j));
    return j;
}

/* ---- small vectors, in the repository ---- */

static void compare(const char *file, const char *text, const pol_token_list *got, const json_t *want)
{
    bool equal = (size_t)got->n == json_array_size(want);
    for (int64_t i = 0; equal && i < got->n; i++)
        equal = got->ids[i] == json_integer_value(json_array_get(want, (size_t)i));
    if (equal)
        return;
    char *ids = json_dumps(want, JSON_COMPACT);
    print_error("%s: '%s': expected %s, got", file, text, ids);
    for (int64_t i = 0; i < got->n; i++)
        print_error(" %d", got->ids[i]);
    print_error("\n");
    free(ids);
    fail();
}

static void check_file(const char *file, const json_t *texts, const json_t *want, bool special)
{
    char path[512];
    snprintf(path, sizeof path, "tokenizers/%s", file);
    pol_tokenizer *tok;
    assert_ok(ctx, pol_tokenizer_open_file(ctx, test_file(path), &tok));
    size_t i;
    const json_t *text;
    assert_int_equal(json_array_size(texts), json_array_size(want));
    json_array_foreach(texts, i, text)
    {
        pol_token_list got = {0};
        assert_ok(ctx,
                  pol_tokenizer_encode(tok, ctx, json_string_value(text), json_string_length(text), special, &got));
        compare(file, json_string_value(text), &got, json_array_get(want, i));
        pol_token_list_free(ctx, &got);
    }
    pol_tokenizer_free(tok);
}

static void check_vectors(const char *name, size_t least)
{
    json_t *j = read_json(test_file(name));
    const json_t *texts = json_object_get(j, "texts");
    const char *file;
    json_t *want;
    assert_true(json_object_size(json_object_get(j, "files")) >= least);
    json_object_foreach(json_object_get(j, "files"), file, want)
    {
        check_file(file, texts, json_object_get(want, "plain"), false);
        if (json_object_get(want, "special"))
            check_file(file, texts, json_object_get(want, "special"), true);
    }
    json_decref(j);
}

static void test_vectors(void **state) { (void)state, check_vectors("tokenizers/vectors.json", 25); }

/* Texts that break tokenizers: control characters, joiners, runs of everything, added tokens side by side. */
static void test_edges(void **state) { (void)state, check_vectors("tokenizers/edges.json", 20); }

/* ---- a thousand lines under published tokenizers ---- */

typedef struct sink {
    pol_tokenizer *tok;
    int64_t lines, want;
    pol_token_list ids;
} sink;

/* Lines that are not empty, until there are enough; all ids go into one list. */
static void encode_lines(sink *s, const char *text, size_t n)
{
    for (size_t at = 0; at < n && s->lines < s->want;) {
        const char *end = memchr(text + at, '\n', n - at);
        const size_t len = end ? (size_t)(end - text) - at : n - at;
        if (len) {
            assert_ok(ctx, pol_tokenizer_encode(s->tok, ctx, text + at, len, false, &s->ids));
            s->lines++;
        }
        at += len + 1;
    }
}

static void encode_jsonl(sink *s, const char *text, size_t n)
{
    for (size_t at = 0; at < n && s->lines < s->want;) {
        const char *end = memchr(text + at, '\n', n - at);
        const size_t len = end ? (size_t)(end - text) - at : n - at;
        json_t *row;
        assert_ok(ctx, pol_json_parse(ctx, "c4", text + at, len, &row));
        const json_t *t = json_object_get(row, "text");
        encode_lines(s, json_string_value(t), json_string_length(t));
        json_decref(row);
        at += len + 1;
    }
}

static void check_large(const json_t *row, const char *path)
{
    const bool c4 = strcmp(json_string_value(json_object_get(row, "text")), "c4") == 0;
    pol_bytes text;
    assert_ok(ctx,
              pol_file_read(ctx, shared_file(c4 ? "text/c4/c4-sample-900docs.jsonl" : "text/wikitext2/wiki.test.raw"),
                            1 << 24, &text));
    sink s = {.want = json_integer_value(json_object_get(row, "lines"))};
    assert_ok(ctx, pol_tokenizer_open_file(ctx, path, &s.tok));
    (c4 ? encode_jsonl : encode_lines)(&s, text.data, text.len);
    char hash[33];
    pol_bytes_hash(s.ids.ids, (size_t)s.ids.n * sizeof *s.ids.ids, hash);
    assert_int_equal(s.lines, s.want);
    assert_int_equal(s.ids.n, json_integer_value(json_object_get(row, "tokens")));
    assert_string_equal(hash, json_string_value(json_object_get(row, "hash")));
    pol_token_list_free(ctx, &s.ids);
    pol_tokenizer_free(s.tok);
    pol_bytes_free(&text);
}

static void test_large(void **state)
{
    (void)state;
    shared_file("text/wikitext2/wiki.test.raw"); /* skips before anything is held */
    json_t *rows = read_json(test_file("tokenizers/large.json"));
    size_t i;
    const json_t *row;
    json_array_foreach(rows, i, row)
    {
        const char *name = json_string_value(json_object_get(row, "tokenizer"));
        const char *smollm2 = getenv("POLLARD_TEST_SMOLLM2");
        if (strcmp(name, "smollm2") != 0)
            check_large(row, shared_file(name));
        else if (smollm2 && *smollm2)
            check_large(row, smollm2);
    }
    json_decref(rows);
}

/* ---- llama.cpp's vectors: texts with a line "__ggml_vocab_test__" after each, and a line of ids for each ---- */

static void check_ggml(const char *name)
{
    static const char separator[] = "\n__ggml_vocab_test__\n";
    char file[128];
    pol_tokenizer *tok;
    pol_bytes texts, ids;
    snprintf(file, sizeof file, "tokenizers/ggml-vocab/ggml-vocab-%s.gguf", name);
    assert_ok(ctx, pol_tokenizer_open_file(ctx, shared_file(file), &tok));
    snprintf(file, sizeof file, "tokenizers/ggml-vocab/ggml-vocab-%s.gguf.inp", name);
    assert_ok(ctx, pol_file_read(ctx, shared_file(file), 1 << 20, &texts));
    snprintf(file, sizeof file, "tokenizers/ggml-vocab/ggml-vocab-%s.gguf.out", name);
    assert_ok(ctx, pol_file_read(ctx, shared_file(file), 1 << 20, &ids));
    const char *text = texts.data, *expected = ids.data;
    int cases = 0;
    for (const char *end; (end = strstr(text, separator)); text = end + strlen(separator), cases++) {
        pol_token_list got = {0};
        assert_ok(ctx, pol_tokenizer_encode(tok, ctx, text, (size_t)(end - text), false, &got));
        const char *line_end = strchr(expected, '\n');
        assert_non_null(line_end);
        for (int64_t i = 0; i < got.n; i++) {
            char *next;
            assert_int_equal(strtol(expected, &next, 10), got.ids[i]);
            expected = next;
        }
        assert_int_equal(strspn(expected, " "), line_end - expected); /* no id is left */
        expected = line_end + 1;
        pol_token_list_free(ctx, &got);
    }
    assert_int_equal(cases, 46);
    pol_bytes_free(&texts);
    pol_bytes_free(&ids);
    pol_tokenizer_free(tok);
}

static void test_ggml(void **state)
{
    (void)state;
    check_ggml("llama-spm");
    check_ggml("gpt-2");
    check_ggml("starcoder");
}

/* ---- the LLaMA 3 test file: the lists of ids in its Python source ---- */

static void check_list(const pol_tokenizer *tok, const char *source, const char *test, const char *list,
                       const char *text)
{
    const char *at = strstr(source, test);
    assert_non_null(at);
    at = strstr(at, list);
    assert_non_null(at);
    at += strlen(list);
    pol_token_list got = {0};
    assert_ok(ctx, pol_tokenizer_encode(tok, ctx, text, strlen(text), true, &got));
    for (int64_t i = 0; i < got.n; i++) {
        char *end;
        assert_int_equal(strtol(at, &end, 10), got.ids[i]);
        at = end + strspn(end, ", \n");
        while (*at == '#') {
            at = strchr(at, '\n');
            assert_non_null(at);
            at += strspn(at, " \n");
        }
    }
    assert_int_equal(*at, ']');
    pol_token_list_free(ctx, &got);
}

static void test_llama3(void **state)
{
    (void)state;
    pol_tokenizer *tok;
    pol_bytes source;
    assert_ok(ctx, pol_file_read(ctx, shared_file("tokenizers/llama3/test_tokenizer.py.txt"), 1 << 20, &source));
    assert_ok(ctx, pol_tokenizer_open_file(ctx, shared_file("tokenizers/llama3/tokenizer.model"), &tok));
    assert_int_equal(pol_tokenizer_vocab(tok), 128256);
    assert_int_equal(pol_tokenizer_bos(tok), 128000);
    assert_int_equal(pol_tokenizer_eos(tok), 128001);
    assert_true(pol_tokenizer_adds_bos(tok));
    check_list(tok, source.data, "def test_encode(", "            [",
               "<|begin_of_text|>This is a test sentence.<|end_of_text|>");
    check_list(tok, source.data, "def test_encode_message(", "            [\n",
               "<|start_header_id|>user<|end_header_id|>\n\nThis is a test sentence.<|eot_id|>");
    check_list(
        tok, source.data, "model_input.tokens", "            [\n",
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nThis is a test sentence.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nThis is a response.<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
    pol_tokenizer_free(tok);
    pol_bytes_free(&source);
}

/* ---- through a model's folder, and through a GGUF with its tensors ---- */

static void check_source(const char *path, const char *kind, int32_t vocab)
{
    pol_source *src;
    pol_tokenizer *tok;
    assert_ok(ctx, pol_source_open(ctx, path, &src));
    assert_ok(ctx, pol_tokenizer_open(src, &tok));
    assert_string_equal(pol_tokenizer_kind(tok), kind);
    assert_int_equal(pol_tokenizer_vocab(tok), vocab);
    assert_int_equal(pol_tokenizer_bos(tok), 1);
    assert_int_equal(pol_tokenizer_eos(tok), 2);
    assert_true(pol_tokenizer_adds_bos(tok));
    pol_tokenizer_free(tok);
    pol_source_close(src);
}

static void test_source(void **state)
{
    (void)state;
    char folder[4096];
    snprintf(folder, sizeof folder, "%s", shared_file("models/tinystories-656K/config.json"));
    *strrchr(folder, '/') = 0;
    check_source(folder, "bpe (tokenizer.json)", 2048);
    check_source(shared_file("models/stories260K/stories260K.gguf"), "gguf llama", 512);
}

/* ---- the whole text at once or in parts ---- */

/* A text that SentencePiece would merge as one problem, so long that a quadratic algorithm would not end in time; and
 * cutting it at neighbours that no token has must change nothing. */
static void test_long_text(void **state)
{
    (void)state;
    static const char *const files[] = {"llama.model", "across-spaces.model", "llama-normalizer.json",
                                        "metaspace-whole.json", "gpt2-prefix.json"};
    static const char *const units[] = {"a", "the miller's daughter ", "  "};
    enum { LENGTH = 100000 };
    char *text = malloc(LENGTH);
    assert_non_null(text);
    for (size_t f = 0; f < POL_COUNT(files); f++) {
        char path[128];
        pol_tokenizer *tok;
        snprintf(path, sizeof path, "tokenizers/%s", files[f]);
        assert_ok(ctx, pol_tokenizer_open_file(ctx, test_file(path), &tok));
        for (size_t u = 0; u < POL_COUNT(units); u++) {
            for (size_t i = 0; i < LENGTH; i++)
                text[i] = units[u][i % strlen(units[u])];
            pol_token_list whole = {0}, parts = {0};
            const bool cuttable = tok->bpe.cuttable;
            assert_ok(ctx, pol_tokenizer_encode(tok, ctx, text, LENGTH, false, &parts));
            tok->bpe.cuttable = false;
            assert_ok(ctx, pol_tokenizer_encode(tok, ctx, text, LENGTH, false, &whole));
            tok->bpe.cuttable = cuttable;
            assert_int_equal(whole.n, parts.n);
            assert_memory_equal(whole.ids, parts.ids, (size_t)whole.n * sizeof *whole.ids);
            pol_token_list_free(ctx, &whole);
            pol_token_list_free(ctx, &parts);
        }
        pol_tokenizer_free(tok);
    }
    free(text);
}

/* ---- in pieces ---- */

/* Lines of every length and beginning, with a literal and an unknown character now and then. */
static char *many_lines(size_t n)
{
    static const char *const parts[] = {"the miller's daughter", "\n",   " ", "a", "\nb", "\n\n", "  x", "<s>",
                                        "\xe2\x82\xac",          "zz\n "};
    char *text = malloc(n);
    assert_non_null(text);
    uint32_t random = 1;
    for (size_t at = 0; at < n;) {
        random = random * 1664525u + 1013904223u;
        const char *part = parts[(random >> 16) % POL_COUNT(parts)];
        const size_t len = strlen(part);
        if (at + len > n)
            part = "................................";
        memcpy(text + at, part, len < n - at ? len : n - at);
        at += len;
    }
    return text;
}

static void assert_same_in_pieces(pol_tokenizer *tok, const char *text, size_t n)
{
    pol_token_list whole = {0}, pieces = {0}, some = {0};
    assert_true(tok->by_lines);
    assert_ok(ctx, pol_tokenizer_encode(tok, ctx, text, n, false, &pieces));
    assert_ok(ctx, pol_tokenizer_encode_until(tok, ctx, text, n, false, 1000, &some));
    tok->by_lines = false;
    assert_ok(ctx, pol_tokenizer_encode(tok, ctx, text, n, false, &whole));
    tok->by_lines = true;
    assert_int_equal(whole.n, pieces.n);
    assert_memory_equal(whole.ids, pieces.ids, (size_t)whole.n * sizeof *whole.ids);
    assert_in_range(some.n, 1000, whole.n - 1);
    assert_memory_equal(whole.ids, some.ids, 1000 * sizeof *whole.ids);
    pol_token_list_free(ctx, &whole);
    pol_token_list_free(ctx, &pieces);
    pol_token_list_free(ctx, &some);
}

static void test_in_pieces(void **state)
{
    (void)state;
    static const char *const files[] = {"llama.model", "llama.gguf", "across-spaces.model", "llama-normalizer.json"};
    enum { LENGTH = 1000000 };
    char *text = many_lines(LENGTH);
    pol_tokenizer *tok;
    for (size_t f = 0; f < POL_COUNT(files); f++) {
        char path[128];
        snprintf(path, sizeof path, "tokenizers/%s", files[f]);
        assert_ok(ctx, pol_tokenizer_open_file(ctx, test_file(path), &tok));
        assert_same_in_pieces(tok, text, LENGTH);
        pol_tokenizer_free(tok);
    }
    /* Merges that cross the end of a line: pieces may not end before an a, nor before a space that ends a blank line.
     */
    static const char crossing[] =
        "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\u2581\"},"
        "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\u2581\"}]},\"model\":{\"type\":\"BPE\","
        "\"unk_token\":\"?\",\"vocab\":{\"?\":0,\"a\":1,\"b\":2,\"\\n\":3,\"\u2581\":4,\"\\na\":5,\"\\n\u2581\":6},"
        "\"merges\":[[\"\\n\",\"a\"],[\"\\n\",\"\u2581\"]]}}";
    assert_ok(ctx, pol_tokenizer_from_json(ctx, "tokenizer.json", crossing, strlen(crossing), &tok));
    for (size_t i = 0; i < LENGTH; i += 2) {
        text[i] = '\n';
        text[i + 1] = i % 600000 == 599998 ? 'b' : "aa "[i / 2 % 3];
    }
    assert_same_in_pieces(tok, text, LENGTH);
    pol_tokenizer_free(tok);
    free(text);
}

/* A literal across lines, or one that takes white space, is only seen in the whole text; so is white space that goes.
 */
static void test_not_in_pieces(void **state)
{
    (void)state;
    static const char *const files[] = {"user.model", "unknown.model", "nfd.json", "metaspace-first.json",
                                        "tiktoken.model"};
    for (size_t f = 0; f < POL_COUNT(files); f++) {
        char path[128];
        pol_tokenizer *tok;
        snprintf(path, sizeof path, "tokenizers/%s", files[f]);
        assert_ok(ctx, pol_tokenizer_open_file(ctx, test_file(path), &tok));
        assert_false(tok->by_lines);
        pol_tokenizer_free(tok);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),   cmocka_unit_test(test_edges),         cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_in_pieces), cmocka_unit_test(test_not_in_pieces), cmocka_unit_test(test_ggml),
        cmocka_unit_test(test_llama3),    cmocka_unit_test(test_source),        cmocka_unit_test(test_large)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
