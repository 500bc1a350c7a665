/* test_refusals.c - calls outside the contract, each with its exact code; and opening devices. The front doors are the
 * same for every backend: here they stand before the CPU. */
#include <math.h>
#include <omp.h>

#include "backends/drivers.h"
#include "tests/ops/refused.h"
#include "tests/ops/rig.h"

static pol_context *ctx;
static pol_backend *be;

static int setup(void **state)
{
    (void)state;
    const pol_backend_options cpu = {.name = "cpu"};
    return pol_context_new(NULL, &ctx) == POL_OK && pol_backend_open(ctx, &cpu, &be) == POL_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(be->bytes_in_use, 0);
    pol_backend_close(be);
    pol_context_free(ctx);
    return 0;
}

static void test_embed(void **state)
{
    (void)state;
    rig r = rig_open(be);
    pol_embed_args a = {.x = rig_zero(&r, POL_F32, 6),
                        .table = rig_zero(&r, POL_F32, 12),
                        .ids = rig_ids(&r, 2, 0, 3),
                        .T = 2,
                        .C = 3,
                        .V = 4};
    assert_ok(ctx, pol_embed(be, &a));
    REFUSED(pol_embed, a, T = 0, POL_EARG, "embed: T: 0 is below 1");
    REFUSED(pol_embed, a, C = -1, POL_EARG, "embed: C: -1");
    REFUSED(pol_embed, a, V = 10, POL_ESHAPE, "embed: table: 30 elements from 5");
    REFUSED(pol_embed, a, ids = a.table, POL_ESHAPE, "embed: ids: element type f32, but the op takes i32");
    REFUSED(pol_embed, a, x.buf = NULL, POL_EARG, "embed: x: no buffer");
    REFUSED(pol_embed, a, x.at = -1, POL_ESHAPE, "embed: x");
    REFUSED(pol_embed, a, x = a.table, POL_EARG, "embed: x overlaps table");
    REFUSED(pol_embed, a, T = INT64_MAX, POL_ESHAPE, "embed: x"); /* T * C does not fit */
    /* Where a buffer has rows, an operand begins with one: the backend may hold them in pieces. */
    pol_buf *rows;
    assert_ok(ctx, pol_buf_new_rows(be, POL_F32, 6, 3, &rows));
    a.table = (pol_view){rows, 3};
    assert_ok(ctx, pol_embed(be, &a));
    REFUSED(pol_embed, a, table.at = 4, POL_ESHAPE, "embed: table: element 4 is not the first of a row of 3");
    REFUSED(pol_embed, a, C = 2, POL_ESHAPE, "embed: table: 2 elements do not divide a row of 3");
    REFUSED(pol_embed, a, x = ((pol_view){rows, 0}), POL_ESHAPE, "embed: x: in a buffer of several rows");
    pol_buf_free(be, rows);
    rig_close(&r);
}

static void test_rmsnorm(void **state)
{
    (void)state;
    rig r = rig_open(be);
    pol_rmsnorm_args a = {
        .y = rig_zero(&r, POL_F32, 6), .x = rig_zero(&r, POL_F32, 6), .gain = rig_zero(&r, POL_F32, 3), .T = 2, .C = 3};
    assert_ok(ctx, pol_rmsnorm(be, &a));
    REFUSED(pol_rmsnorm, a, eps = -1e-5f, POL_EARG, "rmsnorm: eps");
    REFUSED(pol_rmsnorm, a, eps = NAN, POL_EARG, "rmsnorm: eps");
    REFUSED(pol_rmsnorm, a, T = 9, POL_ESHAPE, "rmsnorm: y");
    REFUSED(pol_rmsnorm, a, C = 0, POL_EARG, "rmsnorm: C");
    REFUSED(pol_rmsnorm, a, gain = a.y, POL_EARG, "rmsnorm: y overlaps gain");
    pol_rmsnorm_args shifted = a;
    shifted.T = 1;
    shifted.x = (pol_view){a.y.buf, a.y.at + 1};
    assert_fails(ctx, pol_rmsnorm(be, &shifted), POL_EARG, "rmsnorm: y overlaps x");
    REFUSED(pol_rmsnorm, a, y = a.x, POL_EARG, "rmsnorm: y overlaps x");
    rig_close(&r);
}

