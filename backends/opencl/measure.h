/* measure.h - products on a device, timed and checked: by what a tuner's results are judged. */
#ifndef POL_OCL_MEASURE_H
#define POL_OCL_MEASURE_H

#include "core/products.h"

typedef struct ocl_measure {
    pol_backend *be; /* borrowed, as is p */
    const pol_products *p;
    float *numbers; /* the operands: x from the first on, w from the second, so that they differ */
    float *y;
} ocl_measure;

/* On failure *m holds nothing. */
pol_status ocl_measure_open(pol_backend *be, const pol_products *p, ocl_measure *m);
void ocl_measure_close(ocl_measure *m); /* takes a zeroed one */

/* Seconds of each product, once: the least of some rounds, the one least disturbed. POL_ENUMERIC: a wrong result. */
pol_status ocl_measure_products(ocl_measure *m, double *seconds);
/* Of all of them, each as often as it is done. */
double ocl_measure_total(const ocl_measure *m, const double *seconds);
double ocl_measure_flops(const ocl_measure *m);

#endif
