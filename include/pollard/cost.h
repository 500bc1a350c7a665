/* cost.h - what units cost, in the quantity that a budget is in, and budgets as people say them. */
#ifndef POLLARD_COST_H
#define POLLARD_COST_H

#include "pollard/mask.h"

#ifdef __cplusplus
extern "C" {
#endif

/* PARAMS: parameters. BYTES: of the weights in the type they are stored in. KV_BYTES: of the key/value cache, a token.
 * MACS: multiply-accumulates a token, attention scores not counted. MS: milliseconds of a forward pass, from a table
 * measured on this machine. */
typedef enum pol_quantity { POL_PARAMS = 0, POL_BYTES, POL_KV_BYTES, POL_MACS, POL_MS } pol_quantity;
POL_API extern const char *const pol_quantity_names[]; /* "params", "bytes", "kv-bytes", "macs", "ms", NULL */

/* Milliseconds of one block by the number of units that it keeps, at some counts, and of the rest of a pass (embedding,
 * last norm, output matrix). Layers of one model differ in nothing but their counts, so one curve a kind serves all. */
enum { POL_TIMING_POINTS = 128 };
typedef struct pol_timing_point {
    int64_t units;
    double ms;
} pol_timing_point;
typedef struct pol_timing {
    int64_t batch, seq_len;                       /* sequences of a pass and their tokens */
    double rest;                                  /* ms */
    int64_t n[2];                                 /* points, by kind: GROUP, CHANNEL */
    pol_timing_point point[2][POL_TIMING_POINTS]; /* units rise from 1 or more, ms never fall */
} pol_timing;

typedef struct pol_cost_options {
    bool embeddings;          /* the whole model counts: embedding and output matrices and norms too */
    double weight_bits;       /* BYTES: of a parameter of the blocks as stored */
    double outside_bits;      /* and of one outside them; 0: the same */
    double cache_bits;        /* KV_BYTES: of a number in the cache */
    const pol_timing *timing; /* MS; read during the call */
} pol_cost_options;

/* The cost of a block by the number of units that it keeps, from 0 (the block is gone: nothing) to all: never falling.
 * fixed: what counts and no mask takes away. The whole model that a mask leaves costs fixed + its blocks. Numbers are
 * multiples of a power of two, so that sums of them are exact: a mask is within a budget or not, never nearly. */
struct pol_cost {
    pol_context *ctx;
    const pol_units *units; /* borrowed */
    pol_quantity quantity;
    bool embeddings; /* `outside` and `norm` count */
    double outside;  /* embedding, output matrix (tied ones once), last norm */
    double norm;     /* of each block that is there, besides its table: its norm */
    double fixed;    /* outside, where embeddings count; else 0 */
    double dense;    /* of the whole model, as counted */
    int64_t *first;  /* [2 * n_layers], index kind * n_layers + layer, kind GROUP or CHANNEL: into table */
    double *table;
};

/* `dense` is the configuration that `u` was made from. POL_EARG: an option that cannot be; a timing that does not reach
 * as far as the model's blocks. On success *out is yours: pol_cost_free(). */
POL_API pol_status pol_cost_new(pol_context *ctx, const pol_units *u, const pol_config *dense, pol_quantity quantity,
                                const pol_cost_options *o, pol_cost **out);
POL_API void pol_cost_free(pol_cost *c); /* takes NULL */

/* Of a block with n units, n >= 0, between whole numbers of them on the straight line. */
POL_API double pol_cost_block(const pol_cost *c, pol_unit_kind kind, int32_t layer, double n);
/* Of the model that a mask leaves (NULL: whole). */
POL_API double pol_cost_mask(const pol_cost *c, const uint8_t *mask);
/* Of one unit, on average over its block; of a block unit: the whole block. */
POL_API double pol_cost_unit(const pol_cost *c, const pol_section *sec);
/* Kinds of units, as a granularity, that cost anything: a budget says nothing about the others. */
POL_API unsigned pol_cost_kinds(const pol_cost *c);

/* A budget as a person asks for it. */
typedef struct pol_budget_request {
    pol_quantity quantity;
    bool absolute;   /* value is in the quantity's own unit, of the whole model; else the share that stays, in (0, 1] */
    bool embeddings; /* what the share is of: the whole model, or the decoder blocks alone; true where absolute */
    double value;
} pol_budget_request;

/* QUANTITY=VALUE. VALUE is
 *   a share that stays         0.7  70%
 *   what goes                  -30%
 *   an amount                  params=350M  params=5.0B  bytes=3GiB  bytes=1.5GB  kv-bytes=24KiB  macs=2G  ms=12.5ms
 * Suffixes: k, M, B or G, T of 1000 (params, macs); B, and kB, MB, GB, TB of 1000, KiB, MiB, GiB, TiB of 1024 (bytes,
 * kv-bytes); us, ms, s (ms). A number above 1 needs none: it is an amount. Shares are of the decoder blocks until the
 * caller sets `embeddings`. POL_EARG naming the value. */
POL_API pol_status pol_budget_parse(pol_context *ctx, const char *text, pol_budget_request *out);
/* What pol_budget.limit is for `c`, which counts embeddings as the request does. POL_EARG: an amount above what the
 * whole model has. */
POL_API pol_status pol_budget_limit(const pol_budget_request *r, const pol_cost *c, double *limit);

/* What a mask came to, for people and programs. */
typedef struct pol_cost_report {
    pol_quantity quantity;
    bool embeddings;              /* in the three amounts */
    double asked;                 /* the limit; NaN: none in this quantity */
    double achieved, dense;       /* of the mask, of the whole model */
    double share;                 /* of the decoder blocks' cost that stays */
    double share_with_embeddings; /* of the whole model's */
} pol_cost_report;
POL_API void pol_cost_reported(const pol_cost *c, double limit, const uint8_t *mask, pol_cost_report *out);
/* "params 94.3 M of at most 94.3 M, dense 134.5 M: 70.0 % of the decoder blocks, 78.9 % with embeddings" */
enum { POL_COST_TEXT = 192 };
POL_API void pol_cost_report_text(const pol_cost_report *r, char dst[POL_COST_TEXT]);
/* An amount with its unit: "94.3 M", "2.81 GiB", "12.5 ms". */
enum { POL_AMOUNT_TEXT = 32 };
POL_API void pol_amount_text(pol_quantity q, double amount, char dst[POL_AMOUNT_TEXT]);

#ifdef __cplusplus
}
#endif
#endif
