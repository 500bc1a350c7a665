/* source.c - opening a model on disk, and reading its tensors as f32. */
#include "core/model/source.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/model/family.h"
#include "core/model/gguf.h"
#include "core/model/half.h"
#include "core/model/safetensors.h"
#include "core/model/tensors.h"

enum { MAX_CONFIG_BYTES = 1 << 24, MAX_PRUNED_BYTES = 1 << 30, HASH_PIECE = 1 << 24, EXTRA_NAMED = 5 };

/* A tensor as its file has it, whichever format that is. */
typedef struct stored {
    const char *name, *file; /* borrowed from the reader; name NULL: no such tensor */
    const pol_coding *coding;
    const uint8_t *data;
    int32_t n_dims, file_no;
    int64_t shape[4]; /* outermost first */
    uint64_t at, bytes;
    int64_t index; /* in the reader's list */
} stored;

struct pol_source {
    pol_context *ctx;
    char *path;
    pol_config config;
    bool interleaved; /* rows of q and k come in adjacent-pair order */
    pol_gguf *gguf;   /* one of the two is there */
    pol_safetensors *st;
    json_t *config_json;
    stored *tensors; /* [n_layers, POL_T_KINDS]; global ones in the first row */
    char hash[33];   /* "" until asked for */
};

/* ---- finding the tensors ---- */

static stored *slot(const pol_source *src, pol_tensor_kind kind, int32_t layer)
{
    return &src->tensors[(pol_tensor_is_global(kind) ? 0 : (int64_t)layer) * POL_T_KINDS + kind];
}

static void source_name(const pol_source *src, pol_tensor_kind kind, int32_t layer, char *dst, size_t n)
{
    if (src->gguf)
        pol_tensor_gguf_name(kind, layer, dst, n);
    else
        pol_tensor_name(kind, layer, dst, n);
}

static bool find_stored(const pol_source *src, const char *name, stored *s)
{
    if (src->gguf) {
        const pol_gguf_tensor *t = pol_gguf_tensor_find(src->gguf, name);
        if (!t)
            return false;
        *s = (stored){.name = t->name,
                      .file = pol_gguf_name(src->gguf),
                      .coding = t->coding,
                      .data = pol_gguf_data(src->gguf) + t->at,
                      .n_dims = t->n_dims,
                      .at = t->at,
                      .bytes = t->bytes,
                      .index = t - pol_gguf_tensor_at(src->gguf, 0)};
        for (int32_t d = 0; d < t->n_dims; d++)
            s->shape[d] = t->ne[t->n_dims - 1 - d];
        return true;
    }
    const pol_safetensors_tensor *t = pol_safetensors_find(src->st, name);
    if (!t)
        return false;
    *s = (stored){.name = t->name,
                  .file = pol_safetensors_file_name(src->st, t->file),
                  .coding = t->coding,
                  .data = pol_safetensors_file_data(src->st, t->file) + t->at,
                  .n_dims = t->n_dims,
                  .file_no = t->file,
                  .at = t->at,
                  .bytes = t->bytes,
                  .index = t - pol_safetensors_at(src->st, 0)};
    memcpy(s->shape, t->shape, sizeof s->shape);
    return true;
}

static pol_status wrong_shape(pol_context *ctx, const stored *s, int64_t rows, int64_t cols, bool vector)
{
    char have[96] = "", want[48];
    size_t at = 0;
    for (int32_t d = 0; d < s->n_dims && d < 4; d++)
        at += (size_t)snprintf(have + at, sizeof have - at, "%s%" PRId64, d ? ", " : "", s->shape[d]);
    if (vector)
        snprintf(want, sizeof want, "%" PRId64, cols);
    else
        snprintf(want, sizeof want, "%" PRId64 ", %" PRId64, rows, cols);
    return pol_fail(ctx, POL_EFORMAT, "%s: tensor '%s' has shape [%s%s], the configuration asks for [%s]", s->file,
                    s->name, have, s->n_dims > 4 ? ", ..." : "", want);
}

static pol_status locate(pol_source *src, pol_tensor_kind kind, int32_t layer)
{
    int64_t rows, cols;
    stored *s = slot(src, kind, layer);
    pol_tensor_shape(&src->config, kind, layer, &rows, &cols);
    if (!cols)
        return POL_OK;
    char name[96], output[32];
    source_name(src, kind, layer, name, sizeof name);
    source_name(src, POL_T_OUTPUT, 0, output, sizeof output);
    /* Of two tied matrices a file may hold either one. */
    if (!find_stored(src, name, s) && !(kind == POL_T_EMBED && src->config.tied && find_stored(src, output, s)))
        return pol_fail(src->ctx, POL_EFORMAT, "%s: tensor '%s' is missing", src->path, name);
    const bool vector = pol_tensor_is_vector(kind);
    if (vector ? s->n_dims != 1 || s->shape[0] != cols : s->n_dims != 2 || s->shape[0] != rows || s->shape[1] != cols)
        return wrong_shape(src->ctx, s, rows, cols, vector);
    if (!s->coding->decode || (vector && s->coding->values != 1))
        return pol_fail(src->ctx, POL_EUNSUPPORTED, "%s: tensor '%s' has type %s, not %s", s->file, s->name,
                        s->coding->name, vector ? "f32, f16 or bf16" : "a float type that is handled");
    return POL_OK;
}

