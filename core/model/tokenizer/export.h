/* export.h - a GGUF's vocabulary as the files that transformers reads. */
#ifndef POL_TOKENIZER_EXPORT_H
#define POL_TOKENIZER_EXPORT_H

#include "pollard/tokenizer.h"

/* Writes tokenizer.json and tokenizer_config.json into `dir` (which exists): the same ids and the same BOS policy,
 * loadable with PreTrainedTokenizerFast and by this library. For a tokenizer that came from a GGUF; others are
 * POL_EARG. A llama vocabulary becomes merges ordered by score, the way transformers converts it. */
pol_status pol_tokenizer_write_json(const pol_tokenizer *tok, pol_context *ctx, const char *dir);

#endif
