/* gram.c - second moments of activations: made, reset, added to, read. */
#include "core/gram.h"

#include <string.h>

/* Elements of a sum on the host at a time. */
enum { PIECE = 1 << 20 };

/* One buffer to be. */
typedef struct planned {
    pol_buf **buf;
    int64_t n;
} planned;
enum { BUFFERS = 4 };

static void plan(pol_backend *be, int64_t max_tokens, int64_t max_n, int64_t m, pol_gram_sums *g, planned out[BUFFERS])
{
    const int64_t n = pol_padded(be, max_n);
    const planned all[BUFFERS] = {
        {&g->a, pol_mul_count(2, pol_mul_count(n, n))},
        {&g->b, pol_mul_count(2, pol_mul_count(n, m))},
        {&g->target, pol_mul_count(max_tokens, m)},
        {&g->scratch, pol_gram_scratch(be, max_tokens, n, m)},
    };
    memcpy(out, all, sizeof all);
}

pol_status pol_gram_new(pol_backend *be, int64_t max_tokens, int64_t max_n, int64_t m, pol_gram_sums *out)
{
    planned all[BUFFERS];
    *out = (pol_gram_sums){.be = be, .max_tokens = max_tokens, .max_n = pol_padded(be, max_n), .m = m};
    plan(be, max_tokens, max_n, m, out, all);
    pol_status s = POL_OK;
    for (int i = 0; s == POL_OK && i < BUFFERS; i++)
        if (all[i].n)
            s = pol_buf_new(be, POL_F32, all[i].n, all[i].buf);
    if (s < 0)
        pol_gram_free(out);
    return s;
}

void pol_gram_free(pol_gram_sums *g)
{
    if (!g->be)
        return;
    pol_buf *const all[BUFFERS] = {g->a, g->b, g->target, g->scratch};
    for (int i = 0; i < BUFFERS; i++)
        pol_buf_free(g->be, all[i]);
    memset(g, 0, sizeof *g);
}

uint64_t pol_gram_bytes(pol_backend *be, int64_t max_tokens, int64_t max_n, int64_t m)
{
    pol_gram_sums none = {0};
    planned all[BUFFERS];
    uint64_t bytes = 0;
    plan(be, max_tokens, max_n, m, &none, all);
    for (int i = 0; i < BUFFERS; i++)
        if (all[i].n && !pol_add_u64(bytes, pol_buf_bytes(be, POL_F32, all[i].n), &bytes))
            return UINT64_MAX;
    return bytes;
}

uint64_t pol_gram_largest_buffer(pol_backend *be, int64_t max_tokens, int64_t max_n, int64_t m)
{
    pol_gram_sums none = {0};
    planned all[BUFFERS];
    uint64_t largest = 0, bytes;
    plan(be, max_tokens, max_n, m, &none, all);
    for (int i = 0; i < BUFFERS; i++) {
        if (!pol_mul_u64((uint64_t)all[i].n, sizeof(float), &bytes))
            return UINT64_MAX;
        largest = bytes > largest ? bytes : largest;
    }
    return largest;
}

static pol_status clear(pol_gram_sums *g, pol_buf *b, int64_t n)
{
    const int64_t step = pol_min_i64(n, PIECE);
    float *zeros = pol_alloc_zero(g->be->ctx, (size_t)step * sizeof *zeros);
    pol_status s = zeros ? POL_OK : POL_ENOMEM;
    for (int64_t at = 0; s == POL_OK && at < n; at += step)
        s = pol_upload(g->be, b, at, zeros, pol_min_i64(step, n - at));
    pol_free(g->be->ctx, zeros);
    return s;
}

pol_status pol_gram_reset(pol_gram_sums *g, int64_t n, bool cross)
{
    if (n < 1 || n > g->max_n || (cross && !g->m))
        return pol_fail(g->be->ctx, POL_EARG, "gram: sums over %lld columns%s, made for %lld and %lld of a target",
                        (long long)n, cross ? " and a target" : "", (long long)g->max_n, (long long)g->m);
    g->n = n;
    g->cross = cross;
    g->tokens = 0;
    POL_TRY(clear(g, g->a, 2 * n * n));
    return cross ? clear(g, g->b, 2 * n * g->m) : POL_OK;
}

pol_status pol_gram_add(pol_gram_sums *g, pol_view x, int64_t T, int64_t n)
{
    if (n != g->n || T > g->max_tokens)
        return pol_fail(g->be->ctx, POL_EARG,
                        "gram: %lld rows of %lld columns, but the sums are for %lld columns, %lld rows at a time",
                        (long long)T, (long long)n, (long long)g->n, (long long)g->max_tokens);
    POL_TRY(pol_gram(g->be, &(pol_gram_args){.a = {g->a, 0},
                                             .b = {g->cross ? g->b : NULL, 0},
                                             .x = x,
                                             .y = {g->cross ? g->target : NULL, 0},
                                             .scratch = {g->scratch, 0},
                                             .T = T,
                                             .N = n,
                                             .M = g->cross ? g->m : 0}));
    g->tokens += T;
    return POL_OK;
}

/* Rows [0, n) of a pair of matrices [N, cols], of each the first `used` columns: their sum. */
static pol_status read_pair(pol_gram_sums *g, const pol_buf *pair, int64_t n, int64_t cols, int64_t used, double *out)
{
    const int64_t step = pol_min_i64(n, pol_max_i64(1, PIECE / cols));
    float *high = pol_alloc_array(g->be->ctx, 2 * step, (size_t)cols * sizeof *high);
    float *low = high ? high + step * cols : NULL;
    pol_status s = high ? POL_OK : POL_ENOMEM;
    for (int64_t r = 0; s == POL_OK && r < n; r += step) {
        const int64_t rows = pol_min_i64(step, n - r);
        s = pol_download(g->be, pair, r * cols, high, rows * cols);
        if (s == POL_OK)
            s = pol_download(g->be, pair, (g->n + r) * cols, low, rows * cols);
        for (int64_t i = 0; s == POL_OK && i < rows; i++)
            for (int64_t j = 0; j < used; j++)
                out[(r + i) * used + j] = (double)high[i * cols + j] + (double)low[i * cols + j];
    }
    pol_free(g->be->ctx, high);
    return s;
}

pol_status pol_gram_read(pol_gram_sums *g, int64_t n, double *h, double *b)
{
    if (n < 1 || n > g->n || (b && !g->cross))
        return pol_fail(g->be->ctx, POL_EARG, "gram: %lld columns%s are wanted, %lld were summed", (long long)n,
                        b ? " and a target" : "", (long long)g->n);
    POL_TRY(read_pair(g, g->a, n, g->n, n, h));
    for (int64_t i = 0; i < n; i++) /* the upper triangle holds nothing of use */
        for (int64_t j = i + 1; j < n; j++)
            h[i * n + j] = h[j * n + i];
    return b ? read_pair(g, g->b, n, g->m, g->m, b) : POL_OK;
}
