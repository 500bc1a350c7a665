/* swap_units.cl - exchanges the units of pairs. One work-item per vector of elements: dimension 0 the elements of a
 * unit, 1 the pair. `a` and `b` are the pieces of the buffer that hold a pair's units, often one and the same. The host
 * defines UNIT, an unsigned integer as wide as an element: values are moved, not looked at. */
#if VECTOR == 1
typedef UNIT unit_v;
#else
typedef JOIN(UNIT, VECTOR) unit_v;
#endif

kernel void swap_units(global UNIT *a, global UNIT *b, global const swap_pair *pairs, const swap_args s)
{
    const swap_pair pair = pairs[s.first + get_global_id(1)];
    int c = get_global_id(0) * VECTOR;
    a += pair.a_at;
    b += pair.b_at;
    if (c + VECTOR <= s.unit) {
        const unit_v of_a = load_v(a + c), of_b = load_v(b + c);
        store_v(of_b, a + c);
        store_v(of_a, b + c);
        return;
    }
    for (; c < s.unit; c++) {
        const UNIT of_a = a[c];
        a[c] = b[c];
        b[c] = of_a;
    }
}
