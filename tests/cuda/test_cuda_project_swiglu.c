/* project_swiglu through the seam, against double sums as the formula reads. */
#include "tests/cuda/seam.h"

typedef struct shape {
    int64_t T, kept, padded, C;
    bool bias;
    size_t x_off, w_off, h_off; /* bytes off alignment */
} shape;

typedef struct operands {
    cu_bf16 *x, *w;
    float *bias;
} operands;

static operands make(const shape *c)
{
    operands o = {.x = normal_bf16(1, c->T * c->C, 1),
                  .w = normal_bf16(2, 2 * c->padded * c->C, 1 / sqrt((double)c->C))};
    o.bias = malloc((size_t)(2 * c->padded) * sizeof *o.bias);
    assert_non_null(o.bias);
    pol_normal(1, POL_STREAM_TEST, 0, 3, 2 * c->padded, o.bias);
    /* Rows that the mask has removed hold weights like others; what is in them must not matter. */
    for (int64_t i = 2 * c->kept * c->C; i < 2 * c->padded * c->C; i++)
        o.w[i] = 0x7fc0;
    for (int64_t i = 2 * c->kept; i < 2 * c->padded; i++)
        o.bias[i] = NAN;
    return o;
}

static void drop(operands *o)
{
    free(o->x);
    free(o->w);
    free(o->bias);
}

/* x w^T [row] of token t, plus bias. */
static double product(const shape *c, const operands *o, int64_t t, int64_t row)
{
    double sum = c->bias ? o->bias[row] : 0;
    for (int64_t i = 0; i < c->C; i++)
        sum += (double)pol_bf16_to_f32(o->x[t * c->C + i]) * pol_bf16_to_f32(o->w[row * c->C + i]);
    return sum;
}

/* What the device makes of it; yours: free(). */
static cu_bf16 *run(cudaStream_t stream, const shape *c, const operands *o)
{
    seam_operand x = seam_put(o->x, (size_t)(c->T * c->C) * sizeof *o->x, c->x_off);
    seam_operand w = seam_put(o->w, (size_t)(2 * c->padded * c->C) * sizeof *o->w, c->w_off);
    seam_operand bias = seam_put(o->bias, (size_t)(2 * c->padded) * sizeof *o->bias, 4);
    seam_operand h = seam_put(NULL, (size_t)(c->T * c->padded) * sizeof *o->x, c->h_off);
    const cu_project_swiglu a = {.h = seam_at(&h),
                                 .x = seam_at(&x),
                                 .w = seam_at(&w),
                                 .bias = c->bias ? seam_at(&bias) : NULL,
                                 .T = c->T,
                                 .kept = c->kept,
                                 .padded = c->padded,
                                 .C = c->C};
    assert_cuda(pol_cu_project_swiglu(stream, &a));
    assert_cuda(cudaStreamSynchronize(stream));
    cu_bf16 *got = malloc(h.bytes);
    assert_non_null(got);
    seam_take(&x, NULL);
    seam_take(&w, NULL);
    seam_take(&bias, NULL);
    seam_take(&h, got);
    return got;
}

static bool swiglu_near(double got, double gate, double up, double tol)
{
    const double want = gate / (1 + exp(-gate)) * up;
    return fabs(got - want) <= 0x1p-8 * fabs(want) + tol;
}

/* h is rounded to bf16, to 2^-8 of itself at most; f32 sums of C products of a mean square of 1/C err by far less. */
static void check(const shape *c, const operands *o, const cu_bf16 *got)
{
    for (int64_t t = 0; t < c->T; t++)
        for (int64_t i = 0; i < c->padded; i++) {
            const double h = pol_bf16_to_f32(got[t * c->padded + i]);
            if (i < c->kept ? !swiglu_near(h, product(c, o, t, 2 * i), product(c, o, t, 2 * i + 1), 2e-5)
                            : got[t * c->padded + i] != 0)
                fail_msg("T=%d kept=%d padded=%d C=%d: channel %lld of token %lld is %.6g", (int)c->T, (int)c->kept,
                         (int)c->padded, (int)c->C, (long long)i, (long long)t, h);
        }
}

static void test_shapes(void **state)
{
    static const shape shapes[] = {
        {.T = 1, .kept = 1, .padded = 1, .C = 1, .bias = true},
        {.T = 3, .kept = 0, .padded = 8, .C = 16},
        {.T = 9, .kept = 77, .padded = 77, .C = 24},
        {.T = 9, .kept = 77, .padded = 96, .C = 33, .bias = true},
        {.T = 64, .kept = 64, .padded = 64, .C = 32},
        {.T = 65, .kept = 65, .padded = 128, .C = 96, .bias = true},
        {.T = 130, .kept = 60, .padded = 64, .C = 72},
        {.T = 17, .kept = 64, .padded = 192, .C = 161}, /* whole blocks of nothing but zeros */
        {.T = 2, .kept = 5, .padded = 64, .C = 1000},
        {.T = 33, .kept = 20, .padded = 20, .C = 64, .x_off = 2},
        {.T = 33, .kept = 20, .padded = 20, .C = 64, .w_off = 8},
        {.T = 33, .kept = 20, .padded = 20, .C = 64, .h_off = 2},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        operands o = make(&shapes[i]);
        cu_bf16 *got = run(*state, &shapes[i], &o);
        check(&shapes[i], &o, got);
        free(got);
        drop(&o);
    }
}

/* A token's NaN is its own. */
static void test_nan(void **state)
{
    const shape c = {.T = 20, .kept = 10, .padded = 16, .C = 40};
    operands o = make(&c);
    cu_bf16 *clean = run(*state, &c, &o);
    o.x[7 * c.C + 39] = 0x7fc0;
    cu_bf16 *got = run(*state, &c, &o);
    for (int64_t i = 0; i < c.T * c.padded; i++)
        if (i / c.padded == 7 && i % c.padded < c.kept)
            assert_true(isnan(pol_bf16_to_f32(got[i])));
        else
            assert_int_equal(got[i], clean[i]);
    free(got);
    free(clean);
    drop(&o);
}

/* Any order of threads and blocks gives the same bits. */
static void test_orders(void **state)
{
    const shape c = {.T = 70, .kept = 70, .padded = 80, .C = 136, .bias = true};
    operands o = make(&c);
    cu_bf16 *first = run(*state, &c, &o);
    for (uint64_t seed = 2; seed <= 4; seed++) {
        sim_seed(seed);
        cu_bf16 *got = run(*state, &c, &o);
        assert_memory_equal(got, first, (size_t)(c.T * c.padded) * sizeof *got);
        free(got);
    }
    free(first);
    drop(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_nan),
        cmocka_unit_test(test_orders),
    };
    return cmocka_run_group_tests(tests, seam_open, seam_close);
}
