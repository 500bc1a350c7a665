/* config_hf.c - config.json of a Hugging Face folder, and pollard.json of a pruned one. */
#include <stdio.h>
#include <string.h>

#include "core/base/json.h"
#include "core/model/family.h"

static pol_status unsupported(pol_context *ctx, const char *where, const char *key, const char *value)
{
    return pol_fail(ctx, POL_EUNSUPPORTED, "%s: '%s' is '%s', which is not handled", where, key, value);
}

static pol_status read_size(pol_context *ctx, const char *where, const json_t *j, const char *key, int64_t *out)
{
    return pol_json_int(ctx, where, j, key, 1, INT32_MAX, out);
}

static pol_status read_size_opt(pol_context *ctx, const char *where, const json_t *j, const char *key, int64_t *out)
{
    return pol_json_int_opt(ctx, where, j, key, 1, INT32_MAX, out);
}

static pol_status read_float(pol_context *ctx, const char *where, const json_t *j, const char *key, float *out)
{
    double v = *out;
    POL_TRY(pol_json_num_opt(ctx, where, j, key, 0, 1e30, &v));
    *out = (float)v;
    return POL_OK;
}

/* `r` is rope_scaling, or rope_parameters of transformers 5, which holds the base as well. */
static pol_status read_rope_scaling(pol_context *ctx, const char *where, const json_t *r, pol_config *c)
{
    const char *type = "default";
    POL_TRY(pol_json_str_opt(ctx, where, r, "type", &type)); /* the name before transformers 4.43 */
    POL_TRY(pol_json_str_opt(ctx, where, r, "rope_type", &type));
    const char *kind;
    json_t *of_kind;
    json_object_foreach((json_t *)r, kind, of_kind) /* one set for each kind of attention, in models that mix them */
        if (json_is_object(of_kind)) return pol_fail(
            ctx, POL_EUNSUPPORTED, "%s: '%s' has parameters of its own, only one set for all layers is handled", where,
            kind);
    POL_TRY(read_float(ctx, where, r, "rope_theta", &c->rope_theta));
    if (!strcmp(type, "default"))
        return POL_OK;
    if (!strcmp(type, "linear"))
        c->rope_scaling = POL_ROPE_LINEAR;
    else if (!strcmp(type, "llama3"))
        c->rope_scaling = POL_ROPE_LLAMA3;
    else
        return unsupported(ctx, where, "rope_type", type);
    double factor = 0;
    POL_TRY(pol_json_num(ctx, where, r, "factor", 1e-3, 1e6, &factor));
    c->rope_factor = (float)factor;
    if (c->rope_scaling == POL_ROPE_LINEAR)
        return POL_OK;
    double low = 0, high = 0;
    int64_t positions = 0;
    POL_TRY(pol_json_num(ctx, where, r, "low_freq_factor", 1e-6, 1e6, &low));
    POL_TRY(pol_json_num(ctx, where, r, "high_freq_factor", 1e-6, 1e6, &high));
    POL_TRY(read_size(ctx, where, r, "original_max_position_embeddings", &positions));
    c->rope_low_freq = (float)low;
    c->rope_high_freq = (float)high;
    c->rope_original_positions = (int32_t)positions;
    return POL_OK;
}

static pol_status read_rope(pol_context *ctx, const char *where, const json_t *j, pol_config *c)
{
    static const char *const keys[] = {"rope_parameters", "rope_scaling"};
    c->rope_theta = 10000;
    POL_TRY(read_float(ctx, where, j, "rope_theta", &c->rope_theta));
    double partial = 1;
    POL_TRY(pol_json_num_opt(ctx, where, j, "partial_rotary_factor", 0, 1e6, &partial));
    for (size_t i = 0; i < POL_COUNT(keys); i++) {
        json_t *r = json_object_get(j, keys[i]);
        if (!r || json_is_null(r))
            continue;
        char inner[4200];
        snprintf(inner, sizeof inner, "%s: %s", where, keys[i]);
        POL_TRY(pol_json_object(ctx, where, j, keys[i], &r));
        POL_TRY(pol_json_num_opt(ctx, inner, r, "partial_rotary_factor", 0, 1e6, &partial));
        POL_TRY(read_rope_scaling(ctx, inner, r, c));
        break;
    }
    if (partial != 1)
        return pol_fail(ctx, POL_EUNSUPPORTED, "%s: 'partial_rotary_factor' is %g, only 1 is handled", where, partial);
    return POL_OK;
}

/* What would change the block, so that going on would be silently wrong. pretraining_tp is not here: it only splits
 * sums. */
static pol_status refuse_unknown(pol_context *ctx, const char *where, const json_t *j)
{
    const char *act = "silu";
    POL_TRY(pol_json_str_opt(ctx, where, j, "hidden_act", &act));
    if (strcmp(act, "silu") && strcmp(act, "swish"))
        return unsupported(ctx, where, "hidden_act", act);
    json_t *q = json_object_get(j, "quantization_config");
    if (q && !json_is_null(q)) {
        const char *method = json_string_value(json_object_get(q, "quant_method"));
        return unsupported(ctx, where, "quantization_config", method ? method : "given");
    }
    return POL_OK;
}

/* The kinds of attention by layer, where they are listed: all must be what the block does. */
static pol_status check_layer_types(pol_context *ctx, const char *where, const json_t *j, const pol_config *c)
{
    const char *want = c->window ? "sliding_attention" : "full_attention";
    json_t *list = json_object_get(j, "layer_types");
    if (!list || json_is_null(list))
        return POL_OK;
    POL_TRY(pol_json_array(ctx, where, j, "layer_types", &list));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *type = json_string_value(json_array_get(list, i));
        if (!type || strcmp(type, want))
            return pol_fail(ctx, POL_EUNSUPPORTED, "%s: 'layer_types': entry %zu is '%s', only '%s' is handled here",
                            where, i, type ? type : "not a string", want);
    }
    return POL_OK;
}

