/* layout.h - which unit of the source goes where in the exported model. */
#ifndef POL_EXPORT_LAYOUT_H
#define POL_EXPORT_LAYOUT_H

#include "core/model/source.h"
#include "pollard/export.h"

/* The units of one block that stay. Unit from[i] of the source is unit dense[i] of the dense model; both rise with i.
 * The two differ where the source is itself a pruned folder. */
typedef struct pol_kept_units {
    int32_t n;
    int32_t *from, *dense;
} pol_kept_units;

/* ZEROS and HF differ in two points only: where a unit that stays is put, and how wide the output is.
 *     HF     unit i of those that stay -> i,         as wide as what stays; a block with nothing left disappears
 *     ZEROS  unit i of those that stay -> dense[i],  as wide as the dense model; what nothing is put into is zero */
typedef struct pol_layout {
    pol_context *ctx;
    pol_export_format format;
    pol_config out;                    /* shapes of the output: out.layers[]; its biases, too */
    pol_config left;                   /* shapes of what stays, whatever the format: those of repaired weights */
    const pol_repaired *repaired;      /* borrowed; NULL: none */
    pol_kept_units *groups, *channels; /* [out.n_layers] */
    json_t *origin;                    /* "source" of the source's own pollard.json, NULL for a dense source */
} pol_layout;

/* POL_EARG where `u` does not number this source's units. On success the contents are yours: pol_layout_free(). */
pol_status pol_layout_make(pol_source *src, const pol_units *u, const uint8_t *mask, pol_export_format format,
                           const pol_repaired *repaired, pol_layout *out);
void pol_layout_free(pol_layout *l); /* takes a zeroed one */

/* Where the i-th unit that stays is put. */
static inline int32_t pol_layout_place(const pol_layout *l, const pol_kept_units *p, int32_t i)
{
    return l->format == POL_EXPORT_ZEROS ? p->dense[i] : i;
}

#endif
