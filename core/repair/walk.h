/* walk.h - calibration streams through a dense model, block after block, and what is known of a block on the way: the
 * second moments of what enters its last matrix, and that matrix. */
#ifndef POL_WALK_H
#define POL_WALK_H

#include "core/gram.h"
#include "core/model/weights.h"
#include "core/streams.h"

typedef struct pol_walk {
    pol_model *m; /* borrowed; dense until the end, its units at their own numbers */
    pol_streams streams;
    pol_gram_sums sums;
    double *h; /* [N, N] X^T X / tokens, of the block that was looked at last */
    float *w;  /* [N, C] its w_o or w_down */
} pol_walk;

/* On success *out is yours: pol_walk_end(). Kinds GROUP and CHANNEL of the granularity can be looked at. */
pol_status pol_walk_begin(pol_forward *f, const pol_sequences *cal, unsigned granularity, pol_walk *out);
void pol_walk_end(pol_walk *w); /* takes a zeroed one */
/* The streams go through the next block: attention, then MLP, layer after layer. `look`: h and w become those of the
 * block. Where nothing but zeros enters it, h is the unit matrix: every order of its units is as good, and all rows are
 * best as they are. */
pol_status pol_walk_block(pol_walk *w, int32_t layer, pol_unit_kind kind, bool look);
/* Host bytes of a walk of n sequences of S tokens. */
uint64_t pol_walk_host_bytes(const pol_config *c, unsigned granularity, int64_t n, int64_t S);

/* Least squares over fewer tokens than columns fit those tokens alone: POL_ELIMIT below 4 a column of the widest block
 * of the granularity, a warning below 10. */
pol_status pol_check_tokens(pol_context *ctx, const pol_config *c, unsigned granularity, int64_t tokens);

#endif
