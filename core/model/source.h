/* source.h - a model on disk: a Hugging Face folder or a GGUF file behind one interface.
 *
 * Tensors are named by (kind, layer) and come out as f32 in the Hugging Face layout: [out, in] row-major, rows of q and
 * k in the half-split order of rotary embedding (a GGUF of architecture `llama` stores them interleaved; the reader
 * undoes it). Files are mapped; nothing is read before it is asked for, except headers.
 */
#ifndef POL_SOURCE_H
#define POL_SOURCE_H

#include <jansson.h>

#include "core/base/base.h"
#include "pollard/config.h"
#include "pollard/source.h"

typedef enum pol_tensor_kind {
    POL_T_EMBED = 0,   /* [V, C], layer 0 */
    POL_T_OUTPUT,      /* [V, C], absent where tied */
    POL_T_OUTPUT_NORM, /* [C] */
    POL_T_ATTN_NORM,   /* [C] */
    POL_T_Q,           /* [G*g*D, C] */
    POL_T_K,           /* [G*D, C] */
    POL_T_V,           /* [G*D, C] */
    POL_T_O,           /* [C, G*g*D] */
    POL_T_MLP_NORM,    /* [C] */
    POL_T_GATE,        /* [F, C] */
    POL_T_UP,          /* [F, C] */
    POL_T_DOWN,        /* [C, F] */
    POL_T_Q_BIAS,
    POL_T_K_BIAS,
    POL_T_V_BIAS,
    POL_T_O_BIAS,
    POL_T_GATE_BIAS,
    POL_T_UP_BIAS,
    POL_T_DOWN_BIAS,
    POL_T_KINDS
} pol_tensor_kind;

/* rows = 1 for vectors; both 0 where this model has no such tensor. G and F are the layer's own (config.layers[]). */
void pol_tensor_shape(const pol_config *c, pol_tensor_kind kind, int32_t layer, int64_t *rows, int64_t *cols);
bool pol_tensor_is_global(pol_tensor_kind kind);

/* Rows [row, row + n) as f32 into dst [n, cols]. Values that are not finite are POL_EFORMAT, naming file and tensor.
 * The pages read are released. Quantised tensors are dequantised whole blocks at a time. */
pol_status pol_source_read(pol_source *src, pol_tensor_kind kind, int32_t layer, int64_t row, int64_t n, float *dst);

/* The Hugging Face name ("model.layers.3.mlp.up_proj.weight"), whatever the source: for messages and for writers. At
 * most n bytes are written. */
void pol_tensor_name(pol_tensor_kind kind, int32_t layer, char *dst, size_t n);

/* The stored type: "f32", "f16", "bf16", "q4_1", ... */
const char *pol_source_dtype(const pol_source *src, pol_tensor_kind kind, int32_t layer);

/* Bits that a stored parameter takes, on average over the decoder blocks' tensors or over those outside them. */
double pol_source_bits(const pol_source *src, bool outside);

bool pol_source_is_gguf(const pol_source *src);
const char *pol_source_path(const pol_source *src);
pol_context *pol_source_context(const pol_source *src);
/* config.json of a folder (borrowed), NULL for GGUF. */
const json_t *pol_source_config_json(const pol_source *src);
/* The mapped GGUF (core/model/gguf.h), NULL for a folder: its vocabulary feeds the tokenizer. */
struct pol_gguf;
const struct pol_gguf *pol_source_gguf(const pol_source *src);
/* A hash over the tensor data and the configuration: XXH3-128, 32 hex digits. Computed on the first call. */
pol_status pol_source_hash(pol_source *src, char out[33]);

#endif
