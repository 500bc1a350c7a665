/* describe.h - what an exported folder says about itself: pollard.json and README.md. */
#ifndef POL_EXPORT_DESCRIBE_H
#define POL_EXPORT_DESCRIBE_H

#include "core/export/layout.h"

/* pollard.json (docs/exports.md): the kept units in the dense model's numbering. */
pol_status pol_export_pollard_json(pol_source *src, const pol_layout *l, const char *dir);
/* README.md: tool, source, kept counts a layer. */
pol_status pol_export_card(pol_source *src, const pol_layout *l, const char *dir);

#endif
