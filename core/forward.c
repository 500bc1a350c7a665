/* forward.c - the masked forward pass, written once, in terms of the ops.
 *
 * A block whose kept prefix is empty is its residual path: nothing is computed. Widths are the kept widths rounded up
 * to the backend's tile; the extra units of an MLP are zeroed by swiglu, groups need no padding.
 */
#include "core/forward.h"

#include <math.h>
#include <string.h>

#include "core/model/rope.h"
#include "core/model/weights.h"

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
    float *nll_host;      /* [T] */
    float *stats_host;    /* as stats */
};

/* One buffer to be. */
typedef struct planned {
    pol_buf **buf;
    pol_dtype dtype;
    int64_t n;
} planned;

enum { BUFFERS = 10 };

static int64_t nll_slice(const pol_backend *be, const pol_config *c) { return pol_min_i64(be->nll_slice, c->vocab); }

/* Widest input of w_o or w_down. */
static int64_t mid_width(const pol_backend *be, const pol_config *c)
{
    int64_t width = 0;
    for (int32_t l = 0; l < c->n_layers; l++)
        width =
            pol_max_i64(width, pol_max_i64(c->layers[l].n_groups * pol_ctx_cols(c), pol_padded(be, c->layers[l].ffn)));
    return width;
}

/* All buffers of `f`, for its max_tokens and max_seq_len. */
static void plan_buffers(const pol_config *c, pol_backend *be, pol_forward *f, planned out[BUFFERS])
{
    const int64_t T = f->max_tokens, S = f->max_seq_len, mid = mid_width(be, c);
    int64_t groups = 0, wide = 0;
    for (int32_t l = 0; l < c->n_layers; l++) {
        groups = pol_max_i64(groups, c->layers[l].n_groups);
        wide = pol_max_i64(wide,
                           pol_max_i64(c->layers[l].n_groups * pol_qkv_rows(c), 2 * pol_padded(be, c->layers[l].ffn)));
    }
    const int64_t attention = groups ? pol_attention_scratch(be, T, S, groups, c->heads_per_group, c->head_dim) : 0;
    const int64_t products = wide ? pol_gemm_scratch(be, T, pol_max_i64(wide, mid), c->hidden) : 0;
    const int64_t scratch =
        pol_max_i64(pol_max_i64(attention, products), pol_nll_scratch(be, T, c->hidden, nll_slice(be, c)));
    const planned all[BUFFERS] = {
        {&f->x, POL_F32, pol_mul_count(T, c->hidden)},
        {&f->y, be->act_dtype, pol_mul_count(T, c->hidden)},
        {&f->wide, be->act_dtype, pol_mul_count(T, wide)},
        {&f->mid, be->act_dtype, pol_mul_count(T, mid)},
        {&f->cos_sin, POL_F32, pol_mul_count(S, c->head_dim)},
        {&f->scratch, POL_F32, scratch}, /* of one op at a time */
        {&f->ids, POL_I32, T},
        {&f->target, POL_I32, T},
        {&f->nll, POL_F32, T},
        {&f->stats, POL_F32, 2 * mid},
    };
    memcpy(out, all, sizeof all);
}

/* UINT64_MAX where that does not fit. */
static uint64_t planned_bytes(const planned *p)
{
    uint64_t bytes;
    return pol_mul_u64((uint64_t)p->n, pol_dtype_size(p->dtype), &bytes) ? bytes : UINT64_MAX;
}

uint64_t pol_forward_bytes(const pol_config *c, pol_backend *be, int64_t max_tokens, int64_t max_seq_len)
{
    planned plan[BUFFERS];
    uint64_t bytes = 0;
    plan_buffers(c, be, &(pol_forward){.max_tokens = max_tokens, .max_seq_len = max_seq_len}, plan);
    for (size_t i = 0; i < BUFFERS; i++)
        if (!pol_add_u64(bytes, planned_bytes(&plan[i]), &bytes))
            return UINT64_MAX;
    return bytes;
}

