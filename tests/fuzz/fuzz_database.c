/* fuzz_database.c - any bytes as the file of a database of two layers: as they are, and once more with the header of
 * this database and right checksums, which random changes would never hit. */
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "core/base/endian.h"
#include "core/repair/database_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LAYERS = 2, GROUPS = 3, CHANNELS = 6, HIDDEN = 4, HEADER = 72, CHECKSUM = 8 };

/* Blocks of all shapes: one without units, one of a single one. */
static pol_config small_model(void)
{
    pol_config c = {.family = "llama",
                    .n_layers = LAYERS,
                    .hidden = HIDDEN,
                    .heads_per_group = 1,
                    .head_dim = 2,
                    .n_groups = GROUPS,
                    .ffn = CHANNELS,
                    .vocab = 8,
                    .max_positions = 8};
    c.layers[0] = (pol_layer_shape){GROUPS, CHANNELS};
    c.layers[1] = (pol_layer_shape){0, 1};
    return c;
}

static void check_block(const pol_db_block *b, int64_t size)
{
    uint8_t seen[CHANNELS] = {0};
    for (int64_t i = 0; i < b->sec->count; i++)
        if (b->order[i] < 0 || b->order[i] >= b->sec->count || seen[b->order[i]]++)
            abort();
    for (int64_t i = 0; i < b->n_levels; i++)
        if (b->level[i] < 0 || b->level[i] > b->sec->count || (i && b->level[i] <= b->level[i - 1]) ||
            !(b->error[i] >= 0 && b->error[i] <= 1))
            abort();
    if (b->level[0] != 0 || b->level[b->n_levels - 1] != b->sec->count)
        abort();
    if (b->covered && (b->rows < HEADER || b->rows + pol_db_units_before(b, b->n_levels - 1) * b->unit * 4 > size))
        abort(); /* rows outside the file */
}

static void scan(pol_context *ctx, const pol_units *u, const pol_config *c, const uint8_t *data, size_t size)
{
    static const pol_database_settings o = {.levels = 3,
                                            .align = 1,
                                            .obs_block = 1,
                                            .damping = 0.01,
                                            .granularity = POL_HEADS | POL_CHANNELS,
                                            .identity = "0123456789abcdef0123456789abcdef"};
    pol_database *db;
    int64_t end, there = 0;
    if (pol_db_new(ctx, "fuzz", &o, u, c, &db) < 0 || pol_db_scan(db, data, size, &end) < 0)
        abort();
    if (end < 0 || end > (int64_t)size || (!end && db->n_done))
        abort();
    for (int64_t k = 0; k < 2 * LAYERS; k++) {
        const pol_db_block *b = &db->block[k];
        if (b->there)
            check_block(b, end);
        else if (b->order || b->level || b->error)
            abort(); /* a block that was refused left something behind */
        there += b->covered && b->there;
    }
    if (there != db->n_done)
        abort();
    pol_database_close(db);
}

/* A file of this database whose one record is the input's bytes, sealed. */
static void scan_sealed(pol_context *ctx, const pol_units *u, const pol_config *c, const uint8_t *data, size_t size)
{
    static const char start[] = "POLDBAS1\1\0\0\0\3\0\0\0"
                                "0123456789abcdef0123456789abcdef"
                                "\2\0\0\0\4\0\0\0\2\0\0";
    uint8_t *file = calloc(HEADER + size + CHECKSUM, 1);
    if (!file)
        return;
    memcpy(file, start, sizeof start);
    pol_put_u64le(file + HEADER - CHECKSUM, XXH3_64bits(file, HEADER - CHECKSUM));
    if (size)
        memcpy(file + HEADER, data, size);
    pol_put_u64le(file + HEADER + size, XXH3_64bits(file + HEADER, size));
    scan(ctx, u, c, file, HEADER + size + CHECKSUM);
    free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pol_context *ctx;
    pol_units *u;
    const pol_config c = small_model();
    if (pol_context_new(NULL, &ctx) < 0)
        return 0;
    if (pol_units_new(ctx, &c, &u) == POL_OK) {
        scan(ctx, u, &c, data, size);
        scan_sealed(ctx, u, &c, data, size);
        pol_units_free(u);
    }
    pol_context_free(ctx);
    return 0;
}
