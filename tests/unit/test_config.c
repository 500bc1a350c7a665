/* test_config.c - config.json, pollard.json and GGUF metadata as configurations; and the counts made of them. */
#include <math.h>

#include "core/base/json.h"
#include "core/model/family.h"
#include "core/model/rope.h"
#include "tests/unit/model_files.h"

/* A LLaMA of a few numbers; `more` is put behind them. */
#define LLAMA(more)                                                                                  \
    "{\"model_type\":\"llama\",\"num_hidden_layers\":2,\"hidden_size\":8,\"num_attention_heads\":4," \
    "\"intermediate_size\":6,\"vocab_size\":10" more "}"

static pol_status read_json(pol_context *ctx, const char *text, pol_config *c)
{
    json_t *j;
    POL_TRY(pol_json_parse(ctx, "config.json", text, strlen(text), &j));
    const pol_status s = pol_config_from_json(ctx, "config.json", j, c);
    json_decref(j);
    return s;
}

static void test_llama_defaults(void **state)
{
    pol_config c;
    assert_ok(*state, read_json(*state, LLAMA(""), &c));
    assert_string_equal(c.family, "llama");
    assert_int_equal(c.n_layers, 2);
    assert_int_equal(c.n_groups, 4);
    assert_int_equal(c.heads_per_group, 1);
    assert_int_equal(c.head_dim, 2);
    assert_int_equal(c.max_positions, 2048);
    assert_int_equal(c.window, 0);
    assert_true(c.rms_eps == 1e-6f && c.rope_theta == 10000.0f && c.rope_scaling == POL_ROPE_NONE);
    assert_false(c.tied || c.qkv_bias || c.o_bias || c.mlp_bias);
    assert_int_equal(c.layers[1].n_groups, 4);
    assert_int_equal(c.layers[1].ffn, 6);
}

static void test_what_a_llama_may_say(void **state)
{
    pol_config c;
    assert_ok(*state,
              read_json(*state,
                        LLAMA(",\"num_key_value_heads\":2,\"head_dim\":6,\"rms_norm_eps\":1e-5,\"rope_theta\":500000.0,"
                              "\"tie_word_embeddings\":true,\"attention_bias\":true,\"mlp_bias\":true,"
                              "\"max_position_embeddings\":131072,\"hidden_act\":\"silu\",\"pretraining_tp\":2"),
                        &c));
    assert_int_equal(c.n_groups, 2);
    assert_int_equal(c.heads_per_group, 2);
    assert_int_equal(c.head_dim, 6);
    assert_int_equal(c.max_positions, 131072);
    assert_true(c.rms_eps == 1e-5f && c.rope_theta == 500000.0f);
    assert_true(c.tied && c.qkv_bias && c.o_bias && c.mlp_bias);
}

