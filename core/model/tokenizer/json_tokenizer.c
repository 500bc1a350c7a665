/* json_tokenizer.c - Hugging Face's tokenizer.json: model, added tokens, post-processor. */
#include <string.h>

#include "core/base/json.h"
#include "core/model/tokenizer/internal.h"

/* Ids may have holes, but not so many that a small file asks for much memory. */
enum { MAX_HOLES = 1 << 16 };

typedef struct json_file {
    pol_context *ctx;
    const char *name;
    const json_t *root, *model, *vocab, *added;
    pol_tokenizer *tok;
    pol_bytes scratch;
} json_file;

/* ---- vocabulary and added tokens ---- */

static pol_status size_vocabulary(json_file *f)
{
    const char *key;
    json_t *v;
    int64_t last = -1, entries = (int64_t)json_object_size(f->vocab) + (int64_t)json_array_size(f->added);
    json_object_foreach((json_t *)f->vocab, key, v)
    {
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return pol_fail(f->ctx, POL_EFORMAT, "%s: model.vocab: '%.60s' has no valid id", f->name, key);
        last = pol_max_i64(last, json_integer_value(v));
    }
    for (size_t i = 0; i < json_array_size(f->added); i++) {
        int64_t id = 0;
        POL_TRY(pol_json_int(f->ctx, f->name, json_array_get(f->added, i), "id", 0, INT32_MAX, &id));
        last = pol_max_i64(last, id);
    }
    if (last >= entries + MAX_HOLES)
        return pol_fail(f->ctx, POL_EFORMAT, "%s: model.vocab: id %lld with %lld tokens", f->name, (long long)last,
                        (long long)entries);
    return pol_vocab_resize(&f->tok->vocab, last + 1);
}

static pol_status set_token(json_file *f, int64_t id, const char *spelling, pol_token_type type)
{
    if (f->tok->byte_level)
        return pol_set_byte_level(f->tok, f->name, id, spelling, strlen(spelling), type, &f->scratch);
    return pol_vocab_set(&f->tok->vocab, f->name, id, spelling, strlen(spelling), type, true);
}

static pol_status read_vocabulary(json_file *f)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)f->vocab, key, v) POL_TRY(set_token(f, json_integer_value(v), key, POL_TOKEN_NORMAL));
    return POL_OK;
}

/* A token that is found in normalized text is searched in its own normalized form. */
static pol_status add_literal(json_file *f, const char *content, bool normalized, pol_literal lit)
{
    if (!normalized || !f->tok->normalizer.n)
        return pol_literals_add(normalized ? &f->tok->normalized : &f->tok->raw, f->name, content, strlen(content),
                                lit);
    pol_bytes form = {.ctx = f->ctx}, spare = {.ctx = f->ctx};
    pol_search search = {.ctx = f->ctx};
    pol_status s = pol_normalize(&f->tok->normalizer, &search, content, strlen(content), true, &form, &spare);
    if (s >= 0)
        s = pol_literals_add(&f->tok->normalized, f->name, form.data ? form.data : "", form.len, lit);
    pol_search_free(&search);
    pol_bytes_free(&form);
    pol_bytes_free(&spare);
    return s;
}

static pol_status read_added_token(json_file *f, size_t index)
{
    const json_t *j = json_array_get(f->added, index);
    const char *content;
    int64_t id = -1;
    pol_literal lit = {0};
    bool normalized = true;
    POL_TRY(pol_json_str(f->ctx, f->name, j, "content", &content));
    POL_TRY(pol_json_int(f->ctx, f->name, j, "id", 0, INT32_MAX, &id));
    POL_TRY(pol_json_bool_opt(f->ctx, f->name, j, "special", &lit.special));
    normalized = !lit.special;
    POL_TRY(pol_json_bool_opt(f->ctx, f->name, j, "normalized", &normalized));
    POL_TRY(pol_json_bool_opt(f->ctx, f->name, j, "lstrip", &lit.lstrip));
    POL_TRY(pol_json_bool_opt(f->ctx, f->name, j, "rstrip", &lit.rstrip));
    POL_TRY(pol_json_bool_opt(f->ctx, f->name, j, "single_word", &lit.single_word));
    const json_t *in_vocab = json_object_get(f->vocab, content);
    if (in_vocab && json_integer_value(in_vocab) != id)
        return pol_fail(f->ctx, POL_EFORMAT, "%s: added_tokens[%zu]: '%s' has id %lld, but model.vocab has it as %lld",
                        f->name, index, content, (long long)id, (long long)json_integer_value(in_vocab));
    if (!in_vocab) {
        POL_TRY(pol_vocab_set(&f->tok->vocab, f->name, id, content, strlen(content),
                              lit.special ? POL_TOKEN_CONTROL : POL_TOKEN_USER, false));
        f->tok->vocab.tokens[id].verbatim = true;
    }
    lit.id = (int32_t)id;
    return add_literal(f, content, normalized, lit);
}

/* ---- the BPE model ---- */

