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

/* Of the trained model. */
enum { HEADS = 16, CHANNELS = 384, LAYERS = 4 };

/* Units of a kind in a mask, layer by layer. */
static inline void kept_by_layer(const cli *t, const char *name, const char *list, int64_t kept[LAYERS])
{
    json_t *j = load_json(t, name), *layer;
    size_t l;
    json_array_foreach(at(j, "layers"), l, layer)
    {
        assert_in_range(l, 0, LAYERS - 1);
        kept[l] = (int64_t)json_array_size(at(at(layer, list), "kept"));
    }
    json_decref(j);
}

/* The initial and the learnt mask of a run over heads and channels. */
static inline void assert_budget(const cli *t, const char *run, int64_t of_heads, int64_t of_channels)
{
    static const char *const masks[] = {"initial-mask.json", "mask.json"};
    for (int m = 0; m < 2; m++) {
        char name[64];
        snprintf(name, sizeof name, "%s/%s", run, masks[m]);
        const counted got = count_mask(t, name);
        if (got.kept[0] != of_heads || got.kept[1] != of_channels || got.kept[2] != LAYERS || got.kept[3] != LAYERS)
            fail_msg("%s: %lld heads and %lld channels kept, %lld and %lld were to be", name, (long long)got.kept[0],
                     (long long)got.kept[1], (long long)of_heads, (long long)of_channels);
    }
}

#endif
