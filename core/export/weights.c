/* weights.c - one walk over the tensors for both formats.
 *
 * A unit owns `width` neighbouring rows or columns of a tensor: a key/value group g*D rows of q, D rows of k and of v
 * and g*D columns of o; a channel one row of gate and of up and one column of down. A bias counts as one row, with its
 * units along the columns. The biases of o and down belong to no unit but to the block, and vanish with its last unit:
 * a block with nothing left is its residual path.
 */
#include "core/export/weights.h"

#include <string.h>

#include "core/export/safetensors_write.h"
#include "core/model/tensors.h"
#include "core/repair/repair.h"

enum { PIECE_VALUES = 1 << 18 }; /* 1 MB at a time, or one row where that is more */

typedef enum axis { NO_UNITS, ROWS, COLUMNS } axis;

/* One tensor of the output and how it is made from its namesake in the source, or among the repaired weights, which
 * have the units that stay and no others. */
typedef struct tensor_plan {
    pol_tensor_kind kind;
    int32_t layer;
    axis axis;
    int64_t width;           /* rows or columns of a unit */
    const pol_kept_units *p; /* the block's units; NULL for the tensors outside the blocks */
    bool repaired;
    int64_t in_rows, in_cols, out_rows, out_cols;
} tensor_plan;

static tensor_plan plan_tensor(const pol_layout *l, const pol_config *in, pol_tensor_kind kind, int32_t layer)
{
    tensor_plan t = {.kind = kind, .layer = layer};
    const int64_t D = in->head_dim, gD = D * in->heads_per_group;
    const pol_kept_units *groups = pol_tensor_is_global(kind) ? NULL : &l->groups[layer];
    const pol_kept_units *channels = pol_tensor_is_global(kind) ? NULL : &l->channels[layer];
    switch (kind) {
    case POL_T_Q: t.axis = ROWS, t.width = gD, t.p = groups; break;
    case POL_T_K:
    case POL_T_V: t.axis = ROWS, t.width = D, t.p = groups; break;
    case POL_T_O:
    case POL_T_Q_BIAS: t.axis = COLUMNS, t.width = gD, t.p = groups; break;
    case POL_T_K_BIAS:
    case POL_T_V_BIAS: t.axis = COLUMNS, t.width = D, t.p = groups; break;
    case POL_T_ATTN_NORM:
    case POL_T_O_BIAS: t.p = groups; break;
    case POL_T_GATE:
    case POL_T_UP: t.axis = ROWS, t.width = 1, t.p = channels; break;
    case POL_T_DOWN:
    case POL_T_GATE_BIAS:
    case POL_T_UP_BIAS: t.axis = COLUMNS, t.width = 1, t.p = channels; break;
    case POL_T_MLP_NORM:
    case POL_T_DOWN_BIAS: t.p = channels; break;
    case POL_T_EMBED:
    case POL_T_OUTPUT:
    case POL_T_OUTPUT_NORM:
    case POL_T_KINDS: break;
    }
    t.repaired = t.p && l->repaired && pol_repaired_has(l->repaired, kind, layer);
    pol_tensor_shape(t.repaired ? &l->left : in, kind, layer, &t.in_rows, &t.in_cols);
    pol_tensor_shape(&l->out, kind, layer, &t.out_rows, &t.out_cols);
    return t;
}

/* The tensors of the output in reading order: embedding, the layers, output norm, output matrix. */
static pol_status plan_all(pol_source *src, const pol_layout *l, tensor_plan **out, int64_t *n)
{
    const pol_config *in = pol_source_config(src);
    *n = 0;
    *out = pol_alloc_array(l->ctx, ((int64_t)in->n_layers + 1) * POL_T_KINDS, sizeof **out);
    if (!*out)
        return POL_ENOMEM;
    for (int32_t layer = -1; layer <= in->n_layers; layer++) {
        for (int k = 0; k < POL_T_KINDS; k++) {
            const bool outside = layer < 0 || layer == in->n_layers;
            if (pol_tensor_is_global(k) != outside || (outside && (k == POL_T_EMBED) != (layer < 0)))
                continue;
            const tensor_plan t = plan_tensor(l, in, k, outside ? 0 : layer);
            if (t.out_rows > 0)
                (*out)[(*n)++] = t;
        }
    }
    return POL_OK;
}