static pol_status refuse_text(const json_file *f, const char *key)
{
    const char *value = "";
    POL_TRY(pol_json_str_opt(f->ctx, f->name, f->model, key, &value));
    return *value ? pol_fail(f->ctx, POL_EUNSUPPORTED, "%s: model.%s '%s' is not supported", f->name, key, value)
                  : POL_OK;
}

static pol_status check_model(const json_file *f)
{
    const char *type = json_object_get(f->model, "merges") ? "BPE" : "without a type"; /* early files name none */
    POL_TRY(pol_json_str_opt(f->ctx, f->name, f->model, "type", &type));
    if (strcmp(type, "BPE") != 0)
        return pol_fail(f->ctx, POL_EUNSUPPORTED, "%s: model.type '%s' is not supported, only BPE", f->name, type);
    double dropout = 0;
    POL_TRY(pol_json_num_opt(f->ctx, f->name, f->model, "dropout", 0, 1, &dropout));
    if (dropout > 0)
        return pol_fail(f->ctx, POL_EUNSUPPORTED, "%s: model.dropout %g is not supported", f->name, dropout);
    POL_TRY(refuse_text(f, "continuing_subword_prefix"));
    return refuse_text(f, "end_of_word_suffix");
}

/* The two halves of a merge, "a b" or ["a", "b"], as the bytes that the vocabulary stores, one after the other in
 * scratch. */
static pol_status split_merge(json_file *f, size_t index, const json_t *j, size_t *left, bool *valid)
{
    const char *a = NULL, *b = NULL;
    size_t a_len = 0;
    if (json_is_string(j)) {
        a = json_string_value(j);
        b = strchr(a, ' ');
        if (b) {
            a_len = (size_t)(b - a);
            b++;
        }
        if (b && strchr(b, ' '))
            b = NULL;
    } else if (json_array_size(j) == 2) {
        a = json_string_value(json_array_get(j, 0));
        b = json_string_value(json_array_get(j, 1));
        a_len = a ? strlen(a) : 0;
    }
    if (!a || !b)
        return pol_fail(f->ctx, POL_EFORMAT, "%s: model.merges[%zu] is not a pair", f->name, index);
    f->scratch.len = 0;
    *valid = true;
    if (!f->tok->byte_level) {
        POL_TRY(pol_bytes_add(&f->scratch, a, a_len));
        *left = a_len;
        return pol_bytes_add(&f->scratch, b, strlen(b));
    }
    POL_TRY(pol_unspell_bytes(&f->scratch, a, a_len, valid));
    *left = f->scratch.len;
    return *valid ? pol_unspell_bytes(&f->scratch, b, strlen(b), valid) : POL_OK;
}

static pol_status read_merges(json_file *f)
{
    json_t *merges;
    POL_TRY(pol_json_array(f->ctx, f->name, f->model, "merges", &merges));
    uint32_t rank = 0;
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const json_t *j = json_array_get(merges, i);
        if (json_is_string(j) &&
            strncmp(json_string_value(j), "#version", 8) == 0) /* a comment of the old merges.txt */
            continue;
        size_t left = 0;
        bool valid;
        POL_TRY(split_merge(f, i, j, &left, &valid));
        const char *text = f->scratch.data ? f->scratch.data : "";
        const pol_vocab *v = &f->tok->vocab;
        const int32_t a = valid ? pol_vocab_find(v, text, left) : -1;
        const int32_t b = valid ? pol_vocab_find(v, text + left, f->scratch.len - left) : -1;
        const int32_t result = valid ? pol_vocab_find(v, text, f->scratch.len) : -1;
        if (a < 0 || b < 0 || result < 0)
            return pol_fail(f->ctx, POL_EFORMAT, "%s: model.merges[%zu]: a part, or the whole, is not in model.vocab",
                            f->name, i);
        POL_TRY(pol_bpe_add_merge(&f->tok->bpe, a, b, rank++, result));
    }
    return POL_OK;
}

static pol_status read_bpe(json_file *f)
{
    pol_bpe *bpe = &f->tok->bpe;
    bool byte_fallback = false;
    const char *unknown = NULL;
    POL_TRY(pol_json_bool_opt(f->ctx, f->name, f->model, "byte_fallback", &byte_fallback));
    POL_TRY(pol_json_bool_opt(f->ctx, f->name, f->model, "fuse_unk", &bpe->fuse_unknown));
    POL_TRY(pol_json_bool_opt(f->ctx, f->name, f->model, "ignore_merges", &bpe->whole_first));
    POL_TRY(pol_json_str_opt(f->ctx, f->name, f->model, "unk_token", &unknown));
    if (unknown) {
        bpe->unknown = pol_tokenizer_id(f->tok, unknown, strlen(unknown));
        if (bpe->unknown < 0 || !json_object_get(f->vocab, unknown))
            return pol_fail(f->ctx, POL_EFORMAT, "%s: model.unk_token '%s' is not in model.vocab", f->name, unknown);
    }
    POL_TRY(read_merges(f));
    bpe->by_bytes = f->tok->byte_level;
    if (!bpe->by_bytes) {
        if (byte_fallback)
            pol_find_byte_tokens(f->tok, false);
        return POL_OK;
    }
    pol_find_single_bytes(f->tok);
    for (int b = 0; b < 256; b++)
        if (bpe->byte_id[b] < 0 && (byte_fallback || (unknown && bpe->fuse_unknown)))
            return pol_fail(f->ctx, POL_EUNSUPPORTED,
                            "%s: model.byte_fallback or fuse_unk with ByteLevel and no token for the byte 0x%02x",
                            f->name, b);
    return POL_OK;
}

