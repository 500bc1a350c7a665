/* embed, rmsnorm, add_bias, rope and swiglu through the seam, against double as the formulas read. */
#include "tests/cuda/seam.h"

/* The letters of kernels.h; x_off, y_off, w_off: bytes off alignment of what goes by T rows in, of what comes out, and
 * of what all rows share. */
typedef struct shape {
    int64_t T, C, S, G, g, D, kept;
    size_t x_off, y_off, w_off;
} shape;

enum { BF16 = sizeof(cu_bf16), F32 = sizeof(float) };

static float *normal_f32(uint32_t key, int64_t n, double scale)
{
    float *x = malloc((size_t)n * F32 + 1);
    assert_non_null(x);
    pol_normal(1, POL_STREAM_TEST, 0, key, n, x);
    for (int64_t i = 0; i < n; i++)
        x[i] *= (float)scale;
    return x;
}

static void *taken(seam_operand *o)
{
    void *values = malloc(o->bytes + 1);
    assert_non_null(values);
    seam_take(o, values);
    return values;
}

/* Waits for the kernel, and gives what `out` holds; the operands it has read must still hold what they did. */
static void *result(cudaStream_t stream, cudaError_t launched, seam_operand *out)
{
    assert_cuda(launched);
    assert_cuda(cudaStreamSynchronize(stream));
    return taken(out);
}

/* Whether a number within `tol` of `want` rounds to `got`. */
static bool rounds_to(cu_bf16 got, double want, double tol)
{
    const float x = pol_bf16_to_f32(got), low = pol_bf16_to_f32(pol_f32_to_bf16((float)(want - tol))),
                high = pol_bf16_to_f32(pol_f32_to_bf16((float)(want + tol)));
    return isnan(want) ? isnan(x) : low <= x && x <= high;
}

static void fail_at(const char *op, const shape *c, int64_t i, double got, double want)
{
    fail_msg(
        "%s T=%lld C=%lld S=%lld G=%lld g=%lld D=%lld kept=%lld, off by %zu %zu %zu: element %lld is %.9g, not %.9g",
        op, (long long)c->T, (long long)c->C, (long long)c->S, (long long)c->G, (long long)c->g, (long long)c->D,
        (long long)c->kept, c->x_off, c->y_off, c->w_off, (long long)i, got, want);
}

static void check_rounded(const char *op, const shape *c, int64_t i, cu_bf16 got, double want, double tol)
{
    if (!rounds_to(got, want, tol))
        fail_at(op, c, i, pol_bf16_to_f32(got), want);
}

/* embed */

enum { V = 37 };

static float *embed(cudaStream_t stream, const shape *c, const cu_bf16 *table, const int32_t *ids)
{
    seam_operand x = seam_put(NULL, (size_t)(c->T * c->C) * F32, c->x_off),
                 w = seam_put(table, (size_t)(V * c->C) * BF16, c->w_off),
                 i = seam_put(ids, (size_t)c->T * sizeof *ids, 4);
    const cu_embed a = {.x = seam_at(&x), .table = seam_at(&w), .ids = seam_at(&i), .T = c->T, .C = c->C};
    float *got = result(stream, pol_cu_embed(stream, &a), &x);
    seam_take(&w, NULL);
    seam_take(&i, NULL);
    return got;
}

/* Bit for bit, NaN and infinities too. */
static void test_embed(void **state)
{
    static const shape shapes[] = {
        {.T = 1, .C = 1},
        {.T = 7, .C = 33},
        {.T = 130, .C = 8},
        {.T = 50, .C = 576},
        {.T = 3, .C = 2056},
        {.T = 2, .C = 20011},
        {.T = 1, .C = 140000},
        {.T = 9, .C = 64, .x_off = 4},
        {.T = 9, .C = 64, .x_off = 8},
        {.T = 9, .C = 64, .w_off = 2},
        {.T = 9, .C = 64, .w_off = 8},
        {.T = 9, .C = 4, .w_off = 6, .x_off = 12},
        {.T = 300, .C = 12},
    };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const shape *c = &shapes[s];
        sim_seed(s + 1);
        cu_bf16 *table = normal_bf16(1, V * c->C, 1);
        table[0] = 0x7fc1, table[V * c->C - 1] = 0xff80;
        int32_t *ids = malloc((size_t)c->T * sizeof *ids);
        for (int64_t t = 0; t < c->T; t++)
            ids[t] = (int32_t)((t * 29 + V - 1) % V); /* the last row first */
        float *got = embed(*state, c, table, ids);
        for (int64_t i = 0; i < c->T * c->C; i++) {
            const float want = pol_bf16_to_f32(table[ids[i / c->C] * c->C + i % c->C]);
            if (memcmp(&got[i], &want, sizeof want) != 0)
                fail_at("embed", c, i, got[i], want);
        }
        free(got);
        free(ids);
        free(table);
    }
}

