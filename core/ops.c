/* ops.c - the front doors: every call to a backend is checked here against its contract, then dispatched.
 *
 * A backend may rely on what has been checked: sizes in range, every operand inside its buffer and of the right type,
 * nothing written that is also read. The checks cost nanoseconds; an op costs microseconds at least.
 */
#include "core/ops_check.h"

/* One tensor of a call: `n` elements from v.at. */
typedef struct operand {
    const char *name;
    pol_view v;
    pol_dtype dtype;
    int64_t n;
    int64_t row; /* elements that lie together, even where a backend holds the rest elsewhere; 0: all do */
} operand;

static operand tensor(const char *name, pol_view v, pol_dtype dtype, int64_t n)
{
    return (operand){.name = name, .v = v, .dtype = dtype, .n = n};
}

/* Weights: rows that a buffer may hold in pieces. */
static operand matrix(const char *name, pol_view v, pol_dtype dtype, int64_t rows, int64_t row)
{
    return (operand){.name = name, .v = v, .dtype = dtype, .n = pol_mul_count(rows, row), .row = row};
}

/* An operand in a buffer of several rows, which a backend may hold in pieces of whole rows. */
static pol_status check_rows(pol_backend *be, const char *op, const operand *o)
{
    const int64_t row = o->v.buf->row;
    if (!o->row)
        return pol_fail(be->ctx, POL_ESHAPE, "%s: %s: in a buffer of several rows, which only weights may be", op,
                        o->name);
    if (row % o->row != 0)
        return pol_fail(be->ctx, POL_ESHAPE, "%s: %s: %lld elements do not divide a row of %lld", op, o->name,
                        (long long)o->row, (long long)row);
    if (o->v.at % row != 0)
        return pol_fail(be->ctx, POL_ESHAPE, "%s: %s: element %lld is not the first of a row of %lld", op, o->name,
                        (long long)o->v.at, (long long)row);
    return POL_OK;
}

static pol_status check_operand(pol_backend *be, const char *op, const operand *o)
{
    if (!o->v.buf && !o->n)
        return POL_OK; /* the scratch of an op that needs none */
    if (!o->v.buf)
        return pol_fail(be->ctx, POL_EARG, "%s: %s: no buffer was given", op, o->name);
    if (o->v.buf->dtype != o->dtype)
        return pol_fail(be->ctx, POL_ESHAPE, "%s: %s: element type %s, but the op takes %s", op, o->name,
                        pol_dtype_name(o->v.buf->dtype), pol_dtype_name(o->dtype));
    if (o->v.at < 0 || o->v.at > o->v.buf->n || o->n > o->v.buf->n - o->v.at)
        return pol_fail(be->ctx, POL_ESHAPE, "%s: %s: %lld elements from %lld do not fit a buffer of %lld", op, o->name,
                        (long long)o->n, (long long)o->v.at, (long long)o->v.buf->n);
    return o->v.buf->row < o->v.buf->n ? check_rows(be, op, o) : POL_OK;
}

static bool overlap(const operand *a, const operand *b)
{
    return a->v.buf == b->v.buf && a->v.at < b->v.at + b->n && b->v.at < a->v.at + a->n;
}

/* The first `n_written` operands are what the op writes. */
static pol_status check_operands(pol_backend *be, const char *op, size_t n_written, const operand *o, size_t n)
{
    for (size_t i = 0; i < n; i++)
        POL_TRY(check_operand(be, op, &o[i]));
    for (size_t i = 0; i < n_written; i++)
        for (size_t j = i + 1; j < n; j++)
            if (overlap(&o[i], &o[j]))
                return pol_fail(be->ctx, POL_EARG, "%s: %s overlaps %s", op, o[i].name, o[j].name);
    return POL_OK;
}

#define CHECK_OPERANDS(be, op, n_written, ...)                                \
    POL_TRY(check_operands(be, op, n_written, (const operand[]){__VA_ARGS__}, \
                           sizeof((const operand[]){__VA_ARGS__}) / sizeof(operand)))

