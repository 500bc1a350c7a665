/* solve_spd and obs_sweep of more rows than a triangle has, beside the host's own; what they take of the device; and
 * that any order in which the device does things gives the same bits. */
#include <math.h>

#include "core/base/rng.h"
#include "tests/cuda/profiles.h"

enum { MEMORY = 64 << 20 };

static pol_context *ctx;
static pol_backend *host, *device;

/* A matrix of moments of 2 N tokens, NaN above the diagonal, and weights. */
typedef struct problem {
    int64_t n_units, unit, N, C;
    double *h;
    float *w;
} problem;

static problem make(int64_t n_units, int64_t unit, int64_t C)
{
    problem p = {n_units, unit, n_units * unit, C, NULL, NULL};
    const int64_t N = p.N, tokens = 2 * N;
    float *x = malloc((size_t)(tokens * N) * sizeof *x);
    p.h = malloc((size_t)(N * N) * sizeof *p.h);
    p.w = malloc((size_t)(N * C) * sizeof *p.w);
    pol_normal(1, POL_STREAM_TEST, 0, 1, tokens * N, x);
    pol_normal(1, POL_STREAM_TEST, 0, 2, N * C, p.w);
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = N - 1; i > 0; i--)
            x[t * N + i] += 0.6f * x[t * N + i - 1] + 0.2f * x[t * N];
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j < N; j++) {
            double sum = 0;
            for (int64_t t = 0; t < tokens && j <= i; t++)
                sum += (double)x[t * N + i] * x[t * N + j];
            p.h[i * N + j] = j <= i ? sum / (double)tokens : NAN;
        }
    free(x);
    return p;
}

static void drop(problem *p)
{
    free(p->h);
    free(p->w);
}

/* All that comes of a sweep, in one block. */
typedef struct answer {
    int32_t *order;
    double *error, *loss, condition;
    int64_t level[3];
    float *rows[3];
} answer;

static answer sweep(pol_backend *be, const problem *p, int64_t block, bool ordered, const int32_t *order)
{
    const size_t n = (size_t)p->n_units;
    answer a = {.level = {1, p->n_units / 2, p->n_units}};
    a.order = calloc(n, sizeof *a.order);
    a.error = calloc(n, sizeof *a.error);
    a.loss = calloc(n + 1, sizeof *a.loss);
    for (int l = 0; l < 3; l++)
        a.rows[l] = calloc((size_t)(a.level[l] * p->unit * p->C), sizeof *a.rows[l]);
    if (ordered)
        memcpy(a.order, order, n * sizeof *order);
    pol_obs_sweep_args args = {.n_units = p->n_units,
                               .unit = p->unit,
                               .C = p->C,
                               .block = block,
                               .damping = 0.01,
                               .h = p->h,
                               .w = p->w,
                               .ordered = ordered,
                               .order = a.order,
                               .error = a.error,
                               .loss = a.loss,
                               .n_levels = 3,
                               .level = a.level,
                               .rows = a.rows};
    assert_ok(ctx, pol_obs_sweep(be, &args));
    a.condition = args.condition;
    return a;
}

static void drop_answer(answer *a)
{
    free(a->order);
    free(a->error);
    free(a->loss);
    for (int l = 0; l < 3; l++)
        free(a->rows[l]);
}

static void assert_close(const char *what, int64_t i, double got, double want, double size)
{
    if (!(fabs(got - want) <= 1e-8 * size))
        fail_msg("%s %lld: %.12g, the host has %.12g", what, (long long)i, got, want);
}

static void check_sweep(int64_t n_units, int64_t unit, int64_t C, int64_t block)
{
    problem p = make(n_units, unit, C);
    answer want = sweep(host, &p, block, false, NULL), got = sweep(device, &p, block, false, NULL);
    assert_memory_equal(got.order, want.order, (size_t)n_units * sizeof *want.order);
    for (int given = 0; given < 2; given++) {
        for (int64_t i = 0; i <= n_units; i++)
            assert_close("loss", i, got.loss[i], want.loss[i], want.loss[0]);
        for (int64_t i = 0; i < n_units; i++)
            assert_close("error", i, got.error[i], given ? 0 : want.error[i], want.error[i]);
        for (int l = 0; l < 3; l++)
            for (int64_t i = 0; i < want.level[l] * unit * C; i++)
                assert_close("element", i, got.rows[l][i], want.rows[l][i], 10 + fabs((double)want.rows[l][i]) * 6);
        if (!(got.condition >= want.condition / 3 && got.condition <= 3 * want.condition))
            fail_msg("a condition of %g, the host says %g", got.condition, want.condition);
        drop_answer(&got);
        got = sweep(device, &p, 1, true, want.order);
    }
    drop_answer(&got);
    drop_answer(&want);
    drop(&p);
}