/* rmsnorm */

static const float EPS = 1e-5f;

static cu_bf16 *rmsnorm(cudaStream_t stream, const shape *c, const float *x, const float *gain)
{
    seam_operand in = seam_put(x, (size_t)(c->T * c->C) * F32, c->x_off),
                 w = seam_put(gain, (size_t)c->C * F32, c->w_off),
                 y = seam_put(NULL, (size_t)(c->T * c->C) * BF16, c->y_off);
    const cu_rmsnorm a = {.y = seam_at(&y), .x = seam_at(&in), .gain = seam_at(&w), .T = c->T, .C = c->C, .eps = EPS};
    cu_bf16 *got = result(stream, pol_cu_rmsnorm(stream, &a), &y);
    seam_take(&in, NULL);
    seam_take(&w, NULL);
    return got;
}

static void check_rmsnorm(cudaStream_t stream, const shape *c, const float *x, const float *gain)
{
    cu_bf16 *got = rmsnorm(stream, c, x, gain);
    for (int64_t t = 0; t < c->T; t++) {
        double sum = 0;
        for (int64_t i = 0; i < c->C; i++)
            sum += (double)x[t * c->C + i] * x[t * c->C + i];
        for (int64_t i = 0; i < c->C; i++) {
            const double want = x[t * c->C + i] / sqrt(sum / (double)c->C + EPS) * gain[i];
            check_rounded("rmsnorm", c, t * c->C + i, got[t * c->C + i], want, 2e-6 * fabs(want));
        }
    }
    free(got);
}

static void test_rmsnorm(void **state)
{
    static const shape shapes[] = {
        {.T = 1, .C = 1},
        {.T = 1, .C = 4},
        {.T = 5, .C = 17},
        {.T = 67, .C = 576},
        {.T = 2, .C = 4096},
        {.T = 2, .C = 8192},
        {.T = 2, .C = 8196},
        {.T = 1, .C = 20480}, /* beyond what is kept in registers */
        {.T = 2, .C = 2048},
        {.T = 2, .C = 2049},
        {.T = 3, .C = 20011},
        {.T = 4, .C = 132, .x_off = 4},
        {.T = 4, .C = 132, .y_off = 2},
        {.T = 4, .C = 132, .y_off = 8},
        {.T = 4, .C = 132, .w_off = 8},
        {.T = 300, .C = 6},
    };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const shape *c = &shapes[s];
        sim_seed(s + 1);
        float *x = normal_f32(2, c->T * c->C, 0.01), *gain = normal_f32(3, c->C, 1); /* so small that eps shows */
        check_rmsnorm(*state, c, x, gain);
        if (c->T > 1) { /* a row's NaN or infinity is its own */
            x[c->C] = NAN;
            if (c->T > 2)
                x[3 * c->C - 1] = -INFINITY;
            check_rmsnorm(*state, c, x, gain);
        }
        free(x);
        free(gain);
    }
}

/* add_bias */

static const shape bias_shapes[] = {
    {.T = 1, .C = 1},
    {.T = 7, .C = 33},
    {.T = 130, .C = 8},
    {.T = 50, .C = 12},
    {.T = 300, .C = 1},
    {.T = 2, .C = 6152},
    {.T = 1, .C = 20011},
    {.T = 5, .C = 96, .y_off = 4},
    {.T = 5, .C = 96, .y_off = 8},
    {.T = 5, .C = 96, .w_off = 4},
    {.T = 5, .C = 96, .w_off = 8},
};

static void test_add_bias(void **state)
{
    for (size_t s = 0; s < sizeof bias_shapes / sizeof *bias_shapes; s++) {
        const shape *c = &bias_shapes[s];
        sim_seed(s + 1);
        const int64_t n = c->T * c->C;
        float *bias = normal_f32(4, c->C, 3), *x = normal_f32(5, n, 1);
        cu_bf16 *y = normal_bf16(6, n, 1);
        x[n - 1] = NAN, y[n - 1] = 0x7fc0, y[0] = 0xff80; /* -inf */
        seam_operand w = seam_put(bias, (size_t)c->C * F32, c->w_off), in = seam_put(x, (size_t)n * F32, c->y_off);
        cu_add_bias a = {.x = seam_at(&in), .bias = seam_at(&w), .T = c->T, .N = c->C};
        float *got = result(*state, pol_cu_add_bias(*state, &a), &in);
        for (int64_t i = 0; i < n; i++)
            if (i == n - 1 ? !isnan(got[i]) : got[i] != x[i] + bias[i % c->C])
                fail_at("add_bias to f32", c, i, got[i], x[i] + bias[i % c->C]);
        seam_operand narrow = seam_put(y, (size_t)n * BF16, c->y_off / 2);
        a = (cu_add_bias){.y = seam_at(&narrow), .bias = seam_at(&w), .T = c->T, .N = c->C};
        cu_bf16 *rounded = result(*state, pol_cu_add_bias(*state, &a), &narrow);
        for (int64_t i = 0; i < n; i++)
            check_rounded("add_bias to bf16", c, i, rounded[i], pol_bf16_to_f32(y[i]) + bias[i % c->C], 0);
        seam_take(&w, NULL);
        free(rounded);
        free(got);
        free(y);
        free(x);
        free(bias);
    }
}

