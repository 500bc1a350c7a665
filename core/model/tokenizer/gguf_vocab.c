/* gguf_vocab.c - the vocabulary inside a GGUF: `llama` is SentencePiece BPE with scores, `gpt2` byte-level BPE with
 * merges. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/utf8.h"
#include "core/model/tokenizer/internal.h"

typedef struct gguf_file {
    pol_context *ctx;
    const pol_gguf *g;
    const char *name;
    pol_tokenizer *tok;
    pol_bytes scratch;
} gguf_file;

/* What tokenizer.ggml.pre stands for. Names with the same cut share an entry. */
typedef enum cut_kind { CUT_GPT2, CUT_DIGITS_GPT2, CUT_LLAMA3 } cut_kind;

static const struct {
    const char *name;
    cut_kind cut;
} cuts[] = {{"default", CUT_GPT2},          {"gpt-2", CUT_GPT2},         {"smollm", CUT_DIGITS_GPT2},
            {"starcoder", CUT_DIGITS_GPT2}, {"refact", CUT_DIGITS_GPT2}, {"command-r", CUT_DIGITS_GPT2},
            {"codeshell", CUT_DIGITS_GPT2}, {"llama-bpe", CUT_LLAMA3},   {"llama3", CUT_LLAMA3},
            {"llama-v3", CUT_LLAMA3}};

static pol_status add_cuts(gguf_file *f)
{
    const char *pre = "default";
    size_t n = strlen(pre);
    if (!pol_gguf_str(f->g, "tokenizer.ggml.pre", &pre, &n))
        pol_log(f->ctx, POL_LOG_WARN, "%s: no tokenizer.ggml.pre: words are cut as GPT-2 does", f->name);
    size_t k = 0;
    while (k < POL_COUNT(cuts) && !(strlen(cuts[k].name) == n && memcmp(cuts[k].name, pre, n) == 0))
        k++;
    if (k == POL_COUNT(cuts))
        return pol_fail(f->ctx, POL_EUNSUPPORTED, "%s: tokenizer.ggml.pre '%.*s' is not supported", f->name,
                        (int)(n < 60 ? n : 60), pre);
    pol_tokenizer *t = f->tok;
    char *kind = pol_format(f->ctx, "gguf gpt2/%s", cuts[k].name);
    if (!kind)
        return POL_ENOMEM;
    pol_free(f->ctx, t->kind);
    t->kind = kind;
    if (t->space_prefix)
        t->splitter.steps[t->splitter.n++] = (pol_split_step){.kind = POL_SPLIT_PREFIX_SPACE};
    if (cuts[k].cut == CUT_DIGITS_GPT2)
        POL_TRY(pol_splitter_add_pattern(f->ctx, &t->splitter, f->name, pol_regex_digit, POL_SPLIT_ISOLATED, false));
    t->bpe.whole_first = cuts[k].cut == CUT_LLAMA3;
    t->add_bos = cuts[k].cut == CUT_LLAMA3;
    return pol_splitter_add_pattern(f->ctx, &t->splitter, f->name,
                                    cuts[k].cut == CUT_LLAMA3 ? pol_regex_llama3 : pol_regex_gpt2, POL_SPLIT_ISOLATED,
                                    false);
}

static pol_status missing(const gguf_file *f, const char *key, int64_t i)
{
    return pol_fail(f->ctx, POL_EFORMAT, "%s: %s: no valid element %lld", f->name, key, (long long)i);
}

/* ---- tokens ---- */

