/* gram.c - second moments: products of some rows at a time by cuBLASLt, each added by gram.cu to a sum in two parts.
 *
 * x is bf16, so of x^T x the matrix units multiply what is there, and their f32 sums over at most POL_GRAM_ROWS rows
 * are the only rounding. y is f32: it is split into three bf16 that make it up to the bit (gram.cu), and x^T y is the
 * sum of three such products, the smallest first. That is 3 times the work of one, and still a third of what f32
 * products take where the matrix units have none.
 *
 * Results come in panels of PANEL rows: of x^T x nearly half, what lies above the diagonal, is then left out; and a
 * panel is read again while it is in the device's cache, since adding it moves more bytes than its product.
 *
 * Scratch: a panel, the parts of y, what the product needs.
 */
#include "backends/cuda/cuda.h"

enum { PANEL = 512, PARTS = 3, ALIGN = 64 /* elements, of what lies in scratch */ };

static int64_t sum_of(int64_t a, int64_t b) { return a > INT64_MAX - b ? INT64_MAX : a + b; }

/* f32 elements of what lies in scratch, rounded up. */
static int64_t panel_elements(int64_t N, int64_t M)
{
    const int64_t n = pol_mul_count(pol_min_i64(N, PANEL), pol_max_i64(N, M));
    return sum_of(n, ALIGN) / ALIGN * ALIGN;
}

static int64_t part_elements(int64_t T, int64_t M)
{
    const int64_t n = pol_mul_count(pol_min_i64(T, POL_GRAM_ROWS), M);
    return sum_of(pol_mul_count(n, PARTS) / 2, ALIGN) / ALIGN * ALIGN;
}

int64_t gram_scratch_cuda(pol_backend *be, int64_t T, int64_t N, int64_t M)
{
    return sum_of(sum_of(panel_elements(N, M), part_elements(T, M)), gemm_scratch_cuda(be, T, N, M));
}

/* A panel is the product of columns of x [rows, N] with y [rows, M]; y's row is y_row long. */
typedef struct job {
    cu *c;
    const cu_bf16 *x;
    int64_t rows, N;
    float *panel;
    void *scratch; /* of the product */
} job;

static pol_status multiply(const job *j, int64_t first, int64_t n, const cu_bf16 *y, int64_t M, int64_t y_row,
                           cu_put put)
{
    return cu_multiply(j->c, "gram",
                       &(cu_product){.y = j->panel,
                                     .x = j->x + first,
                                     .w = y,
                                     .scratch = j->scratch,
                                     .T = n,
                                     .N = M,
                                     .K = j->rows,
                                     .x_row = j->N,
                                     .w_row = y_row,
                                     .types = CU_BF16_F32,
                                     .put = put,
                                     .x_turned = true});
}

/* Adds the panel to rows [first, first + n) of sum [2, N, row]. */
static pol_status add(const job *j, float *sum, int64_t row, int64_t first, int64_t n, int64_t columns)
{
    const cu_add_to_pairs k = {.high = sum + first * row,
                               .low = sum + (j->N + first) * row,
                               .product = j->panel,
                               .rows = n,
                               .columns = columns,
                               .row = row};
    CU_TRY(j->c->base.ctx, "gram", pol_cu_add_to_pairs, j->c->compute, &k);
    return POL_OK;
}

static pol_status add_square(const job *j, float *a)
{
    for (int64_t first = 0; first < j->N; first += PANEL) {
        const int64_t n = pol_min_i64(PANEL, j->N - first);
        POL_TRY(multiply(j, first, n, j->x, first + n, j->N, CU_SET));
        POL_TRY(add(j, a, j->N, first, n, first + n));
    }
    return POL_OK;
}

static pol_status add_cross(const job *j, float *b, const float *y, int64_t M, cu_bf16 *parts)
{
    const int64_t n_parts = j->rows * M;
    CU_TRY(j->c->base.ctx, "gram", pol_cu_split, j->c->compute, &(cu_split){.parts = parts, .x = y, .n = n_parts});
    for (int64_t first = 0; first < j->N; first += PANEL) {
        const int64_t n = pol_min_i64(PANEL, j->N - first);
        for (int k = PARTS - 1; k >= 0; k--)
            POL_TRY(multiply(j, first, n, parts + k * n_parts, M, M, k == PARTS - 1 ? CU_SET : CU_ADD));
        POL_TRY(add(j, b, M, first, n, M));
    }
    return POL_OK;
}

pol_status gram_cuda(pol_backend *be, const pol_gram_args *a)
{
    float *panel = cu_at(a->scratch), *parts = panel + panel_elements(a->N, a->M);
    job j = {.c = cu_of(be), .N = a->N, .panel = panel, .scratch = parts + part_elements(a->T, a->M)};
    POL_TRY(cu_begin(j.c, CU_GRAM));
    for (int64_t t = 0; t < a->T; t += POL_GRAM_ROWS) {
        j.rows = pol_min_i64(POL_GRAM_ROWS, a->T - t);
        j.x = (const cu_bf16 *)cu_at(a->x) + t * a->N;
        POL_TRY(add_square(&j, cu_at(a->a)));
        if (a->M)
            POL_TRY(add_cross(&j, cu_at(a->b), (const float *)cu_at(a->y) + t * a->M, a->M, (cu_bf16 *)parts));
    }
    return POL_OK;
}
