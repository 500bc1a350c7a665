/* bench_repair.c - what repairs weights on the CPU, beside dgemm: how much of the speed of bare products its arithmetic
 * reaches.
 *
 *     bench_repair [threads] [--large]
 *
 * Each line gives seconds, the arithmetic's rate and its ratio to that of dgemm of [1024,1024] by [1024,1024]. The
 * sweep counts N^3 (factor, inverse) + N^3/3 (P, half of it) + N^2 C (W), the rows N^3 2/3 (factor, its inverse) + 2
 * N^2 C, the solution N^3/3 + 2 N^2 M. The shapes are the two matrices of a layer of SmolLM2-135M; with --large those
 * of a layer of 7 billion parameters, which take minutes and 5 GB.
 */
#include <cblas.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "bench/bench.h"
#include "core/backend.h"
#include "core/base/rng.h"

enum { SQUARE = 1024, ROUNDS = 7, LEVELS = 16 };

typedef struct shape {
    const char *name;
    int64_t n_units, unit, C, block;
    bool large;
} shape;

static const shape shapes[] = {
    {"135m down, one by one", 1536, 1, 576, 1, false}, {"135m down, 32 at a time", 1536, 1, 576, 32, false},
    {"135m o, groups of 192", 3, 192, 576, 1, false},  {"7b down, 32 at a time", 11008, 1, 4096, 32, true},
    {"7b o, heads of 128", 32, 128, 4096, 1, true},
};

typedef struct bench {
    pol_context *ctx;
    pol_backend *be;
    double dgemm; /* operations a second */
    int64_t N;
    double *h;
    float *w;
} bench;

static pol_status time_dgemm(bench *b)
{
    double seconds[ROUNDS], *x = pol_alloc_zero(b->ctx, 3 * sizeof(double) * SQUARE * SQUARE);
    if (!x)
        return POL_ENOMEM;
    double *const y = x + SQUARE * SQUARE, *const z = y + SQUARE * SQUARE;
    for (int i = -1; i < ROUNDS; i++) {
        const double start = bench_seconds();
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, SQUARE, SQUARE, SQUARE, 1, x, SQUARE, y, SQUARE, 0, z,
                    SQUARE);
        if (i >= 0)
            seconds[i] = bench_seconds() - start;
    }
    b->dgemm = 2.0 * SQUARE * SQUARE * SQUARE / pol_bench_median(seconds, ROUNDS);
    printf("dgemm: %.1f GFLOP/s\n", b->dgemm * 1e-9);
    pol_free(b->ctx, x);
    return POL_OK;
}

static void print(const bench *b, const shape *s, const char *what, double seconds, double flops)
{
    printf("%-24s %-9s %9.3f s %7.1f GFLOP/s, %.2f of dgemm's\n", s->name, what, seconds, flops / seconds * 1e-9,
           flops / seconds / b->dgemm);
    fflush(stdout);
}

/* Moments of as many tokens as columns, which all resemble the first: by damping alone not singular. */
static pol_status fill(bench *b, const shape *s)
{
    const int64_t N = b->N = s->n_units * s->unit, T = pol_min_i64(N, 2048);
    float *x = pol_alloc_array(b->ctx, T * N, sizeof *x);
    double *z = pol_alloc_array(b->ctx, T * N, sizeof *z);
    b->h = pol_alloc_array(b->ctx, N * N, sizeof *b->h);
    b->w = pol_alloc_array(b->ctx, N * s->C, sizeof *b->w);
    pol_status status = x && z && b->h && b->w ? POL_OK : POL_ENOMEM;
    if (status == POL_OK) {
        pol_normal(1, POL_STREAM_BENCH, 0, 0, T * N, x);
        pol_normal(1, POL_STREAM_BENCH, 0, 1, N * s->C, b->w);
        for (int64_t i = 0; i < T * N; i++)
            z[i] = x[i] + 0.5 * x[i / N * N];
        cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, (int)N, (int)T, 1.0 / (double)T, z, (int)N, 0, b->h, (int)N);
    }
    pol_free(b->ctx, x);
    pol_free(b->ctx, z);
    return status;
}

