/* forward_state.h - what the parts of the forward pass share: forward.c (blocks), forward_buffers.c (memory) and
 * forward_queue.c (whole passes that nobody waits for). */
#ifndef POL_FORWARD_STATE_H
#define POL_FORWARD_STATE_H

#include "core/forward.h"
#include "core/model/weights.h"

/* Passes that may be queued; one more settles first. A step has some tens of them. */
enum { POL_MAX_PENDING = 64 };

/* Numbers of a pass's key that come before its layers' (forward_queue.c). */
enum { POL_KEY_HEAD = 3 };

/* A pass whose results are asked for: where they go, once its values have arrived. */
typedef struct pol_pending {
    int64_t B, S;
    float *nll;   /* the caller's, or NULL */
    double *loss; /* likewise */
} pol_pending;

struct pol_forward {
    pol_model *m; /* borrowed */
    int64_t max_tokens, max_seq_len;
    int64_t B, S;  /* of the pass under way */
    pol_buf *x;    /* [T, C] residual stream, f32 */
    pol_buf *y;    /* [T, C] its norm */
    pol_buf *wide; /* [T, max(qkv, 2 F)]: what enters attention or swiglu */
    pol_buf *mid;  /* [T, max(G g D, F)]: what leaves it */
    pol_buf *cos_sin, *scratch, *ids, *target, *nll;
    pol_buf *stats;       /* [2, max(G g D, F)]: sums of mid, then of its squares */
    int32_t *target_host; /* [T] */
    float *stats_host;    /* as stats */
    int64_t *key;         /* [POL_KEY_HEAD + 2 n_layers] of a pass that may be recorded */
    pol_pending pending[POL_MAX_PENDING];
    float *nll_host; /* [POL_MAX_PENDING, T]: their values, a row each, when the device has been waited for */
    int64_t n_pending;
    bool in_flight; /* the device may still write to nll_host */
};

/* Rows of the vocabulary that go by at a time. */
static inline int64_t pol_forward_slice(const pol_backend *be, const pol_config *c)
{
    return pol_min_i64(be->nll_slice, c->vocab);
}

/* The parts of pol_forward_begin: shape and ids (transfers), and the embedding (an op). */
pol_status pol_forward_put_ids(pol_forward *f, const int32_t *ids, int64_t B, int64_t S);
pol_status pol_forward_embed(pol_forward *f);
/* y = the norm of x. */
pol_status pol_forward_norm(pol_forward *f, pol_buf *gain);

#endif
