/* bench_cuda.c - what the CUDA backend gets out of a card, with a model of random weights made on the spot:
 *
 *   peak         cuBLASLt's rate on large squares, and on the pass's own products one after the other
 *   pass         masked passes of --batch sequences: rate over peak, time over the bare products, device time by op
 *   change       to a fresh mask and to one that differs little: device time, bytes, rate over a copy's
 *   host         processor time of queueing passes and steps
 *   memory       what a run takes over what its plan says
 *   streamed     steps of a model whose layers visit the device, by the number of passes
 *   repair       second moments over the bare product, a sweep over cuBLASLt's f64 peak, of the model's width
 *
 *   bench_cuda [--shape 7b|13b|llama3-8b|toy] [--layers N] [--batch 8] [--seq-len 128] [--keep 0.5] [--rounds 7]
 *              [--cells 8] [--streamed-layers 8] [--streamed-cells 32] [--square 8192] [--copy-mb 512]
 *              [--sweep-block 32] [--device 0] [--json FILE]
 *
 * --cells passes are queued before one is waited for; --streamed-cells, by powers of two, of the streamed model.
 */
#include "bench/bench_cuda.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/random_model.h"
#include "core/base/json.h"
#include "core/base/rng.h"
#include "pollard/pollard.h"

enum { SEED = 4 };

static const struct shape {
    const char *name;
    int32_t layers, hidden, ffn, heads, groups, vocab;
} shapes[] = {
    {"7b", 32, 4096, 11008, 32, 32, 32000},
    {"13b", 40, 5120, 13824, 40, 40, 32000},
    {"llama3-8b", 32, 4096, 14336, 32, 8, 128256},
    {"toy", 2, 64, 160, 4, 2, 300},
};

static void set_shape(const struct shape *s, pol_config *c)
{
    *c = (pol_config){.n_layers = s->layers,
                      .hidden = s->hidden,
                      .heads_per_group = s->heads / s->groups,
                      .head_dim = s->hidden / s->heads,
                      .n_groups = s->groups,
                      .ffn = s->ffn,
                      .vocab = s->vocab,
                      .max_positions = 1 << 20,
                      .rms_eps = 1e-5f,
                      .rope_theta = 10000};
    for (int32_t l = 0; l < POL_MAX_LAYERS; l++)
        c->layers[l] = (pol_layer_shape){c->n_groups, c->ffn};
}

/* ---- a session ---- */

void session_draw(session *s, double keep, int64_t n, uint8_t *masks)
{
    const pol_units *u = pol_model_units(s->model);
    const int64_t contents = u->n_of[POL_UNIT_GROUP] + u->n_of[POL_UNIT_CHANNEL];
    memset(masks, 1, (size_t)(n * u->n));
    for (int64_t k = 0; k < n; k++, s->drawn++)
        for (int64_t i = 0; i < contents; i += 4) {
            float x[4];
            pol_uniform_from(SEED, POL_STREAM_BENCH, s->drawn, 0, i, 4, x);
            for (int64_t j = i; j < contents && j < i + 4; j++)
                masks[k * u->n + j] = x[j - i] < keep;
        }
}

void session_disturb(session *s, double share, uint8_t *mask)
{
    const pol_units *u = pol_model_units(s->model);
    const int64_t contents = u->n_of[POL_UNIT_GROUP] + u->n_of[POL_UNIT_CHANNEL];
    for (int64_t i = 0; i < contents; i += 4) {
        float x[4];
        pol_uniform_from(SEED, POL_STREAM_BENCH, s->drawn, 0, i, 4, x);
        for (int64_t j = i; j < contents && j < i + 4; j++)
            mask[j] ^= x[j - i] < share;
    }
    s->drawn++;
}

pol_status session_queue(session *s)
{
    return pol_forward_queue(s->forward, s->ids, s->o->batch, s->o->seq_len, NULL, s->loss);
}

pol_status session_settle(session *s)
{
    POL_TRY(pol_forward_settle(s->forward));
    for (int64_t b = 0; b < s->o->batch; b++)
        if (!isfinite(s->loss[b]))
            return pol_fail(s->ctx, POL_ENUMERIC, "the loss of sequence %lld is %g", (long long)b, s->loss[b]);
    return POL_OK;
}

