/* gram.cl - adds an f32 product to sums that are pairs of floats, their high and their low part: what rounds off the
 * high part goes to the low one, so that no number of additions wears the sum away. Knuth's two-sum, then Dekker's fast
 * one; Hida, Li and Bailey 2001, Algorithms for quad-double precision floating point arithmetic. Only 2^-48 or so of
 * the sum is lost each time, where f32 alone loses 2^-24.
 *
 * It stands on every operation being rounded by itself, in the order in which it is written: kernels are built without
 * the options that let a compiler do otherwise.
 */
#pragma OPENCL FP_CONTRACT OFF

/* One work-item per element: dimension 0 the column, 1 the row. */
kernel void gram_add(global float *sums, global const float *product, const gram_args a)
{
    const int column = get_global_id(0), row = get_global_id(1);
    if (column >= a.columns)
        return;
    const long at = (long)row * a.stride + column;
    global float *high = sums + a.high_at + at, *low = sums + a.low_at + at;
    const float was = *high, more = product[a.product_at + (long)row * a.columns + column];
    const float sum = was + more, part = sum - was;
    const float lost = (was - (sum - part)) + (more - part) + *low;
    const float whole = sum + lost;
    *high = whole;
    *low = lost - (whole - sum);
}
