/* obs_order.c - which units go one after the other, or `block` at a time.
 *
 * What is left lies together: p [n,n], the first n rows and columns, and w [n,C]. Errors come to the host, which
 * chooses; the units that go change places with the last ones. With P_JJ = U^T U of those, Z = U^-T P_J: and
 * V = U^-T W_J, made where P_J: and W_J are, the others lose Z^T Z and Z^T V: a removal of b rows is two products of
 * 2 n^2 b and 2 n C b operations, 2/3 N^3 and N^2 C in all.
 */
#include <math.h>

#include "backends/cuda/obs.h"

typedef struct sweep {
    cu_obs *o;
    int64_t left, before; /* units; and those there were before the last removal */
    int32_t *number;      /* [n_units] of a unit, by its place; those gone lie behind the others */
    double *error;        /* [n_units] by place */
    int64_t *chosen;      /* places of the units that go together, the least error first */
    int32_t *pairs;       /* of rows that change places */
} sweep;

static pol_status copy(cu_spd *s, double *to, const double *from, int64_t n)
{
    CU_TRY(s->c->base.ctx, s->op, cudaMemcpyAsync, to, from, (size_t)n * sizeof *to, cudaMemcpyDeviceToDevice,
           s->c->compute);
    return POL_OK;
}

/* tr(W_j^T (P_jj)^-1 W_j) is the sum of squares of U_jj^-T W_j. Of units of several rows, copies are made for that. */
static pol_status solve_copies(sweep *w)
{
    cu_obs *o = w->o;
    cu_spd *s = &o->spd;
    const int64_t unit = o->a->unit, C = o->a->C, n = w->left * unit;
    POL_TRY(copy(s, o->x, o->p, n * s->N));
    POL_TRY(copy(s, o->b, o->w, n * C));
    for (int64_t j = 0; j < w->left; j++) {
        double *u = o->x + j * unit * (s->N + 1);
        POL_TRY(cu_spd_factor(s, u, unit, j * unit));
        POL_TRY(cu_spd_solve(s, u, unit, o->b + j * unit * C, C, C, true));
    }
    return POL_OK;
}

static pol_status find_errors(sweep *w)
{
    cu_obs *o = w->o;
    const int64_t unit = o->a->unit, n = w->left * unit;
    if (unit > 1)
        POL_TRY(solve_copies(w));
    POL_TRY(cu_obs_fetch_squares(o, unit > 1 ? o->b : o->w, n, unit > 1 ? NULL : o->p));
    for (int64_t j = 0; j < w->left; j++) {
        w->error[j] = 0;
        for (int64_t i = 0; i < unit; i++)
            w->error[j] += o->spd.host[j * unit + i];
    }
    return POL_OK;
}

/* The error at a place is no number. If a pivot was to blame, it was of a unit left or of one that just went. */
static pol_status not_positive(sweep *w, int64_t place)
{
    const pol_obs_sweep_args *a = w->o->a;
    cu_spd *s = &w->o->spd;
    int32_t failed;
    POL_TRY(cu_fetch(s->c, &failed, s->failed, sizeof failed));
    const int64_t at = failed ? (failed - 1) / a->unit : place, left = at < w->left ? w->left : w->before;
    return pol_fail(s->c->base.ctx, POL_ENUMERIC,
                    "obs_sweep: unit %d: its pivot is not positive after %lld removals; a larger damping makes it so",
                    w->number[at], (long long)(a->n_units - left));
}

static bool goes_first(const sweep *w, int64_t a, int64_t b)
{
    return w->error[a] < w->error[b] || (w->error[a] == w->error[b] && w->number[a] < w->number[b]);
}

/* The `count` units of least error, into chosen, in the order in which they go: kept sorted while all are looked at. */
static pol_status choose(sweep *w, int64_t count)
{
    int64_t n = 0;
    for (int64_t i = 0; i < w->left; i++) {
        if (!isfinite(w->error[i]))
            return not_positive(w, i);
        if (n == count && !goes_first(w, i, w->chosen[n - 1]))
            continue;
        int64_t at = n < count ? n++ : n - 1;
        for (; at > 0 && goes_first(w, i, w->chosen[at - 1]); at--)
            w->chosen[at] = w->chosen[at - 1];
        w->chosen[at] = i;
    }
    return POL_OK;
}

/* Exchanges rows and columns of p and rows of w. */
static pol_status exchange_rows(sweep *w, int64_t n_pairs)
{
    cu_obs *o = w->o;
    cu *c = o->spd.c;
    const int64_t N = o->spd.N, C = o->a->C, n = w->left * o->a->unit;
    const cu_exchange all[] = {{.x = o->p, .n = n, .across = N, .along = 1},
                               {.x = o->p, .n = n, .across = 1, .along = N},
                               {.x = o->w, .n = C, .across = C, .along = 1}};
    if (n_pairs == 0)
        return POL_OK;
    POL_TRY(cu_send(c, o->pairs, w->pairs, (size_t)(2 * n_pairs) * sizeof *w->pairs));
    for (size_t i = 0; i < POL_COUNT(all); i++) {
        cu_exchange k = all[i];
        k.pairs = o->pairs;
        k.n_pairs = n_pairs;
        CU_TRY(c->base.ctx, "obs_sweep", pol_cu_exchange, c->compute, &k);
    }
    return POL_OK;
}

