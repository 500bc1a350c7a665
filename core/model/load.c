/* load.c - from a source on disk to unit-by-unit buffers on a device, or to where layers visit it from.
 *
 * A tensor passes through host memory once: matrices whose units are rows go by in pieces, w_o and w_down are read
 * whole and written out transposed, so the peak is the weights, one tensor, and one piece.
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

/* Where a matrix or bias goes: a buffer on the device, or the host memory that a streamed layer comes from. */
typedef struct place {
    pol_buf *buf; /* NULL: home */
    int32_t layer;
    pol_part part;
} place;

static pol_status open_part(loader *ld, int32_t layer, pol_part part, place *out)
{
    pol_model *m = ld->m;
    const pol_part_shape s = pol_part_of(&m->config, m->be, layer, part);
    *out = (place){.layer = layer, .part = part};
    if (m->visits)
        return POL_OK;
    pol_buf **buf = pol_part_buf(&m->layers[layer], part);
    POL_TRY(pol_part_new(m->be, &s, buf));
    out->buf = *buf;
    return POL_OK;
}

static pol_status put(loader *ld, const place *to, int64_t at, const float *src, int64_t n)
{
    if (to->buf)
        return pol_upload(ld->m->be, to->buf, at, src, n);
    pol_visits_store(ld->m, to->layer, to->part, at, src, n);
    return POL_OK;
}

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
                            const place *dst, int64_t at)
{
    const int64_t step = pol_max_i64(1, ld->piece_n / cols);
    for (int64_t r = 0; r < n; r += step) {
        const int64_t rows = pol_min_i64(step, n - r);
        POL_TRY(pol_source_read(ld->src, kind, layer, row + r, rows, ld->piece));
        POL_TRY(put(ld, dst, at + r * cols, ld->piece, rows * cols));
    }
    return POL_OK;
}

/* w_qkv: the three matrices, group by group. */
static pol_status load_qkv(loader *ld, int32_t layer)
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
    place matrix, bias;
    POL_TRY(open_part(ld, layer, POL_W_QKV, &matrix));
    POL_TRY(open_part(ld, layer, POL_B_QKV, &bias));
    for (size_t p = 0; p < POL_COUNT(part); p++) {
        for (int64_t i = 0; i < G; i++)
            POL_TRY(copy_rows(ld, part[p].kind, layer, i * part[p].rows, part[p].rows, C, &matrix,
                              (i * unit + part[p].at) * C));
        if (!c->qkv_bias)
            continue;
        POL_TRY(pol_source_read(ld->src, part[p].bias, layer, 0, 1, ld->piece));
        for (int64_t i = 0; i < G; i++)
            POL_TRY(put(ld, &bias, i * unit + part[p].at, ld->piece + i * part[p].rows, part[p].rows));
    }
    return POL_OK;
}

/* w_gate_up: the two matrices, row by row in turn. */
static pol_status load_gate_up(loader *ld, int32_t layer)
{
    const pol_config *c = &ld->m->config;
    const int64_t C = c->hidden, F = c->layers[layer].ffn;
    const pol_tensor_kind kind[2] = {POL_T_GATE, POL_T_UP}, biases[2] = {POL_T_GATE_BIAS, POL_T_UP_BIAS};
    float *both = ld->piece + ld->piece_n;
    place matrix, bias;
    POL_TRY(open_part(ld, layer, POL_W_GATE_UP, &matrix));
    const int64_t step = pol_max_i64(1, ld->piece_n / (2 * C));
    for (int64_t r = 0; r < F; r += step) {
        const int64_t n = pol_min_i64(step, F - r);
        for (int i = 0; i < 2; i++) {
            POL_TRY(pol_source_read(ld->src, kind[i], layer, r, n, ld->piece));
            for (int64_t j = 0; j < n; j++)
                memcpy(both + (2 * j + i) * C, ld->piece + j * C, (size_t)C * sizeof *both);
        }
        POL_TRY(put(ld, &matrix, r * 2 * C, both, n * 2 * C));
    }
    if (!c->mlp_bias)
        return POL_OK;
    POL_TRY(open_part(ld, layer, POL_B_GATE_UP, &bias));
    for (int i = 0; i < 2; i++) {
        POL_TRY(pol_source_read(ld->src, biases[i], layer, 0, 1, ld->piece));
        for (int64_t j = 0; j < F; j++)
            both[2 * j + i] = ld->piece[j];
    }
    return put(ld, &bias, 0, both, 2 * F);
}

/* A [C, in] matrix to rows [in, C]. */
static pol_status copy_transposed(loader *ld, pol_tensor_kind kind, int64_t in, const place *to)
{
    enum { BLOCK = 32 };
    const int64_t C = ld->m->config.hidden;
    const int32_t layer = to->layer;
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
        POL_TRY(put(ld, to, r * C, ld->piece, n * C));
    }
    return POL_OK;
}

static pol_status load_transposed(loader *ld, pol_tensor_kind kind, int32_t layer, int64_t in, pol_part part)
{
    place to;
    POL_TRY(open_part(ld, layer, part, &to));
    return copy_transposed(ld, kind, in, &to);
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
        POL_TRY(load_qkv(ld, layer));
        POL_TRY(load_transposed(ld, POL_T_O, layer, shape.n_groups * pol_ctx_cols(c), POL_W_O));
        POL_TRY(new_vector(ld, POL_T_O_BIAS, layer, &w->b_o));
    }
    if (shape.ffn) {
        POL_TRY(new_vector(ld, POL_T_MLP_NORM, layer, &w->mlp_norm));
        POL_TRY(load_gate_up(ld, layer));
        POL_TRY(load_transposed(ld, POL_T_DOWN, layer, shape.ffn, POL_W_DOWN));
        POL_TRY(new_vector(ld, POL_T_DOWN_BIAS, layer, &w->b_down));
    }
    return POL_OK;
}

