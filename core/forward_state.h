/* forward_state.h - what the parts of the forward pass share: forward.c (blocks), forward_buffers.c (memory),
 * forward_queue.c (whole passes that nobody waits for) and forward_visit.c (those of a streamed model). */
#ifndef POL_FORWARD_STATE_H
#define POL_FORWARD_STATE_H

#include "core/forward.h"
#include "core/model/weights.h"

/* Numbers of a pass's key (forward_queue.c) that come before its layers', and of each layer. */
enum { POL_KEY_HEAD = 4, POL_KEY_LAYER = 6 };

/* A pass whose results are asked for: where they go, once its values have arrived. */
typedef struct pol_pending {
    int64_t B, S;
    int64_t k;    /* targets of a position; 0: the next token */
    float *nll;   /* the caller's, or NULL */
    double *loss; /* likewise */
} pol_pending;

/* Of a streamed model: what a pass that waits for visits needs besides its ids, which are embedded already. */
typedef struct pol_cell {
    pol_buf *x;     /* [T, C] its residual stream */
    int32_t *order; /* [arrangement->size] that its mask came with */
    int64_t *kept;  /* [2 n_layers] as of pol_arrangement */
} pol_cell;

struct pol_forward {
    pol_model *m; /* borrowed */
    int64_t max_tokens, max_seq_len, max_targets;
    int64_t max_pending; /* POL_MAX_CELLS; of a streamed model its cells */
    int64_t B, S, k;     /* of the pass under way */
    pol_buf *x;          /* [T, C] its residual stream, f32: of one of the cells */
    pol_buf *y;          /* [T, C] its norm */
    pol_buf *wide;       /* [T, max(qkv, 2 F)]: what enters attention or swiglu */
    pol_buf *mid;        /* [T, max(G g D, F)]: what leaves it */
    pol_buf *cos_sin, *scratch, *ids, *nll;
    pol_buf *target;              /* [cells, T, max_targets]; nll is one of them */
    pol_buf *stats;               /* [2, max(G g D, F)]: sums of mid, then of its squares */
    int32_t *target_host;         /* [T, max_targets] */
    float *stats_host;            /* as stats */
    int64_t *key;                 /* of a pass that may be recorded */
    pol_cell cell[POL_MAX_CELLS]; /* of a resident model the first one's x alone */
    pol_pending pending[POL_MAX_CELLS];
    float *nll_host; /* [max_pending, T, max_targets]: their values, a row each, when the device has been waited for */
    int64_t n_pending;
    int32_t n_visited; /* of a streamed model: visits that the pending passes have been taken through */
    bool in_flight;    /* the device may still write to nll_host */
};

/* Rows of the vocabulary that go by at a time. */
static inline int64_t pol_forward_slice(const pol_backend *be, const pol_config *c)
{
    return pol_min_i64(be->nll_slice, c->vocab);
}

/* Targets that there is room for in a pass. */
static inline int64_t pol_forward_room(const pol_forward *f) { return pol_mul_count(f->max_tokens, f->max_targets); }

/* Logits of a position that pol_forward_top() looks through at a time: `wide` has room for them. */
int64_t pol_forward_top_columns(const pol_forward *f);

/* Residual streams that are there at a time. */
static inline int64_t pol_cells(const pol_placement *p) { return p && p->streamed ? p->cells : 1; }

/* The parts of pol_forward_begin: shape and ids (transfers), and the embedding (an op). */
pol_status pol_forward_put_ids(pol_forward *f, const int32_t *ids, int64_t B, int64_t S);
pol_status pol_forward_embed(pol_forward *f);
/* y = the norm of x. */
pol_status pol_forward_norm(pol_forward *f, pol_buf *gain);
/* The blocks of a layer whose weights are on the device. */
pol_status pol_forward_attention_of(pol_forward *f, const pol_layer_weights *w, const pol_tap *tap);
pol_status pol_forward_mlp_of(pol_forward *f, const pol_layer_weights *w, const pol_tap *tap);
/* POL_EARG for more than there is room for. Targets [B, S, k] of the pass under way go to `row` of f->target. */
pol_status pol_forward_check_targets(const pol_forward *f, int64_t k);
pol_status pol_forward_put_targets(pol_forward *f, const int32_t *target, int64_t k, int64_t row);
/* nll = values of the targets in `row` of f->target, k a position; the residual stream is at its end. */
pol_status pol_forward_score_row(pol_forward *f, int64_t row);
/* The values of pending pass i, whose residual stream is at its end: computed, and on their way to the host. */
pol_status pol_forward_score(pol_forward *f, int64_t i);

/* Of a streamed model. The pass under way, which will be pending pass i: its ids are embedded, its mask is noted. And
 * what all pending passes are taken through, one after the other: the layers, then their scores. */
pol_status pol_forward_note_cell(pol_forward *f, int64_t i);
int32_t pol_forward_visits(const pol_forward *f); /* how many these are */
pol_status pol_forward_visit(pol_forward *f, int32_t i);

#endif
