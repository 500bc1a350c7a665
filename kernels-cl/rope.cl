/* rope.cl - rotates the query and key heads of a token, all by the same angles. One work-item per vector of pairs:
 * dimension 0 the pairs of a head, 1 the position, 2 the sequence; it takes these pairs of every head in turn. */
kernel void rope(global float *qkv, global const float *cos_sin, const rope_args a)
{
    const int pairs = a.D / 2, d = get_global_id(0) * VECTOR, p = get_global_id(1), n = pairs - d;
    if (n <= 0)
        return;
    const long t = (long)get_global_id(2) * a.S + p;
    cos_sin += a.cos_sin_at + (long)p * a.D + d;
    const fv cosine = load_n(cos_sin, n), sine = load_n(cos_sin + pairs, n);
    global float *group = qkv + a.qkv_at + t * a.G * (a.g + 2) * a.D + d;
    for (int i = 0; i < a.G; i++, group += (a.g + 2) * a.D)
        for (int j = 0; j < a.g + 1; j++) {
            global float *head = group + j * a.D;
            const fv u = load_n(head, n), v = load_n(head + pairs, n);
            store_n(u * cosine - v * sine, head, n);
            store_n(v * cosine + u * sine, head + pairs, n);
        }
}
