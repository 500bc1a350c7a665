/* evolve.h - the arithmetic of the evolution strategy on counts (allocation.h has the formulas), on arrays alone.
 *
 * K candidates, n blocks; arrays over blocks are [n], of candidates' counts [K, n].
 */
#ifndef POL_EVOLVE_H
#define POL_EVOLVE_H

#include "core/learn/shape.h"

/* The running deviation after a step's losses; before the first it is `running` < 0. */
double pol_evolve_deviation(double running, const double *loss, int32_t K);
/* A[k] of losses; all 0 where they are all equal. */
void pol_evolve_advantages(pol_advantage kind, const double *loss, int32_t K, double deviation, double *A);

/* Standard deviations of step `step`. */
void pol_evolve_sigma(const pol_allocation_settings *o, int64_t step, const double *spread, int32_t n, double *sigma);
/* What one unit more costs near the mean, one standard deviation to both sides. */
void pol_evolve_slope(const pol_shape *s, const double *mean, const double *sigma, double *slope);
/* sigma z of a pair of candidates: Gaussian, with slope . delta = 0 in each pot. */
void pol_evolve_draw(const pol_shape *s, const pol_allocation_settings *o, int64_t step, int32_t pair,
                     const double *sigma, const double *slope, double *delta);

/* The mean's move: -rate mean_k A_k (count_k - mean). */
void pol_evolve_move(const double *A, const int64_t *count, int32_t K, int32_t n, const double *mean, double rate,
                     double *move);
/* Factors of the kinds' spreads. */
void pol_evolve_widen(const pol_shape *s, const double *A, const int64_t *count, int32_t K, const double *mean,
                      const double *sigma, double factor[2]);

#endif
