/* export.h - writing a pruned model. */
#ifndef POLLARD_EXPORT_H
#define POLLARD_EXPORT_H

#include "pollard/mask.h"
#include "pollard/repair.h"
#include "pollard/source.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ZEROS: a Hugging Face folder of the original shapes with the pruned units' weights zero; stock classes load it. HF: the pruned rows and
 * columns really removed, plus pollard.json naming what was kept; Pollard reads it back (transformers cannot, widths differ by layer). */
typedef enum pol_export_format { POL_EXPORT_ZEROS = 0, POL_EXPORT_HF } pol_export_format;

typedef struct pol_export_options {
    pol_export_format format;
    const char *dtype;     /* "f32", "f16", "bf16"; NULL: the source's type, f32 for a quantised source */
    uint64_t shard_bytes;  /* start a new safetensors file above this; 0 = 5e9 */
    const pol_repaired *repaired; /* weights in place of the source's, made for this mask; borrowed; NULL: none */
} pol_export_options;

/* Writes `out_dir` (must not exist) under a temporary name and renames it. Tokenizer files of a folder are copied; the vocabulary of a GGUF
 * is written as tokenizer.json. Reads the weights from `src` tensor by tensor. POL_EUNSUPPORTED: repaired output biases in a model that
 * no stock class has biases for. */
POL_API pol_status pol_export(pol_source *src, const pol_units *u, const uint8_t *mask, const pol_export_options *o,
                              const char *out_dir);

#ifdef __cplusplus
}
#endif
#endif
