/* forward_buffers.c - the memory of a forward pass: planned, made, freed. */
#include <string.h>

#include "core/forward_state.h"
#include "core/model/rope.h"

/* One buffer to be. */
typedef struct planned {
    pol_buf **buf;
    pol_dtype dtype;
    int64_t n;
} planned;

/* Those that all passes share, and a residual stream a cell. */
enum { SHARED = 9, BUFFERS = SHARED + POL_MAX_CELLS };

/* Widest input of w_o or w_down. */
static int64_t mid_width(const pol_backend *be, const pol_config *c)
{
    int64_t width = 0;
    for (int32_t l = 0; l < c->n_layers; l++)
        width =
            pol_max_i64(width, pol_max_i64(c->layers[l].n_groups * pol_ctx_cols(c), pol_padded(be, c->layers[l].ffn)));
    return width;
}

/* Widest input of attention or swiglu. */
static int64_t wide_width(const pol_backend *be, const pol_config *c)
{
    int64_t width = 0;
    for (int32_t l = 0; l < c->n_layers; l++)
        width = pol_max_i64(width,
                            pol_max_i64(c->layers[l].n_groups * pol_qkv_rows(c), 2 * pol_padded(be, c->layers[l].ffn)));
    return width;
}

/* Logits of a position that `wide` has room for, where they are ever wanted: few, if there are no blocks at all; and no
 * more than a host likes to have at a time. */
static int64_t top_columns(const pol_backend *be, const pol_config *c, int64_t max_targets)
{
    const int64_t room = pol_min_i64(pol_max_i64(wide_width(be, c), POL_MAX_TARGETS), 2048);
    return max_targets > 1 ? pol_min_i64(c->vocab, room) : 0;
}

int64_t pol_forward_top_columns(const pol_forward *f) { return top_columns(f->m->be, &f->m->config, f->max_targets); }

/* All buffers of `f`, for its max_tokens and max_seq_len. Returns how many. */
static size_t plan_buffers(const pol_config *c, pol_backend *be, const pol_placement *p, pol_forward *f,
                           planned out[BUFFERS])
{
    const int64_t T = f->max_tokens, S = f->max_seq_len, mid = mid_width(be, c), cells = pol_cells(p);
    const int64_t wide = pol_max_i64(wide_width(be, c), top_columns(be, c, f->max_targets));
    int64_t groups = 0;
    for (int32_t l = 0; l < c->n_layers; l++)
        groups = pol_max_i64(groups, c->layers[l].n_groups);
    const int64_t attention = groups ? pol_attention_scratch(be, T, S, groups, c->heads_per_group, c->head_dim) : 0;
    const int64_t products = wide ? pol_gemm_scratch(be, T, pol_max_i64(wide, mid), c->hidden) : 0;
    const int64_t scratch =
        pol_max_i64(pol_max_i64(attention, products), pol_nll_scratch(be, T, c->hidden, pol_forward_slice(be, c)));
    const planned shared[SHARED] = {
        {&f->y, be->act_dtype, pol_mul_count(T, c->hidden)},
        {&f->wide, be->act_dtype, pol_mul_count(T, wide)},
        {&f->mid, be->act_dtype, pol_mul_count(T, mid)},
        {&f->cos_sin, POL_F32, pol_mul_count(S, c->head_dim)},
        {&f->scratch, POL_F32, scratch}, /* of one op at a time */
        {&f->ids, POL_I32, T},
        {&f->target, POL_I32, pol_mul_count(cells, pol_forward_room(f))},
        {&f->nll, POL_F32, pol_forward_room(f)},
        {&f->stats, POL_F32, 2 * mid},
    };
    memcpy(out, shared, sizeof shared);
    for (int64_t i = 0; i < cells; i++)
        out[SHARED + i] = (planned){&f->cell[i].x, POL_F32, pol_mul_count(T, c->hidden)};
    return (size_t)(SHARED + cells);
}

static pol_forward sized(const pol_forward_size *size)
{
    return (pol_forward){.max_tokens = size->max_tokens,
                         .max_seq_len = size->max_seq_len,
                         .max_targets = pol_max_i64(size->max_targets, 1)};
}

