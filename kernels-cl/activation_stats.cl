/* activation_stats.cl - sums of x and of x^2 down every column, a vector of columns at a time. */

/* Rows that are summed before they are added to the rest: a sum of thousands of rows one by one would lose digits. */
enum { BLOCK = 64 };

/* Rows `first`, first + step, ... of the n columns from x on. */
static inline void sum_rows(global const float *x, const stats_args a, int first, int step, int n, fv *sum, fv *sumsq)
{
    *sum = 0;
    *sumsq = 0;
    for (int t = first; t < a.T;) {
        fv s = 0, q = 0;
        for (int i = 0; i < BLOCK && t < a.T; i++, t += step) {
            const fv v = load_n(x + (long)t * a.N, n);
            s += v;
            q += v * v;
        }
        *sum += s;
        *sumsq += q;
    }
}

/* One work-item per vector of columns. */
kernel void activation_stats_item(global float *sum, global float *sumsq, global const float *x, const stats_args a)
{
    const int c = get_global_id(0) * VECTOR, n = a.N - c;
    if (n <= 0)
        return;
    fv s, q;
    sum_rows(x + a.x_at + c, a, 0, 1, n, &s, &q);
    store_n(s, sum + a.sum_at + c, n);
    store_n(q, sumsq + a.sumsq_at + c, n);
}

#if GROUP
/* A work-group takes LANES vectors of columns side by side, and GROUP / LANES rows at a time. */
#define LANES (GROUP < STATS_LANES ? GROUP : STATS_LANES)

kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void
activation_stats_group(global float *sum, global float *sumsq, global const float *x, const stats_args a)
{
    local fv sums[GROUP], squares[GROUP];
    const int i = get_local_id(0), c = (get_group_id(0) * LANES + i % LANES) * VECTOR, n = a.N - c;
    fv s, q;
    sum_rows(x + a.x_at + c, a, i / LANES, GROUP / LANES, n, &s, &q);
    sums[i] = s;
    squares[i] = q;
    for (int m = GROUP / 2; m >= LANES; m /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (i < m) {
            sums[i] += sums[i + m];
            squares[i] += squares[i + m];
        }
    }
    if (i < LANES) {
        store_n(sums[i], sum + a.sum_at + c, n);
        store_n(squares[i], sumsq + a.sumsq_at + c, n);
    }
}
#endif
