/* pack.c - documents to sequences of equal length. */
#include <string.h>

#include "core/base/file.h"
#include "pollard/data.h"

const char *pol_bos_name(pol_bos b)
{
    switch (b) {
    case POL_BOS_MODEL: return "model";
    case POL_BOS_DOCUMENT: return "document";
    case POL_BOS_SEQUENCE: return "sequence";
    case POL_BOS_NONE: return "none";
    case POL_BOS_BOTH: return "both";
    }
    return "unknown";
}

typedef struct packer {
    pol_context *ctx;
    const pol_tokenizer *tok;
    const char *path; /* being read */
    int32_t vocab, bos_id;
    pol_bos bos;
    int64_t documents;
    int64_t enough; /* tokens after which reading stops */
    bool full;
    pol_token_list list;
} packer;

static pol_status add_document(void *user, const char *text, size_t n)
{
    packer *p = user;
    const int64_t from = p->list.n;
    if (p->bos == POL_BOS_DOCUMENT || p->bos == POL_BOS_BOTH)
        POL_TRY(pol_token_list_add(p->ctx, &p->list, p->bos_id));
    POL_TRY(pol_tokenizer_encode_until(p->tok, p->ctx, text, n, false, p->enough, &p->list));
    for (int64_t i = from; i < p->list.n; i++)
        if (p->list.ids[i] < 0 || p->list.ids[i] >= p->vocab)
            return pol_fail(p->ctx, POL_EFORMAT,
                            "%s: document %lld: token %d of the tokenizer is outside the model's vocabulary of %d",
                            p->path, (long long)p->documents + 1, p->list.ids[i], p->vocab);
    p->documents++;
    p->full = p->list.n >= p->enough;
    return p->full ? POL_ELIMIT : POL_OK; /* stops the reading; not a failure */
}

static pol_status read_files(packer *p, const char *const *paths, int64_t n_paths, const pol_text_options *o,
                             pol_text_format *format)
{
    for (int64_t i = 0; i < n_paths && !p->full; i++) {
        pol_text_format found;
        p->path = paths[i];
        const pol_status s = pol_text_read(p->ctx, paths[i], o, add_document, p, &found);
        if (s < 0 && !p->full)
            return s;
        if (i == 0)
            *format = found;
    }
    return POL_OK;
}

/* `fresh` tokens of the list fill a sequence, behind BOS where every sequence begins with it. In place: the tokens of a
 * large text are held once. */
static pol_status cut(packer *p, int64_t fresh, int64_t limit, pol_sequences *out)
{
    const int64_t lead = out->seq_len - fresh;
    int64_t n = p->list.n / fresh;
    if (limit)
        n = pol_min_i64(n, limit);
    if (!n)
        return pol_fail(p->ctx, POL_EFORMAT, "%s: %lld tokens of text are less than one sequence of %lld", p->path,
                        (long long)p->list.n, (long long)out->seq_len);
    const int64_t count = n * out->seq_len; /* at most twice the tokens that are in memory */
    int32_t *ids = pol_realloc(p->ctx, p->list.ids, (size_t)count * sizeof *ids);
    if (!ids)
        return POL_ENOMEM;
    p->list.ids = NULL;
    for (int64_t i = n;
         lead && i-- > 0;) { /* from the last: a row is written behind where the rows before it are read */
        int32_t *row = ids + i * out->seq_len;
        memmove(row + lead, ids + i * fresh, (size_t)fresh * sizeof *row);
        row[0] = p->bos_id;
    }
    out->ids = ids;
    out->n = n;
    pol_bytes_hash(out->ids, (size_t)count * sizeof *out->ids, out->hash);
    return POL_OK;
}

pol_status pol_sequences_read(pol_context *ctx, const pol_tokenizer *tok, int32_t vocab, const char *const *paths,
                              int64_t n_paths, const pol_text_options *o, int64_t seq_len, pol_bos bos, int64_t limit,
                              pol_sequences *out)
{
    memset(out, 0, sizeof *out);
    if (seq_len < 2)
        return pol_fail(ctx, POL_EARG, "sequence length %lld: at least 2 tokens are needed to predict one",
                        (long long)seq_len);
    if (n_paths < 1 || limit < 0 || vocab < 1)
        return pol_fail(ctx, POL_EARG, "%lld text files, limit %lld, vocabulary %d: no such reading",
                        (long long)n_paths, (long long)limit, vocab);
    const int32_t bos_id = pol_tokenizer_bos(tok);
    if (bos == POL_BOS_MODEL)
        bos = pol_tokenizer_adds_bos(tok) && bos_id >= 0 ? POL_BOS_DOCUMENT : POL_BOS_NONE;
    if (bos != POL_BOS_NONE && (bos_id < 0 || bos_id >= vocab))
        return pol_fail(ctx, POL_EARG, "BOS policy '%s': the tokenizer's BOS is %d, and the model's vocabulary is %d",
                        pol_bos_name(bos), bos_id, vocab);

    const int64_t fresh = bos == POL_BOS_SEQUENCE || bos == POL_BOS_BOTH ? seq_len - 1 : seq_len;
    packer p = {.ctx = ctx, .tok = tok, .vocab = vocab, .bos_id = bos_id, .bos = bos, .enough = INT64_MAX};
    if (limit && limit <= INT64_MAX / fresh)
        p.enough = limit * fresh;
    out->ctx = ctx;
    out->seq_len = seq_len;
    out->bos = bos;
    pol_status s = read_files(&p, paths, n_paths, o, &out->format);
    if (s == POL_OK)
        s = cut(&p, fresh, limit, out);
    out->documents = p.documents;
    out->text_tokens = p.list.n;
    pol_token_list_free(ctx, &p.list);
    if (s < 0)
        pol_sequences_free(out);
    return s;
}

void pol_sequences_free(pol_sequences *s)
{
    if (s->ids)
        pol_free(s->ctx, s->ids);
    memset(s, 0, sizeof *s);
}
