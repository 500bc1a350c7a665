/* load.c - from a source on disk to unit-by-unit buffers on a device.
 *
 * A tensor passes through host memory once: matrices whose units are rows go by in pieces, w_o and w_down are read
 * whole and written out transposed, so the peak is the weights on the device, one tensor, and one piece.
 */
#include <string.h>

#include "core/model/source.h"
#include "core/model/weights.h"

/* Elements of a piece on its way to the device. */
enum { PIECE = 1 << 20 };

typedef struct loader {
    pol_source *src;
    pol_model *m;
    float *tensor; /* one whole matrix, to be transposed */
    float *piece;  /* [2 * piece_n]: a piece, and room to interleave it */
    int64_t piece_n;
} loader;

static pol_status new_vector(loader *ld, pol_tensor_kind kind, int32_t layer, pol_buf **out)
{
    int64_t rows, cols;
    pol_tensor_shape(&ld->m->config, kind, layer, &rows, &cols);
    if (!cols)
        return POL_OK;
    POL_TRY(pol_buf_new(ld->m->be, POL_F32, cols, out));
    POL_TRY(pol_source_read(ld->src, kind, layer, 0, 1, ld->piece));
    return pol_upload(ld->m->be, *out, 0, ld->piece, cols);
}

/* Rows [row, row + n) of a tensor to dst from element `at` on, without rearrangement. */
static pol_status copy_rows(loader *ld, pol_tensor_kind kind, int32_t layer, int64_t row, int64_t n, int64_t cols,
                            pol_buf *dst, int64_t at)
{
    const int64_t step = pol_max_i64(1, ld->piece_n / cols);
    for (int64_t r = 0; r < n; r += step) {
        const int64_t rows = pol_min_i64(step, n - r);
        POL_TRY(pol_source_read(ld->src, kind, layer, row + r, rows, ld->piece));
        POL_TRY(pol_upload(ld->m->be, dst, at + r * cols, ld->piece, rows * cols));
    }
    return POL_OK;
}

/* w_qkv: the three matrices, group by group. */
static pol_status load_qkv(loader *ld, int32_t layer, pol_layer_weights *w)
{
    const pol_config *c = &ld->m->config;
    const int64_t C = c->hidden, G = c->layers[layer].n_groups;
    const struct {
        pol_tensor_kind kind, bias;
        int64_t rows, at; /* rows a group has, and where they start in its unit */
    } part[] = {
        {POL_T_Q, POL_T_Q_BIAS, pol_ctx_cols(c), 0},
        {POL_T_K, POL_T_K_BIAS, c->head_dim, pol_ctx_cols(c)},
        {POL_T_V, POL_T_V_BIAS, c->head_dim, pol_ctx_cols(c) + c->head_dim},
    };
    const int64_t unit = pol_qkv_rows(c);
    POL_TRY(pol_buf_new_rows(ld->m->be, ld->m->be->weight_dtype, G, unit * C, &w->w_qkv));
    if (c->qkv_bias)
        POL_TRY(pol_buf_new(ld->m->be, POL_F32, G * unit, &w->b_qkv));
    for (size_t p = 0; p < POL_COUNT(part); p++) {
        for (int64_t i = 0; i < G; i++)
            POL_TRY(copy_rows(ld, part[p].kind, layer, i * part[p].rows, part[p].rows, C, w->w_qkv,
                              (i * unit + part[p].at) * C));
        if (!c->qkv_bias)
            continue;
        POL_TRY(pol_source_read(ld->src, part[p].bias, layer, 0, 1, ld->piece));
        for (int64_t i = 0; i < G; i++)
            POL_TRY(pol_upload(ld->m->be, w->b_qkv, i * unit + part[p].at, ld->piece + i * part[p].rows, part[p].rows));
    }
    return POL_OK;
}

/* w_gate_up: the two matrices, row by row in turn. */
static pol_status load_gate_up(loader *ld, int32_t layer, pol_layer_weights *w)
{
    const pol_config *c = &ld->m->config;
    const int64_t C = c->hidden, F = c->layers[layer].ffn, padded = pol_padded(ld->m->be, F);
    const pol_tensor_kind kind[2] = {POL_T_GATE, POL_T_UP}, bias[2] = {POL_T_GATE_BIAS, POL_T_UP_BIAS};
    float *both = ld->piece + ld->piece_n;
    POL_TRY(pol_buf_new_rows(ld->m->be, ld->m->be->weight_dtype, padded, 2 * C, &w->w_gate_up));
    const int64_t step = pol_max_i64(1, ld->piece_n / (2 * C));
    for (int64_t r = 0; r < F; r += step) {
        const int64_t n = pol_min_i64(step, F - r);
        for (int i = 0; i < 2; i++) {
            POL_TRY(pol_source_read(ld->src, kind[i], layer, r, n, ld->piece));
            for (int64_t j = 0; j < n; j++)
                memcpy(both + (2 * j + i) * C, ld->piece + j * C, (size_t)C * sizeof *both);
        }
        POL_TRY(pol_upload(ld->m->be, w->w_gate_up, r * 2 * C, both, n * 2 * C));
    }
    if (!c->mlp_bias)
        return POL_OK;
    POL_TRY(pol_buf_new(ld->m->be, POL_F32, padded * 2, &w->b_gate_up));
    for (int i = 0; i < 2; i++) {
        POL_TRY(pol_source_read(ld->src, bias[i], layer, 0, 1, ld->piece));
        for (int64_t j = 0; j < F; j++)
            both[2 * j + i] = ld->piece[j];
    }
    return pol_upload(ld->m->be, w->b_gate_up, 0, both, 2 * F);
}

