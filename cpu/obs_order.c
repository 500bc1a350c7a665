/* obs_order.c - which units go one after the other, or `block` at a time: the sweep of core/backend.h, in f64.
 *
 * A removal of b rows J is P -= U^T U and W -= U^T V, with P_JJ = L L^T, U = L^-1 P_J:, V = L^-1 W_J. Few rows are
 * taken off by loops that go over each row of P and W once; from GEMM_ROWS on a product, which packs its operands
 * first, is faster. Rows that are gone stay where they are until there are enough of them to be worth moving the others
 * together.
 */
#include <cblas.h>
#include <math.h>
#include <string.h>

#include "cpu/obs.h"
#include "cpu/simd.h"
#include "cpu/spd.h"

enum {
    GEMM_ROWS = 6,
    SPARE = 16 /* one unit of so many may be gone before the others move */
};

typedef struct sweep {
    pol_backend *be;
    int64_t unit, C;
    int64_t held, live;    /* units that p and w have rows of; those of them that are not gone */
    double *p, *w;         /* [n,n] and [n,C], n = held * unit */
    double *u, *v, *pivot; /* [b,n], [b,C], [b,b] */
    int32_t *number;       /* [held] of a unit in the model; rising */
    bool *gone;            /* [held] */
    double *error;         /* [held] */
    int64_t *chosen;       /* places of the units that go together, the least error first */
} sweep;

static int64_t row_of(const sweep *s, int64_t i) { return s->chosen[i / s->unit] * s->unit + i % s->unit; }

static double element(const sweep *s, int64_t i, int64_t j)
{
    return s->p[pol_max_i64(i, j) * s->held * s->unit + pol_min_i64(i, j)];
}

CPU_CLONES static void subtract(double *restrict y, double factor, const double *restrict x, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] -= factor * x[i];
}

CPU_CLONES static double square_sum(const double *x, int64_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sum;
}

/* tr(W_j^T (P_jj)^-1 W_j) of a unit of several rows; NaN where P_jj is not positive definite. */
static double unit_error(sweep *s, int64_t place)
{
    const int64_t unit = s->unit, C = s->C, first = place * unit;
    for (int64_t i = 0; i < unit; i++)
        for (int64_t j = 0; j <= i; j++)
            s->pivot[i * unit + j] = element(s, first + i, first + j);
    if (cpu_spd_cholesky(unit, s->pivot) >= 0)
        return NAN;
    memcpy(s->v, s->w + first * C, (size_t)(unit * C) * sizeof *s->v);
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, (int)unit, (int)C, 1.0, s->pivot,
                (int)unit, s->v, (int)C);
    return square_sum(s->v, unit * C);
}

static void find_errors(sweep *s)
{
    const int64_t n = s->held, C = s->C;
    if (s->unit > 1) {
        for (int64_t i = 0; i < n; i++)
            if (!s->gone[i])
                s->error[i] = unit_error(s, i);
        return;
    }
#pragma omp parallel for num_threads(cpu_threads(s->be)) schedule(static, 16) if (n * C > CPU_PARALLEL_MIN)
    for (int64_t i = 0; i < n; i++)
        if (!s->gone[i])
            s->error[i] = s->p[i * n + i] > 0 ? square_sum(s->w + i * C, C) / s->p[i * n + i] : NAN;
}

static pol_status not_positive(sweep *s, int64_t place, int64_t n_gone)
{
    return pol_fail(s->be->ctx, POL_ENUMERIC,
                    "obs_sweep: unit %d: its pivot is not positive after %lld removals; a larger damping makes it so",
                    s->number[place], (long long)n_gone);
}

/* The `count` units of least error go: into s->chosen. */
static pol_status choose(sweep *s, int64_t count, int64_t n_gone)
{
    for (int64_t k = 0; k < count; k++) {
        int64_t best = -1;
        for (int64_t i = 0; i < s->held; i++) {
            if (s->gone[i])
                continue;
            if (!isfinite(s->error[i]))
                return not_positive(s, i, n_gone);
            if (best < 0 || s->error[i] < s->error[best])
                best = i;
        }
        s->gone[best] = true;
        s->chosen[k] = best;
    }
    s->live -= count;
    return POL_OK;
}

/* Fills u, v and pivot for the units chosen. What u has for rows that are gone goes into rows and columns that are. */
static pol_status prepare(sweep *s, int64_t b, int64_t n_gone)
{
    const int64_t n = s->held * s->unit, C = s->C;
#pragma omp parallel for num_threads(cpu_threads(s->be)) if (n * b > CPU_PARALLEL_MIN)
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < b; k++)
            s->u[k * n + i] = element(s, i, row_of(s, k));
    for (int64_t i = 0; i < b; i++) {
        memcpy(s->v + i * C, s->w + row_of(s, i) * C, (size_t)C * sizeof *s->v);
        for (int64_t j = 0; j <= i; j++)
            s->pivot[i * b + j] = element(s, row_of(s, i), row_of(s, j));
    }
    const int64_t bad = cpu_spd_cholesky(b, s->pivot);
    if (bad >= 0)
        return not_positive(s, s->chosen[bad / s->unit], n_gone);
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, (int)b, (int)n, 1.0, s->pivot, (int)b,
                s->u, (int)n);
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, (int)b, (int)C, 1.0, s->pivot, (int)b,
                s->v, (int)C);
    return POL_OK;
}

