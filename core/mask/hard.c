/* hard.c - one mask out of the probabilities, exactly on the budget. The rule is in mask.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/base.h"
#include "core/mask/budget.h"
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

/* What one unit is to the joint budget. */
typedef struct item {
    int64_t cost;     /* of the unit alone; of a coupled block: its output bias */
    int32_t block;    /* coupled: the unit number of its block; else -1 */
    bool is_block;    /* it is that block */
    int64_t *waiting; /* cost of its block's contents that rank above the block; coupled only */
} item;

typedef struct joint_fill {
    const pol_units *u;
    unsigned granularity;
    int64_t left;                        /* parameters */
    int64_t waiting[2 * POL_MAX_LAYERS]; /* index contents kind * n_layers + layer */
} joint_fill;

static item item_of(joint_fill *f, int32_t unit)
{
    const pol_section *sec = section_of(f->u, unit);
    const pol_unit_kind contents = pol_contents_of(sec->kind);
    if (!pol_is_coupled(f->granularity, contents))
        return (item){.cost = sec->params, .block = -1};
    const bool is_block = pol_is_block(sec->kind);
    return (item){
        .cost = is_block ? pol_block_bias(f->u, contents, sec->layer) : sec->params,
        .block = (int32_t)pol_units_section(f->u, pol_block_of(contents), sec->layer)->first,
        .is_block = is_block,
        .waiting = &f->waiting[(int64_t)contents * f->u->n_layers + sec->layer],
    };
}

/* Length of the longest beginning that fits; marks its coupled blocks in the mask. */
static int64_t longest_beginning(joint_fill *f, const ranked *list, int64_t n, uint8_t *mask)
{
    for (int64_t i = 0; i < n; i++) {
        const item it = item_of(f, list[i].unit);
        if (it.block >= 0 && !it.is_block && !mask[it.block]) {
            *it.waiting += it.cost;
            continue;
        }
        const int64_t cost = it.cost + (it.is_block ? *it.waiting : 0);
        if (cost > f->left)
            return i;
        f->left -= cost;
        if (it.is_block)
            mask[it.block] = 1;
    }
    return n;
}

static void hard_joint(const pol_distribution *d, const pol_budget *b, const float *tie, ranked *list, uint8_t *mask)
{
    joint_fill f = {.u = d->units, .granularity = d->granularity};
    f.left = pol_budget_params(d->units, b->keep_params) - pol_untouched_params(d->units, d->granularity);
    const int64_t n = rank(d, d->granularity, tie, list);
    for (int64_t i = 0; i < n; i++)
        mask[list[i].unit] = 0;

    const int64_t cut = longest_beginning(&f, list, n, mask);
    /* Its units, but for contents whose block did not come with it. */
    for (int64_t i = 0; i < cut; i++) {
        const item it = item_of(&f, list[i].unit);
        if (!it.is_block)
            mask[list[i].unit] = it.block < 0 || mask[it.block];
    }
    /* A coupled block that ends it is kept, empty. */
    if (cut < n) {
        const item it = item_of(&f, list[cut].unit);
        if (it.is_block && it.cost <= f.left) {
            mask[it.block] = 1;
            f.left -= it.cost;
        }
    }
    /* What is left goes, in order, to contents of kept blocks and to uncoupled units. */
    for (int64_t i = 0; i < n; i++) {
        const item it = item_of(&f, list[i].unit);
        if (mask[list[i].unit] || it.is_block || it.cost > f.left || (it.block >= 0 && !mask[it.block]))
            continue;
        mask[list[i].unit] = 1;
        f.left -= it.cost;
    }
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
    if (b->mode == POL_BUDGET_SEPARATE)
        hard_separate(d, b, tie, list, mask);
    else
        hard_joint(d, b, tie, list, mask);
    pol_free(u->ctx, list);
    return POL_OK;
}
