/* hard.c - one mask out of the probabilities, exactly on the budget. The rule is in mask.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/base.h"
#include "core/mask/budget.h"
#include "core/mask/joint.h"
#include "core/mask/units.h"

typedef struct ranked {
    float s, tie;
    int32_t unit;
} ranked;

static int compare_ranked(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->s != y->s)
        return x->s > y->s ? -1 : 1;
    if (x->tie != y->tie)
        return x->tie > y->tie ? -1 : 1;
    return (x->unit > y->unit) - (x->unit < y->unit);
}

/* The units of some kinds, in order; `list` has room for all. */
static int64_t rank(const pol_distribution *d, unsigned kinds, const float *tie, ranked *list)
{
    int64_t n = 0;
    for (int64_t k = 0; k < d->units->n_sections; k++) {
        const pol_section *sec = &d->units->sections[k];
        for (int64_t i = sec->first; pol_has_kind(kinds, sec->kind) && i < sec->first + sec->count; i++)
            list[n++] = (ranked){d->s[i], tie ? tie[i] : 0, (int32_t)i};
    }
    qsort(list, (size_t)n, sizeof *list, compare_ranked);
    return n;
}

static void hard_separate(const pol_distribution *d, const pol_budget *b, const float *tie, ranked *list, uint8_t *mask)
{
    for (pol_unit_kind k = 0; k < POL_UNIT_KINDS; k++) {
        if (!pol_has_kind(d->granularity, k))
            continue;
        const int64_t n = rank(d, 1u << k, tie, list), keep = pol_budget_count(b->keep[k], n);
        for (int64_t i = 0; i < n; i++)
            mask[list[i].unit] = i < keep;
    }
}

static const pol_section *section_of(const pol_units *u, int32_t unit)
{
    int64_t lo = 0, hi = u->n_sections; /* the last section that starts at or before it: empty ones lie lower */
    while (hi - lo > 1) {
        const int64_t mid = lo + (hi - lo) / 2;
        if (u->sections[mid].first <= unit)
            lo = mid;
        else
            hi = mid;
    }
    return &u->sections[lo];
}

/* A block while the budget is filled. Coupled: it can go, and its contents can. */
typedef struct filling {
    pol_unit_kind contents;
    int32_t layer;
    int32_t block; /* unit number of the coupled block; else -1 */
    int64_t kept;  /* contents that are paid for, or wait for their coupled block */
} filling;

typedef struct joint_fill {
    pol_joint j;
    unsigned granularity;
    double spent;                      /* exact: costs are multiples of a power of two */
    filling block[2 * POL_MAX_LAYERS]; /* index contents kind * n_layers + layer */
} joint_fill;

static filling *filling_of(joint_fill *f, const pol_section *sec)
{
    return &f->block[(int64_t)pol_contents_of(sec->kind) * f->j.units->n_layers + sec->layer];
}

/* What n of a block's contents cost. */
static double cost_of(const joint_fill *f, const filling *b, int64_t n)
{
    return pol_joint_block(&f->j, b->contents, b->layer, (double)n);
}

static double whole_cost(const joint_fill *f, const filling *b)
{
    return cost_of(f, b, pol_units_section(f->j.units, b->contents, b->layer)->count);
}

/* Pays `cost` if it fits. */
static bool pay(joint_fill *f, double cost)
{
    if (f->spent + cost > f->j.mask_limit)
        return false;
    f->spent += cost;
    return true;
}

/* Keeps one more of a block's contents if that fits. */
static bool keep_one(joint_fill *f, filling *b)
{
    if (!pay(f, cost_of(f, b, b->kept + 1) - cost_of(f, b, b->kept)))
        return false;
    b->kept++;
    return true;
}

static void begin_fill(joint_fill *f, uint8_t *mask)
{
    const pol_units *u = f->j.units;
    f->spent = pol_joint_untouched(&f->j, f->granularity);
    for (pol_unit_kind k = POL_UNIT_GROUP; k <= POL_UNIT_CHANNEL; k++)
        for (int32_t l = 0; l < u->n_layers; l++) {
            const pol_section *block = pol_units_section(u, pol_block_of(k), l);
            const bool coupled = pol_is_coupled(f->granularity, k) && block->count > 0;
            filling *b = filling_of(f, block);
            *b = (filling){.contents = k, .layer = l, .block = coupled ? (int32_t)block->first : -1};
            if (coupled) /* one that costs nothing is kept in any case */
                mask[b->block] = whole_cost(f, b) == 0;
        }
}

