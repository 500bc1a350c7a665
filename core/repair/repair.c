/* repair.c - a repair from the first block to the last.
 *
 * All streams lie on the host. The dense one goes ahead by a block, then each way brings its own behind it. Nothing of
 * a block outlives it but the streams and what is in the files, so a repair that is gone on with goes through the
 * layers that it has with their repaired weights, and computes what it would have computed.
 */
#include "core/repair/repair.h"

#include <string.h>

#include "core/base/file.h"
#include "core/repair/walk.h"
#include "core/repair/work.h"

enum { BOTH_KINDS = 1u << POL_UNIT_GROUP | 1u << POL_UNIT_CHANNEL, TOKENS_A_COLUMN = 20, LEAST_SEQUENCES = 256 };

int64_t pol_repair_sequences(const pol_config *c, const pol_units *u, const uint8_t *mask, int64_t S)
{
    pol_config left;
    pol_mask_config(u, mask, c, &left);
    return pol_max_i64(LEAST_SEQUENCES, (TOKENS_A_COLUMN * pol_widest_input(&left, BOTH_KINDS) + S - 1) / S);
}

static bool is_ridge(const pol_repair_work *w) { return w->job->o.kind == POL_REPAIR_RIDGE; }

static int64_t count_targets(const pol_repair_settings *o)
{
    int64_t n = 0;
    for (int t = 0; t < POL_REPAIR_TARGETS && o->kind == POL_REPAIR_RIDGE; t++)
        n += o->targets >> t & 1;
    return n;
}

int64_t pol_repair_passes(const pol_repair_settings *o, int64_t n) { return n * (1 + 3 * count_targets(o)); }

/* Of the sums, and of what is solved. */
static int64_t most_columns(const pol_config *c, const pol_repair_settings *o)
{
    return pol_max_i64(pol_widest_input(c, BOTH_KINDS), o->refit_inputs > 0 ? c->hidden : 0);
}

/* Values of the largest first matrix of a block. */
static int64_t first_values(const pol_config *c)
{
    int64_t most = 0;
    for (int32_t l = 0; l < c->n_layers; l++)
        most = pol_max_i64(most, pol_max_i64(c->layers[l].n_groups * pol_qkv_rows(c), 2 * (int64_t)c->layers[l].ffn));
    return most * c->hidden;
}

uint64_t pol_repair_host_bytes(const pol_config *c, const pol_repair_settings *o, int64_t n, int64_t S)
{
    const bool ridge = o->kind == POL_REPAIR_RIDGE, refit = ridge && o->refit_inputs > 0;
    const uint64_t N = (uint64_t)most_columns(c, o), C = (uint64_t)c->hidden, ways = (uint64_t)count_targets(o);
    const uint64_t streams = 1 + (ridge ? ways + 2 : 0) + (refit ? 1 : 0);
    const uint64_t sums = ((ridge ? N + C : 0) + 1) * N * sizeof(double);
    const uint64_t first = refit ? (2 * ways + 1) * (uint64_t)first_values(c) * sizeof(float) : 0;
    /* Rows of the model, of a way, and the tensor that each file makes of them. */
    const uint64_t rows = (2 + ways) * N * C * sizeof(float);
    return streams * pol_streams_bytes(c, n, S) + sums + first + rows;
}

/* Of output biases where there are none yet: at most one a block. */
static uint64_t bias_bytes(const pol_config *c, const pol_backend *be)
{
    uint64_t n = 0;
    for (int32_t l = 0; l < c->n_layers; l++)
        n += (uint64_t)(c->layers[l].n_groups && !c->o_bias) + (uint64_t)(c->layers[l].ffn && !c->mlp_bias);
    return n * pol_buf_bytes(be, POL_F32, c->hidden);
}

uint64_t pol_repair_device_bytes(const pol_config *c, pol_backend *be, int64_t max_tokens, const pol_repair_settings *o)
{
    if (o->kind != POL_REPAIR_RIDGE)
        return o->kind == POL_REPAIR_BIAS ? bias_bytes(c, be) : 0;
    const uint64_t sums = pol_gram_bytes(be, max_tokens, most_columns(c, o), c->hidden);
    const uint64_t refit = o->refit_inputs > 0 ? pol_refit_device_bytes(c, be, max_tokens) : 0;
    uint64_t all;
    return pol_add_u64(sums, refit, &all) ? all : UINT64_MAX;
}

