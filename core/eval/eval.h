/* eval.h - perplexity by several devices. */
#ifndef POL_EVAL_H
#define POL_EVAL_H

#include "core/replicas.h"
#include "pollard/eval.h"

/* pol_eval_sequences with its batches dealt out: the same numbers, from as many sums in the same order. */
pol_status pol_eval_replicas(pol_replicas *r, const pol_sequences *s, pol_eval_progress_fn fn, void *user,
                             pol_perplexity *out);

#endif
