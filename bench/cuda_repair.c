/* cuda_repair.c - second moments beside the bare product, and a sweep beside the f64 peak, of one matrix of the model's
 * width, on a device of its own. The sweep's operations are counted as in bench_repair.c: N^3 4/3 + N^2 C for the
 * order, N^3 2/3 + 2 N^2 C for the rows. */
#include <string.h>

#include "bench/bench.h"
#include "bench/bench_cuda.h"
#include "core/base/rng.h"

enum { SEED = 9, CALLS = 8, ROUNDS = 5, LEVELS = 4 };

typedef struct repair {
    session *s;
    pol_backend *be;
    int64_t N, C;
    double *h;
    float *w, *rows[LEVELS];
    int32_t *order;
    double *error;
} repair;

/* ---- moments of as many tokens as a product has ---- */

typedef struct moments {
    pol_buf *x, *a, *scratch;
} moments;

static pol_status make_moments(repair *r, moments *m)
{
    const int64_t n = POL_GRAM_ROWS * r->N;
    float *x = pol_alloc_array(r->s->ctx, n, sizeof *x);
    if (!x)
        return POL_ENOMEM;
    pol_normal(SEED, POL_STREAM_BENCH, 0, 0, n, x);
    pol_status st = pol_buf_new(r->be, POL_BF16, n, &m->x);
    if (st == POL_OK)
        st = pol_buf_new(r->be, POL_F32, 2 * r->N * r->N, &m->a);
    if (st == POL_OK)
        st = pol_buf_new(r->be, POL_F32, pol_gram_scratch(r->be, POL_GRAM_ROWS, r->N, 0), &m->scratch);
    if (st == POL_OK)
        st = pol_upload(r->be, m->x, 0, x, n);
    pol_free(r->s->ctx, x);
    return st;
}

static pol_status time_gram(repair *r, const moments *m, double *seconds)
{
    const pol_gram_args a = {.a = {m->a, 0}, .x = {m->x, 0}, .scratch = {m->scratch, 0}, .T = POL_GRAM_ROWS, .N = r->N};
    POL_TRY(pol_sync(r->be));
    const double start = bench_seconds();
    for (int i = 0; i < CALLS; i++)
        POL_TRY(pol_gram(r->be, &a));
    POL_TRY(pol_sync(r->be));
    *seconds = (bench_seconds() - start) / CALLS;
    return POL_OK;
}

/* The first round chooses how products are done. */
static pol_status compare_gram(repair *r, const moments *m, bare *b, const pol_products *whole)
{
    double gram[ROUNDS], ratio[ROUNDS];
    for (int i = -1; i < ROUNDS; i++) {
        double seconds, start = bench_seconds();
        POL_TRY(bare_cuda.run(b, whole));
        const double product = (bench_seconds() - start) / CALLS;
        POL_TRY(time_gram(r, m, &seconds));
        if (i >= 0) {
            gram[i] = seconds;
            ratio[i] = seconds / product;
        }
    }
    const double flops = (double)POL_GRAM_ROWS * (double)r->N * (double)(r->N + 1);
    figures_add(r->s->out, (figure){.name = "gram",
                                    .text = "second moments of 1,024 tokens, half of a product",
                                    .value = 1e-12 * flops / pol_bench_median(gram, ROUNDS),
                                    .unit = "TFLOP/s"});
    figures_add(r->s->out, (figure){.name = "gram_over_product",
                                    .text = "their time over that of the whole product, bare",
                                    .value = pol_bench_median(ratio, ROUNDS),
                                    .unit = ""});
    return POL_OK;
}

static pol_status measure_gram(repair *r)
{
    pol_product product = {.T = r->N, .N = r->N, .K = POL_GRAM_ROWS, .times = CALLS};
    const pol_products whole = {.ctx = r->s->ctx, .list = &product, .n = 1};
    moments m = {NULL};
    bare *b = NULL;
    pol_status st = make_moments(r, &m);
    if (st == POL_OK)
        st = bare_cuda.open(r->be, &whole, &(pol_bench_settings){.seq_len = 1}, &b);
    if (st == POL_OK)
        st = compare_gram(r, &m, b, &whole);
    bare_cuda.close(b);
    pol_buf_free(r->be, m.x);
    pol_buf_free(r->be, m.a);
    pol_buf_free(r->be, m.scratch);
    return st;
}

/* ---- the sweep ---- */

