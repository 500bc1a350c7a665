/* weights.c - the element type that weights are asked to be stored in. Apart from the registry, because modules have it
 * too. */
#include <string.h>

#include "backends/drivers.h"

const char *const pol_weight_names[] = {"auto", "f32", "f16", "bf16", NULL};

pol_status pol_weights_asked(pol_context *ctx, const pol_backend_options *o, pol_dtype automatic, pol_dtype *out)
{
    const pol_dtype types[] = {automatic, POL_F32, POL_F16, POL_BF16}; /* of pol_weight_names */
    const char *name = o->weights ? o->weights : pol_weight_names[0];
    for (size_t i = 0; i < POL_COUNT(types); i++)
        if (strcmp(name, pol_weight_names[i]) == 0) {
            *out = types[i];
            return POL_OK;
        }
    return pol_fail(ctx, POL_EARG, "weights: '%s' is none of auto, f32, f16, bf16", name);
}
