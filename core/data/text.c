/* text.c - finds the format of a text file and reads it document by document. */
#include "core/data/text.h"

#include <string.h>
#include <strings.h>

#include "core/base/utf8.h"

const char *pol_text_format_name(pol_text_format f)
{
    switch (f) {
    case POL_TEXT_AUTO: return "auto";
    case POL_TEXT_PLAIN: return "plain";
    case POL_TEXT_JSONL: return "jsonl";
    case POL_TEXT_WIKITEXT: return "wikitext";
    }
    return "unknown";
}

size_t pol_text_bom(const char *text, size_t n) { return n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3) ? 3 : 0; }

pol_status pol_text_check(const pol_reader *r, const char *text, size_t n, int64_t line, size_t byte)
{
    size_t bad;
    if (pol_utf8_check(text, n, &bad))
        return POL_OK;
    for (const char *p = text, *end = text + bad; (p = memchr(p, '\n', (size_t)(end - p))); p++)
        line++;
    return pol_fail(pol_reader_context(r), POL_EFORMAT, "%s: line %lld, byte %zu (0x%02x): not UTF-8",
                    pol_reader_name(r), (long long)line, byte + bad, (unsigned char)text[bad]);
}

static bool ends_with(const char *name, size_t n, const char *end)
{
    const size_t m = strlen(end);
    return n >= m && !strncasecmp(name + n - m, end, m);
}

static bool is_jsonl_name(const char *name)
{
    static const char *const packed[] = {".gz", ".zst"}, *const jsonl[] = {".jsonl", ".ndjson", ".json"};
    size_t n = strlen(name);
    for (size_t i = 0; i < POL_COUNT(packed); i++)
        if (ends_with(name, n, packed[i])) {
            n -= strlen(packed[i]);
            break;
        }
    for (size_t i = 0; i < POL_COUNT(jsonl); i++)
        if (ends_with(name, n, jsonl[i]))
            return true;
    return false;
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* Calls fn for what stands between the separators; the newlines around a separator belong to it. */
static pol_status split(const char *text, size_t n, const char *separator, pol_document_fn fn, void *user,
                        int64_t *documents)
{
    const size_t mark = strlen(separator);
    for (const char *end = text + n; text < end;) {
        const char *stop = memmem(text, (size_t)(end - text), separator, mark);
        const char *next = stop ? stop + mark : end;
        if (!stop)
            stop = end;
        while (text < stop && is_space(*text))
            text++;
        while (text < stop && is_space(stop[-1]))
            stop--;
        if (text < stop) {
            ++*documents;
            POL_TRY(fn(user, text, (size_t)(stop - text)));
        }
        text = next;
    }
    return POL_OK;
}

/* A file that is read whole. *format is AUTO, PLAIN or WIKITEXT on entry, never AUTO on success. */
static pol_status read_whole(pol_reader *r, const char *separator, pol_document_fn fn, void *user,
                             pol_text_format *format, int64_t *documents)
{
    pol_context *ctx = pol_reader_context(r);
    pol_bytes file, joined = {.ctx = ctx};
    const char *text;
    size_t n;
    POL_TRY(pol_reader_rest(r, &file, &text, &n));
    const size_t bom = pol_text_bom(text, n);
    text += bom;
    n -= bom;
    pol_status s = pol_text_check(r, text, n, 1, bom);
    if (s == POL_OK && *format == POL_TEXT_AUTO)
        *format = pol_wikitext_found(text, n) ? POL_TEXT_WIKITEXT : POL_TEXT_PLAIN;
    if (s == POL_OK && *format == POL_TEXT_WIKITEXT) {
        s = pol_wikitext_join(ctx, text, n, &joined);
        pol_bytes_free(&file); /* a large text is held once */
        text = joined.data;
        n = joined.len;
    }
    if (s == POL_OK && *format == POL_TEXT_PLAIN && separator && *separator) {
        s = split(text, n, separator, fn, user, documents);
    } else if (s == POL_OK && n > 0) {
        *documents = 1;
        s = fn(user, text, n);
    }
    pol_bytes_free(&joined);
    pol_bytes_free(&file);
    return s;
}

pol_status pol_text_read_from(pol_reader *r, const pol_text_options *o, pol_document_fn fn, void *user,
                              pol_text_format *used)
{
    pol_text_format format = o ? o->format : POL_TEXT_AUTO;
    if (format == POL_TEXT_AUTO && is_jsonl_name(pol_reader_name(r)))
        format = POL_TEXT_JSONL;
    int64_t documents = 0;
    pol_status s = format == POL_TEXT_JSONL ? pol_jsonl_read(r, o && o->field ? o->field : "text", fn, user, &documents)
                                            : read_whole(r, o ? o->separator : NULL, fn, user, &format, &documents);
    if (used)
        *used = format;
    POL_TRY(s);
    if (!documents)
        return pol_fail(pol_reader_context(r), POL_EFORMAT, "%s: no text in it", pol_reader_name(r));
    return POL_OK;
}

pol_status pol_text_read(pol_context *ctx, const char *path, const pol_text_options *o, pol_document_fn fn, void *user,
                         pol_text_format *used)
{
    pol_reader *r;
    POL_TRY(pol_reader_open(ctx, path, &r));
    pol_status s = pol_text_read_from(r, o, fn, user, used);
    pol_reader_close(r);
    return s;
}
