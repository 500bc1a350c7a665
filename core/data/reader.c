/* reader.c - plain, gzip and zstd behind one read call. */
#include "core/data/reader.h"

#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "core/base/endian.h"

typedef enum packing { PACKING_NONE = 0, PACKING_GZIP, PACKING_ZSTD } packing;

struct pol_reader {
    pol_context *ctx;
    pol_map map; /* zeroed for a memory source */
    char *name;
    const uint8_t *data;
    size_t size, pos, released, limit;
    packing kind;
    bool inside; /* a gzip member or zstd frame has begun and not ended */
    z_stream gzip;
    ZSTD_DStream *zstd;
};

/* Pages are given back to the system in steps of so many bytes. */
#define RELEASE_STEP ((size_t)8 << 20)
/* zlib counts in unsigned int. */
#define ZLIB_STEP ((size_t)1 << 30)
#define BLOCK ((size_t)256 << 10)

static packing find_packing(const uint8_t *p, size_t n)
{
    if (n >= 2 && p[0] == 0x1f && p[1] == 0x8b)
        return PACKING_GZIP;
    if (n < 4)
        return PACKING_NONE;
    const uint32_t magic = pol_get_u32le(p);
    /* Parallel compressors begin with a skippable frame. */
    return magic == ZSTD_MAGICNUMBER || (magic & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START
               ? PACKING_ZSTD
               : PACKING_NONE;
}

static pol_status open_stream(pol_reader *r)
{
    r->kind = find_packing(r->data, r->size);
    if (r->kind == PACKING_GZIP && inflateInit2(&r->gzip, 15 + 16) != Z_OK) { /* largest window, gzip wrapper only */
        r->kind = PACKING_NONE;                                               /* nothing to end */
        return pol_fail(r->ctx, POL_ENOMEM, "%s: no memory for the gzip decoder", r->name);
    }
    if (r->kind == PACKING_ZSTD && !(r->zstd = ZSTD_createDStream()))
        return pol_fail(r->ctx, POL_ENOMEM, "%s: no memory for the zstd decoder", r->name);
    return POL_OK;
}

/* With a path where `data` is NULL, else from memory. */
static pol_status reader_new(pol_context *ctx, const char *name, const void *data, size_t n, pol_reader **out)
{
    *out = NULL;
    pol_reader *r = pol_alloc_zero(ctx, sizeof *r);
    if (!r)
        return POL_ENOMEM;
    r->ctx = ctx;
    r->limit = POL_DOCUMENT_LIMIT;
    r->name = pol_strdup(ctx, name);
    pol_status s = r->name ? POL_OK : POL_ENOMEM;
    if (s == POL_OK && !data) {
        s = pol_map_open(ctx, name, &r->map);
        data = r->map.data;
        n = r->map.size;
    }
    r->data = data;
    r->size = n;
    if (s == POL_OK)
        s = open_stream(r);
    if (s < 0) {
        pol_reader_close(r);
        return s;
    }
    *out = r;
    return POL_OK;
}

pol_status pol_reader_open(pol_context *ctx, const char *path, pol_reader **out)
{
    return reader_new(ctx, path, NULL, 0, out);
}

pol_status pol_reader_open_memory(pol_context *ctx, const char *name, const void *data, size_t n, pol_reader **out)
{
    return reader_new(ctx, name, data ? data : "", n, out);
}

void pol_reader_close(pol_reader *r)
{
    if (!r)
        return;
    if (r->kind == PACKING_GZIP)
        inflateEnd(&r->gzip);
    ZSTD_freeDStream(r->zstd);
    pol_map_close(&r->map);
    pol_free(r->ctx, r->name);
    pol_free(r->ctx, r);
}

const char *pol_reader_name(const pol_reader *r) { return r->name; }
pol_context *pol_reader_context(const pol_reader *r) { return r->ctx; }
size_t pol_reader_limit(const pol_reader *r) { return r->limit; }
void pol_reader_set_limit(pol_reader *r, size_t bytes) { r->limit = bytes; }

static pol_status fail_cut(const pol_reader *r, const char *kind)
{
    return pol_fail(r->ctx, POL_EFORMAT, "%s: the %s data is cut off at byte %zu", r->name, kind, r->size);
}

static pol_status read_plain(pol_reader *r, void *dst, size_t cap, size_t *got)
{
    *got = cap < r->size - r->pos ? cap : r->size - r->pos;
    memcpy(dst, r->data + r->pos, *got);
    r->pos += *got;
    return POL_OK;
}

static pol_status read_gzip(pol_reader *r, void *dst, size_t cap, size_t *got)
{
    z_stream *z = &r->gzip;
    z->next_out = dst;
    z->avail_out = (uInt)(cap < ZLIB_STEP ? cap : ZLIB_STEP);
    const size_t room = z->avail_out;
    while (z->avail_out == room) {
        if (!r->inside) {
            if (r->pos == r->size)
                break;
            r->inside = true;
        }
        const size_t in = r->size - r->pos < ZLIB_STEP ? r->size - r->pos : ZLIB_STEP;
        z->next_in = (Bytef *)r->data + r->pos;
        z->avail_in = (uInt)in;
        const int e = inflate(z, Z_NO_FLUSH);
        r->pos += in - z->avail_in;
        if (e == Z_STREAM_END) { /* another member may follow */
            inflateReset(z);
            r->inside = false;
        } else if (e == Z_BUF_ERROR) { /* no progress: there is room for output, so input is what lacks */
            return fail_cut(r, "gzip");
        } else if (e == Z_MEM_ERROR) {
            return pol_fail(r->ctx, POL_ENOMEM, "%s: no memory for the gzip decoder", r->name);
        } else if (e != Z_OK) {
            return pol_fail(r->ctx, POL_EFORMAT, "%s: damaged gzip data at byte %zu: %s", r->name, r->pos,
                            z->msg ? z->msg : "no reason given");
        }
    }
    *got = room - z->avail_out;
    return POL_OK;
}

static pol_status read_zstd(pol_reader *r, void *dst, size_t cap, size_t *got)
{
    ZSTD_outBuffer out = {dst, cap, 0};
    while (out.pos == 0 && (r->inside || r->pos < r->size)) {
        ZSTD_inBuffer in = {r->data, r->size, r->pos};
        const size_t more =
            ZSTD_decompressStream(r->zstd, &out, &in); /* 0: a frame has ended; the next call begins another */
        const bool stuck = in.pos == r->pos && out.pos == 0;
        r->pos = in.pos;
        if (ZSTD_isError(more))
            return pol_fail(r->ctx, POL_EFORMAT, "%s: damaged zstd data at byte %zu: %s", r->name, r->pos,
                            ZSTD_getErrorName(more));
        r->inside = more > 0;
        if (stuck && r->inside)
            return fail_cut(r, "zstd");
    }
    *got = out.pos;
    return POL_OK;
}

pol_status pol_reader_read(pol_reader *r, void *dst, size_t cap, size_t *got)
{
    *got = 0;
    POL_TRY(pol_check_stop(r->ctx));
    switch (r->kind) {
    case PACKING_NONE: POL_TRY(read_plain(r, dst, cap, got)); break;
    case PACKING_GZIP: POL_TRY(read_gzip(r, dst, cap, got)); break;
    case PACKING_ZSTD: POL_TRY(read_zstd(r, dst, cap, got)); break;
    }
    if (r->map.data && r->pos - r->released >= RELEASE_STEP) {
        pol_map_release(&r->map, r->released, r->pos - r->released);
        r->released = r->pos;
    }
    return POL_OK;
}

static pol_status check_limit(const pol_reader *r, size_t n)
{
    return n <= r->limit
               ? POL_OK
               : pol_fail(r->ctx, POL_EFORMAT, "%s: more than %zu bytes in one document; split it", r->name, r->limit);
}

static pol_status decompress_rest(pol_reader *r, pol_bytes *out)
{
    size_t got;
    do {
        POL_TRY(pol_bytes_reserve(out, BLOCK));
        POL_TRY(pol_reader_read(r, out->data + out->len, BLOCK, &got));
        out->len += got;
        POL_TRY(check_limit(r, out->len));
    } while (got);
    return POL_OK;
}

pol_status pol_reader_rest(pol_reader *r, pol_bytes *out, const char **text, size_t *n)
{
    *out = (pol_bytes){.ctx = r->ctx};
    if (r->kind == PACKING_NONE) {
        *text = (const char *)r->data + r->pos;
        *n = r->size - r->pos;
        r->pos = r->size;
        return check_limit(r, *n);
    }
    const pol_status s = decompress_rest(r, out);
    if (s < 0)
        pol_bytes_free(out);
    *text = out->data;
    *n = out->len;
    return s;
}