static pol_status free_bytes(session *s, size_t *out)
{
    size_t total;
    CU_TRY(s->ctx, "memory", cudaSetDevice, s->o->device);
    CU_TRY(s->ctx, "memory", cudaMemGetInfo, out, &total);
    return POL_OK;
}

static pol_status make_input(session *s)
{
    const int64_t T = s->o->batch * s->o->seq_len;
    s->ids = pol_alloc_array(s->ctx, T, sizeof *s->ids);
    s->loss = pol_alloc_array(s->ctx, s->o->batch, sizeof *s->loss);
    s->masks = pol_alloc_array(s->ctx, MAX_CELLS, (size_t)pol_model_units(s->model)->n);
    if (!s->ids || !s->loss || !s->masks)
        return POL_ENOMEM;
    for (int64_t i = 0; i < T; i++)
        s->ids[i] = (int32_t)((i * 7919 + 13) % s->o->config.vocab);
    return POL_OK;
}

/* Takes all memory in one piece, as a run does (core/run). */
static pol_status open_session(session *s, const pol_config *c, pol_placement p, double *planned)
{
    const options *o = s->o;
    const int64_t T = o->batch * o->seq_len;
    POL_TRY(pol_cuda_open(s->ctx, o->device, NULL, &s->be));
    const uint64_t bytes = pol_model_bytes(c, s->be, &p) + pol_forward_bytes(c, s->be, &p, T, o->seq_len);
    POL_TRY(pol_reserve(s->be, bytes));
    POL_TRY(random_model_new(s->be, c, &p, &s->model));
    POL_TRY(pol_forward_new(s->model, T, o->seq_len, &s->forward));
    *planned = (double)bytes;
    return make_input(s);
}

static void close_session(session *s)
{
    pol_forward_free(s->forward);
    pol_model_free(s->model);
    pol_backend_close(s->be);
    void *const blocks[] = {s->ids, s->loss, s->masks};
    for (size_t i = 0; i < POL_COUNT(blocks); i++)
        pol_free(s->ctx, blocks[i]);
}

/* Without the driver's own for each process, which is there before. */
static pol_status measure_memory(session *s, double planned, size_t before)
{
    size_t after;
    POL_TRY(session_queue(s));
    POL_TRY(session_settle(s));
    POL_TRY(free_bytes(s, &after));
    const double taken = (double)before - (double)after;
    figures_add(s->out, (figure){"memory", "device memory that a run takes", 1e-9 * taken, "GB", FIGURE_NO_GOAL, 0});
    figures_add(s->out,
                (figure){"memory_over_plan", "device memory over the plan", taken / planned, "", FIGURE_AT_MOST, 1.05});
    return POL_OK;
}

static pol_status measure_resident(session *s)
{
    const options *o = s->o;
    size_t before;
    double planned;
    POL_TRY(free_bytes(s, &before));
    POL_TRY(open_session(s, &o->config, (pol_placement){.cells = 1}, &planned));
    printf("%s, %s\n%d layers of %d, %lld sequences of %lld tokens, keep %.2f, medians of %lld rounds of %lld passes\n",
           s->be->info.name, s->be->info.detail, o->config.n_layers, o->config.hidden, (long long)o->batch,
           (long long)o->seq_len, o->keep, (long long)o->rounds, (long long)o->cells);
    POL_TRY(measure_memory(s, planned, before));
    return measure_rounds(s);
}

static pol_status open_and_measure_streamed(session *s)
{
    pol_config c = s->o->config;
    double planned;
    c.n_layers = s->o->streamed_layers;
    POL_TRY(open_session(s, &c, (pol_placement){.streamed = true, .cells = s->o->streamed_cells}, &planned));
    printf("streamed: %d layers\n", c.n_layers);
    return measure_streamed(s);
}

static pol_status write_json(pol_context *ctx, const options *o, const pol_device_info *d, const figures *out)
{
    const pol_config *c = &o->config;
    json_t *j = json_pack("{ss ss s{si si si si si si} sI sI sf sI sI sO}", "device", d->name, "detail", d->detail,
                          "config", "layers", c->n_layers, "hidden", c->hidden, "ffn", c->ffn, "groups", c->n_groups,
                          "heads_per_group", c->heads_per_group, "vocab", c->vocab, "batch", (json_int_t)o->batch,
                          "seq_len", (json_int_t)o->seq_len, "keep", o->keep, "rounds", (json_int_t)o->rounds, "cells",
                          (json_int_t)o->cells, "figures", out->list);
    const pol_status st = pol_json_write(ctx, o->json, j);
    json_decref(j);
    return st;
}