static void clear(bench *b)
{
    pol_free(b->ctx, b->h);
    pol_free(b->ctx, b->w);
    b->h = NULL;
    b->w = NULL;
}

/* The order, then the rows of that order. */
static pol_status time_sweep(bench *b, const shape *s, int32_t *order, double *error, int64_t *level, float **rows)
{
    const double N = (double)b->N, C = (double)s->C;
    pol_obs_sweep_args a = {.n_units = s->n_units,
                            .unit = s->unit,
                            .C = s->C,
                            .block = s->block,
                            .damping = 0.01,
                            .h = b->h,
                            .w = b->w,
                            .order = order,
                            .error = error,
                            .level = level,
                            .rows = rows};
    double start = bench_seconds();
    POL_TRY(pol_obs_sweep(b->be, &a));
    print(b, s, "order", bench_seconds() - start, N * N * N * 4 / 3 + N * N * C);
    a.ordered = true;
    for (int64_t k = 1; k <= LEVELS && a.n_levels < s->n_units; k++)
        level[a.n_levels++] = s->n_units >= LEVELS ? s->n_units * k / LEVELS : k;
    for (int64_t l = 0; l < a.n_levels; l++)
        if (!(rows[l] = pol_alloc_array(b->ctx, level[l] * s->unit * s->C, sizeof **rows)))
            return POL_ENOMEM;
    start = bench_seconds();
    POL_TRY(pol_obs_sweep(b->be, &a));
    print(b, s, "rows", bench_seconds() - start, N * N * N * 2 / 3 + 2 * N * N * C);
    return POL_OK;
}

static pol_status time_solve(bench *b, const shape *s)
{
    const double N = (double)b->N, M = (double)s->C;
    double *y = pol_alloc_array(b->ctx, b->N * s->C, sizeof *y);
    if (!y)
        return POL_ENOMEM;
    for (int64_t i = 0; i < b->N * s->C; i++)
        y[i] = b->w[i];
    pol_solve_spd_args a = {.N = b->N, .M = s->C, .damping = 0.01, .a = b->h, .b = y};
    const double start = bench_seconds();
    const pol_status status = pol_solve_spd(b->be, &a);
    print(b, s, "solve", bench_seconds() - start, N * N * N / 3 + 2 * N * N * M);
    pol_free(b->ctx, y);
    return status;
}

static pol_status run_shape(bench *b, const shape *s)
{
    int32_t *order = pol_alloc_array(b->ctx, s->n_units, sizeof *order);
    double *error = pol_alloc_array(b->ctx, s->n_units, sizeof *error);
    int64_t level[LEVELS];
    float *rows[LEVELS] = {NULL};
    pol_status status = order && error ? fill(b, s) : POL_ENOMEM;
    if (status == POL_OK)
        status = time_sweep(b, s, order, error, level, rows);
    if (status == POL_OK)
        status = time_solve(b, s);
    for (int l = 0; l < LEVELS; l++)
        pol_free(b->ctx, rows[l]);
    pol_free(b->ctx, order);
    pol_free(b->ctx, error);
    clear(b);
    return status;
}

int main(int argc, char **argv)
{
    bool large = false;
    int threads = omp_get_max_threads();
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--large") == 0)
            large = true;
        else
            threads = atoi(argv[i]);
    bench b = {.N = 0};
    if (pol_context_new(NULL, &b.ctx) < 0)
        return 1;
    openblas_set_num_threads(threads); /* for the bare calls; sets OpenMP's count too */
    pol_status s = pol_backend_open_host(b.ctx, threads, &b.be);
    if (s == POL_OK) {
        printf("%s: %s\n", pol_backend_info(b.be)->name, pol_backend_info(b.be)->detail);
        s = time_dgemm(&b);
    }
    for (size_t i = 0; i < POL_COUNT(shapes) && s == POL_OK; i++)
        if (large || !shapes[i].large)
            s = run_shape(&b, &shapes[i]);
    if (s < 0)
        fprintf(stderr, "bench_repair: %s\n", pol_error_text(b.ctx));
    pol_backend_close(b.be);
    pol_context_free(b.ctx);
    return s < 0;
}
