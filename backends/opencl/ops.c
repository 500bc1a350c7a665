/* ops.c - the host side of the ops that are a launch or two. */
#include "backends/opencl/opencl.h"
#include "kernels-cl/args.h"

/* A work-item per element of the rows: `local` items of one row share a group. */
enum { ROW_ITEMS = 64 };

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
        POL_TRY(OCL_LAUNCH(cl, k, ((ocl_range){2, {(size_t)a->C, (size_t)a->T}, {ROW_ITEMS, 1}}), OCL_MEM(x),
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
    const size_t group = (size_t)cl->profile.group;
    const ocl_range r =
        cl->profile.barriers ? (ocl_range){2, {group, (size_t)a->T}, {group, 1}} : (ocl_range){1, {(size_t)a->T}, {1}};
    const cl_mem y = ocl_mem(a->y), x = ocl_mem(a->x), gain = ocl_mem(a->gain);
    return OCL_LAUNCH(cl, k, r, OCL_MEM(y), OCL_MEM(x), OCL_MEM(gain), OCL_ARG(args));
}
