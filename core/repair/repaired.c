/* repaired.c - a file of repaired weights: checked once against model and mask, then applied or read. */
#include <math.h>
#include <string.h>

#include "core/base/file.h"
#include "core/model/safetensors.h"
#include "core/model/tensors.h"
#include "core/repair/repaired.h"
#include "core/repair/rows.h"

struct pol_repaired {
    pol_context *ctx;
    pol_units *units;
    pol_safetensors *st;
    pol_config left; /* what the mask leaves */
    uint8_t *mask;   /* [units->n] effective */
    char *name;      /* of the file */
    pol_repair_kind kind;
    pol_repair_target target;
    const char *identity; /* the file's */
};

pol_status pol_repair_mask_hash(pol_context *ctx, const pol_units *u, const uint8_t *mask, char out[33])
{
    uint8_t *kept = pol_alloc(ctx, (size_t)u->n);
    if (!kept)
        return POL_ENOMEM;
    pol_mask_effective(u, mask, kept);
    pol_bytes_hash(kept, (size_t)u->n, out);
    pol_free(ctx, kept);
    return POL_OK;
}

static const pol_safetensors_tensor *find(const pol_repaired *r, pol_tensor_kind kind, int32_t layer)
{
    char name[96];
    pol_tensor_name(kind, layer, name, sizeof name);
    return pol_safetensors_find(r->st, name);
}

/* ---- checking ---- */

static pol_status required(const pol_repaired *r, const char *key, const char **out)
{
    *out = pol_safetensors_metadata(r->st, key);
    return *out ? POL_OK : pol_fail(r->ctx, POL_EFORMAT, "%s: metadata: no '%s'", r->name, key);
}

/* The number of `name` among names, from `first` on. */
static pol_status choice(const pol_repaired *r, const char *key, const char *const *names, int first, int *out)
{
    const char *name;
    POL_TRY(required(r, key, &name));
    for (*out = first; names[*out]; ++*out)
        if (!strcmp(names[*out], name))
            return POL_OK;
    return pol_fail(r->ctx, POL_EFORMAT, "%s: metadata: '%s' is '%s', which is not known", r->name, key, name);
}

static pol_status check_metadata(pol_repaired *r)
{
    const char *text;
    int number;
    POL_TRY(required(r, "format", &text));
    if (strcmp(text, POL_REPAIRED_FORMAT) != 0)
        return pol_fail(r->ctx, POL_EFORMAT, "%s: metadata: 'format' is '%s', not '%s'", r->name, text,
                        POL_REPAIRED_FORMAT);
    POL_TRY(required(r, "version", &text));
    if (strcmp(text, POL_REPAIRED_VERSION) != 0)
        return pol_fail(r->ctx, POL_EUNSUPPORTED, "%s: metadata: 'version' is '%s', only %s is handled", r->name, text,
                        POL_REPAIRED_VERSION);
    POL_TRY(required(r, "identity", &r->identity));
    POL_TRY(choice(r, "kind", pol_repair_names, POL_REPAIR_BIAS, &number));
    r->kind = (pol_repair_kind)number;
    if (r->kind != POL_REPAIR_RIDGE)
        return POL_OK;
    POL_TRY(choice(r, "target", pol_repair_target_names, 0, &number));
    r->target = (pol_repair_target)number;
    return POL_OK;
}

static pol_status check_mask(pol_repaired *r)
{
    const char *was;
    char is[33];
    POL_TRY(required(r, "mask", &was));
    pol_bytes_hash(r->mask, (size_t)r->units->n, is);
    if (strcmp(was, is) != 0)
        return pol_fail(r->ctx, POL_EFORMAT, "%s: was made for another mask: its hash is %s, this one's is %s", r->name,
                        was, is);
    return POL_OK;
}

static pol_status check_shape(const pol_repaired *r, const pol_safetensors_tensor *t, pol_tensor_kind kind,
                              int32_t layer)
{
    int64_t rows, cols;
    pol_tensor_shape(&r->left, kind, layer, &rows, &cols);
    const bool vector = pol_tensor_is_vector(kind);
    if (strcmp(t->coding->name, "f32") != 0)
        return pol_fail(r->ctx, POL_EFORMAT, "%s: tensor '%s' has type %s, not f32", r->name, t->name, t->coding->name);
    if (!cols ||
        (vector ? t->n_dims != 1 || t->shape[0] != cols : t->n_dims != 2 || t->shape[0] != rows || t->shape[1] != cols))
        return pol_fail(r->ctx, POL_EFORMAT, "%s: tensor '%s' has not the shape that the mask leaves", r->name,
                        t->name);
    return POL_OK;
}