/* rope */

static cu_bf16 *rope(cudaStream_t stream, const shape *c, const cu_bf16 *qkv, const float *cos_sin)
{
    seam_operand x = seam_put(qkv, (size_t)(c->T * c->G * (c->g + 2) * c->D) * BF16, c->x_off),
                 w = seam_put(cos_sin, (size_t)(c->S * c->D) * F32, c->w_off);
    const cu_rope a = {
        .qkv = seam_at(&x), .cos_sin = seam_at(&w), .T = c->T, .S = c->S, .G = c->G, .g = c->g, .D = c->D};
    cu_bf16 *got = result(stream, pol_cu_rope(stream, &a), &x);
    seam_take(&w, NULL);
    return got;
}

static void check_rope(cudaStream_t stream, const shape *c, const cu_bf16 *qkv, const float *cos_sin)
{
    cu_bf16 *got = rope(stream, c, qkv, cos_sin);
    const int64_t heads = c->g + 2, half = c->D / 2, n = c->T * c->G * heads * c->D;
    for (int64_t i = 0; i < n; i++) {
        const int64_t d = i % c->D, head = i / c->D % heads, t = i / (c->D * heads * c->G);
        if (head == c->g + 1) {
            if (got[i] != qkv[i])
                fail_at("rope, a value", c, i, pol_bf16_to_f32(got[i]), pol_bf16_to_f32(qkv[i]));
            continue;
        }
        const float *table = cos_sin + t % c->S * c->D;
        const double x = pol_bf16_to_f32(qkv[i]), other = pol_bf16_to_f32(qkv[d < half ? i + half : i - half]),
                     cosine = table[d % half], sine = table[half + d % half];
        check_rounded("rope", c, i, got[i], x * cosine + (d < half ? -other : other) * sine,
                      2e-7 * (fabs(x) + fabs(other)));
    }
    free(got);
}

static void test_rope(void **state)
{
    static const shape shapes[] = {
        {.T = 1, .S = 1, .G = 1, .g = 1, .D = 2},
        {.T = 30, .S = 10, .G = 3, .g = 3, .D = 64},
        {.T = 6, .S = 3, .G = 2, .g = 8, .D = 80},
        {.T = 6, .S = 3, .G = 2, .g = 1, .D = 10},
        {.T = 6, .S = 3, .G = 2, .g = 1, .D = 24},
        {.T = 6, .S = 3, .G = 2, .g = 1, .D = 8},
        {.T = 2, .S = 2, .G = 32, .g = 1, .D = 128},
        {.T = 3, .S = 1, .G = 2, .g = 71, .D = 16},
        {.T = 2, .S = 2, .G = 1, .g = 1, .D = 1030},  /* more pairs than a block has threads */
        {.T = 1, .S = 1, .G = 35, .g = 1, .D = 1026}, /* and more heads than blocks */
        {.T = 4, .S = 2, .G = 2, .g = 2, .D = 32, .x_off = 2},
        {.T = 4, .S = 2, .G = 2, .g = 2, .D = 32, .x_off = 8},
        {.T = 4, .S = 2, .G = 2, .g = 2, .D = 32, .w_off = 4},
        {.T = 4, .S = 2, .G = 2, .g = 2, .D = 24, .w_off = 8},
    };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const shape *c = &shapes[s];
        sim_seed(s + 1);
        const int64_t n = c->T * c->G * (c->g + 2) * c->D;
        cu_bf16 *qkv = normal_bf16(7, n, 1);
        float *cos_sin = normal_f32(8, c->S * c->D, 1);
        check_rope(*state, c, qkv, cos_sin);
        qkv[c->D / 2] = 0x7fc0; /* takes the other of its pair along */
        qkv[n - 1] = 0x7fc0;    /* a value's goes nowhere */
        cu_bf16 *got = rope(*state, c, qkv, cos_sin);
        for (int64_t i = 0; i < n; i++)
            assert_int_equal(isnan(pol_bf16_to_f32(got[i])), i == 0 || i == c->D / 2 || i == n - 1);
        free(got);
        free(cos_sin);
        free(qkv);
    }
}

