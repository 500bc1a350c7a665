/* forward_top.c - the most probable next tokens of each position.
 *
 * Logits come by in slices of the vocabulary and are looked through on the host, which keeps the best k so far of each
 * position. They are used for nothing else: values come from the nll op, as those of other passes do.
 */
#include <math.h>

#include "core/forward_state.h"

/* Of one pass: the best tokens of a position so far are a heap whose root is the worst of them. */
typedef struct selection {
    pol_forward *f;
    int64_t T, k;
    float *logit;   /* [T, k] */
    int32_t *token; /* [T, k] */
    float *slice;   /* [T, columns] */
} selection;

/* Puts (logit, token) in the place of the root of a heap of k. */
static void replace_root(float *logit, int32_t *token, int64_t k, float v, int32_t id)
{
    int64_t at = 0;
    for (int64_t child = 1; child < k; child = 2 * at + 1) {
        if (child + 1 < k && logit[child + 1] < logit[child])
            child++;
        if (!(logit[child] < v))
            break;
        logit[at] = logit[child];
        token[at] = token[child];
        at = child;
    }
    logit[at] = v;
    token[at] = id;
}

/* Logits of n tokens from `first` on. */
static void look_through(selection *s, int64_t first, int64_t n)
{
    for (int64_t t = 0; t < s->T; t++) {
        float *logit = s->logit + t * s->k;
        int32_t *token = s->token + t * s->k;
        const float *v = s->slice + t * n;
        for (int64_t i = 0; i < n; i++)
            if (v[i] > logit[0])
                replace_root(logit, token, s->k, v[i], (int32_t)(first + i));
    }
}

static pol_status select_tokens(selection *s)
{
    pol_forward *f = s->f;
    pol_model *m = f->m;
    const int64_t V = m->config.vocab, C = m->config.hidden, columns = pol_forward_top_columns(f);
    for (int64_t i = 0; i < s->T * s->k; i++) {
        s->logit[i] = -INFINITY;
        s->token[i] = (int32_t)(i % s->k); /* stays where no logit is a number: their values say so */
    }
    for (int64_t first = 0; first < V; first += columns) {
        const int64_t n = pol_min_i64(columns, V - first);
        POL_TRY(pol_project(m->be, &(pol_project_args){.y = {f->wide, 0},
                                                       .x = {f->y, 0},
                                                       .w = {m->output, first * C},
                                                       .scratch = {f->scratch, 0},
                                                       .T = s->T,
                                                       .N = n,
                                                       .C = C}));
        POL_TRY(pol_download(m->be, f->wide, 0, s->slice, s->T * n));
        look_through(s, first, n);
    }
    return POL_OK;
}

static pol_status run_blocks(pol_forward *f, const int32_t *ids, int64_t B, int64_t S)
{
    POL_TRY(pol_forward_begin(f, ids, B, S));
    for (int32_t l = 0; l < f->m->config.n_layers; l++) {
        POL_TRY(pol_forward_attention(f, l, NULL));
        POL_TRY(pol_forward_mlp(f, l, NULL));
    }
    return pol_forward_norm(f, f->m->output_norm);
}

/* nll [T, k] of the tokens that are selected. */
static pol_status score(selection *s, float *nll)
{
    POL_TRY(pol_forward_put_targets(s->f, s->token, s->k, 0));
    POL_TRY(pol_forward_score_row(s->f, 0));
    return pol_download(s->f->m->be, s->f->nll, 0, nll, s->T * s->k);
}

pol_status pol_forward_top(pol_forward *f, const int32_t *ids, int64_t B, int64_t S, int64_t k, int32_t *token,
                           float *nll)
{
    pol_context *ctx = f->m->ctx;
    if (k > f->m->config.vocab)
        return pol_fail(ctx, POL_EARG, "the %lld most probable of a vocabulary of %d", (long long)k,
                        f->m->config.vocab);
    POL_TRY(pol_forward_check_targets(f, k));
    POL_TRY(run_blocks(f, ids, B, S));
    selection s = {.f = f, .T = B * S, .k = k, .token = token};
    s.logit = pol_alloc_array(ctx, s.T * k, sizeof *s.logit);
    s.slice = pol_alloc_array(ctx, s.T * pol_forward_top_columns(f), sizeof *s.slice);
    pol_status e = s.logit && s.slice ? select_tokens(&s) : POL_ENOMEM;
    if (e == POL_OK)
        e = score(&s, nll);
    pol_free(ctx, s.logit);
    pol_free(ctx, s.slice);
    return e;
}
