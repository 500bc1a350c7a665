/* swiglu.cl - h = gate / (1 + exp(-gate)) * up for the kept channels, 0 up to the padded width. One work-item per
 * vector of channels: dimension 0 the channels, 1 the token. A channel that is not kept reads as gate 0, up 0. */
kernel void swiglu(global float *h, global const float *gu, const swiglu_args a)
{
    const int c = get_global_id(0) * VECTOR, kept = a.kept - c, t = get_global_id(1);
    if (c >= a.padded)
        return;
    h += a.h_at + (long)t * a.padded + c;
    gu += a.gu_at + 2 * ((long)t * a.padded + c);
    const fv first = load_n(gu, 2 * kept), second = load_n(gu + VECTOR, 2 * kept - VECTOR);
#if VECTOR == 1
    const fv gate = first, up = second;
#else
    const fv gate = (fv)(first.even, second.even), up = (fv)(first.odd, second.odd);
#endif
    store_n(gate / (1.0f + exp(-gate)) * up, h, a.padded - c);
}
