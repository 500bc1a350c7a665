/* fuzz_config.c - config.json, and behind a 0 byte pollard.json. What is accepted must have counts that make sense. */
#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "core/model/family.h"
#include "core/model/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static pol_status read_dense(pol_context *ctx, const uint8_t *text, size_t n, pol_config *c)
{
    json_t *j;
    POL_TRY(pol_json_parse(ctx, "config.json", text, n, &j));
    const pol_status s = pol_config_from_json(ctx, "config.json", j, c);
    json_decref(j);
    return s;
}

static pol_status read_pruned(pol_context *ctx, const uint8_t *text, size_t n, pol_config *c)
{
    json_t *j;
    POL_TRY(pol_json_parse(ctx, "pollard.json", text, n, &j));
    const pol_status s = pol_config_apply_pruned(ctx, "pollard.json", j, c);
    json_decref(j);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static pol_config c;
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    const size_t n = zero ? (size_t)(zero - data) : size;
    pol_context *ctx;
    if (pol_context_new(NULL, &ctx) < 0)
        return 0;
    pol_status s = read_dense(ctx, data, n, &c);
    if (s == POL_OK) {
        const int64_t dense = pol_config_block_params(&c);
        if (dense <= 0 || pol_config_total_params(&c) <= dense || pol_config_macs(&c) <= 0)
            abort();
        if (zero)
            s = read_pruned(ctx, zero + 1, size - n - 1, &c);
        if (s == POL_OK && pol_config_block_params(&c) > dense)
            abort();
    }
    if (s < 0 && !*pol_error_text(ctx))
        abort(); /* refused without a word */
    pol_context_free(ctx);
    return 0;
}