static pol_status check_bias(pol_backend *be, const char *op, pol_view bias, int64_t n, const operand *written,
                             size_t n_written)
{
    const operand read = tensor("bias", bias, POL_F32, n);
    if (!bias.buf)
        return POL_OK;
    POL_TRY(check_operand(be, op, &read));
    for (size_t i = 0; i < n_written; i++)
        if (overlap(&written[i], &read))
            return pol_fail(be->ctx, POL_EARG, "%s: %s overlaps bias", op, written[i].name);
    return POL_OK;
}

static pol_status check_sequences(pol_backend *be, const char *op, int64_t T, int64_t S)
{
    if (T % S != 0)
        return pol_fail(be->ctx, POL_ESHAPE, "%s: T: %lld tokens are not whole sequences of %lld", op, (long long)T,
                        (long long)S);
    return POL_OK;
}

pol_status pol_ops_check(pol_context *ctx, const char *name, const pol_ops *ops)
{
    if (ops->abi != POL_OPS_ABI || ops->size != sizeof *ops)
        return pol_fail(ctx, POL_EARG,
                        "backend %s: its table is version %u of %u bytes, this library's is version %d of %zu", name,
                        ops->abi, ops->size, POL_OPS_ABI, sizeof *ops);
    const struct {
        const char *name;
        bool present;
    } entries[] = {
#define ENTRY(e) {#e, ops->e != NULL}
        ENTRY(buf_new),
        ENTRY(buf_free),
        ENTRY(upload),
        ENTRY(download),
        ENTRY(download_later),
        ENTRY(sync),
        ENTRY(close),
        ENTRY(gemm_scratch),
        ENTRY(attention_scratch),
        ENTRY(nll_scratch),
        ENTRY(gram_scratch),
        ENTRY(embed),
        ENTRY(rmsnorm),
        ENTRY(project),
        ENTRY(project_add),
        ENTRY(rope),
        ENTRY(attention),
        ENTRY(swiglu),
        ENTRY(nll),
        ENTRY(swap_units),
        ENTRY(activation_stats),
        ENTRY(gram),
#undef ENTRY
        /* Of optional ones, all of those that belong together or none. */
        {"solve_spd", !ops->obs_sweep || ops->solve_spd},
        {"obs_sweep", !ops->solve_spd || ops->obs_sweep},
        {"pass_begin", !ops->pass_end || ops->pass_begin},
        {"pass_end", !ops->pass_begin || ops->pass_end},
        {"host_new", !ops->stream_in || ops->host_new},
        {"host_free", !ops->stream_in || ops->host_free},
        {"stream_wait", !ops->stream_in || ops->stream_wait},
    };
    for (size_t i = 0; i < POL_COUNT(entries); i++)
        if (!entries[i].present)
            return pol_fail(ctx, POL_EARG, "backend %s: its table lacks %s", name, entries[i].name);
    return POL_OK;
}

pol_status pol_embed(pol_backend *be, const pol_embed_args *a)
{
    CHECK_DIMENSIONS(be, "embed", {"T", a->T, 1}, {"C", a->C, 1}, {"V", a->V, 1});
    CHECK_OPERANDS(be, "embed", 1, tensor("x", a->x, POL_F32, pol_mul_count(a->T, a->C)),
                   matrix("table", a->table, be->weight_dtype, a->V, a->C), tensor("ids", a->ids, POL_I32, a->T));
    return be->ops->embed(be, a);
}

pol_status pol_rmsnorm(pol_backend *be, const pol_rmsnorm_args *a)
{
    const int64_t n = pol_mul_count(a->T, a->C);
    CHECK_DIMENSIONS(be, "rmsnorm", {"T", a->T, 1}, {"C", a->C, 1});
    if (!(a->eps >= 0))
        return pol_fail(be->ctx, POL_EARG, "rmsnorm: eps: %g is not a number of at least 0", (double)a->eps);
    CHECK_OPERANDS(be, "rmsnorm", 1, tensor("y", a->y, be->act_dtype, n), tensor("x", a->x, POL_F32, n),
                   tensor("gain", a->gain, POL_F32, a->C));
    return be->ops->rmsnorm(be, a);
}