/* One unit in the order: false where it does not fit. Contents of a coupled block that has not come yet wait. */
static bool take(joint_fill *f, int32_t unit, uint8_t *mask)
{
    const pol_section *sec = section_of(f->j.units, unit);
    filling *b = filling_of(f, sec);
    if (!pol_is_block(sec->kind)) {
        if (b->block < 0 || mask[b->block])
            return keep_one(f, b);
        b->kept++;
        return true;
    }
    if (b->block < 0)
        return pay(f, whole_cost(f, b));
    if (!mask[unit] && !pay(f, cost_of(f, b, b->kept)))
        return false;
    mask[unit] = 1;
    return true;
}

/* Takes the longest beginning of the order that fits; its length. */
static int64_t take_beginning(joint_fill *f, const ranked *list, int64_t n, uint8_t *mask)
{
    int64_t cut = 0;
    while (cut < n && take(f, list[cut].unit, mask))
        cut++;
    for (int64_t i = 0; i < cut; i++) {
        const pol_section *sec = section_of(f->j.units, list[i].unit);
        const filling *b = filling_of(f, sec);
        if (b->block != list[i].unit)
            mask[list[i].unit] = b->block < 0 || mask[b->block];
    }
    return cut;
}

static pol_status hard_joint(const pol_distribution *d, const pol_budget *b, const float *tie, ranked *list,
                             uint8_t *mask)
{
    const pol_units *u = d->units;
    joint_fill *f = pol_alloc_zero(u->ctx, sizeof *f);
    if (!f)
        return POL_ENOMEM;
    f->j = pol_joint_of(u, b);
    f->granularity = d->granularity;
    const int64_t n = rank(d, d->granularity, tie, list);
    for (int64_t i = 0; i < n; i++)
        mask[list[i].unit] = 0;
    begin_fill(f, mask);
    const int64_t cut = take_beginning(f, list, n, mask);
    if (cut < n) { /* a coupled block that ends it is kept: empty at first, which costs nothing */
        filling *last = filling_of(f, section_of(u, list[cut].unit));
        if (last->block == list[cut].unit) {
            mask[last->block] = 1;
            last->kept = 0;
        }
    }
    /* What is left goes, in order, to contents of kept blocks and to uncoupled units. */
    for (int64_t i = 0; i < n; i++) {
        const pol_section *sec = section_of(u, list[i].unit);
        filling *block = filling_of(f, sec);
        if (mask[list[i].unit] || block->block == list[i].unit || (block->block >= 0 && !mask[block->block]))
            continue;
        mask[list[i].unit] = pol_is_block(sec->kind) ? pay(f, whole_cost(f, block)) : keep_one(f, block);
    }
    pol_free(u->ctx, f);
    return POL_OK;
}

static pol_status check_tie(const pol_units *u, const float *tie)
{
    for (int64_t i = 0; tie && i < u->n; i++)
        if (isnan(tie[i]))
            return pol_fail(u->ctx, POL_ENUMERIC, "tie of unit %lld is not a number", (long long)i);
    return POL_OK;
}

pol_status pol_hard_mask(const pol_distribution *d, const pol_budget *b, const float *tie, uint8_t *mask)
{
    const pol_units *u = d->units;
    POL_TRY(pol_budget_check(u, d->granularity, b));
    POL_TRY(pol_distribution_check(d));
    POL_TRY(check_tie(u, tie));
    ranked *list = pol_alloc_array(u->ctx, u->n, sizeof *list);
    if (!list)
        return POL_ENOMEM;
    memset(mask, 1, (size_t)u->n);
    pol_status s = POL_OK;
    if (b->mode == POL_BUDGET_SEPARATE)
        hard_separate(d, b, tie, list, mask);
    else
        s = hard_joint(d, b, tie, list, mask);
    pol_free(u->ctx, list);
    return s;
}
