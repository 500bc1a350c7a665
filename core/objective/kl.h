/* kl.h - what the dense model says of calibration sequences, and how far a masked one is from it. */
#ifndef POL_OBJECTIVE_KL_H
#define POL_OBJECTIVE_KL_H

#include "core/forward.h"
#include "pollard/eval.h"

/* Of every position of a sequence but the last: the k tokens most probable in the dense model, and their values. */
typedef struct pol_dense_top {
    const pol_sequences *text; /* borrowed */
    int64_t k;
    int64_t n;      /* sequences kept */
    int64_t *place; /* [text->n] where a sequence is kept; -1: it is not */
    int32_t *token; /* [n, seq_len - 1, k] */
    float *nll;     /* likewise */
} pol_dense_top;

/* Nothing is kept yet. On success *out is yours: pol_dense_top_free(). */
pol_status pol_dense_top_new(const pol_sequences *text, int32_t vocab, pol_dense_top *out);
void pol_dense_top_free(pol_dense_top *d); /* takes a zeroed one */
/* Adds sequences index[0..n) (NULL: from `first` on) that are not kept yet, from the dense model of `f`, `batch` at a
 * time. On failure those that are kept stay. */
pol_status pol_dense_top_add(pol_dense_top *d, pol_forward *f, int64_t batch, const int64_t *index, int64_t first,
                             int64_t n, pol_eval_progress_fn fn, void *user);

/* target [seq_len, k] of a sequence that is kept: none at its last position. */
void pol_dense_top_targets(const pol_dense_top *d, int64_t sequence, int32_t *target);
/* Mean KL(dense || masked) over the positions of a sequence that is kept: nll [seq_len, k] of the masked model. */
double pol_dense_top_kl(const pol_dense_top *d, int64_t sequence, const float *nll);

/* KL(p || q) in nats, from negative log-probabilities of k events; all else is one more, if there is anything else. */
double pol_kl(const float *p, const float *q, int64_t k);

#endif