uint64_t pol_forward_largest_buffer(const pol_config *c, pol_backend *be, int64_t max_tokens, int64_t max_seq_len)
{
    planned plan[BUFFERS];
    uint64_t largest = 0;
    plan_buffers(c, be, &(pol_forward){.max_tokens = max_tokens, .max_seq_len = max_seq_len}, plan);
    for (size_t i = 0; i < BUFFERS; i++)
        if (planned_bytes(&plan[i]) > largest)
            largest = planned_bytes(&plan[i]);
    return largest;
}

static pol_status make_buffers(pol_forward *f)
{
    pol_model *m = f->m;
    const int64_t T = f->max_tokens, S = f->max_seq_len;
    planned plan[BUFFERS];
    plan_buffers(&m->config, m->be, f, plan);
    for (size_t i = 0; i < BUFFERS; i++)
        if (plan[i].n)
            POL_TRY(pol_buf_new(m->be, plan[i].dtype, plan[i].n, plan[i].buf));
    f->target_host = pol_alloc_array(m->ctx, T, sizeof *f->target_host);
    f->nll_host = pol_alloc_array(m->ctx, T, sizeof *f->nll_host);
    f->stats_host = pol_alloc_array(m->ctx, 2 * mid_width(m->be, &m->config), sizeof *f->stats_host);
    float *table = pol_alloc_array(m->ctx, S * m->config.head_dim, sizeof *table);
    if (!f->target_host || !f->nll_host || !f->stats_host || !table) {
        pol_free(m->ctx, table);
        return POL_ENOMEM;
    }
    pol_rope_table(&m->config, S, table);
    pol_status s = pol_upload(m->be, f->cos_sin, 0, table, S * m->config.head_dim);
    pol_free(m->ctx, table);
    return s;
}

pol_status pol_forward_new(pol_model *m, int64_t max_tokens, int64_t max_seq_len, pol_forward **out)
{
    *out = NULL;
    if (max_seq_len < 2 || max_tokens < max_seq_len)
        return pol_fail(m->ctx, POL_EARG,
                        "forward pass of %lld tokens in sequences of %lld: a sequence has at least 2 tokens",
                        (long long)max_tokens, (long long)max_seq_len);
    pol_forward *f = pol_alloc_zero(m->ctx, sizeof *f);
    if (!f)
        return POL_ENOMEM;
    f->m = m;
    f->max_tokens = max_tokens;
    f->max_seq_len = max_seq_len;
    pol_status s = make_buffers(f);
    if (s < 0) {
        pol_forward_free(f);
        return s;
    }
    *out = f;
    return POL_OK;
}

void pol_forward_free(pol_forward *f)
{
    if (!f)
        return;
    pol_buf *const made[] = {f->x,   f->y,      f->wide, f->mid,  f->cos_sin, f->scratch,
                             f->ids, f->target, f->nll,  f->stats}; /* as planned; a lost device plans nothing */
    _Static_assert(POL_COUNT(made) == BUFFERS, "every buffer is freed");
    for (size_t i = 0; i < POL_COUNT(made); i++)
        pol_buf_free(f->m->be, made[i]);
    pol_free(f->m->ctx, f->target_host);
    pol_free(f->m->ctx, f->nll_host);
    pol_free(f->m->ctx, f->stats_host);
    pol_free(f->m->ctx, f);
}

int64_t pol_forward_max_tokens(const pol_forward *f) { return f->max_tokens; }
pol_model *pol_forward_model(const pol_forward *f) { return f->m; }

static pol_status set_shape(pol_forward *f, int64_t B, int64_t S)
{
    POL_TRY(pol_model_check_whole(f->m));
    if (B < 1 || S < 2 || S > f->max_seq_len || B > f->max_tokens / S)
        return pol_fail(
            f->m->ctx, POL_EARG,
            "%lld sequences of %lld tokens do not fit a forward pass made for %lld tokens in sequences of %lld",
            (long long)B, (long long)S, (long long)f->max_tokens, (long long)f->max_seq_len);
    f->B = B;
    f->S = S;
    return POL_OK;
}

