/* test_tokenizer_files.c - what a tokenizer's files may hold, what is refused and how, the BOS policy, and writing
 * them. */
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/model/tokenizer/export.h"
#include "core/model/tokenizer/internal.h"
#include "tests/ration.h"
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

static void assert_encodes(const pol_tokenizer *tok, const char *text, const int32_t *want, int64_t n)
{
    pol_token_list got = {0};
    assert_ok(ctx, pol_tokenizer_encode(tok, ctx, text, strlen(text), false, &got));
    assert_int_equal(got.n, n);
    assert_memory_equal(got.ids, want, (size_t)n * sizeof *want);
    pol_token_list_free(ctx, &got);
}

/* ---- tokenizer.json by hand: merges out of order of length, so that rank decides ---- */

#define VOCAB "'vocab':{'a':0,'b':1,'c':2,'bc':3,'ab':4,'abc':5}"
#define PLAIN "'model':{'type':'BPE'," VOCAB ",'merges':['b c','a b','ab c']}"

/* JSON with ' for ", which no text here needs. */
static pol_status from_json(const char *text, pol_tokenizer **out)
{
    char copy[2048];
    snprintf(copy, sizeof copy, "%s", text);
    for (char *p = copy; *p; p++)
        if (*p == '\'')
            *p = '"';
    return pol_tokenizer_from_json(ctx, "tokenizer.json", copy, strlen(copy), out);
}

static void test_rank_order(void **state)
{
    (void)state;
    pol_tokenizer *tok;
    assert_ok(ctx, from_json("{" PLAIN "}", &tok));
    assert_encodes(tok, "abc", (int32_t[]){0, 3}, 2); /* b c comes first, and then nothing joins a */
    assert_encodes(tok, "abab", (int32_t[]){4, 4}, 2);
    assert_encodes(tok, "axb", (int32_t[]){4}, 1); /* x has no token and is dropped */
    size_t n;
    assert_memory_equal(pol_tokenizer_token(tok, 5, &n), "abc", 3);
    assert_int_equal(n, 3);
    assert_null(pol_tokenizer_token(tok, 6, &n));
    assert_null(pol_tokenizer_token(tok, -1, &n));
    assert_int_equal(pol_tokenizer_bos(tok), -1);
    assert_false(pol_tokenizer_adds_bos(tok));
    pol_tokenizer_free(tok);
}

