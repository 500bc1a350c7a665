/* test_repair_ops.c - the ops on host arrays against what defines them, worked out in long double by elimination: the
 * sweep by trying every unit at every step. */
#include <float.h>
#include <math.h>

#include "core/backend.h"
#include "core/base/rng.h"
#include "tests/ops/repair_backend.h"
#include "tests/test.h"

static pol_context *ctx;
static pol_backend *be;

enum { MOST_ROWS = 48, MOST_UNITS = 48, MOST_C = 7 };

typedef long double matrix[MOST_ROWS][MOST_ROWS];

/* A problem: h with NaN above the diagonal, which is not to be read, and the damped matrix that is meant. */
typedef struct problem {
    int n_units, unit, N, C;
    double damping;
    double h[MOST_ROWS * MOST_ROWS];
    float w[MOST_ROWS * MOST_C];
    matrix a;
} problem;

static void damp(problem *p)
{
    long double mean = 0;
    for (int i = 0; i < p->N; i++)
        mean += p->h[i * p->N + i] / (long double)p->N;
    for (int i = 0; i < p->N; i++)
        for (int j = 0; j <= i; j++) {
            p->a[i][j] = p->a[j][i] = p->h[i * p->N + j] + (i == j ? p->damping * mean : 0);
            if (i != j)
                p->h[j * p->N + i] = NAN;
        }
}

/* h from `tokens` rows of numbers, each of which resembles its neighbour and the first. */
static problem make(uint32_t seed, int n_units, int unit, int C, int tokens, double damping)
{
    static float z[8 * MOST_ROWS * (MOST_ROWS + 1)], x[8 * MOST_ROWS * MOST_ROWS];
    problem p = {.n_units = n_units, .unit = unit, .N = n_units * unit, .C = C, .damping = damping};
    const int N = p.N;
    assert_true(N <= MOST_ROWS && C <= MOST_C && tokens <= 8 * MOST_ROWS);
    pol_normal(1, POL_STREAM_TEST, 0, seed, (int64_t)tokens * (N + 1), z);
    pol_normal(1, POL_STREAM_TEST, 1, seed, (int64_t)N * C, p.w);
    for (int t = 0; t < tokens; t++)
        for (int i = 0; i < N; i++)
            x[t * N + i] = z[t * (N + 1) + i] + 0.5f * z[t * (N + 1) + i + 1] + 0.7f * z[t * (N + 1)];
    for (int i = 0; i < N; i++)
        for (int j = 0; j <= i; j++) {
            double sum = 0;
            for (int t = 0; t < tokens; t++)
                sum += (double)x[t * N + i] * x[t * N + j];
            p.h[i * N + j] = sum / tokens;
        }
    damp(&p);
    return p;
}

/* x [n,m] = a^-1 x by elimination with pivots; a is destroyed. */
static void eliminate(int n, int m, matrix a, long double *x)
{
    for (int k = 0; k < n; k++) {
        int pivot = k;
        for (int i = k; i < n; i++)
            pivot = fabsl(a[i][k]) > fabsl(a[pivot][k]) ? i : pivot;
        for (int j = 0; j < n; j++) {
            const long double swapped = a[k][j];
            a[k][j] = a[pivot][j];
            a[pivot][j] = swapped;
        }
        for (int j = 0; j < m; j++) {
            const long double swapped = x[k * m + j];
            x[k * m + j] = x[pivot * m + j];
            x[pivot * m + j] = swapped;
        }
        for (int i = 0; i < n; i++) {
            const long double f = i == k ? 0 : a[i][k] / a[k][k];
            for (int j = k; j < n; j++)
                a[i][j] -= f * a[k][j];
            for (int j = 0; j < m; j++)
                x[i * m + j] -= f * x[k * m + j];
        }
    }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < m; j++)
            x[i * m + j] /= a[i][i];
}

/* Rows of those units, in that order; how many. */
static int rows_of(const problem *p, const int32_t *units, int n, int *rows)
{
    for (int i = 0; i < n * p->unit; i++)
        rows[i] = units[i / p->unit] * p->unit + i % p->unit;
    return n * p->unit;
}