uint64_t pol_forward_bytes(const pol_config *c, pol_backend *be, const pol_placement *p, int64_t max_tokens,
                           int64_t max_seq_len)
{
    return pol_forward_bytes_sized(c, be, p, &(pol_forward_size){max_tokens, max_seq_len, 1});
}

uint64_t pol_forward_bytes_sized(const pol_config *c, pol_backend *be, const pol_placement *p,
                                 const pol_forward_size *size)
{
    pol_forward sizes = sized(size);
    planned plan[BUFFERS];
    const size_t n = plan_buffers(c, be, p, &sizes, plan);
    uint64_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        if (plan[i].n && !pol_add_u64(bytes, pol_buf_bytes(be, plan[i].dtype, plan[i].n), &bytes))
            return UINT64_MAX;
    return bytes;
}

/* Of elements alone: what the device gives at a time is held against it. */
uint64_t pol_forward_largest_buffer(const pol_config *c, pol_backend *be, const pol_placement *p,
                                    const pol_forward_size *size)
{
    pol_forward sizes = sized(size);
    planned plan[BUFFERS];
    const size_t n = plan_buffers(c, be, p, &sizes, plan);
    uint64_t largest = 0, bytes;
    for (size_t i = 0; i < n; i++) {
        if (!pol_mul_u64((uint64_t)plan[i].n, pol_dtype_size(plan[i].dtype), &bytes))
            return UINT64_MAX;
        largest = bytes > largest ? bytes : largest;
    }
    return largest;
}

static pol_status make_rope_table(pol_forward *f)
{
    pol_model *m = f->m;
    const int64_t n = f->max_seq_len * m->config.head_dim;
    float *table = pol_alloc_array(m->ctx, n, sizeof *table);
    if (!table)
        return POL_ENOMEM;
    pol_rope_table(&m->config, f->max_seq_len, table);
    const pol_status s = pol_upload(m->be, f->cos_sin, 0, table, n);
    pol_free(m->ctx, table);
    return s;
}

static pol_status make_buffers(pol_forward *f)
{
    pol_model *m = f->m;
    planned plan[BUFFERS];
    const size_t n = plan_buffers(&m->config, m->be, &m->placement, f, plan);
    for (size_t i = 0; i < n; i++)
        if (plan[i].n)
            POL_TRY(pol_buf_new(m->be, plan[i].dtype, plan[i].n, plan[i].buf));
    f->x = f->cell[0].x;
    return POL_OK;
}

static pol_status make_cells(pol_forward *f)
{
    pol_model *m = f->m;
    for (int64_t i = 0; m->visits && i < f->max_pending; i++) {
        pol_cell *cell = &f->cell[i];
        cell->order = pol_alloc_array(m->ctx, m->arrangement->size, sizeof *cell->order);
        cell->kept = pol_alloc_array(m->ctx, 2 * (int64_t)m->config.n_layers, sizeof *cell->kept);
        if (!cell->order || !cell->kept)
            return POL_ENOMEM;
    }
    return POL_OK;
}

static pol_status make_host_arrays(pol_forward *f)
{
    pol_model *m = f->m;
    const int64_t room = pol_forward_room(f);
    f->target_host = pol_alloc_array(m->ctx, room, sizeof *f->target_host);
    f->nll_host = pol_alloc_array(m->ctx, pol_mul_count(f->max_pending, room), sizeof *f->nll_host);
    f->stats_host = pol_alloc_array(m->ctx, 2 * mid_width(m->be, &m->config), sizeof *f->stats_host);
    f->key = pol_alloc_array(m->ctx, POL_KEY_HEAD + POL_KEY_LAYER * (int64_t)m->config.n_layers, sizeof *f->key);
    return f->target_host && f->nll_host && f->stats_host && f->key ? POL_OK : POL_ENOMEM;
}

static int64_t max_pending(const pol_placement *p) { return p && p->streamed ? p->cells : POL_MAX_CELLS; }

