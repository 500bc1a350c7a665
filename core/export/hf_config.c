/* hf_config.c - the configuration as the Hugging Face classes read it. */
#include "core/export/hf_config.h"

#include <string.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/model/family.h"

static const char *torch_name(pol_dtype d) { return d == POL_F32 ? "float32" : d == POL_F16 ? "float16" : "bfloat16"; }

/* Takes `value`; false where that could not be made. */
static bool set(json_t *o, const char *key, json_t *value) { return json_object_set_new(o, key, value) == 0; }

/* Versions of transformers name the field differently: what the file has is replaced, and a file with neither gets the
 * older name, which all versions read. */
static bool set_dtype(json_t *config, const char *torch_dtype)
{
    const bool newer = json_object_get(config, "dtype") != NULL, older = json_object_get(config, "torch_dtype") != NULL;
    return (!newer || set(config, "dtype", json_string(torch_dtype))) &&
           ((newer && !older) || set(config, "torch_dtype", json_string(torch_dtype)));
}

/* LlamaForCausalLM has biases on q, k, v and o together or on none, MistralForCausalLM has none. */
static pol_status check_biases(pol_context *ctx, const char *where, const pol_config *c)
{
    if (c->qkv_bias != c->o_bias)
        return pol_fail(ctx, POL_EUNSUPPORTED,
                        "%s: attention biases on only some of q, k, v and o; no stock Hugging Face class has that",
                        where);
    if (c->window > 0 && (c->qkv_bias || c->mlp_bias))
        return pol_fail(ctx, POL_EUNSUPPORTED,
                        "%s: biases beside a sliding window; no stock Hugging Face class has that", where);
    return POL_OK;
}

static json_t *rope_scaling(const pol_config *c)
{
    switch (c->rope_scaling) {
    case POL_ROPE_NONE: break;
    case POL_ROPE_LINEAR: return json_pack("{s:s,s:f}", "rope_type", "linear", "factor", (double)c->rope_factor);
    case POL_ROPE_LLAMA3:
        return json_pack("{s:s,s:f,s:f,s:f,s:i}", "rope_type", "llama3", "factor", (double)c->rope_factor,
                         "low_freq_factor", (double)c->rope_low_freq, "high_freq_factor", (double)c->rope_high_freq,
                         "original_max_position_embeddings", c->rope_original_positions);
    }
    return json_null();
}

pol_status pol_export_make_config(pol_context *ctx, const char *where, const pol_config *c, int32_t bos, int32_t eos,
                                  json_t **out)
{
    *out = NULL;
    POL_TRY(check_biases(ctx, where, c));
    const bool mistral = c->window > 0;
    /* clang-format off */
    json_t *j = json_pack("{s:[s],s:s,s:s,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:f,s:f,s:o,s:b}",
                          "architectures", mistral ? "MistralForCausalLM" : "LlamaForCausalLM",
                          "model_type", mistral ? "mistral" : "llama",
                          "hidden_act", "silu",
                          "hidden_size", c->hidden,
                          "intermediate_size", c->ffn,
                          "num_hidden_layers", c->n_layers,
                          "num_attention_heads", c->n_groups * c->heads_per_group,
                          "num_key_value_heads", c->n_groups,
                          "head_dim", c->head_dim,
                          "vocab_size", c->vocab,
                          "max_position_embeddings", c->max_positions,
                          "rms_norm_eps", (double)c->rms_eps,
                          "rope_theta", (double)c->rope_theta,
                          "rope_scaling", rope_scaling(c),
                          "tie_word_embeddings", c->tied);
    /* clang-format on */
    bool ok = j != NULL;
    if (mistral)
        ok = ok && set(j, "sliding_window", json_integer(c->window));
    else
        ok = ok && set(j, "attention_bias", json_boolean(c->qkv_bias)) && set(j, "mlp_bias", json_boolean(c->mlp_bias));
    if (bos >= 0)
        ok = ok && set(j, "bos_token_id", json_integer(bos));
    if (eos >= 0)
        ok = ok && set(j, "eos_token_id", json_integer(eos));
    if (!ok) {
        json_decref(j);
        return pol_fail(ctx, POL_ENOMEM, "%s: no memory for the configuration", where);
    }
    *out = j;
    return POL_OK;
}

static bool has_more_biases(const pol_config *in, const pol_config *out)
{
    return out->o_bias != in->o_bias || out->mlp_bias != in->mlp_bias;
}

pol_status pol_export_check_biases(pol_source *src, const pol_config *out)
{
    pol_context *ctx = pol_source_context(src);
    const pol_config *in = pol_source_config(src);
    const pol_family *f = pol_family_of_model_type(in->family, strlen(in->family));
    if (!has_more_biases(in, out))
        return POL_OK;
    if (!f || !f->biased)
        return pol_fail(ctx, POL_EUNSUPPORTED,
                        "%s: repaired output biases: no stock Hugging Face class of the family '%s' has biases",
                        pol_source_path(src), in->family);
    return check_biases(ctx, pol_source_path(src), out);
}

/* The switches of LlamaForCausalLM for biases that a repair has added. */
static bool set_biases(json_t *config, const pol_config *in, const pol_config *out)
{
    return !has_more_biases(in, out) || (set(config, "attention_bias", json_boolean(out->qkv_bias)) &&
                                         set(config, "mlp_bias", json_boolean(out->mlp_bias)));
}

pol_status pol_export_config(pol_source *src, const pol_config *out, pol_dtype written, int32_t bos, int32_t eos,
                             const char *dir)
{
    pol_context *ctx = pol_source_context(src);
    json_t *j;
    if (pol_source_is_gguf(src))
        POL_TRY(pol_export_make_config(ctx, pol_source_path(src), out, bos, eos, &j));
    else
        j = json_deep_copy(pol_source_config_json(src));
    char *path = pol_path_join(ctx, dir, "config.json");
    pol_status s = path ? POL_OK : POL_ENOMEM;
    if (s == POL_OK && (!j || !set_dtype(j, torch_name(written)) || !set_biases(j, pol_source_config(src), out)))
        s = pol_fail(ctx, POL_ENOMEM, "%s: no memory for the configuration", path);
    if (s == POL_OK)
        s = pol_json_write(ctx, path, j);
    pol_free(ctx, path);
    json_decref(j);
    return s;
}
