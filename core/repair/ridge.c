/* ridge.c - the rows of a block's last matrix that bring its stream nearest to an aim.
 *
 * X are the columns that the kept units give on the stream x. The aim is
 *     r x_d + (1 - r) x_whole
 * with x_d the dense stream behind the block and x_whole what the whole block makes of x. So Y = aim - x, the block's
 * output bias taken off, and
 *     (X^T X + l I) W = X^T Y + l W0     l = damping * mean diagonal, W0 the dense model's rows
 * which is W0 + (X^T X + l I)^-1 X^T (Y - X W0). One masked pass over the stream gives both products, and, since W0 is
 * in the model then, where the stream would be without repair.
 */
#include <math.h>
#include <string.h>

#include "core/repair/work.h"

static double share_of_dense(pol_repair_target target) { return target == POL_REPAIR_HALF ? 0.5 : 0; }

static int64_t stream_values(const pol_streams *s) { return s->n * s->S * s->C; }

static void copy_stream(pol_streams *to, const pol_streams *from)
{
    memcpy(to->x, from->x, (size_t)stream_values(from) * sizeof *to->x);
}

/* Sum of squares of the difference. */
static double distance(const pol_streams *a, const pol_streams *b)
{
    double sum = 0;
    for (int64_t i = 0; i < stream_values(a); i++) {
        const double d = (double)a->x[i] - (double)b->x[i];
        sum += d * d;
    }
    return sum;
}

/* The whole block's output on x, then as much of the dense stream as the target wants. */
static pol_status set_aim(pol_repair_work *w, const pol_repair_block *k, const pol_repair_way *way)
{
    const float r = (float)share_of_dense(way->target);
    copy_stream(&w->aim, &way->x);
    POL_TRY(pol_model_set_lengths(w->m, w->whole, NULL));
    POL_TRY(pol_streams_block(&w->aim, k->layer, k->kind, NULL, NULL, true));
    for (int64_t i = 0; r > 0 && i < stream_values(&w->aim); i++)
        w->aim.x[i] += r * (w->dense.x[i] - w->aim.x[i]);
    return POL_OK;
}

static const pol_buf *output_bias(const pol_repair_block *k)
{
    return k->kind == POL_UNIT_GROUP ? k->w.b_o : k->w.b_down;
}

/* One masked pass: the products X^T X and X^T (aim - x) into w->sums, and w->bare. Of a block with an output bias the
 * column sums of X, too. */
static pol_status look(pol_repair_work *w, const pol_repair_block *k, const pol_repair_way *way)
{
    const int64_t width = k->kind == POL_UNIT_CHANNEL ? pol_padded(w->m->be, k->columns) : k->columns;
    const pol_tap tap = {.sum = output_bias(k) ? w->sum : NULL, .gram = &w->sums};
    copy_stream(&w->bare, &way->x);
    memset(w->sum, 0, (size_t)k->columns * sizeof *w->sum);
    POL_TRY(pol_model_set_lengths(w->m, w->masked, NULL));
    POL_TRY(pol_gram_reset(&w->sums, width, true));
    return pol_streams_block(&w->bare, k->layer, k->kind, &tap, &w->aim, true);
}

/* Takes the output bias off Y in w->b = X^T Y: every token has it. */
static pol_status take_bias_off(pol_repair_work *w, const pol_repair_block *k)
{
    const int64_t C = w->c->hidden;
    if (!output_bias(k))
        return POL_OK;
    POL_TRY(pol_download(w->m->be, output_bias(k), 0, w->rows, C));
    for (int64_t i = 0; i < k->columns; i++)
        for (int64_t j = 0; j < C; j++)
            w->b[i * C + j] -= w->sum[i] * (double)w->rows[j];
    return POL_OK;
}

/* w->rows from the sums. *solved is false where there is no solution; *condition is 0 where there is nothing to solve,
 * because nothing but zeros enters. */
static pol_status solve(pol_repair_work *w, const pol_repair_block *k, bool *solved, double *condition)
{
    const int64_t n = k->columns, C = w->c->hidden;
    double trace = 0;
    POL_TRY(pol_gram_read(&w->sums, n, w->a, w->b));
    POL_TRY(take_bias_off(w, k));
    for (int64_t i = 0; i < n; i++)
        trace += w->a[i * n + i];
    const double l = w->job->o.damping * trace / (double)n;
    *solved = true;
    *condition = 0;
    memcpy(w->rows, w->original, (size_t)(n * C) * sizeof *w->rows);
    if (trace == 0)
        return POL_OK;
    for (int64_t i = 0; i < n * C; i++)
        w->b[i] += l * (double)w->original[i];
    pol_solve_spd_args args = {.N = n, .M = C, .damping = w->job->o.damping, .a = w->a, .b = w->b};
    const pol_status s = pol_solve_spd(w->job->host, &args);
    *solved = s == POL_OK;
    *condition = args.condition;
    for (int64_t i = 0; s == POL_OK && i < n * C; i++)
        w->rows[i] = (float)w->b[i];
    return s == POL_ENUMERIC ? POL_OK : s;
}

