/* ops.c - the host side of the ops that are a launch or two. */
#include "backends/opencl/opencl.h"
#include "kernels-cl/args.h"

pol_status embed_opencl(pol_backend *be, const pol_embed_args *a)
{
    ocl *cl = ocl_of(be);
    ocl_kernel *k;
    embed_args args = {.x_at = a->x.at, .ids_at = a->ids.at};
    POL_TRY(ocl_int(cl, "embed", "T", a->T, &args.T));
    POL_TRY(ocl_int(cl, "embed", "C", a->C, &args.C));
    POL_TRY(ocl_int(cl, "embed", "V", a->V, &args.end));
    POL_TRY(ocl_mark(cl, OCL_EMBED));
    POL_TRY(ocl_kernel_get(cl, "embed", "embed", "", &k));
    const cl_mem x = ocl_mem(a->x), ids = ocl_mem(a->ids);
    for (ocl_stretch s = ocl_stretch_of(a->table, a->V * a->C); ocl_next(&s);) {
        args.table_at = s.at;
        args.first = (cl_int)(s.first / a->C);
        args.end = (cl_int)((s.first + s.n) / a->C);
        POL_TRY(OCL_LAUNCH(cl, k, ((ocl_range){2, {(size_t)a->C, (size_t)a->T}, {OCL_ITEMS, 1}}), OCL_MEM(x),
                           OCL_MEM(s.mem), OCL_MEM(ids), OCL_ARG(args)));
    }
    return POL_OK;
}

pol_status rmsnorm_opencl(pol_backend *be, const pol_rmsnorm_args *a)
{
    ocl *cl = ocl_of(be);
    ocl_kernel *k;
    rmsnorm_args args = {.y_at = a->y.at, .x_at = a->x.at, .gain_at = a->gain.at, .eps = a->eps};
    POL_TRY(ocl_int(cl, "rmsnorm", "T", a->T, &args.T));
    POL_TRY(ocl_int(cl, "rmsnorm", "C", a->C, &args.C));
    POL_TRY(ocl_mark(cl, OCL_RMSNORM));
    POL_TRY(ocl_kernel_get(cl, "rmsnorm", cl->profile.barriers ? "rmsnorm_group" : "rmsnorm_item", "", &k));
    const size_t items = cl->profile.barriers ? k->group : 1; /* that share a row */
    const cl_mem y = ocl_mem(a->y), x = ocl_mem(a->x), gain = ocl_mem(a->gain);
    return OCL_LAUNCH(cl, k, ((ocl_range){1, {(size_t)a->T * items}, {items}}), OCL_MEM(y), OCL_MEM(x), OCL_MEM(gain),
                      OCL_ARG(args));
}

/* Work-items that take a vector each, for n elements. */
static size_t vectors(const ocl *cl, int64_t n) { return (size_t)((n + cl->profile.vector - 1) / cl->profile.vector); }

pol_status rope_opencl(pol_backend *be, const pol_rope_args *a)
{
    ocl *cl = ocl_of(be);
    ocl_kernel *k;
    rope_args args = {.qkv_at = a->qkv.at, .cos_sin_at = a->cos_sin.at};
    POL_TRY(ocl_int(cl, "rope", "S", a->S, &args.S));
    POL_TRY(ocl_int(cl, "rope", "G", a->G, &args.G));
    POL_TRY(ocl_int(cl, "rope", "g", a->g, &args.g));
    POL_TRY(ocl_int(cl, "rope", "D", a->D, &args.D));
    POL_TRY(ocl_mark(cl, OCL_ROPE));
    POL_TRY(ocl_kernel_get(cl, "rope", "rope", "", &k));
    const size_t pairs = vectors(cl, a->D / 2);
    const ocl_range r = {
        3, {pairs, (size_t)a->S, (size_t)(a->T / a->S)}, {pairs < OCL_ITEMS ? pairs : OCL_ITEMS, 1, 1}};
    const cl_mem qkv = ocl_mem(a->qkv), cos_sin = ocl_mem(a->cos_sin);
    return OCL_LAUNCH(cl, k, r, OCL_MEM(qkv), OCL_MEM(cos_sin), OCL_ARG(args));
}

pol_status swiglu_opencl(pol_backend *be, const pol_swiglu_args *a)
{
    ocl *cl = ocl_of(be);
    ocl_kernel *k;
    swiglu_args args = {.h_at = a->h.at, .gu_at = a->gu.at};
    POL_TRY(ocl_int(cl, "swiglu", "kept", a->kept, &args.kept));
    POL_TRY(ocl_int(cl, "swiglu", "padded", a->padded, &args.padded));
    POL_TRY(ocl_mark(cl, OCL_SWIGLU));
    POL_TRY(ocl_kernel_get(cl, "swiglu", "swiglu", "", &k));
    const cl_mem h = ocl_mem(a->h), gu = ocl_mem(a->gu);
    return OCL_LAUNCH(cl, k, ((ocl_range){2, {vectors(cl, a->padded), (size_t)a->T}, {OCL_ITEMS, 1}}), OCL_MEM(h),
                      OCL_MEM(gu), OCL_ARG(args));
}

pol_status activation_stats_opencl(pol_backend *be, const pol_activation_stats_args *a)
{
    ocl *cl = ocl_of(be);
    ocl_kernel *k;
    stats_args args = {.x_at = a->x.at, .sum_at = a->sum.at, .sumsq_at = a->sumsq.at};
    POL_TRY(ocl_int(cl, "activation_stats", "T", a->T, &args.T));
    POL_TRY(ocl_int(cl, "activation_stats", "N", a->N, &args.N));
    POL_TRY(ocl_mark(cl, OCL_ACTIVATION_STATS));
    POL_TRY(ocl_kernel_get(cl, "activation_stats",
                           cl->profile.barriers ? "activation_stats_group" : "activation_stats_item", "", &k));
    ocl_range r = {1, {vectors(cl, a->N)}, {1}};
    if (cl->profile.barriers) {
        const size_t lanes = k->group < STATS_LANES ? k->group : STATS_LANES;
        r = (ocl_range){1, {(r.global[0] + lanes - 1) / lanes * k->group}, {k->group}};
    }
    const cl_mem sum = ocl_mem(a->sum), sumsq = ocl_mem(a->sumsq), x = ocl_mem(a->x);
    return OCL_LAUNCH(cl, k, r, OCL_MEM(sum), OCL_MEM(sumsq), OCL_MEM(x), OCL_ARG(args));
}
