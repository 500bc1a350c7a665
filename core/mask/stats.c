/* stats.c - a layer of a mask as one line for people. */
#include <stdarg.h>
#include <stdio.h>

#include "core/base/base.h"
#include "core/mask/units.h"

/* A line being written into fixed room; what does not fit is cut. */
typedef struct line {
    char *dst;
    size_t n, len;
} line;

static void put(line *out, const char *fmt, ...) POL_PRINTF(2, 3);
static void put(line *out, const char *fmt, ...)
{
    if (out->len >= out->n)
        return;
    va_list ap;
    va_start(ap, fmt);
    const int len = vsnprintf(out->dst + out->len, out->n - out->len, fmt, ap);
    va_end(ap);
    out->len += len > 0 ? (size_t)len : 0;
}

static void put_kind(line *out, const pol_units *u, const uint8_t *mask, int32_t layer, pol_unit_kind kind, int width)
{
    enum { CELLS = 32 };
    const pol_section *sec = pol_units_section(u, kind, layer);
    const int64_t kept = pol_section_kept(u, mask, kind, layer), cells = pol_min_i64(CELLS, sec->count);
    put(out, "  %s %*lld/%-*lld ", pol_unit_kind_name(kind), width, (long long)kept, width, (long long)sec->count);
    for (int64_t c = 0; c < cells; c++) {
        const int64_t from = c * sec->count / cells, to = (c + 1) * sec->count / cells;
        int64_t in_cell = 0;
        for (int64_t i = from; kept > 0 && i < to; i++)
            in_cell += !mask || mask[sec->first + i];
        const int64_t all = to - from;
        put(out, "%c", in_cell == all ? '#' : 2 * in_cell >= all ? '+' : in_cell > 0 ? '-' : '.');
    }
}

void pol_mask_picture(const pol_units *u, const uint8_t *mask, int32_t layer, char *dst, size_t n)
{
    if (n == 0)
        return;
    dst[0] = 0;
    line out = {dst, n, 0};
    put(&out, "layer %2d", layer);
    put_kind(&out, u, mask, layer, POL_UNIT_GROUP, 3);
    put_kind(&out, u, mask, layer, POL_UNIT_CHANNEL, 5);
}
