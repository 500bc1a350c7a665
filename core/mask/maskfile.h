/* maskfile.h - mask.json in memory (docs/mask.md describes the format). */
#ifndef POL_MASKFILE_H
#define POL_MASKFILE_H

#include <jansson.h>

#include "core/base/base.h"
#include "pollard/mask.h"

/* As pol_mask_read, of a parsed file; `name` is for messages. On failure the arrays hold nothing of use. */
pol_status pol_mask_from_json(pol_context *ctx, const char *name, const json_t *root, const pol_units *u,
                              unsigned *granularity, uint8_t *mask, float *s);
/* The text of the file, appended. */
pol_status pol_mask_to_text(pol_bytes *out, const pol_units *u, unsigned granularity, const uint8_t *mask,
                            const float *s);

#endif