static void test_refused_json(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        pol_status code;
        const char *part;
    } cases[] = {
        {"[]", POL_EFORMAT, "not an object"},
        {"{'model':{'type':'Unigram','vocab':[]}}", POL_EUNSUPPORTED, "'Unigram'"},
        {"{'model':{'type':'WordPiece','vocab':{}}}", POL_EUNSUPPORTED, "'WordPiece'"},
        {"{'model':{'vocab':{}}}", POL_EUNSUPPORTED, "without a type"},
        {"{'model':{'type':'BPE','vocab':{'a':0},'merges':[],'dropout':0.1}}", POL_EUNSUPPORTED, "dropout"},
        {"{'model':{'type':'BPE','vocab':{'a':0},'merges':[],'continuing_subword_prefix':'##'}}", POL_EUNSUPPORTED,
         "continuing_subword_prefix"},
        {"{'model':{'type':'BPE','vocab':{'a':0},'merges':[],'end_of_word_suffix':'</w>'}}", POL_EUNSUPPORTED,
         "end_of_word_suffix"},
        {"{'model':{'type':'BPE','vocab':{'a':0},'merges':['a b']}}", POL_EFORMAT, "merges[0]"},
        {"{'model':{'type':'BPE','vocab':{'a':0},'merges':['a']}}", POL_EFORMAT, "merges[0]"},
        {"{'model':{'type':'BPE','vocab':{'a':0},'merges':[['a','a','a']]}}", POL_EFORMAT, "merges[0]"},
        {"{'model':{'type':'BPE','vocab':{'a':0,'b':0},'merges':[]}}", POL_EFORMAT, "twice"},
        {"{'model':{'type':'BPE','vocab':{'a':2000000000},'merges':[]}}", POL_EFORMAT, "2000000000"},
        {"{'model':{'type':'BPE','vocab':{'a':-1},'merges':[]}}", POL_EFORMAT, "no valid id"},
        {"{'model':{'type':'BPE','vocab':{'a':0},'merges':[],'unk_token':'?'}}", POL_EFORMAT, "unk_token"},
        {"{'normalizer':{'type':'BertNormalizer'}," PLAIN "}", POL_EUNSUPPORTED, "normalizer: type 'BertNormalizer'"},
        {"{'normalizer':{'type':'Precompiled'}," PLAIN "}", POL_EUNSUPPORTED, "'Precompiled'"},
        {"{'normalizer':{'type':'Replace','pattern':{'String':''},'content':'x'}," PLAIN "}", POL_EUNSUPPORTED,
         "'pattern'"},
        {"{'pre_tokenizer':{'type':'UnicodeScripts'}," PLAIN "}", POL_EUNSUPPORTED,
         "pre_tokenizer: type 'UnicodeScripts'"},
        {"{'pre_tokenizer':{'type':'Sequence','pretokenizers':[{'type':'ByteLevel'},{'type':'Digits'}]}," PLAIN "}",
         POL_EUNSUPPORTED, "after ByteLevel"},
        {"{'pre_tokenizer':{'type':'Split','pattern':{'Regex':'a{1,2}+'},'behavior':'Isolated'}," PLAIN "}",
         POL_EUNSUPPORTED, "'}+'"},
        {"{'pre_tokenizer':{'type':'Split','pattern':{'Regex':'['},'behavior':'Isolated'}," PLAIN "}", POL_EUNSUPPORTED,
         "pattern '['"},
        {"{'pre_tokenizer':{'type':'Split','pattern':{'Regex':'[[:alpha:]]'},'behavior':'Isolated'}," PLAIN "}",
         POL_EUNSUPPORTED, "a class inside a class"},
        {"{'pre_tokenizer':{'type':'Split','pattern':{'Regex':'[a&&b]'},'behavior':'Isolated'}," PLAIN "}",
         POL_EUNSUPPORTED, "intersection"},
        {"{'pre_tokenizer':{'type':'Split','pattern':{'Regex':'a'},'behavior':'Dropped'}," PLAIN "}", POL_EUNSUPPORTED,
         "'Dropped'"},
        {"{'pre_tokenizer':{'type':'Metaspace','replacement':'ab'}," PLAIN "}", POL_EFORMAT, "not one character"},
        {"{'pre_tokenizer':{'type':'Metaspace','prepend_scheme':'last'}," PLAIN "}", POL_EUNSUPPORTED, "'last'"},
        {"{'post_processor':{'type':'RobertaProcessing'}," PLAIN "}", POL_EUNSUPPORTED, "'RobertaProcessing'"},
        {"{'post_processor':{'type':'TemplateProcessing','single':[{'SpecialToken':{'id':'q'}},{'Sequence':{'id':'A'}}]}," PLAIN
         "}",
         POL_EUNSUPPORTED, "'q'"},
        {"{'added_tokens':[{'id':7,'content':'a'}]," PLAIN "}", POL_EFORMAT, "added_tokens[0]"},
        {"{'added_tokens':[{'content':'zz'}]," PLAIN "}", POL_EFORMAT, "'id'"},
        {"{'model':{'type':'BPE','vocab':{'a':0},'vocab':{'a':0}}}", POL_EFORMAT, "duplicate"},
    };
    for (size_t i = 0; i < POL_COUNT(cases); i++) {
        pol_tokenizer *tok;
        assert_fails(ctx, from_json(cases[i].text, &tok), cases[i].code, cases[i].part);
        assert_null(tok);
    }
}

static void test_runaway_pattern(void **state)
{
    (void)state;
    pol_tokenizer *tok;
    assert_ok(ctx,
              from_json("{'pre_tokenizer':{'type':'Split','pattern':{'Regex':'(a|aa)+$'},'behavior':'Isolated'}," PLAIN
                        "}",
                        &tok));
    char text[200];
    memset(text, 'a', sizeof text);
    text[199] = 'b';
    pol_token_list got = {0};
    assert_fails(ctx, pol_tokenizer_encode(tok, ctx, text, sizeof text, false, &got), POL_ELIMIT, "the pattern fails");
    assert_int_equal(got.n, 0);
    pol_token_list_free(ctx, &got);
    pol_tokenizer_free(tok);
}

