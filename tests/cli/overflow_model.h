/* overflow_model.h - a model that is sound as a whole and overflows under some masks.
 *
 * Place 0 of the residual stream is 0 but for two channels of layer 0, of which one adds a constant and the other takes
 * it away. A channel of layer 1 multiplies place 0 by 1e20 twice. So a mask that keeps the channel that adds, and the
 * one that multiplies, but not the one that takes away, makes an activation infinite and the loss NaN. Where the model
 * is not `sound`, nothing takes away.
 */
#ifndef POL_TEST_OVERFLOW_MODEL_H
#define POL_TEST_OVERFLOW_MODEL_H

#include "program.h"
#include "tests/unit/model_files.h"

enum { OV_V = 400, OV_C = 16, OV_F = 8, OV_LAYERS = 2 };

/* Small numbers that differ, with 0 in the first column (`what` 'c') or row ('r'); a norm's gains ('n'). */
static inline void ov_tensor(safetensors_writer *w, const char *name, int64_t rows, int64_t cols, char what)
{
    static float x[OV_V * OV_C];
    static uint32_t r = 1;
    for (int64_t i = 0; i < (rows ? rows : 1) * cols; i++) {
        r = r * 1664525u + 1013904223u;
        x[i] = 0.3f * ((float)(r >> 8) / 0x1p23f - 1);
        if (what == 'n')
            x[i] = 1;
        else if (what == 'c' ? i % cols == 0 : i < cols)
            x[i] = 0;
    }
    safetensors_f32(w, name, rows, cols, x);
}

static inline void ov_mlp(safetensors_writer *w, int layer, bool sound)
{
    float gate[OV_F][OV_C] = {{0}}, down[OV_C][OV_F] = {{0}}, bias[OV_F] = {0}, none[OV_C] = {0};
    for (int f = 0; f < OV_F; f++) {
        gate[f][1 + f] = 0.3f;
        down[1 + f][f] = 0.3f;
    }
    if (layer == 0) {
        for (int f = 0; f < 2; f++) {
            gate[f][1 + f] = down[1 + f][f] = 0;
            bias[f] = 1; /* silu(1) * 1 whatever comes in */
        }
        down[0][0] = 4;
        down[0][1] = sound ? -4 : 0;
    } else {
        gate[0][0] = 1e20f;
    }
    const struct {
        const char *name;
        int64_t rows, cols;
        const float *x;
    } tensors[] = {{"gate_proj.weight", OV_F, OV_C, gate[0]}, {"gate_proj.bias", 0, OV_F, bias},
                   {"up_proj.weight", OV_F, OV_C, gate[0]},   {"up_proj.bias", 0, OV_F, bias},
                   {"down_proj.weight", OV_C, OV_F, down[0]}, {"down_proj.bias", 0, OV_C, none}};
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) {
        char name[128];
        snprintf(name, sizeof name, "model.layers.%d.mlp.%s", layer, tensors[i].name);
        safetensors_f32(w, name, tensors[i].rows, tensors[i].cols, tensors[i].x);
    }
}

static inline void overflow_model(cli *t, const char *folder, bool sound)
{
    static const char *const square[] = {"q_proj", "k_proj", "v_proj", "o_proj"};
    char name[128];
    copy_model(t, folder); /* for its tokenizer */
    safetensors_writer w = safetensors_begin(t->ctx);
    ov_tensor(&w, "model.embed_tokens.weight", OV_V, OV_C, 'c');
    ov_tensor(&w, "model.norm.weight", 0, OV_C, 'n');
    for (int l = 0; l < OV_LAYERS; l++) {
        for (int i = 0; i < 4; i++) {
            snprintf(name, sizeof name, "model.layers.%d.self_attn.%s.weight", l, square[i]);
            ov_tensor(&w, name, OV_C, OV_C, 'r');
        }
        snprintf(name, sizeof name, "model.layers.%d.input_layernorm.weight", l);
        ov_tensor(&w, name, 0, OV_C, 'n');
        snprintf(name, sizeof name, "model.layers.%d.post_attention_layernorm.weight", l);
        ov_tensor(&w, name, 0, OV_C, 'n');
        ov_mlp(&w, l, sound);
    }
    pol_bytes file = safetensors_end(&w);
    snprintf(name, sizeof name, "%s/model.safetensors", folder);
    spill(t, name, file.data, file.len);
    pol_bytes_free(&file);
    snprintf(name, sizeof name, "%s/config.json", folder);
    spill_text(t, name,
               "{\"model_type\": \"llama\", \"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 16, "
               "\"intermediate_size\": 8, \"num_hidden_layers\": 2, \"num_attention_heads\": 2, "
               "\"num_key_value_heads\": 2, \"head_dim\": 8, \"vocab_size\": 400, \"rms_norm_eps\": 1e-5, "
               "\"max_position_embeddings\": 256, \"mlp_bias\": true, \"tie_word_embeddings\": true, "
               "\"hidden_act\": \"silu\", \"bos_token_id\": 0, \"eos_token_id\": 1}");
}

#endif
