/* tiktoken.c - LLaMA 3's tokenizer.model: lines of "base64 of the token, rank", and how a tokenizer.model is told
 * apart. */
#include <string.h>

#include "core/model/tokenizer/internal.h"

enum { SPECIAL_TOKENS = 256 };

/* In the order of their ids, after the last rank; the rest of the 256 are reserved and numbered on from 2. */
static const char *const special[] = {"<|begin_of_text|>",
                                      "<|end_of_text|>",
                                      "<|reserved_special_token_0|>",
                                      "<|reserved_special_token_1|>",
                                      "<|finetune_right_pad_id|>",
                                      "<|step_id|>",
                                      "<|start_header_id|>",
                                      "<|end_header_id|>",
                                      "<|eom_id|>",
                                      "<|eot_id|>",
                                      "<|python_tag|>",
                                      "<|image|>"};

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* text[0, n) must be whole groups of four. */
static pol_status decode_base64(pol_bytes *out, const char *text, size_t n, bool *valid)
{
    out->len = 0;
    *valid = n > 0 && n % 4 == 0;
    for (size_t i = 0; *valid && i < n; i += 4) {
        const int padding = i + 4 < n ? 0 : (text[i + 3] == '=') + (text[i + 3] == '=' && text[i + 2] == '=');
        uint32_t group = 0;
        for (int k = 0; k < 4; k++) {
            const int v = k >= 4 - padding ? 0 : base64_value(text[i + k]);
            *valid = *valid && v >= 0;
            group = group << 6 | (uint32_t)(v & 63);
        }
        const char bytes[3] = {(char)(group >> 16 & 255), (char)(group >> 8 & 255), (char)(group & 255)};
        POL_TRY(pol_bytes_add(out, bytes, (size_t)(3 - padding)));
    }
    return POL_OK;
}

typedef struct line {
    const char *token;
    size_t token_len;
    int64_t rank;
} line;

/* The line at *at, which moves on; blank lines are passed over. *more is false at the end. */
static pol_status take_line(pol_context *ctx, const char *name, const char *text, size_t n, size_t *at, line *l,
                            bool *more)
{
    while (*at < n && (text[*at] == '\n' || text[*at] == '\r'))
        (*at)++;
    *more = *at < n;
    if (!*more)
        return POL_OK;
    const size_t start = *at;
    while (*at < n && text[*at] != ' ' && text[*at] != '\n')
        (*at)++;
    l->token = text + start;
    l->token_len = *at - start;
    l->rank = -1;
    if (*at < n && text[*at] == ' ') {
        (*at)++;
        for (int digits = 0; *at < n && text[*at] >= '0' && text[*at] <= '9' && digits < 9; digits++, (*at)++)
            l->rank = (l->rank < 0 ? 0 : l->rank) * 10 + (text[*at] - '0');
    }
    if (l->rank < 0 || (*at < n && text[*at] != '\n' && text[*at] != '\r'))
        return pol_fail(ctx, POL_EFORMAT, "%s: byte %zu: a line is not a token in base64 and its rank", name, start);
    return POL_OK;
}

static pol_status read_lines(pol_tokenizer *tok, const char *name, const char *text, size_t n, pol_bytes *token)
{
    int64_t lines = 0;
    size_t at = 0;
    line l;
    bool more;
    for (;; lines++) {
        POL_TRY(take_line(tok->ctx, name, text, n, &at, &l, &more));
        if (!more)
            break;
    }
    POL_TRY(pol_vocab_resize(&tok->vocab, lines + SPECIAL_TOKENS));
    tok->bpe.rank = pol_alloc_array(tok->ctx, tok->vocab.n, sizeof *tok->bpe.rank);
    if (!tok->bpe.rank)
        return POL_ENOMEM;
    at = 0;
    for (int64_t i = 0; i < lines; i++) {
        bool valid;
        POL_TRY(take_line(tok->ctx, name, text, n, &at, &l, &more));
        POL_TRY(decode_base64(token, l.token, l.token_len, &valid));
        if (!valid || l.rank >= lines)
            return pol_fail(tok->ctx, POL_EFORMAT,
                            "%s: line %lld: '%.*s' is not base64, or its rank %lld is above the number of lines", name,
                            (long long)i + 1, (int)(l.token_len < 60 ? l.token_len : 60), l.token, (long long)l.rank);
        POL_TRY(pol_vocab_set(&tok->vocab, name, l.rank, token->data, token->len, POL_TOKEN_NORMAL, true));
        tok->bpe.rank[l.rank] = (uint32_t)l.rank;
    }
    return POL_OK;
}

static pol_status add_special(pol_tokenizer *tok, const char *name)
{
    const int32_t first = tok->vocab.n - SPECIAL_TOKENS;
    for (int32_t i = 0; i < SPECIAL_TOKENS; i++) {
        char text[40];
        if (i < (int32_t)POL_COUNT(special))
            snprintf(text, sizeof text, "%s", special[i]);
        else
            snprintf(text, sizeof text, "<|reserved_special_token_%d|>", i - (int32_t)POL_COUNT(special) + 2);
        tok->bpe.rank[first + i] = POL_NO_RANK;
        POL_TRY(pol_vocab_set(&tok->vocab, name, first + i, text, strlen(text), POL_TOKEN_CONTROL, false));
        POL_TRY(pol_literals_add(&tok->raw, name, text, strlen(text), (pol_literal){.id = first + i, .special = true}));
    }
    tok->bos = first;
    tok->eos = first + 1;
    tok->add_bos = true;
    return POL_OK;
}

pol_status pol_read_tiktoken(pol_tokenizer *tok, const char *name, const uint8_t *data, size_t n)
{
    pol_bytes token = {.ctx = tok->ctx};
    pol_status s = read_lines(tok, name, (const char *)data, n, &token);
    pol_bytes_free(&token);
    POL_TRY(s);
    POL_TRY(add_special(tok, name));
    tok->bpe.by_bytes = tok->bpe.whole_first = true;
    pol_find_single_bytes(tok);
    for (int b = 0; b < 256; b++)
        if (tok->bpe.byte_id[b] < 0)
            return pol_fail(tok->ctx, POL_EFORMAT, "%s: no token for the byte 0x%02x", name, b);
    return pol_splitter_add_pattern(tok->ctx, &tok->splitter, name, pol_regex_llama3, POL_SPLIT_ISOLATED, false);
}

/* A SentencePiece model begins with the tag of its first piece, a newline as a character; a base64 line cannot. */
pol_status pol_tokenizer_from_model(pol_context *ctx, const char *name, const void *data, size_t n, pol_tokenizer **out)
{
    *out = NULL;
    const uint8_t *bytes = data;
    if (!n)
        return pol_fail(ctx, POL_EFORMAT, "%s: empty", name);
    const bool tiktoken = base64_value((char)bytes[0]) >= 0;
    pol_tokenizer *tok;
    POL_TRY(pol_tokenizer_new(ctx, tiktoken ? "tiktoken" : "sentencepiece (tokenizer.model)", &tok));
    pol_status s = tiktoken ? pol_read_tiktoken(tok, name, bytes, n) : pol_read_sentencepiece(tok, name, bytes, n);
    if (s >= 0)
        s = pol_tokenizer_finish(tok);
    if (s < 0) {
        pol_tokenizer_free(tok);
        return s;
    }
    *out = tok;
    return POL_OK;
}
