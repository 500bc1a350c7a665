/* tensors.h - what tensors of a decoder are called in GGUF files; the Hugging Face names are pol_tensor_name() of
 * source.h. */
#ifndef POL_TENSORS_H
#define POL_TENSORS_H

#include "core/model/source.h"

/* "blk.3.ffn_up.weight"; writes at most n bytes. */
void pol_tensor_gguf_name(pol_tensor_kind kind, int32_t layer, char *dst, size_t n);
bool pol_tensor_is_vector(pol_tensor_kind kind); /* norms and biases */
bool pol_tensor_is_norm(pol_tensor_kind kind);   /* the gain of a normalisation */

#endif
