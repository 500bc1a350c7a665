#include "tests/ops/conformance.h"

#include <math.h>

typedef struct op_spec {
    const char *name;
    int64_t (*outputs)(const op_case *c);
    void (*run)(rig *r, const op_case *c, double *out);
    /* Largest sum of squared errors over the sum of squares, and largest error over the root mean square. f32 has an
     * epsilon e of 6e-8: k terms summed in any order err by about sqrt(k) e at most, an exponential by 3 e, an op that
     * only moves numbers not at all. */
    double nmse, max;
    /* Where activations have 16 bits: what rounding to them adds, in units of what it does to one number at most
     * (roundoff), of the result's element and of the root mean square. Every result is rounded once. So may be a
     * product before its bias is added; attention's weights, which shows where values cancel; and gate and up before
     * swiglu: an error of a gate comes to 1.3 times as much in the silu of a positive gate, to 0.3 of a negative gate
     * itself. */
    double own, rms;
    /* Where the result is a sum of so many terms of either sign, one after the other in f32: what that adds to the
     * tolerance. Term j is rounded with the sum so far, whose square is j/k of the result's on average, to e of it at
     * most: squares of errors add up to e^2 (1 + ... + k) / k = e^2 k/2 of the result's. The largest of some thousand
     * errors is within 6 times their root mean square.
     *
     * Where activations have 16 bits, matrix units may add the terms up, 8 at a time and more. They cut off what f32
     * does not hold, e of the sum so far on average and always towards 0: with sums S after each of n steps the errors
     * add up to e (S_1 + ... + S_n), the square of which is e^2 n^2/3 of the result's. Fasi, Higham, Mikaitis and
     * Pranesh 2021, Numerical behavior of NVIDIA tensor cores. */
    int64_t (*terms)(const op_case *c);
} op_spec;

static int64_t terms_C(const op_case *c) { return c->C; }
static int64_t terms_N(const op_case *c) { return c->N; }
/* What a call adds is a sum in f32 of so many terms; adding it to the pair takes nothing off. */
static int64_t terms_rows(const op_case *c) { return pol_min_i64(c->T, POL_GRAM_ROWS); }
/* Errors of gate and of up, which come to at most 2.3 times as much in their product: the square of that. */
static int64_t terms_gate_up(const op_case *c) { return 6 * c->C; }

/* The most by which rounding to a type of 16 bits changes a number, relative to it. f32 is in nmse and max. */
static double roundoff(pol_dtype type) { return type == POL_BF16 ? 0x1p-8 : type == POL_F16 ? 0x1p-11 : 0; }

/* `u`: roundoff() of activations. */
static double nmse_in_f32(const op_spec *spec, const op_case *c, double u)
{
    const double e = 0x1p-24, k = spec->terms ? (double)spec->terms(c) : 0, steps = u > 0 ? k / 8 : 0;
    return spec->nmse + e * e * (k / 2 + steps * steps / 3);
}

static double nmse_of(const op_spec *spec, const op_case *c, double u)
{
    const double root = sqrt(nmse_in_f32(spec, c, u)) + spec->own * u;
    return u > 0 ? root * root : nmse_in_f32(spec, c, u);
}

/* Beyond the `own` part, which is relative to an element. */
static double max_of(const op_spec *spec, const op_case *c, double u)
{
    return spec->max + (spec->terms ? 6 * sqrt(nmse_in_f32(spec, c, u)) : 0) + spec->rms * u;
}

/* Of terms of one sign what each step cuts off adds up, e of the sum so far and at most twice that: by how much that
 * makes an element too small, relative to it. */
static double cut_off(const op_spec *spec, const op_case *c, double u)
{
    return spec->terms && u > 0 ? 0x1p-24 * (double)((spec->terms(c) + 7) / 8) : 0;
}

