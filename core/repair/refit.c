/* refit.c - a block's first matrix, so that on the repaired stream it gives what it gives on the dense one.
 *
 * y and y_d are the normed streams before the block, W the first matrix: W <- W + strength Z W with
 *     (y^T y + damping mean(diag) I) Z = y^T (y_d - y)
 * so that y W comes near y_d W. A row of the part is a column of W: it gets strength Z times itself.
 */
#include <math.h>
#include <string.h>

#include "core/repair/work.h"

static int64_t scratch_values(const pol_config *c, pol_backend *be, int64_t max_tokens)
{
    return pol_gemm_scratch(be, max_tokens, c->hidden, c->hidden);
}

pol_status pol_refit_new(pol_repair_work *w)
{
    pol_backend *be = w->m->be;
    const int64_t C = w->c->hidden, T = pol_forward_max_tokens(w->job->f), n = scratch_values(w->c, be, T);
    POL_TRY(pol_buf_new(be, be->act_dtype, T * C, &w->x));
    POL_TRY(pol_buf_new(be, be->act_dtype, T * C, &w->y));
    POL_TRY(pol_buf_new_rows(be, be->weight_dtype, C, C, &w->z));
    return n ? pol_buf_new(be, POL_F32, n, &w->scratch) : POL_OK;
}

void pol_refit_free(pol_repair_work *w)
{
    pol_buf *const all[] = {w->x, w->y, w->z, w->scratch};
    for (size_t i = 0; i < POL_COUNT(all); i++)
        pol_buf_free(w->m->be, all[i]);
}

uint64_t pol_refit_device_bytes(const pol_config *c, pol_backend *be, int64_t max_tokens)
{
    const int64_t C = c->hidden, n = scratch_values(c, be, max_tokens);
    return 2 * pol_buf_bytes(be, be->act_dtype, max_tokens * C) + pol_buf_bytes(be, be->weight_dtype, C * C) +
           (n ? pol_buf_bytes(be, POL_F32, n) : 0);
}

/* y [n, C] = the norm of x. */
static void norm(const float *x, const float *gain, float eps, int64_t n, int64_t C, float *y)
{
    for (int64_t t = 0; t < n; t++, x += C, y += C) {
        double sum = 0;
        for (int64_t i = 0; i < C; i++)
            sum += (double)x[i] * x[i];
        const float scale = (float)(1 / sqrt(sum / (double)C + eps));
        for (int64_t i = 0; i < C; i++)
            y[i] = x[i] * scale * gain[i];
    }
}

/* Sums of y^T y and y^T (y_d - y) over all tokens; y, yd [max_tokens, C]. */
static pol_status sum_products(pol_repair_work *w, const pol_streams *x, const float *gain, float *y, float *yd)
{
    pol_backend *be = w->m->be;
    const int64_t C = w->c->hidden, all = x->n * x->S, step = pol_forward_max_tokens(w->job->f);
    POL_TRY(pol_gram_reset(&w->sums, C, true));
    for (int64_t t = 0; t < all; t += step) {
        const int64_t n = pol_min_i64(step, all - t);
        POL_TRY(pol_check_stop(w->ctx));
        norm(x->x + t * C, gain, w->c->rms_eps, n, C, y);
        norm(w->before.x + t * C, gain, w->c->rms_eps, n, C, yd);
        for (int64_t i = 0; i < n * C; i++)
            yd[i] -= y[i];
        POL_TRY(pol_upload(be, w->x, 0, y, n * C));
        POL_TRY(pol_upload(be, w->sums.target, 0, yd, n * C));
        POL_TRY(pol_gram_add(&w->sums, (pol_view){w->x, 0}, n, C));
    }
    return POL_OK;
}

static pol_status solve(pol_repair_work *w, const pol_repair_block *k, float *z)
{
    const int64_t C = w->c->hidden;
    POL_TRY(pol_gram_read(&w->sums, C, w->a, w->b));
    pol_solve_spd_args args = {.N = C, .M = C, .damping = w->job->o.damping, .a = w->a, .b = w->b};
    POL_TRY(pol_solve_spd(w->job->host, &args));
    for (int64_t i = 0; i < C * C; i++)
        z[i] = (float)w->b[i];
    pol_log(w->ctx, POL_LOG_DEBUG, "repair layer=%d %s re-fit condition=%.3g", k->layer, pol_unit_kind_name(k->kind),
            args.condition);
    return POL_OK;
}

/* rows [n, C] += strength * rows Z^T, on the device a piece at a time. */
static pol_status add_products(pol_repair_work *w, const float *z, int64_t n, float *rows, float *piece)
{
    pol_backend *be = w->m->be;
    const int64_t C = w->c->hidden, step = pol_forward_max_tokens(w->job->f);
    const float strength = (float)w->job->o.refit_inputs;
    POL_TRY(pol_upload(be, w->z, 0, z, C * C));
    for (int64_t r = 0; r < n; r += step) {
        const int64_t now = pol_min_i64(step, n - r);
        POL_TRY(pol_upload(be, w->x, 0, rows + r * C, now * C));
        POL_TRY(pol_project(
            be,
            &(pol_project_args){
                .y = {w->y, 0}, .x = {w->x, 0}, .w = {w->z, 0}, .scratch = {w->scratch, 0}, .T = now, .N = C, .C = C}));
        POL_TRY(pol_download(be, w->y, 0, piece, now * C));
        for (int64_t i = 0; i < now * C; i++)
            rows[r * C + i] += strength * piece[i];
    }
    return POL_OK;
}

pol_status pol_refit_block(pol_repair_work *w, const pol_repair_block *k, pol_repair_way *way)
{
    const int64_t C = w->c->hidden, T = pol_forward_max_tokens(w->job->f);
    const int64_t values = k->units * pol_part_of(w->c, w->m->be, k->layer, k->first).unit;
    float *gain = pol_alloc_array(w->ctx, C + 2 * T * C + C * C, sizeof *gain);
    if (!gain)
        return POL_ENOMEM;
    float *y = gain + C, *yd = y + T * C, *z = yd + T * C;
    pol_status s = pol_download(w->m->be, k->kind == POL_UNIT_GROUP ? k->w.attn_norm : k->w.mlp_norm, 0, gain, C);
    if (s == POL_OK)
        s = sum_products(w, &way->x, gain, y, yd);
    if (s == POL_OK)
        s = solve(w, k, z);
    memcpy(way->first, w->first_original, (size_t)values * sizeof *way->first);
    if (s == POL_OK)
        s = add_products(w, z, values / C, way->first, y);
    pol_free(w->ctx, gain);
    return s;
}
