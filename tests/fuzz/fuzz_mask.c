/* fuzz_mask.c - mask.json against the units of a small model; what is accepted must survive being written and read
 * again. */
#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "core/mask/maskfile.h"

enum { MAX_UNITS = 64 };

static pol_status parse(pol_context *ctx, const void *text, size_t n, const pol_units *u, unsigned *granularity,
                        uint8_t *mask, float *s)
{
    json_t *j;
    POL_TRY(pol_json_parse(ctx, "mask.json", text, n, &j));
    const pol_status status = pol_mask_from_json(ctx, "mask.json", j, u, granularity, mask, s);
    json_decref(j);
    return status;
}

static void check(pol_context *ctx, const pol_units *u, const uint8_t *data, size_t size)
{
    unsigned g, g2;
    uint8_t mask[MAX_UNITS], mask2[MAX_UNITS];
    float s[MAX_UNITS], s2[MAX_UNITS];
    if (parse(ctx, data, size, u, &g, mask, s) < 0)
        return;
    pol_bytes text = {.ctx = ctx};
    if (pol_mask_to_text(&text, u, g, mask, s) < 0 || parse(ctx, text.data, text.len, u, &g2, mask2, s2) < 0)
        abort();
    for (int64_t i = 0; i < u->n; i++)
        if (mask[i] > 1 || mask[i] != mask2[i] || !(s[i] >= 0 && s[i] <= 1) || s[i] != s2[i])
            abort();
    if (g != g2)
        abort();
    pol_bytes_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pol_config c = {.n_layers = 2, .hidden = 8, .heads_per_group = 1, .head_dim = 4, .n_groups = 2, .ffn = 3};
    c.layers[0] = (pol_layer_shape){2, 3};
    c.layers[1] = (pol_layer_shape){0, 3};
    pol_context *ctx;
    pol_units *u = NULL;
    if (pol_context_new(NULL, &ctx) < 0 || pol_units_new(ctx, &c, &u) < 0 || u->n > MAX_UNITS)
        abort();
    check(ctx, u, data, size);
    pol_units_free(u);
    pol_context_free(ctx);
    return 0;
}