/* One walk over the plan: from where, to where, and room on the way. */
typedef struct walk {
    pol_source *src;
    const pol_layout *l;
    pol_st_writer *w;
    float *rows;  /* a piece of the source */
    float *moved; /* one row of the output */
} walk;

static pol_status read_rows(const walk *k, const tensor_plan *t, int64_t row, int64_t n)
{
    return t->repaired ? pol_repaired_read(k->l->repaired, t->kind, t->layer, row, n, k->rows)
                       : pol_source_read(k->src, t->kind, t->layer, row, n, k->rows);
}

/* Where the i-th unit that stays is in what is read. */
static int64_t place_in(const tensor_plan *t, int32_t i) { return t->repaired ? i : t->p->from[i]; }

/* Rows of a tensor that are read together. */
static int64_t piece_rows(const tensor_plan *t)
{
    return pol_min_i64(t->in_rows, pol_max_i64(1, PIECE_VALUES / pol_max_i64(1, t->in_cols)));
}

/* Appends source rows [row, row + n), piece by piece, with the columns of units moved to their places. */
static pol_status copy_rows(const walk *k, const tensor_plan *t, int64_t row, int64_t n)
{
    const int64_t end = row + n, piece = piece_rows(t);
    for (; row < end; row += piece) {
        const int64_t now = pol_min_i64(piece, end - row);
        POL_TRY(pol_check_stop(k->l->ctx));
        POL_TRY(read_rows(k, t, row, now));
        if (t->axis != COLUMNS) {
            POL_TRY(pol_st_append(k->w, k->rows, now * t->out_cols));
            continue;
        }
        for (int64_t r = 0; r < now; r++) {
            memset(k->moved, 0, (size_t)t->out_cols * sizeof *k->moved);
            for (int32_t i = 0; i < t->p->n; i++)
                memcpy(k->moved + pol_layout_place(k->l, t->p, i) * t->width,
                       k->rows + r * t->in_cols + place_in(t, i) * t->width, (size_t)t->width * sizeof *k->moved);
            POL_TRY(pol_st_append(k->w, k->moved, t->out_cols));
        }
    }
    return POL_OK;
}

/* n rows of one value. */
static pol_status fill_rows(const walk *k, const tensor_plan *t, int64_t n, float value)
{
    for (int64_t i = 0; i < t->out_cols; i++)
        k->moved[i] = value;
    for (int64_t r = 0; r < n; r++)
        POL_TRY(pol_st_append(k->w, k->moved, t->out_cols));
    return POL_OK;
}

/* Units along the rows: those that are neighbours in source and output go together. */
static pol_status copy_units(const walk *k, const tensor_plan *t)
{
    const pol_kept_units *p = t->p;
    int64_t done = 0; /* output rows */
    for (int32_t i = 0, run; i < p->n; i += run) {
        const int32_t to = pol_layout_place(k->l, p, i);
        run = 1;
        while (i + run < p->n && place_in(t, i + run) == place_in(t, i) + run &&
               pol_layout_place(k->l, p, i + run) == to + run)
            run++;
        POL_TRY(fill_rows(k, t, to * t->width - done, 0));
        POL_TRY(copy_rows(k, t, place_in(t, i) * t->width, run * t->width));
        done = (to + run) * t->width;
    }
    return fill_rows(k, t, t->out_rows - done, 0);
}

static pol_status write_tensor(const walk *k, const tensor_plan *t)
{
    /* Only ZEROS writes tensors of a block with nothing left. A norm that the source no longer has is 1: any finite
     * gain will do. */
    const bool gone = t->p && t->p->n == 0, norm = pol_tensor_is_norm(t->kind);
    if ((gone || t->in_rows == 0) && !(norm && t->in_rows > 0)) /* or a bias that others have, and this one has not */
        return fill_rows(k, t, t->out_rows, norm ? 1 : 0);
    return t->axis == ROWS ? copy_units(k, t) : copy_rows(k, t, 0, t->in_rows);
}