/* One of the tensors that a repair of this kind writes. */
static bool is_repairable(const pol_repaired *r, pol_tensor_kind kind)
{
    const bool bias = kind == POL_T_O_BIAS || kind == POL_T_DOWN_BIAS;
    if (r->kind == POL_REPAIR_BIAS)
        return bias;
    return !bias && !pol_tensor_is_global(kind) && !pol_tensor_is_vector(kind);
}

/* The tensors of a part are there together, or none is. */
static pol_status check_part(const pol_repaired *r, int32_t layer, pol_part part)
{
    pol_tensor_kind kind[POL_PART_TENSORS];
    const int n = pol_part_tensors(part, kind);
    for (int i = 1; i < n; i++) {
        const bool first = find(r, kind[0], layer), other = find(r, kind[i], layer);
        char name[96];
        pol_tensor_name(kind[first ? i : 0], layer, name, sizeof name);
        if (first != other)
            return pol_fail(r->ctx, POL_EFORMAT, "%s: tensor '%s' is missing beside its fellows", r->name, name);
    }
    return POL_OK;
}

static pol_status name_stranger(const pol_repaired *r)
{
    const pol_safetensors_tensor *t;
    for (int64_t i = 0; (t = pol_safetensors_at(r->st, i)); i++) {
        bool known = false;
        for (int32_t l = 0; l < r->left.n_layers && !known; l++)
            for (int k = 0; k < POL_T_KINDS && !known; k++)
                known = is_repairable(r, (pol_tensor_kind)k) && find(r, (pol_tensor_kind)k, l) == t;
        if (!known)
            return pol_fail(r->ctx, POL_EFORMAT, "%s: tensor '%s' has no place among repaired weights", r->name,
                            t->name);
    }
    return POL_OK;
}

static pol_status check_tensors(const pol_repaired *r)
{
    int64_t known = 0, all = 0;
    while (pol_safetensors_at(r->st, all))
        all++;
    if (!all)
        return pol_fail(r->ctx, POL_EFORMAT, "%s: holds no tensor", r->name);
    for (int32_t l = 0; l < r->left.n_layers; l++) {
        for (int k = 0; k < POL_T_KINDS; k++) {
            const pol_safetensors_tensor *t =
                is_repairable(r, (pol_tensor_kind)k) ? find(r, (pol_tensor_kind)k, l) : NULL;
            if (t)
                POL_TRY(check_shape(r, t, (pol_tensor_kind)k, l));
            known += t != NULL;
        }
        POL_TRY(check_part(r, l, POL_W_QKV));
        POL_TRY(check_part(r, l, POL_W_GATE_UP));
    }
    return known == all ? POL_OK : name_stranger(r);
}

/* ---- opening ---- */

static pol_status new_repaired(pol_context *ctx, const char *name, const pol_config *dense, const pol_units *u,
                               const uint8_t *mask, pol_repaired **out)
{
    pol_repaired *r = *out = pol_alloc_zero(ctx, sizeof *r);
    if (!r)
        return POL_ENOMEM;
    r->ctx = ctx;
    POL_TRY(pol_units_new(ctx, dense, &r->units));
    r->name = pol_strdup(ctx, name);
    r->mask = pol_alloc(ctx, (size_t)u->n);
    if (!r->name || !r->mask)
        return POL_ENOMEM;
    if (u->n != r->units->n)
        return pol_fail(ctx, POL_EARG, "the mask has %lld units, the model %lld", (long long)u->n,
                        (long long)r->units->n);
    pol_mask_effective(u, mask, r->mask);
    pol_mask_config(u, mask, dense, &r->left);
    r->left.o_bias = r->left.mlp_bias = true; /* such tensors have a shape, whether the model has them or not */
    return POL_OK;
}