/* ---- the post-processor: only whether it puts BOS first, and what comes last ---- */

static pol_status template_token(json_file *f, const json_t *template, const json_t *item, int32_t *id)
{
    const json_t *special = json_object_get(item, "SpecialToken");
    const char *key = json_string_value(json_object_get(special, "id"));
    const json_t *ids =
        json_object_get(json_object_get(json_object_get(template, "special_tokens"), key ? key : ""), "ids");
    const json_t *first = json_array_get(ids, 0);
    if (!key || json_array_size(ids) != 1 || !json_is_integer(first) || json_integer_value(first) < 0 ||
        json_integer_value(first) >= f->tok->vocab.n)
        return pol_fail(f->ctx, POL_EUNSUPPORTED, "%s: post_processor: token '%s' is not one token of the vocabulary",
                        f->name, key ? key : "");
    *id = (int32_t)json_integer_value(first);
    return POL_OK;
}

static pol_status read_template(json_file *f, const json_t *j)
{
    json_t *single;
    POL_TRY(pol_json_array(f->ctx, f->name, j, "single", &single));
    const size_t n = json_array_size(single);
    size_t at = 0;
    while (at < n && !json_object_get(json_array_get(single, at), "Sequence"))
        at++;
    if (at == n || at > 1)
        return pol_fail(f->ctx, POL_EUNSUPPORTED, "%s: post_processor: %zu tokens before the text", f->name, at);
    if (at == 1) {
        POL_TRY(template_token(f, j, json_array_get(single, 0), &f->tok->bos));
        f->tok->add_bos = true;
    }
    return at + 2 == n ? template_token(f, j, json_array_get(single, n - 1), &f->tok->eos) : POL_OK;
}

static pol_status read_post_processor(json_file *f, const json_t *j, int depth)
{
    if (!j || json_is_null(j))
        return POL_OK;
    const char *type;
    json_t *list;
    POL_TRY(pol_json_str(f->ctx, f->name, j, "type", &type));
    if (strcmp(type, "TemplateProcessing") == 0)
        return read_template(f, j);
    if (strcmp(type, "ByteLevel") == 0) /* only moves offsets */
        return POL_OK;
    if (strcmp(type, "Sequence") != 0 || depth == POL_MAX_STEPS)
        return pol_fail(f->ctx, POL_EUNSUPPORTED, "%s: post_processor: type '%s' is not supported", f->name, type);
    POL_TRY(pol_json_array(f->ctx, f->name, j, "processors", &list));
    for (size_t i = 0; i < json_array_size(list); i++)
        POL_TRY(read_post_processor(f, json_array_get(list, i), depth + 1));
    return POL_OK;
}

/* ---- all together ---- */

static pol_status fill(json_file *f)
{
    json_t *model, *vocab;
    if (!json_is_object(f->root))
        return pol_fail(f->ctx, POL_EFORMAT, "%s: not an object", f->name);
    POL_TRY(pol_json_object(f->ctx, f->name, f->root, "model", &model));
    f->model = model;
    POL_TRY(check_model(f));
    POL_TRY(pol_json_object(f->ctx, f->name, model, "vocab", &vocab));
    f->vocab = vocab;
    f->added = json_object_get(f->root, "added_tokens");
    pol_tokenizer *t = f->tok;
    POL_TRY(pol_read_normalizer(f->ctx, f->name, json_object_get(f->root, "normalizer"), &t->normalizer));
    POL_TRY(pol_read_pre_tokenizer(f->ctx, f->name, json_object_get(f->root, "pre_tokenizer"), &t->splitter,
                                   &t->byte_level));
    POL_TRY(size_vocabulary(f));
    POL_TRY(read_vocabulary(f));
    POL_TRY(read_bpe(f));
    for (size_t i = 0; i < json_array_size(f->added); i++)
        POL_TRY(read_added_token(f, i));
    return read_post_processor(f, json_object_get(f->root, "post_processor"), 0);
}

pol_status pol_tokenizer_from_json(pol_context *ctx, const char *name, const void *text, size_t n, pol_tokenizer **out)
{
    *out = NULL;
    json_t *root;
    POL_TRY(pol_json_parse(ctx, name, text, n, &root));
    json_file f = {.ctx = ctx, .name = name, .root = root, .scratch = {.ctx = ctx}};
    pol_status s = pol_tokenizer_new(ctx, "bpe (tokenizer.json)", &f.tok);
    if (s >= 0)
        s = fill(&f);
    pol_bytes_free(&f.scratch);
    json_decref(root);
    if (s >= 0)
        s = pol_tokenizer_finish(f.tok);
    if (s < 0) {
        pol_tokenizer_free(f.tok);
        return s;
    }
    *out = f.tok;
    return POL_OK;
}
