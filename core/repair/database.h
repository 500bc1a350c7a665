/* database.h - the repaired model at every level: for each (layer, kind) the nested order of its units and, for some
 * numbers of units kept, the rows of its last matrix that make up for the others.
 *
 * Building it takes the dense streams through the model once: Gram matrix of what enters w_o or w_down, order, rows. It
 * is a file, written a block at a time, so that a run that stopped goes on behind the last whole block. Levels then lie
 * in device memory, where there is room, or are read when they are needed.
 */
#ifndef POL_DATABASE_H
#define POL_DATABASE_H

#include "core/gram.h"
#include "core/model/weights.h"
#include "core/streams.h"
#include "pollard/data.h"
#include "pollard/repair.h"

/* Numbers of units kept that have rows: `levels` equal steps from 0 to all, to the nearest multiple of `align` (all
 * units is a level whatever it divides by); of groups each number. 0 and the whole block need no rows. level [count +
 * 1] is given by the caller; rising; *n of them, 0 and count included. */
void pol_database_levels(int64_t count, pol_unit_kind kind, int64_t levels, int64_t align, int64_t *level, int64_t *n);

/* The nested order by a metric, which is finite: units by falling metric, ties to the lower number. */
pol_status pol_order_by_metric(pol_context *ctx, const float *metric, int64_t n, int32_t *order);

/* Units that a sweep had best remove at a time: one, and of MLPs so wide that this takes minutes a layer, several. */
int64_t pol_obs_block(pol_unit_kind kind, int64_t count);

typedef struct pol_database_settings {
    int64_t levels, align;
    int64_t obs_block; /* channels removed at a time; POL_AUTO: pol_obs_block() */
    double damping;
    const float *metric; /* [units->n], borrowed until all blocks are there, and looked at only where one is computed:
                          * their order is pol_order_by_metric()'s; NULL: OBS order */
    unsigned granularity;
    char identity[33]; /* of model, text and settings: a file of another is not gone on with */
} pol_database_settings;

typedef struct pol_database pol_database;

/* Opens `path` where it holds blocks of this identity, else begins it anew; POL_EFORMAT for a file that is none of
 * ours. What is half written or damaged, and all after it, is cut off. `m`'s units and configuration are borrowed. On
 * success *out is yours: pol_database_close(), which leaves the file. */
pol_status pol_database_open(pol_context *ctx, const char *path, const pol_database_settings *o, const pol_model *m,
                             pol_database **out);
void pol_database_close(pol_database *db); /* takes NULL */

/* Told after each block: blocks that are there, of how many. */
typedef void (*pol_database_watch)(void *user, int64_t done, int64_t total);
/* Computes the blocks that are missing: `cal` goes through the dense model, a layer after the other, and each block is
 * in the file before the next begins. `host` has obs_sweep (pol_can_repair). The model is dense afterwards, its units
 * at their own numbers. *sequences (may be NULL) gets the forward sequences spent. Tokens as pol_check_tokens() wants
 * them. A level whose rows lose more than the block's removal would is left out, with a warning. Condition numbers and
 * errors go to the log. POL_ENUMERIC names the block; POL_EIO where the disk is full, and nothing is left of the block
 * half written. */
pol_status pol_database_build(pol_database *db, pol_forward *f, pol_backend *host, const pol_sequences *cal,
                              pol_database_watch watch, void *user, int64_t *sequences);
int64_t pol_database_done(const pol_database *db); /* blocks that are there */
bool pol_database_whole(const pol_database *db);   /* no block is missing: what follows is of such a one */
/* Host bytes of building besides the database: streams, moments, a block's rows, what obs_sweep takes. */
uint64_t pol_database_host_bytes(const pol_config *c, const pol_database_settings *o, int64_t n, int64_t S);

/* Blocks of kinds outside the granularity have no rows: their order is that of the numbers, their levels are 0 and all.
 *
 * Units of a block, the one that is kept longest first: numbers inside the section. */
const int32_t *pol_database_order(const pol_database *db, int32_t layer, pol_unit_kind kind);
/* As an order of positions for pol_model_set_order(): [model order size]. */
void pol_database_full_order(const pol_database *db, int32_t *order);
/* Levels of a block: rising, 0 and all included; their errors: what the block's output loses as a share of what it
 * loses with the whole block, damping counted (obs_sweep's loss). */
const int64_t *pol_database_level(const pol_database *db, int32_t layer, pol_unit_kind kind, int64_t *n);
const double *pol_database_error(const pol_database *db, int32_t layer, pol_unit_kind kind);
double pol_database_condition(const pol_database *db, int32_t layer, pol_unit_kind kind);

/* Device bytes of all levels in the weight type, and of the largest one of each block: what pol_levels_new() takes if
 * all lie there, and if not; if no level is left out. */
uint64_t pol_database_bytes(const pol_config *c, const pol_backend *be, int64_t levels, int64_t align,
                            unsigned granularity);
uint64_t pol_database_least_bytes(const pol_config *c, const pol_backend *be, int64_t levels, int64_t align,
                                  unsigned granularity);
uint64_t pol_database_file_bytes(const pol_config *c, int64_t levels, int64_t align, unsigned granularity);

/* Levels as rows for pol_model_set_lengths() on one device. */
typedef struct pol_levels pol_levels;
/* All on the device where `resident`, else one a block at a time, read from the file when another is wanted. */
pol_status pol_levels_new(pol_database *db, pol_backend *be, bool resident, pol_levels **out);
void pol_levels_free(pol_levels *l); /* takes NULL */
/* Rows for `length` units of each block ([2 n_layers], as of pol_model_set_lengths): those of the smallest level that
 * has as many; exactly the least-squares rows where length is a level. NULL where the block is gone, or where that
 * level is the whole block: its own rows are meant, in the order of the database. */
pol_status pol_levels_rows(pol_levels *l, const int64_t *length, pol_buf **rows);
/* The same rows to the host: dst [length, unit row]. *level gets the level; where there are no rows, 0 or all units,
 * nothing is written. */
pol_status pol_levels_read(pol_database *db, int32_t layer, pol_unit_kind kind, int64_t length, float *dst,
                           int64_t *level);

#endif
