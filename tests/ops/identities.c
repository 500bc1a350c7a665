/* identities.c - what must hold whatever the numbers are: the mathematics of the ops, not stored results. */
#include "tests/ops/identities.h"

#include <math.h>

#include "tests/ops/rig.h"

static pol_context *ctx;
static pol_backend *be;

static void assert_all_near(const double *got, const double *want, int64_t n, double tol)
{
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= tol))
            fail_msg("element %lld: %.9g, expected %.9g within %.2g", (long long)i, got[i], want[i], tol);
}

/* How far a number of about this size may be off: in f32 by `tol`, or by so many roundings to what the backend's ops
 * leave to each other. */
static double within(double tol, double size, int roundings)
{
    const double unit = be->act_dtype == POL_BF16 ? 0x1p-9 : be->act_dtype == POL_F16 ? 0x1p-12 : 0;
    return tol + size * roundings * unit;
}

/* A view's numbers, changed by `change` and uploaded again. */
static void edit(rig *r, pol_view v, int64_t n, float (*change)(int64_t i, float old))
{
    float *x = malloc((size_t)n * sizeof *x);
    assert_ok(ctx, pol_download(r->be, v.buf, v.at, x, n));
    for (int64_t i = 0; i < n; i++)
        x[i] = change(i, x[i]);
    assert_ok(ctx, pol_upload(r->be, v.buf, v.at, x, n));
    free(x);
}

static float times_four(int64_t i, float old) { return (void)i, 4.0f * old; }
static float one(int64_t i, float old) { return (void)i, (void)old, 1.0f; }

/* With eps 0 and gain 1 the rows have mean square 1, and a factor on x does not matter. */
static void test_rmsnorm_scale(void **state)
{
    (void)state;
    enum { T = 3, C = 70 };
    double y[T * C], again[T * C];
    rig r = rig_open(be);
    pol_rmsnorm_args a = {.x = rig_normal(&r, POL_F32, T * C, 1),
                          .gain = rig_zero(&r, POL_F32, C),
                          .y = rig_zero(&r, be->act_dtype, T * C),
                          .T = T,
                          .C = C};
    edit(&r, a.gain, C, one);
    assert_ok(ctx, pol_rmsnorm(be, &a));
    rig_read(&r, a.y, T * C, y);
    for (int t = 0; t < T; t++) {
        double sum = 0;
        for (int c = 0; c < C; c++)
            sum += y[t * C + c] * y[t * C + c];
        assert_near(sum / C, 1.0, within(1e-6, 1, 2));
    }
    edit(&r, a.x, T * C, times_four);
    assert_ok(ctx, pol_rmsnorm(be, &a));
    rig_read(&r, a.y, T * C, again);
    assert_all_near(again, y, T * C, within(1e-6, 4, 1));
    rig_close(&r);
}

/* y = x w^T, then x += y w with orthogonal w (here a rotation) gives 2 x. */
static void test_project_and_back(void **state)
{
    (void)state;
    enum { T = 5, C = 2 };
    const float w[] = {0.6f, -0.8f, 0.8f, 0.6f};
    double before[T * C], after[T * C];
    rig r = rig_open(be);
    const pol_view x = rig_acts(&r, T * C, 1), y = rig_zero(&r, be->act_dtype, T * C),
                   rotation = rig_values(&r, be->weight_dtype, C * C, w);
    const pol_view scratch = rig_zero(&r, POL_F32, pol_gemm_scratch(be, T, C, C));
    float stream[T * C];
    rig_read(&r, x, T * C, before);
    for (int i = 0; i < T * C; i++)
        stream[i] = (float)before[i];
    const pol_view sum = rig_values(&r, POL_F32, T * C, stream);
    assert_ok(ctx, pol_project(be, &(pol_project_args){
                                       .y = y, .x = x, .w = rotation, .scratch = scratch, .T = T, .N = C, .C = C}));
    assert_ok(ctx,
              pol_project_add(be, &(pol_project_add_args){
                                      .x = sum, .h = y, .w = rotation, .scratch = scratch, .T = T, .N = C, .C = C}));
    rig_read(&r, sum, T * C, after);
    for (int i = 0; i < T * C; i++)
        before[i] *= 2;
    assert_all_near(after, before, T * C, within(1e-6, 4, 3)); /* of the weights, twice, and of y */
    rig_close(&r);
}

