/* measure.c - products timed on a device, a product at a time, and its results compared with sums in double. */
#include "backends/opencl/measure.h"

#include <math.h>
#include <string.h>

#include "backends/opencl/tuner.h"
#include "core/base/rng.h"

enum { MOST_ROUNDS = 5, LEAST_ROUNDS = 2, SAMPLES = 64 };
static const double ENOUGH = 2.0; /* seconds for one product, after the least rounds */

/* Of the sum of the magnitudes of a result's terms. Sums of f32 stay well below it; a wrong element is far above. */
static const double TOLERANCE = 1e-4;

pol_status ocl_measure_open(pol_backend *be, const pol_products *p, ocl_measure *m)
{
    int64_t most_in = 0, most_out = 0;
    for (int64_t i = 0; i < p->n; i++) {
        const pol_product *q = &p->list[i];
        most_in = pol_max_i64(most_in, pol_max_i64(q->T, q->N) * q->K);
        most_out = pol_max_i64(most_out, q->T * q->N);
    }
    *m = (ocl_measure){.be = be, .p = p};
    m->numbers = pol_alloc_array(be->ctx, most_in + 1, sizeof *m->numbers);
    m->y = pol_alloc_array(be->ctx, most_out, sizeof *m->y);
    if (!m->numbers || !m->y) {
        ocl_measure_close(m);
        return POL_ENOMEM;
    }
    pol_uniform(1, POL_STREAM_BENCH, 0, 0, most_in + 1, m->numbers);
    for (int64_t i = 0; i <= most_in; i++)
        m->numbers[i] -= 0.5f;
    return POL_OK;
}

void ocl_measure_close(ocl_measure *m)
{
    if (!m->be)
        return;
    pol_free(m->be->ctx, m->numbers);
    pol_free(m->be->ctx, m->y);
    memset(m, 0, sizeof *m);
}

/* A product with its buffers. */
typedef struct operands {
    const pol_product *p;
    pol_buf *x, *w, *y, *scratch;
} operands;

static void free_operands(pol_backend *be, operands *o)
{
    pol_buf_free(be, o->x);
    pol_buf_free(be, o->w);
    pol_buf_free(be, o->y);
    pol_buf_free(be, o->scratch);
}

static pol_status make_operands(ocl_measure *m, const pol_product *p, operands *o)
{
    pol_backend *be = m->be;
    const int64_t rows = p->add ? p->K : p->N, row = p->add ? p->N : p->K;
    const int64_t scratch = pol_gemm_scratch(be, p->T, rows, row);
    *o = (operands){.p = p};
    POL_TRY(pol_buf_new(be, POL_F32, p->T * p->K, &o->x));
    POL_TRY(pol_buf_new_rows(be, POL_F32, rows, row, &o->w));
    POL_TRY(pol_buf_new(be, POL_F32, p->T * p->N, &o->y)); /* zero, which `add` adds to */
    if (scratch)
        POL_TRY(pol_buf_new(be, POL_F32, scratch, &o->scratch));
    POL_TRY(pol_upload(be, o->x, 0, m->numbers, p->T * p->K));
    return pol_upload(be, o->w, 0, m->numbers + 1, rows * row);
}

static pol_status multiply(pol_backend *be, const operands *o)
{
    const pol_product *p = o->p;
    if (p->add)
        POL_TRY(pol_project_add(be, &(pol_project_add_args){.x = {o->y, 0},
                                                            .h = {o->x, 0},
                                                            .w = {o->w, 0},
                                                            .scratch = {o->scratch, 0},
                                                            .T = p->T,
                                                            .N = p->K,
                                                            .C = p->N}));
    else
        POL_TRY(pol_project(be, &(pol_project_args){.y = {o->y, 0},
                                                    .x = {o->x, 0},
                                                    .w = {o->w, 0},
                                                    .scratch = {o->scratch, 0},
                                                    .T = p->T,
                                                    .N = p->N,
                                                    .C = p->K}));
    return pol_sync(be);
}

/* Results here and there, the first and the last among them. */
static pol_status check(ocl_measure *m, const operands *o)
{
    const pol_product *p = o->p;
    const float *x = m->numbers, *w = m->numbers + 1;
    POL_TRY(pol_download(m->be, o->y, 0, m->y, p->T * p->N));
    for (int64_t i = 0; i < SAMPLES; i++) {
        const int64_t t = i == 1 ? p->T - 1 : i * 7919 % p->T, n = i == 1 ? p->N - 1 : i * 104729 % p->N;
        double want = 0, magnitude = 0;
        for (int64_t k = 0; k < p->K; k++) {
            const double term = (double)x[t * p->K + k] * (double)w[p->add ? k * p->N + n : n * p->K + k];
            want += term;
            magnitude += fabs(term);
        }
        const double got = m->y[t * p->N + n];
        if (!(fabs(got - want) <= TOLERANCE * magnitude))
            return pol_fail(m->be->ctx, POL_ENUMERIC,
                            "a product of %lld x %lld x %lld is wrong: %g instead of %g at row %lld, column %lld",
                            (long long)p->T, (long long)p->N, (long long)p->K, got, want, (long long)t, (long long)n);
    }
    return POL_OK;
}

static pol_status time_product(ocl_measure *m, const operands *o, double *least)
{
    POL_TRY(multiply(m->be, o)); /* warms up: CLBlast builds its programs at first use */
    POL_TRY(check(m, o));
    const double begin = ocl_seconds();
    for (int round = 0; round < MOST_ROUNDS; round++) {
        const double start = ocl_seconds();
        if (round >= LEAST_ROUNDS && start - begin > ENOUGH)
            break;
        POL_TRY(pol_check_stop(m->be->ctx));
        POL_TRY(multiply(m->be, o));
        const double t = ocl_seconds() - start;
        *least = round == 0 || t < *least ? t : *least;
    }
    return POL_OK;
}

pol_status ocl_measure_products(ocl_measure *m, double *seconds)
{
    pol_status s = POL_OK;
    for (int64_t i = 0; i < m->p->n && s == POL_OK; i++) {
        operands o;
        s = make_operands(m, &m->p->list[i], &o);
        if (s == POL_OK)
            s = time_product(m, &o, &seconds[i]);
        free_operands(m->be, &o);
    }
    return s;
}

double ocl_measure_total(const ocl_measure *m, const double *seconds)
{
    double total = 0;
    for (int64_t i = 0; i < m->p->n; i++)
        total += (double)m->p->list[i].times * seconds[i];
    return total;
}

double ocl_measure_flops(const ocl_measure *m)
{
    double flops = 0;
    for (int64_t i = 0; i < m->p->n; i++)
        flops += (double)m->p->list[i].times * pol_product_flops(&m->p->list[i]);
    return flops;
}