pol_status pol_project(pol_backend *be, const pol_project_args *a)
{
    CHECK_DIMENSIONS(be, "project", {"T", a->T, 1}, {"N", a->N, 0}, {"C", a->C, 1});
    if (a->N == 0)
        return POL_OK;
    const operand written[] = {
        tensor("y", a->y, be->act_dtype, pol_mul_count(a->T, a->N)),
        tensor("scratch", a->scratch, POL_F32, pol_gemm_scratch(be, a->T, a->N, a->C)),
    };
    CHECK_OPERANDS(be, "project", 2, written[0], written[1],
                   tensor("x", a->x, be->act_dtype, pol_mul_count(a->T, a->C)),
                   matrix("w", a->w, be->weight_dtype, a->N, a->C));
    POL_TRY(check_bias(be, "project", a->bias, a->N, written, POL_COUNT(written)));
    return be->ops->project(be, a);
}

/* Without a form of the backend's own: project into gu, then swiglu. */
static pol_status project_then_swiglu(pol_backend *be, const pol_project_swiglu_args *a)
{
    POL_TRY(be->ops->project(be, &(pol_project_args){.y = a->gu,
                                                     .x = a->x,
                                                     .w = a->w,
                                                     .bias = a->bias,
                                                     .scratch = a->scratch,
                                                     .T = a->T,
                                                     .N = 2 * a->padded,
                                                     .C = a->C}));
    return be->ops->swiglu(be,
                           &(pol_swiglu_args){.h = a->h, .gu = a->gu, .T = a->T, .kept = a->kept, .padded = a->padded});
}

pol_status pol_project_swiglu(pol_backend *be, const pol_project_swiglu_args *a)
{
    CHECK_DIMENSIONS(be, "project_swiglu", {"T", a->T, 1}, {"kept", a->kept, 0}, {"padded", a->padded, a->kept},
                     {"C", a->C, 1});
    if (a->padded == 0)
        return POL_OK;
    const int64_t n = pol_mul_count(a->T, a->padded), N = pol_mul_count(2, a->padded);
    const operand written[] = {
        tensor("h", a->h, be->act_dtype, n),
        tensor("gu", a->gu, be->act_dtype, pol_mul_count(n, 2)),
        tensor("scratch", a->scratch, POL_F32, pol_gemm_scratch(be, a->T, N, a->C)),
    };
    CHECK_OPERANDS(be, "project_swiglu", 3, written[0], written[1], written[2],
                   tensor("x", a->x, be->act_dtype, pol_mul_count(a->T, a->C)),
                   matrix("w", a->w, be->weight_dtype, a->padded, pol_mul_count(2, a->C)));
    POL_TRY(check_bias(be, "project_swiglu", a->bias, N, written, POL_COUNT(written)));
    return be->ops->project_swiglu ? be->ops->project_swiglu(be, a) : project_then_swiglu(be, a);
}

pol_status pol_project_add(pol_backend *be, const pol_project_add_args *a)
{
    CHECK_DIMENSIONS(be, "project_add", {"T", a->T, 1}, {"N", a->N, 0}, {"C", a->C, 1});
    if (a->N == 0 && !a->bias.buf)
        return POL_OK;
    const operand written[] = {
        tensor("x", a->x, POL_F32, pol_mul_count(a->T, a->C)),
        tensor("scratch", a->scratch, POL_F32, a->N ? pol_gemm_scratch(be, a->T, a->N, a->C) : 0),
    };
    if (a->N > 0)
        CHECK_OPERANDS(be, "project_add", 2, written[0], written[1],
                       tensor("h", a->h, be->act_dtype, pol_mul_count(a->T, a->N)),
                       matrix("w", a->w, be->weight_dtype, a->N, a->C));
    POL_TRY(check_bias(be, "project_add", a->bias, a->C, written, POL_COUNT(written)));
    return be->ops->project_add(be, a);
}

/* Elements of T fused rows, [T, G, (g + 2) * D]. */
static int64_t qkv_elements(int64_t T, int64_t G, int64_t g, int64_t D)
{
    return pol_mul_count(pol_mul_count(T, G), pol_mul_count(g < INT64_MAX - 2 ? g + 2 : g, D));
}