/* The chosen units to the end of what is left: each of them before that changes places with one behind that stays. */
static pol_status move_behind(sweep *w, int64_t count)
{
    const int64_t unit = w->o->a->unit, first = w->left - count;
    int64_t n = 0;
    for (int64_t k = 0; k < count; k++)
        w->error[w->chosen[k]] = NAN; /* goes */
    for (int64_t k = 0, stays = first; k < count; k++) {
        const int64_t goes = w->chosen[k];
        if (goes >= first)
            continue;
        while (isnan(w->error[stays]))
            stays++;
        for (int64_t i = 0; i < unit; i++, n++) {
            w->pairs[2 * n] = (int32_t)(goes * unit + i);
            w->pairs[2 * n + 1] = (int32_t)(stays * unit + i);
        }
        const int32_t number = w->number[goes];
        w->number[goes] = w->number[stays];
        w->number[stays++] = number;
    }
    return exchange_rows(w, n);
}

/* Takes the last `count` units off the others. */
static pol_status take_off(sweep *w, int64_t count)
{
    cu_obs *o = w->o;
    const cu_spd *s = &o->spd;
    const int64_t N = s->N, C = o->a->C, b = count * o->a->unit, n = w->left * o->a->unit - b;
    double *z = o->p + n * N, *v = o->w + n * C;
    POL_TRY(cu_spd_factor(s, z + n, b, n));
    POL_TRY(cu_spd_solve(s, z + n, b, z, n, N, true));
    POL_TRY(cu_spd_solve(s, z + n, b, v, C, C, true));
    const cu_product of_p = {.y = o->p,
                             .x = z,
                             .w = z,
                             .T = n,
                             .N = n,
                             .K = b,
                             .y_row = N,
                             .x_row = N,
                             .w_row = N,
                             .put = CU_SUBTRACT,
                             .x_turned = true};
    const cu_product of_w = {
        .y = o->w, .x = z, .w = v, .T = n, .N = C, .K = b, .x_row = N, .put = CU_SUBTRACT, .x_turned = true};
    POL_TRY(cu_spd_multiply(s, &of_p));
    return cu_spd_multiply(s, &of_w);
}

static pol_status run(sweep *w)
{
    pol_obs_sweep_args *a = w->o->a;
    while (w->left) {
        const int64_t count = pol_min_i64(a->block, w->left);
        POL_TRY(pol_check_stop(w->o->spd.c->base.ctx));
        POL_TRY(find_errors(w));
        POL_TRY(choose(w, count));
        for (int64_t k = 0; k < count; k++) {
            a->order[w->left - 1 - k] = w->number[w->chosen[k]];
            a->error[w->left - 1 - k] = w->error[w->chosen[k]];
        }
        w->before = w->left;
        if (count < w->left) {
            POL_TRY(move_behind(w, count));
            POL_TRY(take_off(w, count));
        }
        w->left -= count;
    }
    return POL_OK;
}

/* p = the inverse of the damped matrix. */
static pol_status load_inverse(cu_obs *o)
{
    POL_TRY(cu_obs_load(o, false));
    POL_TRY(cu_spd_factor_all(&o->spd, o->p, NULL));
    POL_TRY(cu_spd_condition(&o->spd, o->p, o->norm, &o->a->condition));
    POL_TRY(cu_spd_invert(&o->spd, o->p, o->x));
    return cu_spd_square(&o->spd, o->x, o->p);
}

pol_status cu_obs_find_order(cu_obs *o)
{
    pol_context *ctx = o->spd.c->base.ctx;
    const int64_t n = o->a->n_units, at_once = pol_min_i64(o->a->block, n);
    sweep w = {.o = o, .left = n};
    w.number = pol_alloc_array(ctx, n, sizeof *w.number);
    w.error = pol_alloc_array(ctx, n, sizeof *w.error);
    w.chosen = pol_alloc_array(ctx, at_once, sizeof *w.chosen);
    w.pairs = pol_alloc_array(ctx, 2 * at_once * o->a->unit, sizeof *w.pairs);
    pol_status s = POL_ENOMEM;
    if (w.number && w.error && w.chosen && w.pairs) {
        for (int32_t i = 0; i < n; i++)
            w.number[i] = i;
        s = load_inverse(o);
        if (s == POL_OK)
            s = run(&w);
    }
    void *const blocks[] = {w.number, w.error, w.chosen, w.pairs};
    for (size_t i = 0; i < POL_COUNT(blocks); i++)
        pol_free(ctx, blocks[i]);
    return s;
}
