/* layout.c - placements from a mask, in the numbering of the dense model. */
#include "core/export/layout.h"

#include <string.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/repair/repair.h"

/* Large enough for any model: 8 MB hold the lists of a million units. */
enum { POLLARD_JSON_LIMIT = 64 << 20 };

/* The kept units of one layer and kind. `kept` is an effective mask: a removed block's units are 0 in it. */
static pol_status place(pol_context *ctx, const pol_units *u, const uint8_t *kept, pol_unit_kind kind, int32_t layer,
                        int32_t width, pol_kept_units *p)
{
    const pol_section *s = pol_units_section(u, kind, layer);
    if (s->count != width)
        return pol_fail(ctx, POL_EARG, "layer %d: the mask has %lld %s, the model %d", layer, (long long)s->count,
                        pol_unit_kind_name(kind), width);
    p->from = pol_alloc_array(ctx, 2 * s->count, sizeof *p->from);
    if (!p->from)
        return POL_ENOMEM;
    p->dense = p->from + s->count;
    for (int32_t i = 0; i < width; i++)
        if (kept[s->first + i]) {
            p->from[p->n] = p->dense[p->n] = i;
            p->n++;
        }
    return POL_OK;
}

/* Turns unit numbers of the source into those of the dense model: `ids` lists what the source kept. */
static pol_status renumber(pol_context *ctx, const char *where, const json_t *entry, const char *key, int32_t width,
                           int32_t dense_width, pol_kept_units *p)
{
    json_t *ids;
    POL_TRY(pol_json_array(ctx, where, entry, key, &ids));
    if (json_array_size(ids) != (size_t)width)
        return pol_fail(ctx, POL_EFORMAT, "%s: '%s' has %zu numbers, the tensors have %d units", where, key,
                        json_array_size(ids), width);
    json_int_t last = -1;
    int32_t next = 0;
    for (int32_t i = 0; i < width; i++) {
        const json_t *id = json_array_get(ids, (size_t)i);
        const json_int_t v = json_integer_value(id);
        if (!json_is_integer(id) || v <= last || v >= dense_width)
            return pol_fail(ctx, POL_EFORMAT, "%s: '%s' does not rise within 0..%d", where, key, dense_width - 1);
        last = v;
        if (next < p->n && p->from[next] == i)
            p->dense[next++] = (int32_t)v;
    }
    return POL_OK;
}

static pol_status renumber_layers(pol_layout *l, const pol_config *c, const char *path, const json_t *j)
{
    json_t *layers, *origin;
    POL_TRY(pol_json_object(l->ctx, path, j, "source", &origin));
    POL_TRY(pol_json_array(l->ctx, path, j, "layers", &layers));
    if (json_array_size(layers) != (size_t)c->n_layers)
        return pol_fail(l->ctx, POL_EFORMAT, "%s: 'layers' has %zu entries, the model %d", path,
                        json_array_size(layers), c->n_layers);
    for (int32_t i = 0; i < c->n_layers; i++) {
        char where[4096 + 32];
        snprintf(where, sizeof where, "%s: layers[%d]", path, i);
        const json_t *entry = json_array_get(layers, (size_t)i);
        POL_TRY(renumber(l->ctx, where, entry, "groups", c->layers[i].n_groups, c->n_groups, &l->groups[i]));
        POL_TRY(renumber(l->ctx, where, entry, "channels", c->layers[i].ffn, c->ffn, &l->channels[i]));
    }
    l->origin = json_incref(origin);
    return POL_OK;
}

/* A folder that was pruned before names its units in pollard.json. */
static pol_status renumber_from_source(pol_layout *l, pol_source *src)
{
    if (pol_source_is_gguf(src))
        return POL_OK;
    char *path = pol_path_join(l->ctx, pol_source_path(src), "pollard.json");
    if (!path)
        return POL_ENOMEM;
    pol_status s = POL_OK;
    if (pol_path_exists(path)) {
        json_t *j;
        s = pol_json_read(l->ctx, path, POLLARD_JSON_LIMIT, &j);
        if (s == POL_OK)
            s = renumber_layers(l, pol_source_config(src), path, j);
        json_decref(j);
    }
    pol_free(l->ctx, path);
    return s;
}

static pol_status place_all(pol_source *src, const pol_units *u, const uint8_t *mask, pol_layout *l)
{
    const pol_config *c = pol_source_config(src);
    uint8_t *kept = pol_alloc_array(l->ctx, u->n, 1);
    if (!kept)
        return POL_ENOMEM;
    pol_mask_effective(u, mask, kept);
    pol_status s = POL_OK;
    for (int32_t i = 0; s == POL_OK && i < c->n_layers; i++) {
        s = place(l->ctx, u, kept, POL_UNIT_GROUP, i, c->layers[i].n_groups, &l->groups[i]);
        if (s == POL_OK)
            s = place(l->ctx, u, kept, POL_UNIT_CHANNEL, i, c->layers[i].ffn, &l->channels[i]);
    }
    pol_free(l->ctx, kept);
    return s < 0 ? s : renumber_from_source(l, src);
}

/* A block that the repair gave an output bias makes its kind of block biased everywhere: stock classes have biases on
 * all of q, k, v and o, or of gate, up and down, of all layers, or on none. */
static void add_biases(pol_layout *l)
{
    for (int32_t i = 0; i < l->out.n_layers; i++) {
        if (pol_repaired_has(l->repaired, POL_T_O_BIAS, i))
            l->out.qkv_bias = l->out.o_bias = true;
        if (pol_repaired_has(l->repaired, POL_T_DOWN_BIAS, i))
            l->out.mlp_bias = true;
    }
}

static pol_status make(pol_source *src, const pol_units *u, const uint8_t *mask, pol_layout *l)
{
    const pol_config *c = pol_source_config(src);
    if (u->n_layers != c->n_layers)
        return pol_fail(l->ctx, POL_EARG, "the mask has %d layers, the model %d", u->n_layers, c->n_layers);
    l->out = *c;
    l->groups = pol_alloc_zero(l->ctx, (size_t)c->n_layers * sizeof *l->groups);
    l->channels = pol_alloc_zero(l->ctx, (size_t)c->n_layers * sizeof *l->channels);
    if (!l->groups || !l->channels)
        return POL_ENOMEM;
    POL_TRY(place_all(src, u, mask, l));
    const bool zeros = l->format == POL_EXPORT_ZEROS;
    if (l->repaired)
        add_biases(l);
    l->left = l->out;
    for (int32_t i = 0; i < c->n_layers; i++) {
        l->left.layers[i] = (pol_layer_shape){l->groups[i].n, l->channels[i].n};
        l->out.layers[i] = zeros ? (pol_layer_shape){c->n_groups, c->ffn} : l->left.layers[i];
    }
    return POL_OK;
}

pol_status pol_layout_make(pol_source *src, const pol_units *u, const uint8_t *mask, pol_export_format format,
                           const pol_repaired *repaired, pol_layout *out)
{
    memset(out, 0, sizeof *out);
    out->ctx = pol_source_context(src);
    out->format = format;
    out->repaired = repaired;
    pol_status s = make(src, u, mask, out);
    if (s < 0)
        pol_layout_free(out);
    return s;
}

void pol_layout_free(pol_layout *l)
{
    for (int32_t i = 0; l->groups && l->channels && i < l->out.n_layers; i++) {
        pol_free(l->ctx, l->groups[i].from); /* dense is in the same block */
        pol_free(l->ctx, l->channels[i].from);
    }
    pol_free(l->ctx, l->groups);
    pol_free(l->ctx, l->channels);
    json_decref(l->origin);
    memset(l, 0, sizeof *l);
}
