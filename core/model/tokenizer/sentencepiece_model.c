/* sentencepiece_model.c - SentencePiece's tokenizer.model: the few protobuf fields that say how to encode. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/endian.h"
#include "core/model/tokenizer/internal.h"

/* ---- the protobuf wire format ---- */

typedef struct wire {
    pol_context *ctx;
    const char *name;
    const uint8_t *data;
    size_t n, at;
} wire;

typedef struct field {
    uint32_t number, type;
    uint64_t value; /* of a varint or a fixed-width field, as bits */
    wire body;      /* of a length-delimited one */
} field;

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

static pol_status take_varint(wire *w, uint64_t *out)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (w->at == w->n)
            return pol_fail(w->ctx, POL_EFORMAT, "%s: a number is cut off", w->name);
        const uint8_t b = w->data[w->at++];
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) {
            *out = v;
            return POL_OK;
        }
    }
    return pol_fail(w->ctx, POL_EFORMAT, "%s: a number has more than 10 bytes", w->name);
}

static pol_status take_fixed(wire *w, size_t width, uint64_t *out)
{
    if (w->n - w->at < width)
        return pol_fail(w->ctx, POL_EFORMAT, "%s: a number is cut off", w->name);
    *out = width == 4 ? pol_get_u32le(w->data + w->at) : pol_get_u64le(w->data + w->at);
    w->at += width;
    return POL_OK;
}

static pol_status take_field(wire *w, field *f)
{
    uint64_t tag = 0, len = 0;
    POL_TRY(take_varint(w, &tag));
    *f = (field){.number = (uint32_t)(tag >> 3), .type = tag & 7};
    switch (f->type) {
    case WIRE_VARINT: return take_varint(w, &f->value);
    case WIRE_FIXED64: return take_fixed(w, 8, &f->value);
    case WIRE_FIXED32: return take_fixed(w, 4, &f->value);
    case WIRE_BYTES:
        POL_TRY(take_varint(w, &len));
        if (len > w->n - w->at)
            return pol_fail(w->ctx, POL_EFORMAT, "%s: field %u of %llu bytes is cut off", w->name, f->number,
                            (unsigned long long)len);
        f->body = (wire){.ctx = w->ctx, .name = w->name, .data = w->data + w->at, .n = (size_t)len};
        w->at += (size_t)len;
        return POL_OK;
    default: return pol_fail(w->ctx, POL_EFORMAT, "%s: field %u has wire type %u", w->name, f->number, f->type);
    }
}

/* ---- the model ---- */

typedef struct piece {
    const char *text;
    size_t n;
    float score;
    uint64_t type;
} piece;

typedef struct spec {
    uint64_t model_type; /* 1 unigram, 2 BPE, 3 word, 4 char */
    bool byte_fallback, whitespace_as_suffix;
    int32_t bos, eos;
    bool prefix, collapse, mark;
    size_t charsmap;
} spec;

static pol_status read_piece(wire *w, piece *p)
{
    *p = (piece){.text = "", .type = POL_TOKEN_NORMAL};
    while (w->at < w->n) {
        field f;
        POL_TRY(take_field(w, &f));
        if (f.number == 1 && f.type == WIRE_BYTES) {
            p->text = (const char *)f.body.data;
            p->n = f.body.n;
        } else if (f.number == 2 && f.type == WIRE_FIXED32) {
            const uint32_t bits = (uint32_t)f.value;
            memcpy(&p->score, &bits, sizeof bits);
        } else if (f.number == 3 && f.type == WIRE_VARINT) {
            p->type = f.value;
        }
    }
    return POL_OK;
}

static pol_status read_trainer_spec(wire *w, spec *s)
{
    while (w->at < w->n) {
        field f;
        POL_TRY(take_field(w, &f));
        if (f.type != WIRE_VARINT)
            continue;
        switch (f.number) {
        case 3: s->model_type = f.value; break;
        case 24: s->whitespace_as_suffix = f.value != 0; break;
        case 35: s->byte_fallback = f.value != 0; break;
        case 41: s->bos = (int32_t)f.value; break; /* negative: 64-bit two's complement, cut */
        case 42: s->eos = (int32_t)f.value; break;
        default: break;
        }
    }
    return POL_OK;
}