/* The least-squares rows on those units: x [rows, C]. */
static void least_squares(const problem *p, const int32_t *units, int n, long double *x)
{
    static matrix a;
    int row[MOST_ROWS];
    const int rows = rows_of(p, units, n, row);
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < rows; j++)
            a[i][j] = p->a[row[i]][row[j]];
        for (int c = 0; c < p->C; c++) {
            x[i * p->C + c] = 0;
            for (int j = 0; j < p->N; j++)
                x[i * p->C + c] += p->a[row[i]][j] * (long double)p->w[j * p->C + c];
        }
    }
    eliminate(rows, p->C, a, x);
}

/* tr((W0 - W)^T A (W0 - W)) with the best W on those units. */
static long double loss(const problem *p, const int32_t *units, int n)
{
    long double x[MOST_ROWS * MOST_C], d[MOST_ROWS][MOST_C], sum = 0;
    int row[MOST_ROWS];
    const int rows = rows_of(p, units, n, row);
    least_squares(p, units, n, x);
    for (int i = 0; i < p->N; i++)
        for (int c = 0; c < p->C; c++)
            d[i][c] = p->w[i * p->C + c];
    for (int i = 0; i < rows; i++)
        for (int c = 0; c < p->C; c++)
            d[row[i]][c] -= x[i * p->C + c];
    for (int i = 0; i < p->N; i++)
        for (int j = 0; j < p->N; j++)
            for (int c = 0; c < p->C; c++)
                sum += d[i][c] * p->a[i][j] * d[j][c];
    return sum;
}

/* By how much the loss rises when the unit at `place` goes too: by its definition. */
static long double increase(const problem *p, const int32_t *units, int n, int place)
{
    int32_t others[MOST_UNITS];
    memcpy(others, units, (size_t)place * sizeof *units);
    memcpy(others + place, units + place + 1, (size_t)(n - place - 1) * sizeof *units);
    return loss(p, others, n - 1) - loss(p, units, n);
}

typedef struct answer {
    int32_t order[MOST_UNITS];
    double error[MOST_UNITS], loss[MOST_UNITS + 1];
    int64_t level[MOST_UNITS];
    float row_block[MOST_UNITS][MOST_ROWS * MOST_C], *rows[MOST_UNITS];
    double condition;
} answer;

static pol_obs_sweep_args args_of(const problem *p, int block, answer *out)
{
    for (int i = 0; i < p->n_units; i++) {
        out->level[i] = i + 1;
        out->rows[i] = out->row_block[i];
    }
    return (pol_obs_sweep_args){.n_units = p->n_units,
                                .unit = p->unit,
                                .C = p->C,
                                .block = block,
                                .damping = p->damping,
                                .h = p->h,
                                .w = p->w,
                                .order = out->order,
                                .error = out->error,
                                .loss = out->loss,
                                .n_levels = p->n_units,
                                .level = out->level,
                                .rows = out->rows};
}

/* Rows are f32: half a unit of their last place, and 1e-8 of the largest. */
static void check_rows(const problem *p, const answer *got)
{
    for (int l = 0; l < p->n_units; l++) {
        long double x[MOST_ROWS * MOST_C], most = 0;
        const int n = (l + 1) * p->unit * p->C;
        least_squares(p, got->order, l + 1, x);
        for (int i = 0; i < n; i++)
            most = fmaxl(most, fabsl(x[i]));
        for (int i = 0; i < n; i++)
            if (!(fabsl(got->rows[l][i] - x[i]) <= 0x1p-24L * fabsl(x[i]) + 1e-8L * most))
                fail_msg("%d units kept: element %d is %.9g, not %.9Lg", l + 1, i, (double)got->rows[l][i], x[i]);
    }
}

