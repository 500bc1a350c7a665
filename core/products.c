/* products.c - the matrix products of a forward pass (core/forward.c), as a list. */
#include "core/products.h"

#include <string.h>

#include "core/model/weights.h"

double pol_product_flops(const pol_product *p) { return 2.0 * (double)p->T * (double)p->N * (double)p->K; }

static pol_product *find(const pol_products *p, const pol_product *like)
{
    for (int64_t i = 0; i < p->n; i++) {
        pol_product *have = &p->list[i];
        if (have->add == like->add && have->T == like->T && have->N == like->N && have->K == like->K)
            return have;
    }
    return NULL;
}

static pol_status add(pol_products *p, pol_product product)
{
    if (!product.N || !product.K)
        return POL_OK;
    pol_product *have = find(p, &product);
    if (have) {
        have->times += product.times;
        return POL_OK;
    }
    if (p->n == p->cap) {
        const int64_t cap = p->cap ? 2 * p->cap : 16;
        pol_product *more = pol_realloc(p->ctx, p->list, (size_t)cap * sizeof *more);
        if (!more)
            return POL_ENOMEM;
        p->list = more;
        p->cap = cap;
    }
    p->list[p->n++] = product;
    return POL_OK;
}

pol_status pol_products_add(pol_products *p, const pol_config *c, const pol_backend *be, int64_t T, int64_t times)
{
    const int64_t C = c->hidden;
    for (int32_t l = 0; l < c->n_layers; l++) {
        const int64_t G = c->layers[l].n_groups, F = pol_padded(be, c->layers[l].ffn);
        POL_TRY(add(p, (pol_product){false, T, G * pol_qkv_rows(c), C, times}));
        POL_TRY(add(p, (pol_product){true, T, C, G * pol_ctx_cols(c), times}));
        POL_TRY(add(p, (pol_product){false, T, 2 * F, C, times}));
        POL_TRY(add(p, (pol_product){true, T, C, F, times}));
    }
    for (int64_t v = 0; v < c->vocab; v += be->nll_slice)
        POL_TRY(add(p, (pol_product){false, T, pol_min_i64(be->nll_slice, c->vocab - v), C, times}));
    return POL_OK;
}

pol_status pol_products_of_job(const pol_tune_job *job, const pol_backend *be, pol_products *p)
{
    POL_TRY(pol_products_add(p, job->dense, be, job->batch * job->seq_len, 1));
    POL_TRY(pol_products_add(p, job->masked, be, job->batch * job->seq_len, 1));
    return pol_products_add(p, job->masked, be, job->seq_len, job->batch);
}

void pol_products_free(pol_products *p)
{
    pol_free(p->ctx, p->list);
    memset(p, 0, sizeof *p);
}