static void test_project(void **state)
{
    (void)state;
    rig r = rig_open(be);
    pol_project_args a = {.y = rig_zero(&r, POL_F32, 8),
                          .x = rig_zero(&r, POL_F32, 6),
                          .w = rig_zero(&r, POL_F32, 12),
                          .bias = rig_zero(&r, POL_F32, 4),
                          .T = 2,
                          .N = 4,
                          .C = 3};
    assert_ok(ctx, pol_project(be, &a));
    REFUSED(pol_project, a, N = -1, POL_EARG, "project: N: -1 is below 0");
    REFUSED(pol_project, a, N = 6, POL_ESHAPE,
            "project: w: 18 elements from 5 do not fit a buffer of 22"); /* beyond the last unit */
    REFUSED(pol_project, a, bias.at = a.bias.buf->n - 3, POL_ESHAPE, "project: bias");
    REFUSED(pol_project, a, x = a.y, POL_EARG, "project: y overlaps x");
    REFUSED(pol_project, a, bias = a.y, POL_EARG, "project: y overlaps bias");
    assert_ok(ctx,
              pol_project(be, &(pol_project_args){.T = 2, .N = 0, .C = 3})); /* nothing kept: nothing is looked at */

    pol_project_add_args b = {.x = a.x, .h = a.y, .w = a.w, .T = 2, .N = 4, .C = 3};
    assert_ok(ctx, pol_project_add(be, &b));
    REFUSED(pol_project_add, b, N = 99, POL_ESHAPE, "project_add: h");
    REFUSED(pol_project_add, b, h = a.x, POL_EARG, "project_add: x overlaps h");
    REFUSED(pol_project_add, b, bias = a.x, POL_EARG, "project_add: x overlaps bias");
    REFUSED(pol_project_add, b, C = 0, POL_EARG, "project_add: C");
    assert_ok(ctx, pol_project_add(be, &(pol_project_add_args){.T = 2, .N = 0, .C = 3}));
    rig_close(&r);
}

static int64_t gemm_scratch_of_four(pol_backend *any, int64_t T, int64_t N, int64_t C)
{
    (void)any, (void)T, (void)N, (void)C;
    return 4;
}

/* The CPU's products want no scratch; where one is wanted it is written like what comes out. */
static void test_scratch_of_products(void **state)
{
    (void)state;
    const pol_ops *const own = be->ops;
    pol_ops with_scratch = *own;
    with_scratch.gemm_scratch = gemm_scratch_of_four;
    be->ops = &with_scratch;
    rig r = rig_open(be);
    pol_project_args a = {.y = rig_zero(&r, POL_F32, 8),
                          .x = rig_zero(&r, POL_F32, 6),
                          .w = rig_zero(&r, POL_F32, 12),
                          .bias = rig_zero(&r, POL_F32, 4),
                          .scratch = rig_zero(&r, POL_F32, 4),
                          .T = 2,
                          .N = 4,
                          .C = 3};
    assert_ok(ctx, pol_project(be, &a));
    REFUSED(pol_project, a, scratch.buf = NULL, POL_EARG, "project: scratch: no buffer");
    REFUSED(pol_project, a, scratch = a.y, POL_EARG, "project: y overlaps scratch");
    REFUSED(pol_project, a, scratch = a.w, POL_EARG, "project: scratch overlaps w");
    REFUSED(pol_project, a, scratch = a.bias, POL_EARG, "project: scratch overlaps bias");
    pol_project_add_args b = {
        .x = a.x, .h = a.y, .w = a.w, .bias = a.bias, .scratch = a.scratch, .T = 2, .N = 4, .C = 3};
    assert_ok(ctx, pol_project_add(be, &b));
    REFUSED(pol_project_add, b, scratch = a.bias, POL_EARG, "project_add: scratch overlaps bias");
    b.N = 0;
    b.scratch.buf = NULL;
    assert_ok(ctx, pol_project_add(be, &b)); /* the bias alone */
    rig_close(&r);
    be->ops = own;
}