/* Triangles and what lies beside them, blocks of units that are larger than a triangle, inverses of more rows than are
 * squared whole. */
static void the_sweep_is_the_hosts(void **state)
{
    (void)state;
    check_sweep(33, 1, 3, 4);
    check_sweep(129, 1, 20, 40);
    check_sweep(300, 1, 5, 24);
    check_sweep(5, 40, 70, 1);
    check_sweep(6, 33, 3, 2);
    check_sweep(4, 2, 100, 1); /* more columns than rows */
}

static void the_solution_is_the_hosts(void **state)
{
    static const struct {
        int64_t N, M;
    } cases[] = {{1, 1}, {32, 2}, {33, 1}, {97, 70}, {310, 3}};
    (void)state;
    for (size_t s = 0; s < POL_COUNT(cases); s++) {
        const int64_t N = cases[s].N, M = cases[s].M;
        problem p = make(N, 1, M);
        double *a[2], *b[2], condition[2];
        for (int on = 0; on < 2; on++) {
            a[on] = malloc((size_t)(N * N) * sizeof **a);
            b[on] = malloc((size_t)(N * M) * sizeof **b);
            memcpy(a[on], p.h, (size_t)(N * N) * sizeof **a);
            for (int64_t i = 0; i < N * M; i++)
                b[on][i] = p.w[i];
            pol_solve_spd_args args = {.N = N, .M = M, .damping = 1e-4, .a = a[on], .b = b[on]};
            assert_ok(ctx, pol_solve_spd(on ? device : host, &args));
            condition[on] = args.condition;
        }
        for (int64_t i = 0; i < N * M; i++)
            assert_close("element", i, b[1][i], b[0][i], 1 + fabs(b[0][i]));
        assert_true(condition[1] >= condition[0] / 3 && condition[1] <= 3 * condition[0]);
        for (int on = 0; on < 2; on++) {
            free(a[on]);
            free(b[on]);
        }
        drop(&p);
    }
}

static void any_order_gives_the_same_bits(void **state)
{
    (void)state;
    problem p = make(70, 1, 6);
    answer first = sweep(device, &p, 6, false, NULL);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        sim_seed(seed);
        answer got = sweep(device, &p, 6, false, NULL);
        assert_memory_equal(got.order, first.order, 70 * sizeof *first.order);
        assert_memory_equal(got.error, first.error, 70 * sizeof *first.error);
        assert_memory_equal(got.loss, first.loss, 71 * sizeof *first.loss);
        assert_memory_equal(got.rows[2], first.rows[2], 70 * 6 * sizeof **first.rows);
        drop_answer(&got);
    }
    drop_answer(&first);
    drop(&p);
}

/* The identity, of N rows, to spoil. */
static double *identity(int64_t N)
{
    double *a = calloc((size_t)(N * N), sizeof *a);
    assert_non_null(a);
    for (int64_t i = 0; i < N; i++)
        a[i * N + i] = 1;
    return a;
}

/* A row that fails is named by its number in the matrix, also where it is not the first triangle's, and in any order.
 */
static void the_row_that_fails_is_named(void **state)
{
    enum { N = 100, BAD = 70 };
    static double b[N], error[N];
    static float w[N];
    int32_t order[N];
    (void)state;
    double *a = identity(N);
    a[BAD * N + BAD] = -1;
    for (int i = 0; i < N; i++)
        order[i] = N - 1 - i;
    pol_solve_spd_args solve = {.N = N, .M = 1, .a = a, .b = b};
    pol_obs_sweep_args sweep_args = {
        .n_units = N, .unit = 1, .C = 1, .block = 1, .h = a, .w = w, .ordered = true, .order = order, .error = error};
    assert_fails(ctx, pol_solve_spd(device, &solve), POL_ENUMERIC, "solve_spd: row 70: with a damping of 0");
    assert_fails(ctx, pol_obs_sweep(device, &sweep_args), POL_ENUMERIC, "obs_sweep: row 70: with a damping of 0");
    free(a);
}

/* Two rows that differ in the last bits go together: the inverse has a pivot for them, but for rounding not for both.
 */
