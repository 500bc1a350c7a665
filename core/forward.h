/* forward.h - the masked forward pass in steps, for those who look inside: metrics that need what enters a block's last
 * matrix. */
#ifndef POL_FORWARD_H
#define POL_FORWARD_H

#include "core/backend.h"
#include "core/gram.h"
#include "pollard/model.h"

/* Where given, statistics of what enters w_o (attention) or w_down (MLP) are added up, by position in the kept prefix.
 * Host arrays, as long as that input is wide. */
typedef struct pol_tap {
    double *sum, *sumsq; /* over tokens, of x and of x^2; NULL: not wanted */
    /* Second moments; NULL: not wanted. It was reset to the width that the pass computes: of attention the kept
     * columns, of the MLP pol_padded() of the kept channels. */
    pol_gram_sums *gram;
} pol_tap;

/* The residual stream of B sequences of S tokens is set from ids (embedding) or from the host [B*S, C]; blocks then act
 * on it in place. Passes that are queued are settled first. A block of a streamed model brings its layer to the device,
 * unless it is there: all that is to be done with a layer is best done at once. */
pol_status pol_forward_begin(pol_forward *f, const int32_t *ids, int64_t B, int64_t S);
pol_status pol_forward_put(pol_forward *f, const float *x, int64_t B, int64_t S);
pol_status pol_forward_get(pol_forward *f, float *x);
pol_status pol_forward_attention(pol_forward *f, int32_t layer, const pol_tap *tap);
pol_status pol_forward_mlp(pol_forward *f, int32_t layer, const pol_tap *tap);

/* What a forward pass has room for. pol_forward_new() makes one with a target a position, the next token. */
typedef struct pol_forward_size {
    int64_t max_tokens, max_seq_len;
    int64_t max_targets; /* of a position, at most POL_MAX_TARGETS; 0 is 1 */
} pol_forward_size;

pol_status pol_forward_new_sized(pol_model *m, const pol_forward_size *size, pol_forward **out);
/* Device bytes that it takes; its largest buffer; UINT64_MAX where they cannot be counted. And host bytes. */
uint64_t pol_forward_bytes_sized(const pol_config *c, pol_backend *be, const pol_placement *placement,
                                 const pol_forward_size *size);
uint64_t pol_forward_largest_buffer(const pol_config *c, pol_backend *be, const pol_placement *placement,
                                    const pol_forward_size *size);
uint64_t pol_forward_host_bytes(const pol_config *c, const pol_backend *be, const pol_placement *placement,
                                const pol_forward_size *size);
int64_t pol_forward_max_targets(const pol_forward *f);

/* pol_forward_queue() with targets of the caller's: target [B, S, k] tokens, -1 = not scored; nll [B, S, k], 0 there.
 * `target` is read during the call. */
pol_status pol_forward_queue_targets(pol_forward *f, const int32_t *ids, const int32_t *target, int64_t B, int64_t S,
                                     int64_t k, float *nll);

/* The k most probable next tokens of each position, in no order, and their negative log-likelihoods: token, nll [B, S,
 * k]; k at most the vocabulary. Waits; passes that are queued are settled first. Of tokens that the device's activation
 * type cannot tell apart some may be taken for others; the values are those of pol_forward_queue_targets(). */
pol_status pol_forward_top(pol_forward *f, const int32_t *ids, int64_t B, int64_t S, int64_t k, int32_t *token,
                           float *nll);

int64_t pol_forward_max_tokens(const pol_forward *f);
int64_t pol_forward_max_pending(const pol_forward *f); /* passes that may be queued; one more settles first */
bool pol_forward_is_full(const pol_forward *f);        /* as many are, and have not set out */

/* A part of what pol_forward_settle() does before it waits: of a streamed model the passes that are queued go through
 * one layer. *more: there are other parts. For who has several devices to keep busy. A failure drops all. */
pol_status pol_forward_advance(pol_forward *f, bool *more);
pol_model *pol_forward_model(const pol_forward *f);

#endif
