/* safetensors_write.c - header, shards and the stream of values. */
#include "core/export/safetensors_write.h"

#include <math.h>
#include <string.h>

#include "core/base/endian.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/model/half.h"

/* The format is little-endian, and so is every machine that we build for: values are written as they lie in memory. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "big-endian machines would need byte swaps here");

enum { PIECE = 16384 }; /* values converted at a time */

struct pol_st_writer {
    pol_context *ctx;
    char *dir; /* or, where it grows, the file */
    pol_st_tensor *t;
    int64_t n;
    int32_t *shard_of; /* [n], from 0, rising */
    int32_t n_shards;
    pol_outfile file; /* of the current shard */
    bool grows;       /* it stays after an abort */
    const pol_st_metadata *metadata;
    int64_t n_metadata;
    uint64_t data_at; /* where in it the values begin */
    int64_t current;  /* the tensor whose turn it is */
    int64_t left;     /* of its values */
    union {
        float f32[PIECE];
        uint16_t f16[PIECE];
    } piece;
};

static const char *type_name(pol_dtype d) { return d == POL_F32 ? "F32" : d == POL_F16 ? "F16" : "BF16"; }

static int64_t count(const pol_st_tensor *t) { return t->n_dims == 1 ? t->shape[0] : t->shape[0] * t->shape[1]; }
static uint64_t bytes(const pol_st_tensor *t) { return (uint64_t)count(t) * pol_dtype_size(t->dtype); }

static void shard_name(const pol_st_writer *w, int32_t shard, char *dst, size_t n)
{
    if (w->n_shards == 1)
        snprintf(dst, n, "model.safetensors");
    else
        snprintf(dst, n, "model-%05d-of-%05d.safetensors", shard + 1, w->n_shards);
}

/* Shapes come from a checked model, so what fails here is a caller's bug; but a product that overflows would corrupt
 * the file. */
static pol_status check(pol_context *ctx, const pol_st_tensor *t, int64_t n)
{
    uint64_t total = 0;
    for (int64_t i = 0; i < n; i++) {
        uint64_t c = 1;
        bool ok = (t[i].dtype == POL_F32 || t[i].dtype == POL_F16 || t[i].dtype == POL_BF16) &&
                  (t[i].n_dims == 1 || t[i].n_dims == 2);
        for (int d = 0; ok && d < t[i].n_dims; d++)
            ok = t[i].shape[d] > 0 && pol_mul_u64(c, (uint64_t)t[i].shape[d], &c);
        ok = ok && pol_mul_u64(c, pol_dtype_size(t[i].dtype), &c);
        ok = ok && pol_add_u64(total, c, &total) && total <= INT64_MAX;
        if (!ok || !memchr(t[i].name, 0, sizeof t[i].name))
            return pol_fail(ctx, POL_EARG, "tensor '%.*s' cannot be declared with this type and shape",
                            (int)sizeof t[i].name, t[i].name);
        if (i && pol_dtype_size(t[i].dtype) > pol_dtype_size(t[i - 1].dtype))
            return pol_fail(ctx, POL_EARG, "tensor '%s' is declared after '%s' of a narrower type", t[i].name,
                            t[i - 1].name);
    }
    return n > 0 ? POL_OK : pol_fail(ctx, POL_EARG, "no tensor to write");
}

static void deal_shards(pol_st_writer *w, uint64_t shard_bytes)
{
    uint64_t in_shard = 0;
    for (int64_t i = 0; i < w->n; i++) {
        const uint64_t b = bytes(&w->t[i]);
        if (in_shard && (b > shard_bytes || in_shard > shard_bytes - b)) {
            w->n_shards++;
            in_shard = 0;
        }
        w->shard_of[i] = w->n_shards;
        in_shard += b;
    }
    w->n_shards++;
}

static pol_status build_metadata(const pol_st_writer *w, pol_bytes *h)
{
    POL_TRY(pol_bytes_printf(h, "{\"__metadata__\":{"));
    for (int64_t i = 0; i < w->n_metadata; i++)
        POL_TRY(pol_bytes_printf(h, "%s\"%s\":\"%s\"", i ? "," : "", w->metadata[i].key, w->metadata[i].value));
    return pol_bytes_add(h, "}", 1);
}

/* Length and header of the shard that starts with the current tensor. */
static pol_status build_header(const pol_st_writer *w, pol_bytes *h)
{
    const uint8_t room[8] = {0};
    POL_TRY(pol_bytes_add(h, room, sizeof room));
    POL_TRY(build_metadata(w, h));
    uint64_t at = 0;
    for (int64_t i = w->current; i < w->n && w->shard_of[i] == w->shard_of[w->current]; i++) {
        const pol_st_tensor *t = &w->t[i];
        POL_TRY(pol_bytes_printf(h, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%lld", t->name, type_name(t->dtype),
                                 (long long)t->shape[0]));
        if (t->n_dims == 2)
            POL_TRY(pol_bytes_printf(h, ",%lld", (long long)t->shape[1]));
        POL_TRY(pol_bytes_printf(h, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                                 (unsigned long long)(at + bytes(t))));
        at += bytes(t);
    }
    POL_TRY(pol_bytes_add(h, "}", 1));
    while (h->len % 8) /* the data starts at a multiple of 8, by the format's own advice */
        POL_TRY(pol_bytes_add(h, " ", 1));
    pol_put_u64le((uint8_t *)h->data, h->len - sizeof room);
    return POL_OK;
}