static void the_unit_that_fails_is_named(void **state)
{
    enum { N = 40, ONE = 17, OTHER = 31 };
    static float w[N];
    int failures = 0;
    (void)state;
    for (int i = 0; i < N; i++)
        w[i] = i == ONE || i == OTHER ? 1e-3f : 1;
    for (int bits = 1; bits < 100; bits++) {
        int32_t order[N];
        double error[N], *h = identity(N);
        h[OTHER * N + ONE] = 1;
        h[OTHER * N + OTHER] = 1 + bits * 0x1p-52;
        pol_obs_sweep_args a = {
            .n_units = N, .unit = 1, .C = 1, .block = 2, .h = h, .w = w, .order = order, .error = error};
        if (pol_obs_sweep(device, &a) != POL_OK) {
            const char *text = pol_error_text(ctx);
            failures++;
            if ((!strstr(text, "unit 17: ") && !strstr(text, "unit 31: ")) || !strstr(text, "after 0 removals"))
                fail_msg("%s", text);
        }
        free(h);
    }
    assert_true(failures > 0);
}

/* The inverse is I + u u^T + w w^T. A vector of ones finds w's columns; u's, which have both signs and four times the
 * sum, are found only by their signs. */
static void a_condition_is_searched_for_by_signs(void **state)
{
    enum { N = 50, OF_W = 10, OF_U = N - OF_W };
    double *a = identity(N), b[N] = {0};
    (void)state;
    for (int i = 0; i < N; i++)
        for (int j = 0; j <= i; j++) {
            const int sign = (i > OF_W && i / 2 % 2 ? -1 : 1) * (j > OF_W && j / 2 % 2 ? -1 : 1); /* their sum: 2 */
            if (i < OF_W)
                a[i * N + j] -= 1.0 / (1 + OF_W);
            else if (j >= OF_W)
                a[i * N + j] -= (double)sign / (1 + OF_U);
        }
    pol_solve_spd_args args = {.N = N, .M = 1, .a = a, .b = b};
    assert_ok(ctx, pol_solve_spd(device, &args));
    const double norm = 1 + (double)(OF_U - 2) / (1 + OF_U);
    assert_near(args.condition, norm * (1 + OF_U), 1e-9);
    free(a);
}

/* The call says what it wants and what there is; what comes after it is as before. */
static void memory_runs_out(void **state)
{
    (void)state;
    enum { N = 400, M = 1000 };
    double *a = calloc((size_t)N * N, sizeof *a), *b = calloc((size_t)N * M, sizeof *b);
    for (int i = 0; i < N; i++)
        a[i * N + i] = 2;
    pol_buf *most;
    const int64_t n = (int64_t)(device->info.memory_bytes / sizeof(float)) - (1 << 19);
    assert_ok(ctx, pol_buf_new(device, POL_F32, n, &most));
    pol_solve_spd_args args = {.N = N, .M = M, .a = a, .b = b};
    size_t available, total;
    char text[160];
    assert_int_equal(cudaMemGetInfo(&available, &total), cudaSuccess);
    snprintf(text, sizeof text,
             "cuda: solve_spd takes 4491264 bytes of the device besides what the run has, and %zu "
             "are free: cudaMalloc: cudaErrorMemoryAllocation (2)",
             available);
    assert_fails(ctx, pol_solve_spd(device, &args), POL_ENOMEM, text);
    pol_buf_free(device, most);
    b[5] = 3;
    assert_ok(ctx, pol_solve_spd(device, &args));
    assert_near(b[5], 1.5, 1e-15);
    assert_near(args.condition, 1, 1e-12);
    free(b);
    free(a);
}

static int setup(void **state)
{
    (void)state;
    switch_on(1, MEMORY);
    if (pol_context_new(NULL, &ctx) < 0 || pol_backend_open_host(ctx, 1, &host) < 0)
        return -1;
    device = open_small(ctx, 64 << 10);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    pol_backend_close(device);
    pol_backend_close(host);
    pol_context_free(ctx);
    assert_clean();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sweep_is_the_hosts),
        cmocka_unit_test(the_solution_is_the_hosts),
        cmocka_unit_test(any_order_gives_the_same_bits),
        cmocka_unit_test(the_row_that_fails_is_named),
        cmocka_unit_test(the_unit_that_fails_is_named),
        cmocka_unit_test(a_condition_is_searched_for_by_signs),
        cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
