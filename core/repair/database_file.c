/* database_file.c - the file of a database.
 *
 *   offset  bytes  field
 *        0      8  magic "POLDBAS1"
 *        8      4  version, u32
 *       12      4  granularity, u32
 *       16     32  identity, hex digits
 *       48      4  layers, u32
 *       52      4  hidden size, u32
 *       56      4  columns of a group, u32
 *       60      4  0
 *       64      8  XXH3-64 of all before, u64
 *       72         records: the covered blocks, attention before MLP, layer after layer
 *
 * and a record
 *
 *        0      4  kind, u32
 *        4      4  layer, u32
 *        8      8  units of the block, u64
 *       16      8  levels L, 0 and all included, u64
 *       24      8  condition number, f64
 *       32         order i32 [units]; level i64 [L]; error f64 [L]
 *                  rows f32 [units of the levels between 0 and all, unit]
 *       -8      8  XXH3-64 of the record before, u64
 *
 * Little-endian throughout. Sizes follow from the model and from what is checked first, so no size that a file names is
 * believed beyond the file's own.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/base/endian.h"
#include "core/base/file.h"
#include "core/repair/database_state.h"

static const char MAGIC[8] = {'P', 'O', 'L', 'D', 'B', 'A', 'S', '1'};
enum { VERSION = 1, HEADER_BYTES = 72, RECORD_BYTES = 32, CHECKSUM_BYTES = 8, IDENTITY_DIGITS = 32, PIECE = 1 << 16 };

static pol_status fail_io(const pol_database *db, const char *what)
{
    return pol_fail(db->ctx, POL_EIO, "%s: %s: %s", db->path, what, strerror(errno));
}

static void make_header(const pol_database *db, uint8_t h[HEADER_BYTES])
{
    memset(h, 0, HEADER_BYTES);
    memcpy(h, MAGIC, sizeof MAGIC);
    pol_put_u32le(h + 8, VERSION);
    pol_put_u32le(h + 12, db->o.granularity);
    memcpy(h + 16, db->o.identity, IDENTITY_DIGITS);
    pol_put_u32le(h + 48, (uint32_t)db->units->n_layers);
    pol_put_u32le(h + 52, (uint32_t)db->config->hidden);
    pol_put_u32le(h + 56, (uint32_t)pol_ctx_cols(db->config));
    pol_put_u64le(h + 64, XXH3_64bits(h, HEADER_BYTES - CHECKSUM_BYTES));
}

/* ---- reading ---- */

/* What is left of a record's bytes. */
typedef struct cursor {
    const uint8_t *at;
    size_t left;
} cursor;

/* `n` elements of so many bytes; NULL where they are not there. */
static const uint8_t *take(cursor *c, int64_t n, int64_t size)
{
    const int64_t bytes = pol_mul_count(n, size);
    const uint8_t *p = c->at;
    if (bytes < 0 || (uint64_t)bytes > c->left)
        return NULL;
    c->at += bytes;
    c->left -= (size_t)bytes;
    return p;
}

/* Every unit once; `seen` is [count]. */
static bool read_order(const uint8_t *src, int64_t count, uint8_t *seen, int32_t *order)
{
    memset(seen, 0, (size_t)count);
    for (int64_t i = 0; i < count; i++) {
        const uint32_t unit = pol_get_u32le(src + 4 * i);
        if (unit >= (uint64_t)count || seen[unit])
            return false;
        seen[unit] = 1;
        order[i] = (int32_t)unit;
    }
    return true;
}

/* From 0 to all, rising. */
static bool read_levels(const uint8_t *level, const uint8_t *error, pol_db_block *b)
{
    for (int64_t i = 0; i < b->n_levels; i++) {
        const uint64_t units = pol_get_u64le(level + 8 * i);
        if (units > (uint64_t)b->sec->count || (i ? (int64_t)units <= b->level[i - 1] : units != 0))
            return false;
        b->level[i] = (int64_t)units;
        b->error[i] = pol_get_f64le(error + 8 * i);
        if (!(b->error[i] >= 0 && b->error[i] <= 1))
            return false;
    }
    return b->level[b->n_levels - 1] == b->sec->count;
}

static bool read_arrays(pol_db_block *b, cursor *c, uint8_t *seen)
{
    const uint8_t *order = take(c, b->sec->count, 4), *level = take(c, b->n_levels, 8),
                  *error = take(c, b->n_levels, 8);
    return error && read_order(order, b->sec->count, seen, b->order) && read_levels(level, error, b);
}