pol_status pol_rope(pol_backend *be, const pol_rope_args *a)
{
    CHECK_DIMENSIONS(be, "rope", {"T", a->T, 1}, {"S", a->S, 1}, {"G", a->G, 0}, {"g", a->g, 1}, {"D", a->D, 2});
    if (a->D % 2 != 0)
        return pol_fail(be->ctx, POL_ESHAPE, "rope: D: a head of %lld is not made of pairs", (long long)a->D);
    POL_TRY(check_sequences(be, "rope", a->T, a->S));
    if (a->G == 0)
        return POL_OK;
    CHECK_OPERANDS(be, "rope", 1, tensor("qkv", a->qkv, be->act_dtype, qkv_elements(a->T, a->G, a->g, a->D)),
                   tensor("cos_sin", a->cos_sin, POL_F32, pol_mul_count(a->S, a->D)));
    return be->ops->rope(be, a);
}

pol_status pol_attention(pol_backend *be, const pol_attention_args *a)
{
    CHECK_DIMENSIONS(be, "attention", {"T", a->T, 1}, {"S", a->S, 1}, {"G", a->G, 0}, {"g", a->g, 1}, {"D", a->D, 1},
                     {"window", a->window, 0});
    POL_TRY(check_sequences(be, "attention", a->T, a->S));
    if (a->G == 0)
        return POL_OK;
    const int64_t out = pol_mul_count(pol_mul_count(a->T, a->G), pol_mul_count(a->g, a->D));
    CHECK_OPERANDS(be, "attention", 2, tensor("out", a->out, be->act_dtype, out),
                   tensor("scratch", a->scratch, POL_F32, pol_attention_scratch(be, a->T, a->S, a->G, a->g, a->D)),
                   tensor("qkv", a->qkv, be->act_dtype, qkv_elements(a->T, a->G, a->g, a->D)));
    return be->ops->attention(be, a);
}

pol_status pol_swiglu(pol_backend *be, const pol_swiglu_args *a)
{
    CHECK_DIMENSIONS(be, "swiglu", {"T", a->T, 1}, {"kept", a->kept, 0}, {"padded", a->padded, a->kept});
    if (a->padded == 0)
        return POL_OK;
    const int64_t n = pol_mul_count(a->T, a->padded);
    CHECK_OPERANDS(be, "swiglu", 1, tensor("h", a->h, be->act_dtype, n),
                   tensor("gu", a->gu, be->act_dtype, pol_mul_count(n, 2)));
    return be->ops->swiglu(be, a);
}

pol_status pol_nll(pol_backend *be, const pol_nll_args *a)
{
    CHECK_DIMENSIONS(be, "nll", {"T", a->T, 1}, {"k", a->k, 1}, {"C", a->C, 1}, {"V", a->V, 1}, {"slice", a->slice, 1});
    if (a->k > POL_MAX_TARGETS)
        return pol_fail(be->ctx, POL_EARG, "nll: k: %lld targets a token are above %d", (long long)a->k,
                        POL_MAX_TARGETS);
    const int64_t n = pol_mul_count(a->T, a->k);
    CHECK_OPERANDS(be, "nll", 2, tensor("nll", a->nll, POL_F32, n),
                   tensor("scratch", a->scratch, POL_F32, pol_nll_scratch(be, a->T, a->C, a->slice)),
                   tensor("x", a->x, be->act_dtype, pol_mul_count(a->T, a->C)),
                   matrix("w", a->w, be->weight_dtype, a->V, a->C), tensor("target", a->target, POL_I32, n));
    return be->ops->nll(be, a);
}

/* A unit named twice would be moved by two threads at once. */
static pol_status check_pairs(pol_backend *be, const pol_swap_args *a)
{
    if (!a->a || !a->b)
        return pol_fail(be->ctx, POL_EARG, "swap_units: %s: no indices were given", a->a ? "b" : "a");
    bool *seen = pol_alloc_zero(be->ctx, (size_t)a->n_units * sizeof *seen);
    if (!seen)
        return POL_ENOMEM;
    pol_status s = POL_OK;
    for (int64_t i = 0; i < 2 * a->n_pairs && s == POL_OK; i++) {
        const int32_t unit = i % 2 ? a->b[i / 2] : a->a[i / 2];
        if (unit < 0 || unit >= a->n_units)
            s = pol_fail(be->ctx, POL_EARG, "swap_units: pair %lld: unit %d is not one of %lld", (long long)(i / 2),
                         unit, (long long)a->n_units);
        else if (seen[unit])
            s = pol_fail(be->ctx, POL_EARG, "swap_units: pair %lld: unit %d is named twice", (long long)(i / 2), unit);
        else
            seen[unit] = true;
    }
    pol_free(be->ctx, seen);
    return s;
}