/* A [C, in] matrix to rows [in, C], in a buffer of `units` units of `unit` rows. */
static pol_status load_transposed(loader *ld, pol_tensor_kind kind, int32_t layer, int64_t in, int64_t units,
                                  int64_t unit, pol_buf **out)
{
    enum { BLOCK = 32 };
    const int64_t C = ld->m->config.hidden;
    POL_TRY(pol_buf_new_rows(ld->m->be, ld->m->be->weight_dtype, units, unit * C, out));
    POL_TRY(pol_source_read(ld->src, kind, layer, 0, C, ld->tensor));
    const int64_t step = pol_max_i64(1, ld->piece_n / C);
    for (int64_t r = 0; r < in; r += step) {
        const int64_t n = pol_min_i64(step, in - r);
        for (int64_t c0 = 0; c0 < C; c0 += BLOCK) {
            const int64_t c1 = pol_min_i64(C, c0 + BLOCK);
            for (int64_t j = 0; j < n; j++)
                for (int64_t col = c0; col < c1; col++)
                    ld->piece[j * C + col] = ld->tensor[col * in + r + j];
        }
        POL_TRY(pol_upload(ld->m->be, *out, r * C, ld->piece, n * C));
    }
    return POL_OK;
}

static pol_status load_layer(loader *ld, int32_t layer)
{
    const pol_config *c = &ld->m->config;
    const pol_layer_shape shape = c->layers[layer];
    pol_layer_weights *w = &ld->m->layers[layer];
    w->n_groups = shape.n_groups;
    w->n_channels = shape.ffn;
    if (shape.n_groups) {
        POL_TRY(new_vector(ld, POL_T_ATTN_NORM, layer, &w->attn_norm));
        POL_TRY(load_qkv(ld, layer, w));
        const int64_t in = shape.n_groups * pol_ctx_cols(c);
        POL_TRY(load_transposed(ld, POL_T_O, layer, in, shape.n_groups, pol_ctx_cols(c), &w->w_o));
        POL_TRY(new_vector(ld, POL_T_O_BIAS, layer, &w->b_o));
    }
    if (shape.ffn) {
        POL_TRY(new_vector(ld, POL_T_MLP_NORM, layer, &w->mlp_norm));
        POL_TRY(load_gate_up(ld, layer, w));
        POL_TRY(load_transposed(ld, POL_T_DOWN, layer, shape.ffn, pol_padded(ld->m->be, shape.ffn), 1, &w->w_down));
        POL_TRY(new_vector(ld, POL_T_DOWN_BIAS, layer, &w->b_down));
    }
    return POL_OK;
}

static pol_status load_all(loader *ld)
{
    pol_model *m = ld->m;
    const pol_config *c = &m->config;
    const int64_t V = c->vocab, C = c->hidden;
    POL_TRY(pol_buf_new_rows(m->be, m->be->weight_dtype, V, C, &m->embed));
    POL_TRY(copy_rows(ld, POL_T_EMBED, 0, 0, V, C, m->embed, 0));
    m->output = m->embed;
    if (!c->tied) {
        m->output = NULL;
        POL_TRY(pol_buf_new_rows(m->be, m->be->weight_dtype, V, C, &m->output));
        POL_TRY(copy_rows(ld, POL_T_OUTPUT, 0, 0, V, C, m->output, 0));
    }
    POL_TRY(new_vector(ld, POL_T_OUTPUT_NORM, 0, &m->output_norm));
    for (int32_t l = 0; l < c->n_layers; l++) {
        POL_TRY(pol_check_stop(m->ctx));
        POL_TRY(load_layer(ld, l));
    }
    return pol_sync(m->be);
}

/* Widest input of w_o or w_down over the layers. */
static int64_t widest_input(const pol_config *c)
{
    int64_t widest = 0;
    for (int32_t l = 0; l < c->n_layers; l++)
        widest = pol_max_i64(widest, pol_max_i64(c->layers[l].n_groups * pol_ctx_cols(c), c->layers[l].ffn));
    return widest;
}