pol_status pol_forward_begin(pol_forward *f, const int32_t *ids, int64_t B, int64_t S)
{
    const pol_config *c = &f->m->config;
    POL_TRY(set_shape(f, B, S));
    for (int64_t t = 0; t < B * S; t++)
        if (ids[t] < 0 || ids[t] >= c->vocab)
            return pol_fail(f->m->ctx, POL_EARG, "token id %d is outside the vocabulary of %d", ids[t], c->vocab);
    POL_TRY(pol_upload(f->m->be, f->ids, 0, ids, B * S));
    return pol_embed(
        f->m->be,
        &(pol_embed_args){
            .x = {f->x, 0}, .table = {f->m->embed, 0}, .ids = {f->ids, 0}, .T = B * S, .C = c->hidden, .V = c->vocab});
}

pol_status pol_forward_put(pol_forward *f, const float *x, int64_t B, int64_t S)
{
    POL_TRY(set_shape(f, B, S));
    return pol_upload(f->m->be, f->x, 0, x, B * S * f->m->config.hidden);
}

pol_status pol_forward_get(pol_forward *f, float *x)
{
    return pol_download(f->m->be, f->x, 0, x, f->B * f->S * f->m->config.hidden);
}

static pol_status norm_into_y(pol_forward *f, pol_buf *gain)
{
    const pol_config *c = &f->m->config;
    return pol_rmsnorm(
        f->m->be,
        &(pol_rmsnorm_args){
            .y = {f->y, 0}, .x = {f->x, 0}, .gain = {gain, 0}, .T = f->B * f->S, .C = c->hidden, .eps = c->rms_eps});
}

/* Adds up what `mid` holds of the first `kept` of N columns. */
static pol_status tap_mid(pol_forward *f, const pol_tap *tap, int64_t N, int64_t kept)
{
    if (!tap)
        return POL_OK;
    POL_TRY(pol_activation_stats(
        f->m->be, &(pol_activation_stats_args){
                      .x = {f->mid, 0}, .sum = {f->stats, 0}, .sumsq = {f->stats, N}, .T = f->B * f->S, .N = N}));
    POL_TRY(pol_download(f->m->be, f->stats, 0, f->stats_host, 2 * N));
    for (int64_t i = 0; tap->sum && i < kept; i++)
        tap->sum[i] += f->stats_host[i];
    for (int64_t i = 0; tap->sumsq && i < kept; i++)
        tap->sumsq[i] += f->stats_host[N + i];
    return POL_OK;
}

pol_status pol_forward_attention(pol_forward *f, int32_t layer, const pol_tap *tap)
{
    pol_backend *be = f->m->be;
    const pol_config *c = &f->m->config;
    const pol_layer_weights *w = &f->m->layers[layer];
    const int64_t T = f->B * f->S, G = w->n_groups, g = c->heads_per_group, D = c->head_dim;
    if (!G)
        return POL_OK;
    POL_TRY(norm_into_y(f, w->attn_norm));
    POL_TRY(pol_project(be, &(pol_project_args){.y = {f->wide, 0},
                                                .x = {f->y, 0},
                                                .w = {w->w_qkv, 0},
                                                .bias = {w->b_qkv, 0},
                                                .scratch = {f->scratch, 0},
                                                .T = T,
                                                .N = G * pol_qkv_rows(c),
                                                .C = c->hidden}));
    POL_TRY(pol_rope(
        be,
        &(pol_rope_args){.qkv = {f->wide, 0}, .cos_sin = {f->cos_sin, 0}, .T = T, .S = f->S, .G = G, .g = g, .D = D}));
    POL_TRY(pol_attention(be, &(pol_attention_args){.out = {f->mid, 0},
                                                    .qkv = {f->wide, 0},
                                                    .scratch = {f->scratch, 0},
                                                    .T = T,
                                                    .S = f->S,
                                                    .G = G,
                                                    .g = g,
                                                    .D = D,
                                                    .window = c->window,
                                                    .scale = 1.0f / sqrtf((float)D)}));
    POL_TRY(tap_mid(f, tap, G * pol_ctx_cols(c), G * pol_ctx_cols(c)));
    return pol_project_add(be, &(pol_project_add_args){.x = {f->x, 0},
                                                       .h = {f->mid, 0},
                                                       .w = {w->w_o, 0},
                                                       .bias = {w->b_o, 0},
                                                       .scratch = {f->scratch, 0},
                                                       .T = T,
                                                       .N = G * pol_ctx_cols(c),
                                                       .C = c->hidden});
}

