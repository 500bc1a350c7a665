/* ops_host.c - the front doors of the ops on host arrays: solve_spd and obs_sweep. */
#include <float.h>
#include <string.h>

#include "core/ops_check.h"

/* An array in host memory. */
typedef struct host_array {
    const char *name;
    const void *at;
    int64_t n;
    size_t size;
} host_array;

static bool host_overlap(const host_array *a, const host_array *b)
{
    const uintptr_t x = (uintptr_t)a->at, y = (uintptr_t)b->at;
    return x < y + (size_t)b->n * b->size && y < x + (size_t)a->n * a->size;
}

/* The first `n_written` are what the op writes. */
static pol_status check_host_arrays(pol_backend *be, const char *op, size_t n_written, const host_array *a, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!a[i].at)
            return pol_fail(be->ctx, POL_EARG, "%s: %s: no array was given", op, a[i].name);
        if (a[i].n > INT64_MAX / (int64_t)a[i].size)
            return pol_fail(be->ctx, POL_ESHAPE, "%s: %s: more elements than memory can hold", op, a[i].name);
    }
    for (size_t i = 0; i < n_written; i++)
        for (size_t j = i + 1; j < n; j++)
            if (host_overlap(&a[i], &a[j]))
                return pol_fail(be->ctx, POL_EARG, "%s: %s overlaps %s", op, a[i].name, a[j].name);
    return POL_OK;
}

static pol_status check_repair(pol_backend *be, const char *op, double damping)
{
    if (!pol_can_repair(be))
        return pol_fail(be->ctx, POL_EUNSUPPORTED, "%s: the %s backend has none", op, be->info.backend);
    if (!(damping >= 0 && damping <= DBL_MAX))
        return pol_fail(be->ctx, POL_EARG, "%s: damping: %g is not a number of at least 0", op, damping);
    return POL_OK;
}

bool pol_can_repair(const pol_backend *be) { return be->ops->solve_spd != NULL; }

pol_status pol_solve_spd(pol_backend *be, pol_solve_spd_args *a)
{
    CHECK_DIMENSIONS(be, "solve_spd", {"N", a->N, 1}, {"M", a->M, 1});
    POL_TRY(check_repair(be, "solve_spd", a->damping));
    const host_array arrays[] = {{"a", a->a, pol_mul_count(a->N, a->N), sizeof *a->a},
                                 {"b", a->b, pol_mul_count(a->N, a->M), sizeof *a->b}};
    POL_TRY(check_host_arrays(be, "solve_spd", 2, arrays, POL_COUNT(arrays)));
    return be->ops->solve_spd(be, a);
}

/* An order that is given: each unit once. */
static pol_status check_order(pol_backend *be, const pol_obs_sweep_args *a)
{
    bool *seen = pol_alloc_zero(be->ctx, (size_t)a->n_units * sizeof *seen);
    if (!seen)
        return POL_ENOMEM;
    pol_status s = POL_OK;
    for (int64_t i = 0; i < a->n_units && s == POL_OK; i++) {
        const int32_t unit = a->order[i];
        if (unit < 0 || unit >= a->n_units)
            s = pol_fail(be->ctx, POL_EARG, "obs_sweep: order: place %lld: unit %d is not one of %lld", (long long)i,
                         unit, (long long)a->n_units);
        else if (seen[unit])
            s = pol_fail(be->ctx, POL_EARG, "obs_sweep: order: place %lld: unit %d is named twice", (long long)i, unit);
        else
            seen[unit] = true;
    }
    pol_free(be->ctx, seen);
    return s;
}

static pol_status check_levels(pol_backend *be, const pol_obs_sweep_args *a, const host_array *others, size_t n_others)
{
    if (a->n_levels && (!a->level || !a->rows))
        return pol_fail(be->ctx, POL_EARG, "obs_sweep: %s: no array was given", a->level ? "rows" : "level");
    for (int64_t i = 0; i < a->n_levels; i++) {
        const int64_t least = i ? a->level[i - 1] + 1 : 1;
        if (a->level[i] < least || a->level[i] > a->n_units)
            return pol_fail(be->ctx, POL_EARG, "obs_sweep: level %lld: %lld is not between %lld and %lld", (long long)i,
                            (long long)a->level[i], (long long)least, (long long)a->n_units);
    }
    for (int64_t i = 0; i < a->n_levels; i++) {
        host_array arrays[8] = {{"rows", a->rows[i], a->level[i] * a->unit * a->C, sizeof(float)}};
        memcpy(&arrays[1], others, n_others * sizeof *others);
        POL_TRY(check_host_arrays(be, "obs_sweep", 1, arrays, 1 + n_others));
        for (int64_t j = 0; j < i; j++)
            if (host_overlap(&arrays[0], &(host_array){"", a->rows[j], a->level[j] * a->unit * a->C, sizeof(float)}))
                return pol_fail(be->ctx, POL_EARG, "obs_sweep: the rows of levels %lld and %lld overlap", (long long)j,
                                (long long)i);
    }
    return POL_OK;
}

pol_status pol_obs_sweep(pol_backend *be, pol_obs_sweep_args *a)
{
    CHECK_DIMENSIONS(be, "obs_sweep", {"n_units", a->n_units, 1}, {"unit", a->unit, 1}, {"C", a->C, 1},
                     {"block", a->block, 1}, {"n_levels", a->n_levels, 0});
    POL_TRY(check_repair(be, "obs_sweep", a->damping));
    if (a->n_units > INT32_MAX)
        return pol_fail(be->ctx, POL_EARG, "obs_sweep: n_units: %lld do not count in 32 bits", (long long)a->n_units);
    const int64_t N = pol_mul_count(a->n_units, a->unit);
    const host_array arrays[] = {{"loss", a->loss, a->n_units + 1, sizeof *a->loss},
                                 {"order", a->order, a->n_units, sizeof *a->order},
                                 {"error", a->error, a->n_units, sizeof *a->error},
                                 {"h", a->h, pol_mul_count(N, N), sizeof *a->h},
                                 {"w", a->w, pol_mul_count(N, a->C), sizeof *a->w}};
    const size_t absent = a->loss ? 0 : 1, n = POL_COUNT(arrays) - absent;
    POL_TRY(check_host_arrays(be, "obs_sweep", 3 - absent, arrays + absent, n));
    POL_TRY(check_levels(be, a, arrays + absent, n));
    if (a->ordered)
        POL_TRY(check_order(be, a));
    return be->ops->obs_sweep(be, a);
}
