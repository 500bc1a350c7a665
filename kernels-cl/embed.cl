/* embed.cl - a row of the table for every token. One work-item per element: dimension 0 the column, 1 the token. A
 * table in several pieces takes a launch a piece, each filling the rows of the ids that it holds. */
kernel void embed(global float *x, global const weight *table, global const int *ids, const embed_args a)
{
    const int c = get_global_id(0), t = get_global_id(1);
    if (c >= a.C)
        return;
    const int id = ids[a.ids_at + t];
    if (id >= a.first && id < a.end)
        x[a.x_at + (long)t * a.C + c] = widen(table[a.table_at + (long)(id - a.first) * a.C + c]);
}
