/* timing.h - measuring the table of times that a budget in milliseconds goes by. */
#ifndef POL_RUN_TIMING_H
#define POL_RUN_TIMING_H

#include "pollard/cost.h"
#include "pollard/model.h"

/* Times passes of `batch` sequences of `seq_len` tokens on the device of `f`, for which they must not be too large: an
 * attention block with each number of groups (at most POL_TIMING_POINTS of them), an MLP with one channel and with each
 * sixteenth of its channels, and the rest. Each is the median of rounds in which all are measured, in another order
 * each time; then they are made never to fall. Prefixes of the first block that has most units, as it lies: the model
 * stays as it is. A streamed model is measured without its visits. */
pol_status pol_timing_measure(pol_forward *f, int64_t batch, int64_t seq_len, pol_timing *out);

#endif
