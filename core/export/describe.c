/* describe.c - pollard.json and the model card. */
#include "core/export/describe.h"

#include <string.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/repair/repair.h"

/* {"name", "hash"} of the model whose numbering the kept units have: the source, or what it was itself pruned from. */
static pol_status origin(pol_source *src, const pol_layout *l, json_t **out)
{
    if (l->origin) {
        *out = json_incref(l->origin);
        return POL_OK;
    }
    char hash[33];
    POL_TRY(pol_source_hash(src, hash));
    const char *path = pol_source_path(src);
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    char *trimmed = pol_strndup(l->ctx, path, n);
    if (!trimmed)
        return POL_ENOMEM;
    json_t *name = json_string(pol_path_name(trimmed));
    if (!name) /* bytes that are not UTF-8 cannot be in JSON; the hash is what identifies the source */
        name = json_string("unnamed");
    pol_free(l->ctx, trimmed);
    *out = json_pack("{s:o,s:s}", "name", name, "hash", hash);
    return *out ? POL_OK : pol_fail(l->ctx, POL_ENOMEM, "no memory to describe the source");
}

static json_t *id_array(const pol_kept_units *p)
{
    json_t *a = json_array();
    for (int32_t i = 0; i < p->n; i++)
        if (json_array_append_new(a, json_integer(p->dense[i])) < 0) {
            json_decref(a);
            return NULL;
        }
    return a;
}

/* NULL where the weights are the source's. */
static json_t *repaired_json(const pol_layout *l)
{
    const pol_repaired *r = l->repaired;
    if (!r)
        return NULL;
    if (pol_repaired_kind(r) == POL_REPAIR_BIAS)
        return json_pack("{s:s}", "kind", "bias");
    return json_pack("{s:s,s:s,s:b}", "kind", pol_repair_names[pol_repaired_kind(r)], "target",
                     pol_repair_target_names[pol_repaired_target(r)], "inputs_refitted", pol_repaired_refitted(r));
}

static json_t *layer_array(const pol_layout *l)
{
    json_t *a = json_array();
    for (int32_t i = 0; i < l->out.n_layers; i++) {
        json_t *entry =
            json_pack("{s:o,s:o}", "groups", id_array(&l->groups[i]), "channels", id_array(&l->channels[i]));
        if (json_array_append_new(a, entry) < 0) {
            json_decref(a);
            return NULL;
        }
    }
    return a;
}

pol_status pol_export_pollard_json(pol_source *src, const pol_layout *l, const char *dir)
{
    json_t *source;
    POL_TRY(origin(src, l, &source));
    /* clang-format off */
    json_t *j = json_pack("{s:s,s:i,s:s,s:o,s:o*,s:{s:i,s:i},s:o}",
                          "format", "pollard-hf",
                          "version", 1,
                          "pollard", pol_version(),
                          "source", source,
                          "repaired", repaired_json(l),
                          "dense", "n_groups", l->out.n_groups, "ffn", l->out.ffn,
                          "layers", layer_array(l));
    /* clang-format on */
    char *path = pol_path_join(l->ctx, dir, "pollard.json");
    pol_status s = path ? POL_OK : POL_ENOMEM;
    if (s == POL_OK && !j)
        s = pol_fail(l->ctx, POL_ENOMEM, "%s: no memory for the kept units", path);
    if (s == POL_OK)
        s = pol_json_write(l->ctx, path, j);
    pol_free(l->ctx, path);
    json_decref(j);
    return s;
}

static pol_status write_card(const pol_layout *l, const json_t *source, pol_bytes *b)
{
    static const char *const what[] = {
        [POL_EXPORT_ZEROS] = "The tensors have the shapes of the original; the weights of removed units are zero.",
        [POL_EXPORT_HF] = "Removed units are absent from the tensors, so that widths differ from layer to layer; "
                          "`pollard.json` lists the kept ones. Pollard reads this folder; transformers does not.",
    };
    pol_config kept = l->out, dense = l->out;
    int64_t groups = 0, channels = 0;
    for (int32_t i = 0; i < dense.n_layers; i++) {
        dense.layers[i] = (pol_layer_shape){dense.n_groups, dense.ffn};
        kept.layers[i] = (pol_layer_shape){l->groups[i].n, l->channels[i].n};
        groups += l->groups[i].n;
        channels += l->channels[i].n;
    }
    const int64_t params = pol_config_block_params(&kept), all_params = pol_config_block_params(&dense);
    const char *name = json_string_value(json_object_get(source, "name"));
    const char *hash = json_string_value(json_object_get(source, "hash"));
    POL_TRY(pol_bytes_printf(b, "# %s, pruned\n\nWritten by Pollard %s from `%s` ", name, pol_version(), name));
    POL_TRY(pol_bytes_printf(b, "(XXH3-128 of weights and configuration: `%s`).\n%s\n\n", hash, what[l->format]));
    char form[POL_REPAIRED_TEXT_BYTES];
    if (l->repaired)
        POL_TRY(pol_bytes_printf(b,
                                 "Weights that stayed were repaired by forward statistics, to make up for those that "
                                 "went: %s.\n\n",
                                 pol_repaired_text(l->repaired, form)));
    POL_TRY(pol_bytes_printf(b, "Kept: %lld of %lld key/value groups, %lld of %lld MLP channels, ", (long long)groups,
                             (long long)dense.n_groups * dense.n_layers, (long long)channels,
                             (long long)dense.ffn * dense.n_layers));
    POL_TRY(pol_bytes_printf(b, "%lld of %lld parameters of the decoder blocks (%.1f %%).\n\n", (long long)params,
                             (long long)all_params, 100.0 * (double)params / (double)all_params));
    POL_TRY(pol_bytes_printf(b, "| layer | groups of %d | channels of %d |\n| ---: | ---: | ---: |\n", dense.n_groups,
                             dense.ffn));
    for (int32_t i = 0; i < dense.n_layers; i++)
        POL_TRY(pol_bytes_printf(b, "| %d | %d | %d |\n", i, l->groups[i].n, l->channels[i].n));
    return POL_OK;
}

pol_status pol_export_card(pol_source *src, const pol_layout *l, const char *dir)
{
    json_t *source;
    POL_TRY(origin(src, l, &source));
    pol_bytes b = {.ctx = l->ctx};
    char *path = pol_path_join(l->ctx, dir, "README.md");
    pol_status s = path ? write_card(l, source, &b) : POL_ENOMEM;
    if (s == POL_OK)
        s = pol_file_write(l->ctx, path, b.data, b.len);
    pol_free(l->ctx, path);
    pol_bytes_free(&b);
    json_decref(source);
    return s;
}
