/* write_json.c - a GGUF's vocabulary as tokenizer.json and tokenizer_config.json. */
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/utf8.h"
#include "core/model/tokenizer/export.h"
#include "core/model/tokenizer/internal.h"
#include "core/model/tokenizer/unicode.h"

typedef struct writer {
    const pol_tokenizer *tok;
    pol_context *ctx;
    pol_bytes spelling; /* the last one that spell() made */
} writer;

static pol_status no_memory(const writer *w) { return pol_fail(w->ctx, POL_ENOMEM, "no memory for tokenizer.json"); }

/* How a file writes a token: a byte-level vocabulary in GPT-2's alphabet. */
static pol_status spell(writer *w, int32_t id)
{
    const pol_token *t = &w->tok->vocab.tokens[id];
    const char *text = pol_vocab_text(&w->tok->vocab, id);
    w->spelling.len = 0;
    POL_TRY(w->tok->byte_level && !t->verbatim ? pol_spell_bytes(&w->spelling, text, t->len)
                                               : pol_bytes_add(&w->spelling, text, t->len));
    if (pol_utf8_check(w->spelling.data, w->spelling.len, NULL) && !memchr(w->spelling.data, 0, w->spelling.len))
        return POL_OK;
    return pol_fail(w->ctx, POL_EUNSUPPORTED, "tokenizer.json: token %d is not UTF-8, or has a 0 byte", id);
}

static pol_status spelled(writer *w, int32_t id, json_t **out)
{
    POL_TRY(spell(w, id));
    *out = json_stringn(w->spelling.data, w->spelling.len);
    return *out ? POL_OK : no_memory(w);
}

/* ---- vocabulary ---- */

static pol_status add_vocabulary(writer *w, json_t *vocab)
{
    for (int32_t id = 0; id < w->tok->vocab.n; id++) {
        POL_TRY(spell(w, id));
        if (w->tok->vocab.tokens[id].type == POL_TOKEN_UNUSED && json_object_get(vocab, w->spelling.data))
            continue; /* padding that repeats itself: a hole in the numbering */
        if (json_object_set_new(vocab, w->spelling.data, json_integer(id)) < 0)
            return no_memory(w);
    }
    return POL_OK;
}

static pol_status add_added_tokens(writer *w, json_t *added)
{
    for (int32_t id = 0; id < w->tok->vocab.n; id++) {
        const uint8_t type = w->tok->vocab.tokens[id].type;
        if (type != POL_TOKEN_CONTROL && type != POL_TOKEN_USER && type != POL_TOKEN_UNKNOWN)
            continue;
        if (type == POL_TOKEN_USER && w->tok->gguf == POL_GGUF_LLAMA && w->tok->space_prefix)
            return pol_fail(w->ctx, POL_EUNSUPPORTED,
                            "tokenizer.json: user-defined token %d: with a space before the text it cannot be written",
                            id);
        POL_TRY(spell(w, id));
        json_t *j =
            json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", id, "content", w->spelling.data, "single_word", 0,
                      "lstrip", 0, "rstrip", 0, "normalized", 0, "special", type != POL_TOKEN_USER);
        if (!j || json_array_append_new(added, j) < 0)
            return no_memory(w);
    }
    return POL_OK;
}

/* ---- merges ---- */

typedef struct merge {
    uint32_t rank, left_len;
    int32_t left, right;
} merge;

typedef struct merge_list {
    merge *items;
    int64_t n, cap;
} merge_list;

/* By rank; the ways to make one token by the length of the left half, the longest first: transformers' order. */
static int merge_order(const void *a, const void *b)
{
    const merge *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    if (x->left_len != y->left_len)
        return x->left_len > y->left_len ? -1 : 1;
    return (x->left > y->left) - (x->left < y->left);
}

static pol_status note_merge(writer *w, merge_list *l, merge m)
{
    if (l->n == l->cap) {
        const int64_t cap = l->cap ? 2 * l->cap : 1024;
        merge *items = pol_realloc(w->ctx, l->items, (size_t)cap * sizeof *items);
        if (!items)
            return POL_ENOMEM;
        l->items = items;
        l->cap = cap;
    }
    l->items[l->n++] = m;
    return POL_OK;
}

static pol_status merges_of_table(writer *w, merge_list *l)
{
    const pol_table *t = &w->tok->bpe.merges;
    for (uint64_t i = 0; t->slots && i <= t->mask; i++)
        if (t->slots[i].value != POL_TABLE_EMPTY)
            POL_TRY(note_merge(w, l,
                               (merge){.rank = (uint32_t)(t->slots[i].value >> 32),
                                       .left = (int32_t)(t->slots[i].key >> 32),
                                       .right = (int32_t)(uint32_t)t->slots[i].key}));
    return POL_OK;
}

