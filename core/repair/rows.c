/* rows.c - two shapes of the same weights.
 *
 * w_o and w_down are transposed once, at load, so that a unit is rows; the tensors of a folder have its columns. The
 * others have its rows, but the parts put those of q, k and v, or of gate and up, side by side. */
#include "core/repair/rows.h"

#include <string.h>

int pol_part_tensors(pol_part part, pol_tensor_kind out[POL_PART_TENSORS])
{
    static const struct {
        int n;
        pol_tensor_kind of[POL_PART_TENSORS];
    } tensors[POL_PARTS] = {
        [POL_W_QKV] = {3, {POL_T_Q, POL_T_K, POL_T_V}},
        [POL_W_O] = {1, {POL_T_O}},
        [POL_W_GATE_UP] = {2, {POL_T_GATE, POL_T_UP}},
        [POL_W_DOWN] = {1, {POL_T_DOWN}},
    };
    memcpy(out, tensors[part].of, sizeof tensors[part].of);
    return tensors[part].n;
}

int64_t pol_part_unit(const pol_config *c, pol_part part)
{
    switch (part) {
    case POL_W_QKV: return pol_qkv_rows(c) * c->hidden;
    case POL_W_O: return pol_ctx_cols(c) * c->hidden;
    case POL_W_GATE_UP: return 2 * (int64_t)c->hidden;
    case POL_W_DOWN: return c->hidden;
    case POL_B_QKV:
    case POL_B_GATE_UP:
    case POL_PARTS: break;
    }
    return 0;
}

/* Where in a unit the tensor's rows are, and how many elements: [at, at + n) of `unit`. */
typedef struct strip {
    int64_t at, n, unit;
} strip;

static strip strip_of(const pol_config *c, pol_tensor_kind kind)
{
    const int64_t C = c->hidden, D = c->head_dim * C, gD = pol_ctx_cols(c) * C, qkv = pol_qkv_rows(c) * C;
    switch (kind) {
    case POL_T_Q: return (strip){0, gD, qkv};
    case POL_T_K: return (strip){gD, D, qkv};
    case POL_T_V: return (strip){gD + D, D, qkv};
    case POL_T_GATE: return (strip){0, C, 2 * C};
    case POL_T_UP: return (strip){C, C, 2 * C};
    default: return (strip){0};
    }
}

/* dst [cols, rows] = src [rows, cols], tile by tile, so that neither side leaves the cache between two touches. */
static void transpose(const float *src, int64_t rows, int64_t cols, float *dst)
{
    enum { TILE = 32 };
    for (int64_t r0 = 0; r0 < rows; r0 += TILE)
        for (int64_t c0 = 0; c0 < cols; c0 += TILE)
            for (int64_t r = r0; r < pol_min_i64(r0 + TILE, rows); r++)
                for (int64_t col = c0; col < pol_min_i64(c0 + TILE, cols); col++)
                    dst[col * rows + r] = src[r * cols + col];
}

static int64_t inputs(const pol_config *c, pol_tensor_kind kind, int64_t units)
{
    return units * (kind == POL_T_O ? pol_ctx_cols(c) : 1);
}

void pol_rows_to_tensor(const pol_config *c, pol_tensor_kind kind, const float *rows, int64_t units, float *tensor)
{
    const strip s = strip_of(c, kind);
    if (!s.n)
        transpose(rows, inputs(c, kind, units), c->hidden, tensor);
    for (int64_t i = 0; s.n && i < units; i++)
        memcpy(tensor + i * s.n, rows + i * s.unit + s.at, (size_t)s.n * sizeof *rows);
}

void pol_rows_from_tensor(const pol_config *c, pol_tensor_kind kind, const float *tensor, int64_t units, float *rows)
{
    const strip s = strip_of(c, kind);
    if (!s.n)
        transpose(tensor, c->hidden, inputs(c, kind, units), rows);
    for (int64_t i = 0; s.n && i < units; i++)
        memcpy(rows + i * s.unit + s.at, tensor + i * s.n, (size_t)s.n * sizeof *rows);
}