/* Every step writes much for nothing, into what the step before wrote. */
static void test_growing_normalizer(void **state)
{
    (void)state;
    enum { CONTENT = 200 };
    char content[CONTENT + 1], text[100], json[2048];
    memset(content, 'a', CONTENT);
    content[CONTENT] = 0;
    memset(text, 'b', sizeof text);
    snprintf(
        json, sizeof json,
        "{'normalizer':{'type':'Sequence','normalizers':[{'type':'Replace','pattern':{'Regex':'x*'},'content':'%s'},"
        "{'type':'Replace','pattern':{'Regex':'x*'},'content':'%s'}]}," PLAIN "}",
        content, content);
    pol_tokenizer *tok;
    assert_ok(ctx, from_json(json, &tok));
    pol_token_list got = {0};
    assert_fails(ctx, pol_tokenizer_encode(tok, ctx, text, sizeof text, false, &got), POL_ELIMIT,
                 "normalizer: it makes more than 71936 bytes of a text of 100");
    pol_token_list_free(ctx, &got);
    pol_tokenizer_free(tok);
}

static void test_invalid_text(void **state)
{
    (void)state;
    pol_tokenizer *tok;
    pol_token_list got = {0};
    assert_ok(ctx, from_json("{" PLAIN "}", &tok));
    assert_fails(ctx,
                 pol_tokenizer_encode(tok, ctx,
                                      "ab\xff"
                                      "c",
                                      4, false, &got),
                 POL_EFORMAT, "byte 2 (0xff)");
    assert_int_equal(got.n, 0);
    pol_tokenizer_free(tok);
}

/* ---- tokenizer.model ---- */

static void check_model(const void *data, size_t n, pol_status code, const char *part)
{
    pol_tokenizer *tok;
    assert_fails(ctx, pol_tokenizer_from_model(ctx, "tokenizer.model", data, n, &tok), code, part);
    assert_null(tok);
}

#define PIECE_UNK "\x0a\x09\x0a\x05<unk>\x18\x02"
#define PIECE_A        \
    "\x0a\x03\x0a\x01" \
    "a"
#define SPEC_BPE "\x12\x02\x18\x02"
#define CHECK_MODEL(bytes, code, part) check_model(bytes, sizeof(bytes) - 1, code, part)

static void test_refused_models(void **state)
{
    (void)state;
    check_model("", 0, POL_EFORMAT, "empty");
    CHECK_MODEL(PIECE_UNK PIECE_A, POL_EUNSUPPORTED, "model_type UNIGRAM");
    CHECK_MODEL(PIECE_UNK PIECE_A "\x12\x02\x18\x04", POL_EUNSUPPORTED, "model_type CHAR");
    CHECK_MODEL(PIECE_A SPEC_BPE, POL_EFORMAT, "no piece of type UNKNOWN");
    CHECK_MODEL(PIECE_UNK PIECE_A PIECE_A SPEC_BPE, POL_EFORMAT, "both 'a'");
    CHECK_MODEL(PIECE_UNK "\x0a\x05\x0a\x01"
                          "b\x18\x05" SPEC_BPE,
                POL_EUNSUPPORTED, "UNUSED");
    CHECK_MODEL(PIECE_UNK "\x0a\x05\x0a\x01"
                          "b\x18\x09" SPEC_BPE,
                POL_EFORMAT, "type 9");
    CHECK_MODEL(PIECE_UNK "\x0a\x08\x0a\x01"
                          "b\x15\x00\x00\xc0\x7f" SPEC_BPE,
                POL_EFORMAT, "not finite");
    CHECK_MODEL(PIECE_UNK "\x0a\x00" SPEC_BPE, POL_EFORMAT, "empty");
    CHECK_MODEL(PIECE_UNK "\x1a\x03\x12\x01x" SPEC_BPE, POL_EUNSUPPORTED, "precompiled_charsmap");
    CHECK_MODEL(PIECE_UNK "\x12\x03\xc0\x01\x01" SPEC_BPE, POL_EUNSUPPORTED, "treat_whitespace_as_suffix");
    CHECK_MODEL(PIECE_UNK "\x12\x05\x18\x02\x98\x02\x01", POL_EFORMAT, "256 byte pieces");
    CHECK_MODEL(PIECE_UNK "\x0a\x7f", POL_EFORMAT, "cut off");
    CHECK_MODEL("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", POL_EFORMAT, "10 bytes");
    CHECK_MODEL("\x0b", POL_EFORMAT, "wire type 3");
    CHECK_MODEL("YQ== 0\nYg== x\n", POL_EFORMAT, "byte 7");
    CHECK_MODEL("YQ== 0\nYg==\n", POL_EFORMAT, "byte 7");
    CHECK_MODEL("YQ== 0\nYQ== 1\n", POL_EFORMAT, "both 'a'");
    CHECK_MODEL("YQ== 0\nYg== 0\n", POL_EFORMAT, "twice");
    CHECK_MODEL("YQ== 0\nYg== 7\n", POL_EFORMAT, "rank 7");
    CHECK_MODEL("YQ== 0\nY*== 1\n", POL_EFORMAT, "line 2");
    CHECK_MODEL("YQ== 0\n", POL_EFORMAT, "byte 0x00");
}

