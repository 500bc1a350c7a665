/* repaired_file.c - writing repaired weights: which tensors, in which order, from which rows. */
#include <stdio.h>
#include <string.h>

#include "core/export/safetensors_write.h"
#include "core/repair/repaired.h"
#include "core/repair/rows.h"

typedef struct entry {
    pol_tensor_kind kind;
    int32_t layer;
} entry;

struct pol_repaired_file {
    pol_context *ctx;
    pol_config left;
    pol_st_writer *w;
    entry *of; /* [n] tensors in the order of the file */
    int64_t n;
    float *tensor; /* room for any */
};

static void list_part(pol_repaired_file *f, int32_t layer, pol_part part)
{
    pol_tensor_kind kind[POL_PART_TENSORS];
    const int n = pol_part_tensors(part, kind);
    for (int i = 0; i < n; i++)
        f->of[f->n++] = (entry){kind[i], layer};
}

static void list_block(pol_repaired_file *f, const pol_repaired_plan *p, int32_t layer, pol_unit_kind kind)
{
    const bool attention = kind == POL_UNIT_GROUP;
    if (!(attention ? p->left->layers[layer].n_groups : p->left->layers[layer].ffn))
        return;
    if (p->kind == POL_REPAIR_BIAS) {
        f->of[f->n++] = (entry){attention ? POL_T_O_BIAS : POL_T_DOWN_BIAS, layer};
        return;
    }
    if (p->refit)
        list_part(f, layer, attention ? POL_W_QKV : POL_W_GATE_UP);
    list_part(f, layer, attention ? POL_W_O : POL_W_DOWN);
}

/* The first tensor of a layer or of one behind it. */
static int64_t first_of(const pol_repaired_file *f, int32_t layer)
{
    int64_t i = 0;
    while (i < f->n && f->of[i].layer < layer)
        i++;
    return i;
}

static int64_t values_of(const pol_repaired_file *f, const entry *e)
{
    int64_t rows, cols;
    pol_tensor_shape(&f->left, e->kind, e->layer, &rows, &cols);
    return rows * cols;
}

static pol_status list_all(pol_repaired_file *f, const pol_repaired_plan *p)
{
    int64_t largest = 1;
    f->of = pol_alloc_array(f->ctx, (int64_t)f->left.n_layers * POL_T_KINDS, sizeof *f->of);
    if (!f->of)
        return POL_ENOMEM;
    for (int32_t l = 0; l < f->left.n_layers; l++) {
        list_block(f, p, l, POL_UNIT_GROUP);
        list_block(f, p, l, POL_UNIT_CHANNEL);
    }
    if (!f->n)
        return pol_fail(f->ctx, POL_EARG, "repair: the mask keeps nothing that could be repaired");
    for (int64_t i = 0; i < f->n; i++)
        largest = pol_max_i64(largest, values_of(f, &f->of[i]));
    f->tensor = pol_alloc_array(f->ctx, largest, sizeof *f->tensor);
    return f->tensor ? POL_OK : POL_ENOMEM;
}

/* Layers that are whole among the first `whole` tensors, without the last one of them: what was written after the last
 * sync may be of the right length and yet not be what was written. */
static int32_t sure_layers(const pol_repaired_file *f, int64_t whole)
{
    int32_t layer = whole == f->n ? f->left.n_layers : f->of[whole].layer;
    return layer > 0 ? layer - 1 : 0;
}