static int64_t out_TC(const op_case *c) { return c->T * c->C; }
static int64_t out_TN(const op_case *c) { return c->T * c->N; }
static int64_t out_qkv(const op_case *c) { return c->T * c->G * (c->g + 2) * c->D; }
static int64_t out_ctx(const op_case *c) { return c->T * c->G * c->g * c->D; }
static int64_t out_padded(const op_case *c) { return c->T * c->padded; }
static int64_t out_Tk(const op_case *c) { return c->T * c->k; }
static int64_t out_moments(const op_case *c) { return c->N * (c->N + c->M); }
static int64_t out_units(const op_case *c) { return c->N * c->C; }
static int64_t out_2N(const op_case *c) { return 2 * c->N; }

static void run_embed(rig *r, const op_case *c, double *out)
{
    pol_embed_args a = {.T = c->T, .C = c->C, .V = c->V};
    a.table = rig_weights(r, c->V, c->C, 1);
    a.ids = rig_ids(r, c->T, 0, (int32_t)c->V - 1);
    a.x = rig_zero(r, POL_F32, c->T * c->C);
    assert_ok(r->ctx, pol_embed(r->be, &a));
    rig_read(r, a.x, c->T * c->C, out);
}

static void run_rmsnorm(rig *r, const op_case *c, double *out)
{
    pol_rmsnorm_args a = {.T = c->T, .C = c->C, .eps = 1e-5f};
    a.x = rig_normal(r, POL_F32, c->T * c->C, 0.01); /* so small that eps shows */
    a.gain = rig_normal(r, POL_F32, c->C, 1);
    a.y = rig_zero(r, r->be->act_dtype, c->T * c->C);
    assert_ok(r->ctx, pol_rmsnorm(r->be, &a));
    rig_read(r, a.y, c->T * c->C, out);
}

static void run_project(rig *r, const op_case *c, double *out)
{
    pol_project_args a = {.T = c->T, .N = c->N, .C = c->C};
    a.x = rig_acts(r, c->T * c->C, 1);
    a.w = rig_weights(r, c->N, c->C, 1 / sqrt((double)c->C));
    a.y = rig_acts(r, c->T * c->N, NAN); /* what was there must not matter */
    if (c->bias)
        a.bias = rig_normal(r, POL_F32, c->N, 1);
    a.scratch = rig_normal(r, POL_F32, pol_gemm_scratch(r->be, c->T, c->N, c->C), NAN);
    assert_ok(r->ctx, pol_project(r->be, &a));
    rig_read(r, a.y, c->T * c->N, out);
}

static void run_project_add(rig *r, const op_case *c, double *out)
{
    pol_project_add_args a = {.T = c->T, .N = c->N, .C = c->C};
    a.x = rig_normal(r, POL_F32, c->T * c->C, 1);
    a.h = rig_acts(r, c->T * c->N, 1);
    a.w = rig_weights(r, c->N, c->C, 1 / sqrt((double)c->N + 1));
    if (c->bias)
        a.bias = rig_normal(r, POL_F32, c->C, 1);
    a.scratch = rig_normal(r, POL_F32, pol_gemm_scratch(r->be, c->T, c->N, c->C), NAN);
    assert_ok(r->ctx, pol_project_add(r->be, &a));
    rig_read(r, a.x, c->T * c->C, out);
}

static void run_rope(rig *r, const op_case *c, double *out)
{
    pol_rope_args a = {.T = c->T, .S = c->S, .G = c->G, .g = c->g, .D = c->D};
    a.qkv = rig_acts(r, out_qkv(c), 1);
    a.cos_sin = rig_cos_sin(r, c->S, c->D);
    assert_ok(r->ctx, pol_rope(r->be, &a));
    rig_read(r, a.qkv, out_qkv(c), out);
}

static void run_attention(rig *r, const op_case *c, double *out)
{
    pol_attention_args a = {.T = c->T, .S = c->S, .G = c->G, .g = c->g, .D = c->D, .window = c->window};
    a.scale = 1.5f / sqrtf((float)c->D);
    a.qkv = rig_acts(r, out_qkv(c), 1);
    a.out = rig_acts(r, out_ctx(c), 9);
    a.scratch = rig_normal(r, POL_F32, pol_attention_scratch(r->be, c->T, c->S, c->G, c->g, c->D), 9);
    assert_ok(r->ctx, pol_attention(r->be, &a));
    rig_read(r, a.out, out_ctx(c), out);
}

