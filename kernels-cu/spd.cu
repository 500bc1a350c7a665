/* spd.cu - symmetric positive definite matrices in f64: what solve_spd and obs_sweep do beside their products. A factor
 * and a solution by it are made of triangles of 32 rows, these here, and of products of all that lies beside them
 * (backends/cuda/spd.c). The work of the triangles is N times 32 times the columns: little, so they are kept simple.
 */
#include "kernels-cu/rows.cuh"

enum {
    TRIANGLE = POL_CU_TRIANGLE,
    PITCH = TRIANGLE + 1
}; /* PITCH: rows of a triangle in shared memory, apart in banks */

static __global__ void spread(cu_spread a)
{
    const int64_t i = blockIdx.x;
    for (int64_t j = row_first(); j < a.N; j += row_step()) {
        if (a.a == a.h && j < i)
            continue;
        const int64_t from = a.order ? a.order[i] : i, other = a.order ? a.order[j] : j;
        const double h = a.h ? a.h[max(from, other) * a.N + min(from, other)] : 0.0;
        a.a[i * a.N + j] = i == j ? h + a.shift : h;
    }
}

extern "C" cudaError_t pol_cu_spread(cudaStream_t stream, const cu_spread *a)
{
    const unsigned threads = row_threads(a->N);
    return launch(spread, row_grid(a->N, a->N, threads), dim3(threads), 0, stream, *a);
}

static __global__ void fill_lower(cu_fill_lower a)
{
    const int64_t i = blockIdx.x;
    for (int64_t j = row_first(); j < i; j += row_step())
        a.a[i * a.N + j] = a.mirror ? a.a[j * a.N + i] : 0.0;
}

extern "C" cudaError_t pol_cu_fill_lower(cudaStream_t stream, const cu_fill_lower *a)
{
    const unsigned threads = row_threads(a->N);
    return launch(fill_lower, row_grid(a->N, a->N, threads), dim3(threads), 0, stream, *a);
}

enum { SUM_ROWS = 4 }; /* of a block: a warp a row */

static __global__ void row_sums(cu_row_sums a)
{
    const int64_t i = (int64_t)blockIdx.x * SUM_ROWS + threadIdx.x / WARP;
    if (i >= a.rows)
        return;
    const double *x = a.x + i * a.row;
    double sum = 0;
    for (int64_t j = threadIdx.x % WARP; j < a.columns; j += WARP)
        sum += a.squares ? x[j] * x[j] : fabs(x[j]);
    sum = warp_sum(sum);
    if (threadIdx.x % WARP > 0)
        return;
    if (a.pivot) {
        const double pivot = a.pivot[i * a.pivot_row + i];
        sum = pivot > 0 ? sum / pivot : NAN;
    }
    a.sums[i] = sum;
}

extern "C" cudaError_t pol_cu_row_sums(cudaStream_t stream, const cu_row_sums *a)
{
    return launch(row_sums, dim3(parts(a->rows, SUM_ROWS)), dim3(SUM_ROWS * WARP), 0, stream, *a);
}

/* The triangle, from the diagonal on, into shared memory. */
static __device__ __forceinline__ void load_triangle(shared_array<double> u, const double *from, int64_t n, int64_t row)
{
    for (int i = threadIdx.x; i < n * TRIANGLE; i += blockDim.x) {
        const int r = i / TRIANGLE, c = i % TRIANGLE;
        if (c >= r && c < n)
            u[r * PITCH + c] = from[r * row + c];
    }
}

/* One warp, a column a thread: row k is divided by the root of its pivot, and its share taken off the rows below. */
static __global__ void factor(cu_factor a)
{
    const shared_array<double> u = shared_memory<double>(0, TRIANGLE * PITCH);
    const int j = threadIdx.x, n = (int)a.n;
    load_triangle(u, a.a, n, a.row);
    double root = 0;
    for (int k = 0; k < n; k++) {
        __syncwarp();
        const double pivot = u[k * PITCH + k];
        if (!(pivot > 0 && pivot < INFINITY) && j == 0 && *a.failed == 0)
            *a.failed = (int32_t)(a.first + k + 1);
        if (j == k)
            root = sqrt(pivot);
        double mine = 0;
        if (j > k && j < n) {
            mine = u[k * PITCH + j] / sqrt(pivot);
            u[k * PITCH + j] = mine;
        }
        __syncwarp();
        for (int i = k + 1; i <= j && j < n; i++)
            u[i * PITCH + j] -= u[k * PITCH + i] * mine;
    }
    __syncwarp();
    for (int i = 0; i < j && j < n; i++)
        a.a[i * a.row + j] = u[i * PITCH + j];
    if (j < n)
        a.a[j * a.row + j] = root;
}

extern "C" cudaError_t pol_cu_factor(cudaStream_t stream, const cu_factor *a)
{
    return launch(factor, dim3(1), dim3(WARP), TRIANGLE * PITCH * sizeof(double), stream, *a);
}

enum { SOLVE_THREADS = 64 };

/* A column a thread, in registers. */
template <bool TRANSPOSED> static __global__ void solve(cu_solve a)
{
    const shared_array<double> u = shared_memory<double>(0, TRIANGLE * PITCH);
    const int64_t column = (int64_t)blockIdx.x * SOLVE_THREADS + threadIdx.x;
    load_triangle(u, a.u, a.n, a.u_row);
    __syncthreads();
    if (column >= a.columns)
        return;
    double *b = a.b + column, x[TRIANGLE];
#pragma unroll
    for (int i = 0; i < TRIANGLE; i++)
        x[i] = i < a.n ? b[i * a.b_row] : 0.0;
#pragma unroll
    for (int step = 0; step < TRIANGLE; step++) {
        const int i = TRANSPOSED ? step : TRIANGLE - 1 - step;
        if (i >= a.n)
            continue;
        x[i] /= u[i * PITCH + i];
#pragma unroll
        for (int k = 0; k < TRIANGLE; k++) { /* the rows that are still to come */
            if (TRANSPOSED && k > i && k < a.n)
                x[k] -= u[i * PITCH + k] * x[i];
            if (!TRANSPOSED && k < i)
                x[k] -= u[k * PITCH + i] * x[i];
        }
    }
#pragma unroll
    for (int i = 0; i < TRIANGLE; i++)
        if (i < a.n)
            b[i * a.b_row] = x[i];
}

extern "C" cudaError_t pol_cu_solve(cudaStream_t stream, const cu_solve *a)
{
    return launch(a->transposed ? solve<true> : solve<false>, dim3(parts(a->columns, SOLVE_THREADS)),
                  dim3(SOLVE_THREADS), TRIANGLE * PITCH * sizeof(double), stream, *a);
}