static void take_off_rows(sweep *s, int64_t b)
{
    const int64_t n = s->held * s->unit, C = s->C;
#pragma omp parallel for num_threads(cpu_threads(s->be)) schedule(static, 16) if (n * (n + C) > CPU_PARALLEL_MIN)
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < b && !s->gone[i / s->unit]; k++) {
            subtract(s->p + i * n, s->u[k * n + i], s->u + k * n, i + 1);
            subtract(s->w + i * C, s->u[k * n + i], s->v + k * C, C);
        }
}

static void take_off_product(sweep *s, int64_t b)
{
    const int n = (int)(s->held * s->unit), C = (int)s->C;
    cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, n, (int)b, -1.0, s->u, n, 1.0, s->p, n);
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, C, (int)b, -1.0, s->u, n, s->v, C, 1.0, s->w, C);
}

/* Moves what is left together, in place: no element moves up. */
static void compact(sweep *s)
{
    const int64_t unit = s->unit, C = s->C, n = s->held * unit, m = s->live * unit;
    int64_t place = 0;
    for (int64_t i = 0; i < s->held; i++)
        if (!s->gone[i])
            s->chosen[place++] = i;
    for (int64_t i = 0; i < m; i++) {
        const int64_t from = row_of(s, i);
        for (int64_t j = 0; j <= i; j++)
            s->p[i * m + j] = s->p[from * n + row_of(s, j)];
        memmove(s->w + i * C, s->w + from * C, (size_t)C * sizeof *s->w);
    }
    for (int64_t i = 0; i < s->live; i++) {
        s->number[i] = s->number[s->chosen[i]];
        s->gone[i] = false;
    }
    s->held = s->live;
}

static pol_status remove_chosen(sweep *s, int64_t b, int64_t n_gone)
{
    POL_TRY(prepare(s, b, n_gone));
    if (b < GEMM_ROWS)
        take_off_rows(s, b);
    else
        take_off_product(s, b);
    if (s->live <= s->held - s->held / SPARE)
        compact(s);
    find_errors(s);
    return POL_OK;
}

static pol_status run(sweep *s, pol_obs_sweep_args *a)
{
    find_errors(s);
    for (int64_t left = a->n_units; left;) {
        const int64_t count = pol_min_i64(a->block, left), gone = a->n_units - left;
        POL_TRY(pol_check_stop(s->be->ctx));
        POL_TRY(choose(s, count, gone));
        for (int64_t k = 0; k < count; k++) {
            left--;
            a->order[left] = s->number[s->chosen[k]];
            a->error[left] = s->error[s->chosen[k]];
        }
        if (left)
            POL_TRY(remove_chosen(s, count * s->unit, gone));
    }
    return POL_OK;
}

pol_status obs_find_order(pol_backend *be, pol_obs_sweep_args *a, obs_space *space)
{
    const int64_t n = a->n_units, N = n * a->unit, b = pol_min_i64(a->block, n) * a->unit;
    obs_load(be, a, NULL, space);
    POL_TRY(cpu_spd_factor(be, "obs_sweep", N, a->damping, space->p, &a->condition));
    POL_TRY(cpu_spd_invert(be, "obs_sweep", N, space->p));
    sweep s = {.be = be, .unit = a->unit, .C = a->C, .held = n, .live = n, .p = space->p, .w = space->w};
    s.u = pol_alloc_array(be->ctx, pol_mul_count(b, N), sizeof *s.u);
    s.v = pol_alloc_array(be->ctx, pol_mul_count(b, a->C), sizeof *s.v);
    s.pivot = pol_alloc_array(be->ctx, pol_mul_count(b, b), sizeof *s.pivot);
    s.number = pol_alloc_array(be->ctx, n, sizeof *s.number);
    s.gone = pol_alloc_zero(be->ctx, (size_t)n * sizeof *s.gone);
    s.error = pol_alloc_array(be->ctx, n, sizeof *s.error);
    s.chosen = pol_alloc_array(be->ctx, n, sizeof *s.chosen);
    pol_status status = POL_ENOMEM;
    if (s.u && s.v && s.pivot && s.number && s.gone && s.error && s.chosen) {
        for (int32_t i = 0; i < n; i++)
            s.number[i] = i;
        status = run(&s, a);
    }
    void *const blocks[] = {s.u, s.v, s.pivot, s.number, s.gone, s.error, s.chosen};
    for (size_t i = 0; i < POL_COUNT(blocks); i++)
        pol_free(be->ctx, blocks[i]);
    return status;
}