/* Units beyond the prefix take no part: through the first half of exchanged rows comes half of the projection. */
static void test_prefix_of_swapped_rows(void **state)
{
    (void)state;
    enum { T = 4, C = 9, N = 6 };
    const int32_t a[] = {0, 1, 2}, b[] = {5, 4, 3};
    double all[T * N], half[T * N / 2], want[T * N / 2];
    rig r = rig_open(be);
    pol_project_args p = {.y = rig_zero(&r, be->act_dtype, T * N),
                          .x = rig_acts(&r, T * C, 1),
                          .w = rig_normal(&r, be->weight_dtype, N * C, 1),
                          .scratch = rig_zero(&r, POL_F32, pol_gemm_scratch(be, T, N, C)),
                          .T = T,
                          .N = N,
                          .C = C};
    assert_ok(ctx, pol_project(be, &p));
    rig_read(&r, p.y, T * N, all);
    const pol_swap_args swap = {.w = p.w, .unit = C, .n_units = N, .n_pairs = 3, .a = a, .b = b};
    assert_ok(ctx, pol_swap_units(be, &swap, 1));
    p.N = N / 2;
    assert_ok(ctx, pol_project(be, &p));
    rig_read(&r, p.y, T * N / 2, half);
    for (int t = 0; t < T; t++)
        for (int n = 0; n < N / 2; n++)
            want[t * N / 2 + n] = all[t * N + N - 1 - n];
    assert_all_near(half, want, T * N / 2, within(1e-6, 16, 2));
    assert_ok(ctx, pol_swap_units(be, &swap, 1)); /* twice is not at all */
    p.N = N;
    assert_ok(ctx, pol_project(be, &p));
    double again[T * N];
    rig_read(&r, p.y, T * N, again);
    assert_all_near(again, all, T * N, 0);
    rig_close(&r);
}

enum { S = 11, G = 2, g = 3, D = 16, ROW = G * (g + 2) * D };

static float negate_sines(int64_t i, float old) { return i % D < D / 2 ? old : -old; }

static void test_rope_undone(void **state)
{
    (void)state;
    double before[S * ROW], turned[S * ROW], after[S * ROW];
    rig r = rig_open(be);
    const pol_rope_args a = {
        .qkv = rig_acts(&r, S * ROW, 1), .cos_sin = rig_cos_sin(&r, S, D), .T = S, .S = S, .G = G, .g = g, .D = D};
    rig_read(&r, a.qkv, S * ROW, before);
    assert_ok(ctx, pol_rope(be, &a));
    rig_read(&r, a.qkv, S * ROW, turned);
    edit(&r, a.cos_sin, S * D, negate_sines);
    assert_ok(ctx, pol_rope(be, &a));
    rig_read(&r, a.qkv, S * ROW, after);
    assert_all_near(after, before, S * ROW, within(1e-6, 6, 2));
    /* Position 0 and every value stay; other queries and keys turn. */
    for (int i = 0; i < S * ROW; i++) {
        const bool value = i / D % (g + 2) == g + 1;
        if (value || i < ROW)
            assert_true(turned[i] == before[i]);
    }
    assert_true(turned[ROW] != before[ROW]);
    rig_close(&r);
}

