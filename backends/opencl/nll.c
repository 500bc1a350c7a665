/* nll.c - the vocabulary in slices: the logits of one by CLBlast, folded at once by nll.cl into what is kept of each
 * token. Scratch: logits [T, slice], what is kept [T, NLL_KEPT], what the product needs. */
#include "backends/opencl/opencl.h"
#include "kernels-cl/args.h"

int64_t nll_scratch_opencl(pol_backend *be, int64_t T, int64_t C, int64_t slice)
{
    const int64_t own = pol_mul_count(T, slice <= INT64_MAX - NLL_KEPT ? slice + NLL_KEPT : slice),
                  product = gemm_scratch_opencl(be, T, slice, C);
    return own > INT64_MAX - product ? INT64_MAX : own + product;
}

pol_status nll_opencl(pol_backend *be, const pol_nll_args *a)
{
    ocl *cl = ocl_of(be);
    ocl_kernel *k;
    const bool groups = cl->profile.barriers;
    const int64_t logits_n = a->T * pol_min_i64(a->slice, a->V), kept_n = a->T * NLL_KEPT;
    const pol_view logits = a->scratch, product = {a->scratch.buf, a->scratch.at + logits_n + kept_n};
    nll_args args = {.nll_at = a->nll.at,
                     .logits_at = logits.at,
                     .kept_at = logits.at + logits_n,
                     .target_at = a->target.at,
                     .k = (cl_int)a->k};
    cl_int ignored;
    POL_TRY(ocl_int(cl, "nll", "T", a->T, &ignored));
    POL_TRY(ocl_int(cl, "nll", "V", a->V, &ignored));
    POL_TRY(ocl_mark(cl, OCL_NLL));
    POL_TRY(ocl_kernel_get(cl, "nll", groups ? "nll_group" : "nll_item", "", &k));
    const size_t items = groups ? k->group : 1; /* that share a token */
    const ocl_range r = {1, {(size_t)a->T * items}, {items}};
    const cl_mem nll = ocl_mem(a->nll), scratch = ocl_mem(a->scratch), target = ocl_mem(a->target);
    for (int64_t first = 0; first < a->V; first += a->slice) {
        const int64_t n = pol_min_i64(a->slice, a->V - first);
        const pol_view w = {a->w.buf, a->w.at + first * a->C};
        POL_TRY(ocl_gemm(cl, "nll", OCL_ROWS_OUT, a->T, n, a->C, a->x, w, logits, product));
        args.first = (cl_int)first;
        args.n = (cl_int)n;
        args.last = first + n == a->V;
        POL_TRY(OCL_LAUNCH(cl, k, r, OCL_MEM(nll), OCL_MEM(scratch), OCL_MEM(target), OCL_ARG(args)));
    }
    return POL_OK;
}