/* What exporters leave behind without meaning: tables that follow from the configuration, and the second copy of a tied
 * matrix. */
static bool is_known_extra(const pol_source *src, const char *name)
{
    static const char inv_freq[] = "rotary_emb.inv_freq";
    const size_t n = strlen(name), suffix = sizeof inv_freq - 1;
    char output[32];
    source_name(src, POL_T_OUTPUT, 0, output, sizeof output);
    return (n >= suffix && !strcmp(name + n - suffix, inv_freq)) || (src->config.tied && !strcmp(name, output)) ||
           (src->gguf && !strcmp(name, "rope_freqs.weight"));
}

static const char *listed_name(const pol_source *src, int64_t i)
{
    if (src->gguf) {
        const pol_gguf_tensor *t = pol_gguf_tensor_at(src->gguf, i);
        return t ? t->name : NULL;
    }
    const pol_safetensors_tensor *t = pol_safetensors_at(src->st, i);
    return t ? t->name : NULL;
}

/* Tensors that nothing asked for are no error, but may mean that the model is more than its configuration says. */
static pol_status warn_of_extra(pol_source *src)
{
    int64_t n = 0, extra = 0;
    while (listed_name(src, n))
        n++;
    bool *used = pol_alloc_zero(src->ctx, (size_t)n + 1);
    if (!used)
        return POL_ENOMEM;
    for (int64_t i = 0; i < (int64_t)src->config.n_layers * POL_T_KINDS; i++)
        if (src->tensors[i].name)
            used[src->tensors[i].index] = true;
    for (int64_t i = 0; i < n; i++) {
        const char *name = listed_name(src, i);
        if (used[i] || is_known_extra(src, name))
            continue;
        if (++extra <= EXTRA_NAMED)
            pol_log(src->ctx, POL_LOG_WARN, "%s: tensor '%s' is not part of a %s model and is ignored", src->path, name,
                    src->config.family);
    }
    if (extra > EXTRA_NAMED)
        pol_log(src->ctx, POL_LOG_WARN, "%s: %" PRId64 " more tensors are ignored", src->path, extra - EXTRA_NAMED);
    pol_free(src->ctx, used);
    return POL_OK;
}

/* Everything that the configuration asks for, and nothing read yet. */
static pol_status locate_all(pol_source *src)
{
    const int32_t n = src->config.n_layers;
    src->tensors = pol_alloc_zero(src->ctx, (size_t)n * POL_T_KINDS * sizeof *src->tensors);
    if (!src->tensors)
        return POL_ENOMEM;
    for (int32_t l = 0; l < n; l++)
        for (int k = 0; k < POL_T_KINDS; k++)
            if (l == 0 || !pol_tensor_is_global(k))
                POL_TRY(locate(src, k, l));
    return warn_of_extra(src);
}

static void release(const pol_source *src, const stored *s, uint64_t at, uint64_t n)
{
    if (src->gguf)
        pol_gguf_release(src->gguf, s->at + at, n);
    else
        pol_safetensors_release(src->st, s->file_no, s->at + at, n);
}

/* ---- opening ---- */

static pol_status open_gguf(pol_source *src)
{
    POL_TRY(pol_gguf_open(src->ctx, src->path, &src->gguf));
    POL_TRY(pol_config_from_gguf(src->ctx, src->gguf, &src->config));
    src->interleaved = pol_family_of_model_type(src->config.family, strlen(src->config.family))->interleaved;
    return POL_OK;
}

static pol_status apply_pruned(pol_source *src, const char *path)
{
    json_t *j;
    POL_TRY(pol_json_read(src->ctx, path, MAX_PRUNED_BYTES, &j));
    const pol_status s = pol_config_apply_pruned(src->ctx, path, j, &src->config);
    json_decref(j);
    return s;
}

