/* forward.c - the masked forward pass, written once, in terms of the ops.
 *
 * A block whose kept prefix is empty is its residual path: nothing is computed. Widths are the kept widths rounded up
 * to the backend's tile; the extra units of an MLP are zeroed by swiglu, groups need no padding.
 */
#include <math.h>

#include "core/forward_state.h"

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

pol_status pol_forward_put_ids(pol_forward *f, const int32_t *ids, int64_t B, int64_t S)
{
    const pol_config *c = &f->m->config;
    POL_TRY(set_shape(f, B, S));
    for (int64_t t = 0; t < B * S; t++)
        if (ids[t] < 0 || ids[t] >= c->vocab)
            return pol_fail(f->m->ctx, POL_EARG, "token id %d is outside the vocabulary of %d", ids[t], c->vocab);
    return pol_upload(f->m->be, f->ids, 0, ids, B * S);
}

pol_status pol_forward_embed(pol_forward *f)
{
    const pol_config *c = &f->m->config;
    return pol_embed(f->m->be, &(pol_embed_args){.x = {f->x, 0},
                                                 .table = {f->m->embed, 0},
                                                 .ids = {f->ids, 0},
                                                 .T = f->B * f->S,
                                                 .C = c->hidden,
                                                 .V = c->vocab});
}

pol_status pol_forward_begin(pol_forward *f, const int32_t *ids, int64_t B, int64_t S)
{
    POL_TRY(pol_forward_settle(f));
    POL_TRY(pol_forward_put_ids(f, ids, B, S));
    return pol_forward_embed(f);
}

pol_status pol_forward_put(pol_forward *f, const float *x, int64_t B, int64_t S)
{
    POL_TRY(pol_forward_settle(f));
    POL_TRY(set_shape(f, B, S));
    return pol_upload(f->m->be, f->x, 0, x, B * S * f->m->config.hidden);
}

pol_status pol_forward_get(pol_forward *f, float *x)
{
    return pol_download(f->m->be, f->x, 0, x, f->B * f->S * f->m->config.hidden);
}

pol_status pol_forward_norm(pol_forward *f, pol_buf *gain)
{
    const pol_config *c = &f->m->config;
    return pol_rmsnorm(
        f->m->be,
        &(pol_rmsnorm_args){
            .y = {f->y, 0}, .x = {f->x, 0}, .gain = {gain, 0}, .T = f->B * f->S, .C = c->hidden, .eps = c->rms_eps});
}

/* Adds up what `mid` holds of the first `kept` of N columns. */
static pol_status tap_sums(pol_forward *f, const pol_tap *tap, int64_t N, int64_t kept)
{
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

static pol_status tap_mid(pol_forward *f, const pol_tap *tap, int64_t N, int64_t kept)
{
    if (tap && (tap->sum || tap->sumsq))
        POL_TRY(tap_sums(f, tap, N, kept));
    return tap && tap->gram ? pol_gram_add(tap->gram, (pol_view){f->mid, 0}, f->B * f->S, N) : POL_OK;
}

pol_status pol_forward_attention_of(pol_forward *f, const pol_layer_weights *w, const pol_tap *tap)
{
    pol_backend *be = f->m->be;
    const pol_config *c = &f->m->config;
    const int64_t T = f->B * f->S, G = w->n_groups, g = c->heads_per_group, D = c->head_dim;
    if (!G)
        return POL_OK;
    POL_TRY(pol_forward_norm(f, w->attn_norm));
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
                                                       .w = {w->rows_o ? w->rows_o : w->w_o, 0},
                                                       .bias = {w->b_o, 0},
                                                       .scratch = {f->scratch, 0},
                                                       .T = T,
                                                       .N = G * pol_ctx_cols(c),
                                                       .C = c->hidden});
}

pol_status pol_forward_mlp_of(pol_forward *f, const pol_layer_weights *w, const pol_tap *tap)
{
    pol_backend *be = f->m->be;
    const pol_config *c = &f->m->config;
    const int64_t T = f->B * f->S, kept = w->n_channels, padded = pol_padded(be, kept);
    if (!kept)
        return POL_OK;
    POL_TRY(pol_forward_norm(f, w->mlp_norm));
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
                                                       .w = {w->rows_down ? w->rows_down : w->w_down, 0},
                                                       .bias = {w->b_down, 0},
                                                       .scratch = {f->scratch, 0},
                                                       .T = T,
                                                       .N = padded,
                                                       .C = c->hidden});
}

pol_status pol_forward_attention(pol_forward *f, int32_t layer, const pol_tap *tap)
{
    pol_layer_weights w;
    POL_TRY(pol_model_layer(f->m, layer, &w));
    return pol_forward_attention_of(f, &w, tap);
}

pol_status pol_forward_mlp(pol_forward *f, int32_t layer, const pol_tap *tap)
{
    pol_layer_weights w;
    POL_TRY(pol_model_layer(f->m, layer, &w));
    return pol_forward_mlp_of(f, &w, tap);
}