static pol_status check(pol_repaired *r)
{
    POL_TRY(check_metadata(r));
    POL_TRY(check_mask(r));
    return check_tensors(r);
}

static pol_status hand_over(pol_repaired *r, pol_status s, pol_repaired **out)
{
    if (s == POL_OK)
        s = check(r);
    *out = s < 0 ? NULL : r;
    if (s < 0)
        pol_repaired_close(r);
    return s;
}

pol_status pol_repaired_open(pol_context *ctx, const char *path, const pol_config *dense, const pol_units *u,
                             const uint8_t *mask, pol_repaired **out)
{
    pol_repaired *r;
    pol_status s = new_repaired(ctx, path, dense, u, mask, &r);
    if (s == POL_OK)
        s = pol_safetensors_open_file(ctx, path, &r->st);
    return hand_over(r, s, out);
}

pol_status pol_repaired_parse(pol_context *ctx, const char *name, const void *data, size_t n, const pol_config *dense,
                              const pol_units *u, const uint8_t *mask, pol_repaired **out)
{
    pol_repaired *r;
    pol_status s = new_repaired(ctx, name, dense, u, mask, &r);
    if (s == POL_OK)
        s = pol_safetensors_parse(ctx, name, data, n, &r->st);
    return hand_over(r, s, out);
}

void pol_repaired_close(pol_repaired *r)
{
    if (!r)
        return;
    pol_safetensors_close(r->st);
    pol_units_free(r->units);
    pol_free(r->ctx, r->mask);
    pol_free(r->ctx, r->name);
    pol_free(r->ctx, r);
}

/* ---- reading ---- */

bool pol_repaired_has(const pol_repaired *r, pol_tensor_kind kind, int32_t layer) { return find(r, kind, layer); }

pol_status pol_repaired_read(const pol_repaired *r, pol_tensor_kind kind, int32_t layer, int64_t row, int64_t n,
                             float *dst)
{
    int64_t rows, cols;
    const pol_safetensors_tensor *t = find(r, kind, layer);
    pol_tensor_shape(&r->left, kind, layer, &rows, &cols);
    if (!t || row < 0 || n < 0 || n > rows || row > rows - n)
        return pol_fail(r->ctx, POL_EARG, "%s: has no rows of tensor %d of layer %d from %lld on, %lld of them",
                        r->name, (int)kind, (int)layer, (long long)row, (long long)n);
    const uint64_t from = t->at + (uint64_t)(row * cols) * sizeof *dst, bytes = (uint64_t)(n * cols) * sizeof *dst;
    t->coding->decode(pol_safetensors_file_data(r->st, t->file) + from, n * cols, dst);
    pol_safetensors_release(r->st, t->file, from, bytes);
    for (int64_t i = 0; i < n * cols; i++)
        if (!isfinite(dst[i]))
            return pol_fail(r->ctx, POL_EFORMAT, "%s: tensor '%s': a value is %g, not a finite number", r->name,
                            t->name, (double)dst[i]);
    return POL_OK;
}

pol_repair_kind pol_repaired_kind(const pol_repaired *r) { return r->kind; }
pol_repair_target pol_repaired_target(const pol_repaired *r) { return r->target; }
const char *pol_repaired_identity(const pol_repaired *r) { return r->identity; }

bool pol_repaired_refitted(const pol_repaired *r)
{
    for (int32_t l = 0; l < r->left.n_layers; l++)
        if (find(r, POL_T_Q, l) || find(r, POL_T_GATE, l))
            return true;
    return false;
}

const char *pol_repaired_text(const pol_repaired *r, char buf[POL_REPAIRED_TEXT_BYTES])
{
    if (r->kind == POL_REPAIR_BIAS)
        snprintf(buf, POL_REPAIRED_TEXT_BYTES, "bias");
    else
        snprintf(buf, POL_REPAIRED_TEXT_BYTES, "ridge, target %s%s", pol_repair_target_names[r->target],
                 pol_repaired_refitted(r) ? ", inputs re-fitted" : "");
    return buf;
}

/* ---- applying ---- */