/* A piece holds a row of every matrix and every vector whole. */
static int64_t piece_elements(const pol_config *c)
{
    return pol_max_i64(PIECE, pol_max_i64(2 * c->hidden, 2 * widest_input(c)));
}

uint64_t pol_model_host_bytes(const pol_config *c)
{
    return (uint64_t)(widest_input(c) * c->hidden + 2 * piece_elements(c)) * sizeof(float);
}

pol_status pol_model_load(pol_source *src, pol_backend *be, pol_model **out)
{
    *out = NULL;
    pol_context *ctx = pol_source_context(src);
    pol_model *m = pol_alloc_zero(ctx, sizeof *m);
    if (!m)
        return POL_ENOMEM;
    m->ctx = ctx;
    m->be = be;
    m->config = *pol_source_config(src);
    loader ld = {.src = src, .m = m, .piece_n = piece_elements(&m->config)};
    pol_status s = pol_units_new(ctx, &m->config, &m->units);
    if (s == POL_OK)
        s = pol_arrangement_new(m->units, &m->arrangement);
    if (s == POL_OK) {
        m->layers = pol_alloc_zero(ctx, (size_t)m->config.n_layers * sizeof *m->layers);
        ld.tensor = pol_alloc_array(ctx, widest_input(&m->config) * m->config.hidden, sizeof(float));
        ld.piece = pol_alloc_array(ctx, 2 * ld.piece_n, sizeof(float));
        s = m->layers && ld.tensor && ld.piece ? load_all(&ld) : POL_ENOMEM;
    }
    pol_free(ctx, ld.tensor);
    pol_free(ctx, ld.piece);
    if (s < 0) {
        pol_model_free(m);
        return s;
    }
    *out = m;
    return POL_OK;
}

uint64_t pol_model_bytes(const pol_config *c, const pol_backend *be)
{
    const int64_t C = c->hidden;
    int64_t weights = c->vocab * C * (c->tied ? 1 : 2), vectors = C;
    for (int32_t l = 0; l < c->n_layers; l++) {
        const int64_t G = c->layers[l].n_groups, F = pol_padded(be, c->layers[l].ffn);
        weights += (G * (pol_qkv_rows(c) + pol_ctx_cols(c)) + 3 * F) * C;
        vectors += (G ? C : 0) + (F ? C : 0);
        vectors += (c->qkv_bias ? G * pol_qkv_rows(c) : 0) + (c->o_bias && G ? C : 0);
        vectors += c->mlp_bias && F ? 2 * F + C : 0;
    }
    return (uint64_t)weights * pol_dtype_size(be->weight_dtype) + (uint64_t)vectors * sizeof(float);
}

uint64_t pol_model_largest_row(const pol_config *c, const pol_backend *be)
{
    int64_t matrix = c->hidden, vector = c->hidden;
    for (int32_t l = 0; l < c->n_layers; l++) {
        const int64_t G = c->layers[l].n_groups, F = pol_padded(be, c->layers[l].ffn);
        matrix = pol_max_i64(matrix, pol_max_i64(G ? pol_qkv_rows(c) : 0, F ? 2 : 0) * c->hidden);
        vector = pol_max_i64(vector, c->qkv_bias ? G * pol_qkv_rows(c) : 0);
        vector = pol_max_i64(vector, c->mlp_bias ? 2 * F : 0);
    }
    const uint64_t matrix_bytes = (uint64_t)matrix * pol_dtype_size(be->weight_dtype);
    const uint64_t vector_bytes = (uint64_t)vector * sizeof(float);
    return matrix_bytes > vector_bytes ? matrix_bytes : vector_bytes;
}

void pol_model_free(pol_model *m)
{
    if (!m)
        return;
    for (int32_t l = 0; m->layers && l < m->config.n_layers; l++) {
        pol_layer_weights *w = &m->layers[l];
        pol_buf *bufs[] = {w->attn_norm, w->mlp_norm, w->w_qkv, w->w_o,       w->w_gate_up,
                           w->w_down,    w->b_qkv,    w->b_o,   w->b_gate_up, w->b_down};
        for (size_t i = 0; i < POL_COUNT(bufs); i++)
            pol_buf_free(m->be, bufs[i]);
    }
    if (m->output != m->embed)
        pol_buf_free(m->be, m->output);
    pol_buf_free(m->be, m->embed);
    pol_buf_free(m->be, m->output_norm);
    pol_arrangement_free(m->arrangement);
    pol_units_free(m->units);
    pol_free(m->ctx, m->layers);
    pol_free(m->ctx, m);
}

const pol_config *pol_model_config(const pol_model *m) { return &m->config; }
const pol_units *pol_model_units(const pol_model *m) { return m->units; }