static void test_attention_and_rope(void **state)
{
    (void)state;
    enum { T = 6, S = 3, G = 2, g = 2, D = 4, ROW = G * (g + 2) * D };
    rig r = rig_open(be);
    const pol_view qkv = rig_zero(&r, POL_F32, T * ROW), out = rig_zero(&r, POL_F32, T * G * g * D);
    const int64_t scratch = pol_attention_scratch(be, T, S, G, g, D);
    pol_rope_args a = {.qkv = qkv, .cos_sin = rig_cos_sin(&r, S, D), .T = T, .S = S, .G = G, .g = g, .D = D};
    assert_ok(ctx, pol_rope(be, &a));
    REFUSED(pol_rope, a, S = 4, POL_ESHAPE, "rope: T: 6 tokens are not whole sequences of 4");
    REFUSED(pol_rope, a, S = 0, POL_EARG, "rope: S");
    REFUSED(pol_rope, a, D = 3, POL_ESHAPE, "rope: D: a head of 3 is not made of pairs");
    REFUSED(pol_rope, a, g = 3, POL_ESHAPE, "rope: qkv");
    REFUSED(pol_rope, a, g = INT64_MAX, POL_ESHAPE, "rope: qkv");
    REFUSED(pol_rope, a, S = 6, POL_ESHAPE, "rope: cos_sin");

    pol_attention_args b = {.out = out,
                            .qkv = qkv,
                            .scratch = rig_zero(&r, POL_F32, scratch),
                            .T = T,
                            .S = S,
                            .G = G,
                            .g = g,
                            .D = D,
                            .scale = 1};
    assert_ok(ctx, pol_attention(be, &b));
    REFUSED(pol_attention, b, window = -1, POL_EARG, "attention: window");
    REFUSED(pol_attention, b, G = -1, POL_EARG, "attention: G");
    REFUSED(pol_attention, b, T = 7, POL_ESHAPE, "attention: T: 7 tokens");
    REFUSED(pol_attention, b, out = qkv, POL_EARG, "attention: out overlaps qkv");
    REFUSED(pol_attention, b, scratch = out, scratch < T * G * g * D ? POL_EARG : POL_ESHAPE, "scratch");
    REFUSED(pol_attention, b, scratch.at = b.scratch.buf->n - scratch + 1, POL_ESHAPE, "attention: scratch");
    rig_close(&r);
}

static void test_swiglu_and_nll(void **state)
{
    (void)state;
    rig r = rig_open(be);
    pol_swiglu_args a = {
        .h = rig_zero(&r, POL_F32, 8), .gu = rig_zero(&r, POL_F32, 16), .T = 2, .kept = 3, .padded = 4};
    assert_ok(ctx, pol_swiglu(be, &a));
    REFUSED(pol_swiglu, a, kept = 5, POL_EARG, "swiglu: padded: 4 is below 5");
    REFUSED(pol_swiglu, a, kept = -1, POL_EARG, "swiglu: kept");
    REFUSED(pol_swiglu, a, padded = 7, POL_ESHAPE, "swiglu: h: 14 elements");
    REFUSED(pol_swiglu, a, h = a.gu, POL_EARG, "swiglu: h overlaps gu");

    pol_nll_args b = {.nll = rig_zero(&r, POL_F32, 2),
                      .x = rig_zero(&r, POL_F32, 6),
                      .w = rig_zero(&r, POL_F32, 15),
                      .target = rig_ids(&r, 2, 0, 4),
                      .scratch = rig_zero(&r, POL_F32, 6),
                      .T = 2,
                      .k = 1,
                      .C = 3,
                      .V = 5,
                      .slice = 3};
    assert_ok(ctx, pol_nll(be, &b));
    REFUSED(pol_nll, b, slice = 0, POL_EARG, "nll: slice");
    REFUSED(pol_nll, b, k = 0, POL_EARG, "nll: k: 0 is below 1");
    REFUSED(pol_nll, b, k = 65, POL_EARG, "nll: k: 65 targets a token are above 64");
    REFUSED(pol_nll, b, k = 4, POL_ESHAPE, "nll: nll: 8 elements");
    b.nll = rig_zero(&r, POL_F32, 8);
    REFUSED(pol_nll, b, k = 4, POL_ESHAPE, "nll: target: 8 elements");
    REFUSED(pol_nll, b, slice = 9, POL_ESHAPE, "nll: scratch");
    REFUSED(pol_nll, b, V = 9, POL_ESHAPE, "nll: w");
    REFUSED(pol_nll, b, target = b.nll, POL_ESHAPE, "nll: target: element type");
    REFUSED(pol_nll, b, scratch = b.w, POL_EARG, "nll: scratch overlaps w");
    rig_close(&r);
}