/* Where tensors and tie_word_embeddings disagree the tensors win, as in transformers. */
static void settle_tying(pol_source *src)
{
    stored embed, output;
    char name[2][32];
    pol_tensor_name(POL_T_EMBED, 0, name[0], sizeof name[0]);
    pol_tensor_name(POL_T_OUTPUT, 0, name[1], sizeof name[1]);
    const bool has_embed = find_stored(src, name[0], &embed), has_output = find_stored(src, name[1], &output);
    if (!has_output && !src->config.tied) {
        pol_log(src->ctx, POL_LOG_WARN, "%s: no tensor '%s': the embedding is taken as the output matrix", src->path,
                name[1]);
        src->config.tied = true;
    } else if (has_embed && has_output && src->config.tied) {
        src->config.tied = embed.coding == output.coding && embed.bytes == output.bytes &&
                           !memcmp(embed.data, output.data, embed.bytes);
        release(src, &embed, 0, embed.bytes);
        release(src, &output, 0, output.bytes);
        if (!src->config.tied)
            pol_log(src->ctx, POL_LOG_WARN,
                    "%s: tie_word_embeddings is true, but '%s' differs from '%s': both are used", src->path, name[1],
                    name[0]);
    }
}

static pol_status open_folder(pol_source *src)
{
    char *config = pol_path_join(src->ctx, src->path, "config.json");
    char *pruned = pol_path_join(src->ctx, src->path, "pollard.json");
    pol_status s = config && pruned ? pol_json_read(src->ctx, config, MAX_CONFIG_BYTES, &src->config_json) : POL_ENOMEM;
    if (s == POL_OK)
        s = pol_config_from_json(src->ctx, config, src->config_json, &src->config);
    if (s == POL_OK && pol_path_exists(pruned))
        s = apply_pruned(src, pruned);
    pol_free(src->ctx, config);
    pol_free(src->ctx, pruned);
    POL_TRY(s);
    POL_TRY(pol_safetensors_open(src->ctx, src->path, &src->st));
    settle_tying(src);
    return POL_OK;
}

pol_status pol_source_open(pol_context *ctx, const char *path, pol_source **out)
{
    *out = NULL;
    pol_source *src = pol_alloc_zero(ctx, sizeof *src);
    if (!src)
        return POL_ENOMEM;
    src->ctx = ctx;
    src->path = pol_strdup(ctx, path);
    pol_status s = !src->path ? POL_ENOMEM : pol_path_is_dir(path) ? open_folder(src) : open_gguf(src);
    if (s == POL_OK)
        s = locate_all(src);
    if (s < 0)
        pol_source_close(src);
    else
        *out = src;
    return s;
}

void pol_source_close(pol_source *src)
{
    if (!src)
        return;
    pol_gguf_close(src->gguf);
    pol_safetensors_close(src->st);
    json_decref(src->config_json);
    pol_free(src->ctx, src->tensors);
    pol_free(src->ctx, src->path);
    pol_free(src->ctx, src);
}

/* ---- reading ---- */

/* Where row r of half-split order (pairs i, i + D/2 within a head) stands in adjacent-pair order (pairs 2i, 2i + 1). */
static int64_t interleaved_row(int64_t r, int64_t head_dim)
{
    const int64_t in_head = r % head_dim, half = head_dim / 2;
    return r - in_head + (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1);
}

static bool is_rotated(pol_tensor_kind kind)
{
    return kind == POL_T_Q || kind == POL_T_K || kind == POL_T_Q_BIAS || kind == POL_T_K_BIAS;
}

static int64_t first_not_finite(const float *x, int64_t n)
{
    const uint32_t exponent = 0x7f800000u;
    uint32_t bad = 0;
    for (int64_t i = 0; i < n; i++)
        bad |= (pol_f32_bits(x[i]) & exponent) == exponent;
    for (int64_t i = 0; bad && i < n; i++)
        if (!isfinite(x[i]))
            return i;
    return -1;
}

pol_status pol_source_read(pol_source *src, pol_tensor_kind kind, int32_t layer, int64_t row, int64_t n, float *dst)
{
    int64_t rows, cols;
    if (layer < 0 || layer >= src->config.n_layers)
        return pol_fail(src->ctx, POL_EARG, "layer %d of %d", (int)layer, (int)src->config.n_layers);
    pol_tensor_shape(&src->config, kind, layer, &rows, &cols);
    if (row < 0 || n < 0 || n > rows || row > rows - n) {
        char name[96];
        pol_tensor_name(kind, layer, name, sizeof name);
        return pol_fail(src->ctx, POL_EARG, "rows %" PRId64 "..%" PRId64 " of tensor '%s', which has %" PRId64, row,
                        row + n, name, rows);
    }
    if (n == 0)
        return POL_OK;
    const stored *s = slot(src, kind, layer);
    /* What moves as one piece under the change of order: a row of a matrix, an element of a bias. */
    const int64_t piece = pol_tensor_is_vector(kind) ? 1 : cols, pieces = n * cols / piece;
    const int64_t blocks = piece / s->coding->values;
    const uint64_t bytes = (uint64_t)blocks * (uint64_t)s->coding->bytes;
    if (src->interleaved && is_rotated(kind))
        for (int64_t i = 0; i < pieces; i++)
            s->coding->decode(s->data + (uint64_t)interleaved_row(row + i, src->config.head_dim) * bytes, blocks,
                              dst + i * piece);
    else
        s->coding->decode(s->data + (uint64_t)row * bytes, pieces * blocks, dst);
    release(src, s, (uint64_t)row * bytes, (uint64_t)pieces * bytes);
    const int64_t bad = first_not_finite(dst, n * cols);
    if (bad >= 0)
        return pol_fail(src->ctx, POL_EFORMAT,
                        "%s: tensor '%s': value at row %" PRId64 ", column %" PRId64 " is %g, not a finite number",
                        s->file, s->name, row + bad / cols, bad % cols, dst[bad]);
    return POL_OK;
}