/* The record from its arrays on: true where it is whole, and *c is then behind it. */
static bool read_rest(pol_db_block *b, const uint8_t *record, cursor *c, uint8_t *seen)
{
    if (!read_arrays(b, c, seen))
        return false;
    const uint8_t *rows = take(c, pol_mul_count(pol_db_units_before(b, b->n_levels - 1), b->unit), sizeof(float));
    const uint8_t *end = c->at, *checksum = take(c, CHECKSUM_BYTES, 1);
    b->rows = rows ? rows - record : 0;
    return rows && checksum && XXH3_64bits(record, (size_t)(end - record)) == pol_get_u64le(checksum);
}

/* *bytes of the record of block b that begins at `data`; 0 where it is not whole: b is then as it was. */
static pol_status read_record(pol_database *db, pol_db_block *b, const uint8_t *data, size_t size, size_t *bytes)
{
    cursor c = {data, size};
    const uint8_t *head = take(&c, RECORD_BYTES, 1);
    *bytes = 0;
    if (!head || pol_get_u32le(head) != (uint32_t)b->sec->kind || pol_get_u32le(head + 4) != (uint32_t)b->sec->layer ||
        pol_get_u64le(head + 8) != (uint64_t)b->sec->count)
        return POL_OK;
    const uint64_t n_levels = pol_get_u64le(head + 16);
    b->condition = pol_get_f64le(head + 24);
    if (n_levels < 2 || n_levels > (uint64_t)b->sec->count + 1 || !isfinite(b->condition))
        return POL_OK;
    uint8_t *seen = pol_alloc(db->ctx, (size_t)b->sec->count);
    const pol_status s = seen ? pol_db_block_new(db, b, (int64_t)n_levels) : POL_ENOMEM;
    b->there = s == POL_OK && read_rest(b, data, &c, seen);
    if (b->there)
        *bytes = size - c.left;
    else
        pol_db_block_free(db, b);
    pol_free(db->ctx, seen);
    return s;
}

pol_status pol_db_scan(pol_database *db, const uint8_t *data, size_t size, int64_t *end)
{
    uint8_t header[HEADER_BYTES];
    make_header(db, header);
    *end = 0;
    if (size < HEADER_BYTES || memcmp(data, header, HEADER_BYTES) != 0)
        return POL_OK;
    *end = HEADER_BYTES;
    for (pol_db_block *b; (b = pol_db_next(db)); db->n_done++) {
        size_t bytes;
        POL_TRY(read_record(db, b, data + *end, size - (size_t)*end, &bytes));
        if (!bytes)
            break;
        b->rows += *end;
        *end += (int64_t)bytes;
    }
    return POL_OK;
}