/* swiglu */

static cu_bf16 *swiglu(cudaStream_t stream, const shape *c, const cu_bf16 *gu)
{
    seam_operand x = seam_put(gu, (size_t)(2 * c->T * c->C) * BF16, c->x_off),
                 h = seam_put(NULL, (size_t)(c->T * c->C) * BF16, c->y_off);
    const cu_swiglu a = {.h = seam_at(&h), .gu = seam_at(&x), .T = c->T, .kept = c->kept, .padded = c->C};
    cu_bf16 *got = result(stream, pol_cu_swiglu(stream, &a), &h);
    seam_take(&x, NULL);
    return got;
}

static void check_swiglu(cudaStream_t stream, const shape *c, const cu_bf16 *gu)
{
    cu_bf16 *got = swiglu(stream, c, gu);
    for (int64_t i = 0; i < c->T * c->C; i++) {
        const double gate = pol_bf16_to_f32(gu[2 * i]), up = pol_bf16_to_f32(gu[2 * i + 1]),
                     want = gate / (1 + exp(-gate)) * up;
        if (i % c->C < c->kept)
            check_rounded("swiglu", c, i, got[i], want, 1e-6 * fabs(want) + 1e-36);
        else if (got[i] != 0)
            fail_at("swiglu, beyond what is kept", c, i, pol_bf16_to_f32(got[i]), 0);
    }
    free(got);
}

static void test_swiglu(void **state)
{
    static const shape shapes[] = {
        {.T = 1, .C = 1, .kept = 1},
        {.T = 3, .C = 8},
        {.T = 9, .C = 77, .kept = 77},
        {.T = 9, .C = 96, .kept = 77},
        {.T = 9, .C = 96, .kept = 78},
        {.T = 9, .C = 96, .kept = 79},
        {.T = 9, .C = 96, .kept = 80},
        {.T = 33, .C = 1600, .kept = 1537},
        {.T = 5, .C = 6, .kept = 5},
        {.T = 2, .C = 20011, .kept = 20001},
        {.T = 300, .C = 4, .kept = 3},
        {.T = 4, .C = 64, .kept = 61, .x_off = 2},
        {.T = 4, .C = 64, .kept = 61, .x_off = 8},
        {.T = 4, .C = 64, .kept = 61, .y_off = 2},
        {.T = 4, .C = 64, .kept = 61, .y_off = 4},
        {.T = 4, .C = 64, .kept = 61, .y_off = 8},
    };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const shape *c = &shapes[s];
        sim_seed(s + 1);
        cu_bf16 *gu = normal_bf16(9, 2 * c->T * c->C, 4);
        for (int64_t i = 0; i < c->T * c->C; i++) /* what is removed must not matter */
            if (i % c->C >= c->kept)
                gu[2 * i] = gu[2 * i + 1] = 0x7fc0;
        check_swiglu(*state, c, gu);
        if (c->kept > 4) { /* NaN as gate, as up; a gate of 1e4 and one of -1e4, whose exponential no float holds */
            gu[0] = 0x7fc0, gu[3] = 0x7fc0, gu[4] = pol_f32_to_bf16(1e4f), gu[6] = pol_f32_to_bf16(-1e4f);
            check_swiglu(*state, c, gu);
        }
        free(gu);
    }
}

/* Any order of threads and blocks gives the same bits. */
static void test_orders(void **state)
{
    const shape c = {.T = 6, .C = 2060, .S = 3, .G = 2, .g = 3, .D = 206, .kept = 2055};
    float *x = normal_f32(10, c.T * c.C, 1), *gain = normal_f32(11, c.C, 1);
    cu_bf16 *gu = normal_bf16(12, 2 * c.T * c.C, 1), *first[3] = {NULL};
    for (uint64_t seed = 1; seed <= 4; seed++) {
        sim_seed(seed);
        cu_bf16 *got[] = {rmsnorm(*state, &c, x, gain), rope(*state, &c, gu, x), swiglu(*state, &c, gu)};
        const int64_t n[] = {c.T * c.C, c.T * c.G * (c.g + 2) * c.D, c.T * c.C};
        for (int op = 0; op < 3; op++) {
            if (seed > 1) {
                assert_memory_equal(got[op], first[op], (size_t)n[op] * sizeof **got);
                free(got[op]);
            } else {
                first[op] = got[op];
            }
        }
    }
    for (int op = 0; op < 3; op++)
        free(first[op]);
    free(gu);
    free(gain);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embed), cmocka_unit_test(test_rmsnorm), cmocka_unit_test(test_add_bias),
        cmocka_unit_test(test_rope),  cmocka_unit_test(test_swiglu),  cmocka_unit_test(test_orders),
    };
    return cmocka_run_group_tests(tests, seam_open, seam_close);
}