/* The file's rows of a part, units in rising order; *out is the caller's to free. */
static pol_status read_part(const pol_repaired *r, int32_t layer, pol_part part, int64_t units, float **out)
{
    pol_tensor_kind kind[POL_PART_TENSORS];
    const int n = pol_part_tensors(part, kind);
    const int64_t values = units * pol_part_unit(&r->left, part);
    float *tensor = pol_alloc_array(r->ctx, values, sizeof *tensor);
    *out = pol_alloc_array(r->ctx, values, sizeof **out);
    pol_status s = tensor && *out ? POL_OK : POL_ENOMEM;
    for (int i = 0; s == POL_OK && i < n; i++) {
        int64_t rows, cols;
        pol_tensor_shape(&r->left, kind[i], layer, &rows, &cols);
        s = pol_repaired_read(r, kind[i], layer, 0, rows, tensor);
        if (s == POL_OK)
            pol_rows_from_tensor(&r->left, kind[i], tensor, units, *out);
    }
    pol_free(r->ctx, tensor);
    return s;
}

/* Rows go where the model's kept units lie, in whatever order that is. */
static pol_status apply_part(const pol_repaired *r, pol_model *m, int32_t layer, pol_part part, pol_unit_kind kind)
{
    pol_tensor_kind tensor[POL_PART_TENSORS];
    const pol_section *sec = pol_units_section(r->units, kind, layer);
    const int64_t n = kind == POL_UNIT_GROUP ? r->left.layers[layer].n_groups : r->left.layers[layer].ffn;
    const int64_t unit = pol_part_unit(&r->left, part);
    (void)pol_part_tensors(part, tensor);
    if (!n || !find(r, tensor[0], layer))
        return POL_OK;
    float *rows = NULL, *lying = pol_alloc_array(r->ctx, n * unit, sizeof *lying);
    int32_t *rank = pol_alloc_array(r->ctx, sec->count, sizeof *rank);
    pol_status s = lying && rank ? read_part(r, layer, part, n, &rows) : POL_ENOMEM;
    for (int64_t i = 0, k = 0; s == POL_OK && i < sec->count; i++)
        rank[i] = r->mask[sec->first + i] ? (int32_t)k++ : -1;
    for (int64_t p = 0; s == POL_OK && p < n; p++) {
        const int32_t from = rank[m->arrangement->order[sec->first + p] - sec->first];
        if (from < 0)
            s = pol_fail(r->ctx, POL_EARG, "%s: layer %d of the model is not masked by the mask", r->name, (int)layer);
        else
            memcpy(lying + p * unit, rows + from * unit, (size_t)unit * sizeof *lying);
    }
    if (s == POL_OK)
        s = pol_model_put(m, layer, part, 0, n, lying);
    pol_free(r->ctx, rows);
    pol_free(r->ctx, lying);
    pol_free(r->ctx, rank);
    return s;
}

static pol_status apply_bias(const pol_repaired *r, pol_model *m, int32_t layer, pol_unit_kind kind)
{
    const pol_tensor_kind tensor = kind == POL_UNIT_GROUP ? POL_T_O_BIAS : POL_T_DOWN_BIAS;
    if (!find(r, tensor, layer))
        return POL_OK;
    float *bias = pol_alloc_array(r->ctx, r->left.hidden, sizeof *bias);
    pol_status s = bias ? pol_repaired_read(r, tensor, layer, 0, 1, bias) : POL_ENOMEM;
    if (s == POL_OK)
        s = pol_model_put_bias(m, layer, kind, bias);
    pol_free(r->ctx, bias);
    return s;
}

pol_status pol_repaired_apply(const pol_repaired *r, pol_model *m)
{
    static const struct {
        pol_part part;
        pol_unit_kind kind;
    } parts[] = {{POL_W_QKV, POL_UNIT_GROUP},
                 {POL_W_O, POL_UNIT_GROUP},
                 {POL_W_GATE_UP, POL_UNIT_CHANNEL},
                 {POL_W_DOWN, POL_UNIT_CHANNEL}};
    for (int32_t l = 0; l < r->left.n_layers; l++) {
        for (size_t i = 0; i < POL_COUNT(parts); i++)
            POL_TRY(apply_part(r, m, l, parts[i].part, parts[i].kind));
        POL_TRY(apply_bias(r, m, l, POL_UNIT_GROUP));
        POL_TRY(apply_bias(r, m, l, POL_UNIT_CHANNEL));
    }
    return POL_OK;
}
