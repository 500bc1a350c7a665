/* jsonl.c - one JSON object a line; and texts, one document in a field of it. Memory: the longest line. */
#include "core/data/jsonl.h"

#include <string.h>

#include "core/data/text.h"

#define BLOCK ((size_t)64 << 10)

/* Cuts what a reader gives into lines. */
typedef struct lines {
    pol_reader *r;
    char *block; /* [BLOCK] */
    size_t at, have;
    pol_bytes line; /* the current one, without its newline */
    int64_t number; /* its number, from 1 */
    size_t byte;    /* where it begins in the text of the file */
    size_t next;    /* where the line after it begins */
} lines;

/* *more is false where no line is left; the last one may lack its newline. */
static pol_status next_line(lines *l, bool *more)
{
    l->line.len = 0;
    l->byte = l->next;
    l->number++;
    *more = true;
    for (;;) {
        if (l->at == l->have) {
            l->at = 0;
            POL_TRY(pol_reader_read(l->r, l->block, BLOCK, &l->have));
            if (!l->have) {
                *more = l->line.len > 0;
                return POL_OK;
            }
        }
        const char *from = l->block + l->at, *newline = memchr(from, '\n', l->have - l->at);
        const size_t n = newline ? (size_t)(newline - from) : l->have - l->at;
        if (l->line.len + n > pol_reader_limit(l->r))
            return pol_fail(l->line.ctx, POL_EFORMAT, "%s: line %lld: more than %zu bytes", pol_reader_name(l->r),
                            (long long)l->number, pol_reader_limit(l->r));
        POL_TRY(pol_bytes_add(&l->line, from, n));
        l->at += n + (newline != NULL);
        l->next += n + (newline != NULL);
        if (newline)
            return POL_OK;
    }
}

static pol_status read_object(const lines *l, const char *text, size_t n, pol_json_line_fn fn, void *user)
{
    pol_context *ctx = l->line.ctx;
    const char *file = pol_reader_name(l->r);
    const long long number = l->number;
    json_error_t e;
    /* Other fields are not looked at: an integer of any size in them is no reason to refuse the line. */
    json_t *o = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &e);
    if (!o)
        return pol_fail(ctx, json_error_code(&e) == json_error_out_of_memory ? POL_ENOMEM : POL_EFORMAT,
                        "%s: line %lld, column %d: %s", file, number, e.column, e.text);
    const pol_status s = json_is_object(o) ? fn(user, l->number, o)
                                           : pol_fail(ctx, POL_EFORMAT, "%s: line %lld: not an object", file, number);
    json_decref(o);
    return s;
}

static pol_status read_lines(lines *l, pol_json_line_fn fn, void *user)
{
    for (;;) {
        bool more;
        POL_TRY(next_line(l, &more));
        if (!more)
            return POL_OK;
        POL_TRY(pol_check_stop(l->line.ctx));
        const char *text = l->line.data;
        size_t n = l->line.len;
        const size_t bom = l->number == 1 ? pol_text_bom(text, n) : 0;
        text += bom;
        n -= bom;
        size_t blank = 0;
        while (blank < n && memchr(" \t\r", text[blank], 3))
            blank++;
        if (blank == n)
            continue;
        POL_TRY(pol_text_check(l->r, text, n, l->number, l->byte + bom));
        POL_TRY(read_object(l, text, n, fn, user));
    }
}

pol_status pol_jsonl_objects(pol_reader *r, pol_json_line_fn fn, void *user)
{
    pol_context *ctx = pol_reader_context(r);
    lines l = {.r = r, .block = pol_alloc(ctx, BLOCK), .line = {.ctx = ctx}};
    pol_status s = l.block ? pol_bytes_reserve(&l.line, BLOCK) : POL_ENOMEM;
    if (s == POL_OK)
        s = read_lines(&l, fn, user);
    pol_bytes_free(&l.line);
    pol_free(ctx, l.block);
    return s;
}

typedef struct documents {
    const pol_reader *r;
    const char *field;
    pol_document_fn fn;
    void *user;
    int64_t *n;
} documents;

static pol_status read_document(void *user, int64_t line, const json_t *o)
{
    const documents *d = user;
    const char *file = pol_reader_name(d->r);
    const json_t *v = json_object_get(o, d->field);
    if (!v)
        return pol_fail(pol_reader_context(d->r), POL_EFORMAT, "%s: line %lld: field '%s' is missing", file,
                        (long long)line, d->field);
    if (!json_is_string(v))
        return pol_fail(pol_reader_context(d->r), POL_EFORMAT, "%s: line %lld: field '%s' is not a string", file,
                        (long long)line, d->field);
    if (!json_string_length(v))
        return POL_OK;
    ++*d->n;
    return d->fn(d->user, json_string_value(v), json_string_length(v));
}

pol_status pol_jsonl_read(pol_reader *r, const char *field, pol_document_fn fn, void *user, int64_t *n)
{
    return pol_jsonl_objects(r, read_document, &(documents){r, field, fn, user, n});
}