static pol_status swap_one(pol_backend *backend, const pol_swap_args *a) { return pol_swap_units(backend, a, 1); }

static void test_swap_and_stats(void **state)
{
    (void)state;
    const int32_t low[] = {0, 1}, high[] = {3, 2}, twice[] = {3, 3}, outside[] = {3, 4}, negative[] = {-1, 2};
    rig r = rig_open(be);
    pol_swap_args a = {.w = rig_zero(&r, POL_F32, 12), .unit = 3, .n_units = 4, .n_pairs = 2, .a = low, .b = high};
    assert_ok(ctx, swap_one(be, &a));
    REFUSED(swap_one, a, n_units = 6, POL_ESHAPE, "swap_units: w: 18 elements");
    REFUSED(swap_one, a, n_pairs = 3, POL_EARG, "swap_units: n_pairs: 3 pairs of 4 units");
    REFUSED(swap_one, a, unit = 0, POL_EARG, "swap_units: unit");
    REFUSED(swap_one, a, w.buf = NULL, POL_EARG, "swap_units: w");
    REFUSED(swap_one, a, b = NULL, POL_EARG, "swap_units: b: no indices");
    REFUSED(swap_one, a, b = twice, POL_EARG, "swap_units: pair 1: unit 3 is named twice");
    REFUSED(swap_one, a, b = low, POL_EARG, "swap_units: pair 0: unit 0 is named twice");
    REFUSED(swap_one, a, b = outside, POL_EARG, "swap_units: pair 1: unit 4 is not one of 4");
    REFUSED(swap_one, a, a = negative, POL_EARG, "swap_units: pair 0: unit -1 is not one of 4");
    const pol_swap_args two[] = {a, {.w = rig_zero(&r, POL_F32, 12), .unit = 3, .n_units = 4, .n_pairs = 1, .a = low}};
    assert_fails(ctx, pol_swap_units(be, two, 2), POL_EARG, "swap_units: b: no indices"); /* of any of them */
    /* Where a buffer has rows, a unit lies in one: the backend may hold them in pieces. */
    pol_buf *rows;
    pol_swap_args in_rows = a;
    assert_ok(ctx, pol_buf_new_rows(be, POL_F32, 3, 6, &rows));
    in_rows.w = (pol_view){rows, 6};
    assert_ok(ctx, swap_one(be, &in_rows));
    in_rows.n_units = 2;
    in_rows.n_pairs = 1;
    in_rows.b = &low[1];
    REFUSED(swap_one, in_rows, unit = 4, POL_ESHAPE, "swap_units: w: 4 elements do not divide a row of 6");
    pol_buf_free(be, rows);

    pol_activation_stats_args b = {
        .x = a.w, .sum = rig_zero(&r, POL_F32, 4), .sumsq = rig_zero(&r, POL_F32, 4), .T = 3, .N = 4};
    assert_ok(ctx, pol_activation_stats(be, &b));
    REFUSED(pol_activation_stats, b, sum = rig_ids(&r, 4, 0, 1), POL_ESHAPE,
            "activation_stats: sum: element type i32, but the op takes f32");
    REFUSED(pol_activation_stats, b, sum = a.w, POL_EARG, "activation_stats: sum overlaps x");
    REFUSED(pol_activation_stats, b, sumsq = b.sum, POL_EARG, "activation_stats: sum overlaps sumsq");
    REFUSED(pol_activation_stats, b, T = 9, POL_ESHAPE, "activation_stats: x");
    REFUSED(pol_activation_stats, b, N = -1, POL_EARG, "activation_stats: N");
    rig_close(&r);
}

