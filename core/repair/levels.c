/* levels.c - the rows of a database on a device: all of them, or one level a block. */
#include <string.h>

#include "core/repair/database_state.h"

/* Elements on their way from the file to the device at a time. */
enum { PIECE = 1 << 20 };

/* Of one block. */
typedef struct shelf {
    pol_buf **buf; /* [n_levels] of levels with rows; where not resident the first alone, for all of them */
    int64_t lying; /* index of the level that it holds; 0: none */
} shelf;

struct pol_levels {
    pol_database *db; /* borrowed */
    pol_backend *be;  /* borrowed */
    bool resident;
    shelf *shelf; /* [2 n_layers] */
    float *piece;
};

static pol_status new_rows(const pol_levels *l, const pol_db_block *b, int64_t units, pol_buf **out)
{
    const int64_t n = b->sec->kind == POL_UNIT_CHANNEL ? pol_padded(l->be, units) : units;
    return pol_buf_new_rows(l->be, l->be->weight_dtype, n, b->unit, out);
}

/* Level i of a block from the file to the device. */
static pol_status bring(const pol_levels *l, const pol_db_block *b, int64_t i, pol_buf *to)
{
    const int64_t first = pol_db_units_before(b, i) * b->unit, n = b->level[i] * b->unit;
    for (int64_t at = 0; at < n; at += PIECE) {
        const int64_t these = pol_min_i64(PIECE, n - at);
        POL_TRY(pol_db_read_rows(l->db, b, first + at, l->piece, these));
        POL_TRY(pol_upload(l->be, to, at, l->piece, these));
    }
    return POL_OK;
}

/* Whether level i of a block has rows. */
static bool has_rows(const pol_db_block *b, int64_t i) { return b->level[i] > 0 && b->level[i] < b->sec->count; }

static pol_status fill_shelf(pol_levels *l, int64_t k)
{
    const pol_db_block *b = &l->db->block[k];
    shelf *s = &l->shelf[k];
    s->buf = pol_alloc_zero(l->db->ctx, (size_t)b->n_levels * sizeof *s->buf);
    if (!s->buf)
        return POL_ENOMEM;
    const int64_t largest = b->n_levels - 2; /* the last is all units */
    if (!l->resident)
        return largest > 0 ? new_rows(l, b, b->level[largest], &s->buf[0]) : POL_OK;
    for (int64_t i = 0; i < b->n_levels; i++)
        if (has_rows(b, i)) {
            POL_TRY(pol_check_stop(l->db->ctx));
            POL_TRY(new_rows(l, b, b->level[i], &s->buf[i]));
            POL_TRY(bring(l, b, i, s->buf[i]));
        }
    return POL_OK;
}

pol_status pol_levels_new(pol_database *db, pol_backend *be, bool resident, pol_levels **out)
{
    const int64_t n = 2 * (int64_t)db->units->n_layers;
    *out = NULL;
    if (!pol_database_whole(db))
        return pol_fail(db->ctx, POL_EARG, "%s: %lld of its %lld blocks are there", db->path, (long long)db->n_done,
                        (long long)db->n_total);
    pol_levels *l = pol_alloc_zero(db->ctx, sizeof *l);
    if (!l)
        return POL_ENOMEM;
    *l = (pol_levels){.db = db, .be = be, .resident = resident};
    l->shelf = pol_alloc_zero(db->ctx, (size_t)n * sizeof *l->shelf);
    l->piece = pol_alloc_array(db->ctx, PIECE, sizeof *l->piece);
    pol_status s = l->shelf && l->piece ? POL_OK : POL_ENOMEM;
    for (int64_t k = 0; s == POL_OK && k < n; k++)
        s = fill_shelf(l, k);
    if (s < 0) {
        pol_levels_free(l);
        return s;
    }
    *out = l;
    return POL_OK;
}

void pol_levels_free(pol_levels *l)
{
    if (!l)
        return;
    pol_context *ctx = l->db->ctx;
    for (int64_t k = 0; l->shelf && k < 2 * (int64_t)l->db->units->n_layers; k++) {
        for (int64_t i = 0; l->shelf[k].buf && i < l->db->block[k].n_levels; i++)
            pol_buf_free(l->be, l->shelf[k].buf[i]);
        pol_free(ctx, l->shelf[k].buf);
    }
    pol_free(ctx, l->shelf);
    pol_free(ctx, l->piece);
    pol_free(ctx, l);
}

/* The one buffer of a block that is not resident, with level i in it. */
static pol_status rows_of_file(pol_levels *l, int64_t k, int64_t i, pol_buf **rows)
{
    shelf *s = &l->shelf[k];
    *rows = s->buf[0];
    if (s->lying == i)
        return POL_OK;
    s->lying = 0; /* until all of it is there */
    POL_TRY(bring(l, &l->db->block[k], i, s->buf[0]));
    s->lying = i;
    return POL_OK;
}

pol_status pol_levels_rows(pol_levels *l, const int64_t *length, pol_buf **rows)
{
    for (int64_t k = 0; k < 2 * (int64_t)l->db->units->n_layers; k++) {
        const pol_db_block *b = &l->db->block[k];
        rows[k] = NULL;
        if (length[k] < 0 || length[k] > b->sec->count)
            return pol_fail(l->db->ctx, POL_EARG, "levels: layer %d has %lld of its %lld %s", b->sec->layer,
                            (long long)length[k], (long long)b->sec->count, pol_unit_kind_name(b->sec->kind));
        const int64_t i = pol_db_level_for(b, length[k]);
        if (!has_rows(b, i))
            continue;
        if (l->resident)
            rows[k] = l->shelf[k].buf[i];
        else
            POL_TRY(rows_of_file(l, k, i, &rows[k]));
    }
    return POL_OK;
}