pol_status pol_forward_mlp(pol_forward *f, int32_t layer, const pol_tap *tap)
{
    pol_backend *be = f->m->be;
    const pol_config *c = &f->m->config;
    const pol_layer_weights *w = &f->m->layers[layer];
    const int64_t T = f->B * f->S, kept = w->n_channels, padded = pol_padded(be, kept);
    if (!kept)
        return POL_OK;
    POL_TRY(norm_into_y(f, w->mlp_norm));
    POL_TRY(pol_project_swiglu(be, &(pol_project_swiglu_args){.h = {f->mid, 0},
                                                              .gu = {f->wide, 0},
                                                              .x = {f->y, 0},
                                                              .w = {w->w_gate_up, 0},
                                                              .bias = {w->b_gate_up, 0},
                                                              .scratch = {f->scratch, 0},
                                                              .T = T,
                                                              .kept = kept,
                                                              .padded = padded,
                                                              .C = c->hidden}));
    POL_TRY(tap_mid(f, tap, padded, kept));
    return pol_project_add(be, &(pol_project_add_args){.x = {f->x, 0},
                                                       .h = {f->mid, 0},
                                                       .w = {w->w_down, 0},
                                                       .bias = {w->b_down, 0},
                                                       .scratch = {f->scratch, 0},
                                                       .T = T,
                                                       .N = padded,
                                                       .C = c->hidden});
}

/* The target of a position is the next token; the last position of a sequence has none. */
static pol_status put_targets(pol_forward *f, const int32_t *ids)
{
    const int64_t S = f->S, T = f->B * S;
    for (int64_t t = 0; t < T; t++)
        f->target_host[t] = t % S == S - 1 ? -1 : ids[t + 1];
    return pol_upload(f->m->be, f->target, 0, f->target_host, T);
}

static pol_status score_targets(pol_forward *f, float *nll, double *loss)
{
    pol_model *m = f->m;
    const pol_config *c = &m->config;
    const int64_t B = f->B, S = f->S, T = B * S;
    POL_TRY(norm_into_y(f, m->output_norm));
    POL_TRY(pol_nll(m->be, &(pol_nll_args){.nll = {f->nll, 0},
                                           .x = {f->y, 0},
                                           .w = {m->output, 0},
                                           .target = {f->target, 0},
                                           .scratch = {f->scratch, 0},
                                           .T = T,
                                           .C = c->hidden,
                                           .V = c->vocab,
                                           .slice = nll_slice(m->be, c)}));
    POL_TRY(pol_download(m->be, f->nll, 0, f->nll_host, T));
    for (int64_t b = 0; b < B; b++) {
        double sum = 0;
        for (int64_t p = 0; p < S - 1; p++) {
            const float v = f->nll_host[b * S + p];
            sum += v;
            if (nll)
                nll[b * (S - 1) + p] = v;
        }
        if (loss)
            loss[b] = sum / (double)(S - 1);
    }
    return POL_OK;
}

pol_status pol_forward_nll(pol_forward *f, const int32_t *ids, int64_t B, int64_t S, float *nll, double *loss)
{
    POL_TRY(pol_forward_begin(f, ids, B, S));
    POL_TRY(put_targets(f, ids)); /* now: an upload further on would have to wait for the device */
    for (int32_t l = 0; l < f->m->config.n_layers; l++) {
        POL_TRY(pol_forward_attention(f, l, NULL));
        POL_TRY(pol_forward_mlp(f, l, NULL));
    }
    return score_targets(f, nll, loss);
}
