/* streams.h - the residual streams of calibration sequences between blocks, for work that goes through a model block
 * after block. They lie on the host; a block is passed in batches that fit the forward pass. */
#ifndef POL_STREAMS_H
#define POL_STREAMS_H

#include "core/forward.h"
#include "pollard/data.h"

typedef struct pol_streams {
    pol_forward *f;         /* borrowed */
    int64_t n, S, C, batch; /* sequences, tokens of one, hidden size; sequences that go through at a time */
    float *x;               /* [n, S, C] */
} pol_streams;

/* The embeddings of all sequences. POL_EARG where there are none, or none fits the forward pass. On success *out is
 * yours: pol_streams_free(). */
pol_status pol_streams_begin(pol_forward *f, const pol_sequences *s, pol_streams *out);
/* The same streams again, apart. */
pol_status pol_streams_copy(const pol_streams *s, pol_streams *out);
void pol_streams_free(pol_streams *s); /* takes a zeroed one */
/* Host bytes of one. */
uint64_t pol_streams_bytes(const pol_config *c, int64_t n, int64_t S);

/* All streams through one block of the model as masked now, kind GROUP (attention) or CHANNEL (MLP). `tap` (may be
 * NULL) sees what enters the block's last matrix. `advance`: the streams become what leaves the block; else they stay.
 * toward (may be NULL): the same streams elsewhere in their course; before each batch the tap's gram->target gets
 * toward - x, so that cross products with it are summed. A stop request is seen between batches. */
pol_status pol_streams_block(pol_streams *s, int32_t layer, pol_unit_kind kind, const pol_tap *tap,
                             const pol_streams *toward, bool advance);
/* Through both blocks of a layer at once, each with a tap of its own, which may be NULL. */
pol_status pol_streams_layer(pol_streams *s, int32_t layer, const pol_tap *groups, const pol_tap *channels,
                             bool advance);

#endif