static pol_status time_square(repair *r, double *seconds)
{
    cu *c = cu_of(r->be);
    const int64_t n = r->s->o->square / 2;
    const size_t bytes = (size_t)(n * n) * sizeof(double);
    cu_product p = {.T = n, .N = n, .K = n, .types = CU_F64};
    void *x, *w, *block;
    const cu_part parts[] = {{&p.y, bytes},
                             {&x, bytes},
                             {&w, bytes},
                             {&p.scratch, (size_t)pol_gemm_scratch(r->be, n, n, n) * sizeof(float)}};
    POL_TRY(cu_take(c, "the f64 peak", parts, POL_COUNT(parts), &block));
    p.x = x;
    p.w = w;
    pol_status st = cu_check(r->s->ctx, "the f64 peak", "cudaMemsetAsync", cudaMemsetAsync(x, 0x3f, bytes, c->compute));
    if (st == POL_OK)
        st = cu_check(r->s->ctx, "the f64 peak", "cudaMemsetAsync", cudaMemsetAsync(w, 0x3e, bytes, c->compute));
    for (int i = 0; i < 2 && st == POL_OK; i++) {
        const double start = bench_seconds();
        for (int k = 0; k < CALLS && st == POL_OK; k++)
            st = cu_multiply(c, "the f64 peak", &p);
        if (st == POL_OK)
            st = pol_sync(r->be);
        *seconds = (bench_seconds() - start) / CALLS;
    }
    cu_give_back(c, block);
    return st;
}

/* Moments of neighbours that resemble each other, and random weights, the same rows again and again. */
static pol_status make_matrices(repair *r)
{
    pol_context *ctx = r->s->ctx;
    const int64_t N = r->N, C = r->C;
    r->h = pol_alloc_array(ctx, N * N, sizeof *r->h);
    r->w = pol_alloc_array(ctx, N * C, sizeof *r->w);
    r->order = pol_alloc_array(ctx, N, sizeof *r->order);
    r->error = pol_alloc_array(ctx, N, sizeof *r->error);
    for (int64_t l = 0; l < LEVELS; l++)
        r->rows[l] = pol_alloc_array(ctx, N * C, sizeof *r->rows[l]);
    if (!r->h || !r->w || !r->order || !r->error || !r->rows[0] || !r->rows[1] || !r->rows[2] || !r->rows[3])
        return POL_ENOMEM;
    for (int64_t i = 0; i < N; i++) {
        double x = 1;
        for (int64_t j = i; j >= 0; j--, x *= 0.9)
            r->h[i * N + j] = x;
    }
    pol_normal(SEED, POL_STREAM_BENCH, 1, 0, C, r->w);
    for (int64_t i = C; i < N * C; i++)
        r->w[i] = r->w[i % C] * (1 + 1e-3f * (float)(i / C % 977));
    return POL_OK;
}

static pol_status measure_sweep(repair *r)
{
    const double N = (double)r->N, C = (double)r->C;
    int64_t level[LEVELS];
    double square = 0;
    for (int64_t l = 0; l < LEVELS; l++)
        level[l] = (l + 1) * r->N / LEVELS;
    POL_TRY(make_matrices(r));
    POL_TRY(time_square(r, &square));
    const double half = (double)(r->s->o->square / 2);
    pol_obs_sweep_args a = {.n_units = r->N,
                            .unit = 1,
                            .C = r->C,
                            .block = r->s->o->sweep_block,
                            .damping = 0.01,
                            .h = r->h,
                            .w = r->w,
                            .order = r->order,
                            .error = r->error,
                            .n_levels = LEVELS,
                            .level = level,
                            .rows = r->rows};
    const double start = bench_seconds();
    POL_TRY(pol_obs_sweep(r->be, &a));
    const double seconds = bench_seconds() - start, flops = 2 * N * N * N + 3 * N * N * C;
    const double peak = 2 * half * half * half / square;
    const figure all[] = {
        {.name = "f64_peak", .text = "f64 peak: cuBLASLt on squares", .value = 1e-12 * peak, .unit = "TFLOP/s"},
        {.name = "sweep", .text = "sweep and its rows, from the host and back", .value = seconds, .unit = "s"},
        {.name = "sweep_over_peak",
         .text = "the same, FLOP/s over f64 peak",
         .value = flops / seconds / peak,
         .unit = ""}};
    for (size_t i = 0; i < POL_COUNT(all); i++)
        figures_add(r->s->out, all[i]);
    return POL_OK;
}

pol_status measure_repair(session *s)
{
    repair r = {.s = s, .N = s->o->config.ffn, .C = s->o->config.hidden};
    POL_TRY(pol_cuda_open(s->ctx, s->o->device, NULL, &r.be));
    printf("repair: %lld rows of %lld, %lld at a time\n", (long long)r.N, (long long)r.C, (long long)s->o->sweep_block);
    pol_status st = measure_gram(&r);
    if (st == POL_OK)
        st = measure_sweep(&r);
    pol_backend_close(r.be);
    void *const blocks[] = {r.h, r.w, r.order, r.error, r.rows[0], r.rows[1], r.rows[2], r.rows[3]};
    for (size_t i = 0; i < POL_COUNT(blocks); i++)
        pol_free(s->ctx, blocks[i]);
    return st;
}
