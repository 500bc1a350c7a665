/* project.c - Euclidean projection of the probabilities onto the budget: s <- clip(s - v c, 0, 1) with the least v >= 0
 * that meets it.
 *
 * A joint budget is written in parameters. That c is then the parameters themselves and not their quotient by the mean
 * only scales v.
 */
#include <limits.h>
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

/* The v at which a unit leaves 1, and at which it arrives at 0. Written once: the breakpoints, the equation between two
 * of them and the final move must agree to the last bit on which units are at a bound. */
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

typedef double (*cost_fn)(const problem *p, double v);

/* The least v at which every s is 0. */
static double last_breakpoint(const problem *p)
{
    double v = 0;
    for (int64_t k = 0; k < p->d->units->n_sections; k++) {
        const pol_section *sec = &p->d->units->sections[k];
        for (int64_t i = sec->first; has_section(p, sec) && i < sec->first + sec->count; i++)
            v = fmax(v, reaches_zero(p->d->s[i], unit_cost(p, sec)));
    }
    return v;
}

/* Halves [above, within], at whose ends the cost is above and within the budget; stops early at two neighbouring
 * doubles. */
static void halve(const problem *p, cost_fn cost, int times, double *above, double *within)
{
    for (; times > 0; times--) {
        const double mid = *above + (*within - *above) / 2;
        if (!(*above < mid && mid < *within))
            return;
        *(cost(p, mid) <= p->budget ? within : above) = mid;
    }
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Moves [above, within] to the piece between two neighbouring breakpoints that holds the budget. */
static pol_status find_piece(const problem *p, double *above, double *within)
{
    const pol_units *u = p->d->units;
    double *point = pol_alloc_array(u->ctx, 2 * u->n, sizeof *point);
    if (!point)
        return POL_ENOMEM;
    int64_t n = 0;
    for (int64_t k = 0; k < u->n_sections; k++) {
        const pol_section *sec = &u->sections[k];
        for (int64_t i = sec->first; has_section(p, sec) && i < sec->first + sec->count; i++) {
            const double breakpoint[2] = {reaches_zero(p->d->s[i], unit_cost(p, sec)),
                                          leaves_one(p->d->s[i], unit_cost(p, sec))};
            for (int j = 0; j < 2; j++)
                if (*above < breakpoint[j] && breakpoint[j] < *within)
                    point[n++] = breakpoint[j];
        }
    }
    qsort(point, (size_t)n, sizeof *point, compare_doubles);
    for (int64_t lo = 0, hi = n; lo < hi;) {
        const int64_t mid = lo + (hi - lo) / 2;
        if (linear_cost(p, point[mid]) <= p->budget) {
            *within = point[mid];
            hi = mid;
        } else {
            *above = point[mid];
            lo = mid + 1;
        }
    }
    pol_free(u->ctx, point);
    return POL_OK;
}

/* Between two neighbouring breakpoints the same units are at 1, at 0 and in between, and the cost is linear in v: the
 * piece that holds the budget gives v. Some halvings first leave few breakpoints to sort, which is most of the time
 * saved at 350,000 units. */
static pol_status linear_shift(const problem *p, double *v)
{
    enum { HALVINGS = 16 };
    *v = 0;
    if (linear_cost(p, 0) <= p->budget)
        return POL_OK;
    double above = 0, within = last_breakpoint(p);
    halve(p, linear_cost, HALVINGS, &above, &within);
    POL_TRY(find_piece(p, &above, &within));

    const pol_units *u = p->d->units;
    double constant = 0, slope = 0; /* cost = constant - slope v on [above, within] */
    for (int64_t k = 0; k < u->n_sections; k++) {
        const pol_section *sec = &u->sections[k];
        const double cost = unit_cost(p, sec);
        for (int64_t i = sec->first; has_section(p, sec) && i < sec->first + sec->count; i++) {
            const double s = p->d->s[i];
            if (leaves_one(s, cost) >= within) {
                constant += cost;
            } else if (reaches_zero(s, cost) > above) {
                constant += cost * s;
                slope += cost * cost;
            }
        }
    }
    *v = slope > 0 ? fmin(fmax((constant - p->budget) / slope, above), within) : within;
    return POL_OK;
}

/* The cost falls with v, but is no longer piecewise linear. */
static double coupled_shift(const problem *p)
{
    if (coupled_cost(p, 0) <= p->budget)
        return 0;
    double above = 0, within = last_breakpoint(p);
    halve(p, coupled_cost, INT_MAX, &above, &within);
    return within;
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
