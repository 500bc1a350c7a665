/* units.h - how blocks and their contents hang together; internal to the core. */
#ifndef POL_UNITS_H
#define POL_UNITS_H

#include "pollard/mask.h"

/* Groups lie in attention blocks, channels in MLP blocks. */
static inline bool pol_is_block(pol_unit_kind k) { return k == POL_UNIT_ATTENTION || k == POL_UNIT_MLP; }
static inline pol_unit_kind pol_contents_of(pol_unit_kind k)
{
    return k == POL_UNIT_ATTENTION ? POL_UNIT_GROUP : k == POL_UNIT_MLP ? POL_UNIT_CHANNEL : k;
}
static inline pol_unit_kind pol_block_of(pol_unit_kind contents)
{
    return contents == POL_UNIT_GROUP ? POL_UNIT_ATTENTION : POL_UNIT_MLP;
}
static inline bool pol_has_kind(unsigned kinds, pol_unit_kind k) { return kinds >> k & 1; }

/* Parameters of a block that belong to none of its units: its output bias. */
static inline int64_t pol_block_bias(const pol_units *u, pol_unit_kind contents, int32_t layer)
{
    const pol_section *sec = pol_units_section(u, contents, layer);
    return pol_units_section(u, pol_block_of(contents), layer)->params - sec->count * sec->params;
}

/* Units of a section of groups or channels that are effectively kept; `mask` NULL keeps all. */
int64_t pol_section_kept(const pol_units *u, const uint8_t *mask, pol_unit_kind contents, int32_t layer);

#endif