static void test_rope_scaling(void **state)
{
    static const char *const llama3[] = {
        LLAMA(
            ",\"rope_theta\":500000,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,"
            "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":8192}"),
        LLAMA(",\"rope_parameters\":{\"rope_theta\":500000,\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,"
              "\"high_freq_factor\":4,\"original_max_position_embeddings\":8192}"),
    };
    pol_config c;
    for (size_t i = 0; i < POL_COUNT(llama3); i++) {
        assert_ok(*state, read_json(*state, llama3[i], &c));
        assert_true(c.rope_scaling == POL_ROPE_LLAMA3 && c.rope_theta == 500000.0f && c.rope_factor == 8.0f);
        assert_true(c.rope_low_freq == 1.0f && c.rope_high_freq == 4.0f && c.rope_original_positions == 8192);
    }
    assert_ok(*state, read_json(*state, LLAMA(",\"rope_scaling\":{\"type\":\"linear\",\"factor\":4.0}"), &c));
    assert_true(c.rope_scaling == POL_ROPE_LINEAR && c.rope_factor == 4.0f && c.rope_theta == 10000.0f);
    assert_ok(*state, read_json(*state, LLAMA(",\"rope_scaling\":null"), &c));
    assert_ok(*state,
              read_json(*state, LLAMA(",\"rope_parameters\":{\"rope_theta\":7.5,\"rope_type\":\"default\"}"), &c));
    assert_true(c.rope_scaling == POL_ROPE_NONE && c.rope_theta == 7.5f);
    assert_fails(*state, read_json(*state, LLAMA(",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4.0}"), &c),
                 POL_EUNSUPPORTED, "config.json: rope_scaling: 'rope_type' is 'yarn'");
    assert_fails(*state, read_json(*state, LLAMA(",\"rope_scaling\":{\"type\":\"linear\"}"), &c), POL_EFORMAT,
                 "config.json: rope_scaling: 'factor' is missing");
    assert_fails(*state,
                 read_json(*state,
                           LLAMA(",\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,"
                                 "\"high_freq_factor\":4,\"original_max_position_embeddings\":8192}"),
                           &c),
                 POL_EFORMAT, "low_freq_factor 4 is not below high_freq_factor 4");
    assert_fails(*state, read_json(*state, LLAMA(",\"rope_scaling\":[]"), &c), POL_EFORMAT,
                 "'rope_scaling' is an array, not an object");
    assert_fails(*state, read_json(*state, LLAMA(",\"rope_theta\":0"), &c), POL_EFORMAT,
                 "the base of rotary embedding is 0");
}

#define MISTRAL(more)                                                                                    \
    "{\"model_type\":\"mistral\",\"num_hidden_layers\":1,\"hidden_size\":64,\"num_attention_heads\":16," \
    "\"intermediate_size\":6,\"vocab_size\":10" more "}"

static void test_mistral(void **state)
{
    pol_config c;
    assert_ok(*state, read_json(*state, MISTRAL(""), &c));
    assert_string_equal(c.family, "mistral");
    assert_int_equal(c.window, 4096);
    assert_int_equal(c.n_groups, 8);
    assert_ok(*state, read_json(*state, MISTRAL(",\"sliding_window\":null,\"num_key_value_heads\":null"), &c));
    assert_int_equal(c.window, 0);
    assert_int_equal(c.n_groups, 16);
    assert_ok(*state, read_json(*state, MISTRAL(",\"sliding_window\":3"), &c));
    assert_int_equal(c.window, 3);
    /* Only Mistral looks at the key. */
    assert_ok(*state, read_json(*state, LLAMA(",\"sliding_window\":3"), &c));
    assert_int_equal(c.window, 0);
}

#define SHAPE(layers, hidden, vocab)                                                                                   \
    "{\"model_type\":\"llama\",\"num_hidden_layers\":" layers ",\"hidden_size\":" hidden ",\"num_attention_heads\":4," \
    "\"intermediate_size\":6,\"vocab_size\":" vocab "}"