/* ---- the BOS policy ---- */

static void check_policy(const char *file, const char *config, int32_t bos, int32_t eos, bool adds)
{
    char path[128];
    pol_tokenizer *tok;
    snprintf(path, sizeof path, "tokenizers/%s", file);
    assert_ok(ctx, pol_tokenizer_open_file(ctx, test_file(path), &tok));
    if (config) {
        json_t *j;
        assert_ok(ctx, pol_json_parse(ctx, "tokenizer_config.json", config, strlen(config), &j));
        assert_ok(ctx, pol_tokenizer_apply_config(tok, "tokenizer_config.json", j));
        json_decref(j);
    }
    assert_int_equal(pol_tokenizer_bos(tok), bos);
    assert_int_equal(pol_tokenizer_eos(tok), eos);
    assert_int_equal(pol_tokenizer_adds_bos(tok), adds);
    pol_tokenizer_free(tok);
}

static void test_policy(void **state)
{
    (void)state;
    check_policy("llama3-bos.json", NULL, 0, -1, true); /* the template puts <end> first */
    check_policy("llama3-bos.json", "{\"add_bos_token\": false}", 0, -1, false);
    check_policy("gpt2-prefix.json", NULL, -1, -1, false);
    check_policy("gpt2-prefix.json", "{\"bos_token\": {\"content\": \"<end>\"}, \"eos_token\": \"<end>\"}", 0, 0,
                 false);
    check_policy("gpt2-prefix.json", "{\"bos_token\": \"<end>\", \"add_bos_token\": true}", 0, -1, true);
    check_policy("gpt2-prefix.json", "{\"bos_token\": null, \"add_bos_token\": true}", -1, -1,
                 false); /* nothing to add */
    check_policy("llama.model", NULL, 1, 2, true);
    check_policy("llama.model", "{\"add_bos_token\": false}", 1, 2, false);
    check_policy("llama.gguf", NULL, 1, 2, true); /* the default of its kind */
    check_policy("llama-bpe.gguf", NULL, 0, 0, true);
    check_policy("smollm.gguf", NULL, 0, 0, false);
    json_t *j = json_pack("{s:s}", "bos_token", "<nowhere>");
    pol_tokenizer *tok;
    assert_ok(ctx, pol_tokenizer_open_file(ctx, test_file("tokenizers/llama.model"), &tok));
    assert_fails(ctx, pol_tokenizer_apply_config(tok, "tokenizer_config.json", j), POL_EFORMAT, "'<nowhere>'");
    pol_tokenizer_free(tok);
    json_decref(j);
}

/* ---- writing what a GGUF holds ---- */

/* `original` (may be NULL): the tokenizer.json that the GGUF was made from, whose vocabulary must come out again. */
static void check_spelling(const char *written, const char *original)
{
    if (!original)
        return;
    json_t *a, *b;
    assert_ok(ctx, pol_json_read(ctx, written, 1 << 24, &a));
    assert_ok(ctx, pol_json_read(ctx, test_file(original), 1 << 24, &b));
    assert_true(json_equal(json_object_get(json_object_get(a, "model"), "vocab"),
                           json_object_get(json_object_get(b, "model"), "vocab")));
    json_decref(a);
    json_decref(b);
}