/* Follows the order backwards: of the units left those `block` go whose removal alone costs least. */
static void check_order(const problem *p, int block, const answer *got)
{
    int32_t left[MOST_UNITS];
    int n = p->n_units;
    for (int i = 0; i < n; i++)
        left[i] = i;
    while (n) {
        long double cost[MOST_UNITS];
        const int count = n < block ? n : block;
        for (int i = 0; i < n; i++)
            cost[i] = increase(p, left, n, i);
        for (int k = 0; k < count; k++) {
            int best = -1, best_place = n - 1 - k;
            for (int i = 0; i < n; i++)
                if (cost[i] >= 0 && (best < 0 || cost[i] < cost[best]))
                    best = i;
            if (got->order[best_place] != left[best])
                fail_msg("place %d of the order is unit %d, not %d, which costs %.9Lg", best_place,
                         got->order[best_place], left[best], cost[best]);
            if (!(fabsl(got->error[best_place] - cost[best]) <= 1e-8L * cost[best]))
                fail_msg("unit %d: an error of %.12g, not %.12Lg", left[best], got->error[best_place], cost[best]);
            cost[best] = -1;
        }
        int kept = 0;
        for (int i = 0; i < n; i++)
            if (cost[i] >= 0)
                left[kept++] = left[i];
        n = kept;
    }
}

static void check_losses(const problem *p, const answer *got)
{
    const long double whole = loss(p, got->order, 0);
    for (int n = 0; n <= p->n_units; n++) {
        const long double want = loss(p, got->order, n);
        if (!(fabsl(got->loss[n] - want) <= 1e-8L * want + 1e-14L * whole))
            fail_msg("%d units kept: a loss of %.12g, not %.12Lg", n, got->loss[n], want);
    }
}

static double inverse_norm(const problem *p)
{
    static matrix a;
    long double inverse[MOST_ROWS * MOST_ROWS], most = 0, most_inverse = 0;
    memcpy(a, p->a, sizeof a);
    for (int i = 0; i < p->N * p->N; i++)
        inverse[i] = i / p->N == i % p->N;
    eliminate(p->N, p->N, a, inverse);
    for (int i = 0; i < p->N; i++) {
        long double sum = 0, sum_inverse = 0;
        for (int j = 0; j < p->N; j++) {
            sum += fabsl(p->a[i][j]);
            sum_inverse += fabsl(inverse[i * p->N + j]);
        }
        most = fmaxl(most, sum);
        most_inverse = fmaxl(most_inverse, sum_inverse);
    }
    return (double)(most * most_inverse);
}

/* LAPACK's estimate is never above the condition number, and seldom far below. */
static void check_condition(const problem *p, double got)
{
    const double want = inverse_norm(p);
    if (!(got <= want * (1 + 1e-9) && got >= want / 3))
        fail_msg("a condition number of %.6g, not %.6g", got, want);
}

static void check_sweep(const problem *p, int block)
{
    static answer got;
    memset(&got, 0, sizeof got);
    pol_obs_sweep_args a = args_of(p, block, &got);
    assert_ok(ctx, pol_obs_sweep(be, &a));
    check_order(p, block, &got);
    check_rows(p, &got);
    check_losses(p, &got);
    check_condition(p, a.condition);
}

static void test_one_at_a_time(void **state)
{
    (void)state;
    static const struct {
        int n_units, unit, C;
    } cases[] = {{1, 1, 1}, {2, 1, 3}, {9, 1, 4}, {40, 1, 5}, {1, 4, 3}, {6, 2, 3}, {7, 5, 2}, {5, 9, 7}, {20, 2, 1}};
    for (uint32_t i = 0; i < POL_COUNT(cases); i++) {
        const int N = cases[i].n_units * cases[i].unit;
        const problem p = make(i, cases[i].n_units, cases[i].unit, cases[i].C, 4 * N, 0.01);
        check_sweep(&p, 1);
    }
}

static void test_several_together(void **state)
{
    (void)state;
    static const struct {
        int n_units, unit, C, block;
    } cases[] = {{9, 1, 4, 2},  {9, 1, 4, 9},   {5, 1, 3, 99}, {40, 1, 5, 3},
                 {40, 1, 5, 7}, {48, 1, 7, 16}, {13, 3, 2, 4}};
    for (uint32_t i = 0; i < POL_COUNT(cases); i++) {
        const int N = cases[i].n_units * cases[i].unit;
        const problem p = make(100 + i, cases[i].n_units, cases[i].unit, cases[i].C, 4 * N, 0.01);
        check_sweep(&p, cases[i].block);
    }
}