/* Every way to make a token out of two. */
static pol_status merges_of_scores(writer *w, merge_list *l)
{
    const pol_vocab *v = &w->tok->vocab;
    for (int32_t id = 0; id < v->n; id++) {
        const char *text = pol_vocab_text(v, id);
        const size_t n = v->tokens[id].len;
        if (w->tok->bpe.rank[id] == POL_NO_RANK || !pol_utf8_check(text, n, NULL))
            continue;
        for (size_t cut = pol_utf8_length(text); cut < n; cut += pol_utf8_length(text + cut)) {
            const int32_t left = pol_vocab_find(v, text, cut), right = pol_vocab_find(v, text + cut, n - cut);
            if (left >= 0 && right >= 0)
                POL_TRY(note_merge(w, l, (merge){w->tok->bpe.rank[id], (uint32_t)cut, left, right}));
        }
    }
    return POL_OK;
}

static pol_status add_merges(writer *w, json_t *merges)
{
    merge_list l = {0};
    pol_status s = w->tok->bpe.rank ? merges_of_scores(w, &l) : merges_of_table(w, &l);
    if (s >= 0 && l.n)
        qsort(l.items, (size_t)l.n, sizeof *l.items, merge_order);
    for (int64_t i = 0; i < l.n && s >= 0; i++) {
        json_t *left = NULL, *right = NULL;
        s = spelled(w, l.items[i].left, &left);
        if (s >= 0)
            s = spelled(w, l.items[i].right, &right);
        json_t *pair = s >= 0 ? json_pack("[o, o]", left, right) : NULL;
        if (s >= 0 && (!pair || json_array_append_new(merges, pair) < 0))
            s = no_memory(w);
        if (s < 0 && !pair)
            json_decref(left);
    }
    pol_free(w->ctx, l.items);
    return s;
}

/* ---- the steps ---- */

/* What the splitter does, in the words of tokenizer.json. */
static json_t *pre_tokenizer(const pol_tokenizer *tok)
{
    bool digits = false, llama3 = tok->bpe.whole_first;
    for (int i = 0; i + 1 < tok->splitter.n; i++)
        digits = digits || tok->splitter.steps[i].kind == POL_SPLIT_PATTERN;
    json_t *list = json_array();
    if (digits)
        json_array_append_new(list, json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", 1));
    if (llama3)
        json_array_append_new(list, json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex",
                                              pol_regex_llama3, "behavior", "Isolated", "invert", 0));
    json_array_append_new(list, json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space",
                                          tok->space_prefix, "trim_offsets", 1, "use_regex", !llama3));
    return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", list);
}