static pol_status write_all(walk *k, const tensor_plan *plan, int64_t n)
{
    int64_t piece = 0, row = 0;
    for (int64_t i = 0; i < n; i++) {
        piece = pol_max_i64(piece, piece_rows(&plan[i]) * plan[i].in_cols);
        row = pol_max_i64(row, plan[i].out_cols);
    }
    k->rows = pol_alloc_array(k->l->ctx, piece, sizeof *k->rows);
    k->moved = pol_alloc_array(k->l->ctx, row, sizeof *k->moved);
    pol_status s = k->rows && k->moved ? POL_OK : POL_ENOMEM;
    for (int64_t i = 0; s == POL_OK && i < n; i++)
        s = write_tensor(k, &plan[i]);
    pol_free(k->l->ctx, k->rows);
    pol_free(k->l->ctx, k->moved);
    return s;
}

static pol_dtype written_type(pol_source *src, const char *dtype, const tensor_plan *t)
{
    if (!dtype)
        dtype = pol_source_dtype(src, t->kind, t->layer);
    if (strcmp(dtype, "none") == 0) /* what the source lacks is written as the embedding is */
        dtype = pol_source_dtype(src, POL_T_EMBED, 0);
    return strcmp(dtype, "f16") == 0 ? POL_F16 : strcmp(dtype, "bf16") == 0 ? POL_BF16 : POL_F32;
}

/* Declares the tensors to a writer, wider types first as it asks; puts the plan into the same order. */
static pol_status declare(pol_source *src, const pol_layout *l, const char *dtype, uint64_t shard_bytes,
                          const char *dir, tensor_plan *plan, int64_t n, pol_dtype *widest, pol_st_writer **w)
{
    pol_st_tensor *t = pol_alloc_array(l->ctx, n, sizeof *t);
    tensor_plan *in_order = pol_alloc_array(l->ctx, n, sizeof *in_order);
    pol_status s = t && in_order ? POL_OK : POL_ENOMEM;
    int64_t k = 0;
    bool matrix_seen = false;
    for (size_t size = 4; s == POL_OK && size >= 2; size -= 2) {
        for (int64_t i = 0; i < n; i++) {
            const pol_dtype d = written_type(src, dtype, &plan[i]);
            if (pol_dtype_size(d) != size)
                continue;
            const bool vector = pol_tensor_is_vector(plan[i].kind);
            t[k] = (pol_st_tensor){.dtype = d, .n_dims = vector ? 1 : 2, .shape = {plan[i].out_rows, plan[i].out_cols}};
            if (vector)
                t[k].shape[0] = plan[i].out_cols;
            else if (!matrix_seen) {
                *widest = d;
                matrix_seen = true;
            }
            pol_tensor_name(plan[i].kind, plan[i].layer, t[k].name, sizeof t[k].name);
            in_order[k++] = plan[i];
        }
    }
    if (s == POL_OK) {
        memcpy(plan, in_order, (size_t)n * sizeof *plan);
        s = pol_st_open(l->ctx, dir, t, n, shard_bytes, w);
    }
    pol_free(l->ctx, t);
    pol_free(l->ctx, in_order);
    return s;
}

pol_status pol_export_weights(pol_source *src, const pol_layout *l, const char *dtype, uint64_t shard_bytes,
                              const char *dir, pol_dtype *widest)
{
    tensor_plan *plan;
    int64_t n;
    walk k = {.src = src, .l = l};
    POL_TRY(plan_all(src, l, &plan, &n));
    pol_status s = declare(src, l, dtype, shard_bytes, dir, plan, n, widest, &k.w);
    if (s == POL_OK)
        s = write_all(&k, plan, n);
    if (s == POL_OK)
        s = pol_st_finish(k.w);
    else
        pol_st_abort(k.w);
    pol_free(l->ctx, plan);
    return s;
}