static pol_status write_header(pol_st_writer *w)
{
    pol_bytes h = {.ctx = w->ctx};
    pol_status s = build_header(w, &h);
    if (s == POL_OK)
        s = pol_outfile_write(&w->file, h.data, h.len);
    pol_bytes_free(&h);
    return s;
}

static pol_status start_shard(pol_st_writer *w)
{
    char name[64];
    shard_name(w, w->shard_of[w->current], name, sizeof name);
    char *path = pol_path_join(w->ctx, w->dir, name);
    pol_status s = path ? pol_outfile_open(w->ctx, path, &w->file) : POL_ENOMEM;
    pol_free(w->ctx, path);
    return s < 0 ? s : write_header(w);
}

static pol_status write_index(pol_st_writer *w)
{
    json_int_t total = 0;
    json_t *map = json_object();
    bool whole = true;
    for (int64_t i = 0; i < w->n; i++) {
        char name[64];
        shard_name(w, w->shard_of[i], name, sizeof name);
        whole = json_object_set_new(map, w->t[i].name, json_string(name)) == 0 && whole;
        total += (json_int_t)bytes(&w->t[i]);
    }
    json_t *index = json_pack("{s:{s:I},s:o}", "metadata", "total_size", total, "weight_map", map);
    pol_status s = POL_OK;
    if (!index || !whole)
        s = pol_fail(w->ctx, POL_ENOMEM, "%s: no memory for the index of shards", w->dir);
    char *path = s == POL_OK ? pol_path_join(w->ctx, w->dir, "model.safetensors.index.json") : NULL;
    if (s == POL_OK)
        s = path ? pol_json_write(w->ctx, path, index) : POL_ENOMEM;
    json_decref(index);
    pol_free(w->ctx, path);
    return s;
}

static pol_status new_writer(pol_context *ctx, const char *path, const pol_st_tensor *t, int64_t n,
                             uint64_t shard_bytes, pol_st_writer **out)
{
    static const pol_st_metadata plain = {"format", "pt"};
    POL_TRY(check(ctx, t, n));
    pol_st_writer *w = *out = pol_alloc_zero(ctx, sizeof *w);
    if (!w)
        return POL_ENOMEM;
    *w = (pol_st_writer){.ctx = ctx, .n = n, .metadata = &plain, .n_metadata = 1};
    w->dir = pol_strdup(ctx, path);
    w->t = pol_alloc_array(ctx, n, sizeof *t);
    w->shard_of = pol_alloc_array(ctx, n, sizeof *w->shard_of);
    if (!w->dir || !w->t || !w->shard_of)
        return POL_ENOMEM;
    memcpy(w->t, t, (size_t)n * sizeof *t);
    deal_shards(w, shard_bytes);
    w->left = count(&w->t[0]);
    return POL_OK;
}

/* Hands the writer over or frees it. */
static pol_status hand_over(pol_st_writer *w, pol_status s, pol_st_writer **out)
{
    *out = s < 0 ? NULL : w;
    if (s < 0)
        pol_st_abort(w);
    return s;
}

pol_status pol_st_open(pol_context *ctx, const char *dir, const pol_st_tensor *t, int64_t n, uint64_t shard_bytes,
                       pol_st_writer **out)
{
    pol_st_writer *w = NULL;
    pol_status s = new_writer(ctx, dir, t, n, shard_bytes, &w);
    if (s == POL_OK)
        s = start_shard(w);
    return hand_over(w, s, out);
}

/* Whether the file begins with this header. */
static pol_status begins_with(pol_st_writer *w, const pol_bytes *h, uint64_t size, bool *yes)
{
    *yes = false;
    if (size < h->len)
        return POL_OK;
    char *there = pol_alloc(w->ctx, h->len);
    if (!there)
        return POL_ENOMEM;
    const pol_status s = pol_outfile_read(&w->file, 0, there, h->len);
    *yes = s == POL_OK && !memcmp(there, h->data, h->len);
    pol_free(w->ctx, there);
    return s;
}

static pol_status take_up(pol_st_writer *w, int64_t *whole)
{
    pol_bytes h = {.ctx = w->ctx};
    uint64_t size;
    bool same = false;
    pol_status s = pol_outfile_resume(w->ctx, w->dir, &w->file, &size);
    if (s == POL_OK)
        s = build_header(w, &h);
    if (s == POL_OK)
        s = begins_with(w, &h, size, &same);
    if (s == POL_OK && !same)
        s = pol_outfile_cut(&w->file, 0);
    if (s == POL_OK && !same)
        s = pol_outfile_write(&w->file, h.data, h.len);
    *whole = 0;
    uint64_t at = w->data_at = h.len;
    for (; same && *whole < w->n && bytes(&w->t[*whole]) <= size - at; ++*whole)
        at += bytes(&w->t[*whole]);
    pol_bytes_free(&h);
    return s < 0 || !same ? s : pol_st_cut(w, *whole);
}

