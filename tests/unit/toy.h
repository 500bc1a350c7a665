/* toy.h - small shapes and numbers for the tests of core/mask. */
#ifndef POL_TOY_H
#define POL_TOY_H

#include "core/base/rng.h"
#include "pollard/mask.h"

/* `layers` equal layers: group cost (2g+2) D C, channel cost 3 C, with g = 2, D = 4, C = 8. */
static inline pol_config toy_config(int32_t layers, int32_t groups, int32_t ffn)
{
    pol_config c = {.family = "llama",
                    .n_layers = layers,
                    .hidden = 8,
                    .heads_per_group = 2,
                    .head_dim = 4,
                    .n_groups = groups,
                    .ffn = ffn,
                    .vocab = 16,
                    .max_positions = 64};
    for (int32_t l = 0; l < layers; l++)
        c.layers[l] = (pol_layer_shape){groups, ffn};
    return c;
}
enum { TOY_GROUP = 6 * 4 * 8, TOY_CHANNEL = 3 * 8 };

/* Numbers of a test, in order: uniform in [0, 1), and below n. */
typedef struct toy_random {
    uint64_t seed, next;
} toy_random;
static inline double toy_uniform(toy_random *r)
{
    float u;
    pol_uniform(r->seed, POL_STREAM_TEST, r->next++, 0, 1, &u);
    return (double)u;
}
static inline int64_t toy_below(toy_random *r, int64_t n) { return (int64_t)(toy_uniform(r) * (double)n); }

#endif