static pol_status read_normalizer_spec(wire *w, spec *s)
{
    while (w->at < w->n) {
        field f;
        POL_TRY(take_field(w, &f));
        switch (f.number) {
        case 2: s->charsmap = f.type == WIRE_BYTES ? f.body.n : 0; break;
        case 3: s->prefix = f.value != 0; break;
        case 4: s->collapse = f.value != 0; break;
        case 5: s->mark = f.value != 0; break;
        default: break;
        }
    }
    return POL_OK;
}

static pol_status check_spec(const wire *w, const spec *s)
{
    static const char *const types[] = {"0", "UNIGRAM", "BPE", "WORD", "CHAR"};
    if (s->model_type != 2)
        return pol_fail(w->ctx, POL_EUNSUPPORTED, "%s: trainer_spec.model_type %s is not supported, only BPE", w->name,
                        s->model_type < POL_COUNT(types) ? types[s->model_type] : "unknown");
    if (s->whitespace_as_suffix)
        return pol_fail(w->ctx, POL_EUNSUPPORTED, "%s: trainer_spec.treat_whitespace_as_suffix is not supported",
                        w->name);
    if (s->charsmap)
        return pol_fail(w->ctx, POL_EUNSUPPORTED,
                        "%s: normalizer_spec.precompiled_charsmap (%zu bytes) is not supported, only 'identity'",
                        w->name, s->charsmap);
    return POL_OK;
}

static pol_status set_piece(pol_tokenizer *tok, const wire *w, int64_t id, const piece *p)
{
    const char *text = p->text;
    if (p->type < POL_TOKEN_NORMAL || p->type > POL_TOKEN_BYTE)
        return pol_fail(w->ctx, POL_EFORMAT, "%s: piece %lld: type %llu", w->name, (long long)id,
                        (unsigned long long)p->type);
    if (p->type == POL_TOKEN_UNUSED)
        return pol_fail(w->ctx, POL_EUNSUPPORTED, "%s: piece %lld: type UNUSED is not supported", w->name,
                        (long long)id);
    if (!p->n || !isfinite(p->score))
        return pol_fail(w->ctx, POL_EFORMAT, "%s: piece %lld is empty or has a score that is not finite", w->name,
                        (long long)id);
    POL_TRY(pol_vocab_set(&tok->vocab, w->name, id, text, p->n, (pol_token_type)p->type, true));
    if (p->type == POL_TOKEN_CONTROL || p->type == POL_TOKEN_UNKNOWN)
        POL_TRY(pol_literals_add(&tok->raw, w->name, text, p->n, (pol_literal){.id = (int32_t)id, .special = true}));
    if (p->type == POL_TOKEN_USER)
        POL_TRY(pol_literals_add(&tok->user, w->name, text, p->n, (pol_literal){.id = (int32_t)id}));
    if (p->type == POL_TOKEN_UNKNOWN) {
        if (tok->bpe.unknown >= 0)
            return pol_fail(w->ctx, POL_EFORMAT, "%s: pieces %d and %lld are both of type UNKNOWN", w->name,
                            tok->bpe.unknown, (long long)id);
        tok->bpe.unknown = (int32_t)id;
    }
    return POL_OK;
}

/* The messages of the file, in whatever order; pieces are counted first so that the vocabulary is made once. */
static pol_status read_model(pol_tokenizer *tok, wire w, spec *s, float *score, int64_t *pieces)
{
    *pieces = 0;
    while (w.at < w.n) {
        field f;
        POL_TRY(take_field(&w, &f));
        if (f.type != WIRE_BYTES)
            continue;
        if (f.number == 1 && score) {
            piece p;
            POL_TRY(read_piece(&f.body, &p));
            POL_TRY(set_piece(tok, &w, *pieces, &p));
            score[*pieces] = p.score;
        } else if (f.number == 2) {
            POL_TRY(read_trainer_spec(&f.body, s));
        } else if (f.number == 3) {
            POL_TRY(read_normalizer_spec(&f.body, s));
        }
        *pieces += f.number == 1;
    }
    return POL_OK;
}

/* ---- what GGUF's llama vocabulary shares ---- */

typedef struct scored {
    float score;
    int32_t id;
} scored;