/* The stream goes on with w->rows in the block. */
static pol_status advance(pol_repair_work *w, const pol_repair_block *k, pol_repair_way *way)
{
    POL_TRY(pol_model_put(w->m, k->layer, k->last, 0, k->kept, w->rows));
    return pol_streams_block(&way->x, k->layer, k->kind, NULL, NULL, true);
}

/* The stream as it is without repair. */
static void go_without(pol_repair_work *w, const pol_repair_block *k, pol_repair_way *way)
{
    float *repaired = way->x.x;
    way->x.x = w->bare.x;
    w->bare.x = repaired;
    memcpy(w->rows, w->original, (size_t)(k->columns * w->c->hidden) * sizeof *w->rows);
}

static void say_why_not(const pol_repair_work *w, const pol_repair_block *k, const pol_repair_way *way, bool solved,
                        double condition)
{
    pol_log(w->ctx, POL_LOG_WARN, "layer %d, %s, target %s: %s (condition number %.3g): the block stays as it is",
            k->layer, pol_unit_kind_name(k->kind), pol_repair_target_names[way->target],
            solved ? "repaired rows do worse than the old ones" : "no repair can be solved for", condition);
}

/* Squared distances to the aim: from the stream before the block, without repair, with it. */
typedef struct distances {
    double all, before, after;
} distances;

static pol_status mend(pol_repair_work *w, const pol_repair_block *k, pol_repair_way *way)
{
    bool solved;
    double condition;
    POL_TRY(set_aim(w, k, way));
    POL_TRY(look(w, k, way));
    distances d = {.all = distance(&w->aim, &way->x), .before = distance(&w->aim, &w->bare)};
    if (!(d.before < HUGE_VAL))
        return pol_fail(w->ctx, POL_ENUMERIC, "repair: layer %d, %s, target %s: the stream is not finite", k->layer,
                        pol_unit_kind_name(k->kind), pol_repair_target_names[way->target]);
    if (d.before == 0) { /* as whole blocks are before anything has been removed */
        go_without(w, k, way);
        return POL_OK;
    }
    POL_TRY(solve(w, k, &solved, &condition));
    if (solved) {
        POL_TRY(advance(w, k, way));
        d.after = distance(&w->aim, &way->x);
    }
    pol_log(w->ctx, POL_LOG_DEBUG,
            "repair layer=%d %s target=%s columns=%lld condition=%.3g error of what the block adds: without=%.4g "
            "with=%.4g",
            k->layer, pol_unit_kind_name(k->kind), pol_repair_target_names[way->target], (long long)k->columns,
            condition, d.before / d.all, d.after / d.all);
    if (solved && d.after <= d.before)
        return POL_OK;
    say_why_not(w, k, way, solved, condition);
    go_without(w, k, way);
    return POL_OK;
}

/* A whole block gives the local aim by itself. */
static pol_status pass(pol_repair_work *w, const pol_repair_block *k, pol_repair_way *way)
{
    memcpy(w->rows, w->original, (size_t)(k->columns * w->c->hidden) * sizeof *w->rows);
    POL_TRY(pol_model_set_lengths(w->m, w->masked, NULL));
    return advance(w, k, way);
}

/* What an earlier call has computed. */
static pol_status replay(pol_repair_work *w, const pol_repair_block *k, pol_repair_way *way)
{
    if (way->first) {
        POL_TRY(pol_repaired_file_get(way->file, k->layer, k->first, way->first));
        POL_TRY(pol_model_put(w->m, k->layer, k->first, 0, k->kept, way->first));
    }
    POL_TRY(pol_repaired_file_get(way->file, k->layer, k->last, w->rows));
    POL_TRY(pol_model_set_lengths(w->m, w->masked, NULL));
    return advance(w, k, way);
}

static pol_status compute(pol_repair_work *w, const pol_repair_block *k, pol_repair_way *way)
{
    if (way->first) {
        POL_TRY(pol_refit_block(w, k, way));
        POL_TRY(pol_model_put(w->m, k->layer, k->first, 0, k->units, way->first));
    }
    const bool whole = k->kept == k->units && share_of_dense(way->target) == 0;
    POL_TRY((whole ? pass : mend)(w, k, way));
    if (way->first)
        POL_TRY(pol_repaired_file_add(way->file, k->layer, k->first, way->first));
    return pol_repaired_file_add(way->file, k->layer, k->last, w->rows);
}

pol_status pol_ridge_block(pol_repair_work *w, const pol_repair_block *k, pol_repair_way *way)
{
    POL_TRY((k->layer < w->done ? replay : compute)(w, k, way));
    POL_TRY(pol_model_put(w->m, k->layer, k->last, 0, k->kept, w->original));
    return way->first ? pol_model_put(w->m, k->layer, k->first, 0, k->units, w->first_original) : POL_OK;
}