/* A [V, C] table, as it is. */
static pol_status load_table(loader *ld, pol_tensor_kind kind, pol_buf **out)
{
    const int64_t V = ld->m->config.vocab, C = ld->m->config.hidden;
    POL_TRY(pol_buf_new_rows(ld->m->be, ld->m->be->weight_dtype, V, C, out));
    return copy_rows(ld, kind, 0, 0, V, C, &(place){.buf = *out}, 0);
}

static pol_status load_all(loader *ld)
{
    pol_model *m = ld->m;
    const pol_config *c = &m->config;
    POL_TRY(load_table(ld, POL_T_EMBED, &m->embed));
    m->output = m->embed;
    if (!c->tied) {
        m->output = NULL;
        POL_TRY(load_table(ld, POL_T_OUTPUT, &m->output));
    }
    POL_TRY(new_vector(ld, POL_T_OUTPUT_NORM, 0, &m->output_norm));
    for (int32_t l = 0; l < c->n_layers; l++) {
        POL_TRY(pol_check_stop(m->ctx));
        POL_TRY(load_layer(ld, l));
    }
    return pol_sync(m->be);
}

static int64_t widest_input(const pol_config *c) { return pol_widest_input(c, POL_HEADS | POL_CHANNELS); }

/* A piece holds a row of every matrix and every vector whole. */
static int64_t piece_elements(const pol_config *c)
{
    return pol_max_i64(PIECE, pol_max_i64(2 * c->hidden, 2 * widest_input(c)));
}

uint64_t pol_model_host_bytes(const pol_config *c)
{
    return (uint64_t)(widest_input(c) * c->hidden + 2 * piece_elements(c)) * sizeof(float);
}

static pol_status open_model(pol_model *m)
{
    POL_TRY(pol_units_new(m->ctx, &m->config, &m->units));
    POL_TRY(pol_arrangement_new(m->units, &m->arrangement));
    m->layers = pol_alloc_zero(m->ctx, (size_t)m->config.n_layers * sizeof *m->layers);
    if (!m->layers)
        return POL_ENOMEM;
    return m->placement.streamed ? pol_visits_new(m) : POL_OK;
}

static pol_status with_loader(pol_source *src, pol_model *m, pol_status (*work)(loader *))
{
    loader ld = {.src = src, .m = m, .piece_n = piece_elements(&m->config)};
    ld.tensor = pol_alloc_array(m->ctx, widest_input(&m->config) * m->config.hidden, sizeof(float));
    ld.piece = pol_alloc_array(m->ctx, 2 * ld.piece_n, sizeof(float));
    const pol_status s = ld.tensor && ld.piece ? work(&ld) : POL_ENOMEM;
    pol_free(m->ctx, ld.tensor);
    pol_free(m->ctx, ld.piece);
    return s;
}

static pol_status reload(loader *ld)
{
    pol_model *m = ld->m;
    const pol_config *c = &m->config;
    for (int32_t l = 0; l < c->n_layers; l++) {
        const struct {
            pol_tensor_kind kind;
            pol_part part;
            int64_t in;
        } last[] = {{POL_T_O, POL_W_O, c->layers[l].n_groups * pol_ctx_cols(c)},
                    {POL_T_DOWN, POL_W_DOWN, c->layers[l].ffn}};
        for (size_t i = 0; i < POL_COUNT(last); i++) {
            const place to = {
                .buf = m->visits ? NULL : *pol_part_buf(&m->layers[l], last[i].part), .layer = l, .part = last[i].part};
            if (last[i].in)
                POL_TRY(copy_transposed(ld, last[i].kind, last[i].in, &to));
        }
    }
    return pol_sync(m->be);
}

pol_status pol_model_reload_last(pol_model *m, pol_source *src)
{
    POL_TRY(pol_model_set_order(m, NULL));
    return with_loader(src, m, reload);
}

pol_status pol_model_load(pol_source *src, pol_backend *be, const pol_placement *p, pol_model **out)
{
    *out = NULL;
    pol_context *ctx = pol_source_context(src);
    const pol_placement resident = {.cells = 1};
    if (p && p->streamed && (p->cells < 1 || p->cells > POL_MAX_CELLS))
        return pol_fail(ctx, POL_EARG, "model: %lld passes a visit are not within 1..%d", (long long)p->cells,
                        POL_MAX_CELLS);
    pol_model *m = pol_alloc_zero(ctx, sizeof *m);
    if (!m)
        return POL_ENOMEM;
    m->ctx = ctx;
    m->be = be;
    m->config = *pol_source_config(src);
    m->placement = p && p->streamed ? *p : resident;
    pol_status s = open_model(m);
    if (s == POL_OK)
        s = with_loader(src, m, load_all);
    if (s < 0) {
        pol_model_free(m);
        return s;
    }
    *out = m;
    return POL_OK;
}

void pol_model_free(pol_model *m)
{
    if (!m)
        return;
    for (int32_t l = 0; m->layers && l < m->config.n_layers; l++) {
        pol_layer_weights *w = &m->layers[l];
        pol_buf *vectors[] = {w->attn_norm, w->mlp_norm, w->b_o, w->b_down};
        for (size_t i = 0; i < POL_COUNT(vectors); i++)
            pol_buf_free(m->be, vectors[i]);
        for (int part = 0; part < POL_PARTS; part++)
            pol_buf_free(m->be, *pol_part_buf(w, (pol_part)part));
    }
    pol_visits_free(m);
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