static pol_attention_args attention_args(rig *r, int64_t seq)
{
    return (pol_attention_args){.qkv = rig_acts(r, S * ROW, 1),
                                .out = rig_zero(r, be->act_dtype, S * G * g * D),
                                .scratch = rig_zero(r, POL_F32, pol_attention_scratch(be, S, seq, G, g, D)),
                                .T = S,
                                .S = seq,
                                .G = G,
                                .g = g,
                                .D = D,
                                .scale = 0.35f};
}

/* In sequences of one token every head's context is its group's value. */
static void test_attention_of_one_token(void **state)
{
    (void)state;
    double qkv[S * ROW], out[S * G * g * D];
    rig r = rig_open(be);
    const pol_attention_args a = attention_args(&r, 1);
    assert_ok(ctx, pol_attention(be, &a));
    rig_read(&r, a.qkv, S * ROW, qkv);
    rig_read(&r, a.out, S * G * g * D, out);
    for (int i = 0; i < S * G * g * D; i++) {
        const int group = i / (g * D), d = i % D;
        assert_near(out[i], qkv[(group * (g + 2) + g + 1) * D + d], 1e-7);
    }
    rig_close(&r);
}

/* Eighths, to which what follows can be added without a rounding in any type. */
static float coarse(int64_t i, float old) { return (void)i, roundf(8.0f * old) / 8.0f; }
static float shift_keys(int64_t i, float old) { return i / D % (g + 2) == g ? old + 0.5f + (float)(i % D) : old; }

/* The same vector added to every key moves all scores of a query alike: the softmax does not see it. */
static void test_softmax_shift(void **state)
{
    (void)state;
    double out[S * G * g * D], shifted[S * G * g * D];
    rig r = rig_open(be);
    const pol_attention_args a = attention_args(&r, S);
    edit(&r, a.qkv, S * ROW, coarse);
    assert_ok(ctx, pol_attention(be, &a));
    rig_read(&r, a.out, S * G * g * D, out);
    edit(&r, a.qkv, S * ROW, shift_keys);
    assert_ok(ctx, pol_attention(be, &a));
    rig_read(&r, a.out, S * G * g * D, shifted);
    assert_all_near(shifted, out, S * G * g * D, within(1e-5, 4, 2));
    rig_close(&r);
}

static float no_queries(int64_t i, float old) { return i / D % (g + 2) < g ? 0.0f : old; }

/* A query of zeros sees all its keys alike: the context is the mean of the values in the window. */
static void test_attention_mean(void **state)
{
    (void)state;
    double qkv[S * ROW], out[S * G * g * D];
    rig r = rig_open(be);
    pol_attention_args a = attention_args(&r, S);
    edit(&r, a.qkv, S * ROW, no_queries);
    rig_read(&r, a.qkv, S * ROW, qkv);
    for (a.window = 0; a.window <= S + 1; a.window++) {
        assert_ok(ctx, pol_attention(be, &a));
        rig_read(&r, a.out, S * G * g * D, out);
        for (int i = 0; i < S * G * g * D; i++) {
            const int p = i / (G * g * D), group = i / (g * D) % G, d = i % D;
            const int first = a.window && p >= a.window ? p - (int)a.window + 1 : 0;
            double mean = 0;
            for (int s = first; s <= p; s++)
                mean += qkv[s * ROW + (group * (g + 2) + g + 1) * D + d] / (p - first + 1);
            assert_near(out[i], mean, within(1e-6, 4, 2));
        }
    }
    rig_close(&r);
}