static pol_status read_token(gguf_file *f, int64_t id)
{
    const char *text;
    size_t n;
    int64_t type = POL_TOKEN_NORMAL;
    pol_tokenizer *t = f->tok;
    if (!pol_gguf_array_str(f->g, "tokenizer.ggml.tokens", id, &text, &n))
        return missing(f, "tokenizer.ggml.tokens", id);
    if (pol_gguf_array(f->g, "tokenizer.ggml.token_type") >= 0 &&
        (!pol_gguf_array_int(f->g, "tokenizer.ggml.token_type", id, &type) || type < POL_TOKEN_NORMAL ||
         type > POL_TOKEN_BYTE))
        return missing(f, "tokenizer.ggml.token_type", id);
    /* Padding up to a round size, often the same text many times: never found, never made. */
    if (type == POL_TOKEN_UNUSED)
        return pol_vocab_set(&t->vocab, f->name, id, text, n, POL_TOKEN_UNUSED, false);
    if (t->gguf == POL_GGUF_GPT2) {
        if (!pol_utf8_check(text, n, NULL))
            return missing(f, "tokenizer.ggml.tokens", id);
        POL_TRY(pol_set_byte_level(t, f->name, id, text, n, (pol_token_type)type, &f->scratch));
    } else {
        POL_TRY(pol_vocab_set(&t->vocab, f->name, id, text, n, (pol_token_type)type, true));
    }
    if (type == POL_TOKEN_CONTROL || type == POL_TOKEN_UNKNOWN)
        return pol_literals_add(&t->raw, f->name, text, n, (pol_literal){.id = (int32_t)id, .special = true});
    if (type == POL_TOKEN_USER)
        return pol_literals_add(t->gguf == POL_GGUF_LLAMA ? &t->user : &t->raw, f->name, text, n,
                                (pol_literal){.id = (int32_t)id});
    return POL_OK;
}

static pol_status read_tokens(gguf_file *f)
{
    const int64_t n = pol_gguf_array(f->g, "tokenizer.ggml.tokens");
    if (n <= 0)
        return pol_fail(f->ctx, POL_EFORMAT, "%s: tokenizer.ggml.tokens is missing or empty", f->name);
    POL_TRY(pol_vocab_resize(&f->tok->vocab, n));
    for (int64_t i = 0; i < n; i++)
        POL_TRY(read_token(f, i));
    return POL_OK;
}

/* ---- the two models ---- */

static pol_status read_scores(gguf_file *f, float *score, bool *usable)
{
    pol_tokenizer *t = f->tok;
    for (int32_t i = 0; i < t->vocab.n; i++) {
        double x;
        if (!pol_gguf_array_float(f->g, "tokenizer.ggml.scores", i, &x) || !isfinite(x))
            return missing(f, "tokenizer.ggml.scores", i);
        score[i] = (float)x;
        usable[i] = t->vocab.tokens[i].type == POL_TOKEN_NORMAL || t->vocab.tokens[i].type == POL_TOKEN_USER;
        if (t->vocab.tokens[i].type == POL_TOKEN_UNKNOWN && t->bpe.unknown < 0)
            t->bpe.unknown = i;
    }
    return pol_rank_by_score(t, score, usable);
}

static pol_status read_llama(gguf_file *f)
{
    pol_tokenizer *t = f->tok;
    float *score = pol_alloc_array(f->ctx, t->vocab.n, sizeof *score);
    bool *usable = pol_alloc_array(f->ctx, t->vocab.n, sizeof *usable);
    pol_status s = score && usable ? read_scores(f, score, usable) : POL_ENOMEM;
    pol_free(f->ctx, score);
    pol_free(f->ctx, usable);
    POL_TRY(s);
    pol_find_byte_tokens(t, true);
    t->bpe.fuse_unknown = true;
    t->normalizer.steps[0] =
        (pol_normal_step){.kind = POL_NORMAL_SENTENCEPIECE, .prefix = t->space_prefix, .mark = true};
    t->normalizer.n = 1;
    return POL_OK;
}