static void test_gram(void **state)
{
    (void)state;
    enum { T = 4, N = 3, M = 4 };
    rig r = rig_open(be);
    pol_gram_args a = {.a = rig_zero(&r, POL_F32, 2 * N * N),
                       .b = rig_zero(&r, POL_F32, 2 * N * M),
                       .x = rig_zero(&r, POL_F32, T * N),
                       .y = rig_zero(&r, POL_F32, T * M),
                       .scratch = rig_zero(&r, POL_F32, pol_gram_scratch(be, T, N, M)),
                       .T = T,
                       .N = N,
                       .M = M};
    assert_ok(ctx, pol_gram(be, &a));
    REFUSED(pol_gram, a, T = 0, POL_EARG, "gram: T: 0 is below 1");
    REFUSED(pol_gram, a, N = -1, POL_EARG, "gram: N");
    REFUSED(pol_gram, a, M = -1, POL_EARG, "gram: M");
    REFUSED(pol_gram, a, M = 0, POL_EARG, "gram: b, y, M: given, given, 0: all of a cross product or none");
    REFUSED(pol_gram, a, b.buf = NULL, POL_EARG, "gram: b, y, M: none, given, 4");
    REFUSED(pol_gram, a, y.buf = NULL, POL_EARG, "gram: b, y, M: given, none, 4");
    REFUSED(pol_gram, a, T = 9, POL_ESHAPE, "gram: x: 27 elements");
    REFUSED(pol_gram, a, x = rig_zero(&r, POL_F32, 6 * N); changed.T = 6, POL_ESHAPE, "gram: y: 24 elements");
    REFUSED(pol_gram, a, M = 6, POL_ESHAPE, "gram: b: 36 elements");
    REFUSED(pol_gram, a, N = INT64_MAX, POL_ESHAPE, "gram: a");
    REFUSED(pol_gram, a, a.at = a.a.buf->n - 17, POL_ESHAPE, "gram: a: 18 elements");
    REFUSED(pol_gram, a, scratch.at = a.scratch.buf->n, POL_ESHAPE, "gram: scratch");
    REFUSED(pol_gram, a, scratch.buf = NULL, POL_EARG, "gram: scratch: no buffer");
    REFUSED(pol_gram, a, a = rig_ids(&r, 18, 0, 1), POL_ESHAPE, "gram: a: element type i32, but the op takes f32");
    REFUSED(pol_gram, a, x = a.a, POL_EARG, "gram: a overlaps x");
    REFUSED(pol_gram, a, y = a.a, POL_EARG, "gram: a overlaps y");
    REFUSED(pol_gram, a, y = a.b, POL_EARG, "gram: b overlaps y");
    REFUSED(pol_gram, a, scratch = a.b, POL_EARG, "gram: b overlaps scratch");
    REFUSED(pol_gram, a, scratch = a.x, POL_EARG, "gram: scratch overlaps x");
    REFUSED(pol_gram, a, scratch = a.y, POL_EARG, "gram: scratch overlaps y");
    pol_gram_args alone = {.a = a.a, .x = a.x, .scratch = a.scratch, .T = T, .N = N};
    assert_ok(ctx, pol_gram(be, &alone));
    assert_ok(ctx, pol_gram(be, &(pol_gram_args){.T = T, .N = 0})); /* nothing kept: nothing is looked at */
    rig_close(&r);
}

