/* tokenizer.c - the public face: opening by content, the BOS policy. */
#include <string.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/model/source.h"
#include "core/model/tokenizer/internal.h"

enum { MAX_FILE = 1 << 28 }; /* the largest tokenizer.json known is an eighth of this */

/* ---- making ---- */

pol_status pol_tokenizer_new(pol_context *ctx, const char *kind, pol_tokenizer **out)
{
    *out = NULL;
    pol_tokenizer *t = pol_alloc_zero(ctx, sizeof *t);
    if (!t)
        return POL_ENOMEM;
    t->ctx = ctx;
    t->bos = t->eos = -1;
    pol_vocab_init(ctx, &t->vocab);
    pol_bpe_init(ctx, &t->bpe);
    t->raw.ctx = t->normalized.ctx = t->user.ctx = ctx;
    t->kind = pol_strdup(ctx, kind);
    if (!t->kind) {
        pol_tokenizer_free(t);
        return POL_ENOMEM;
    }
    *out = t;
    return POL_OK;
}

void pol_tokenizer_free(pol_tokenizer *t)
{
    if (!t)
        return;
    pol_vocab_free(&t->vocab);
    pol_bpe_free(&t->bpe);
    pol_literals_free(&t->raw);
    pol_literals_free(&t->normalized);
    pol_literals_free(&t->user);
    pol_normalizer_free(t->ctx, &t->normalizer);
    pol_splitter_free(&t->splitter);
    pol_free(t->ctx, t->kind);
    pol_free(t->ctx, t);
}

pol_status pol_tokenizer_finish(pol_tokenizer *t)
{
    pol_literals_seal(&t->raw);
    pol_literals_seal(&t->normalized);
    pol_literals_seal(&t->user);
    if (t->user.n)
        t->bpe.frozen = t->normalizer.user = &t->user;
    POL_TRY(pol_bpe_find_cuts(&t->bpe, &t->vocab));
    t->by_lines = pol_lines_are_independent(t);
    return POL_OK;
}

int32_t pol_tokenizer_id(const pol_tokenizer *t, const char *spelling, size_t n)
{
    const pol_literals *sets[] = {&t->raw, &t->normalized};
    for (size_t k = 0; k < POL_COUNT(sets); k++)
        for (int64_t i = 0; i < sets[k]->n; i++)
            if (sets[k]->items[i].len == n && memcmp(sets[k]->items[i].text, spelling, n) == 0)
                return sets[k]->items[i].id;
    return pol_vocab_find(&t->vocab, spelling, n);
}

/* ---- opening ---- */

static pol_status name_token(const pol_tokenizer *t, const char *name, const json_t *config, const char *key,
                             int32_t *id)
{
    const json_t *v = json_object_get(config, key);
    if (json_is_object(v)) /* an AddedToken, written out */
        v = json_object_get(v, "content");
    if (!v || json_is_null(v))
        return POL_OK;
    if (!json_is_string(v))
        return pol_fail(t->ctx, POL_EFORMAT, "%s: '%s' is not a string", name, key);
    *id = pol_tokenizer_id(t, json_string_value(v), json_string_length(v));
    if (*id < 0)
        return pol_fail(t->ctx, POL_EFORMAT, "%s: %s '%s' is not in the vocabulary", name, key, json_string_value(v));
    return POL_OK;
}

pol_status pol_tokenizer_apply_config(pol_tokenizer *t, const char *name, const json_t *config)
{
    if (!json_is_object(config))
        return pol_fail(t->ctx, POL_EFORMAT, "%s: not an object", name);
    POL_TRY(name_token(t, name, config, "bos_token", &t->bos));
    POL_TRY(name_token(t, name, config, "eos_token", &t->eos));
    return pol_json_bool_opt(t->ctx, name, config, "add_bos_token", &t->add_bos);
}

/* tokenizer_config.json beside the tokenizer, then the ids of config.json for what is still unknown. */
static pol_status apply_folder(pol_tokenizer *t, const char *dir, const json_t *model_config)
{
    char *path = pol_path_join(t->ctx, dir, "tokenizer_config.json");
    if (!path)
        return POL_ENOMEM;
    pol_status s = POL_OK;
    if (pol_path_exists(path)) {
        json_t *config = NULL;
        s = pol_json_read(t->ctx, path, MAX_FILE, &config);
        if (s >= 0)
            s = pol_tokenizer_apply_config(t, path, config);
        json_decref(config);
    }
    pol_free(t->ctx, path);
    const char *keys[] = {"bos_token_id", "eos_token_id"};
    int32_t *ids[] = {&t->bos, &t->eos};
    for (int i = 0; i < 2 && s >= 0; i++) {
        const json_t *v = json_object_get(model_config, keys[i]);
        if (*ids[i] < 0 && json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) < t->vocab.n)
            *ids[i] = (int32_t)json_integer_value(v);
    }
    return s;
}