static void run_swiglu(rig *r, const op_case *c, double *out)
{
    pol_swiglu_args a = {.T = c->T, .kept = c->kept, .padded = c->padded};
    a.gu = rig_acts(r, 2 * c->T * c->padded, 4);
    a.h = rig_acts(r, c->T * c->padded, 9);
    assert_ok(r->ctx, pol_swiglu(r->be, &a));
    rig_read(r, a.h, c->T * c->padded, out);
}

static void run_project_swiglu(rig *r, const op_case *c, double *out)
{
    pol_project_swiglu_args a = {.T = c->T, .kept = c->kept, .padded = c->padded, .C = c->C};
    a.x = rig_acts(r, c->T * c->C, 1);
    a.w = rig_weights(r, c->padded, 2 * c->C, 1 / sqrt((double)c->C));
    a.gu = rig_acts(r, 2 * c->T * c->padded, NAN); /* what was there must not matter */
    a.h = rig_acts(r, c->T * c->padded, 9);
    if (c->bias)
        a.bias = rig_normal(r, POL_F32, 2 * c->padded, 1);
    a.scratch = rig_normal(r, POL_F32, pol_gemm_scratch(r->be, c->T, 2 * c->padded, c->C), NAN);
    assert_ok(r->ctx, pol_project_swiglu(r->be, &a));
    rig_read(r, a.h, c->T * c->padded, out);
}

static void run_nll(rig *r, const op_case *c, double *out)
{
    pol_nll_args a = {.T = c->T, .k = c->k, .C = c->C, .V = c->V, .slice = c->slice};
    a.x = rig_acts(r, c->T * c->C, 1);
    a.w = rig_weights(r, c->V, c->C, 3 / sqrt((double)c->C));
    a.target = rig_ids(r, c->T * c->k, -1, (int32_t)c->V - 1);
    a.nll = rig_normal(r, POL_F32, c->T * c->k, 9);
    a.scratch = rig_normal(r, POL_F32, pol_nll_scratch(r->be, c->T, c->C, c->slice), 9);
    assert_ok(r->ctx, pol_nll(r->be, &a));
    rig_read(r, a.nll, c->T * c->k, out);
}

static void run_swap_units(rig *r, const op_case *c, double *out)
{
    int32_t *a = malloc((size_t)c->pairs * sizeof *a + 1), *b = malloc((size_t)c->pairs * sizeof *b + 1);
    for (int32_t i = 0; i < c->pairs; i++) {
        a[i] = i;
        b[i] = (int32_t)c->N - 1 - i;
    }
    const pol_view w = rig_weights(r, c->N, c->C, 1);
    assert_ok(
        r->ctx,
        pol_swap_units(
            r->be, &(pol_swap_args){.w = w, .unit = c->C, .n_units = c->N, .n_pairs = c->pairs, .a = a, .b = b}, 1));
    rig_read(r, w, c->N * c->C, out);
    free(a);
    free(b);
}

static void run_activation_stats(rig *r, const op_case *c, double *out)
{
    pol_activation_stats_args a = {.T = c->T, .N = c->N};
    a.x = rig_acts(r, c->T * c->N, 2);
    a.sum = rig_normal(r, POL_F32, c->N, 9); /* what was there must not matter */
    a.sumsq = rig_normal(r, POL_F32, c->N, 9);
    assert_ok(r->ctx, pol_activation_stats(r->be, &a));
    rig_read(r, a.sum, c->N, out);
    rig_read(r, a.sumsq, c->N, out + c->N);
}

/* The value of a pair of matrices [n, columns]; of a triangle no more than is meant. */
static void read_pair(rig *r, pol_view pair, int64_t n, int64_t columns, bool triangle, double *out)
{
    double *low = calloc((size_t)(n * columns) + 1, sizeof *low);
    assert_non_null(low);
    rig_read(r, pair, n * columns, out);
    rig_read(r, (pol_view){pair.buf, pair.at + n * columns}, n * columns, low);
    for (int64_t i = 0; i < n * columns; i++)
        out[i] = triangle && i % columns > i / columns ? 0 : out[i] + low[i];
    free(low);
}