static void check_written(const char *file, const char *kind, const char *original)
{
    char dir[] = "/tmp/pollard-tokenizer-XXXXXX", path[128];
    assert_non_null(mkdtemp(dir));
    pol_tokenizer *tok, *back;
    snprintf(path, sizeof path, "tokenizers/%s", file);
    assert_ok(ctx, pol_tokenizer_open_file(ctx, test_file(path), &tok));
    assert_string_equal(pol_tokenizer_kind(tok), kind);
    assert_ok(ctx, pol_tokenizer_write_json(tok, ctx, dir));
    char *written = pol_path_join(ctx, dir, "tokenizer.json"),
         *config_path = pol_path_join(ctx, dir, "tokenizer_config.json");
    check_spelling(written, original);
    assert_ok(ctx, pol_tokenizer_open_file(ctx, written, &back));
    json_t *config, *vectors;
    assert_ok(ctx, pol_json_read(ctx, config_path, 1 << 20, &config));
    assert_ok(ctx, pol_tokenizer_apply_config(back, config_path, config));
    assert_int_equal(pol_tokenizer_vocab(back), pol_tokenizer_vocab(tok));
    assert_int_equal(pol_tokenizer_bos(back), pol_tokenizer_bos(tok));
    assert_int_equal(pol_tokenizer_eos(back), pol_tokenizer_eos(tok));
    assert_int_equal(pol_tokenizer_adds_bos(back), pol_tokenizer_adds_bos(tok));
    assert_ok(ctx, pol_json_read(ctx, test_file("tokenizers/vectors.json"), 1 << 24, &vectors));
    size_t i;
    const json_t *text;
    json_array_foreach(json_object_get(vectors, "texts"), i, text) for (int special = 0; special < 2; special++)
    {
        pol_token_list a = {0}, b = {0};
        assert_ok(ctx, pol_tokenizer_encode(tok, ctx, json_string_value(text), json_string_length(text), special, &a));
        assert_ok(ctx, pol_tokenizer_encode(back, ctx, json_string_value(text), json_string_length(text), special, &b));
        assert_int_equal(a.n, b.n);
        assert_memory_equal(a.ids, b.ids, (size_t)a.n * sizeof *a.ids);
        pol_token_list_free(ctx, &a);
        pol_token_list_free(ctx, &b);
    }
    json_decref(vectors);
    json_decref(config);
    pol_free(ctx, written);
    pol_free(ctx, config_path);
    pol_tokenizer_free(back);
    pol_tokenizer_free(tok);
    assert_ok(ctx, pol_remove_tree(ctx, dir));
}

static void test_write(void **state)
{
    (void)state;
    check_written("llama.gguf", "gguf llama", NULL);
    check_written("smollm.gguf", "gguf gpt2/smollm", "tokenizers/digits-string-merges.json");
    check_written("llama-bpe.gguf", "gguf gpt2/llama-bpe", "tokenizers/llama3-bos.json");
    pol_tokenizer *tok;
    assert_ok(ctx, pol_tokenizer_open_file(ctx, test_file("tokenizers/llama.model"), &tok));
    assert_fails(ctx, pol_tokenizer_write_json(tok, ctx, "/nowhere"), POL_EARG, "files of its own");
    pol_tokenizer_free(tok);
}

/* ---- memory that runs out ---- */

/* Opening, encoding and freeing with the first, the first two, ... allocations allowed: POL_ENOMEM until all are. What
 * is lost on the way, the leak checker tells. */
static void test_no_memory(void **state)
{
    (void)state;
    static const char *const files[] = {"added-tokens.json", "metaspace-first.json", "user.model",
                                        "tiktoken.model",    "smollm.gguf",          "llama.gguf"};
    static const char text[] = "the miller's <one> daughter<end> 12";
    int64_t allowed;
    const pol_allocator a = ration(&allowed);
    for (size_t f = 0; f < POL_COUNT(files); f++) {
        char path[128];
        snprintf(path, sizeof path, "tokenizers/%s", files[f]);
        pol_status s = POL_ENOMEM;
        for (int64_t budget = 2; s != POL_OK; budget += budget < 60 ? 1 : 7) {
            pol_context *poor = NULL;
            pol_tokenizer *tok = NULL;
            pol_token_list list = {0};
            allowed = budget;
            if (pol_context_new(&a, &poor) < 0)
                continue;
            s = pol_tokenizer_open_file(poor, test_file(path), &tok);
            if (s >= 0)
                s = pol_tokenizer_encode(tok, poor, text, strlen(text), true, &list);
            assert_true(s == POL_OK || s == POL_ENOMEM);
            pol_token_list_free(poor, &list);
            pol_tokenizer_free(tok);
            pol_context_free(poor);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rank_order),      cmocka_unit_test(test_refused_json),
        cmocka_unit_test(test_runaway_pattern), cmocka_unit_test(test_growing_normalizer),
        cmocka_unit_test(test_invalid_text),    cmocka_unit_test(test_refused_models),
        cmocka_unit_test(test_policy),          cmocka_unit_test(test_write),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
