/* random_model.h - a model of any shape without a file: what a pass costs does not depend on what a model has learnt.
 */
#ifndef BENCH_RANDOM_MODEL_H
#define BENCH_RANDOM_MODEL_H

#include "core/backend.h"
#include "pollard/model.h"

/* Normal weights of deviation 0.02, the same million of them again and again: a device that multiplies zeros draws less
 * power and is faster. `c` has no biases; a streamed model takes a backend whose weights are bf16. On success *out is
 * yours: pol_model_free(). */
pol_status random_model_new(pol_backend *be, const pol_config *c, const pol_placement *p, pol_model **out);

#endif
