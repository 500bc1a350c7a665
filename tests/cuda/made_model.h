/* made_model.h - models that no file in tests/data has the sizes of: random weights in a temporary folder. */
#ifndef POL_TEST_CUDA_MADE_MODEL_H
#define POL_TEST_CUDA_MADE_MODEL_H

#include "core/base/file.h"
#include "core/base/rng.h"
#include "tests/unit/model_files.h"

typedef struct made_sizes {
    int layers, hidden, groups, heads_per_group, head_dim, ffn, vocab;
} made_sizes;

typedef struct made_writer {
    safetensors_writer file;
    uint64_t n; /* tensors so far */
} made_writer;

/* Weights that keep activations near 1; a vector is a gain. */
static inline void made_tensor(made_writer *w, const char *name, int64_t rows, int64_t cols)
{
    const int64_t n = (rows ? rows : 1) * cols;
    float *x = malloc((size_t)n * sizeof *x);
    pol_normal(5, POL_STREAM_TEST, w->n++, 0, n, x);
    for (int64_t i = 0; i < n; i++)
        x[i] = rows ? x[i] / sqrtf((float)cols) : 1 + x[i] / 8;
    safetensors_f32(&w->file, name, rows, cols, x);
    free(x);
}

static inline void made_layer(made_writer *w, const made_sizes *z, int layer)
{
    const int kv = z->groups * z->head_dim, q = kv * z->heads_per_group;
    const struct {
        const char *name;
        int rows, cols;
    } tensors[] = {{"input_layernorm", 0, z->hidden},    {"post_attention_layernorm", 0, z->hidden},
                   {"self_attn.q_proj", q, z->hidden},   {"self_attn.k_proj", kv, z->hidden},
                   {"self_attn.v_proj", kv, z->hidden},  {"self_attn.o_proj", z->hidden, q},
                   {"mlp.gate_proj", z->ffn, z->hidden}, {"mlp.up_proj", z->ffn, z->hidden},
                   {"mlp.down_proj", z->hidden, z->ffn}};
    for (size_t i = 0; i < POL_COUNT(tensors); i++) {
        char name[80];
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, tensors[i].name);
        made_tensor(w, name, tensors[i].rows, tensors[i].cols);
    }
}

/* Writes the model to a new folder, whose name is put into `dir`, a template for mkdtemp(). */
static inline void make_model(pol_context *ctx, const made_sizes *z, char *dir)
{
    char path[256], config[512];
    made_writer w = {.file = safetensors_begin(ctx)};
    assert_non_null(mkdtemp(dir));
    snprintf(config, sizeof config,
             "{\"model_type\": \"llama\", \"num_hidden_layers\": %d, \"hidden_size\": %d, \"num_attention_heads\": %d, "
             "\"num_key_value_heads\": %d, \"head_dim\": %d, \"intermediate_size\": %d, \"vocab_size\": %d, "
             "\"tie_word_embeddings\": true, \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000, "
             "\"max_position_embeddings\": 512, \"hidden_act\": \"silu\"}",
             z->layers, z->hidden, z->groups * z->heads_per_group, z->groups, z->head_dim, z->ffn, z->vocab);
    made_tensor(&w, "model.embed_tokens.weight", z->vocab, z->hidden);
    made_tensor(&w, "model.norm.weight", 0, z->hidden);
    for (int l = 0; l < z->layers; l++)
        made_layer(&w, z, l);
    pol_bytes file = safetensors_end(&w.file);
    snprintf(path, sizeof path, "%s/config.json", dir);
    assert_ok(ctx, pol_file_write(ctx, path, config, strlen(config)));
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    assert_ok(ctx, pol_file_write(ctx, path, file.data, file.len));
    pol_bytes_free(&file);
}

#endif