static void test_buffers(void **state)
{
    (void)state;
    pol_buf *a, *b;
    const float x[3] = {1.5f, -2, 1e38f};
    float back[4] = {7, 7, 7, 7};
    assert_ok(ctx, pol_buf_new(be, POL_F32, 10, &a));
    assert_int_equal(be->bytes_in_use, 40);
    assert_ok(ctx, pol_buf_new(be, POL_I32, 0, &b));
    assert_int_equal(be->bytes_in_use, 40);
    assert_ok(ctx, pol_upload(be, a, 7, x, 3));
    assert_ok(ctx, pol_download(be, a, 6, back, 4));
    assert_true(back[0] == 0 && back[1] == 1.5 && back[3] == 1e38f); /* new memory is zero */
    assert_fails(ctx, pol_upload(be, a, 8, x, 3), POL_ESHAPE, "upload: 3 elements from 8 do not fit a buffer of 10");
    assert_fails(ctx, pol_upload(be, a, -1, x, 3), POL_ESHAPE, "upload");
    assert_fails(ctx, pol_download(be, a, 0, back, 11), POL_ESHAPE, "download");
    assert_fails(ctx, pol_download(be, NULL, 0, back, 1), POL_ESHAPE, "download");
    assert_fails(ctx, pol_download(be, a, INT64_MAX, back, INT64_MAX), POL_ESHAPE, "download");
    pol_buf_free(be, b);
    pol_buf_free(be, a);
    pol_buf_free(be, NULL);
    assert_int_equal(be->bytes_in_use, 0);
    assert_true(be->bytes_peak >= 40);
    assert_fails(ctx, pol_buf_new(be, POL_F32, -1, &a), POL_EARG, "buffer: 1 x -1 elements");
    assert_fails(ctx, pol_buf_new_rows(be, POL_F32, -1, 4, &a), POL_EARG, "buffer: -1 x 4 elements");
    assert_null(a);
    assert_fails(ctx, pol_buf_new(be, (pol_dtype)17, 1, &a), POL_EARG, "type 17");
    assert_fails(ctx, pol_buf_new(be, POL_F32, INT64_MAX, &a), POL_ENOMEM, "buffer: 1 x 9223372036854775807 elements");
    assert_fails(ctx, pol_buf_new_rows(be, POL_F32, INT64_MAX, 2, &a), POL_ENOMEM, "x 2 elements of f32");
    assert_fails(ctx, pol_buf_new(be, POL_BF16, 1, &a), POL_EUNSUPPORTED, "16-bit");
    assert_int_equal(be->bytes_in_use, 0);
}

/* An allocator that refuses once its budget is spent. */
typedef struct budget {
    size_t left;
} budget;

static void *budget_realloc(void *user, void *block, size_t bytes)
{
    budget *b = user;
    if (bytes > b->left)
        return NULL;
    b->left -= bytes;
    return realloc(block, bytes);
}

static void budget_free(void *user, void *block)
{
    (void)user;
    free(block);
}

static void test_memory_runs_out(void **state)
{
    (void)state;
    budget b = {1 << 20};
    pol_context *tight;
    pol_backend *poor;
    pol_buf *buf;
    assert_int_equal(pol_context_new(&(pol_allocator){&b, budget_realloc, budget_free}, &tight), POL_OK);
    assert_ok(tight, pol_backend_open(tight, &(pol_backend_options){.name = "cpu"}, &poor));
    assert_fails(tight, pol_buf_new(poor, POL_F32, 1 << 20, &buf), POL_ENOMEM, "no memory for");
    assert_null(buf);
    assert_int_equal(poor->bytes_in_use, 0);
    rig r = rig_open(poor);
    pol_nll_args a = {.nll = rig_zero(&r, POL_F32, 2),
                      .x = rig_zero(&r, POL_F32, 6),
                      .w = rig_zero(&r, POL_F32, 15),
                      .target = rig_ids(&r, 2, 0, 4),
                      .scratch = rig_zero(&r, POL_F32, 6),
                      .T = 2,
                      .k = 1,
                      .C = 3,
                      .V = 5,
                      .slice = 3};
    assert_ok(tight, pol_nll(poor, &a));
    const size_t left = b.left;
    b.left = 0;
    assert_fails(tight, pol_nll(poor, &a), POL_ENOMEM, "no memory for");
    double h[4] = {1, 0, 0, 1}, error[2];
    const float w[2] = {1, 2};
    int32_t order[2];
    pol_obs_sweep_args sweep = {
        .n_units = 2, .unit = 1, .C = 1, .block = 1, .h = h, .w = w, .order = order, .error = error};
    pol_status s = POL_ENOMEM;
    for (size_t bytes = 0; s != POL_OK; bytes++) { /* wherever it runs out */
        b.left = bytes;
        s = pol_obs_sweep(poor, &sweep);
        assert_true(s == POL_OK || s == POL_ENOMEM);
    }
    b.left = left;
    rig_close(&r);
    pol_backend_close(poor);
    b.left = 0;
    pol_device_info *list;
    int64_t n;
    assert_fails(tight, pol_device_list(tight, &list, &n), POL_ENOMEM, "no memory for");
    assert_fails(tight, pol_backend_open(tight, NULL, &poor), POL_ENOMEM, "no memory for");
    assert_null(poor);
    pol_context_free(tight);
}