/* ---- before the first block ---- */

/* Kept units first, both parts rising. */
static pol_status set_order(pol_repair_work *w)
{
    const pol_units *u = w->m->units;
    const int64_t n = pol_model_order_size(w->m);
    uint8_t *kept = pol_alloc(w->ctx, (size_t)u->n);
    int32_t *order = pol_alloc_array(w->ctx, n, sizeof *order);
    pol_status s = kept && order ? POL_OK : POL_ENOMEM;
    if (s == POL_OK)
        pol_mask_effective(u, w->job->mask, kept);
    for (int64_t i = 0; s == POL_OK && i < 2 * u->n_layers; i++) {
        const pol_section *sec = &u->sections[i]; /* those of groups and of channels come first */
        int64_t at = sec->first;
        for (int wanted = 1; wanted >= 0; wanted--)
            for (int64_t j = sec->first; j < sec->first + sec->count; j++)
                if (kept[j] == wanted)
                    order[at++] = (int32_t)j;
    }
    if (s == POL_OK)
        s = pol_model_set_order(w->m, order);
    pol_free(w->ctx, kept);
    pol_free(w->ctx, order);
    return s;
}

static pol_status set_lengths(pol_repair_work *w)
{
    const int32_t L = w->c->n_layers;
    w->whole = pol_alloc_array(w->ctx, 4 * L, sizeof *w->whole);
    if (!w->whole)
        return POL_ENOMEM;
    w->masked = w->whole + 2 * L;
    for (int32_t l = 0; l < L; l++) {
        w->whole[l] = w->c->layers[l].n_groups;
        w->whole[L + l] = w->c->layers[l].ffn;
        w->masked[l] = w->left.layers[l].n_groups;
        w->masked[L + l] = w->left.layers[l].ffn;
    }
    return POL_OK;
}

/* Whether the file is there from an earlier call, whole. One that is damaged is none. */
static bool is_there(const pol_repair_work *w, pol_repair_target target)
{
    const pol_repair_job *j = w->job;
    pol_repaired *r;
    if (!pol_path_exists(j->path[target]) ||
        pol_repaired_open(w->ctx, j->path[target], w->c, w->m->units, j->mask, &r) < 0)
        return false;
    const bool same = !strcmp(pol_repaired_identity(r), j->identity) && pol_repaired_kind(r) == j->o.kind &&
                      (j->o.kind == POL_REPAIR_BIAS || pol_repaired_target(r) == target);
    pol_repaired_close(r);
    return same;
}

/* The files that are to be made; w->done is how far all of them are. */
static pol_status open_files(pol_repair_work *w)
{
    const pol_repair_job *j = w->job;
    char mask_hash[33];
    POL_TRY(pol_repair_mask_hash(w->ctx, w->m->units, j->mask, mask_hash));
    w->done = w->c->n_layers;
    for (int t = 0; t < POL_REPAIR_TARGETS; t++) {
        const bool wanted = j->o.kind == POL_REPAIR_RIDGE ? j->o.targets >> t & 1 : t == 0;
        const pol_repaired_plan plan = {.left = &w->left,
                                        .kind = j->o.kind,
                                        .target = (pol_repair_target)t,
                                        .refit = j->o.refit_inputs > 0,
                                        .identity = j->identity,
                                        .mask_hash = mask_hash};
        int32_t layers;
        if (!wanted || is_there(w, (pol_repair_target)t))
            continue;
        pol_repair_way *way = &w->way[w->n_ways];
        POL_TRY(pol_repaired_file_open(w->ctx, j->path[t], &plan, &layers, &way->file));
        way->target = (pol_repair_target)t;
        w->n_ways++;
        w->done = layers < w->done ? layers : w->done;
    }
    for (int i = 0; i < w->n_ways; i++)
        POL_TRY(pol_repaired_file_cut(w->way[i].file, w->done));
    if (w->done && w->n_ways)
        pol_log(w->ctx, POL_LOG_INFO, "repair: goes on behind layer %d of %d", w->done, w->c->n_layers);
    return POL_OK;
}

