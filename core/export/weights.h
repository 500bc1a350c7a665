/* weights.h - the tensors of an exported model, streamed from the source. */
#ifndef POL_EXPORT_WEIGHTS_H
#define POL_EXPORT_WEIGHTS_H

#include "core/backend.h"
#include "core/export/layout.h"

/* Writes all tensors of the layout into `dir` as safetensors. `dtype`: "f32", "f16", "bf16", or NULL to keep each
 * tensor's stored type (f32 where that is quantised). *widest is the widest type that a matrix was written in. */
pol_status pol_export_weights(pol_source *src, const pol_layout *l, const char *dtype, uint64_t shard_bytes,
                              const char *dir, pol_dtype *widest);

#endif
