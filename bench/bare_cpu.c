/* bare_cpu.c - the products by cblas_sgemm. */
#include <cblas.h>
#include <stdlib.h>

#include "bench/bare.h"

struct bare {
    float *x, *w, *y;
};

static void close_cpu(bare *b)
{
    if (!b)
        return;
    free(b->x);
    free(b->w);
    free(b->y);
    free(b);
}

static pol_status open_cpu(pol_backend *be, const pol_products *largest, const pol_bench_settings *o, bare **out)
{
    const bare_sizes n = bare_sizes_of(largest);
    bare *b = calloc(1, sizeof *b);
    if (!b)
        return pol_fail(be->ctx, POL_ENOMEM, "no memory for the bare calls");
    b->x = calloc((size_t)n.x, sizeof *b->x);
    b->w = calloc((size_t)n.w, sizeof *b->w);
    b->y = calloc((size_t)n.y, sizeof *b->y);
    if (!b->x || !b->w || !b->y) {
        close_cpu(b);
        return pol_fail(be->ctx, POL_ENOMEM, "no memory for the bare calls");
    }
    /* The ops put the process's thread count back after use: the bare calls need it set. */
    openblas_set_num_threads(o->backend.threads ? o->backend.threads : openblas_get_num_procs());
    *out = b;
    return POL_OK;
}

static pol_status run_cpu(bare *b, const pol_products *p)
{
    for (int64_t i = 0; i < p->n; i++) {
        const pol_product *q = &p->list[i];
        for (int64_t t = 0; t < q->times; t++)
            cblas_sgemm(CblasRowMajor, CblasNoTrans, q->add ? CblasNoTrans : CblasTrans, (int)q->T, (int)q->N,
                        (int)q->K, 1.0f, b->x, (int)q->K, b->w, (int)(q->add ? q->N : q->K), q->add ? 1.0f : 0.0f, b->y,
                        (int)q->N);
    }
    return POL_OK;
}

const bare_calls bare_cpu = {
    .backend = "cpu", .call = "cblas_sgemm", .open = open_cpu, .run = run_cpu, .close = close_cpu};
