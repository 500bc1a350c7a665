/* masks.h - what a mask.json keeps, counted. */
#ifndef POL_TEST_MASKS_H
#define POL_TEST_MASKS_H

#include "tests/cli/program.h"

typedef struct counted {
    int64_t units[4], kept[4]; /* heads, channels, attention blocks, MLP blocks */
    int64_t dense, params;
} counted;

static inline counted count_mask(const cli *t, const char *name)
{
    json_t *j = load_json(t, name), *layer;
    counted c = {.dense = whole(j, "params.dense"), .params = whole(j, "params.kept")};
    size_t l;
    json_array_foreach(at(j, "layers"), l, layer)
    {
        static const char *const lists[] = {"heads", "channels"}, *const blocks[] = {"attention_block", "mlp_block"};
        for (int k = 0; k < 2; k++) {
            c.units[k] += whole(at(layer, lists[k]), "count");
            c.kept[k] += (int64_t)json_array_size(at(at(layer, lists[k]), "kept"));
            c.units[2 + k]++;
            c.kept[2 + k] += json_is_true(at(at(layer, blocks[k]), "kept"));
        }
    }
    json_decref(j);
    return c;
}

#endif
