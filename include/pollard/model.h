/* model.h - weights on a device in the prefix layout, and the masked forward pass over them. */
#ifndef POLLARD_MODEL_H
#define POLLARD_MODEL_H

#include "pollard/device.h"
#include "pollard/mask.h"
#include "pollard/source.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pol_model pol_model;
typedef struct pol_forward pol_forward;

/* Where the weights are: all on the device; or, where they do not fit there, those of the layers in host memory, from
 * where the layers visit the device one after the other. A visit is long, so it serves many passes: up to `cells` are
 * queued and then taken through the layers side by side (pol_forward_queue). Numbers are the same, bit for bit. */
typedef struct pol_placement {
    bool streamed;
    int64_t cells; /* passes that a visit serves, at most POL_MAX_CELLS; 1 where nothing is streamed */
} pol_placement;
enum { POL_MAX_CELLS = 64 };

/* Reads the weights once, into buffers of `be`, or as `placement` says (NULL: resident). `src` and `be` are borrowed;
 * `src` may be closed afterwards, `be` must outlive the model. Host memory on the way: one tensor. POL_EUNSUPPORTED:
 * the backend cannot stream. On success *out is yours: pol_model_free(). */
POL_API pol_status pol_model_load(pol_source *src, pol_backend *be, const pol_placement *placement, pol_model **out);
POL_API void pol_model_free(pol_model *m); /* takes NULL */
POL_API const pol_config *pol_model_config(const pol_model *m);
POL_API const pol_units *pol_model_units(const pol_model *m);
/* Device bytes that pol_model_load will take. */
POL_API uint64_t pol_model_bytes(const pol_config *c, const pol_backend *be, const pol_placement *placement);
/* Host bytes that it takes on the way. */
POL_API uint64_t pol_model_host_bytes(const pol_config *c);

/* Makes the forward pass compute the masked model: swaps unit rows until the kept ones come first. NULL = dense. Cost:
 * the rows that differ from the last mask; of a streamed model, when its layers visit. `mask` is [units->n], read
 * during the call. A failure may leave the rows half moved: every later call on the model is then POL_EARG saying so.
 */
POL_API pol_status pol_model_set_mask(pol_model *m, const uint8_t *mask);

/* The unit at each position: [groups and channels], indexed like unit numbers of those two kinds (positions instead of
 * units). The order is part of a run's state: sums run in it. get copies out, set moves rows until it holds (any
 * permutation inside each section; NULL: each unit at its own number). */
POL_API int64_t pol_model_order_size(const pol_model *m);
POL_API void pol_model_get_order(const pol_model *m, int32_t *order);
POL_API pol_status pol_model_set_order(pol_model *m, const int32_t *order);

/* Buffers for forward passes of up to max_tokens tokens in sequences of up to max_seq_len, at least 2. `m` is borrowed
 * and must outlive *out, which on success is yours: pol_forward_free(). */
POL_API pol_status pol_forward_new(pol_model *m, int64_t max_tokens, int64_t max_seq_len, pol_forward **out);
POL_API void pol_forward_free(pol_forward *f); /* takes NULL */
/* Device bytes that pol_forward_new will take of a model so placed; UINT64_MAX where they cannot be counted. */
POL_API uint64_t pol_forward_bytes(const pol_config *c, pol_backend *be, const pol_placement *placement,
                                   int64_t max_tokens, int64_t max_seq_len);

/* Negative log-likelihood of each next token, nats: ids [B, S] on the host; nll [B, S - 1] (may be NULL); loss [B] =
 * mean of a sequence's S - 1 values (may be NULL). B*S must fit max_tokens. POL_EARG: a shape that does not fit, an id
 * outside the vocabulary. A value that is not finite is returned as it is: the caller decides. */
POL_API pol_status pol_forward_nll(pol_forward *f, const int32_t *ids, int64_t B, int64_t S, float *nll, double *loss);

/* The same without waiting: the pass, under the model's present mask, is queued, and what nll and loss point to is
 * filled when pol_forward_settle() returns, or earlier, where many passes are queued. `ids` are read during the call. A
 * pass or a wait that fails drops all that are queued; dropped ones are never written to their pointers. */
POL_API pol_status pol_forward_queue(pol_forward *f, const int32_t *ids, int64_t B, int64_t S, float *nll,
                                     double *loss);
POL_API pol_status pol_forward_settle(pol_forward *f); /* waits once, for all */
POL_API void pol_forward_drop(pol_forward *f);         /* for who wants them no longer; freeing drops too */

#ifdef __cplusplus
}
#endif
#endif