static void test_devices(void **state)
{
    (void)state;
    pol_device_info *list;
    int64_t n;
    assert_ok(ctx, pol_device_list(ctx, &list, &n));
    int64_t cpu = -1, best = -1; /* best: what auto is to take */
    for (int64_t i = 0; i < n; i++) {
        if (strcmp(list[i].backend, "cpu") == 0)
            cpu = i;
        if (best < 0 && list[i].usable && list[i].type != POL_DEVICE_CPU)
            best = i;
    }
    best = best < 0 ? cpu : best;
    assert_true(cpu >= 0);
    assert_true(list[cpu].usable && list[cpu].memory_bytes > 0 && list[cpu].name[0] &&
                strstr(list[cpu].detail, "OpenBLAS"));

    pol_backend *opened;
    const pol_backend_options good[] = {{.name = "auto"},
                                        {.name = "cpu"},
                                        {.name = "cpu", .device = "0"},
                                        {.name = "cpu", .device = list[cpu].name},
                                        {.threads = 2}};
    for (size_t i = 0; i < POL_COUNT(good); i++) {
        assert_ok(ctx, pol_backend_open(ctx, &good[i], &opened));
        assert_string_equal(pol_backend_info(opened)->backend,
                            good[i].name && strcmp(good[i].name, "auto") ? good[i].name : list[best].backend);
        pol_backend_close(opened);
    }
    assert_fails(ctx, pol_backend_open(ctx, &(pol_backend_options){.name = "abacus"}, &opened), POL_EARG,
                 "backend: 'abacus' is none of cuda, opencl, cpu, auto");
    assert_null(opened);
    assert_fails(ctx, pol_backend_open(ctx, &(pol_backend_options){.name = "cpu", .device = "7"}, &opened), POL_EARG,
                 "device: '7'");
    assert_fails(ctx, pol_backend_open(ctx, &(pol_backend_options){.name = "cpu", .threads = -1}, &opened), POL_EARG,
                 "threads: -1");
    assert_fails(ctx, pol_backend_open(ctx, &(pol_backend_options){.name = "cpu", .weights = "f8"}, &opened), POL_EARG,
                 "weights: 'f8' is none of auto, f32, f16, bf16");
    assert_fails(ctx, pol_backend_open(ctx, &(pol_backend_options){.name = "cpu", .weights = "bf16"}, &opened),
                 POL_EUNSUPPORTED, "weights: the cpu backend has them in f32 alone");
    pol_backend_close(NULL);

    pol_backend_summary *backends;
    int64_t n_backends, n_devices = 0;
    assert_ok(ctx, pol_backend_list(ctx, &backends, &n_backends));
    for (int64_t i = 0; i < n_backends; i++) {
        n_devices += backends[i].n_devices;
        assert_true(backends[i].built || backends[i].n_devices == 0);
        assert_true(backends[i].n_devices > 0 || backends[i].note[0]);
        if (backends[i].n_devices == 0)
            assert_fails(ctx, pol_backend_open(ctx, &(pol_backend_options){.name = backends[i].name}, &opened),
                         POL_EARG, backends[i].note);
    }
    assert_int_equal(n_devices, n);
    pol_backend_list_free(ctx, backends);
    pol_device_list_free(ctx, list);
}