pol_status pol_st_resume(pol_context *ctx, const char *path, const pol_st_tensor *t, int64_t n,
                         const pol_st_metadata *metadata, int64_t n_metadata, int64_t *whole, pol_st_writer **out)
{
    pol_st_writer *w = NULL;
    pol_status s = POL_OK;
    for (int64_t i = 0; s == POL_OK && i < n; i++)
        if (t[i].dtype != POL_F32)
            s = pol_fail(ctx, POL_EARG, "tensor '%s' of a file that grows is not f32", t[i].name);
    if (s == POL_OK)
        s = new_writer(ctx, path, t, n, UINT64_MAX, &w);
    if (s == POL_OK) {
        w->grows = true;
        w->metadata = metadata;
        w->n_metadata = n_metadata;
        s = take_up(w, whole);
    }
    return hand_over(w, s, out);
}

static uint64_t place_of(const pol_st_writer *w, int64_t tensor)
{
    uint64_t at = w->data_at;
    for (int64_t i = 0; i < tensor; i++)
        at += bytes(&w->t[i]);
    return at;
}

pol_status pol_st_read_back(pol_st_writer *w, int64_t i, float *values)
{
    if (i < 0 || i >= w->current)
        return pol_fail(w->ctx, POL_EARG, "tensor %lld of %lld that are written", (long long)i, (long long)w->current);
    return pol_outfile_read(&w->file, place_of(w, i), values, (size_t)bytes(&w->t[i]));
}

pol_status pol_st_cut(pol_st_writer *w, int64_t i)
{
    POL_TRY(pol_outfile_cut(&w->file, place_of(w, i)));
    w->current = i;
    w->left = i < w->n ? count(&w->t[i]) : 0;
    return POL_OK;
}

pol_status pol_st_sync(pol_st_writer *w) { return pol_outfile_sync(&w->file); }

static pol_status refuse(const pol_st_writer *w, float value)
{
    return pol_fail(w->ctx, POL_ENUMERIC, "tensor '%s': value %g cannot be written as %s%s", w->t[w->current].name,
                    (double)value, type_name(w->t[w->current].dtype), isfinite(value) ? " (bf16 has the range)" : "");
}

/* n <= PIECE values of the current tensor. */
static pol_status write_piece(pol_st_writer *w, const float *x, int64_t n)
{
    const pol_dtype d = w->t[w->current].dtype;
    for (int64_t i = 0; i < n; i++) {
        bool fits = isfinite(x[i]);
        if (d == POL_F32) {
            w->piece.f32[i] = x[i];
        } else if (d == POL_F16) {
            w->piece.f16[i] = pol_f32_to_f16(x[i]);
            fits = fits && (w->piece.f16[i] & 0x7c00) != 0x7c00;
        } else {
            w->piece.f16[i] = pol_f32_to_bf16(x[i]);
            fits = fits && (w->piece.f16[i] & 0x7f80) != 0x7f80;
        }
        if (!fits)
            return refuse(w, x[i]);
    }
    return pol_outfile_write(&w->file, &w->piece, (size_t)n * pol_dtype_size(d));
}

/* The current tensor is complete: on to the next, and to its file. */
static pol_status next_tensor(pol_st_writer *w)
{
    const int32_t shard = w->shard_of[w->current++];
    const bool last = w->current == w->n;
    if (!w->grows && (last || w->shard_of[w->current] != shard))
        POL_TRY(pol_outfile_commit(&w->file));
    if (last)
        return POL_OK;
    w->left = count(&w->t[w->current]);
    return w->shard_of[w->current] == shard ? POL_OK : start_shard(w);
}

pol_status pol_st_append(pol_st_writer *w, const float *values, int64_t n)
{
    if (n < 0 || n > w->left)
        return pol_fail(w->ctx, POL_EARG, "%lld values are more than the %lld that the tensor lacks", (long long)n,
                        (long long)w->left);
    for (int64_t i = 0; i < n; i += PIECE)
        POL_TRY(write_piece(w, values + i, pol_min_i64(PIECE, n - i)));
    w->left -= n;
    return n && w->left == 0 ? next_tensor(w) : POL_OK;
}

pol_status pol_st_finish(pol_st_writer *w)
{
    pol_status s = POL_OK;
    if (w->current < w->n)
        s = pol_fail(w->ctx, POL_EARG, "tensor '%s' lacks %lld values", w->t[w->current].name, (long long)w->left);
    else if (w->grows)
        s = pol_outfile_commit(&w->file);
    else if (w->n_shards > 1)
        s = write_index(w);
    pol_st_abort(w); /* every file is in place: this only frees */
    return s;
}

void pol_st_abort(pol_st_writer *w)
{
    if (!w)
        return;
    if (w->grows)
        pol_outfile_leave(&w->file);
    else
        pol_outfile_abort(&w->file);
    pol_free(w->ctx, w->dir);
    pol_free(w->ctx, w->t);
    pol_free(w->ctx, w->shard_of);
    pol_free(w->ctx, w);
}