/* Scores of thousands, whose exponentials no float holds: what counts is how far they are below the largest. */
static void test_attention_of_huge_scores(void **state)
{
    (void)state;
    double qkv[S * ROW], out[S * G * g * D];
    rig r = rig_open(be);
    pol_attention_args a = attention_args(&r, S);
    a.scale = 1000;
    assert_ok(ctx, pol_attention(be, &a));
    rig_read(&r, a.qkv, S * ROW, qkv);
    rig_read(&r, a.out, S * G * g * D, out);
    for (int i = 0; i < S * G * g; i++) {
        const int p = i / (G * g), group = i / g % G;
        const double *q = qkv + p * ROW + (group * (g + 2) + i % g) * D, *keys = qkv + (group * (g + 2) + g) * D;
        double score[S], largest = -INFINITY, sum = 0;
        for (int s = 0; s <= p; s++) {
            score[s] = 0;
            for (int d = 0; d < D; d++)
                score[s] += (double)a.scale * q[d] * keys[s * ROW + d];
            largest = fmax(largest, score[s]);
        }
        for (int s = 0; s <= p; s++)
            sum += exp(score[s] - largest);
        for (int d = 0; d < D; d++) {
            double want = 0;
            for (int s = 0; s <= p; s++)
                want += exp(score[s] - largest) / sum * keys[s * ROW + D + d];
            assert_near(out[i * D + d], want, within(2e-3, 4, 2)); /* a score of thousands is known to some 1e-4 */
        }
    }
    rig_close(&r);
}

/* silu(a) - silu(-a) = a, for moderate and for extreme a. */
static void test_swiglu_odd_part(void **state)
{
    (void)state;
    enum { N = 40 };
    float gu[2 * N];
    double h[N];
    for (int i = 0; i < N; i++) {
        const float a = powf(1.4f, (float)(i / 2)) - 0.9f;
        gu[2 * i] = i % 2 ? -a : a;
        gu[2 * i + 1] = 1.0f;
    }
    rig r = rig_open(be);
    const pol_swiglu_args a = {.gu = rig_values(&r, be->act_dtype, 2 * N, gu),
                               .h = rig_zero(&r, be->act_dtype, N),
                               .T = 1,
                               .kept = N,
                               .padded = N};
    assert_ok(ctx, pol_swiglu(be, &a));
    rig_read(&r, a.h, N, h);
    for (int i = 0; i < N; i += 2) {
        const double size = 1 + fabs((double)gu[2 * i]);
        assert_near(h[i] - h[i + 1], gu[2 * i], within(2e-7 * size, size, 3));
    }
    rig_close(&r);
}

static pol_nll_args nll_args(rig *r, int64_t T, int64_t C, int64_t V, int64_t slice, double scale)
{
    return (pol_nll_args){.x = rig_acts(r, T * C, scale),
                          .w = rig_normal(r, be->weight_dtype, V * C, 1),
                          .target = rig_ids(r, T, 0, (int32_t)V - 1),
                          .nll = rig_zero(r, POL_F32, T),
                          .scratch = rig_zero(r, POL_F32, pol_nll_scratch(be, T, C, slice)),
                          .T = T,
                          .k = 1,
                          .C = C,
                          .V = V,
                          .slice = slice};
}

/* Logits that are all alike: log V, whatever the slice. */
static void test_nll_uniform(void **state)
{
    (void)state;
    enum { T = 2, C = 5, V = 301 };
    for (int slice = 1; slice < 2 * V; slice = slice * 5 + 1) {
        double nll[T];
        rig r = rig_open(be);
        const pol_nll_args a = nll_args(&r, T, C, V, slice, 0);
        assert_ok(ctx, pol_nll(be, &a));
        rig_read(&r, a.nll, T, nll);
        for (int t = 0; t < T; t++)
            assert_near(nll[t], log(V), 1e-6);
        rig_close(&r);
    }
}

/* Over all targets of one row, exp(-nll) sums to 1. */
static void test_nll_is_a_distribution(void **state)
{
    (void)state;
    enum { C = 7, V = 53 };
    double nll[V], sum = 0;
    float x[V * C], targets[V];
    for (int i = 0; i < V * C; i++)
        x[i] = (float)(i % C) - 2.0f;
    for (int v = 0; v < V; v++)
        targets[v] = (float)v;
    rig r = rig_open(be);
    pol_nll_args a = nll_args(&r, V, C, V, 10, 1);
    a.x = rig_values(&r, be->act_dtype, V * C, x);
    a.target = rig_values(&r, POL_I32, V, targets);
    assert_ok(ctx, pol_nll(be, &a));
    rig_read(&r, a.nll, V, nll);
    for (int v = 0; v < V; v++)
        sum += exp(-nll[v]);
    assert_near(sum, 1.0, 2e-5); /* logits up to about 20 carry 1e-6 each */
    rig_close(&r);
}

