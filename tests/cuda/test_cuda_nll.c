/* nll through the seam, slice by slice, against double sums over the whole row. */
#include "tests/cuda/seam.h"

/* Logits in slices of these lengths one after the other, k targets a token (0: one). off: bytes off alignment. */
typedef struct shape {
    int64_t T, slices[6], k;
    double scale;
    size_t off;
} shape;

static int64_t targets_of(const shape *c) { return c->k ? c->k : 1; }

static int64_t vocabulary(const shape *c)
{
    int64_t V = 0;
    for (int i = 0; c->slices[i]; i++)
        V += c->slices[i];
    return V;
}

/* What comes out of all slices; yours: free(). */
static float *run(cudaStream_t stream, const shape *c, const float *logits, const int32_t *target)
{
    const int64_t V = vocabulary(c), k = targets_of(c);
    const size_t T = (size_t)c->T, all = T * (size_t)k;
    seam_operand nll = seam_put(NULL, all * sizeof(float), 4), kept = seam_put(NULL, 2 * T * sizeof(float), 4),
                 ids = seam_put(target, all * sizeof *target, 4);
    cu_nll a = {.nll = seam_at(&nll), .kept = seam_at(&kept), .target = seam_at(&ids), .T = c->T, .k = k};
    float *slice = malloc(T * (size_t)V * sizeof *slice), *out = malloc(all * sizeof *out);
    assert_true(slice && out);
    for (int i = 0; c->slices[i]; a.first += c->slices[i++]) {
        a.n = c->slices[i];
        a.last = !c->slices[i + 1];
        for (int64_t t = 0; t < c->T; t++)
            memcpy(slice + t * a.n, logits + t * V + a.first, (size_t)a.n * sizeof *slice);
        seam_operand in = seam_put(slice, T * (size_t)a.n * sizeof *slice, c->off);
        a.logits = seam_at(&in);
        assert_cuda(pol_cu_nll(stream, &a));
        assert_cuda(cudaStreamSynchronize(stream));
        seam_take(&in, NULL);
    }
    seam_take(&nll, out);
    seam_take(&kept, NULL);
    seam_take(&ids, NULL);
    free(slice);
    return out;
}

static double expected(const float *logit, int64_t V, int32_t target, double *largest)
{
    double most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < V; i++)
        most = fmax(most, logit[i]);
    for (int64_t i = 0; i < V; i++)
        sum += exp(logit[i] - most);
    *largest = most;
    return target < 0 ? 0 : most + log(sum) - logit[target];
}

static void check(cudaStream_t stream, const shape *c, const float *logits, const int32_t *target)
{
    const int64_t V = vocabulary(c), k = targets_of(c);
    float *got = run(stream, c, logits, target);
    for (int64_t i = 0; i < c->T * k; i++) {
        double largest;
        const double want = expected(logits + i / k * V, V, target[i], &largest);
        const bool same = isnan(want)   ? isnan(got[i])
                          : isinf(want) ? got[i] == (float)want
                                        : fabs(got[i] - want) <= 1e-6 * (1 + fabs(want)) + 1e-7 * fabs(largest);
        if (!same || (target[i] < 0 && got[i] != 0))
            fail_msg("T=%lld V=%lld, slices of %lld, off by %zu: token %lld, target %lld of %lld, %d: %.9g, not %.9g",
                     (long long)c->T, (long long)V, (long long)c->slices[0], c->off, (long long)(i / k),
                     (long long)(i % k), (long long)k, target[i], got[i], want);
    }
    free(got);
}

static float *normal_logits(const shape *c)
{
    const int64_t n = c->T * vocabulary(c);
    float *x = malloc((size_t)n * sizeof *x);
    assert_non_null(x);
    pol_normal(1, POL_STREAM_TEST, 0, 1, n, x);
    for (int64_t i = 0; i < n; i++)
        x[i] *= (float)c->scale;
    return x;
}

/* Targets in all slices, their ends too, and some that are not scored. */
static int32_t *some_targets(const shape *c)
{
    const int64_t V = vocabulary(c), n = c->T * targets_of(c);
    int32_t *target = malloc((size_t)n * sizeof *target);
    assert_non_null(target);
    for (int64_t i = 0; i < n; i++)
        target[i] = (int32_t)(i % 7 == 6   ? -1
                              : i % 7 == 5 ? V - 1
                              : i % 7 == 4 ? 0
                              : i % 7 == 3 ? c->slices[0] - 1
                              : i % 7 == 2 ? c->slices[0] % V
                                           : i * 7919 % V);
    return target;
}

