/* activation_stats through the seam, against double sums. */
#include "tests/cuda/seam.h"

/* off: bytes off alignment. */
typedef struct shape {
    int64_t T, N;
    size_t off;
} shape;

typedef struct stats {
    float *sum, *sumsq;
} stats;

static stats run(cudaStream_t stream, const shape *c, const cu_bf16 *x)
{
    const size_t bytes = (size_t)c->N * sizeof(float);
    seam_operand in = seam_put(x, (size_t)(c->T * c->N) * sizeof *x, c->off), sum = seam_put(NULL, bytes, 4),
                 sumsq = seam_put(NULL, bytes, 4);
    const cu_activation_stats a = {
        .sum = seam_at(&sum), .sumsq = seam_at(&sumsq), .x = seam_at(&in), .T = c->T, .N = c->N};
    assert_cuda(pol_cu_activation_stats(stream, &a));
    assert_cuda(cudaStreamSynchronize(stream));
    stats got = {malloc(bytes), malloc(bytes)};
    assert_true(got.sum && got.sumsq);
    seam_take(&in, NULL);
    seam_take(&sum, got.sum);
    seam_take(&sumsq, got.sumsq);
    return got;
}

static void drop(stats *s)
{
    free(s->sum);
    free(s->sumsq);
}

/* A thread adds up some hundred numbers in f32, one after the other, of a mean square of 4. */
static void check(cudaStream_t stream, const shape *c, const cu_bf16 *x)
{
    stats got = run(stream, c, x);
    for (int64_t n = 0; n < c->N; n++) {
        double sum = 0, size = 0, sumsq = 0;
        for (int64_t t = 0; t < c->T; t++) {
            const double v = pol_bf16_to_f32(x[t * c->N + n]);
            sum += v;
            size += fabs(v);
            sumsq += v * v;
        }
        const bool same = isnan(sum)
                              ? isnan(got.sum[n]) && isnan(got.sumsq[n])
                              : fabs(got.sum[n] - sum) <= 2e-6 * size && fabs(got.sumsq[n] - sumsq) <= 4e-6 * sumsq;
        if (!same)
            fail_msg("T=%lld N=%lld, off by %zu: column %lld: %.9g and %.9g, not %.9g and %.9g", (long long)c->T,
                     (long long)c->N, c->off, (long long)n, got.sum[n], got.sumsq[n], sum, sumsq);
    }
    drop(&got);
}

static void test_shapes(void **state)
{
    static const shape shapes[] = {
        {.T = 1, .N = 1},
        {.T = 300, .N = 4},
        {.T = 65, .N = 12},
        {.T = 100000, .N = 1},
        {.T = 1000, .N = 7},
        {.T = 3, .N = 8},
        {.T = 129, .N = 16},
        {.T = 257, .N = 24},
        {.T = 64, .N = 32},
        {.T = 65, .N = 40},
        {.T = 65, .N = 389},
        {.T = 2, .N = 33},
        {.T = 4096, .N = 5},
        {.T = 5, .N = 14336},
        {.T = 1000, .N = 576},
        {.T = 70, .N = 64, .off = 2},
        {.T = 70, .N = 64, .off = 8},
        {.T = 70, .N = 2, .off = 14},
    };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        sim_seed(s + 1);
        cu_bf16 *x = normal_bf16(1, shapes[s].T * shapes[s].N, 2);
        check(*state, &shapes[s], x);
        x[shapes[s].T * shapes[s].N - 1] = 0x7fc0; /* a column's NaN is its own */
        check(*state, &shapes[s], x);
        free(x);
    }
}

/* Small whole numbers, whose sums are exact: each row counts once, in its column. */
static void test_counting(void **state)
{
    static const shape shapes[] = {{.T = 517, .N = 8}, {.T = 517, .N = 72}, {.T = 517, .N = 3}, {.T = 517, .N = 37}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const shape *c = &shapes[s];
        cu_bf16 *x = malloc((size_t)(c->T * c->N) * sizeof *x);
        assert_non_null(x);
        for (int64_t i = 0; i < c->T * c->N; i++)
            x[i] = pol_f32_to_bf16((float)((i / c->N + 3 * (i % c->N)) % 17 - 8));
        stats got = run(*state, c, x);
        for (int64_t n = 0; n < c->N; n++) {
            int64_t sum = 0, sumsq = 0;
            for (int64_t t = 0; t < c->T; t++) {
                const int64_t v = (t + 3 * n) % 17 - 8;
                sum += v;
                sumsq += v * v;
            }
            assert_true(got.sum[n] == (float)sum);
            assert_true(got.sumsq[n] == (float)sumsq);
        }
        drop(&got);
        free(x);
    }
}

/* Any order of threads and blocks gives the same bits. */
static void test_orders(void **state)
{
    static const shape shapes[] = {{.T = 1000, .N = 72}, {.T = 1000, .N = 5}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const size_t bytes = (size_t)shapes[s].N * sizeof(float);
        cu_bf16 *x = normal_bf16(1, shapes[s].T * shapes[s].N, 2);
        stats first = run(*state, &shapes[s], x);
        for (uint64_t seed = 2; seed <= 5; seed++) {
            sim_seed(seed);
            stats got = run(*state, &shapes[s], x);
            assert_memory_equal(got.sum, first.sum, bytes);
            assert_memory_equal(got.sumsq, first.sumsq, bytes);
            drop(&got);
        }
        drop(&first);
        free(x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_counting),
        cmocka_unit_test(test_orders),
    };
    return cmocka_run_group_tests(tests, seam_open, seam_close);
}