static json_t *llama_normalizer(const pol_tokenizer *tok)
{
    json_t *list = json_array();
    if (tok->space_prefix)
        json_array_append_new(list, json_pack("{s:s, s:s}", "type", "Prepend", "prepend", POL_SPACE_MARK));
    json_array_append_new(
        list, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", " ", "content", POL_SPACE_MARK));
    return json_pack("{s:s, s:o}", "type", "Sequence", "normalizers", list);
}

static json_t *llama_decoder(const pol_tokenizer *tok)
{
    json_t *list = json_pack("[{s:s, s:{s:s}, s:s}, {s:s}, {s:s}]", "type", "Replace", "pattern", "String",
                             POL_SPACE_MARK, "content", " ", "type", "ByteFallback", "type", "Fuse");
    if (tok->space_prefix)
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ", "start", 1, "stop", 0));
    return json_pack("{s:s, s:o}", "type", "Sequence", "decoders", list);
}

/* BOS before the text, where the policy has it. */
static pol_status post_processor(writer *w, json_t **out)
{
    const pol_tokenizer *tok = w->tok;
    *out = NULL;
    if (!pol_tokenizer_adds_bos(tok)) {
        *out = json_null();
        return POL_OK;
    }
    POL_TRY(spell(w, tok->bos));
    const char *bos = w->spelling.data;
    *out = json_pack("{s:s, s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}], s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}, {s:{s:s, s:i}}],"
                     " s:{s:{s:s, s:[i], s:[s]}}}",
                     "type", "TemplateProcessing",                                                           //
                     "single", "SpecialToken", "id", bos, "type_id", 0, "Sequence", "id", "A", "type_id", 0, //
                     "pair", "SpecialToken", "id", bos, "type_id", 0, "Sequence", "id", "A", "type_id", 0,   //
                     "Sequence", "id", "B", "type_id", 1,                                                    //
                     "special_tokens", bos, "id", bos, "ids", tok->bos, "tokens", bos);
    return *out ? POL_OK : no_memory(w);
}

static pol_status model(writer *w, json_t **out)
{
    const pol_tokenizer *tok = w->tok;
    const bool llama = tok->gguf == POL_GGUF_LLAMA;
    json_t *unknown = NULL, *vocab = json_object(), *merges = json_array();
    pol_status s = vocab && merges ? add_vocabulary(w, vocab) : no_memory(w);
    if (s >= 0)
        s = add_merges(w, merges);
    if (s >= 0 && llama && tok->bpe.unknown >= 0)
        s = spelled(w, tok->bpe.unknown, &unknown);
    if (s < 0) {
        json_decref(vocab);
        json_decref(merges);
        return s;
    }
    *out = json_pack("{s:s, s:n, s:o*, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout", "unk_token",
                     unknown, "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", llama, "byte_fallback",
                     llama, "ignore_merges", tok->bpe.whole_first, "vocab", vocab, "merges", merges);
    return *out ? POL_OK : no_memory(w);
}

static pol_status fill(writer *w, json_t *root)
{
    const bool llama = w->tok->gguf == POL_GGUF_LLAMA;
    json_t *added = json_array(), *post = NULL, *bpe = NULL;
    bool ok = json_object_set_new(root, "version", json_string("1.0")) == 0 &&
              json_object_set_new(root, "truncation", json_null()) == 0 &&
              json_object_set_new(root, "padding", json_null()) == 0 &&
              json_object_set_new(root, "added_tokens", added) == 0 &&
              json_object_set_new(root, "normalizer", llama ? llama_normalizer(w->tok) : json_null()) == 0 &&
              json_object_set_new(root, "pre_tokenizer", llama ? json_null() : pre_tokenizer(w->tok)) == 0;
    if (!ok)
        return no_memory(w);
    POL_TRY(add_added_tokens(w, added));
    POL_TRY(post_processor(w, &post));
    json_t *decoder = llama ? llama_decoder(w->tok)
                            : json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 1,
                                        "trim_offsets", 1, "use_regex", 1);
    ok = json_object_set_new(root, "post_processor", post) == 0 && json_object_set_new(root, "decoder", decoder) == 0;
    if (!ok)
        return no_memory(w);
    POL_TRY(model(w, &bpe));
    return json_object_set_new(root, "model", bpe) == 0 ? POL_OK : no_memory(w);
}

static pol_status fill_config(writer *w, json_t *root)
{
    const struct {
        const char *key;
        int32_t id;
    } named[] = {{"bos_token", w->tok->bos}, {"eos_token", w->tok->eos}, {"unk_token", w->tok->bpe.unknown}};
    bool ok = json_object_set_new(root, "tokenizer_class", json_string("PreTrainedTokenizerFast")) == 0 &&
              json_object_set_new(root, "add_bos_token", json_boolean(pol_tokenizer_adds_bos(w->tok))) == 0 &&
              json_object_set_new(root, "add_eos_token", json_false()) == 0 &&
              json_object_set_new(root, "clean_up_tokenization_spaces", json_false()) == 0;
    for (size_t i = 0; i < POL_COUNT(named) && ok; i++) {
        json_t *token = NULL;
        if (named[i].id < 0)
            continue;
        POL_TRY(spelled(w, named[i].id, &token));
        ok = json_object_set_new(root, named[i].key, token) == 0;
    }
    return ok ? POL_OK : no_memory(w);
}

static pol_status write_one(writer *w, const char *dir, const char *name, pol_status (*fill_root)(writer *, json_t *))
{
    char *path = pol_path_join(w->ctx, dir, name);
    json_t *root = path ? json_object() : NULL;
    pol_status s = !path ? POL_ENOMEM : !root ? no_memory(w) : fill_root(w, root);
    if (s >= 0)
        s = pol_json_write(w->ctx, path, root);
    json_decref(root);
    pol_free(w->ctx, path);
    return s;
}

pol_status pol_tokenizer_write_json(const pol_tokenizer *tok, pol_context *ctx, const char *dir)
{
    if (tok->gguf == POL_GGUF_NONE)
        return pol_fail(ctx, POL_EARG, "%s: a tokenizer of kind '%s' has files of its own", dir, tok->kind);
    writer w = {.tok = tok, .ctx = ctx, .spelling = {.ctx = ctx}};
    pol_status s = write_one(&w, dir, "tokenizer.json", fill);
    if (s >= 0)
        s = write_one(&w, dir, "tokenizer_config.json", fill_config);
    pol_bytes_free(&w.spelling);
    return s;
}