static void test_refused_by_name(void **state)
{
    static const struct {
        const char *text;
        pol_status code;
        const char *part;
    } cases[] = {
        {"{}", POL_EFORMAT, "config.json: 'model_type' is missing"},
        {"[]", POL_EFORMAT, "config.json: not a JSON object"},
        {"{\"model_type\":\"gpt2\"}", POL_EUNSUPPORTED, "config.json: 'model_type' is 'gpt2'"},
        {"{\"model_type\":\"llama\",\"model_type\":\"llama\"}", POL_EFORMAT, "duplicate object key"},
        {LLAMA(",\"hidden_act\":\"gelu\""), POL_EUNSUPPORTED, "'hidden_act' is 'gelu'"},
        {LLAMA(",\"partial_rotary_factor\":0.5"), POL_EUNSUPPORTED, "'partial_rotary_factor' is 0.5"},
        {LLAMA(",\"rope_parameters\":{\"partial_rotary_factor\":0.25}"), POL_EUNSUPPORTED,
         "'partial_rotary_factor' is 0.25"},
        {LLAMA(",\"quantization_config\":{\"quant_method\":\"gptq\"}"), POL_EUNSUPPORTED,
         "'quantization_config' is 'gptq'"},
        {LLAMA(",\"num_key_value_heads\":3"), POL_EFORMAT, "4 heads do not divide into 3 key/value heads"},
        {LLAMA(",\"num_key_value_heads\":8"), POL_EFORMAT, "the number of key/value heads is 8, outside 1..4"},
        {LLAMA(",\"head_dim\":3"), POL_EFORMAT, "head size 3 is odd"},
        {LLAMA(",\"head_dim\":0"), POL_EFORMAT, "'head_dim' is 0, outside 1.."},
        {LLAMA(",\"rms_norm_eps\":-1"), POL_EFORMAT, "'rms_norm_eps' is -1"},
        {LLAMA(",\"rms_norm_eps\":\"1e-5\""), POL_EFORMAT, "'rms_norm_eps' is a string, not a number"},
        {LLAMA(",\"tie_word_embeddings\":1"), POL_EFORMAT, "'tie_word_embeddings' is an integer, not true or false"},
        {SHAPE("1025", "8", "10"), POL_EFORMAT, "the number of layers is 1025, outside 1..1024"},
        {SHAPE("1", "10", "10"), POL_EFORMAT, "hidden size 10 does not divide into 4 heads"},
        {SHAPE("1", "1e3", "10"), POL_EFORMAT, "'hidden_size' is a number, not an integer"},
        {SHAPE("1", "8", "99999999999"), POL_EFORMAT, "'vocab_size' is 99999999999"},
    };
    for (size_t i = 0; i < POL_COUNT(cases); i++) {
        pol_config c;
        assert_fails(*state, read_json(*state, cases[i].text, &c), cases[i].code, cases[i].part);
    }
}

static pol_status read_pruned(pol_context *ctx, const char *text, pol_config *c)
{
    json_t *j;
    POL_TRY(read_json(ctx, LLAMA(",\"num_key_value_heads\":2"), c));
    POL_TRY(pol_json_parse(ctx, "pollard.json", text, strlen(text), &j));
    const pol_status s = pol_config_apply_pruned(ctx, "pollard.json", j, c);
    json_decref(j);
    return s;
}

#define PRUNED(layers) "{\"format\":\"pollard-hf\",\"version\":1,\"layers\":[" layers "]}"
#define FULL "{\"groups\":[0,1],\"channels\":[0,1,2,3,4,5]}"

static void test_pruned(void **state)
{
    pol_config c;
    assert_ok(*state,
              read_pruned(*state,
                          PRUNED("{\"groups\":[1],\"channels\":[0,5],\"more\":1},{\"groups\":[],\"channels\":[]}"),
                          &c));
    assert_int_equal(c.n_groups, 2);
    assert_int_equal(c.ffn, 6);
    assert_int_equal(c.layers[0].n_groups, 1);
    assert_int_equal(c.layers[0].ffn, 2);
    assert_int_equal(c.layers[1].n_groups, 0);
    assert_int_equal(c.layers[1].ffn, 0);
    static const struct {
        const char *text;
        pol_status code;
        const char *part;
    } cases[] = {
        {"{\"version\":1,\"layers\":[]}", POL_EFORMAT, "pollard.json: 'format' is missing"},
        {"{\"format\":\"x\",\"version\":1,\"layers\":[]}", POL_EUNSUPPORTED, "'format' is 'x'"},
        {"{\"format\":\"pollard-hf\",\"version\":2,\"layers\":[]}", POL_EUNSUPPORTED, "'version' is 2"},
        {PRUNED(FULL), POL_EFORMAT, "'layers' has 1 entries, the model has 2 layers"},
        {PRUNED(FULL ",7"), POL_EFORMAT, "layers[1]: not an object"},
        {PRUNED(FULL ",{\"channels\":[]}"), POL_EFORMAT, "layers[1]: 'groups' is missing"},
        {PRUNED(FULL ",{\"groups\":[0,2],\"channels\":[]}"), POL_EFORMAT,
         "layers[1]: 'groups': entry 1 is not a unit number"},
        {PRUNED(FULL ",{\"groups\":[1,0],\"channels\":[]}"), POL_EFORMAT,
         "layers[1]: 'groups': entry 1 is not a unit number"},
        {PRUNED(FULL ",{\"groups\":[1],\"channels\":[2,2]}"), POL_EFORMAT,
         "layers[1]: 'channels': entry 1 is not a unit number"},
        {PRUNED(FULL ",{\"groups\":[1],\"channels\":[-1]}"), POL_EFORMAT,
         "layers[1]: 'channels': entry 0 is not a unit number"},
        {PRUNED(FULL ",{\"groups\":[1],\"channels\":[\"1\"]}"), POL_EFORMAT,
         "layers[1]: 'channels': entry 0 is not a unit number"},
    };
    for (size_t i = 0; i < POL_COUNT(cases); i++)
        assert_fails(*state, read_pruned(*state, cases[i].text, &c), cases[i].code, cases[i].part);
}

