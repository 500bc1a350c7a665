/* project.c - Euclidean projection of the probabilities onto the budget: s <- clip(s - v c, 0, 1) with the least v >= 0
 * that meets it.
 *
 * A joint budget is written in its own quantity. That c is then the cost itself and not its quotient by the mean only
 * scales v. Where every block costs in proportion to its units and no unit's cost depends on another unit, the expected
 * cost is piecewise linear in v; else it is what the block's table says of the expected number of units, with their
 * block's own probability before it.
 */
#include <limits.h>
#include <math.h>
#include <stdlib.h>

#include "core/base/base.h"
#include "core/mask/budget.h"
#include "core/mask/joint.h"
#include "core/mask/units.h"

typedef struct problem {
    const pol_distribution *d;
    unsigned kinds;         /* whose s moves */
    const pol_joint *joint; /* what units cost; NULL: 1 */
    double budget;
} problem;

static double unit_cost(const problem *p, const pol_section *sec)
{
    return p->joint ? pol_joint_unit(p->joint, sec) : 1;
}

/* Units that cost nothing are free of the budget. */
static bool has_section(const problem *p, const pol_section *sec)
{
    return pol_has_kind(p->kinds, sec->kind) && sec->count > 0 && unit_cost(p, sec) > 0;
}

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

/* Expected cost of everything: s_block times the cost of as many units as are expected. */
static double table_cost(const problem *p, double v)
{
    const pol_units *u = p->d->units;
    double sum = p->joint->fixed;
    for (int32_t l = 0; l < u->n_layers; l++)
        for (pol_unit_kind k = POL_UNIT_GROUP; k <= POL_UNIT_CHANNEL; k++) {
            const pol_section *contents = pol_units_section(u, k, l), *block = pol_units_section(u, pol_block_of(k), l);
            const double inside = has_section(p, contents) ? section_sum(p, contents, v) : (double)contents->count;
            const double outside = has_section(p, block) ? section_sum(p, block, v) : 1;
            sum += outside * pol_joint_block(p->joint, k, l, inside);
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
        if (!has_section(p, sec))
            continue;
        const double cost = unit_cost(p, sec);
        for (int64_t i = sec->first; i < sec->first + sec->count; i++)
            v = fmax(v, reaches_zero(p->d->s[i], cost));
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
        if (!has_section(p, sec))
            continue;
        const double cost = unit_cost(p, sec);
        for (int64_t i = sec->first; i < sec->first + sec->count; i++) {
            const double breakpoint[2] = {reaches_zero(p->d->s[i], cost), leaves_one(p->d->s[i], cost)};
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
        if (!has_section(p, sec))
            continue;
        const double cost = unit_cost(p, sec);
        for (int64_t i = sec->first; i < sec->first + sec->count; i++) {
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
static double table_shift(const problem *p)
{
    if (table_cost(p, 0) <= p->budget)
        return 0;
    double above = 0, within = last_breakpoint(p);
    halve(p, table_cost, INT_MAX, &above, &within);
    return within;
}

static problem problem_of(const pol_distribution *d, const pol_budget *b, pol_unit_kind kind, pol_joint *room)
{
    const pol_units *u = d->units;
    if (b->mode == POL_BUDGET_SEPARATE)
        return (problem){d, 1u << kind, NULL, b->keep[kind] * (double)u->n_of[kind]};
    *room = pol_joint_of(u, b);
    return (problem){d, d->granularity, room, room->limit};
}

static bool is_linear(const problem *p)
{
    return !p->joint || (!pol_is_coupled(p->kinds, POL_UNIT_GROUP) && !pol_is_coupled(p->kinds, POL_UNIT_CHANNEL) &&
                         pol_joint_proportional(p->joint));
}

static pol_status shift_of(problem p, double *v)
{
    if (!is_linear(&p)) {
        *v = table_shift(&p);
        return POL_OK;
    }
    if (p.joint)
        p.budget = fmax(0, p.budget - pol_joint_untouched(p.joint, p.kinds));
    return linear_shift(&p, v);
}

pol_status pol_budget_shift(const pol_distribution *d, const pol_budget *b, pol_unit_kind kind, double *v)
{
    POL_TRY(pol_budget_check(d->units, d->granularity, b));
    POL_TRY(pol_distribution_check(d));
    pol_joint joint;
    return shift_of(problem_of(d, b, kind, &joint), v);
}

static void move(const problem *p, double v, float *s)
{
    for (int64_t k = 0; k < p->d->units->n_sections; k++) {
        const pol_section *sec = &p->d->units->sections[k];
        if (!pol_has_kind(p->kinds, sec->kind))
            continue;
        const double cost = unit_cost(p, sec);
        for (int64_t i = sec->first; i < sec->first + sec->count; i++)
            s[i] = cost > 0 ? (float)moved(s[i], cost, v) : fminf(fmaxf(s[i], 0), 1);
    }
}

pol_status pol_project_budget(pol_distribution *d, const pol_budget *b)
{
    for (pol_unit_kind k = 0; k < POL_UNIT_KINDS; k++) {
        if (b->mode == POL_BUDGET_SEPARATE && !pol_has_kind(d->granularity, k))
            continue;
        double v;
        POL_TRY(pol_budget_shift(d, b, k, &v));
        pol_joint joint;
        const problem p = problem_of(d, b, k, &joint);
        move(&p, v, d->s);
        if (b->mode == POL_BUDGET_JOINT)
            break;
    }
    return POL_OK;
}
