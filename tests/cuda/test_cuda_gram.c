/* gram: its kernels through the seam, to the bit; and the op against double sums, in pairs of floats that lose nothing
 * over many calls. */
#include "tests/cuda/profiles.h"
#include "tests/cuda/seam.h"

enum { PARTS = 3 };

/* ---- kernels ---- */

static float part_sum(const cu_bf16 *part, int64_t n, int64_t i)
{
    return pol_bf16_to_f32(part[i]) + (pol_bf16_to_f32(part[i + n]) + pol_bf16_to_f32(part[i + 2 * n]));
}

static cu_bf16 *run_split(cudaStream_t stream, const float *x, int64_t n, size_t off)
{
    const size_t bytes = (size_t)n * PARTS * sizeof(cu_bf16);
    seam_operand in = seam_put(x, (size_t)n * sizeof *x, 4 * off), out = seam_put(NULL, bytes, 2 * off);
    cu_bf16 *got = malloc(bytes);
    assert_cuda(pol_cu_split(stream, &(cu_split){.parts = seam_at(&out), .x = seam_at(&in), .n = n}));
    assert_cuda(cudaStreamSynchronize(stream));
    seam_take(&in, NULL);
    seam_take(&out, got);
    return got;
}

/* Any bits are a float: all exponents, and what is not finite. */
static void test_parts_are_the_float(void **state)
{
    enum { N = 5000 };
    static float x[N];
    uint32_t bits = 1;
    for (int i = 0; i < N; i++, bits = bits * 1664525u + 1013904223u)
        memcpy(&x[i], &bits, sizeof bits);
    const float special[] = {0.0f,           -0.0f,     INFINITY,  -INFINITY,     NAN,        3.4028235e38f,
                             -3.4028235e38f, 0x1p-126f, 0x1p-133f, 0x1.fffffep0f, 16777215.0f};
    const uint32_t low_nan = 0x7f800001u; /* a NaN whose upper half is infinity's */
    memcpy(x, special, sizeof special);
    memcpy(&x[POL_COUNT(special)], &low_nan, sizeof low_nan);
    for (size_t off = 0; off < 2; off++) {
        cu_bf16 *part = run_split(*state, x, N, off);
        for (int64_t i = 0; i < N; i++) {
            const float sum = part_sum(part, N, i);
            if (isfinite(x[i]) ? fabsf(sum - x[i]) >= 0x1p-133f || (fabsf(x[i]) >= 0x1p-109f && sum != x[i])
                : isnan(x[i])  ? !isnan(sum)
                               : sum != x[i])
                fail_msg("%a became %a + %a + %a", x[i], pol_bf16_to_f32(part[i]), pol_bf16_to_f32(part[i + N]),
                         pol_bf16_to_f32(part[i + 2 * N]));
        }
        free(part);
    }
}

typedef struct shape {
    int64_t rows, columns, row;
    size_t off;
} shape;

/* `times` products added to the same pairs, which hold 1 at first. */
static void check_pairs(cudaStream_t stream, const shape *s, int times)
{
    const int64_t n = s->rows * s->columns, all = s->rows * s->row;
    float *pairs = malloc((size_t)(2 * all) * sizeof *pairs), *product = malloc((size_t)n * sizeof *product);
    long double *want = malloc((size_t)n * sizeof *want), *size = malloc((size_t)n * sizeof *size);
    for (int64_t i = 0; i < 2 * all; i++)
        pairs[i] = i % s->row < s->columns ? i < all : NAN; /* the rest is not looked at */
    seam_operand sum = seam_put(pairs, (size_t)(2 * all) * sizeof *pairs, s->off);
    for (int64_t i = 0; i < n; i++)
        want[i] = size[i] = 1;
    for (int t = 0; t < times; t++) {
        pol_normal(1, POL_STREAM_TEST, 0, (uint32_t)t, n, product);
        for (int64_t i = 0; i < n; i++) {
            product[i] *= t % 3 == 1 ? 1e4f : 1e-3f;
            want[i] += product[i];
            size[i] = fmaxl(size[i], fabsl(want[i]));
        }
        seam_operand p = seam_put(product, (size_t)n * sizeof *product, s->off);
        const cu_add_to_pairs k = {.high = seam_at(&sum),
                                   .low = (float *)seam_at(&sum) + all,
                                   .product = seam_at(&p),
                                   .rows = s->rows,
                                   .columns = s->columns,
                                   .row = s->row};
        assert_cuda(pol_cu_add_to_pairs(stream, &k));
        assert_cuda(cudaStreamSynchronize(stream));
        seam_take(&p, NULL);
    }
    seam_take(&sum, pairs);
    for (int64_t i = 0; i < all; i++) {
        const int64_t row = i / s->row, column = i % s->row, at = row * s->columns + column;
        const double got = (double)pairs[i] + pairs[i + all];
        if (column >= s->columns ? !isnan(pairs[i]) || !isnan(pairs[i + all])
                                 : !(fabsl(got - want[at]) <= times * 0x1p-47L * size[at]) || pairs[i] != (float)got)
            fail_msg("%lld x %lld of rows of %lld, off by %zu: element %lld, %lld: %.17g, not %.17Lg",
                     (long long)s->rows, (long long)s->columns, (long long)s->row, s->off, (long long)row,
                     (long long)column, got, column < s->columns ? want[at] : 0);
    }
    free(size);
    free(want);
    free(product);
    free(pairs);
}

