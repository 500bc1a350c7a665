/* obs.h - the parts of obs_sweep: what order units go in (obs_order.c), and the rows at levels (obs_rows.c). */
#ifndef POL_CPU_OBS_H
#define POL_CPU_OBS_H

#include "cpu/cpu.h"

/* Room for one matrix of a row and a column each input and for the weights: [N,N], of which the elements (i, j) with
 * j <= i are meant, and [N,C]. */
typedef struct obs_space {
    double *p, *w;
} obs_space;

/* p = h, w = w, with the units in that order; NULL: as they are. */
void obs_load(pol_backend *be, const pol_obs_sweep_args *a, const int32_t *order, obs_space *s);

/* Fills a->order, a->error and a->condition; and a->rows and a->condition by a->order. Both leave what lies in `s` of
 * no use. Between cpu_blas_enter and _leave. */
pol_status obs_find_order(pol_backend *be, pol_obs_sweep_args *a, obs_space *s);
pol_status obs_solve_rows(pol_backend *be, pol_obs_sweep_args *a, obs_space *s);

#endif
