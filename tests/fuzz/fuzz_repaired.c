/* fuzz_repaired.c - a file of repaired weights against a small model's units and a mask; what is accepted is read. */
#include <stdlib.h>

#include "core/repair/repair.h"

enum { MAX_VALUES = 1024 };

static void read_all(const pol_repaired *r, const pol_config *left)
{
    char text[POL_REPAIRED_TEXT_BYTES];
    float x[MAX_VALUES];
    (void)pol_repaired_text(r, text);
    for (int32_t l = 0; l < left->n_layers; l++)
        for (int k = 0; k < POL_T_KINDS; k++) {
            int64_t rows, cols;
            pol_tensor_shape(left, (pol_tensor_kind)k, l, &rows, &cols);
            if (!pol_repaired_has(r, (pol_tensor_kind)k, l))
                continue;
            if (!rows || rows * cols > MAX_VALUES)
                abort(); /* a tensor that the mask leaves no room for */
            (void)pol_repaired_read(r, (pol_tensor_kind)k, l, 0, rows, x);
            if (pol_repaired_read(r, (pol_tensor_kind)k, l, 1, rows, x) == POL_OK)
                abort(); /* beyond the end */
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* All groups, channels, attention blocks, MLP blocks; the second MLP keeps nothing. */
    static const uint8_t mask[] = {1, 0, 1, 1, 1, 0, 1, 0, 0, 0, 1, 1, 1, 1};
    pol_config c = {.n_layers = 2, .hidden = 8, .heads_per_group = 1, .head_dim = 4, .n_groups = 2, .ffn = 3}, left;
    c.layers[0] = c.layers[1] = (pol_layer_shape){2, 3};
    pol_context *ctx;
    pol_units *u;
    pol_repaired *r;
    if (pol_context_new(NULL, &ctx) < 0 || pol_units_new(ctx, &c, &u) < 0 || u->n != sizeof mask)
        abort();
    const pol_status s = pol_repaired_parse(ctx, "fuzz", data, size, &c, u, mask, &r);
    if (s < 0 && (r || !*pol_error_text(ctx)))
        abort(); /* a failed call left an object, or said nothing */
    pol_mask_config(u, mask, &c, &left);
    left.o_bias = left.mlp_bias = true;
    if (s == POL_OK)
        read_all(r, &left);
    pol_repaired_close(r);
    pol_units_free(u);
    pol_context_free(ctx);
    return 0;
}
