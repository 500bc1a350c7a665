/* hf_config.h - config.json of an exported folder. */
#ifndef POL_EXPORT_HF_CONFIG_H
#define POL_EXPORT_HF_CONFIG_H

#include "core/backend.h"
#include "core/model/source.h"

/* Writes dir/config.json with `written` as its dtype. A folder's own file is kept, field for field, but for biases that
 * only `out`, the model that is written, has; for a GGUF the file is made. The shapes are the dense model's in every
 * case. */
pol_status pol_export_config(pol_source *src, const pol_config *out, pol_dtype written, int32_t bos, int32_t eos,
                             const char *dir);

/* POL_EUNSUPPORTED where no stock class has the biases that `out` has and the source has not. */
pol_status pol_export_check_biases(pol_source *src, const pol_config *out);

/* All that transformers needs to know of `c` except the dtype; bos and eos are token ids, left out if negative.
 * POL_EUNSUPPORTED, naming `where`, for biases that no stock class has. On success *out is yours: json_decref(). */
pol_status pol_export_make_config(pol_context *ctx, const char *where, const pol_config *c, int32_t bos, int32_t eos,
                                  json_t **out);

#endif