static pol_status read_merge(gguf_file *f, int64_t i)
{
    const char *text;
    size_t n;
    bool first = false, second = false;
    if (!pol_gguf_array_str(f->g, "tokenizer.ggml.merges", i, &text, &n) || n < 3 || !pol_utf8_check(text, n, NULL))
        return missing(f, "tokenizer.ggml.merges", i);
    const char *space = memchr(text + 1, ' ', n - 1);
    if (!space)
        return missing(f, "tokenizer.ggml.merges", i);
    f->scratch.len = 0;
    POL_TRY(pol_unspell_bytes(&f->scratch, text, (size_t)(space - text), &first));
    const size_t left = f->scratch.len;
    POL_TRY(pol_unspell_bytes(&f->scratch, space + 1, n - (size_t)(space - text) - 1, &second));
    const pol_vocab *v = &f->tok->vocab;
    const char *bytes = f->scratch.data;
    const bool spelled = first && second;
    const int32_t a = spelled ? pol_vocab_find(v, bytes, left) : -1;
    const int32_t b = spelled ? pol_vocab_find(v, bytes + left, f->scratch.len - left) : -1;
    const int32_t result = spelled ? pol_vocab_find(v, bytes, f->scratch.len) : -1;
    if (a < 0 || b < 0 || result < 0)
        return pol_fail(f->ctx, POL_EFORMAT,
                        "%s: tokenizer.ggml.merges[%lld]: '%.*s': a part, or the whole, is not a token", f->name,
                        (long long)i, (int)(n < 60 ? n : 60), text);
    return pol_bpe_add_merge(&f->tok->bpe, a, b, (uint32_t)i, result);
}

static pol_status read_gpt2(gguf_file *f)
{
    const int64_t n = pol_gguf_array(f->g, "tokenizer.ggml.merges");
    if (n < 0)
        return pol_fail(f->ctx, POL_EFORMAT, "%s: tokenizer.ggml.merges is missing", f->name);
    for (int64_t i = 0; i < n; i++)
        POL_TRY(read_merge(f, i));
    f->tok->bpe.by_bytes = true;
    pol_find_single_bytes(f->tok);
    return add_cuts(f);
}

/* ---- all together ---- */

static bool flag(const gguf_file *f, const char *key, bool otherwise)
{
    int64_t v;
    return pol_gguf_int(f->g, key, &v) ? v != 0 : otherwise;
}

static int32_t token_of(const gguf_file *f, const char *key)
{
    int64_t v;
    return pol_gguf_int(f->g, key, &v) && v >= 0 && v < f->tok->vocab.n ? (int32_t)v : -1;
}

static pol_status fill(gguf_file *f, const char *model, size_t n)
{
    pol_tokenizer *t = f->tok;
    if (n == 5 && memcmp(model, "llama", 5) == 0)
        t->gguf = POL_GGUF_LLAMA;
    else if (n == 4 && memcmp(model, "gpt2", 4) == 0)
        t->gguf = POL_GGUF_GPT2;
    else
        return pol_fail(f->ctx, POL_EUNSUPPORTED, "%s: tokenizer.ggml.model '%.*s' is not supported", f->name,
                        (int)(n < 60 ? n : 60), model);
    t->byte_level = t->gguf == POL_GGUF_GPT2;
    t->space_prefix = flag(f, "tokenizer.ggml.add_space_prefix", t->gguf == POL_GGUF_LLAMA);
    t->add_bos = t->gguf == POL_GGUF_LLAMA;
    POL_TRY(read_tokens(f));
    POL_TRY(t->gguf == POL_GGUF_LLAMA ? read_llama(f) : read_gpt2(f));
    t->bos = token_of(f, "tokenizer.ggml.bos_token_id");
    t->eos = token_of(f, "tokenizer.ggml.eos_token_id");
    t->add_bos = flag(f, "tokenizer.ggml.add_bos_token", t->add_bos);
    return POL_OK;
}

pol_status pol_tokenizer_from_gguf(pol_context *ctx, const pol_gguf *g, pol_tokenizer **out)
{
    *out = NULL;
    gguf_file f = {.ctx = ctx, .g = g, .name = pol_gguf_name(g), .scratch = {.ctx = ctx}};
    const char *model;
    size_t n;
    if (!pol_gguf_str(g, "tokenizer.ggml.model", &model, &n))
        return pol_fail(ctx, POL_EFORMAT, "%s: tokenizer.ggml.model is missing", f.name);
    POL_TRY(pol_tokenizer_new(ctx, "gguf llama", &f.tok));
    pol_status s = fill(&f, model, n);
    pol_bytes_free(&f.scratch);
    if (s >= 0)
        s = pol_tokenizer_finish(f.tok);
    if (s < 0) {
        pol_tokenizer_free(f.tok);
        return s;
    }
    *out = f.tok;
    return POL_OK;
}