/* Units that cost the same go by their numbers. */
static void test_ties(void **state)
{
    (void)state;
    static answer got;
    for (int block = 1; block <= 3; block++) {
        problem p = {.n_units = 20, .unit = 1, .N = 20, .C = 2};
        for (int i = 0; i < p.N; i++)
            p.h[i * p.N + i] = 2;
        for (int i = 0; i < p.N * p.C; i++)
            p.w[i] = i % 2 ? 3 : -1;
        damp(&p);
        pol_obs_sweep_args a = args_of(&p, block, &got);
        assert_ok(ctx, pol_obs_sweep(be, &a));
        for (int i = 0; i < p.N; i++) {
            assert_int_equal(got.order[i], p.N - 1 - i);
            assert_near(got.error[i], 20, 1e-12);
        }
    }
}

static void test_given_order(void **state)
{
    (void)state;
    static answer got;
    for (int unit = 1; unit <= 3; unit += 2) {
        const problem p = make(200 + (uint32_t)unit, 12, unit, 4, 30 * unit, 0.01);
        int64_t order[12];
        pol_permutation(5, POL_STREAM_TEST, 0, 12, order);
        pol_obs_sweep_args a = args_of(&p, 1, &got);
        a.ordered = true;
        for (int i = 0; i < 12; i++) {
            got.order[i] = (int32_t)order[i];
            got.error[i] = NAN;
        }
        assert_ok(ctx, pol_obs_sweep(be, &a));
        check_rows(&p, &got);
        check_losses(&p, &got);
        check_condition(&p, a.condition);
        for (int i = 0; i < 12; i++) {
            assert_int_equal(got.order[i], order[i]);
            assert_true(got.error[i] == 0);
        }
        const double condition = a.condition;
        a.condition = 0;
        a.n_levels = 0;
        a.loss = NULL;
        assert_ok(ctx, pol_obs_sweep(be, &a));
        assert_true(a.condition == condition);
    }
}

/* Some levels only: the same rows as of all. */
static void test_few_levels(void **state)
{
    (void)state;
    static answer all, some;
    const problem p = make(300, 20, 2, 3, 160, 0.01);
    pol_obs_sweep_args a = args_of(&p, 1, &all), b = args_of(&p, 1, &some);
    assert_ok(ctx, pol_obs_sweep(be, &a));
    const int64_t level[] = {3, 11, 12, 20};
    b.n_levels = POL_COUNT(level);
    b.level = level;
    assert_ok(ctx, pol_obs_sweep(be, &b));
    assert_memory_equal(all.order, some.order, sizeof all.order);
    for (size_t l = 0; l < POL_COUNT(level); l++)
        for (int64_t i = 0; i < level[l] * p.unit * p.C; i++)
            assert_near(some.rows[l][i], all.rows[level[l] - 1][i], 2e-7 * (1 + fabs((double)some.rows[l][i])));
    b.n_levels = 0;
    b.level = NULL;
    b.rows = NULL;
    for (int with_loss = 1; with_loss >= 0; with_loss--) {
        memset(&some, 0, sizeof some);
        b.loss = with_loss ? some.loss : NULL;
        assert_ok(ctx, pol_obs_sweep(be, &b));
        assert_memory_equal(all.order, some.order, sizeof all.order);
        assert_true((some.loss[0] == all.loss[0]) == with_loss);
    }
}

/* Fewer tokens than rows, a channel that is never on, and one that is another's copy: damping makes it a matrix like
 * any other, and without it the answer is a refusal. */