static pol_status resume(pol_repaired_file *f, const char *path, const pol_repaired_plan *p, int32_t *layers)
{
    const pol_st_metadata metadata[] = {
        {"format", POL_REPAIRED_FORMAT},     {"version", POL_REPAIRED_VERSION},
        {"identity", p->identity},           {"mask", p->mask_hash},
        {"kind", pol_repair_names[p->kind]}, {"target", pol_repair_target_names[p->target]}};
    const int64_t n_metadata = (int64_t)POL_COUNT(metadata) - (p->kind == POL_REPAIR_RIDGE ? 0 : 1);
    pol_st_tensor *t = pol_alloc_array(f->ctx, f->n, sizeof *t);
    int64_t whole;
    if (!t)
        return POL_ENOMEM;
    for (int64_t i = 0; i < f->n; i++) {
        t[i] = (pol_st_tensor){.dtype = POL_F32, .n_dims = 2};
        pol_tensor_shape(&f->left, f->of[i].kind, f->of[i].layer, &t[i].shape[0], &t[i].shape[1]);
        if (p->kind == POL_REPAIR_BIAS) {
            t[i].n_dims = 1;
            t[i].shape[0] = t[i].shape[1];
        }
        pol_tensor_name(f->of[i].kind, f->of[i].layer, t[i].name, sizeof t[i].name);
    }
    const pol_status s = pol_st_resume(f->ctx, path, t, f->n, metadata, n_metadata, &whole, &f->w);
    pol_free(f->ctx, t);
    POL_TRY(s);
    *layers = sure_layers(f, whole);
    return pol_repaired_file_cut(f, *layers);
}

pol_status pol_repaired_file_open(pol_context *ctx, const char *path, const pol_repaired_plan *plan, int32_t *layers,
                                  pol_repaired_file **out)
{
    *out = NULL;
    pol_repaired_file *f = pol_alloc_zero(ctx, sizeof *f);
    if (!f)
        return POL_ENOMEM;
    f->ctx = ctx;
    f->left = *plan->left;
    f->left.o_bias = f->left.mlp_bias = true; /* such tensors have a shape, whether the model has them or not */
    pol_status s = list_all(f, plan);
    if (s == POL_OK)
        s = resume(f, path, plan, layers);
    if (s < 0)
        pol_repaired_file_leave(f);
    else
        *out = f;
    return s;
}

pol_status pol_repaired_file_cut(pol_repaired_file *f, int32_t layer) { return pol_st_cut(f->w, first_of(f, layer)); }

/* Units that a part has here. */
static int64_t units_of(const pol_repaired_file *f, int32_t layer, pol_part part)
{
    const bool attention = part == POL_W_QKV || part == POL_W_O;
    return attention ? f->left.layers[layer].n_groups : f->left.layers[layer].ffn;
}

pol_status pol_repaired_file_add(pol_repaired_file *f, int32_t layer, pol_part part, const float *rows)
{
    pol_tensor_kind kind[POL_PART_TENSORS];
    const int n = pol_part_tensors(part, kind);
    for (int i = 0; i < n; i++) {
        pol_rows_to_tensor(&f->left, kind[i], rows, units_of(f, layer, part), f->tensor);
        POL_TRY(pol_st_append(f->w, f->tensor, values_of(f, &(entry){kind[i], layer})));
    }
    return POL_OK;
}

pol_status pol_repaired_file_get(pol_repaired_file *f, int32_t layer, pol_part part, float *rows)
{
    pol_tensor_kind kind[POL_PART_TENSORS];
    const int n = pol_part_tensors(part, kind);
    for (int i = 0; i < n; i++) {
        int64_t at = first_of(f, layer);
        while (at < f->n && f->of[at].kind != kind[i])
            at++;
        POL_TRY(pol_st_read_back(f->w, at, f->tensor));
        pol_rows_from_tensor(&f->left, kind[i], f->tensor, units_of(f, layer, part), rows);
    }
    return POL_OK;
}

pol_status pol_repaired_file_add_bias(pol_repaired_file *f, const float *bias)
{
    return pol_st_append(f->w, bias, f->left.hidden);
}

pol_status pol_repaired_file_sync(pol_repaired_file *f) { return pol_st_sync(f->w); }

static void release(pol_repaired_file *f)
{
    pol_free(f->ctx, f->of);
    pol_free(f->ctx, f->tensor);
    pol_free(f->ctx, f);
}

pol_status pol_repaired_file_finish(pol_repaired_file *f)
{
    const pol_status s = pol_st_finish(f->w);
    release(f);
    return s;
}

void pol_repaired_file_leave(pol_repaired_file *f)
{
    if (!f)
        return;
    pol_st_abort(f->w);
    release(f);
}