/* C = 8, D = 2, g = 2, G = 2, F = 6, V = 10, two layers; worked out by hand. */
static void test_counts(void **state)
{
    pol_config c;
    assert_ok(*state, read_json(*state, LLAMA(",\"num_key_value_heads\":2"), &c));
    /* q 8x8, k and v 4x8, o 8x8; gate, up and down 6x8. */
    const int64_t block = 2 * (64 + 2 * 32 + 64 + 3 * 48);
    assert_int_equal(pol_config_block_params(&c), block);
    assert_int_equal(pol_config_total_params(&c), block + 2 * 80 + 8 + 2 * 2 * 8);
    assert_int_equal(pol_config_macs(&c), block + 80);
    c.tied = true;
    assert_int_equal(pol_config_total_params(&c), block + 80 + 8 + 2 * 2 * 8);
    assert_int_equal(pol_config_macs(&c), block + 80);
    /* One group and two channels of layer 0; layer 1 keeps its MLP only, so one norm less. */
    assert_ok(*state,
              read_pruned(*state,
                          PRUNED("{\"groups\":[1],\"channels\":[0,5]},{\"groups\":[],\"channels\":[0,1,2,3,4,5]}"),
                          &c));
    const int64_t left = 32 + 2 * 16 + 32 + 3 * 16 + 3 * 48;
    assert_int_equal(pol_config_block_params(&c), left);
    assert_int_equal(pol_config_total_params(&c), left + 2 * 80 + 8 + 3 * 8);
    /* Biases are parameters, but no products: q, k, v 8 + 4 + 4, o 8; gate, up 6 + 6, down 8. */
    assert_ok(*state,
              read_json(*state, LLAMA(",\"num_key_value_heads\":2,\"attention_bias\":true,\"mlp_bias\":true"), &c));
    assert_int_equal(pol_config_block_params(&c), block + 2 * (16 + 8 + 12 + 8));
    assert_int_equal(pol_config_macs(&c), block + 80);
}

/* ---- GGUF ---- */

