/* rmsnorm.cl - y = x / sqrt(mean(x^2) + eps) * gain, a row at a time. */

/* One work-item a row. */
kernel void rmsnorm_item(global float *y, global const float *x, global const float *gain, const rmsnorm_args a)
{
    const int t = get_global_id(0);
    if (t >= a.T)
        return;
    x += a.x_at + (long)t * a.C;
    y += a.y_at + (long)t * a.C;
    gain += a.gain_at;
    fv squares = 0;
    for (int c = 0; c < a.C; c += VECTOR) {
        const fv v = load_n(x + c, a.C - c);
        squares += v * v;
    }
    const float scale = 1.0f / sqrt(sum_v(squares) / a.C + a.eps);
    for (int c = 0; c < a.C; c += VECTOR) {
        const int n = a.C - c;
        store_n(load_n(x + c, n) * scale * load_n(gain + c, n), y + c, n);
    }
}

#if GROUP
/* One work-group a row. */
kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void
rmsnorm_group(global float *y, global const float *x, global const float *gain, const rmsnorm_args a)
{
    local float part[GROUP];
    const int t = get_group_id(0), i = get_local_id(0);
    x += a.x_at + (long)t * a.C;
    y += a.y_at + (long)t * a.C;
    gain += a.gain_at;
    float squares = 0;
    for (int c = i; c < a.C; c += GROUP)
        squares += x[c] * x[c];
    const float scale = 1.0f / sqrt(group_sum(squares, part) / a.C + a.eps);
    for (int c = i; c < a.C; c += GROUP)
        y[c] = x[c] * scale * gain[c];
}
#endif