static void test_singular(void **state)
{
    (void)state;
    static answer got;
    problem p = make(400, 24, 1, 3, 15, 0.01);
    check_sweep(&p, 1);
    check_sweep(&p, 7);
    p = make(401, 10, 1, 3, 40, 0);
    for (int i = 0; i < p.N; i++)
        p.h[pol_max_i64(i, 4) * p.N + pol_min_i64(i, 4)] = 0;
    p.damping = 0.01;
    damp(&p);
    check_sweep(&p, 1);
    pol_obs_sweep_args a = args_of(&p, 1, &got);
    a.damping = 0;
    assert_fails(ctx, pol_obs_sweep(be, &a), POL_ENUMERIC, "obs_sweep: row 4: with a damping of 0");
    a.ordered = true;
    for (int i = 0; i < p.N; i++)
        got.order[i] = i;
    assert_fails(ctx, pol_obs_sweep(be, &a), POL_ENUMERIC, "obs_sweep: row 4: with a damping of 0");
}

/* Rows that are multiples of one another but for some bits of the last place: whether it is in the factors or later
 * that rounding takes what is left, it is noticed. */
static void test_nearly_singular(void **state)
{
    (void)state;
    static answer got;
    for (int unit = 1; unit <= 2; unit++) {
        int in_factors = 0, in_sweep = 0;
        for (int bits = 2; bits <= 40; bits++)
            for (int n = 8; n <= 40; n += 2) {
                problem p = {.n_units = n / unit, .unit = unit, .N = n, .C = 1};
                for (int i = 0; i < n; i++) {
                    p.w[i] = 1 + 0.1f * (float)i;
                    for (int j = 0; j <= i; j++)
                        p.h[i * n + j] = (1 + 0.37 * (i * i % 11)) * (1 + 0.37 * (j * j % 11));
                    p.h[i * n + i] *= 1 + bits * DBL_EPSILON;
                }
                pol_obs_sweep_args a = args_of(&p, 1, &got);
                a.n_levels = 0;
                a.loss = NULL;
                const pol_status s = pol_obs_sweep(be, &a);
                for (int i = 0; i < p.n_units && s == POL_OK; i++)
                    assert_true(got.error[i] >= 0 && isfinite(got.error[i]));
                if (s != POL_OK)
                    assert_int_equal(s, POL_ENUMERIC);
                in_factors += s && strstr(pol_error_text(ctx), "obs_sweep: row ");
                in_sweep += s && strstr(pol_error_text(ctx), "obs_sweep: unit ");
            }
        assert_true(in_factors > 0 && in_sweep > 0);
    }
}

static void test_not_finite(void **state)
{
    (void)state;
    static answer got;
    const float bad[] = {NAN, INFINITY};
    for (int k = 0; k < 2; k++) {
        problem p = make(500, 8, 2, 3, 64, 0.01);
        p.h[11 * p.N + 7] = bad[k];
        pol_obs_sweep_args a = args_of(&p, 1, &got);
        assert_fails(ctx, pol_obs_sweep(be, &a), POL_ENUMERIC, "obs_sweep: row 11: element 7 of the matrix is ");
        p = make(500, 8, 2, 3, 64, 0.01);
        p.w[14 * p.C + 1] = bad[k];
        assert_fails(ctx, pol_obs_sweep(be, &a), POL_ENUMERIC, "obs_sweep: row 14: weight 1 is ");
    }
}

static void test_solve(void **state)
{
    (void)state;
    for (int N = 1; N <= MOST_ROWS; N += 13) {
        const problem p = make(600 + (uint32_t)N, N, 1, 5, 3 * N, N == 1 ? 0 : 1e-4);
        static matrix copy;
        double a[MOST_ROWS * MOST_ROWS], b[MOST_ROWS * MOST_C];
        long double x[MOST_ROWS * MOST_C];
        memcpy(a, p.h, sizeof a);
        memcpy(copy, p.a, sizeof copy);
        for (int i = 0; i < N * p.C; i++)
            x[i] = b[i] = p.w[i];
        pol_solve_spd_args args = {.N = N, .M = p.C, .damping = p.damping, .a = a, .b = b};
        assert_ok(ctx, pol_solve_spd(be, &args));
        eliminate(N, p.C, copy, x);
        check_condition(&p, args.condition);
        for (int i = 0; i < N; i++)
            for (int c = 0; c < p.C; c++) {
                long double residual = -(long double)p.w[i * p.C + c];
                for (int j = 0; j < N; j++)
                    residual += p.a[i][j] * (long double)b[j * p.C + c];
                assert_near((double)residual, 0, 1e-12);
                assert_near(b[i * p.C + c], (double)x[i * p.C + c], 1e-15 * args.condition);
            }
    }
}