/* `calls` of them one after the other, on top of a pair that is there. */
static void run_gram(rig *r, const op_case *c, double *out)
{
    pol_gram_args a = {.T = c->T, .N = c->N, .M = c->M};
    a.x = rig_acts(r, c->T * c->N, 1);
    a.a = rig_normal(r, POL_F32, 2 * c->N * c->N, 1);
    if (c->M) {
        a.y = rig_normal(r, POL_F32, c->T * c->M, 2);
        a.b = rig_normal(r, POL_F32, 2 * c->N * c->M, 1);
    }
    a.scratch = rig_normal(r, POL_F32, pol_gram_scratch(r->be, c->T, c->N, c->M), NAN);
    for (int64_t i = 0; i < c->calls; i++)
        assert_ok(r->ctx, pol_gram(r->be, &a));
    read_pair(r, a.a, c->N, c->N, true, out);
    if (c->M)
        read_pair(r, a.b, c->N, c->M, false, out + c->N * c->N);
}

static const op_spec specs[] = {
    {"embed", out_TC, run_embed, 0, 0, 0, 0, NULL},
    {"rmsnorm", out_TC, run_rmsnorm, 1e-12, 1e-5, 1, 0, NULL},
    {"project", out_TN, run_project, 1e-14, 0, 1, 3, terms_C},
    {"project_swiglu", out_padded, run_project_swiglu, 1e-12, 1e-5, 3.3, 4, terms_gate_up},
    {"project_add", out_TC, run_project_add, 1e-14, 0, 0, 0, terms_N},
    {"rope", out_qkv, run_rope, 1e-13, 1e-6, 1, 0, NULL},
    {"attention", out_ctx, run_attention, 1e-12, 1e-5, 2, 6, NULL},
    {"swiglu", out_padded, run_swiglu, 1e-13, 5e-6, 1, 0, NULL},
    {"nll", out_Tk, run_nll, 1e-12, 3e-6, 0, 0, NULL},
    {"swap_units", out_units, run_swap_units, 0, 0, 0, 0, NULL},
    {"activation_stats", out_2N, run_activation_stats, 1e-12, 1e-5, 0, 0, NULL},
    {"gram", out_moments, run_gram, 1e-14, 1e-5, 0, 0, terms_rows},
};

