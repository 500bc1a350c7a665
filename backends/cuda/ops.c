/* ops.c - the host side of the ops that are a product, a launch, or one of each. */
#include "backends/cuda/cuda.h"

pol_status embed_cuda(pol_backend *be, const pol_embed_args *a)
{
    cu *c = cu_of(be);
    const cu_embed k = {.x = cu_at(a->x), .table = cu_at(a->table), .ids = cu_at(a->ids), .T = a->T, .C = a->C};
    POL_TRY(cu_begin(c, CU_EMBED));
    POL_TRY(cu_use(c, a->table));
    CU_TRY(be->ctx, "embed", pol_cu_embed, c->compute, &k);
    return cu_used(c, a->table);
}

pol_status rmsnorm_cuda(pol_backend *be, const pol_rmsnorm_args *a)
{
    cu *c = cu_of(be);
    const cu_rmsnorm k = {
        .y = cu_at(a->y), .x = cu_at(a->x), .gain = cu_at(a->gain), .T = a->T, .C = a->C, .eps = a->eps};
    POL_TRY(cu_begin(c, CU_RMSNORM));
    CU_TRY(be->ctx, "rmsnorm", pol_cu_rmsnorm, c->compute, &k);
    return POL_OK;
}

/* Weights and their bias, whose units may be moving. */
static pol_status use_weights(cu *c, pol_view w, pol_view bias)
{
    POL_TRY(cu_use(c, w));
    return cu_use(c, bias);
}

static pol_status used_weights(cu *c, pol_view w, pol_view bias)
{
    POL_TRY(cu_used(c, w));
    return cu_used(c, bias);
}

/* y [T,N] = x w^T (+ bias). */
static pol_status project(cu *c, const char *op, const cu_product *p, const float *bias)
{
    POL_TRY(cu_multiply(c, op, p));
    if (bias)
        CU_TRY(c->base.ctx, op, pol_cu_add_bias, c->compute,
               &(cu_add_bias){.y = p->y, .bias = bias, .T = p->T, .N = p->N});
    return POL_OK;
}

pol_status project_cuda(pol_backend *be, const pol_project_args *a)
{
    cu *c = cu_of(be);
    const cu_product p = {.y = cu_at(a->y),
                          .x = cu_at(a->x),
                          .w = cu_at(a->w),
                          .scratch = cu_at(a->scratch),
                          .T = a->T,
                          .N = a->N,
                          .K = a->C,
                          .w_turned = true};
    POL_TRY(cu_begin(c, CU_PROJECT));
    POL_TRY(use_weights(c, a->w, a->bias));
    POL_TRY(project(c, "project", &p, cu_at(a->bias)));
    return used_weights(c, a->w, a->bias);
}

/* Our own kernel saves writing and reading [T, padded, 2], but cuBLASLt's multiply faster; so it is taken where the
 * product is too small to give each multiprocessor one of cuBLASLt's tiles, and traffic and launches count for more. */
static bool fuses(const cu *c, int64_t T, int64_t padded)
{
    enum { TILE = 128 };
    const int64_t tiles = pol_mul_count((T + TILE - 1) / TILE, (2 * padded + TILE - 1) / TILE);
    return c->profile.fuse == CU_FUSE_ALWAYS ||
           (c->profile.fuse == CU_FUSE_AUTO && tiles < (int64_t)c->profile.multiprocessors);
}

pol_status project_swiglu_cuda(pol_backend *be, const pol_project_swiglu_args *a)
{
    cu *c = cu_of(be);
    POL_TRY(cu_begin(c, CU_PROJECT_SWIGLU));
    POL_TRY(use_weights(c, a->w, a->bias));
    if (fuses(c, a->T, a->padded)) {
        const cu_project_swiglu k = {.h = cu_at(a->h),
                                     .x = cu_at(a->x),
                                     .w = cu_at(a->w),
                                     .bias = cu_at(a->bias),
                                     .T = a->T,
                                     .kept = a->kept,
                                     .padded = a->padded,
                                     .C = a->C};
        CU_TRY(be->ctx, "project_swiglu", pol_cu_project_swiglu, c->compute, &k);
        return used_weights(c, a->w, a->bias);
    }
    const cu_product p = {.y = cu_at(a->gu),
                          .x = cu_at(a->x),
                          .w = cu_at(a->w),
                          .scratch = cu_at(a->scratch),
                          .T = a->T,
                          .N = 2 * a->padded,
                          .K = a->C,
                          .w_turned = true};
    const cu_swiglu k = {.h = cu_at(a->h), .gu = p.y, .T = a->T, .kept = a->kept, .padded = a->padded};
    POL_TRY(project(c, "project_swiglu", &p, cu_at(a->bias)));
    POL_TRY(used_weights(c, a->w, a->bias));
    POL_TRY(cu_begin(c, CU_SWIGLU));
    CU_TRY(be->ctx, "project_swiglu", pol_cu_swiglu, c->compute, &k);
    return POL_OK;
}

