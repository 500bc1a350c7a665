/* The kernels of solve_spd and obs_sweep through the seam: what they leave alone too. */
#include "tests/cuda/seam.h"

enum { TRIANGLE = POL_CU_TRIANGLE };

/* n numbers from `key` on in steps that no pattern has; yours: free(). */
static double *numbers(uint32_t key, int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x + 1);
    double *out = malloc((size_t)n * sizeof *out + 1);
    pol_normal(1, POL_STREAM_TEST, 0, key, n, x);
    for (int64_t i = 0; i < n; i++)
        out[i] = x[i] + 1e-9 * (double)i;
    free(x);
    return out;
}

static seam_operand put_f64(const double *x, int64_t n) { return seam_put(x, (size_t)n * sizeof *x, 8); }

static void run_spread(cudaStream_t stream, int64_t N, const int32_t *order, bool in_place)
{
    double *h = numbers(1, N * N), *got = malloc((size_t)(N * N) * sizeof *got);
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = i + 1; j < N; j++)
            h[i * N + j] = NAN; /* not read */
    seam_operand in = put_f64(h, N * N), out = put_f64(NULL, N * N), by = seam_put(order, (size_t)N * sizeof *order, 4);
    const cu_spread k = {.a = in_place ? seam_at(&in) : seam_at(&out),
                         .h = seam_at(&in),
                         .order = order ? seam_at(&by) : NULL,
                         .shift = 0.5,
                         .N = N};
    assert_cuda(pol_cu_spread(stream, &k));
    assert_cuda(cudaStreamSynchronize(stream));
    seam_take(&by, NULL);
    seam_take(&in, in_place ? got : NULL);
    seam_take(&out, in_place ? NULL : got);
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j < N; j++) {
            const int64_t a = order ? order[i] : i, b = order ? order[j] : j;
            assert_true(got[i * N + j] == h[(a > b ? a : b) * N + (a > b ? b : a)] + (i == j ? 0.5 : 0));
        }
    free(got);
    free(h);
}

static void test_spread(void **state)
{
    static const int64_t sizes[] = {1, 2, 33, 300};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int32_t order[300];
        for (int64_t k = 0; k < sizes[i]; k++)
            order[k] = (int32_t)((k * 7 + 3) % sizes[i]);
        run_spread(*state, sizes[i], NULL, false);
        run_spread(*state, sizes[i], NULL, true);
        run_spread(*state, sizes[i], order, false);
    }
    double identity[9];
    seam_operand out = put_f64(NULL, 9);
    assert_cuda(pol_cu_spread(*state, &(cu_spread){.a = seam_at(&out), .shift = 1, .N = 3}));
    assert_cuda(cudaStreamSynchronize(*state));
    seam_take(&out, identity);
    for (int i = 0; i < 9; i++)
        assert_true(identity[i] == (i % 4 == 0));
}

static void test_fill_lower(void **state)
{
    static const int64_t sizes[] = {1, 2, 65, 300};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int mirror = 0; mirror < 2; mirror++) {
            const int64_t N = sizes[s];
            double *a = numbers(2, N * N), *got = malloc((size_t)(N * N) * sizeof *got);
            seam_operand io = put_f64(a, N * N);
            assert_cuda(pol_cu_fill_lower(*state, &(cu_fill_lower){.a = seam_at(&io), .N = N, .mirror = mirror == 1}));
            assert_cuda(cudaStreamSynchronize(*state));
            seam_take(&io, got);
            for (int64_t i = 0; i < N; i++)
                for (int64_t j = 0; j < N; j++)
                    assert_true(got[i * N + j] == (j >= i ? a[i * N + j] : mirror ? a[j * N + i] : 0));
            free(got);
            free(a);
        }
}