static pol_status check_swap(pol_backend *be, const pol_swap_args *a)
{
    CHECK_DIMENSIONS(be, "swap_units", {"unit", a->unit, 1}, {"n_units", a->n_units, 0}, {"n_pairs", a->n_pairs, 0});
    if (a->n_pairs == 0)
        return POL_OK;
    if (a->n_pairs > a->n_units / 2)
        return pol_fail(be->ctx, POL_EARG, "swap_units: n_pairs: %lld pairs of %lld units", (long long)a->n_pairs,
                        (long long)a->n_units);
    if (!a->w.buf)
        return pol_fail(be->ctx, POL_EARG, "swap_units: w: no buffer was given");
    CHECK_OPERANDS(be, "swap_units", 1, matrix("w", a->w, a->w.buf->dtype, a->n_units, a->unit));
    return check_pairs(be, a);
}

pol_status pol_swap_units(pol_backend *be, const pol_swap_args *a, int64_t n)
{
    int64_t pairs = 0;
    for (int64_t i = 0; i < n; i++) {
        POL_TRY(check_swap(be, &a[i]));
        pairs += a[i].n_pairs;
    }
    return pairs ? be->ops->swap_units(be, a, n) : POL_OK;
}

pol_status pol_activation_stats(pol_backend *be, const pol_activation_stats_args *a)
{
    CHECK_DIMENSIONS(be, "activation_stats", {"T", a->T, 1}, {"N", a->N, 0});
    if (a->N == 0)
        return POL_OK;
    CHECK_OPERANDS(be, "activation_stats", 2, tensor("sum", a->sum, POL_F32, a->N),
                   tensor("sumsq", a->sumsq, POL_F32, a->N),
                   tensor("x", a->x, be->act_dtype, pol_mul_count(a->T, a->N)));
    return be->ops->activation_stats(be, a);
}

pol_status pol_gram(pol_backend *be, const pol_gram_args *a)
{
    CHECK_DIMENSIONS(be, "gram", {"T", a->T, 1}, {"N", a->N, 0}, {"M", a->M, 0});
    if (!a->b.buf != !a->y.buf || !a->y.buf != !a->M)
        return pol_fail(be->ctx, POL_EARG, "gram: b, y, M: %s, %s, %lld: all of a cross product or none",
                        a->b.buf ? "given" : "none", a->y.buf ? "given" : "none", (long long)a->M);
    if (a->N == 0)
        return POL_OK;
    const int64_t pairs = pol_mul_count(2, a->N);
    CHECK_OPERANDS(be, "gram", 3, tensor("a", a->a, POL_F32, pol_mul_count(pairs, a->N)),
                   tensor("b", a->b, POL_F32, pol_mul_count(pairs, a->M)),
                   tensor("scratch", a->scratch, POL_F32, pol_gram_scratch(be, a->T, a->N, a->M)),
                   tensor("x", a->x, be->act_dtype, pol_mul_count(a->T, a->N)),
                   tensor("y", a->y, POL_F32, pol_mul_count(a->T, a->M)));
    return be->ops->gram(be, a);
}

int64_t pol_gemm_scratch(pol_backend *be, int64_t T, int64_t N, int64_t C)
{
    return be->ops->gemm_scratch(be, T, N, C);
}

int64_t pol_attention_scratch(pol_backend *be, int64_t T, int64_t S, int64_t G, int64_t g, int64_t D)
{
    return be->ops->attention_scratch(be, T, S, G, g, D);
}

int64_t pol_nll_scratch(pol_backend *be, int64_t T, int64_t C, int64_t slice)
{
    return be->ops->nll_scratch(be, T, C, slice);
}

int64_t pol_gram_scratch(pol_backend *be, int64_t T, int64_t N, int64_t M)
{
    return be->ops->gram_scratch(be, T, N, M);
}
