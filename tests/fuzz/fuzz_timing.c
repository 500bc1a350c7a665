/* fuzz_timing.c - a table of times as it stands in a run's record: what is accepted is written and read to the same
 * bits, and gives a cost that never falls. */
#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "core/mask/timing.h"

static pol_status parse(pol_context *ctx, const void *text, size_t n, pol_timing *out)
{
    json_t *j;
    POL_TRY(pol_json_parse(ctx, "run.json", text, n, &j));
    const pol_status s = pol_timing_from_json(ctx, "run.json: timing", j, out);
    json_decref(j);
    return s;
}

static void check_written(pol_context *ctx, const pol_timing *t)
{
    pol_timing again;
    json_t *j = pol_timing_to_json(t);
    char *text = json_dumps(j, JSON_REAL_PRECISION(15));
    if (!text || parse(ctx, text, strlen(text), &again) < 0 || memcmp(t, &again, sizeof again))
        abort();
    free(text);
    json_decref(j);
}

static void check_cost(pol_context *ctx, const pol_timing *t)
{
    enum { GROUPS = 2, CHANNELS = 9 };
    pol_config c = {
        .n_layers = 1, .hidden = 8, .heads_per_group = 1, .head_dim = 4, .n_groups = GROUPS, .ffn = CHANNELS};
    pol_units *u;
    pol_cost *cost;
    c.layers[0] = (pol_layer_shape){GROUPS, CHANNELS};
    if (pol_units_new(ctx, &c, &u) < 0)
        abort();
    if (pol_cost_new(ctx, u, &c, POL_MS, &(pol_cost_options){.timing = t}, &cost) == POL_OK) {
        for (int n = 0; n < CHANNELS; n++)
            if (!(pol_cost_block(cost, POL_UNIT_CHANNEL, 0, n) <= pol_cost_block(cost, POL_UNIT_CHANNEL, 0, n + 1)))
                abort();
        pol_cost_free(cost);
    }
    pol_units_free(u);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pol_context *ctx;
    pol_timing t;
    if (pol_context_new(NULL, &ctx) < 0)
        abort();
    if (parse(ctx, data, size, &t) == POL_OK) {
        check_written(ctx, &t);
        check_cost(ctx, &t);
    }
    pol_context_free(ctx);
    return 0;
}