static const shape shapes[] = {
    {.T = 1, .slices = {1}, .scale = 3},
    {.T = 9, .slices = {1, 1, 1, 1, 1}, .scale = 3},
    {.T = 14, .slices = {7, 7, 3}, .scale = 3},
    {.T = 15, .slices = {64, 64, 64, 64}, .scale = 3},
    {.T = 16, .slices = {1001}, .scale = 3}, /* rows at every alignment */
    {.T = 14, .slices = {1002, 1003, 5, 1004}, .scale = 3, .off = 4},
    {.T = 7, .slices = {1024}, .scale = 3, .off = 8},
    {.T = 7, .slices = {2, 3, 2}, .scale = 1, .off = 12},
    {.T = 7, .slices = {6000, 4096, 2053}, .scale = 10, .off = 12},
    {.T = 7, .slices = {3600, 7000}, .scale = 3}, /* not as many words as a thread loads ahead */
    {.T = 3, .slices = {50257}, .scale = 3},
    {.T = 200, .slices = {12, 13}, .scale = 3},
    {.T = 14, .slices = {500, 500}, .scale = 1e4}, /* no float holds their exponentials */
    {.T = 14, .slices = {500, 500}, .scale = 0},
    {.T = 5, .slices = {7, 7, 3}, .k = 3, .scale = 3},
    {.T = 9, .slices = {401, 402}, .k = 64, .scale = 3, .off = 4},
    {.T = 3, .slices = {1}, .k = 64, .scale = 3},
    {.T = 2, .slices = {90, 90, 90}, .k = 300, .scale = 3}, /* more than a block has threads */
};

static void test_shapes(void **state)
{
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        sim_seed(s + 1);
        float *logits = normal_logits(&shapes[s]);
        int32_t *target = some_targets(&shapes[s]);
        check(*state, &shapes[s], logits, target);
        free(target);
        free(logits);
    }
}

/* Rising and falling logits: the largest so far changes all the time, or never. */
static void test_slopes(void **state)
{
    const shape c = {.T = 2, .slices = {4096, 4096, 1500}};
    const int64_t V = vocabulary(&c);
    float *logits = malloc((size_t)(2 * V) * sizeof *logits);
    for (int64_t i = 0; i < V; i++)
        logits[i] = 0.25f * (float)i, logits[V + i] = -0.25f * (float)i;
    const int32_t target[] = {(int32_t)V - 3, 2};
    check(*state, &c, logits, target);
    free(logits);
}

/* -inf in `count` logits of a row from `from` on. */
static void no_share(float *row, int64_t from, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        row[from + i] = -INFINITY;
}

static void test_infinities(void **state)
{
    const shape c = {.T = 8, .slices = {600, 500, 401}, .scale = 3};
    const int64_t V = vocabulary(&c);
    float *logits = normal_logits(&c);
    const int32_t target[] = {700, 700, 700, 1, 700, 700, 700, 1500};
    no_share(logits, 3, 200);
    no_share(logits + V, 0, 600);        /* the whole first slice */
    no_share(logits + 2 * V, 1100, 401); /* the whole last one */
    no_share(logits + 3 * V, 600, 500);
    no_share(logits + 4 * V, 0, V);   /* nothing at all: NaN */
    no_share(logits + 5 * V, 700, 1); /* the target: +inf */
    logits[6 * V + 5] = INFINITY;     /* NaN */
    logits[7 * V + 1500] = INFINITY;
    check(*state, &c, logits, target);
    free(logits);
}

/* Wherever it is, a NaN makes its token's nll NaN, and no other's. */
static void test_nan(void **state)
{
    static const int64_t places[] = {0, 1, 3, 4, 511, 599, 600, 601, 1000, 1100};
    const shape c = {.T = 3, .slices = {600, 500, 1}, .scale = 3};
    const int64_t V = vocabulary(&c);
    const int32_t target[] = {20, 21, -1};
    for (size_t p = 0; p < sizeof places / sizeof *places; p++) {
        float *logits = normal_logits(&c);
        logits[V + places[p]] = NAN;
        logits[2 * V + places[p]] = NAN; /* not scored: 0 nevertheless */
        check(*state, &c, logits, target);
        free(logits);
    }
    float *logits = normal_logits(&c);
    for (int64_t i = 0; i < V; i++)
        logits[i] = NAN, logits[V + i] = i < 600 ? NAN : 1.0f;
    check(*state, &c, logits, target);
    free(logits);
}

/* Any order of threads and blocks gives the same bits. */
static void test_orders(void **state)
{
    const shape c = {.T = 5, .slices = {1999, 1024}, .k = 40, .scale = 2, .off = 4};
    float *logits = normal_logits(&c), *first = NULL;
    int32_t *target = some_targets(&c);
    for (uint64_t seed = 1; seed <= 5; seed++) {
        sim_seed(seed);
        float *got = run(*state, &c, logits, target);
        if (first)
            assert_memory_equal(got, first, (size_t)(c.T * c.k) * sizeof *got);
        free(first);
        first = got;
    }
    free(first);
    free(target);
    free(logits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes), cmocka_unit_test(test_slopes), cmocka_unit_test(test_infinities),
        cmocka_unit_test(test_nan),    cmocka_unit_test(test_orders),
    };
    return cmocka_run_group_tests(tests, seam_open, seam_close);
}
