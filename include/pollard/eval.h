/* eval.h - perplexity by a stated protocol. */
#ifndef POLLARD_EVAL_H
#define POLLARD_EVAL_H

#include "pollard/data.h"
#include "pollard/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Protocols are data (eval/protocol.c).
 *   paper     WikiText-2 joined by blank lines (other text as it is), one tokenisation, BOS once at the start by the
 *             model's policy, chunks of 128 tokens without overlap, the remainder dropped, 127 targets a chunk, mean
 *             over all targets
 *   standard  the same with 2048 */
typedef struct pol_protocol {
    const char *name;
    int64_t seq_len;
    pol_bos bos;
    const char *text; /* one line for people */
} pol_protocol;
/* NULL for an unknown name. pol_protocol_at: i-th of the table, NULL past its end. */
POL_API const pol_protocol *pol_protocol_find(const char *name);
POL_API const pol_protocol *pol_protocol_at(int64_t i);

typedef struct pol_perplexity {
    double perplexity;          /* exp(nll) */
    double nll;                 /* nats, mean over all targets */
    double standard_error;      /* of nll, from the spread between chunks; NaN for one chunk */
    int64_t tokens;             /* targets scored */
    int64_t chunks, bad_chunks; /* bad: a value not finite in it; then nll is NaN, never a mean without it */
    int64_t seq_len;
    pol_bos bos;
    pol_text_format format;
    char protocol[32]; /* left empty by pol_eval_sequences: its caller knows which */
} pol_perplexity;

/* Called after each batch, which a device may still be computing; a negative status stops. */
typedef pol_status (*pol_eval_progress_fn)(void *user, int64_t done, int64_t total);

/* The model as masked now, over all of `s`, in batches that fit `f`. POL_ELIMIT where not even one sequence does, there
 * is none or it has no target; POL_EINTERRUPTED on a stop request between batches; what `fn` (may be NULL) returned. */
POL_API pol_status pol_eval_sequences(pol_forward *f, const pol_sequences *s, pol_eval_progress_fn fn, void *user,
                                      pol_perplexity *out);

#ifdef __cplusplus
}
#endif
#endif