/* The figure that perplexities are made of: the mean over many tokens, to 1e-6 of a double computation from the same
 * f32 logits; also where the logits are so large that no float holds their exponentials. */
static void check_nll_mean(double scale)
{
    enum { T = 64, C = 1, V = 1000 };
    static float x[T], w[V];
    static double nll[T];
    double got = 0, want = 0;
    rig r = rig_open(be);
    const pol_nll_args a = nll_args(&r, T, C, V, 300, scale);
    int32_t target[T];
    assert_ok(ctx, pol_nll(be, &a));
    rig_read(&r, a.nll, T, nll);
    assert_ok(ctx, pol_download(be, a.x.buf, a.x.at, x, T));
    assert_ok(ctx, pol_download(be, a.w.buf, a.w.at, w, V));
    assert_ok(ctx, pol_download(be, a.target.buf, a.target.at, target, T));
    for (int t = 0; t < T; t++) {
        double sum = 0, largest = -INFINITY;
        for (int v = 0; v < V; v++)
            largest = fmax(largest, (double)(x[t] * w[v]));
        for (int v = 0; v < V; v++)
            sum += exp((double)(x[t] * w[v]) - largest);
        want += (largest + log(sum) - (double)(x[t] * w[target[t]])) / T;
        got += nll[t] / T;
    }
    assert_near(got, want, 1e-6 * scale);
    rig_close(&r);
}

static void test_nll_mean(void **state)
{
    (void)state;
    check_nll_mean(1);
    check_nll_mean(1000);
}

/* A NaN anywhere in a row comes out as NaN, never as a plausible number. */
static void test_nan_comes_through(void **state)
{
    (void)state;
    enum { T = 2, C = 40, V = 70 };
    double nll[T];
    rig r = rig_open(be);
    const pol_nll_args a = nll_args(&r, T, C, V, 32, 1);
    const float bad = NAN;
    assert_ok(ctx, pol_upload(be, a.x.buf, a.x.at + 3, &bad, 1));
    assert_ok(ctx, pol_nll(be, &a));
    rig_read(&r, a.nll, T, nll);
    assert_true(isnan(nll[0]));
    assert_false(isnan(nll[1]));
    assert_ok(ctx, pol_upload(be, a.w.buf, a.w.at + 69 * C, &bad, 1)); /* the last logit of every token */
    assert_ok(ctx, pol_nll(be, &a));
    rig_read(&r, a.nll, T, nll);
    assert_true(isnan(nll[1]));
    rig_close(&r);

    double out[S * G * g * D];
    r = rig_open(be);
    const pol_attention_args at = attention_args(&r, S);
    assert_ok(ctx, pol_upload(be, at.qkv.buf, at.qkv.at + 4 * ROW + g * D, &bad, 1)); /* key of position 4, group 0 */
    assert_ok(ctx, pol_attention(be, &at));
    rig_read(&r, at.out, S * G * g * D, out);
    for (int p = 0; p < S; p++) {
        assert_int_equal(isnan(out[p * G * g * D]) != 0, p >= 4);
        assert_false(isnan(out[(p * G + 1) * g * D]));
    }
    rig_close(&r);
}