static pol_status open_bytes(pol_context *ctx, const char *path, pol_tokenizer **out)
{
    pol_bytes text;
    POL_TRY(pol_file_read(ctx, path, MAX_FILE, &text));
    const char *data = text.data ? text.data : "";
    const size_t start = strspn(data, " \t\r\n");
    pol_status s = data[start] == '{' ? pol_tokenizer_from_json(ctx, path, data, text.len, out)
                                      : pol_tokenizer_from_model(ctx, path, data, text.len, out);
    pol_bytes_free(&text);
    return s;
}

static pol_status open_folder(pol_source *src, const char *dir, pol_tokenizer **out)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer.model"};
    pol_context *ctx = pol_source_context(src);
    for (size_t i = 0; i < POL_COUNT(names); i++) {
        char *path = pol_path_join(ctx, dir, names[i]);
        if (!path)
            return POL_ENOMEM;
        const bool there = pol_path_exists(path);
        pol_status s = there ? open_bytes(ctx, path, out) : POL_OK;
        pol_free(ctx, path);
        if (there && s >= 0 && (s = apply_folder(*out, dir, pol_source_config_json(src))) < 0) {
            pol_tokenizer_free(*out);
            *out = NULL;
        }
        if (there)
            return s;
    }
    return pol_fail(ctx, POL_EFORMAT, "%s: neither tokenizer.json nor tokenizer.model is there", dir);
}

pol_status pol_tokenizer_open(pol_source *src, pol_tokenizer **out)
{
    *out = NULL;
    return pol_source_is_gguf(src) ? pol_tokenizer_from_gguf(pol_source_context(src), pol_source_gguf(src), out)
                                   : open_folder(src, pol_source_path(src), out);
}

pol_status pol_tokenizer_open_file(pol_context *ctx, const char *path, pol_tokenizer **out)
{
    *out = NULL;
    pol_map m;
    POL_TRY(pol_map_open(ctx, path, &m));
    const bool gguf = m.size >= 4 && memcmp(m.data, "GGUF", 4) == 0;
    pol_map_close(&m);
    if (!gguf)
        return open_bytes(ctx, path, out);
    pol_gguf *g;
    POL_TRY(pol_gguf_open(ctx, path, &g));
    pol_status s = pol_tokenizer_from_gguf(ctx, g, out);
    pol_gguf_close(g);
    return s;
}

/* ---- lists of ids ---- */

pol_status pol_token_list_add(pol_context *ctx, pol_token_list *list, int32_t id)
{
    if (list->n == list->cap) {
        const int64_t cap = list->cap ? 2 * list->cap : 256;
        int32_t *ids = pol_realloc(ctx, list->ids, (size_t)cap * sizeof *ids);
        if (!ids)
            return POL_ENOMEM;
        list->ids = ids;
        list->cap = cap;
    }
    list->ids[list->n++] = id;
    return POL_OK;
}

void pol_token_list_free(pol_context *ctx, pol_token_list *list)
{
    pol_free(ctx, list->ids);
    *list = (pol_token_list){0};
}

/* ---- asking ---- */

const char *pol_tokenizer_token(const pol_tokenizer *tok, int32_t id, size_t *n)
{
    if (id < 0 || id >= tok->vocab.n || tok->vocab.tokens[id].type == POL_TOKEN_ABSENT)
        return NULL;
    *n = tok->vocab.tokens[id].len;
    return pol_vocab_text(&tok->vocab, id);
}

int32_t pol_tokenizer_vocab(const pol_tokenizer *tok) { return tok->vocab.n; }
int32_t pol_tokenizer_bos(const pol_tokenizer *tok) { return tok->bos; }
int32_t pol_tokenizer_eos(const pol_tokenizer *tok) { return tok->eos; }
bool pol_tokenizer_adds_bos(const pol_tokenizer *tok) { return tok->add_bos && tok->bos >= 0; }
const char *pol_tokenizer_kind(const pol_tokenizer *tok) { return tok->kind; }