static void test_pairs_lose_nothing(void **state)
{
    static const shape shapes[] = {
        {1, 1, 1, 0}, {3, 8, 8, 0},       {5, 8, 12, 0},      {5, 8, 12, 4},
        {2, 7, 9, 0}, {2, 1100, 1100, 0}, {2, 1101, 1101, 8}, {3, 8, 9, 0},
    };
    for (size_t i = 0; i < POL_COUNT(shapes); i++)
        check_pairs(*state, &shapes[i], 12);
    check_pairs(*state, &(shape){1, 4, 4, 0}, 3000);
}

static void test_a_nan_stays_in_its_place(void **state)
{
    float pairs[] = {1, 1, NAN, 1, 0, 0, 0, 0}, product[] = {1, NAN, 1, INFINITY};
    seam_operand sum = seam_put(pairs, sizeof pairs, 0), p = seam_put(product, sizeof product, 0);
    const cu_add_to_pairs k = {.high = seam_at(&sum),
                               .low = (float *)seam_at(&sum) + 4,
                               .product = seam_at(&p),
                               .rows = 1,
                               .columns = 4,
                               .row = 4};
    assert_cuda(pol_cu_add_to_pairs(*state, &k));
    assert_cuda(cudaStreamSynchronize(*state));
    seam_take(&p, NULL);
    seam_take(&sum, pairs);
    assert_true(pairs[0] + pairs[4] == 2);
    for (int i = 1; i < 4; i++)
        assert_false(isfinite(pairs[i] + pairs[i + 4]));
}

/* ---- the op ---- */

typedef struct op {
    pol_context *ctx;
    pol_backend *be;
    int64_t T, N, M;
    pol_gram_args a;
} op;

static pol_view put(op *o, pol_dtype dtype, const float *x, int64_t n)
{
    enum { OFF = 3 };
    pol_view v = {.at = OFF};
    assert_ok(o->ctx, pol_buf_new(o->be, dtype, n + OFF, &v.buf));
    if (x)
        assert_ok(o->ctx, pol_upload(o->be, v.buf, v.at, x, n));
    return v;
}

static op open_op(const test_profile *p, int64_t T, int64_t N, int64_t M, const float *x, const float *y)
{
    op o = {.T = T, .N = N, .M = M, .a = {.T = T, .N = N, .M = M}};
    switch_on(1, 256 << 20);
    assert_int_equal(pol_context_new(NULL, &o.ctx), POL_OK);
    o.be = open_profile(o.ctx, p);
    o.a.x = put(&o, POL_BF16, x, T * N);
    o.a.a = put(&o, POL_F32, NULL, 2 * N * N);
    o.a.scratch = put(&o, POL_F32, NULL, pol_gram_scratch(o.be, T, N, M));
    if (M) {
        o.a.y = put(&o, POL_F32, y, T * M);
        o.a.b = put(&o, POL_F32, NULL, 2 * N * M);
    }
    return o;
}

static void close_op(op *o)
{
    const pol_view all[] = {o->a.x, o->a.a, o->a.scratch, o->a.y, o->a.b};
    for (size_t i = 0; i < POL_COUNT(all); i++)
        pol_buf_free(o->be, all[i].buf);
    pol_backend_close(o->be);
    assert_clean();
    pol_context_free(o->ctx);
}

/* The sum's n values; yours: free(). */
static double *read_pairs(op *o, pol_view v, int64_t n)
{
    float *pairs = malloc((size_t)(2 * n) * sizeof *pairs);
    double *out = malloc((size_t)n * sizeof *out);
    assert_ok(o->ctx, pol_download(o->be, v.buf, v.at, pairs, 2 * n));
    for (int64_t i = 0; i < n; i++)
        out[i] = (double)pairs[i] + pairs[n + i];
    free(pairs);
    return out;
}

/* Numbers that bf16 has. */
static float *some_x(uint32_t key, int64_t n)
{
    cu_bf16 *half = normal_bf16(key, n, 1);
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = pol_bf16_to_f32(half[i]);
    free(half);
    return x;
}

/* Sums of f32 products of 1,024 rows, where matrix units cut off: within 2^-24 of the sum of magnitudes for each 8. */
static void check_sums(const char *what, const double *got, const float *x, const float *y, int64_t T, int64_t N,
                       int64_t M, bool triangle, int calls)
{
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j < (triangle ? i + 1 : M); j++) {
            double sum = 0, size = 0;
            for (int64_t t = 0; t < T; t++) {
                const double p = (double)x[t * N + i] * y[t * M + j];
                sum += calls * p;
                size += calls * fabs(p);
            }
            if (!(fabs(got[i * M + j] - sum) <= 1.5e-5 * size))
                fail_msg("%s, T=%lld N=%lld M=%lld: element %lld, %lld: %.9g, not %.9g", what, (long long)T,
                         (long long)N, (long long)M, (long long)i, (long long)j, got[i * M + j], sum);
        }
}

