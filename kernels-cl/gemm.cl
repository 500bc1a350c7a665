/* gemm.cl - what goes with a product that CLBlast does. */

/* y [T,N] += bias [N]. One work-item per element: dimension 0 the column, 1 the row. */
kernel void add_bias(global float *y, global const float *bias, const bias_args a)
{
    const int n = get_global_id(0), t = get_global_id(1);
    if (n < a.N)
        y[a.y_at + (long)t * a.N + n] += bias[a.bias_at + n];
}

/* A slice of weights in f32, exact. One work-item per element. */
kernel void widen_slice(global float *y, global const weight *w, const widen_args a)
{
    const long i = get_global_id(0);
    if (i < a.n)
        y[a.y_at + i] = widen(w[a.w_at + i]);
}
