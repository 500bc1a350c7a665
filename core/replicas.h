/* replicas.h - a model on several devices of one kind, whole on each: passes are dealt out to them.
 *
 * Every replica goes through the same masks in the same order. So its units lie in the same order as those of the
 * others, its sums run in that order, and a value does not tell which of them computed it. The price is memory, and a
 * change of mask on each device for its share of the passes under it.
 */
#ifndef POL_REPLICAS_H
#define POL_REPLICAS_H

#include "core/model/weights.h"
#include "pollard/memory.h"

typedef struct pol_replica {
    pol_model *model;
    pol_forward *forward;
} pol_replica;

typedef struct pol_replicas {
    pol_context *ctx;
    pol_replica *of; /* [n] */
    int64_t n;
    int64_t next; /* whose turn it is */
} pol_replicas;

/* Reads the weights once a device; after the first they come from the system's cache of the file. `devices` are
 * borrowed; memory [n] is what was planned for each. A failure on one of several devices names it, here and in all that
 * follows. On failure *r is zeroed. */
pol_status pol_replicas_open(pol_source *src, pol_backend *const *devices, const pol_memory *memory, int64_t n,
                             int64_t max_tokens, int64_t max_seq_len, pol_replicas *r);
void pol_replicas_close(pol_replicas *r); /* takes a zeroed one */

pol_status pol_replicas_set_mask(pol_replicas *r, const uint8_t *mask);
pol_status pol_replicas_set_order(pol_replicas *r, const int32_t *order); /* NULL: each unit at its own number */
/* rows [n]: those of each replica's device (pol_levels_rows); NULL: their own. */
pol_status pol_replicas_set_lengths(pol_replicas *r, const int64_t *length, pol_buf *const *const *rows);
pol_status pol_replicas_put(pol_replicas *r, int32_t layer, pol_part part, int64_t first, int64_t n,
                            const float *values);
pol_status pol_replicas_put_bias(pol_replicas *r, int32_t layer, pol_unit_kind kind, const float *values);
/* As pol_model_reload_last(). */
pol_status pol_replicas_reload_last(pol_replicas *r, pol_source *src);
/* After work on the first replica alone: the others take over its order. All are dense then. */
pol_status pol_replicas_follow_first(pol_replicas *r);

/* The status of something done on replica i alone; of a failure the sentence gets the device in front, where there are
 * several. */
pol_status pol_replicas_on(const pol_replicas *r, int64_t i, pol_status s);

/* pol_forward_queue, _settle and _drop, on the replicas in turn; a failure on one of them drops what all have. No
 * device is waited for before all have their work. Settling begins the next round with the first, so that equal rounds
 * are dealt out equally. */
pol_status pol_replicas_queue(pol_replicas *r, const int32_t *ids, int64_t B, int64_t S, float *nll, double *loss);
/* pol_forward_queue_targets likewise; there is room for as many targets as the memory was planned for. */
pol_status pol_replicas_queue_targets(pol_replicas *r, const int32_t *ids, const int32_t *target, int64_t B, int64_t S,
                                      int64_t k, float *nll);
pol_status pol_replicas_settle(pol_replicas *r);
void pol_replicas_drop(pol_replicas *r);

#endif