static pol_status new_ridge(pol_repair_work *w)
{
    const bool refit = w->job->o.refit_inputs > 0;
    const int64_t N = most_columns(w->c, &w->job->o), C = w->c->hidden;
    POL_TRY(pol_gram_new(w->m->be, pol_forward_max_tokens(w->job->f), N, C, &w->sums));
    POL_TRY(pol_streams_copy(&w->dense, &w->aim));
    POL_TRY(pol_streams_copy(&w->dense, &w->bare));
    w->a = pol_alloc_array(w->ctx, N * N, sizeof *w->a);
    w->b = pol_alloc_array(w->ctx, N * C, sizeof *w->b);
    if (!w->a || !w->b)
        return POL_ENOMEM;
    for (int i = 0; i < w->n_ways; i++)
        POL_TRY(pol_streams_copy(&w->dense, &w->way[i].x));
    if (!refit)
        return POL_OK;
    POL_TRY(pol_streams_copy(&w->dense, &w->before));
    POL_TRY(pol_refit_new(w));
    w->first_original = pol_alloc_array(w->ctx, first_values(w->c), sizeof *w->first_original);
    for (int i = 0; w->first_original && i < w->n_ways; i++)
        if (!(w->way[i].first = pol_alloc_array(w->ctx, first_values(w->c), sizeof(float))))
            return POL_ENOMEM;
    return w->first_original ? POL_OK : POL_ENOMEM;
}

static pol_status new_work(pol_repair_work *w)
{
    const pol_repair_job *j = w->job;
    const int64_t N = most_columns(w->c, &j->o), C = w->c->hidden;
    POL_TRY(set_order(w));
    POL_TRY(set_lengths(w));
    POL_TRY(pol_streams_begin(j->f, j->cal, &w->dense));
    w->rows = pol_alloc_array(w->ctx, N * C, sizeof *w->rows);
    w->original = pol_alloc_array(w->ctx, N * C, sizeof *w->original);
    w->sum = pol_alloc_array(w->ctx, N, sizeof *w->sum);
    if (!w->rows || !w->original || !w->sum)
        return POL_ENOMEM;
    return is_ridge(w) ? new_ridge(w) : POL_OK;
}

static void free_work(pol_repair_work *w)
{
    pol_streams *const streams[] = {&w->dense, &w->before, &w->aim, &w->bare};
    for (size_t i = 0; i < POL_COUNT(streams); i++)
        pol_streams_free(streams[i]);
    for (int i = 0; i < POL_REPAIR_TARGETS; i++) {
        pol_streams_free(&w->way[i].x);
        pol_repaired_file_leave(w->way[i].file);
        pol_free(w->ctx, w->way[i].first);
    }
    void *const blocks[] = {w->whole, w->a, w->b, w->rows, w->original, w->first_original, w->sum};
    for (size_t i = 0; i < POL_COUNT(blocks); i++)
        pol_free(w->ctx, blocks[i]);
    pol_gram_free(&w->sums);
    pol_refit_free(w);
}

/* ---- block after block ---- */

static pol_repair_block block_of(const pol_repair_work *w, int32_t layer, pol_unit_kind kind)
{
    const bool attention = kind == POL_UNIT_GROUP;
    return (pol_repair_block){.layer = layer,
                              .kind = kind,
                              .first = attention ? POL_W_QKV : POL_W_GATE_UP,
                              .last = attention ? POL_W_O : POL_W_DOWN,
                              .units = pol_units_section(w->m->units, kind, layer)->count,
                              .kept = w->masked[kind * w->c->n_layers + layer],
                              .columns = pol_block_inputs(&w->left, layer, kind),
                              .all = pol_block_inputs(w->c, layer, kind)};
}

/* The block's matrices as the dense model has them. */
static pol_status read_original(pol_repair_work *w, pol_repair_block *k)
{
    pol_backend *be = w->m->be;
    POL_TRY(pol_model_layer(w->m, k->layer, &k->w));
    POL_TRY(pol_download(be, *pol_part_buf(&k->w, k->last), 0, w->original, k->all * w->c->hidden));
    return w->first_original ? pol_download(be, *pol_part_buf(&k->w, k->first), 0, w->first_original,
                                            k->units * pol_part_of(w->c, be, k->layer, k->first).unit)
                             : POL_OK;
}

