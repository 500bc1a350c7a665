/* wikitext.c - the text of a WikiText file as published perplexities have it.
 *
 * The papers evaluate "\n\n".join(rows) of the Hugging Face data set. Its script opens the raw file in Python's text
 * mode and makes each line a row: the line with its newline, or the empty row where the line is blank. So after a line
 * that is not blank come three newlines, and before it two; "\r" and "\r\n" are newlines too; blank is what str.strip()
 * leaves nothing of.
 */
#include <string.h>

#include "core/data/text.h"

/* Bytes of the white-space character (as Python has it) at p, 0 where it is another. The text is valid UTF-8. */
static size_t space_length(const char *p, const char *end)
{
    const unsigned char *u = (const unsigned char *)p;
    if (u[0] == ' ' || (u[0] >= 0x09 && u[0] <= 0x0d) || (u[0] >= 0x1c && u[0] <= 0x1f))
        return 1;
    if (end - p >= 2 && u[0] == 0xc2 && (u[1] == 0x85 || u[1] == 0xa0)) /* next line, no-break space */
        return 2;
    if (end - p < 3)
        return 0;
    const unsigned c = (unsigned)u[0] << 16 | (unsigned)u[1] << 8 | u[2];
    const bool space = c == 0xe19a80 ||                    /* U+1680 */
                       (c >= 0xe28080 && c <= 0xe2808a) || /* U+2000..200A */
                       c == 0xe280a8 || c == 0xe280a9 ||   /* U+2028, U+2029 */
                       c == 0xe280af || c == 0xe2819f ||   /* U+202F, U+205F */
                       c == 0xe38080;                      /* U+3000 */
    return space ? 3 : 0;
}

static bool is_blank(const char *p, const char *end)
{
    size_t n;
    while (p < end && (n = space_length(p, end)))
        p += n;
    return p == end;
}

/* The line at p ends where this points: at "\n", "\r\n", "\r" or the end. *next is where the line after it begins. */
static const char *line_end(const char *p, const char *end, const char **next)
{
    while (p < end && *p != '\n' && *p != '\r')
        p++;
    *next = p == end ? p : p + (p[0] == '\r' && end - p > 1 && p[1] == '\n' ? 2 : 1);
    return p;
}

bool pol_wikitext_found(const char *text, size_t n)
{
    const char *next, *end = text + n;
    for (const char *p = text; p < end; p = next) {
        const char *stop = line_end(p, end, &next);
        if (is_blank(p, stop))
            continue;
        while (stop > p && stop[-1] == ' ')
            stop--;
        return stop - p >= 6 && !memcmp(p, " = ", 3) && !memcmp(stop - 2, " =", 2); /* " = T =" is the shortest */
    }
    return false;
}

pol_status pol_wikitext_join(pol_context *ctx, const char *text, size_t n, pol_bytes *out)
{
    *out = (pol_bytes){.ctx = ctx};
    POL_TRY(pol_bytes_reserve(out, n)); /* grows beyond: up to two newlines a line */
    pol_status s = POL_OK;
    const char *next, *end = text + n;
    for (const char *p = text; p < end && s == POL_OK; p = next) {
        const char *stop = line_end(p, end, &next);
        if (p != text)
            s = pol_bytes_add(out, "\n\n", 2);
        if (is_blank(p, stop))
            continue;
        if (s == POL_OK)
            s = pol_bytes_add(out, p, (size_t)(stop - p));
        if (s == POL_OK && next > stop)
            s = pol_bytes_add(out, "\n", 1);
    }
    if (s < 0)
        pol_bytes_free(out);
    return s;
}