const op_case op_cases[] = {
    {"embed", .T = 1, .C = 1, .V = 1},
    {"embed", .T = 7, .C = 33, .V = 19},
    {"embed", .T = 130, .C = 576, .V = 300},
    {"rmsnorm", .T = 1, .C = 1},
    {"rmsnorm", .T = 5, .C = 17},
    {"rmsnorm", .T = 67, .C = 576},
    {"rmsnorm", .T = 3, .C = 20011},
    {"project", .T = 1, .N = 1, .C = 1, .bias = true},
    {"project", .T = 5, .N = 0, .C = 16},
    {"project", .T = 1, .N = 70, .C = 129},
    {"project", .T = 13, .N = 31, .C = 67, .bias = true},
    {"project", .T = 65, .N = 259, .C = 130, .bias = true},
    {"project", .T = 3, .N = 5, .C = 11008},
    {"project_swiglu", .T = 1, .C = 1, .kept = 1, .padded = 1, .bias = true},
    {"project_swiglu", .T = 3, .C = 16, .kept = 0, .padded = 0},
    {"project_swiglu", .T = 5, .C = 48, .kept = 0, .padded = 64, .bias = true},
    {"project_swiglu", .T = 13, .C = 67, .kept = 31, .padded = 31},
    {"project_swiglu", .T = 64, .C = 128, .kept = 128, .padded = 128},
    {"project_swiglu", .T = 65, .C = 130, .kept = 129, .padded = 192, .bias = true},
    {"project_swiglu", .T = 129, .C = 72, .kept = 200, .padded = 256},
    {"project_swiglu", .T = 3, .C = 4096, .kept = 5, .padded = 7, .bias = true},
    {"project_add", .T = 1, .N = 1, .C = 1, .bias = true},
    {"project_add", .T = 5, .N = 0, .C = 16},
    {"project_add", .T = 5, .N = 0, .C = 16, .bias = true},
    {"project_add", .T = 13, .N = 31, .C = 67},
    {"project_add", .T = 65, .N = 130, .C = 259, .bias = true},
    {"project_add", .T = 3, .N = 11008, .C = 5},
    {"rope", .T = 1, .S = 1, .G = 1, .g = 1, .D = 2},
    {"rope", .T = 12, .S = 4, .G = 0, .g = 1, .D = 64},
    {"rope", .T = 30, .S = 10, .G = 3, .g = 3, .D = 64},
    {"rope", .T = 6, .S = 3, .G = 2, .g = 8, .D = 80},
    {"rope", .T = 1000, .S = 1000, .G = 1, .g = 1, .D = 16},
    {"attention", .T = 1, .S = 1, .G = 1, .g = 1, .D = 16},
    {"attention", .T = 6, .S = 1, .G = 2, .g = 3, .D = 64},
    {"attention", .T = 12, .S = 4, .G = 0, .g = 1, .D = 64},
    {"attention", .T = 128, .S = 64, .G = 1, .g = 1, .D = 64},
    {"attention", .T = 195, .S = 65, .G = 3, .g = 3, .D = 64},
    {"attention", .T = 66, .S = 33, .G = 2, .g = 8, .D = 80},
    {"attention", .T = 129, .S = 129, .G = 2, .g = 1, .D = 128},
    {"attention", .T = 40, .S = 40, .G = 1, .g = 71, .D = 7},
    {"attention", .T = 140, .S = 70, .G = 1, .g = 3, .D = 256},
    {"attention", .T = 90, .S = 90, .G = 2, .g = 8, .D = 80, .window = 33},
    {"attention", .T = 200, .S = 100, .G = 2, .g = 3, .D = 16, .window = 1},
    {"attention", .T = 200, .S = 100, .G = 2, .g = 3, .D = 16, .window = 37},
    {"attention", .T = 100, .S = 100, .G = 2, .g = 1, .D = 16, .window = 5000},
    {"attention", .T = 1500, .S = 1500, .G = 1, .g = 1, .D = 16},
    {"attention", .T = 1500, .S = 1500, .G = 1, .g = 2, .D = 16, .window = 300},
    {"swiglu", .T = 1, .kept = 1, .padded = 1},
    {"swiglu", .T = 3, .kept = 0, .padded = 8},
    {"swiglu", .T = 3, .kept = 0, .padded = 0},
    {"swiglu", .T = 9, .kept = 77, .padded = 77},
    {"swiglu", .T = 9, .kept = 77, .padded = 96},
    {"swiglu", .T = 33, .kept = 1537, .padded = 1600},
    {"nll", .T = 1, .k = 1, .C = 8, .V = 1, .slice = 1},
    {"nll", .T = 9, .k = 1, .C = 33, .V = 101, .slice = 1},
    {"nll", .T = 9, .k = 1, .C = 33, .V = 101, .slice = 7},
    {"nll", .T = 64, .k = 1, .C = 64, .V = 1000, .slice = 1000},
    {"nll", .T = 33, .k = 1, .C = 16, .V = 5003, .slice = 2048},
    {"nll", .T = 3, .k = 1, .C = 8, .V = 50257, .slice = 60000},
    {"nll", .T = 5, .k = 1, .C = 8, .V = 50257, .slice = 4096},
    {"nll", .T = 7, .k = 2, .C = 16, .V = 3, .slice = 2},
    {"nll", .T = 33, .k = 5, .C = 33, .V = 1001, .slice = 300},
    {"nll", .T = 17, .k = 64, .C = 24, .V = 100, .slice = 7},
    {"nll", .T = 2, .k = 64, .C = 8, .V = 50257, .slice = 4096},
    {"swap_units", .C = 1, .N = 2, .pairs = 1},
    {"swap_units", .C = 5, .N = 9, .pairs = 0},
    {"swap_units", .C = 5, .N = 9, .pairs = 4},
    {"swap_units", .C = 1153, .N = 64, .pairs = 32},
    {"swap_units", .C = 20011, .N = 5, .pairs = 2},
    {"activation_stats", .T = 1, .N = 1},
    {"activation_stats", .T = 4, .N = 0},
    {"activation_stats", .T = 1000, .N = 7},
    {"activation_stats", .T = 65, .N = 389},
    {"activation_stats", .T = 8192, .N = 5},
    {"gram", .T = 1, .N = 1, .calls = 1},
    {"gram", .T = 5, .N = 0, .calls = 1},
    {"gram", .T = 13, .N = 7, .M = 3, .calls = 3},
    {"gram", .T = 100, .N = 259, .M = 67, .calls = 2},
    {"gram", .T = 65, .N = 33, .M = 301, .calls = 1},
    {"gram", .T = 1027, .N = 65, .M = 5, .calls = 1},
    {"gram", .T = 2500, .N = 17, .calls = 2},
    {"gram", .T = 9, .N = 1100, .M = 2, .calls = 1},
    {"gram", .T = 3, .N = 2, .M = 1, .calls = 1000},
};
const size_t n_op_cases = POL_COUNT(op_cases);