/* In whichever slice the NaN is, and whichever the targets are in, before it or after. */
static void test_nan_in_the_vocabulary(void **state)
{
    (void)state;
    enum { T = 3, K = 4, C = 40, V = 70, SLICE = 32 };
    static const int32_t target[K] = {0, 40, 69, -1};
    static const int64_t row[] = {0, 41, 69};
    const float bad = NAN;
    for (size_t i = 0; i < POL_COUNT(row); i++) {
        double nll[T * K];
        rig r = rig_open(be);
        pol_nll_args a = nll_args(&r, T, C, V, SLICE, 1);
        a.k = K;
        a.target = rig_ids(&r, T * K, 0, 0);
        a.nll = rig_zero(&r, POL_F32, T * K);
        for (int t = 0; t < T; t++)
            assert_ok(ctx, pol_upload(be, a.target.buf, a.target.at + t * K, target, K));
        assert_ok(ctx, pol_upload(be, a.w.buf, a.w.at + row[i] * C, &bad, 1));
        assert_ok(ctx, pol_nll(be, &a));
        rig_read(&r, a.nll, T * K, nll);
        for (int j = 0; j < T * K; j++)
            assert_true(target[j % K] < 0 ? nll[j] == 0 : isnan(nll[j]));
        rig_close(&r);
    }
}

static float row_number(int64_t i, float old) { return (void)old, (float)(i / 5); }

/* Sums of 0 .. T - 1 and of their squares, exact in f32; a second call over half the rows starts anew. */
static void test_stats_of_counting_rows(void **state)
{
    (void)state;
    enum { N = 5 };
    double sum[N], sumsq[N];
    rig r = rig_open(be);
    pol_activation_stats_args a = {.x = rig_zero(&r, be->act_dtype, 20 * N),
                                   .sum = rig_zero(&r, POL_F32, N),
                                   .sumsq = rig_zero(&r, POL_F32, N),
                                   .N = N};
    edit(&r, a.x, 20 * N, row_number);
    for (a.T = 20; a.T >= 10; a.T -= 10) {
        assert_ok(ctx, pol_activation_stats(be, &a));
        rig_read(&r, a.sum, N, sum);
        rig_read(&r, a.sumsq, N, sumsq);
        for (int n = 0; n < N; n++) {
            assert_true(sum[n] == (double)(a.T * (a.T - 1) / 2));
            assert_true(sumsq[n] == (double)((a.T - 1) * a.T * (2 * a.T - 1) / 6));
        }
    }
    rig_close(&r);
}

/* Element i of a row of small whole numbers, and of a row 2^15 times as large as the first of them. */
static float small_number(int64_t i, float old) { return (void)old, (float)(i % 7 - 3); }
static float large_number(int64_t i, float old) { return i < 1 ? 0x1p15f : small_number(i, old); }

/* Whole numbers, whose sums are exact as long as nothing is lost: calls that add a few units each, then 2^30, then such
 * calls again. A float of that size cannot tell their units apart. */
static void test_gram_keeps_small_terms(void **state)
{
    (void)state;
    enum { N = 5, M = 3, T = 3, CALLS = 500 };
    double pair[2 * N * N];
    rig r = rig_open(be);
    const pol_view large = rig_zero(&r, be->act_dtype, N), small = rig_zero(&r, be->act_dtype, T * N);
    const pol_view large_y = rig_zero(&r, POL_F32, M), small_y = rig_zero(&r, POL_F32, T * M);
    pol_gram_args a = {.x = small,
                       .y = small_y,
                       .a = rig_zero(&r, POL_F32, 2 * N * N),
                       .b = rig_zero(&r, POL_F32, 2 * N * M),
                       .scratch = rig_zero(&r, POL_F32, pol_gram_scratch(be, T, N, M)),
                       .T = T,
                       .N = N,
                       .M = M};
    edit(&r, large, N, large_number);
    edit(&r, large_y, M, large_number);
    edit(&r, small, T * N, small_number);
    edit(&r, small_y, T * M, small_number);
    pol_gram_args once = a;
    once.x = large;
    once.y = large_y;
    once.T = 1;
    for (int i = 0; i < 2 * CALLS; i++) {
        assert_ok(ctx, pol_gram(be, &a));
        if (i == CALLS)
            assert_ok(ctx, pol_gram(be, &once));
    }
    for (int cross = 0; cross < 2; cross++) {
        const int columns = cross ? M : N;
        rig_read(&r, cross ? a.b : a.a, 2 * N * columns, pair);
        for (int i = 0; i < N; i++)
            for (int j = 0; j < columns && (cross || j <= i); j++) {
                double want = (double)large_number(i, 0) * large_number(j, 0);
                for (int t = 0; t < T; t++)
                    want += 2 * CALLS * (double)small_number(t * N + i, 0) * small_number(t * columns + j, 0);
                assert_true(pair[i * columns + j] + pair[(N + i) * columns + j] == want);
            }
    }
    rig_close(&r);
}