/* ---- identity ---- */

static pol_status hash_config(pol_context *ctx, const pol_config *c, XXH3_state_t *h)
{
    pol_bytes b = {.ctx = ctx};
    pol_status s =
        pol_bytes_printf(&b, "%s %d %d %d %d %d %d %d %d %d %a %a %d %a %a %a %d %d %d %d %d", c->family, c->n_layers,
                         c->hidden, c->heads_per_group, c->head_dim, c->n_groups, c->ffn, c->vocab, c->max_positions,
                         c->window, c->rms_eps, c->rope_theta, c->rope_scaling, c->rope_factor, c->rope_low_freq,
                         c->rope_high_freq, c->rope_original_positions, c->tied, c->qkv_bias, c->o_bias, c->mlp_bias);
    for (int32_t l = 0; l < c->n_layers && s == POL_OK; l++)
        s = pol_bytes_printf(&b, " %d/%d", c->layers[l].n_groups, c->layers[l].ffn);
    if (s == POL_OK)
        XXH3_128bits_update(h, b.data, b.len);
    pol_bytes_free(&b);
    return s;
}

static pol_status hash_tensor(const pol_source *src, const stored *s, XXH3_state_t *h)
{
    XXH3_128bits_update(h, s->coding->name, strlen(s->coding->name));
    for (uint64_t at = 0; at < s->bytes; at += HASH_PIECE) {
        const uint64_t n = s->bytes - at < HASH_PIECE ? s->bytes - at : HASH_PIECE;
        POL_TRY(pol_check_stop(src->ctx));
        XXH3_128bits_update(h, s->data + at, (size_t)n);
        release(src, s, at, n);
    }
    return POL_OK;
}

pol_status pol_source_hash(pol_source *src, char out[33])
{
    if (!src->hash[0]) {
        XXH3_state_t *h = XXH3_createState();
        if (!h)
            return pol_fail(src->ctx, POL_ENOMEM, "no memory for a hash state");
        XXH3_128bits_reset(h);
        pol_status s = hash_config(src->ctx, &src->config, h);
        for (int64_t i = 0; i < (int64_t)src->config.n_layers * POL_T_KINDS && s == POL_OK; i++)
            if (src->tensors[i].name)
                s = hash_tensor(src, &src->tensors[i], h);
        XXH128_canonical_t c;
        XXH128_canonicalFromHash(&c, XXH3_128bits_digest(h));
        XXH3_freeState(h);
        POL_TRY(s);
        for (int i = 0; i < 16; i++)
            snprintf(src->hash + 2 * i, 3, "%02x", c.digest[i]);
    }
    memcpy(out, src->hash, sizeof src->hash);
    return POL_OK;
}

/* ---- accessors ---- */

const pol_config *pol_source_config(const pol_source *src) { return &src->config; }
bool pol_source_is_gguf(const pol_source *src) { return src->gguf != NULL; }
const char *pol_source_path(const pol_source *src) { return src->path; }
pol_context *pol_source_context(const pol_source *src) { return src->ctx; }
const json_t *pol_source_config_json(const pol_source *src) { return src->config_json; }
const struct pol_gguf *pol_source_gguf(const pol_source *src) { return src->gguf; }

const char *pol_source_dtype(const pol_source *src, pol_tensor_kind kind, int32_t layer)
{
    const stored *s = slot(src, kind, layer);
    return s->name ? s->coding->name : "none";
}

double pol_source_bits(const pol_source *src, bool outside)
{
    double bytes = 0, params = 0;
    for (int32_t l = 0; l < (outside ? 1 : src->config.n_layers); l++)
        for (int k = 0; k < POL_T_KINDS; k++) {
            const stored *s = slot(src, (pol_tensor_kind)k, l);
            int64_t rows, cols;
            pol_tensor_shape(&src->config, (pol_tensor_kind)k, l, &rows, &cols);
            if (!s->name || rows == 0 || pol_tensor_is_global((pol_tensor_kind)k) != outside)
                continue;
            bytes += (double)s->bytes;
            params += (double)rows * (double)cols;
        }
    return params > 0 ? 8 * bytes / params : 32;
}
