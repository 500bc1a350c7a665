/* obs.h - the parts of obs_sweep: what order units go in (obs_order.c), and the rows at levels (obs_rows.c). */
#ifndef POL_CUDA_OBS_H
#define POL_CUDA_OBS_H

#include "backends/cuda/spd.h"

/* Device memory but for `rows`: matrices p and x [N,N], with room for [N,C] of f32 in p; w and b [N,C]; the order by
 * rows [N], and the pairs of a step [2 * what goes at once]. */
typedef struct cu_obs {
    cu_spd spd;
    pol_obs_sweep_args *a;
    double *p, *x, *w, *b;
    int32_t *order, *pairs;
    int32_t *rows; /* [N], on the host */
    double norm;   /* of the damped matrix */
} cu_obs;

/* p = h with its damping, w = w, units in the order of the arguments (or as they are): x and b are used. */
pol_status cu_obs_load(cu_obs *o, bool in_order);

/* Sums of squares of the first n rows of x [N,C] to spd.host, each over its element on p's diagonal if that is given.
 */
pol_status cu_obs_fetch_squares(cu_obs *o, const double *x, int64_t n, const double *p);

/* Fills order, error and condition; and loss and rows, by the order, and condition where
 * `ordered`. Both load. */
pol_status cu_obs_find_order(cu_obs *o);
pol_status cu_obs_solve_rows(cu_obs *o);

#endif