static void test_row_sums(void **state)
{
    static const struct {
        int64_t rows, columns, row;
    } cases[] = {{1, 1, 1}, {3, 5, 7}, {4, 32, 32}, {6, 33, 40}, {9, 1000, 1000}};
    for (size_t s = 0; s < sizeof cases / sizeof *cases; s++)
        for (int form = 0; form < 3; form++) { /* absolute values, squares, squares over a pivot */
            const int64_t rows = cases[s].rows, columns = cases[s].columns, row = cases[s].row;
            double *x = numbers(3, rows * row), *p = numbers(4, rows * rows), *got = malloc((size_t)rows * sizeof *got);
            for (int64_t i = 0; i < rows * row; i++)
                if (i % row >= columns)
                    x[i] = NAN; /* not read */
            for (int64_t i = 0; i < rows; i++)
                p[i * rows + i] = i % 4 == 2 ? -1 : i % 4 == 3 ? 0 : 1.5 + (double)i;
            if (rows > 5)
                x[5 * row] = NAN;
            seam_operand in = put_f64(x, (rows - 1) * row + columns), over = put_f64(p, rows * rows),
                         out = put_f64(NULL, rows);
            const cu_row_sums k = {.sums = seam_at(&out),
                                   .x = seam_at(&in),
                                   .pivot = form == 2 ? seam_at(&over) : NULL,
                                   .rows = rows,
                                   .columns = columns,
                                   .row = row,
                                   .pivot_row = rows,
                                   .squares = form > 0};
            assert_cuda(pol_cu_row_sums(*state, &k));
            assert_cuda(cudaStreamSynchronize(*state));
            seam_take(&in, NULL);
            seam_take(&over, NULL);
            seam_take(&out, got);
            for (int64_t i = 0; i < rows; i++) {
                long double sum = 0;
                for (int64_t j = 0; j < columns; j++)
                    sum += form ? (long double)x[i * row + j] * x[i * row + j] : fabsl(x[i * row + j]);
                const double pivot = p[i * rows + i];
                if (isnan(sum) || (form == 2 && !(pivot > 0)))
                    assert_true(isnan(got[i]));
                else
                    assert_near(got[i], (double)(form == 2 ? sum / pivot : sum), 1e-13 * (double)sum);
            }
            free(got);
            free(p);
            free(x);
        }
}

/* a = its factor, n rows of a matrix whose rows are `row` apart; what came of `failed`, which was that before. */
static int32_t run_factor(cudaStream_t stream, double *a, int64_t n, int64_t row, int32_t failed)
{
    const int64_t all = (n - 1) * row + n;
    seam_operand io = put_f64(a, all), flag = seam_put(&failed, sizeof failed, 4);
    const cu_factor k = {.a = seam_at(&io), .failed = seam_at(&flag), .n = n, .row = row, .first = 100};
    assert_cuda(pol_cu_factor(stream, &k));
    assert_cuda(cudaStreamSynchronize(stream));
    seam_take(&io, a);
    seam_take(&flag, &failed);
    return failed;
}

/* Symmetric, with a heavy diagonal; NaN below it, which is not read. */
static double *definite(int64_t n, int64_t row)
{
    double *a = numbers(5, n * row);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < row; j++)
            a[i * row + j] = j < i ? NAN : a[i * row + j] + (i == j ? 3 + (double)n : 0);
    return a;
}

static void test_factor(void **state)
{
    for (int64_t n = 1; n <= TRIANGLE; n += n < 4 ? 1 : 7) {
        const int64_t row = n + 3;
        double *a = definite(n, row), *u = definite(n, row);
        assert_int_equal(run_factor(*state, u, n, row, 0), 0);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) {
                long double sum = 0;
                for (int64_t k = 0; k <= i && j >= i; k++)
                    sum += (long double)u[k * row + i] * u[k * row + j];
                if (j >= i)
                    assert_near((double)sum, a[i * row + j], 1e-13 * (double)n);
                else
                    assert_true(isnan(u[i * row + j])); /* as it was */
            }
        free(u);
        free(a);
    }
}

/* The first row is named, and one that was named before stays. */
static void test_factor_fails(void **state)
{
    static const double pivots[] = {0, -1, NAN, INFINITY};
    for (size_t p = 0; p < sizeof pivots / sizeof *pivots; p++)
        for (int32_t before = 0; before < 2; before++) {
            double *a = definite(TRIANGLE, TRIANGLE);
            for (int i = 0; i < 20; i++)
                a[i * TRIANGLE + 20] = 0;
            a[20 * TRIANGLE + 20] = pivots[p];
            a[27 * TRIANGLE + 27] = -5;
            assert_int_equal(run_factor(*state, a, TRIANGLE, TRIANGLE, before), before ? before : 121);
            free(a);
        }
}