/* Whoever makes scratch for the largest pass may run any smaller one in it. */
static void test_scratch_never_falls(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 2, 7, 8, 9, 63, 64, 65, 128, 1000, 2048};
    for (int64_t heads = 1; heads <= 8; heads *= 2)
        for (size_t i = 1; i < POL_COUNT(sizes); i++) {
            const int64_t small = sizes[i - 1], large = sizes[i];
            assert_true(pol_attention_scratch(be, 2048, small, 4, heads, D) <=
                        pol_attention_scratch(be, 2048, large, 4, heads, D));
            assert_true(pol_attention_scratch(be, small, 1, 4, heads, D) <=
                        pol_attention_scratch(be, large, 1, 4, heads, D));
            assert_true(pol_attention_scratch(be, 64, 64, small, heads, D) <=
                        pol_attention_scratch(be, 64, 64, large, heads, D));
        }
    for (size_t i = 1; i < POL_COUNT(sizes); i++) {
        const int64_t small = sizes[i - 1], large = sizes[i];
        assert_true(pol_nll_scratch(be, small, 64, 1000) <= pol_nll_scratch(be, large, 64, 1000));
        assert_true(pol_nll_scratch(be, 64, small, 1000) <= pol_nll_scratch(be, 64, large, 1000));
        assert_true(pol_nll_scratch(be, 64, 64, small) <= pol_nll_scratch(be, 64, 64, large));
        assert_true(pol_gram_scratch(be, small, 64, 64) <= pol_gram_scratch(be, large, 64, 64));
        assert_true(pol_gram_scratch(be, 64, small, 64) <= pol_gram_scratch(be, 64, large, 64));
        assert_true(pol_gram_scratch(be, 64, 64, small - 1) <= pol_gram_scratch(be, 64, 64, large));
    }
}

static int nothing_left(void **state)
{
    (void)state;
    return be->bytes_in_use == 0 ? 0 : -1;
}

int check_identities(const char *name, pol_backend *backend)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rmsnorm_scale),          cmocka_unit_test(test_project_and_back),
        cmocka_unit_test(test_prefix_of_swapped_rows), cmocka_unit_test(test_rope_undone),
        cmocka_unit_test(test_attention_of_one_token), cmocka_unit_test(test_softmax_shift),
        cmocka_unit_test(test_attention_mean),         cmocka_unit_test(test_attention_of_huge_scores),
        cmocka_unit_test(test_swiglu_odd_part),        cmocka_unit_test(test_nll_uniform),
        cmocka_unit_test(test_nll_is_a_distribution),  cmocka_unit_test(test_nll_mean),
        cmocka_unit_test(test_nan_comes_through),      cmocka_unit_test(test_nan_in_the_vocabulary),
        cmocka_unit_test(test_stats_of_counting_rows), cmocka_unit_test(test_gram_keeps_small_terms),
        cmocka_unit_test(test_scratch_never_falls),
    };
    be = backend;
    ctx = be->ctx;
    return cmocka_run_group_tests_name(name, tests, NULL, nothing_left);
}
