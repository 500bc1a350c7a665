/* backend.c - a device as a backend: opening, closing, the op table. */
#include <clblast_c.h>
#include <string.h>

#include "backends/drivers.h"
#include "backends/opencl/cachefile.h"
#include "backends/opencl/opencl.h"
#include "backends/opencl/tune.h"

/* The logits of 1,024 tokens are then 16 MiB; wider than on the CPU, since a launch costs more. */
enum { NLL_SLICE = 4096 };

static pol_status sync_opencl(pol_backend *be)
{
    OCL_TRY(be->ctx, "sync", clFinish, ocl_of(be)->queue);
    return ocl_late(ocl_of(be));
}

/* CLBlast keeps the programs that it built by the address of their context: once that is gone, another context may get
 * the address, and then programs that are not its own. */
static void close_opencl(pol_backend *be)
{
    ocl *cl = ocl_of(be);
    if (cl->queue)
        clFinish(cl->queue);
    CLBlastClearCache();
    ocl_timer_free(cl);
    ocl_ring_free(cl);
    ocl_programs_free(cl);
    if (cl->queue)
        clReleaseCommandQueue(cl->queue);
    if (cl->context)
        clReleaseContext(cl->context);
    pol_free(be->ctx, cl->cache_dir);
    pol_free(be->ctx, cl);
}

static const pol_ops opencl_ops = {
    .abi = POL_OPS_ABI,
    .size = sizeof(pol_ops),
    .buf_new = buf_new_opencl,
    .buf_free = buf_free_opencl,
    .upload = upload_opencl,
    .download = download_opencl,
    .download_later = download_later_opencl,
    .sync = sync_opencl,
    .close = close_opencl,
    .gemm_scratch = gemm_scratch_opencl,
    .attention_scratch = attention_scratch_opencl,
    .nll_scratch = nll_scratch_opencl,
    .gram_scratch = gram_scratch_opencl,
    .attention = attention_opencl,
    .nll = nll_opencl,
    .embed = embed_opencl,
    .rmsnorm = rmsnorm_opencl,
    .project = project_opencl,
    .project_add = project_add_opencl,
    .rope = rope_opencl,
    .swiglu = swiglu_opencl,
    .swap_units = swap_units_opencl,
    .activation_stats = activation_stats_opencl,
    .gram = gram_opencl,
};

static pol_status make_queue(ocl *cl)
{
    pol_context *ctx = cl->base.ctx;
    cl_int code;
    const cl_context_properties of[] = {CL_CONTEXT_PLATFORM, (cl_context_properties)cl->platform, 0};
    cl->context = clCreateContext(of, 1, &cl->device, NULL, NULL, &code);
    POL_TRY(ocl_check(ctx, cl->base.info.name, "clCreateContext", code));
    cl->queue =
        clCreateCommandQueue(cl->context, cl->device, cl->profile.timing ? CL_QUEUE_PROFILING_ENABLE : 0, &code);
    return ocl_check(ctx, cl->base.info.name, "clCreateCommandQueue", code);
}

/* What the caller wants; else what the device reports, and the usual folder. */
static pol_status take_profile(ocl *cl, const ocl_profile *wanted)
{
    pol_context *ctx = cl->base.ctx;
    if (wanted) {
        cl->profile = *wanted;
        cl->cache_dir = wanted->cache_dir ? pol_strdup(ctx, wanted->cache_dir) : NULL;
        if (wanted->cache_dir && !cl->cache_dir)
            return POL_ENOMEM;
    } else {
        POL_TRY(ocl_profile_of(ctx, cl->device, &cl->profile));
        POL_TRY(ocl_cache_folder(ctx, &cl->cache_dir));
        cl->profile.tuned = true;
    }
    cl->profile.cache_dir = cl->cache_dir;
    return POL_OK;
}

pol_status pol_opencl_open(pol_context *ctx, int32_t index, const ocl_profile *profile, pol_dtype weights,
                           pol_backend **out)
{
    ocl *cl = pol_alloc_zero(ctx, sizeof *cl);
    if (!cl)
        return POL_ENOMEM;
    cl->base = (pol_backend){.ctx = ctx,
                             .ops = &opencl_ops,
                             .weight_dtype = weights,
                             .act_dtype = POL_F32,
                             .width_tile = 1,
                             .buf_align = 1,
                             .nll_slice = NLL_SLICE};
    const pol_device_info *info = &cl->base.info;
    pol_status s = ocl_find(ctx, index, &cl->platform, &cl->device, &cl->base.info);
    if (s == POL_OK && !info->usable) /* since it was listed, or by a caller that has not looked */
        s = pol_fail(ctx, POL_EDEVICE, "opencl: device %d (%s) cannot be used: %s", index, info->name, info->reason);
    if (s == POL_OK)
        s = take_profile(cl, profile);
    if (s == POL_OK)
        s = make_queue(cl);
    if (s < 0) {
        close_opencl(&cl->base);
        return s;
    }
    if (cl->profile.tuned)
        ocl_use_kept(cl);
    cl->base.info.max_buffer_bytes = cl->profile.piece_bytes;
    *out = &cl->base;
    return POL_OK;
}

static pol_status driver_open(pol_context *ctx, const pol_device_info *device, const pol_backend_options *o,
                              pol_backend **out)
{
    pol_dtype weights;
    POL_TRY(pol_weights_asked(ctx, o, POL_F32, &weights));
    return pol_opencl_open(ctx, device->index, NULL, weights, out);
}

const pol_backend_driver pol_driver_opencl = {
    .name = "opencl", .list = ocl_list, .open = driver_open, .tune = ocl_tune};