static void check_solve(cudaStream_t stream, int64_t n, int64_t columns, bool transposed)
{
    const int64_t row = n + 2, b_row = columns + 1, all = (n - 1) * b_row + columns;
    double *u = definite(n, row), *b = numbers(6, n * b_row), *x = malloc((size_t)(n * b_row) * sizeof *x);
    for (int64_t i = 0; i < n * b_row; i++)
        if (i % b_row >= columns)
            b[i] = 77;
    seam_operand of_u = put_f64(u, (n - 1) * row + n), io = put_f64(b, all);
    const cu_solve k = {.b = seam_at(&io),
                        .u = seam_at(&of_u),
                        .n = n,
                        .columns = columns,
                        .b_row = b_row,
                        .u_row = row,
                        .transposed = transposed};
    assert_cuda(pol_cu_solve(stream, &k));
    assert_cuda(cudaStreamSynchronize(stream));
    seam_take(&of_u, NULL);
    seam_take(&io, x);
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < columns; c++) {
            long double sum = 0;
            for (int64_t j = 0; j < n; j++)
                if (transposed ? j <= i : j >= i)
                    sum += (transposed ? u[j * row + i] : u[i * row + j]) * (long double)x[j * b_row + c];
            assert_near((double)sum, b[i * b_row + c], 1e-12);
        }
    for (int64_t i = 0; i + 1 < n; i++)
        assert_true(x[i * b_row + columns] == 77);
    free(x);
    free(b);
    free(u);
}

static void test_solve(void **state)
{
    static const int64_t rows[] = {1, 2, 5, 31, 32}, columns[] = {1, 3, 64, 65, 130};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t j = 0; j < sizeof columns / sizeof *columns; j++)
            for (int transposed = 0; transposed < 2; transposed++)
                check_solve(*state, rows[i], columns[j], transposed == 1);
}

/* Rows and columns of a matrix of 5 x 7. */
static void test_exchange(void **state)
{
    enum { ROWS = 5, COLUMNS = 7 };
    static const int32_t pairs[] = {0, 4, 3, 1};
    for (int columns = 0; columns < 2; columns++) {
        double *x = numbers(7, ROWS * COLUMNS), got[ROWS * COLUMNS];
        seam_operand io = put_f64(x, ROWS * COLUMNS), by = seam_put(pairs, sizeof pairs, 4);
        const int n = columns ? ROWS - 1 : COLUMNS - 1; /* the last stay */
        const cu_exchange k = {.x = seam_at(&io),
                               .pairs = seam_at(&by),
                               .n_pairs = 2,
                               .n = n,
                               .across = columns ? 1 : COLUMNS,
                               .along = columns ? COLUMNS : 1};
        assert_cuda(pol_cu_exchange(*state, &k));
        assert_cuda(cudaStreamSynchronize(*state));
        seam_take(&io, got);
        seam_take(&by, NULL);
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < COLUMNS; j++) {
                static const int other[] = {4, 3, 2, 1, 0, 5, 6};
                const int from_row = !columns && j < n ? other[i] : i, from_column = columns && i < n ? other[j] : j;
                assert_true(got[i * COLUMNS + j] == x[from_row * COLUMNS + from_column]);
            }
        free(x);
    }
}

static void test_widen_and_narrow(void **state)
{
    enum { ROWS = 4, COLUMNS = 300 };
    static const int32_t order[] = {2, 0, 3, 1};
    static float in[ROWS * COLUMNS], back[ROWS * COLUMNS];
    static double wide[ROWS * COLUMNS];
    pol_normal(1, POL_STREAM_TEST, 0, 8, ROWS * COLUMNS, in);
    for (int ordered = 0; ordered < 2; ordered++) {
        seam_operand from = seam_put(in, sizeof in, 4), to = seam_put(NULL, sizeof wide, 8),
                     by = seam_put(order, sizeof order, 4), f32 = seam_put(NULL, sizeof back, 4);
        const cu_widen k = {.to = seam_at(&to),
                            .from = seam_at(&from),
                            .order = ordered ? seam_at(&by) : NULL,
                            .rows = ROWS,
                            .columns = COLUMNS};
        assert_cuda(pol_cu_widen(*state, &k));
        assert_cuda(
            pol_cu_narrow(*state, &(cu_narrow){.to = seam_at(&f32), .from = seam_at(&to), .n = ROWS * COLUMNS}));
        assert_cuda(cudaStreamSynchronize(*state));
        seam_take(&from, NULL);
        seam_take(&by, NULL);
        seam_take(&to, wide);
        seam_take(&f32, back);
        for (int i = 0; i < ROWS * COLUMNS; i++) {
            const float want = in[(ordered ? order[i / COLUMNS] : i / COLUMNS) * COLUMNS + i % COLUMNS];
            assert_true(wide[i] == want && back[i] == want);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spread),   cmocka_unit_test(test_fill_lower),       cmocka_unit_test(test_row_sums),
        cmocka_unit_test(test_factor),   cmocka_unit_test(test_factor_fails),     cmocka_unit_test(test_solve),
        cmocka_unit_test(test_exchange), cmocka_unit_test(test_widen_and_narrow),
    };
    return cmocka_run_group_tests(tests, seam_open, seam_close);
}