/* The embedder's OpenMP setting is its own. */
static void test_thread_setting_is_kept(void **state)
{
    (void)state;
    enum { N = 8 };
    pol_backend *two;
    const int before = omp_get_max_threads();
    assert_ok(ctx, pol_backend_open(ctx, &(pol_backend_options){.name = "cpu", .threads = 2}, &two));
    omp_set_num_threads(3);
    rig r = rig_open(two);
    const pol_view x = rig_normal(&r, POL_F32, N * 3 * N, 1), y = rig_zero(&r, POL_F32, N * N);
    assert_ok(ctx, pol_project(two, &(pol_project_args){
                                        .y = y, .x = x, .w = rig_zero(&r, POL_F32, N * N), .T = N, .N = N, .C = N}));
    assert_int_equal(omp_get_max_threads(), 3);
    assert_ok(ctx, pol_attention(two, &(pol_attention_args){
                                          .out = y,
                                          .qkv = x,
                                          .scratch = rig_zero(&r, POL_F32, pol_attention_scratch(two, N, N, 1, 1, N)),
                                          .T = N,
                                          .S = N,
                                          .G = 1,
                                          .g = 1,
                                          .D = N,
                                          .scale = 1}));
    assert_int_equal(omp_get_max_threads(), 3);
    rig_close(&r);
    pol_backend_close(two);
    omp_set_num_threads(before);
}

static void test_table_of_another_version(void **state)
{
    (void)state;
    pol_ops ops = *be->ops;
    assert_ok(ctx, pol_ops_check(ctx, "cpu", &ops));
    ops.abi++;
    assert_fails(ctx, pol_ops_check(ctx, "old", &ops), POL_EARG, "this library's is version");
    ops = *be->ops;
    ops.size -= 8;
    assert_fails(ctx, pol_ops_check(ctx, "old", &ops), POL_EARG, "this library's is version");
    ops = *be->ops;
    ops.swiglu = NULL;
    assert_fails(ctx, pol_ops_check(ctx, "old", &ops), POL_EARG, "backend old: its table lacks swiglu");
    ops = *be->ops;
    ops.gram = NULL;
    assert_fails(ctx, pol_ops_check(ctx, "old", &ops), POL_EARG, "backend old: its table lacks gram");
    ops = *be->ops;
    ops.gram_scratch = NULL;
    assert_fails(ctx, pol_ops_check(ctx, "old", &ops), POL_EARG, "backend old: its table lacks gram_scratch");
    ops = *be->ops;
    ops.solve_spd = NULL;
    assert_fails(ctx, pol_ops_check(ctx, "half", &ops), POL_EARG, "backend half: its table lacks solve_spd");
    ops.obs_sweep = NULL;
    assert_ok(ctx, pol_ops_check(ctx, "without", &ops));
    ops.solve_spd = be->ops->solve_spd;
    assert_fails(ctx, pol_ops_check(ctx, "half", &ops), POL_EARG, "backend half: its table lacks obs_sweep");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embed),
        cmocka_unit_test(test_rmsnorm),
        cmocka_unit_test(test_project),
        cmocka_unit_test(test_scratch_of_products),
        cmocka_unit_test(test_attention_and_rope),
        cmocka_unit_test(test_swiglu_and_nll),
        cmocka_unit_test(test_swap_and_stats),
        cmocka_unit_test(test_gram),
        cmocka_unit_test(test_buffers),
        cmocka_unit_test(test_memory_runs_out),
        cmocka_unit_test(test_devices),
        cmocka_unit_test(test_thread_setting_is_kept),
        cmocka_unit_test(test_table_of_another_version),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
