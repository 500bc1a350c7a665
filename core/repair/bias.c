/* bias.c - a constant in place of what the removed inputs add on average. */
#include "core/repair/work.h"

/* The mean is the dense model's: blocks do not see each other's repair. */
pol_status pol_bias_block(pol_repair_work *w, const pol_repair_block *k, pol_repair_way *way)
{
    const pol_buf *old = k->kind == POL_UNIT_GROUP ? k->w.b_o : k->w.b_down;
    const int64_t C = w->c->hidden;
    const double tokens = (double)(w->dense.n * w->dense.S);
    float *bias = w->rows;
    for (int64_t j = 0; j < C; j++)
        bias[j] = 0;
    if (old)
        POL_TRY(pol_download(w->m->be, old, 0, bias, C));
    for (int64_t j = 0; j < C; j++) {
        double sum = bias[j];
        for (int64_t i = k->columns; i < k->all; i++) /* the removed units lie behind the kept ones */
            sum += w->sum[i] / tokens * (double)w->original[i * C + j];
        bias[j] = (float)sum;
    }
    return pol_repaired_file_add_bias(way->file, bias);
}