pol_status pol_config_from_json(pol_context *ctx, const char *where, const json_t *j, pol_config *c)
{
    memset(c, 0, sizeof *c);
    if (!json_is_object(j))
        return pol_fail(ctx, POL_EFORMAT, "%s: not a JSON object", where);
    const char *type = NULL;
    POL_TRY(pol_json_str(ctx, where, j, "model_type", &type));
    const pol_family *f = pol_family_of_model_type(type, strlen(type));
    if (!f)
        return unsupported(ctx, where, "model_type", type);
    snprintf(c->family, sizeof c->family, "%s", f->name);
    POL_TRY(refuse_unknown(ctx, where, j));

    pol_raw_shape s = {.positions = f->positions};
    POL_TRY(read_size(ctx, where, j, "num_hidden_layers", &s.layers));
    POL_TRY(read_size(ctx, where, j, "hidden_size", &s.hidden));
    POL_TRY(read_size(ctx, where, j, "num_attention_heads", &s.heads));
    POL_TRY(read_size(ctx, where, j, "intermediate_size", &s.ffn));
    POL_TRY(read_size(ctx, where, j, "vocab_size", &s.vocab));
    s.groups = f->groups ? f->groups : s.heads;
    if (json_is_null(json_object_get(j, "num_key_value_heads")))
        s.groups = s.heads; /* an explicit null means so, whatever the family's default is */
    POL_TRY(read_size_opt(ctx, where, j, "num_key_value_heads", &s.groups));
    POL_TRY(read_size_opt(ctx, where, j, "head_dim", &s.head_dim));
    POL_TRY(read_size_opt(ctx, where, j, "max_position_embeddings", &s.positions));
    if (f->windowed) {
        const json_t *w = json_object_get(j, "sliding_window");
        s.window = json_is_null(w) ? 0 : f->window;
        POL_TRY(read_size_opt(ctx, where, j, "sliding_window", &s.window));
    }
    POL_TRY(pol_config_set_shape(ctx, where, &s, c));
    POL_TRY(check_layer_types(ctx, where, j, c));

    c->rms_eps = 1e-6f;
    POL_TRY(read_float(ctx, where, j, "rms_norm_eps", &c->rms_eps));
    POL_TRY(read_rope(ctx, where, j, c));
    POL_TRY(pol_json_bool_opt(ctx, where, j, "tie_word_embeddings", &c->tied));
    if (f->biased) {
        POL_TRY(pol_json_bool_opt(ctx, where, j, "attention_bias", &c->qkv_bias));
        POL_TRY(pol_json_bool_opt(ctx, where, j, "mlp_bias", &c->mlp_bias));
        c->o_bias = c->qkv_bias;
    }
    return pol_config_check_numbers(ctx, where, c);
}

/* A list of the units that a block still has: rising numbers below `dense`. */
static pol_status read_kept(pol_context *ctx, const char *where, const json_t *layer, const char *key, int32_t dense,
                            int32_t *n)
{
    json_t *list;
    POL_TRY(pol_json_array(ctx, where, layer, key, &list));
    int64_t last = -1;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        const int64_t unit = json_integer_value(v);
        if (!json_is_integer(v) || unit <= last || unit >= dense)
            return pol_fail(ctx, POL_EFORMAT, "%s: '%s': entry %zu is not a unit number that rises and is below %d",
                            where, key, i, (int)dense);
        last = unit;
    }
    *n = (int32_t)json_array_size(list); /* at most `dense`, as they rise */
    return POL_OK;
}

pol_status pol_config_apply_pruned(pol_context *ctx, const char *where, const json_t *j, pol_config *c)
{
    if (!json_is_object(j))
        return pol_fail(ctx, POL_EFORMAT, "%s: not a JSON object", where);
    const char *format = NULL;
    int64_t version = 0;
    POL_TRY(pol_json_str(ctx, where, j, "format", &format));
    if (strcmp(format, "pollard-hf"))
        return unsupported(ctx, where, "format", format);
    POL_TRY(pol_json_int(ctx, where, j, "version", 1, INT32_MAX, &version));
    if (version != 1)
        return pol_fail(ctx, POL_EUNSUPPORTED, "%s: 'version' is %lld, only 1 is handled", where, (long long)version);
    json_t *layers;
    POL_TRY(pol_json_array(ctx, where, j, "layers", &layers));
    if (json_array_size(layers) != (size_t)c->n_layers)
        return pol_fail(ctx, POL_EFORMAT, "%s: 'layers' has %zu entries, the model has %d layers", where,
                        json_array_size(layers), (int)c->n_layers);
    for (int32_t l = 0; l < c->n_layers; l++) {
        char inner[4200];
        snprintf(inner, sizeof inner, "%s: layers[%d]", where, (int)l);
        const json_t *layer = json_array_get(layers, (size_t)l);
        if (!json_is_object(layer))
            return pol_fail(ctx, POL_EFORMAT, "%s: not an object", inner);
        POL_TRY(read_kept(ctx, inner, layer, "groups", c->n_groups, &c->layers[l].n_groups));
        POL_TRY(read_kept(ctx, inner, layer, "channels", c->ffn, &c->layers[l].ffn));
    }
    return POL_OK;
}
