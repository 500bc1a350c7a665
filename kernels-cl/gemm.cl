/* gemm.cl - what goes with a product that CLBlast does: the bias. One work-item per element: dimension 0 the column, 1
 * the row. */
kernel void add_bias(global float *y, global const float *bias, const bias_args a)
{
    const int n = get_global_id(0), t = get_global_id(1);
    if (n < a.N)
        y[a.y_at + (long)t * a.N + n] += bias[a.bias_at + n];
}
