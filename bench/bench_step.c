/* bench_step.c - what a masked step costs on the CPU, as ratios measured in one run:
 *
 *   step / sgemm     forward pass of a masked model over the bare cblas_sgemm calls of the same shapes (projections and
 *                    vocabulary)
 *   half / dense     forward pass at keep 0.5 over the one at keep 1.0
 *   change / step    giving the model a fresh random mask over the forward pass under it
 *
 *   bench_step MODEL [--keep 0.5] [--batch 8] [--seq-len 128] [--rounds 7] [--threads 0]
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cblas.h>

#include "bench/bench.h"
#include "core/backend.h"
#include "core/base/rng.h"
#include "pollard/pollard.h"

typedef struct settings {
    const char *model;
    double keep;
    int64_t batch, seq_len;
    int rounds, threads;
} settings;

enum { MAX_ROUNDS = 64 };

typedef struct setup {
    pol_context *ctx;
    pol_source *src;
    pol_backend *be;
    pol_model *model;
    pol_forward *forward;
    int32_t *ids;
    double *loss;
    uint8_t *mask;
    float *x, *w, *y; /* for the bare calls */
    pol_config left;  /* shapes under the mask */
} setup;

/* Exactly round(keep * count) units of every section of groups and channels, chosen at random. */
static void draw_mask(const pol_units *u, double keep, uint64_t step, uint8_t *mask)
{
    memset(mask, 1, (size_t)u->n);
    int64_t *order = malloc((size_t)u->n * sizeof *order);
    for (int64_t i = 0; i < u->n_sections; i++) {
        const pol_section *sec = &u->sections[i];
        if (sec->kind > POL_UNIT_CHANNEL)
            continue;
        /* Half of three groups is one and two in turn. */
        const int64_t n = (int64_t)(keep * (double)sec->count + (sec->layer % 2 ? 0.499 : 0.501));
        pol_permutation(3, POL_STREAM_TEST, step * 4096 + (uint64_t)i, sec->count, order);
        for (int64_t j = n; j < sec->count; j++)
            mask[sec->first + order[j]] = 0;
    }
    free(order);
}

/* y [T,N] (+)= x [T,K] times a weight matrix, in the two forms that the forward pass uses. */
static void product(const setup *s, int64_t T, int64_t N, int64_t K, bool transposed)
{
    if (N && K)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, transposed ? CblasTrans : CblasNoTrans, (int)T, (int)N, (int)K, 1.0f,
                    s->x, (int)K, s->w, (int)(transposed ? K : N), transposed ? 0.0f : 1.0f, s->y, (int)N);
}

static void bare_products(const setup *s, const pol_config *c, int64_t T)
{
    const int64_t C = c->hidden, D = c->head_dim, g = c->heads_per_group;
    for (int32_t l = 0; l < c->n_layers; l++) {
        const int64_t G = c->layers[l].n_groups, F = c->layers[l].ffn;
        product(s, T, G * (g + 2) * D, C, true);
        product(s, T, C, G * g * D, false);
        product(s, T, 2 * F, C, true);
        product(s, T, C, F, false);
    }
    /* The vocabulary in the slices of the forward pass: logits are never whole. */
    for (int64_t v = 0; v < c->vocab; v += s->be->nll_slice)
        product(s, T, pol_min_i64(s->be->nll_slice, c->vocab - v), C, true);
}

static pol_status open_all(setup *s, const settings *o)
{
    POL_TRY(pol_context_new(NULL, &s->ctx));
    POL_TRY(pol_source_open(s->ctx, o->model, &s->src));
    POL_TRY(pol_backend_open(s->ctx, &(pol_backend_options){.name = "cpu", .threads = o->threads}, &s->be));
    POL_TRY(pol_model_load(s->src, s->be, &s->model));
    const int64_t T = o->batch * o->seq_len;
    POL_TRY(pol_forward_new(s->model, T, o->seq_len, &s->forward));
    const pol_config *c = pol_model_config(s->model);
    const int64_t qkv = (int64_t)c->n_groups * (c->heads_per_group + 2) * c->head_dim;
    const int64_t wide = pol_max_i64(s->be->nll_slice, pol_max_i64(2 * c->ffn, qkv));
    /* The ops put the process's thread count back after use: the bare calls need it set. */
    openblas_set_num_threads(o->threads ? o->threads : openblas_get_num_procs());
    s->ids = malloc((size_t)T * sizeof *s->ids);
    s->loss = malloc((size_t)o->batch * sizeof *s->loss);
    s->mask = malloc((size_t)pol_model_units(s->model)->n);
    s->x = calloc((size_t)(T * wide), sizeof *s->x);
    s->w = calloc((size_t)(wide * (c->hidden > wide ? c->hidden : wide)), sizeof *s->w);
    s->y = calloc((size_t)(T * wide), sizeof *s->y);
    for (int64_t i = 0; i < T; i++)
        s->ids[i] = (int32_t)((i * 7919 + 13) % c->vocab);
    return POL_OK;
}

