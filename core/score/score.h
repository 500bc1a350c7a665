/* score.h - what the metrics share. */
#ifndef POL_SCORE_H
#define POL_SCORE_H

#include "core/forward.h"
#include "core/model/weights.h"
#include "pollard/score.h"

pol_status pol_wanda_sp(pol_forward *f, const pol_sequences *cal, unsigned granularity,
                        const double keep[POL_UNIT_KINDS], float *values);
pol_status pol_flap(pol_forward *f, const pol_sequences *cal, float *values);
pol_status pol_obs_ranks(pol_forward *f, const pol_sequences *cal, unsigned granularity, float *values);

/* What a metric takes besides the model, for n sequences of S tokens: host bytes; device bytes. */
uint64_t pol_metric_host_bytes(pol_metric m, const pol_config *c, unsigned granularity, int64_t n, int64_t S);
uint64_t pol_metric_device_bytes(pol_metric m, const pol_config *c, pol_backend *be, unsigned granularity,
                                 int64_t max_tokens);

/* sums [n_rows]: over each row of `cols` elements of a device matrix, of |w| or w^2, added to what is there. */
typedef enum pol_row_sum { POL_ROW_ABS, POL_ROW_SQUARE } pol_row_sum;
pol_status pol_row_sums(pol_model *m, const pol_buf *w, int64_t n_rows, int64_t cols, pol_row_sum what, double *sums);

#endif