/* Of a matrix whose norm is in its first column, which has both signs. */
static void test_condition_of_an_arrow(void **state)
{
    (void)state;
    problem p = {.n_units = 40, .unit = 1, .N = 40, .C = 1};
    double b[40] = {1};
    for (int i = 0; i < p.N; i++) {
        p.h[i * p.N] = i % 2 ? -10 : 10;
        p.h[i * p.N + i] = i ? 50 : 100;
    }
    damp(&p);
    pol_solve_spd_args args = {.N = p.N, .M = 1, .a = p.h, .b = b};
    assert_ok(ctx, pol_solve_spd(be, &args));
    check_condition(&p, args.condition);
}

static void test_solve_refuses(void **state)
{
    (void)state;
    double a[9] = {2, NAN, NAN, 1, 2, NAN, 0, 1, 2}, b[3] = {1, 2, 3};
    pol_solve_spd_args args = {.N = 3, .M = 1, .a = a, .b = b};
    assert_ok(ctx, pol_solve_spd(be, &args));
    double indefinite[9] = {1, 0, 0, 2, 1, 0, 0, 0, 1};
    args.a = indefinite;
    assert_fails(ctx, pol_solve_spd(be, &args), POL_ENUMERIC, "solve_spd: row 1: with a damping of 0");
    double holed[9] = {1, 0, 0, 0, 1, 0, 0, INFINITY, 1};
    args.a = holed;
    assert_fails(ctx, pol_solve_spd(be, &args), POL_ENUMERIC, "solve_spd: row 2: element 1 of the matrix is inf");
    double whole[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
    args.a = whole;
    b[1] = NAN;
    assert_fails(ctx, pol_solve_spd(be, &args), POL_ENUMERIC, "solve_spd: row 1: element 0 of the right side is ");
}

static void test_host_backend(void **state)
{
    (void)state;
    pol_backend *two, *const one = be;
    assert_ok(ctx, pol_backend_open_host(ctx, 2, &two));
    assert_string_equal(pol_backend_info(two)->backend, "cpu");
    assert_non_null(strstr(pol_backend_info(two)->detail, "2 threads"));
    assert_true(pol_can_repair(two));
    be = two;
    const problem p = make(700, 48, 1, 7, 200, 0.01);
    check_sweep(&p, 1);
    check_sweep(&p, 12);
    be = one;
    pol_backend_close(two);
    assert_fails(ctx, pol_backend_open_host(ctx, -1, &two), POL_EARG, "threads: -1");
    assert_null(two);
}

static void test_stop(void **state)
{
    (void)state;
    static answer got;
    const problem p = make(800, 5, 1, 2, 20, 0.01);
    pol_obs_sweep_args a = args_of(&p, 1, &got);
    for (int ordered = 0; ordered < 2; ordered++) {
        a.ordered = ordered;
        a.n_levels = ordered ? 5 : 0;
        a.loss = NULL;
        for (int i = 0; i < 5; i++)
            got.order[i] = i;
        pol_context_stop(ctx);
        assert_int_equal(pol_obs_sweep(be, &a), POL_EINTERRUPTED);
        pol_context_resume(ctx);
    }
    assert_ok(ctx, pol_obs_sweep(be, &a));
}

static int setup(void **state)
{
    (void)state;
    return pol_context_new(NULL, &ctx) == POL_OK && open_repair_backend(ctx, &be) == POL_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    pol_backend_close(be);
    pol_context_free(ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_at_a_time),
        cmocka_unit_test(test_several_together),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_given_order),
        cmocka_unit_test(test_few_levels),
        cmocka_unit_test(test_singular),
        cmocka_unit_test(test_nearly_singular),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_solve),
        cmocka_unit_test(test_condition_of_an_arrow),
        cmocka_unit_test(test_solve_refuses),
        cmocka_unit_test(test_host_backend),
        cmocka_unit_test(test_stop),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
