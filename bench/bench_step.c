/* bench_step.c - what a masked step costs, as ratios measured in one run:
 *
 *   step / bare      pass through a masked model over the bare BLAS calls of the same shapes (projections, vocabulary)
 *   half / dense     pass at keep 0.5 over the one at keep 1.0
 *   change / step    giving the model a fresh random mask over the pass under it
 *   host / step      processor time of the calling thread in the pass over the pass: what it takes to queue the work,
 *                    its waiting left out; of a backend that computes in that thread it says nothing
 *
 *   bench_step MODEL [--backend cpu|cuda|opencl] [--device N|NAME] [--weights f32] [--keep 0.5] [--batch 8] [--seq-len
 * 128]
 *              [--rounds 7] [--threads 0]
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bare.h"
#include "bench/bench.h"
#include "pollard/pollard.h"

static const bare_calls *const known[] = {
    &bare_cpu,
#if defined(POLLARD_HAVE_CUDA)
    &bare_cuda,
#endif
#if defined(POLLARD_HAVE_OPENCL)
    &bare_opencl,
#endif
};

typedef struct times {
    pol_bench_times step;
    double bare; /* seconds */
} times;

/* The products that round `round` has run, and `bare` for them. */
static pol_status run_round(pol_bench_run *r, const bare_calls *calls, bare *b, uint64_t round, times *t)
{
    pol_products p = {.ctx = r->ctx};
    POL_TRY(pol_bench_round(r, round, &t->step));
    pol_status s = pol_products_add(&p, &r->left, r->be, r->o->batch * r->o->seq_len, 1);
    const double start = bench_seconds();
    if (s == POL_OK)
        s = calls->run(b, &p);
    t->bare = bench_seconds() - start;
    pol_products_free(&p);
    return s;
}

static double field(const times *t, size_t at)
{
    double v;
    memcpy(&v, (const char *)t + at, sizeof v);
    return v;
}

/* Medians over the rounds of a / b, of a and of b. */
static void report(const char *name, const times *t, int64_t n, size_t a, size_t b)
{
    double ratio[POL_BENCH_ROUNDS], over[POL_BENCH_ROUNDS], under[POL_BENCH_ROUNDS];
    for (int64_t i = 0; i < n; i++) {
        over[i] = field(&t[i], a);
        under[i] = field(&t[i], b);
        ratio[i] = over[i] / under[i];
    }
    printf("%-14s %.3f   (%.1f ms over %.1f ms)\n", name, pol_bench_median(ratio, n), 1e3 * pol_bench_median(over, n),
           1e3 * pol_bench_median(under, n));
}

#define STEP(name) (offsetof(times, step) + offsetof(pol_bench_times, name))

static pol_status measure(pol_bench_run *r, const bare_calls *calls, bare *b)
{
    static times t[POL_BENCH_ROUNDS];
    const pol_bench_settings *o = r->o;
    POL_TRY(run_round(r, calls, b, 0, &t[0])); /* warms up */
    for (int64_t i = 0; i < o->rounds; i++)
        POL_TRY(run_round(r, calls, b, (uint64_t)i + 1, &t[i]));
    const pol_device_info *d = pol_backend_info(r->be);
    printf("%s, %s, weights in %s\nkeep %.2f, %lld sequences of %lld tokens, medians of %lld rounds; bare calls: %s\n",
           d->name, d->detail, pol_backend_weights(r->be), o->keep, (long long)o->batch, (long long)o->seq_len,
           (long long)o->rounds, calls->call);
    report("step / bare", t, o->rounds, STEP(masked), offsetof(times, bare));
    report("half / dense", t, o->rounds, STEP(masked), STEP(dense));
    report("change / step", t, o->rounds, STEP(change), STEP(masked));
    if (strcmp(d->backend, "cpu") != 0)
        report("host / step", t, o->rounds, STEP(host), STEP(masked));
    return POL_OK;
}

static pol_status run(pol_context *ctx, const pol_bench_settings *o)
{
    const bare_calls *calls = NULL;
    for (size_t i = 0; i < POL_COUNT(known); i++)
        if (!strcmp(known[i]->backend, o->backend.name))
            calls = known[i];
    if (!calls)
        return pol_fail(ctx, POL_EARG, "--backend %s: no bare calls for it in this build", o->backend.name);
    pol_bench_run r;
    POL_TRY(pol_bench_open(ctx, o, NULL, &r));
    pol_products dense = {.ctx = ctx};
    bare *b = NULL;
    pol_status s = pol_products_add(&dense, pol_model_config(r.model), r.be, o->batch * o->seq_len, 1);
    if (s == POL_OK)
        s = calls->open(r.be, &dense, o, &b);
    if (s == POL_OK)
        s = measure(&r, calls, b);
    calls->close(b);
    pol_products_free(&dense);
    pol_bench_close(&r);
    return s == POL_OK && calls->report ? calls->report(ctx, o) : s;
}

static const char usage[] =
    "usage: bench_step MODEL [--backend cpu|cuda|opencl] [--device N|NAME] [--weights f32] [--keep 0.5] "
    "[--batch 8] [--seq-len 128] [--rounds 7] [--threads 0]\n";

static bool parse(int argc, char **argv, pol_bench_settings *o)
{
    for (int i = 1; i < argc; i++) {
        const char *v = i + 1 < argc ? argv[i + 1] : "";
        if (argv[i][0] != '-') {
            o->model = argv[i];
            continue;
        }
        if (!strcmp(argv[i], "--keep"))
            o->keep = atof(v);
        else if (!strcmp(argv[i], "--batch"))
            o->batch = atoll(v);
        else if (!strcmp(argv[i], "--seq-len"))
            o->seq_len = atoll(v);
        else if (!strcmp(argv[i], "--rounds"))
            o->rounds = atoll(v);
        else if (!strcmp(argv[i], "--threads"))
            o->backend.threads = atoi(v);
        else if (!strcmp(argv[i], "--backend"))
            o->backend.name = v;
        else if (!strcmp(argv[i], "--device"))
            o->backend.device = v;
        else if (!strcmp(argv[i], "--weights"))
            o->backend.weights = v;
        else
            return false;
        i++;
    }
    return o->model;
}

int main(int argc, char **argv)
{
    pol_bench_settings o;
    pol_context *ctx;
    pol_bench_defaults(&o);
    o.backend.name = "cpu";
    if (!parse(argc, argv, &o)) {
        fputs(usage, stderr);
        return 2;
    }
    if (pol_context_new(NULL, &ctx) < 0)
        return 1;
    const pol_status s = run(ctx, &o);
    if (s < 0)
        fprintf(stderr, "bench_step: %s\n", pol_error_text(ctx));
    pol_context_free(ctx);
    return s < 0;
}
