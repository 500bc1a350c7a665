/* source.h - opening a model on disk. */
#ifndef POLLARD_SOURCE_H
#define POLLARD_SOURCE_H

#include "pollard/config.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pol_source pol_source;

/* `path` is a Hugging Face folder (config.json, model.safetensors or its shards with model.safetensors.index.json; a
 * folder written by `pollard export --format hf` has a pollard.json beside them) or a GGUF file v2/v3. Headers are checked here:
 * every tensor that the configuration asks for is there with the right shape and type, and none overlaps another.
 * On success *out is yours: pol_source_close(). Errors: POL_EIO, POL_EFORMAT, POL_EUNSUPPORTED. */
POL_API pol_status pol_source_open(pol_context *ctx, const char *path, pol_source **out);
POL_API void pol_source_close(pol_source *src); /* takes NULL */
POL_API const pol_config *pol_source_config(const pol_source *src); /* borrowed */

#ifdef __cplusplus
}
#endif
#endif