static pol_status run(pol_context *ctx, const options *o)
{
    figures out;
    figures_open(&out);
    session resident = {.ctx = ctx, .o = o, .out = &out}, streamed = resident, repaired = resident;
    pol_device_info device = {0};
    pol_status st = measure_resident(&resident);
    if (st == POL_OK)
        device = resident.be->info;
    close_session(&resident);
    if (st == POL_OK && o->streamed_layers)
        st = open_and_measure_streamed(&streamed);
    close_session(&streamed);
    if (st == POL_OK && o->sweep_block)
        st = measure_repair(&repaired);
    if (st == POL_OK && o->json)
        st = write_json(ctx, o, &device, &out);
    figures_close(&out);
    return st;
}

/* ---- options ---- */

static const char usage[] =
    "usage: bench_cuda [--shape 7b|13b|llama3-8b|toy] [--layers N] [--batch 8] [--seq-len 128] [--keep 0.5]\n"
    "                  [--rounds 7] [--cells 8] [--streamed-layers 8] [--streamed-cells 32] [--square 8192]\n"
    "                  [--copy-mb 512] [--sweep-block 32] [--device 0] [--json FILE]\n";

static bool shape_named(const char *name, pol_config *c)
{
    for (size_t i = 0; i < POL_COUNT(shapes); i++)
        if (!strcmp(shapes[i].name, name)) {
            set_shape(&shapes[i], c);
            return true;
        }
    return false;
}

static bool parse(int argc, char **argv, options *o)
{
    int64_t layers = 0, device = 0, copy_mb = 512, streamed = 8;
    const struct {
        const char *name;
        int64_t *value, most;
    } counts[] = {
        {"--layers", &layers, POL_MAX_LAYERS},
        {"--batch", &o->batch, 1 << 10},
        {"--seq-len", &o->seq_len, 1 << 16},
        {"--rounds", &o->rounds, MAX_ROUNDS},
        {"--cells", &o->cells, MAX_CELLS},
        {"--square", &o->square, 1 << 15},
        {"--sweep-block", &o->sweep_block, 1 << 15},
        {"--streamed-layers", &streamed, POL_MAX_LAYERS},
        {"--streamed-cells", &o->streamed_cells, MAX_CELLS},
        {"--copy-mb", &copy_mb, 1 << 16},
        {"--device", &device, 1 << 10},
    };
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        bool known = true;
        if (!strcmp(name, "--shape"))
            known = shape_named(value, &o->config);
        else if (!strcmp(name, "--keep"))
            o->keep = atof(value);
        else if (!strcmp(name, "--json"))
            o->json = value;
        else {
            size_t k = 0;
            while (k < POL_COUNT(counts) && strcmp(counts[k].name, name) != 0)
                k++;
            known = k < POL_COUNT(counts);
            if (known)
                *counts[k].value = pol_min_i64(atoll(value), counts[k].most);
        }
        if (!known)
            return false;
    }
    o->device = (int32_t)device;
    o->copy_bytes = copy_mb << 20;
    if (layers)
        o->config.n_layers = (int32_t)layers;
    o->streamed_layers = (int32_t)pol_min_i64(streamed, o->config.n_layers);
    return argc % 2 && layers >= 0 && streamed >= 0 && o->streamed_cells > 0 && device >= 0 && copy_mb > 0 &&
           o->sweep_block >= 0 && o->batch > 0 && o->seq_len > 1 && o->rounds > 0 && o->cells > 0 && o->square > 1 &&
           o->keep > 0 && o->keep <= 1;
}

int main(int argc, char **argv)
{
    options o = {.batch = 8,
                 .seq_len = 128,
                 .keep = 0.5,
                 .rounds = 7,
                 .cells = 8,
                 .streamed_cells = 32,
                 .square = 8192,
                 .sweep_block = 32};
    pol_context *ctx;
    set_shape(&shapes[0], &o.config);
    if (!parse(argc, argv, &o)) {
        fputs(usage, stderr);
        return 2;
    }
    if (pol_context_new(NULL, &ctx) < 0)
        return 1;
    const pol_status s = run(ctx, &o);
    if (s < 0)
        fprintf(stderr, "bench_cuda: %s\n", pol_error_text(ctx));
    pol_context_free(ctx);
    return s < 0;
}