static int highest_first(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score) - (x->score > y->score) : (x->id > y->id) - (x->id < y->id);
}

pol_status pol_rank_by_score(pol_tokenizer *tok, const float *score, const bool *usable)
{
    const int32_t n = tok->vocab.n;
    scored *order = pol_alloc_array(tok->ctx, n, sizeof *order);
    tok->bpe.rank = order ? pol_alloc_array(tok->ctx, n, sizeof *tok->bpe.rank) : NULL;
    if (!tok->bpe.rank) {
        pol_free(tok->ctx, order);
        return POL_ENOMEM;
    }
    for (int32_t i = 0; i < n; i++)
        order[i] = (scored){score[i], i};
    if (n)
        qsort(order, (size_t)n, sizeof *order, highest_first);
    uint32_t rank = 0;
    for (int32_t i = 0; i < n; i++) {
        rank += i > 0 && order[i].score != order[i - 1].score;
        tok->bpe.rank[order[i].id] = usable[order[i].id] ? rank : POL_NO_RANK;
    }
    pol_free(tok->ctx, order);
    return POL_OK;
}

bool pol_find_byte_tokens(pol_tokenizer *tok, bool typed)
{
    bool all = true;
    for (int b = 0; b < 256; b++) {
        char spelling[8];
        snprintf(spelling, sizeof spelling, "<0x%02X>", b);
        const int32_t id = pol_vocab_find(&tok->vocab, spelling, strlen(spelling));
        tok->bpe.byte_id[b] = id >= 0 && (!typed || tok->vocab.tokens[id].type == POL_TOKEN_BYTE) ? id : -1;
        all = all && tok->bpe.byte_id[b] >= 0;
    }
    return all;
}

/* ---- all together ---- */

static pol_status fill(pol_tokenizer *tok, const wire *w, spec *s, float *score, bool *usable)
{
    int64_t pieces;
    POL_TRY(read_model(tok, *w, s, score, &pieces));
    POL_TRY(check_spec(w, s));
    if (tok->bpe.unknown < 0)
        return pol_fail(tok->ctx, POL_EFORMAT, "%s: no piece of type UNKNOWN", w->name);
    for (int64_t i = 0; i < pieces; i++)
        usable[i] = tok->vocab.tokens[i].type == POL_TOKEN_NORMAL || tok->vocab.tokens[i].type == POL_TOKEN_USER;
    POL_TRY(pol_rank_by_score(tok, score, usable));
    if (s->byte_fallback && !pol_find_byte_tokens(tok, true))
        return pol_fail(tok->ctx, POL_EFORMAT, "%s: byte_fallback, but not all 256 byte pieces are there", w->name);
    tok->bpe.fuse_unknown = true;
    tok->normalizer.steps[0] = (pol_normal_step){
        .kind = POL_NORMAL_SENTENCEPIECE, .prefix = s->prefix, .collapse = s->collapse, .mark = s->mark};
    tok->normalizer.n = 1;
    tok->bos = s->bos >= 0 && s->bos < pieces ? s->bos : -1;
    tok->eos = s->eos >= 0 && s->eos < pieces ? s->eos : -1;
    tok->add_bos = true; /* LLaMA's and Mistral's tokenizers do, unless tokenizer_config.json says otherwise */
    return POL_OK;
}

pol_status pol_read_sentencepiece(pol_tokenizer *tok, const char *name, const uint8_t *data, size_t n)
{
    const wire w = {.ctx = tok->ctx, .name = name, .data = data, .n = n};
    spec s = {.model_type = 1, .bos = 1, .eos = 2, .prefix = true, .collapse = true, .mark = true};
    int64_t pieces;
    POL_TRY(read_model(tok, w, &s, NULL, &pieces));
    if (!pieces)
        return pol_fail(tok->ctx, POL_EFORMAT, "%s: no pieces", name);
    POL_TRY(pol_vocab_resize(&tok->vocab, pieces));
    float *score = pol_alloc_array(tok->ctx, pieces, sizeof *score);
    bool *usable = pol_alloc_array(tok->ctx, pieces, sizeof *usable);
    pol_status st = score && usable ? fill(tok, &w, &s, score, usable) : POL_ENOMEM;
    pol_free(tok->ctx, score);
    pol_free(tok->ctx, usable);
    return st;
}