pol_status pol_db_read_rows(const pol_database *db, const pol_db_block *b, int64_t at, float *dst, int64_t n)
{
    uint8_t *const bytes = (uint8_t *)dst;
    const size_t size = (size_t)n * sizeof *dst;
    for (size_t done = 0; done < size;) {
        const ssize_t got =
            pread(db->file, bytes + done, size - done, b->rows + at * (int64_t)sizeof *dst + (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0
                       ? fail_io(db, "cannot be read")
                       : pol_fail(db->ctx, POL_EIO, "%s: ends where rows of layer %d were", db->path, b->sec->layer);
        done += (size_t)got;
    }
    for (int64_t i = 0; i < n; i++)
        dst[i] = pol_get_f32le(bytes + 4 * i);
    return POL_OK;
}

/* ---- writing ---- */

/* A record on its way to the file. */
typedef struct writer {
    pol_database *db;
    XXH3_state_t *hash;
    int64_t at;
    uint8_t piece[PIECE];
    size_t n;
} writer;

static pol_status write_at(pol_database *db, int64_t at, const uint8_t *src, size_t n)
{
    while (n) {
        const ssize_t put = pwrite(db->file, src, n, at);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return fail_io(db, "cannot be written");
        src += put;
        at += put;
        n -= (size_t)put;
    }
    return POL_OK;
}

static pol_status flush(writer *w)
{
    POL_TRY(write_at(w->db, w->at, w->piece, w->n));
    w->at += (int64_t)w->n;
    w->n = 0;
    return POL_OK;
}

/* Room for `bytes`, which are part of the checksum. */
static pol_status room(writer *w, size_t bytes, uint8_t **out)
{
    if (w->n + bytes > PIECE) {
        XXH3_64bits_update(w->hash, w->piece, w->n);
        POL_TRY(flush(w));
    }
    *out = w->piece + w->n;
    w->n += bytes;
    return POL_OK;
}

static pol_status write_u32(writer *w, uint32_t x)
{
    uint8_t *p;
    POL_TRY(room(w, 4, &p));
    pol_put_u32le(p, x);
    return POL_OK;
}

static pol_status write_u64(writer *w, uint64_t x)
{
    uint8_t *p;
    POL_TRY(room(w, 8, &p));
    pol_put_u64le(p, x);
    return POL_OK;
}

static pol_status write_f64(writer *w, double x)
{
    uint8_t *p;
    POL_TRY(room(w, 8, &p));
    pol_put_f64le(p, x);
    return POL_OK;
}

static pol_status write_f32(writer *w, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return write_u32(w, bits);
}

static pol_status write_record(writer *w, pol_db_block *b, const float *rows)
{
    const int64_t n = pol_db_units_before(b, b->n_levels - 1) * b->unit;
    POL_TRY(write_u32(w, (uint32_t)b->sec->kind));
    POL_TRY(write_u32(w, (uint32_t)b->sec->layer));
    POL_TRY(write_u64(w, (uint64_t)b->sec->count));
    POL_TRY(write_u64(w, (uint64_t)b->n_levels));
    POL_TRY(write_f64(w, b->condition));
    for (int64_t i = 0; i < b->sec->count; i++)
        POL_TRY(write_u32(w, (uint32_t)b->order[i]));
    for (int64_t i = 0; i < b->n_levels; i++)
        POL_TRY(write_u64(w, (uint64_t)b->level[i]));
    for (int64_t i = 0; i < b->n_levels; i++)
        POL_TRY(write_f64(w, b->error[i]));
    b->rows = w->at + (int64_t)w->n;
    for (int64_t i = 0; i < n; i++)
        POL_TRY(write_f32(w, rows[i]));
    XXH3_64bits_update(w->hash, w->piece, w->n);
    POL_TRY(flush(w));
    pol_put_u64le(w->piece, XXH3_64bits_digest(w->hash));
    w->n = CHECKSUM_BYTES;
    return flush(w);
}

static pol_status sync_file(const pol_database *db)
{
    return fsync(db->file) < 0 ? fail_io(db, "cannot be written") : POL_OK;
}

/* After a failure whose sentence stays: what is half written goes, so that the disk has room for something else. */
static pol_status cut_back(pol_database *db, pol_status s)
{
    if (ftruncate(db->file, db->end) < 0)
        pol_log(db->ctx, POL_LOG_WARN, "%s: cannot be cut back to its last whole block: %s", db->path, strerror(errno));
    return s;
}

pol_status pol_db_append(pol_database *db, pol_db_block *b, const float *rows)
{
    writer *w = pol_alloc(db->ctx, sizeof *w);
    if (!w)
        return POL_ENOMEM;
    *w = (writer){.db = db, .hash = XXH3_createState(), .at = db->end};
    pol_status s = w->hash ? POL_OK : pol_fail(db->ctx, POL_ENOMEM, "database: no memory for a checksum");
    if (s == POL_OK) {
        XXH3_64bits_reset(w->hash);
        s = write_record(w, b, rows);
    }
    if (s == POL_OK)
        s = sync_file(db);
    if (s == POL_OK) {
        db->end = w->at;
        db->n_done++;
        b->there = true;
    }
    XXH3_freeState(w->hash);
    pol_free(db->ctx, w);
    return s < 0 ? cut_back(db, s) : POL_OK;
}

/* A file that somebody else made is not written over. */
static pol_status check_magic(const pol_database *db, const uint8_t *data, size_t size)
{
    if (memcmp(data, MAGIC, size < sizeof MAGIC ? size : sizeof MAGIC) != 0)
        return pol_fail(db->ctx, POL_EFORMAT, "%s: no database: it does not begin with '%.8s'", db->path, MAGIC);
    return POL_OK;
}

static pol_status take_what_is_whole(pol_database *db)
{
    pol_map map;
    POL_TRY(pol_map_open(db->ctx, db->path, &map));
    pol_status s = check_magic(db, map.data, map.size);
    if (s == POL_OK)
        s = pol_db_scan(db, map.data, map.size, &db->end);
    pol_map_close(&map);
    return s;
}

pol_status pol_db_open_file(pol_database *db)
{
    uint8_t header[HEADER_BYTES];
    if (pol_path_exists(db->path))
        POL_TRY(take_what_is_whole(db));
    db->file = open(db->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (db->file < 0)
        return fail_io(db, "cannot be opened");
    if (ftruncate(db->file, db->end) < 0)
        return fail_io(db, "cannot be cut to its whole blocks");
    if (db->end)
        return POL_OK;
    make_header(db, header);
    pol_status s = write_at(db, 0, header, HEADER_BYTES);
    if (s == POL_OK)
        s = sync_file(db);
    if (s < 0)
        return cut_back(db, s);
    db->end = HEADER_BYTES;
    return POL_OK;
}
