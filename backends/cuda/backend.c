/* backend.c - a device as a backend: opening, closing, the op table. */
#include <string.h>

#include "backends/cuda/cuda.h"

enum {
    WIDTH_TILE = 64,
    NLL_SLICE = 8192, /* the logits of 1,024 tokens are then 32 MiB */
    BUF_ALIGN = 256,  /* what cuBLASLt's fastest kernels want, and cudaMalloc gives */
    KEPT_BACK = 64,   /* of so many bytes that are free one is left: the driver loads kernels when they are first used,
                       * and keeps recorded passes on the device */
};

/* In whatever state opening or a fault has left it; so what these calls say is of no use. */
static void close_cuda(pol_backend *be)
{
    cu *c = cu_of(be);
    cudaSetDevice(c->device);
    cu_passes_close(c); /* nothing can be waited for while a pass is recorded */
    if (c->compute)
        cudaStreamSynchronize(c->compute);
    if (c->copy)
        cudaStreamSynchronize(c->copy);
    if (c->moving)
        cudaStreamSynchronize(c->moving);
    cu_timer_close(c);
    cu_products_close(c);
    cu_staging_close(c);
    cu_arena_free(c);
    if (c->lt)
        cublasLtDestroy(c->lt);
    cu_moves_close(c);
    if (c->computed)
        cudaEventDestroy(c->computed);
    if (c->copy)
        cudaStreamDestroy(c->copy);
    if (c->compute)
        cudaStreamDestroy(c->compute);
    pol_free(be->ctx, c);
}

static const pol_ops cuda_ops = {
    .abi = POL_OPS_ABI,
    .size = sizeof(pol_ops),
    .buf_new = buf_new_cuda,
    .buf_free = buf_free_cuda,
    .upload = upload_cuda,
    .download = download_cuda,
    .download_later = download_later_cuda,
    .sync = sync_cuda,
    .close = close_cuda,
    .gemm_scratch = gemm_scratch_cuda,
    .attention_scratch = attention_scratch_cuda,
    .nll_scratch = nll_scratch_cuda,
    .gram_scratch = gram_scratch_cuda,
    .embed = embed_cuda,
    .rmsnorm = rmsnorm_cuda,
    .project = project_cuda,
    .project_add = project_add_cuda,
    .rope = rope_cuda,
    .attention = attention_cuda,
    .swiglu = swiglu_cuda,
    .nll = nll_cuda,
    .swap_units = swap_units_cuda,
    .activation_stats = activation_stats_cuda,
    .gram = gram_cuda,
    .solve_spd = solve_spd_cuda,
    .obs_sweep = obs_sweep_cuda,
    .project_swiglu = project_swiglu_cuda,
    .reserve = reserve_cuda,
    .pass_begin = pass_begin_cuda,
    .pass_end = pass_end_cuda,
    .host_new = host_new_cuda,
    .host_free = host_free_cuda,
    .stream_in = stream_in_cuda,
    .stream_wait = stream_wait_cuda,
};

/* Streams that do not wait for the default one, which we never use. */
static pol_status open_device(cu *c)
{
    pol_context *ctx = c->base.ctx;
    const char *name = c->base.info.name;
    int least = 0, greatest = 0;
    CU_TRY(ctx, name, cudaSetDevice, c->device);
    CU_TRY(ctx, name, cudaDeviceGetStreamPriorityRange, &least, &greatest);
    CU_TRY(ctx, name, cudaStreamCreateWithPriority, &c->compute, cudaStreamNonBlocking, greatest);
    CU_TRY(ctx, name, cudaStreamCreateWithPriority, &c->copy, cudaStreamNonBlocking, least);
    CU_TRY(ctx, name, cudaEventCreateWithFlags, &c->computed, cudaEventDisableTiming);
    POL_TRY(cu_moves_open(c));
    LT_TRY(ctx, name, cublasLtCreate, &c->lt);
    POL_TRY(cu_products_open(c));
    POL_TRY(cu_staging_open(c));
    if (c->profile.timing)
        POL_TRY(cu_timer_open(c));
    else if (c->profile.graphs)
        POL_TRY(cu_passes_open(c));
    return POL_OK;
}

/* The device is shared, and all that we need besides buffers is there by now: what is free is what buffers can have. */
static pol_status take_stock(cu *c)
{
    size_t available, total;
    CU_TRY(c->base.ctx, c->base.info.name, cudaMemGetInfo, &available, &total);
    c->base.info.memory_bytes = available - available / KEPT_BACK;
    return POL_OK;
}

pol_status pol_cuda_open(pol_context *ctx, int32_t index, const cu_profile *profile, pol_backend **out)
{
    *out = NULL;
    cu *c = pol_alloc_zero(ctx, sizeof *c);
    if (!c)
        return POL_ENOMEM;
    c->base = (pol_backend){.ctx = ctx,
                            .ops = &cuda_ops,
                            .weight_dtype = POL_BF16,
                            .act_dtype = POL_BF16,
                            .width_tile = WIDTH_TILE,
                            .buf_align = BUF_ALIGN,
                            .nll_slice = NLL_SLICE};
    c->device = index;
    const pol_device_info *info = &c->base.info;
    pol_status s = cu_describe(ctx, index, &c->base.info);
    if (s == POL_OK && !info->usable) /* since it was listed, or by a caller that has not looked */
        s = pol_fail(ctx, POL_EDEVICE, "cuda: device %d (%s) cannot be used: %s", index, info->name, info->reason);
    if (s == POL_OK && profile)
        c->profile = *profile;
    else if (s == POL_OK)
        s = cu_profile_of(ctx, index, &c->profile);
    if (s == POL_OK)
        s = open_device(c);
    if (s == POL_OK)
        s = take_stock(c);
    if (s < 0) {
        close_cuda(&c->base);
        return s;
    }
    *out = &c->base;
    return POL_OK;
}

static pol_status check_weights(pol_context *ctx, const char *weights)
{
    if (!weights || strcmp(weights, "auto") == 0 || strcmp(weights, "bf16") == 0)
        return POL_OK;
    return pol_fail(ctx, POL_EUNSUPPORTED, "cuda: weights: '%s': on a GPU weights are stored as bf16 alone", weights);
}

static pol_status driver_open(pol_context *ctx, const pol_device_info *device, const pol_backend_options *o,
                              pol_backend **out)
{
    *out = NULL;
    POL_TRY(check_weights(ctx, o->weights));
    return pol_cuda_open(ctx, device->index, NULL, out);
}

const pol_backend_driver pol_driver_cuda = {.name = "cuda", .list = cu_list, .open = driver_open};