uint64_t pol_forward_host_bytes(const pol_config *c, const pol_backend *be, const pol_placement *p,
                                const pol_forward_size *size)
{
    const pol_forward sizes = sized(size);
    const uint64_t logits = (uint64_t)sizes.max_tokens * (uint64_t)top_columns(be, c, sizes.max_targets);
    uint64_t bytes = ((uint64_t)(max_pending(p) + 1) * (uint64_t)pol_forward_room(&sizes) + logits) * sizeof(float);
    for (int32_t l = 0; p && p->streamed && l < c->n_layers; l++)
        bytes += (uint64_t)p->cells * (uint64_t)(c->layers[l].n_groups + c->layers[l].ffn) * sizeof(int32_t);
    return bytes;
}

pol_status pol_forward_new(pol_model *m, int64_t max_tokens, int64_t max_seq_len, pol_forward **out)
{
    return pol_forward_new_sized(m, &(pol_forward_size){max_tokens, max_seq_len, 1}, out);
}

static pol_status check_size(pol_context *ctx, const pol_forward_size *size)
{
    if (size->max_seq_len < 2 || size->max_tokens < size->max_seq_len)
        return pol_fail(ctx, POL_EARG,
                        "forward pass of %lld tokens in sequences of %lld: a sequence has at least 2 tokens",
                        (long long)size->max_tokens, (long long)size->max_seq_len);
    if (size->max_targets > POL_MAX_TARGETS)
        return pol_fail(ctx, POL_EARG, "forward pass of %lld targets a position: at most %d",
                        (long long)size->max_targets, POL_MAX_TARGETS);
    return POL_OK;
}

pol_status pol_forward_new_sized(pol_model *m, const pol_forward_size *size, pol_forward **out)
{
    *out = NULL;
    POL_TRY(check_size(m->ctx, size));
    pol_forward *f = pol_alloc_zero(m->ctx, sizeof *f);
    if (!f)
        return POL_ENOMEM;
    *f = sized(size);
    f->m = m;
    f->max_pending = max_pending(&m->placement);
    pol_status s = make_buffers(f);
    if (s == POL_OK)
        s = make_cells(f);
    if (s == POL_OK)
        s = make_host_arrays(f);
    if (s == POL_OK)
        s = make_rope_table(f);
    if (s < 0) {
        pol_forward_free(f);
        return s;
    }
    *out = f;
    return POL_OK;
}

/* What is still on its way to the host arrives before its memory goes; a failure that is being cleaned up after keeps
 * its sentence. */
static void wait_for_flights(pol_forward *f)
{
    if (!f->in_flight)
        return;
    pol_mute(f->m->ctx, true);
    (void)pol_sync(f->m->be);
    pol_mute(f->m->ctx, false);
}

void pol_forward_free(pol_forward *f)
{
    if (!f)
        return;
    wait_for_flights(f);
    pol_model *m = f->m;
    /* As planned; a lost device plans nothing. */
    pol_buf *const shared[] = {f->y, f->wide, f->mid, f->cos_sin, f->scratch, f->ids, f->target, f->nll, f->stats};
    _Static_assert(POL_COUNT(shared) == SHARED, "every buffer is freed");
    for (size_t i = 0; i < POL_COUNT(shared); i++)
        pol_buf_free(m->be, shared[i]);
    for (size_t i = 0; i < POL_COUNT(f->cell); i++) {
        pol_buf_free(m->be, f->cell[i].x);
        pol_free(m->ctx, f->cell[i].order);
        pol_free(m->ctx, f->cell[i].kept);
    }
    pol_free(m->ctx, f->target_host);
    pol_free(m->ctx, f->nll_host);
    pol_free(m->ctx, f->stats_host);
    pol_free(m->ctx, f->key);
    pol_free(m->ctx, f);
}

int64_t pol_forward_max_tokens(const pol_forward *f) { return f->max_tokens; }
int64_t pol_forward_max_targets(const pol_forward *f) { return f->max_targets; }
pol_model *pol_forward_model(const pol_forward *f) { return f->m; }