pol_status project_add_cuda(pol_backend *be, const pol_project_add_args *a)
{
    cu *c = cu_of(be);
    POL_TRY(cu_begin(c, CU_PROJECT_ADD));
    POL_TRY(use_weights(c, a->w, a->bias));
    if (a->N > 0) {
        const cu_product p = {.y = cu_at(a->x),
                              .x = cu_at(a->h),
                              .w = cu_at(a->w),
                              .scratch = cu_at(a->scratch),
                              .T = a->T,
                              .N = a->C,
                              .K = a->N,
                              .types = CU_BF16_F32,
                              .put = CU_ADD};
        POL_TRY(cu_multiply(c, "project_add", &p));
    }
    if (a->bias.buf)
        CU_TRY(be->ctx, "project_add", pol_cu_add_bias, c->compute,
               &(cu_add_bias){.x = cu_at(a->x), .bias = cu_at(a->bias), .T = a->T, .N = a->C});
    return used_weights(c, a->w, a->bias);
}

pol_status rope_cuda(pol_backend *be, const pol_rope_args *a)
{
    cu *c = cu_of(be);
    const cu_rope k = {
        .qkv = cu_at(a->qkv), .cos_sin = cu_at(a->cos_sin), .T = a->T, .S = a->S, .G = a->G, .g = a->g, .D = a->D};
    POL_TRY(cu_begin(c, CU_ROPE));
    CU_TRY(be->ctx, "rope", pol_cu_rope, c->compute, &k);
    return POL_OK;
}

/* Scores stay on the multiprocessors. */
int64_t attention_scratch_cuda(pol_backend *be, int64_t T, int64_t S, int64_t G, int64_t g, int64_t D)
{
    (void)be, (void)T, (void)S, (void)G, (void)g, (void)D;
    return 0;
}

/* The profile's form, where it serves these sizes. */
pol_status attention_cuda(pol_backend *be, const pol_attention_args *a)
{
    cu *c = cu_of(be);
    const cu_profile *use = &c->profile;
    const cu_attention k = {.out = cu_at(a->out),
                            .qkv = cu_at(a->qkv),
                            .T = a->T,
                            .S = a->S,
                            .G = a->G,
                            .g = a->g,
                            .D = a->D,
                            .window = a->window < a->S ? a->window : 0,
                            .scale = a->scale,
                            .form = pol_cu_attention_serves(use->attention, a->S, a->g, a->D, use->max_shared_bytes)
                                        ? use->attention
                                        : POL_CU_ATTENTION_AUTO,
                            .max_shared_bytes = use->max_shared_bytes};
    POL_TRY(cu_begin(c, CU_ATTENTION));
    CU_TRY(be->ctx, "attention", pol_cu_attention, c->compute, &k);
    return POL_OK;
}

pol_status swiglu_cuda(pol_backend *be, const pol_swiglu_args *a)
{
    cu *c = cu_of(be);
    const cu_swiglu k = {.h = cu_at(a->h), .gu = cu_at(a->gu), .T = a->T, .kept = a->kept, .padded = a->padded};
    POL_TRY(cu_begin(c, CU_SWIGLU));
    CU_TRY(be->ctx, "swiglu", pol_cu_swiglu, c->compute, &k);
    return POL_OK;
}

pol_status activation_stats_cuda(pol_backend *be, const pol_activation_stats_args *a)
{
    cu *c = cu_of(be);
    const cu_activation_stats k = {
        .sum = cu_at(a->sum), .sumsq = cu_at(a->sumsq), .x = cu_at(a->x), .T = a->T, .N = a->N};
    POL_TRY(cu_begin(c, CU_ACTIVATION_STATS));
    CU_TRY(be->ctx, "activation_stats", pol_cu_activation_stats, c->compute, &k);
    return POL_OK;
}
