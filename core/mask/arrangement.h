/* arrangement.h - which unit lies at which position of the weight buffers, so that the kept ones are a prefix.
 *
 * One arrangement covers the groups and the channels of all layers. Positions are numbered as units are (mask.h):
 * position p of a section is order index section->first + p, and holds unit order[section->first + p] of the same
 * section. At the start every unit lies at its own number. The arrangement only keeps the books: it hands out pairs of
 * positions, and the caller exchanges the rows in its buffers (pol_swap_units). Pairs are counted from the section's
 * first position and fit that op: all indices differ.
 */
#ifndef POL_ARRANGEMENT_H
#define POL_ARRANGEMENT_H

#include "core/base/base.h"
#include "pollard/mask.h"

typedef struct pol_arrangement {
    const pol_units *units; /* borrowed */
    int64_t size;           /* order entries: n_of[POL_UNIT_GROUP] + n_of[POL_UNIT_CHANNEL] */
    int64_t max_pairs;      /* room that `a` and `b` below need: half of the largest section */
    int32_t *order;         /* [size] unit at each position */
    int32_t *position;      /* [size] its inverse */
    uint8_t *seen;          /* [size] scratch of the cycle walk and the permutation check */
    int64_t *kept;          /* [2 * n_layers] length of each prefix, index kind * n_layers + layer */
} pol_arrangement;

/* On success *out is yours: pol_arrangement_free(). `u` must outlive it. Everything is kept. */
pol_status pol_arrangement_new(const pol_units *u, pol_arrangement **out);
void pol_arrangement_free(pol_arrangement *arr); /* takes NULL */

/* The swaps that make the units kept by `mask` the first *n_kept of (layer, kind), kind GROUP or CHANNEL: a[i] is a
 * position inside the new prefix that holds a removed unit, b[i] one outside that holds a kept unit, both rising. No
 * fewer pairs would do, and the same history gives the same order. `mask` NULL keeps all; a block whose own byte is 0
 * has *n_kept = 0 and stays as it lies. The order is updated here: a caller whose exchange fails no longer knows its
 * buffers and must load them again. */
void pol_arrangement_plan(pol_arrangement *arr, int32_t layer, pol_unit_kind kind, const uint8_t *mask, int32_t *a,
                          int32_t *b, int64_t *n_pairs, int64_t *n_kept);

/* The units of a layer are back at their own numbers. */
void pol_arrangement_reset(pol_arrangement *arr, int32_t layer);

/* POL_EARG unless order [size] is a permutation inside every section; names the first wrong entry. */
pol_status pol_arrangement_check(pol_arrangement *arr, const int32_t *order);
/* One round of swaps that brings (layer, kind) nearer to a checked `order`. Call until *n_pairs is 0: two rounds at
 * most move rows, since a cycle is the product of two reflections. Prefix lengths are not touched: plan anew before the
 * next forward pass. */
void pol_arrangement_approach(pol_arrangement *arr, int32_t layer, pol_unit_kind kind, const int32_t *order, int32_t *a,
                              int32_t *b, int64_t *n_pairs);

#endif
