/* database_state.h - what the parts of the database share: database.c (opening, asking), database_plan.c (levels and
 * sizes), database_file.c (the file) and database_build.c (computing it). */
#ifndef POL_DATABASE_STATE_H
#define POL_DATABASE_STATE_H

#include "core/repair/database.h"

/* One (layer, kind). */
typedef struct pol_db_block {
    const pol_section *sec;
    bool covered;   /* its kind is of the granularity, and it has units */
    bool there;     /* order, levels and rows are known; always where it is not covered */
    int32_t *order; /* [count] */
    int64_t *level; /* [n_levels] rising, 0 and count included */
    double *error;  /* [n_levels] as a share of the block's removal */
    int64_t n_levels;
    double condition;
    int64_t unit; /* elements of a unit's rows */
    int64_t rows; /* where in the file they begin: the levels between 0 and count, one after the other */
} pol_db_block;

struct pol_database {
    pol_context *ctx;
    char *path;
    int file;
    const pol_units *units;   /* borrowed */
    const pol_config *config; /* borrowed */
    pol_database_settings o;
    pol_db_block *block;     /* [2 n_layers], index kind * n_layers + layer */
    int64_t n_done, n_total; /* blocks that are in the file, of those that are covered; in the file's order */
    int64_t end;             /* of the last whole block in the file */
};

static inline pol_db_block *pol_db_block_of(const pol_database *db, int32_t layer, pol_unit_kind kind)
{
    return &db->block[(int64_t)kind * db->units->n_layers + layer];
}

/* A database of nothing yet, without a file. On success *out is yours: pol_database_close(). */
pol_status pol_db_new(pol_context *ctx, const char *path, const pol_database_settings *o, const pol_units *u,
                      const pol_config *c, pol_database **out);
/* The next block to compute; NULL: none. In the order of a walk: attention, then MLP, layer after layer. */
pol_db_block *pol_db_next(const pol_database *db);
/* Makes the arrays of a block. */
pol_status pol_db_block_new(pol_database *db, pol_db_block *b, int64_t n_levels);
void pol_db_block_free(pol_database *db, pol_db_block *b);
/* Units of all levels before the i-th: where its rows begin, in units. */
int64_t pol_db_units_before(const pol_db_block *b, int64_t i);
/* The smallest level that has `length` units: its index. */
int64_t pol_db_level_for(const pol_db_block *b, int64_t length);

/* The file. scan: takes what is whole of the bytes of one, up to *end; 0 where its header is of another database.
 * open: makes db->file, with what is whole in it. append: of pol_db_next(), with rows [units of all levels, unit]. */
pol_status pol_db_scan(pol_database *db, const uint8_t *data, size_t size, int64_t *end);
pol_status pol_db_open_file(pol_database *db);
pol_status pol_db_append(pol_database *db, pol_db_block *b, const float *rows);
/* n elements of the block's rows from element `at` on. */
pol_status pol_db_read_rows(const pol_database *db, const pol_db_block *b, int64_t at, float *dst, int64_t n);

/* What the rows of each level lose as they are, as a share of what the block's removal loses: by tr((W - W_l)^T H (W -
 * W_l)), and that by a few random signs z of the outputs, (W z - W_l z)^T H (W z - W_l z), the same for all levels. So
 * it takes no product of whole matrices; what is least squares for W is so for W z, so that good rows are never
 * above 1. h [N, N], w [N, C]; order, level and rows as of obs_sweep. */
typedef struct pol_level_errors_args {
    int64_t n_units, unit, C, n_levels;
    const double *h;
    const float *w;
    const int32_t *order;
    const int64_t *level;
    float *const *rows;
    double *error; /* out [n_levels] */
} pol_level_errors_args;
pol_status pol_level_errors(pol_context *ctx, const pol_level_errors_args *a);

#endif