static gguf_file llama_keys(pol_context *ctx)
{
    static const float embed[10 * 8];
    gguf_file f = gguf_begin(ctx);
    gguf_key_str(&f, "general.architecture", "llama");
    gguf_key_u32(&f, "llama.block_count", 2);
    gguf_key_u32(&f, "llama.embedding_length", 8);
    gguf_key_u32(&f, "llama.feed_forward_length", 6);
    gguf_key_u32(&f, "llama.attention.head_count", 4);
    gguf_key_f32(&f, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gguf_tensor_f32(&f, "token_embd.weight", 10, 8, embed);
    return f;
}

static pol_status read_gguf(pol_context *ctx, gguf_file *f, pol_config *c)
{
    pol_bytes b = gguf_end(f);
    pol_gguf *g;
    pol_status s = pol_gguf_parse(ctx, "m.gguf", b.data, b.len, &g);
    if (s == POL_OK)
        s = pol_config_from_gguf(ctx, g, c);
    pol_gguf_close(g);
    pol_bytes_free(&b);
    return s;
}

static void test_gguf(void **state)
{
    pol_config c;
    gguf_file f = llama_keys(*state);
    assert_ok(*state, read_gguf(*state, &f, &c));
    assert_string_equal(c.family, "llama");
    assert_int_equal(c.n_groups, 4);
    assert_int_equal(c.head_dim, 2);
    assert_int_equal(c.vocab, 10);
    assert_true(c.tied && c.rms_eps == 1e-5f && c.rope_theta == 10000.0f && c.rope_scaling == POL_ROPE_NONE);

    f = llama_keys(*state);
    gguf_key_u32(&f, "llama.attention.head_count_kv", 2);
    gguf_key_u32(&f, "llama.attention.key_length", 6);
    gguf_key_u32(&f, "llama.attention.value_length", 6);
    gguf_key_u32(&f, "llama.rope.dimension_count", 6);
    gguf_key_u32(&f, "llama.context_length", 77);
    gguf_key_u32(&f, "llama.attention.sliding_window", 5);
    gguf_key_f32(&f, "llama.rope.freq_base", 1e6f);
    gguf_key_str(&f, "llama.rope.scaling.type", "linear");
    gguf_key_f32(&f, "llama.rope.scaling.factor", 4);
    gguf_tensor_f32(&f, "output.weight", 0, 1, &(float){0});
    gguf_tensor_f32(&f, "blk.0.attn_q.bias", 0, 1, &(float){0});
    assert_ok(*state, read_gguf(*state, &f, &c));
    assert_int_equal(c.n_groups, 2);
    assert_int_equal(c.head_dim, 6);
    assert_int_equal(c.max_positions, 77);
    assert_int_equal(c.window, 5);
    assert_true(c.rope_theta == 1e6f && c.rope_scaling == POL_ROPE_LINEAR && c.rope_factor == 4.0f);
    assert_true(!c.tied && c.qkv_bias && !c.o_bias && !c.mlp_bias);
}

static void test_gguf_refused_by_name(void **state)
{
    pol_context *ctx = *state;
    pol_config c;
    gguf_file f = gguf_begin(ctx);
    assert_fails(ctx, read_gguf(ctx, &f, &c), POL_EFORMAT, "m.gguf: key 'general.architecture' is missing");
    f = gguf_begin(ctx);
    gguf_key_str(&f, "general.architecture", "gemma");
    assert_fails(ctx, read_gguf(ctx, &f, &c), POL_EUNSUPPORTED, "'general.architecture' is 'gemma'");
    f = gguf_begin(ctx);
    gguf_key_str(&f, "general.architecture", "llama");
    assert_fails(ctx, read_gguf(ctx, &f, &c), POL_EFORMAT, "key 'llama.block_count' is missing");
    static const struct {
        const char *key;
        uint32_t value;
        pol_status code;
        const char *part;
    } cases[] = {
        {"llama.expert_count", 8, POL_EUNSUPPORTED, "key 'llama.expert_count' is 8, only 0 is handled"},
        {"split.count", 3, POL_EUNSUPPORTED, "key 'split.count' is 3: a part of a split model"},
        {"llama.rope.dimension_count", 1, POL_EUNSUPPORTED,
         "key 'llama.rope.dimension_count' is 1, only the head size 2"},
        {"llama.attention.value_length", 4, POL_EUNSUPPORTED, "key 'llama.attention.value_length' is 4"},
        {"llama.attention.head_count_kv", 3, POL_EFORMAT, "4 heads do not divide into 3"},
        {"llama.vocab_size", 0, POL_EFORMAT, "the vocabulary size is 0"},
    };
    for (size_t i = 0; i < POL_COUNT(cases); i++) {
        f = llama_keys(ctx);
        gguf_key_u32(&f, cases[i].key, cases[i].value);
        assert_fails(ctx, read_gguf(ctx, &f, &c), cases[i].code, cases[i].part);
    }
    f = llama_keys(ctx);
    gguf_key_str(&f, "llama.rope.scaling.type", "yarn");
    assert_fails(ctx, read_gguf(ctx, &f, &c), POL_EUNSUPPORTED, "key 'llama.rope.scaling.type' is 'yarn'");
    f = llama_keys(ctx);
    gguf_key_f32(&f, "llama.rope.freq_base", NAN);
    assert_fails(ctx, read_gguf(ctx, &f, &c), POL_EFORMAT, "m.gguf: the base of rotary embedding is nan");
    f = llama_keys(ctx);
    gguf_key_str(&f, "llama.attention.head_count_kv", "2");
    assert_fails(ctx, read_gguf(ctx, &f, &c), POL_EFORMAT, "key 'llama.attention.head_count_kv' is no integer");
    f = llama_keys(ctx);
    gguf_key(&f, "llama.attention.head_count_kv", 9, "\4\0\0\0\1\0\0\0\0\0\0\0\2\0\0\0", 16);
    assert_fails(ctx, read_gguf(ctx, &f, &c), POL_EUNSUPPORTED, "key 'llama.attention.head_count_kv' is an array");
}

/* The divisors that converters write for Llama 3.1 are recognised; anything else is refused. */
static void test_gguf_llama3_rope(void **state)
{
    pol_context *ctx = *state;
    enum { HALF = 64 };
    static pol_config plain, c;
    float base[HALF], scaled[HALF], divisor[HALF];
    plain = (pol_config){.head_dim = 2 * HALF, .rope_theta = 500000};
    pol_rope_frequencies(&plain, base);
    plain.rope_scaling = POL_ROPE_LLAMA3;
    plain.rope_factor = 32;
    plain.rope_low_freq = 1;
    plain.rope_high_freq = 4;
    plain.rope_original_positions = 8192;
    pol_rope_frequencies(&plain, scaled);
    for (int i = 0; i < HALF; i++)
        divisor[i] = base[i] / scaled[i];
    assert_true(divisor[0] == 1 && divisor[HALF - 1] == 32);
    for (int turn = 0; turn < 3; turn++) {
        gguf_file f = llama_keys(ctx);
        gguf_key_u32(&f, "llama.attention.key_length", 2 * HALF);
        gguf_key_u32(&f, "llama.attention.value_length", 2 * HALF);
        gguf_key_f32(&f, "llama.rope.freq_base", 500000);
        if (turn == 1)
            divisor[40] *= 1.01f;
        gguf_tensor_f32(&f, "rope_freqs.weight", 0, turn == 2 ? HALF - 1 : HALF, divisor);
        if (turn == 0) {
            assert_ok(ctx, read_gguf(ctx, &f, &c));
            assert_true(c.rope_scaling == POL_ROPE_LLAMA3 && c.rope_factor == 32 && c.rope_low_freq == 1 &&
                        c.rope_high_freq == 4);
            assert_int_equal(c.rope_original_positions, 8192);
        } else if (turn == 1) {
            assert_fails(ctx, read_gguf(ctx, &f, &c), POL_EUNSUPPORTED, "tensor 'rope_freqs.weight': value 40 is");
        } else {
            assert_fails(ctx, read_gguf(ctx, &f, &c), POL_EFORMAT, "tensor 'rope_freqs.weight' is not 64 values");
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_llama_defaults, test_context_open, test_context_close),
        cmocka_unit_test_setup_teardown(test_what_a_llama_may_say, test_context_open, test_context_close),
        cmocka_unit_test_setup_teardown(test_rope_scaling, test_context_open, test_context_close),
        cmocka_unit_test_setup_teardown(test_mistral, test_context_open, test_context_close),
        cmocka_unit_test_setup_teardown(test_refused_by_name, test_context_open, test_context_close),
        cmocka_unit_test_setup_teardown(test_pruned, test_context_open, test_context_close),
        cmocka_unit_test_setup_teardown(test_counts, test_context_open, test_context_close),
        cmocka_unit_test_setup_teardown(test_gguf, test_context_open, test_context_close),
        cmocka_unit_test_setup_teardown(test_gguf_refused_by_name, test_context_open, test_context_close),
        cmocka_unit_test_setup_teardown(test_gguf_llama3_rope, test_context_open, test_context_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