static void test_sums(void **state)
{
    static const struct {
        int64_t T, N, M;
    } cases[] = {{1, 1, 1}, {7, 5, 3}, {64, 33, 0}, {1025, 9, 20}, {2100, 17, 2}, {40, 515, 3}, {20, 1030, 0}};
    (void)state;
    for (size_t p = 0; p < 2; p++)
        for (size_t i = 0; i < POL_COUNT(cases); i++) {
            const int64_t T = cases[i].T, N = cases[i].N, M = cases[i].M;
            float *x = some_x(1, T * N), *y = malloc((size_t)(T * M + 1) * sizeof *y);
            pol_normal(1, POL_STREAM_TEST, 0, 2, T * M, y);
            op o = open_op(&test_profiles[p], T, N, M, x, y);
            for (int call = 0; call < 2; call++)
                assert_ok(o.ctx, pol_gram(o.be, &o.a));
            double *a = read_pairs(&o, o.a.a, N * N);
            check_sums("a", a, x, x, T, N, N, true, 2);
            if (M) {
                double *b = read_pairs(&o, o.a.b, N * M);
                check_sums("b", b, x, y, T, N, M, false, 2);
                free(b);
            }
            free(a);
            close_op(&o);
            free(y);
            free(x);
        }
}

/* Each column of x picks one row of y: x^T y is that row, all 24 bits of it. Twice 3 calls make 6 times as much. */
static void test_all_bits_of_y_count(void **state)
{
    enum { T = 1100, N = 40, M = 5, CALLS = 3 };
    static float x[T * N], y[T * M];
    (void)state;
    pol_normal(1, POL_STREAM_TEST, 0, 3, T * M, y);
    for (int n = 0; n < N; n++)
        x[(n * 27 + 5) * N + n] = 2;
    op o = open_op(&test_profiles[0], T, N, M, x, y);
    for (int call = 0; call < CALLS; call++)
        assert_ok(o.ctx, pol_gram(o.be, &o.a));
    double *b = read_pairs(&o, o.a.b, N * M);
    for (int i = 0; i < N * M; i++)
        assert_true(b[i] == 2.0 * CALLS * y[(i / M * 27 + 5) * M + i % M]);
    free(b);
    close_op(&o);
}

/* Whole numbers, whose sums have more digits than a float: each row counts once, call after call. */
static void test_counting(void **state)
{
    enum { T = 1030, N = 12, CALLS = 70 };
    static float x[T * N];
    (void)state;
    for (int i = 0; i < T * N; i++)
        x[i] = (float)((i / N + 3 * (i % N)) % 101 + 1);
    op o = open_op(&test_profiles[0], T, N, 0, x, NULL);
    for (int call = 0; call < CALLS; call++)
        assert_ok(o.ctx, pol_gram(o.be, &o.a));
    double *a = read_pairs(&o, o.a.a, N * N);
    for (int i = 0; i < N; i++)
        for (int j = 0; j <= i; j++) {
            int64_t sum = 0;
            for (int t = 0; t < T; t++)
                sum += (int64_t)x[t * N + i] * (int64_t)x[t * N + j];
            assert_true(sum * CALLS > 1 << 24);
            assert_true(a[i * N + j] == (double)(sum * CALLS));
        }
    free(a);
    close_op(&o);
}

/* What serves a larger call serves a smaller one. */
static void test_scratch_does_not_fall(void **state)
{
    static const int64_t sizes[] = {1, 2, 31, 64, 511, 512, 513, 1024, 1025, 11008, INT64_MAX / 2, INT64_MAX};
    (void)state;
    op o = open_op(&test_profiles[0], 1, 1, 1, (float[]){1}, (float[]){1});
    for (size_t i = 0; i < POL_COUNT(sizes); i++)
        for (size_t j = 1; j < POL_COUNT(sizes); j++) {
            const int64_t at = sizes[i], less = sizes[j - 1], more = sizes[j];
            assert_true(pol_gram_scratch(o.be, less, at, at) <= pol_gram_scratch(o.be, more, at, at));
            assert_true(pol_gram_scratch(o.be, at, less, at) <= pol_gram_scratch(o.be, at, more, at));
            assert_true(pol_gram_scratch(o.be, at, at, less) <= pol_gram_scratch(o.be, at, at, more));
        }
    close_op(&o);
}

int main(void)
{
    const struct CMUnitTest kernels[] = {
        cmocka_unit_test(test_parts_are_the_float),
        cmocka_unit_test(test_pairs_lose_nothing),
        cmocka_unit_test(test_a_nan_stays_in_its_place),
    };
    const struct CMUnitTest ops[] = {
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_all_bits_of_y_count),
        cmocka_unit_test(test_counting),
        cmocka_unit_test(test_scratch_does_not_fall),
    };
    return cmocka_run_group_tests(kernels, seam_open, seam_close) + cmocka_run_group_tests(ops, NULL, NULL);
}
