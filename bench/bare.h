/* bare.h - the products of a pass as bare calls of the vendor's BLAS, in buffers of their own: what no step can beat.
 */
#ifndef BENCH_BARE_H
#define BENCH_BARE_H

#include "core/products.h"
#include "core/run/bench.h"

typedef struct bare bare; /* one backend's */

typedef struct bare_calls {
    const char *backend, *call; /* "cpu", "cblas_sgemm" */
    /* `be` is borrowed; room for every product of `largest`. */
    pol_status (*open)(pol_backend *be, const pol_products *largest, const pol_bench_settings *o, bare **out);
    pol_status (*run)(bare *b, const pol_products *p); /* and waits */
    void (*close)(bare *b);                            /* takes NULL */
    /* More about the step, printed; NULL: there is no more. */
    pol_status (*report)(pol_context *ctx, const pol_bench_settings *o);
} bare_calls;

extern const bare_calls bare_cpu;
extern const bare_calls bare_cuda;   /* with POLLARD_HAVE_CUDA */
extern const bare_calls bare_opencl; /* with POLLARD_HAVE_OPENCL */

/* Elements that the operands of any of these products take. */
typedef struct bare_sizes {
    int64_t x, w, y;
} bare_sizes;
static inline bare_sizes bare_sizes_of(const pol_products *p)
{
    bare_sizes most = {1, 1, 1};
    for (int64_t i = 0; i < p->n; i++) {
        const pol_product *q = &p->list[i];
        most.x = pol_max_i64(most.x, q->T * q->K);
        most.w = pol_max_i64(most.w, q->N * q->K);
        most.y = pol_max_i64(most.y, q->T * q->N);
    }
    return most;
}

#endif