/* The dense stream; for BIAS, sums on the way. */
static pol_status advance_dense(pol_repair_work *w, const pol_repair_block *k)
{
    const pol_tap tap = {.sum = w->sum};
    if (w->before.x)
        memcpy(w->before.x, w->dense.x, (size_t)(w->dense.n * w->dense.S * w->dense.C) * sizeof *w->dense.x);
    memset(w->sum, 0, (size_t)k->all * sizeof *w->sum);
    POL_TRY(pol_model_set_lengths(w->m, w->whole, NULL));
    return pol_streams_block(&w->dense, k->layer, k->kind, is_ridge(w) ? NULL : &tap, NULL, true);
}

static pol_status repair_block(pol_repair_work *w, int32_t layer, pol_unit_kind kind)
{
    pol_repair_block k = block_of(w, layer, kind);
    if (!k.units)
        return POL_OK;
    POL_TRY(advance_dense(w, &k));
    if (!k.kept)
        return POL_OK;
    POL_TRY(read_original(w, &k));
    if (!is_ridge(w))
        return layer < w->done ? POL_OK : pol_bias_block(w, &k, &w->way[0]);
    for (int i = 0; i < w->n_ways; i++)
        POL_TRY(pol_ridge_block(w, &k, &w->way[i]));
    return POL_OK;
}

static pol_status repair_layers(pol_repair_work *w)
{
    const pol_repair_job *j = w->job;
    for (int32_t l = 0; l < w->c->n_layers; l++) {
        POL_TRY(repair_block(w, l, POL_UNIT_GROUP));
        POL_TRY(repair_block(w, l, POL_UNIT_CHANNEL));
        for (int i = 0; l >= w->done && i < w->n_ways; i++)
            POL_TRY(pol_repaired_file_sync(w->way[i].file));
        if (j->watch)
            j->watch(j->user, l + 1, w->c->n_layers);
    }
    return POL_OK;
}

static pol_status finish_files(pol_repair_work *w)
{
    for (int i = 0; i < w->n_ways; i++) {
        pol_repaired_file *f = w->way[i].file;
        w->way[i].file = NULL;
        POL_TRY(pol_repaired_file_finish(f));
    }
    return POL_OK;
}

enum { LEAST_TOKENS = 4 }; /* a column, as of pol_check_tokens() */

pol_status pol_repair_check_tokens(pol_context *ctx, const pol_config *left, const pol_repair_settings *o,
                                   int64_t tokens)
{
    if (o->kind != POL_REPAIR_RIDGE)
        return POL_OK;
    if (o->refit_inputs > 0 && tokens / LEAST_TOKENS < left->hidden)
        return pol_fail(ctx, POL_ELIMIT, "repair: %lld tokens for a re-fit of %d inputs: it takes at least %d each",
                        (long long)tokens, left->hidden, LEAST_TOKENS);
    const bool enough = tokens / LEAST_TOKENS >= pol_widest_input(left, BOTH_KINDS);
    return enough ? POL_OK : pol_check_tokens(ctx, left, BOTH_KINDS, tokens);
}

static pol_status check_tokens(const pol_repair_work *w)
{
    const int64_t tokens = w->job->cal->n * w->job->cal->seq_len;
    POL_TRY(pol_repair_check_tokens(w->ctx, &w->left, &w->job->o, tokens));
    return is_ridge(w) ? pol_check_tokens(w->ctx, &w->left, BOTH_KINDS, tokens) : POL_OK; /* which may warn */
}

/* What passed through all layers: the dense stream once, a way's three times. */
static int64_t forward_sequences(const pol_repair_work *w)
{
    return w->n_ways ? w->job->cal->n * (is_ridge(w) ? 1 + 3 * w->n_ways : 1) : 0;
}

pol_status pol_repair_run(const pol_repair_job *j, int64_t *sequences)
{
    pol_model *m = pol_forward_model(j->f);
    pol_repair_work w = {.job = j, .ctx = m->ctx, .m = m, .c = &m->config};
    pol_mask_config(m->units, j->mask, w.c, &w.left);
    pol_status s = pol_repair_check(m->ctx, &j->o);
    if (s == POL_OK)
        s = check_tokens(&w);
    if (s == POL_OK)
        s = open_files(&w);
    if (s == POL_OK && w.n_ways)
        s = new_work(&w);
    if (s == POL_OK && w.n_ways)
        s = repair_layers(&w);
    if (s == POL_OK)
        s = finish_files(&w);
    if (s == POL_OK && w.n_ways)
        s = pol_model_set_mask(m, NULL);
    if (sequences)
        *sequences = forward_sequences(&w);
    free_work(&w);
    return s;
}
