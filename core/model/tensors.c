/* tensors.c - the tensors of a decoder: names and shapes, one table. */
#include "core/model/tensors.h"

#include <stdio.h>

/* Sizes that shapes are made of. */
typedef enum extent {
    ONE,
    VOCAB,
    HIDDEN,
    QUERY, /* rows of all query heads that the layer still has */
    KEY,   /* rows of its key or value groups */
    CHANNELS
} extent;

static const struct {
    const char *hf, *gguf; /* without the layer's prefix */
    bool global;
    extent rows, cols;
} tensors[POL_T_KINDS] = {
    [POL_T_EMBED] = {"model.embed_tokens.weight", "token_embd.weight", true, VOCAB, HIDDEN},
    [POL_T_OUTPUT] = {"lm_head.weight", "output.weight", true, VOCAB, HIDDEN},
    [POL_T_OUTPUT_NORM] = {"model.norm.weight", "output_norm.weight", true, ONE, HIDDEN},
    [POL_T_ATTN_NORM] = {"input_layernorm.weight", "attn_norm.weight", false, ONE, HIDDEN},
    [POL_T_Q] = {"self_attn.q_proj.weight", "attn_q.weight", false, QUERY, HIDDEN},
    [POL_T_K] = {"self_attn.k_proj.weight", "attn_k.weight", false, KEY, HIDDEN},
    [POL_T_V] = {"self_attn.v_proj.weight", "attn_v.weight", false, KEY, HIDDEN},
    [POL_T_O] = {"self_attn.o_proj.weight", "attn_output.weight", false, HIDDEN, QUERY},
    [POL_T_MLP_NORM] = {"post_attention_layernorm.weight", "ffn_norm.weight", false, ONE, HIDDEN},
    [POL_T_GATE] = {"mlp.gate_proj.weight", "ffn_gate.weight", false, CHANNELS, HIDDEN},
    [POL_T_UP] = {"mlp.up_proj.weight", "ffn_up.weight", false, CHANNELS, HIDDEN},
    [POL_T_DOWN] = {"mlp.down_proj.weight", "ffn_down.weight", false, HIDDEN, CHANNELS},
    [POL_T_Q_BIAS] = {"self_attn.q_proj.bias", "attn_q.bias", false, ONE, QUERY},
    [POL_T_K_BIAS] = {"self_attn.k_proj.bias", "attn_k.bias", false, ONE, KEY},
    [POL_T_V_BIAS] = {"self_attn.v_proj.bias", "attn_v.bias", false, ONE, KEY},
    [POL_T_O_BIAS] = {"self_attn.o_proj.bias", "attn_output.bias", false, ONE, HIDDEN},
    [POL_T_GATE_BIAS] = {"mlp.gate_proj.bias", "ffn_gate.bias", false, ONE, CHANNELS},
    [POL_T_UP_BIAS] = {"mlp.up_proj.bias", "ffn_up.bias", false, ONE, CHANNELS},
    [POL_T_DOWN_BIAS] = {"mlp.down_proj.bias", "ffn_down.bias", false, ONE, HIDDEN},
};

static int64_t extent_of(const pol_config *c, extent e, int32_t layer)
{
    switch (e) {
    case ONE: return 1;
    case VOCAB: return c->vocab;
    case HIDDEN: return c->hidden;
    case QUERY: return (int64_t)c->layers[layer].n_groups * c->heads_per_group * c->head_dim;
    case KEY: return (int64_t)c->layers[layer].n_groups * c->head_dim;
    case CHANNELS: return c->layers[layer].ffn;
    }
    return 0;
}

/* A block with nothing left has no tensors at all, neither norm nor bias. */
static bool exists(const pol_config *c, pol_tensor_kind kind, int32_t layer)
{
    const pol_layer_shape *l = &c->layers[layer];
    switch (kind) {
    case POL_T_OUTPUT: return !c->tied;
    case POL_T_ATTN_NORM:
    case POL_T_Q:
    case POL_T_K:
    case POL_T_V:
    case POL_T_O: return l->n_groups > 0;
    case POL_T_MLP_NORM:
    case POL_T_GATE:
    case POL_T_UP:
    case POL_T_DOWN: return l->ffn > 0;
    case POL_T_Q_BIAS:
    case POL_T_K_BIAS:
    case POL_T_V_BIAS: return l->n_groups > 0 && c->qkv_bias;
    case POL_T_O_BIAS: return l->n_groups > 0 && c->o_bias;
    case POL_T_GATE_BIAS:
    case POL_T_UP_BIAS:
    case POL_T_DOWN_BIAS: return l->ffn > 0 && c->mlp_bias;
    default: return true;
    }
}

void pol_tensor_shape(const pol_config *c, pol_tensor_kind kind, int32_t layer, int64_t *rows, int64_t *cols)
{
    const bool there = exists(c, kind, layer);
    *rows = there ? extent_of(c, tensors[kind].rows, layer) : 0;
    *cols = there ? extent_of(c, tensors[kind].cols, layer) : 0;
}

bool pol_tensor_is_global(pol_tensor_kind kind) { return tensors[kind].global; }
bool pol_tensor_is_vector(pol_tensor_kind kind) { return tensors[kind].rows == ONE; }

bool pol_tensor_is_norm(pol_tensor_kind kind)
{
    return kind == POL_T_ATTN_NORM || kind == POL_T_MLP_NORM || kind == POL_T_OUTPUT_NORM;
}

void pol_tensor_name(pol_tensor_kind kind, int32_t layer, char *dst, size_t n)
{
    if (tensors[kind].global)
        snprintf(dst, n, "%s", tensors[kind].hf);
    else
        snprintf(dst, n, "model.layers.%d.%s", (int)layer, tensors[kind].hf);
}

void pol_tensor_gguf_name(pol_tensor_kind kind, int32_t layer, char *dst, size_t n)
{
    if (tensors[kind].global)
        snprintf(dst, n, "%s", tensors[kind].gguf);
    else
        snprintf(dst, n, "blk.%d.%s", (int)layer, tensors[kind].gguf);
}