static const op_spec *spec_of(const char *op)
{
    for (size_t i = 0; i < POL_COUNT(specs); i++)
        if (strcmp(specs[i].name, op) == 0)
            return &specs[i];
    fail_msg("no op is called %s", op);
    return NULL;
}

/* On `on`, with weights and activations that `be` can hold. */
static double *run(const op_spec *spec, const op_case *c, pol_backend *on, const pol_backend *be)
{
    rig r = rig_open(on);
    r.weights = be->weight_dtype;
    r.acts = be->act_dtype;
    double *out = calloc((size_t)spec->outputs(c) + 1, sizeof *out);
    assert_non_null(out);
    spec->run(&r, c, out);
    rig_close(&r);
    return out;
}

/* The sizes of a case that are not 0, for a message. */
static const char *case_text(const op_case *c, char *out, size_t size)
{
    const struct {
        const char *name;
        int64_t value;
    } d[] = {{"T", c->T},           {"S", c->S},         {"C", c->C},         {"N", c->N},       {"G", c->G},
             {"g", c->g},           {"D", c->D},         {"V", c->V},         {"kept", c->kept}, {"padded", c->padded},
             {"window", c->window}, {"slice", c->slice}, {"pairs", c->pairs}, {"bias", c->bias}, {"k", c->k},
             {"M", c->M},           {"calls", c->calls}};
    int n = snprintf(out, size, "%s", c->op);
    for (size_t i = 0; i < POL_COUNT(d); i++)
        if (d[i].value)
            n += snprintf(out + n, size - (size_t)n, " %s=%lld", d[i].name, (long long)d[i].value);
    return out;
}

void check_case(const op_case *c, pol_backend *be, pol_backend *reference)
{
    const op_spec *spec = spec_of(c->op);
    const int64_t n = spec->outputs(c);
    const double u = roundoff(be->act_dtype);
    const double own = spec->own * u + cut_off(spec, c, u);
    double *want = run(spec, c, reference, be), *got = run(spec, c, be, be);
    double error = 0, energy = 0, worst = 0;
    for (int64_t i = 0; i < n; i++) {
        const double e = fabs(got[i] - want[i]), beyond = e - own * fabs(want[i]);
        error += e * e;
        energy += want[i] * want[i];
        worst = beyond > worst || isnan(beyond) ? beyond : worst;
    }
    char text[256];
    const double rms = n ? sqrt(energy / (double)n) : 0, nmse = nmse_of(spec, c, u), max = max_of(spec, c, u);
    if (!(error <= nmse * energy && worst <= max * rms))
        fail_msg("%s on %s: NMSE %.3g (at most %.3g), largest error %.3g of the root mean square (at most %.3g)",
                 case_text(c, text, sizeof text), be->info.backend, error / energy, nmse, worst / rms, max);
    free(want);
    free(got);
}
