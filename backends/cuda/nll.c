/* nll.c - the vocabulary in slices: the logits of one by cuBLASLt, folded at once by nll.cu into what is kept of each
 * token. Scratch: logits [T, slice], what is kept [T, KEPT], what the product needs. */
#include "backends/cuda/cuda.h"

enum { KEPT = 2 }; /* kernels.h, cu_nll */

int64_t nll_scratch_cuda(pol_backend *be, int64_t T, int64_t C, int64_t slice)
{
    const int64_t own = pol_mul_count(T, slice <= INT64_MAX - KEPT ? slice + KEPT : slice),
                  product = gemm_scratch_cuda(be, T, slice, C);
    return own > INT64_MAX - product ? INT64_MAX : own + product;
}

pol_status nll_cuda(pol_backend *be, const pol_nll_args *a)
{
    cu *c = cu_of(be);
    float *logits = cu_at(a->scratch), *kept = logits + a->T * pol_min_i64(a->slice, a->V);
    cu_nll k = {.nll = cu_at(a->nll), .kept = kept, .logits = logits, .target = cu_at(a->target), .T = a->T, .k = a->k};
    for (k.first = 0; k.first < a->V; k.first += k.n) {
        k.n = pol_min_i64(a->slice, a->V - k.first);
        k.last = k.first + k.n == a->V;
        const cu_product p = {.y = logits,
                              .x = cu_at(a->x),
                              .w = cu_at((pol_view){a->w.buf, a->w.at + k.first * a->C}),
                              .scratch = kept + a->T * KEPT,
                              .T = a->T,
                              .N = k.n,
                              .K = a->C,
                              .types = CU_BF16_F32,
                              .w_turned = true};
        POL_TRY(cu_begin(c, CU_PROJECT));
        POL_TRY(cu_use(c, a->w));
        POL_TRY(cu_multiply(c, "nll", &p));
        POL_TRY(cu_begin(c, CU_NLL));
        CU_TRY(be->ctx, "nll", pol_cu_nll, c->compute, &k);
    }
    return cu_used(c, a->w);
}