typedef struct times {
    double dense, change, step, bare; /* seconds */
} times;

static pol_status run_round(setup *s, const settings *o, uint64_t round, times *t)
{
    const pol_units *u = pol_model_units(s->model);
    draw_mask(u, o->keep, round, s->mask);
    POL_TRY(pol_model_set_mask(s->model, NULL));
    double start = bench_seconds();
    POL_TRY(pol_forward_nll(s->forward, s->ids, o->batch, o->seq_len, NULL, s->loss));
    t->dense = bench_seconds() - start;

    start = bench_seconds();
    POL_TRY(pol_model_set_mask(s->model, s->mask));
    t->change = bench_seconds() - start;

    start = bench_seconds();
    POL_TRY(pol_forward_nll(s->forward, s->ids, o->batch, o->seq_len, NULL, s->loss));
    t->step = bench_seconds() - start;

    pol_mask_config(u, s->mask, pol_model_config(s->model), &s->left);
    start = bench_seconds();
    bare_products(s, &s->left, o->batch * o->seq_len);
    t->bare = bench_seconds() - start;
    return POL_OK;
}

/* Medians over the rounds of a / b, of a and of b. */
static void report(const char *name, const times *t, int n, size_t a, size_t b)
{
    double ratio[MAX_ROUNDS], over[MAX_ROUNDS], under[MAX_ROUNDS];
    for (int i = 0; i < n; i++) {
        memcpy(&over[i], (const char *)&t[i] + a, sizeof *over);
        memcpy(&under[i], (const char *)&t[i] + b, sizeof *under);
        ratio[i] = over[i] / under[i];
    }
    printf("%-16s %.3f   (%.1f ms over %.1f ms)\n", name, bench_median(ratio, n), 1e3 * bench_median(over, n),
           1e3 * bench_median(under, n));
}

static pol_status measure(setup *s, const settings *o)
{
    times t[MAX_ROUNDS];
    POL_TRY(run_round(s, o, 0, &t[0])); /* warms up */
    for (int i = 0; i < o->rounds; i++)
        POL_TRY(run_round(s, o, (uint64_t)i + 1, &t[i]));
    const pol_device_info *d = pol_backend_info(s->be);
    printf("%s, %s\nkeep %.2f, %lld sequences of %lld tokens, medians of %d rounds\n", d->name, d->detail, o->keep,
           (long long)o->batch, (long long)o->seq_len, o->rounds);
    report("step / sgemm", t, o->rounds, offsetof(times, step), offsetof(times, bare));
    report("half / dense", t, o->rounds, offsetof(times, step), offsetof(times, dense));
    report("change / step", t, o->rounds, offsetof(times, change), offsetof(times, step));
    return POL_OK;
}

int main(int argc, char **argv)
{
    settings o = {.keep = 0.5, .batch = 8, .seq_len = 128, .rounds = 7};
    for (int i = 1; i < argc; i++) {
        const char *v = i + 1 < argc ? argv[i + 1] : "";
        if (argv[i][0] != '-') {
            o.model = argv[i];
            continue;
        }
        if (!strcmp(argv[i], "--keep"))
            o.keep = atof(v);
        else if (!strcmp(argv[i], "--batch"))
            o.batch = atoll(v);
        else if (!strcmp(argv[i], "--seq-len"))
            o.seq_len = atoll(v);
        else if (!strcmp(argv[i], "--rounds"))
            o.rounds = atoi(v);
        else if (!strcmp(argv[i], "--threads"))
            o.threads = atoi(v);
        i++;
    }
    if (!o.model || o.rounds < 1 || o.rounds > MAX_ROUNDS) {
        fputs("usage: bench_step MODEL [--keep 0.5] [--batch 8] [--seq-len 128] [--rounds 7] [--threads 0]\n", stderr);
        return 2;
    }
    static setup s;
    pol_status status = open_all(&s, &o);
    if (status == POL_OK)
        status = measure(&s, &o);
    if (status < 0)
        fprintf(stderr, "bench_step: %s\n", pol_error_text(s.ctx));
    pol_forward_free(s.forward);
    pol_model_free(s.model);
    pol_backend_close(s.be);
    pol_source_close(s.src);
    pol_context_free(s.ctx);
    free(s.ids), free(s.loss), free(s.mask), free(s.x), free(s.w), free(s.y);
    return status < 0;
}
