/* project.c - Euclidean projection of the probabilities onto the budget: s <- clip(s - v c, 0, 1) with the least v >= 0 that meets it.
 *
 * A joint budget is written in parameters. That c is then the parameters themselves and not their quotient by the mean only scales v.
 */
#include <math.h>
#include <stdlib.h>

#include "core/base/base.h"
#include "core/mask/budget.h"
#include "core/mask/units.h"

typedef struct problem {
    const pol_distribution *d;
    unsigned kinds; /* whose s moves */
    bool joint;     /* a unit costs its parameters, else 1 */
    double budget;
} problem;

static bool has_section(const problem *p, const pol_section *sec) { return pol_has_kind(p->kinds, sec->kind); }
static double unit_cost(const problem *p, const pol_section *sec) { return p->joint ? (double)sec->params : 1; }

/* The v at which a unit leaves 1, and at which it arrives at 0. Written once: the breakpoints, the equation between two of them and
 * the final move must agree to the last bit on which units are at a bound. */
static double leaves_one(double s, double cost) { return (s - 1) / cost; }
static double reaches_zero(double s, double cost) { return s / cost; }

static double moved(double s, double cost, double v)
{
    if (v >= reaches_zero(s, cost))
        return 0;
    if (v <= leaves_one(s, cost))
        return 1;
    return s - v * cost;
}

static double section_sum(const problem *p, const pol_section *sec, double v)
{
    const double cost = unit_cost(p, sec);
    double sum = 0;
    for (int64_t i = sec->first; i < sec->first + sec->count; i++) {
        const double x = p->d->s[i] - v * cost; /* moved() but for the last bits, without its divisions */
        sum += x < 0 ? 0 : x > 1 ? 1 : x;
    }
    return sum;
}

/* Expected cost of the moved units where it is linear in them. */
static double linear_cost(const problem *p, double v)
{
    double sum = 0;
    for (int64_t k = 0; k < p->d->units->n_sections; k++) {
        const pol_section *sec = &p->d->units->sections[k];
        if (has_section(p, sec))
            sum += unit_cost(p, sec) * section_sum(p, sec, v);
    }
    return sum;
}

