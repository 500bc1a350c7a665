/* products.h - the matrix products of a forward pass: what benchmarks and tuners measure a device by. */
#ifndef POL_PRODUCTS_H
#define POL_PRODUCTS_H

#include "core/backend.h"

typedef struct pol_products {
    pol_context *ctx;
    pol_product *list;
    int64_t n, cap;
} pol_products;

/* Adds the products of a pass over T tokens through what `c` has left, `times` over. Equal ones are one product. `p`
 * begins zeroed but for the context; pol_products_free() also after a failure. */
pol_status pol_products_add(pol_products *p, const pol_config *c, const pol_backend *be, int64_t T, int64_t times);
/* Those of a job, in equal shares: dense passes, masked ones, and masked ones of single sequences, whose products are
 * small. */
pol_status pol_products_of_job(const pol_tune_job *job, const pol_backend *be, pol_products *p);
void pol_products_free(pol_products *p);

/* Floating-point operations of one product, once. */
double pol_product_flops(const pol_product *p);

#endif