/* Expected parameters of everything where a unit counts only with its block: s_block (bias + sum of s_unit cost). */
static double coupled_cost(const problem *p, double v)
{
    const pol_units *u = p->d->units;
    double sum = 0;
    for (int32_t l = 0; l < u->n_layers; l++)
        for (pol_unit_kind k = POL_UNIT_GROUP; k <= POL_UNIT_CHANNEL; k++) {
            const pol_section *contents = pol_units_section(u, k, l), *block = pol_units_section(u, pol_block_of(k), l);
            double inside = (double)block->params, outside = (double)block->count;
            if (has_section(p, contents))
                inside = (double)pol_block_bias(u, k, l) + (double)contents->params * section_sum(p, contents, v);
            if (has_section(p, block))
                outside = section_sum(p, block, v);
            sum += outside * inside;
        }
    return sum;
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Between two neighbouring breakpoints the same units are at 1, at 0 and in between, and the cost is linear in v. The breakpoints are
 * sorted, the piece that holds the budget is found by halving, and its linear equation gives v. */
static pol_status linear_shift(const problem *p, double *v)
{
    const pol_units *u = p->d->units;
    *v = 0;
    if (linear_cost(p, 0) <= p->budget)
        return POL_OK;
    double *point = pol_alloc_array(u->ctx, 2 * u->n, sizeof *point);
    if (!point)
        return POL_ENOMEM;
    int64_t n = 0;
    for (int64_t k = 0; k < u->n_sections; k++) {
        const pol_section *sec = &u->sections[k];
        for (int64_t i = sec->first; has_section(p, sec) && i < sec->first + sec->count; i++) {
            const double s = p->d->s[i], cost = unit_cost(p, sec);
            if (s > 0)
                point[n++] = reaches_zero(s, cost);
            if (s > 1)
                point[n++] = leaves_one(s, cost);
        }
    }
    qsort(point, (size_t)n, sizeof *point, compare_doubles);
    int64_t above = -1, within = n - 1; /* -1 stands for v = 0; at the last point all s are 0 */
    while (within - above > 1) {
        const int64_t mid = above + (within - above) / 2;
        if (linear_cost(p, point[mid]) <= p->budget)
            within = mid;
        else
            above = mid;
    }
    const double from = above < 0 ? 0 : point[above], to = point[within];
    pol_free(u->ctx, point);

    double constant = 0, slope = 0; /* cost = constant - slope v on [from, to] */
    for (int64_t k = 0; k < u->n_sections; k++) {
        const pol_section *sec = &u->sections[k];
        const double cost = unit_cost(p, sec);
        for (int64_t i = sec->first; has_section(p, sec) && i < sec->first + sec->count; i++) {
            const double s = p->d->s[i];
            if (leaves_one(s, cost) >= to) {
                constant += cost;
            } else if (reaches_zero(s, cost) > from) {
                constant += cost * s;
                slope += cost * cost;
            }
        }
    }
    *v = slope > 0 ? fmin(fmax((constant - p->budget) / slope, from), to) : to;
    return POL_OK;
}

/* The cost falls with v, but is no longer piecewise linear: halving until two neighbouring doubles are left. */
static double coupled_shift(const problem *p)
{
    if (coupled_cost(p, 0) <= p->budget)
        return 0;
    double above = 0, within = 0;
    for (int64_t k = 0; k < p->d->units->n_sections; k++) {
        const pol_section *sec = &p->d->units->sections[k];
        for (int64_t i = sec->first; has_section(p, sec) && i < sec->first + sec->count; i++)
            within = fmax(within, reaches_zero(p->d->s[i], unit_cost(p, sec)));
    }
    for (;;) {
        const double mid = above + (within - above) / 2;
        if (!(above < mid && mid < within))
            return within;
        if (coupled_cost(p, mid) <= p->budget)
            within = mid;
        else
            above = mid;
    }
}

static problem problem_of(const pol_distribution *d, const pol_budget *b, pol_unit_kind kind)
{
    const pol_units *u = d->units;
    if (b->mode == POL_BUDGET_SEPARATE)
        return (problem){d, 1u << kind, false, b->keep[kind] * (double)u->n_of[kind]};
    return (problem){d, d->granularity, true, b->keep_params * (double)pol_mask_params(u, NULL)};
}

static pol_status shift_of(problem p, double *v)
{
    if (p.joint && (pol_is_coupled(p.kinds, POL_UNIT_GROUP) || pol_is_coupled(p.kinds, POL_UNIT_CHANNEL))) {
        *v = coupled_shift(&p);
        return POL_OK;
    }
    if (p.joint)
        p.budget = fmax(0, p.budget - (double)pol_untouched_params(p.d->units, p.kinds));
    return linear_shift(&p, v);
}

pol_status pol_budget_shift(const pol_distribution *d, const pol_budget *b, pol_unit_kind kind, double *v)
{
    POL_TRY(pol_budget_check(d->units, d->granularity, b));
    POL_TRY(pol_distribution_check(d));
    return shift_of(problem_of(d, b, kind), v);
}

static void move(const problem *p, double v, float *s)
{
    for (int64_t k = 0; k < p->d->units->n_sections; k++) {
        const pol_section *sec = &p->d->units->sections[k];
        for (int64_t i = sec->first; has_section(p, sec) && i < sec->first + sec->count; i++)
            s[i] = (float)moved(s[i], unit_cost(p, sec), v);
    }
}

pol_status pol_project_budget(pol_distribution *d, const pol_budget *b)
{
    for (pol_unit_kind k = 0; k < POL_UNIT_KINDS; k++) {
        if (b->mode == POL_BUDGET_SEPARATE && !pol_has_kind(d->granularity, k))
            continue;
        double v;
        POL_TRY(pol_budget_shift(d, b, k, &v));
        const problem p = problem_of(d, b, k);
        move(&p, v, d->s);
        if (b->mode == POL_BUDGET_JOINT)
            break;
    }
    return POL_OK;
}
