/* test_config_published.c - config.json as published models have it, field for field, and its neighbours that are
 * refused. */
#include "core/base/json.h"
#include "core/model/family.h"
#include "tests/test.h"

static pol_status read_json(pol_context *ctx, const char *text, pol_config *c)
{
    char copy[4096];
    json_t *j;
    snprintf(copy, sizeof copy, "%s", text);
    for (char *p = copy; *p; p++) /* ' stands for " */
        if (*p == '\'')
            *p = '"';
    POL_TRY(pol_json_parse(ctx, "config.json", copy, strlen(copy), &j));
    const pol_status s = pol_config_from_json(ctx, "config.json", j, c);
    json_decref(j);
    return s;
}

static const struct {
    const char *text, *family;
    int32_t layers, hidden, groups, per_group, head_dim, ffn, vocab, positions, window;
    float eps, theta;
    pol_rope_scaling scaling;
    float factor;
    bool tied;
} published[] = {
    /* Llama-2-7b */
    {"{'_name_or_path':'x','architectures':['LlamaForCausalLM'],'bos_token_id':1,'eos_token_id':2,'hidden_act':'silu',"
     "'hidden_size':4096,'initializer_range':0.02,'intermediate_size':11008,'max_position_embeddings':4096,'model_type':'llama',"
     "'num_attention_heads':32,'num_hidden_layers':32,'num_key_value_heads':32,'pretraining_tp':1,'rms_norm_eps':1e-05,"
     "'rope_scaling':null,'tie_word_embeddings':false,'torch_dtype':'float16','transformers_version':'4.31.0.dev0',"
     "'use_cache':true,'vocab_size':32000}",
     "llama", 32, 4096, 32, 1, 128, 11008, 32000, 4096, 0, 1e-5f, 10000, POL_ROPE_NONE, 0, false},
    /* LLaMA-7b of the first conversions: the length under its old name, no key/value heads */
    {"{'architectures':['LLaMAForCausalLM'],'bos_token_id':0,'eos_token_id':1,'hidden_act':'silu','hidden_size':4096,"
     "'intermediate_size':11008,'initializer_range':0.02,'max_sequence_length':2048,'model_type':'llama','num_attention_heads':32,"
     "'num_hidden_layers':32,'pad_token_id':-1,'rms_norm_eps':1e-06,'torch_dtype':'float16','use_cache':true,'vocab_size':32000}",
     "llama", 32, 4096, 32, 1, 128, 11008, 32000, 2048, 0, 1e-6f, 10000, POL_ROPE_NONE, 0, false},
    /* Llama-3.1-8B */
    {"{'architectures':['LlamaForCausalLM'],'attention_bias':false,'attention_dropout':0.0,'bos_token_id':128000,"
     "'eos_token_id':[128001,128008,128009],'hidden_act':'silu','hidden_size':4096,'intermediate_size':14336,"
     "'max_position_embeddings':131072,'mlp_bias':false,'model_type':'llama','num_attention_heads':32,'num_hidden_layers':32,"
     "'num_key_value_heads':8,'pretraining_tp':1,'rms_norm_eps':1e-05,'rope_scaling':{'factor':8.0,'low_freq_factor':1.0,"
     "'high_freq_factor':4.0,'original_max_position_embeddings':8192,'rope_type':'llama3'},'rope_theta':500000.0,"
     "'tie_word_embeddings':false,'torch_dtype':'bfloat16','use_cache':true,'vocab_size':128256}",
     "llama", 32, 4096, 8, 4, 128, 14336, 128256, 131072, 0, 1e-5f, 500000, POL_ROPE_LLAMA3, 8, false},
    /* Llama-3.2-1B */
    {"{'architectures':['LlamaForCausalLM'],'attention_bias':false,'bos_token_id':128000,'eos_token_id':128001,'head_dim':64,"
     "'hidden_act':'silu','hidden_size':2048,'intermediate_size':8192,'max_position_embeddings':131072,'mlp_bias':false,"
     "'model_type':'llama','num_attention_heads':32,'num_hidden_layers':16,'num_key_value_heads':8,'rms_norm_eps':1e-05,"
     "'rope_scaling':{'factor':32.0,'high_freq_factor':4.0,'low_freq_factor':1.0,'original_max_position_embeddings':8192,"
     "'rope_type':'llama3'},'rope_theta':500000.0,'tie_word_embeddings':true,'torch_dtype':'bfloat16','vocab_size':128256}",
     "llama", 16, 2048, 8, 4, 64, 8192, 128256, 131072, 0, 1e-5f, 500000, POL_ROPE_LLAMA3, 32, true},
    /* vicuna-7b-v1.5-16k */
    {"{'architectures':['LlamaForCausalLM'],'bos_token_id':1,'eos_token_id':2,'hidden_act':'silu','hidden_size':4096,"
     "'intermediate_size':11008,'max_position_embeddings':4096,'model_type':'llama','num_attention_heads':32,"
     "'num_hidden_layers':32,'num_key_value_heads':32,'pad_token_id':0,'pretraining_tp':1,'rms_norm_eps':1e-05,"
     "'rope_scaling':{'factor':4.0,'type':'linear'},'tie_word_embeddings':false,'vocab_size':32000}",
     "llama", 32, 4096, 32, 1, 128, 11008, 32000, 4096, 0, 1e-5f, 10000, POL_ROPE_LINEAR, 4, false},
    /* Mistral-7B-v0.1 */
    {"{'architectures':['MistralForCausalLM'],'bos_token_id':1,'eos_token_id':2,'hidden_act':'silu','hidden_size':4096,"
     "'intermediate_size':14336,'max_position_embeddings':32768,'model_type':'mistral','num_attention_heads':32,"
     "'num_hidden_layers':32,'num_key_value_heads':8,'rms_norm_eps':1e-05,'rope_theta':10000.0,'sliding_window':4096,"
     "'tie_word_embeddings':false,'vocab_size':32000}",
     "mistral", 32, 4096, 8, 4, 128, 14336, 32000, 32768, 4096, 1e-5f, 10000, POL_ROPE_NONE, 0, false},
    /* Mistral-7B-v0.3 */
    {"{'architectures':['MistralForCausalLM'],'attention_dropout':0.0,'hidden_act':'silu','hidden_size':4096,'head_dim':null,"
     "'intermediate_size':14336,'max_position_embeddings':32768,'model_type':'mistral','num_attention_heads':32,"
     "'num_hidden_layers':32,'num_key_value_heads':8,'rms_norm_eps':1e-05,'rope_theta':1000000.0,'sliding_window':null,"
     "'tie_word_embeddings':false,'vocab_size':32768}",
     "mistral", 32, 4096, 8, 4, 128, 14336, 32768, 32768, 0, 1e-5f, 1000000, POL_ROPE_NONE, 0, false},
    /* TinyLlama-1.1B */
    {"{'architectures':['LlamaForCausalLM'],'attention_bias':false,'bos_token_id':1,'eos_token_id':2,'hidden_act':'silu',"
     "'hidden_size':2048,'intermediate_size':5632,'max_position_embeddings':2048,'model_type':'llama','num_attention_heads':32,"
     "'num_hidden_layers':22,'num_key_value_heads':4,'pretraining_tp':1,'rms_norm_eps':1e-05,'rope_scaling':null,"
     "'rope_theta':10000.0,'tie_word_embeddings':false,'vocab_size':32000}",
     "llama", 22, 2048, 4, 8, 64, 5632, 32000, 2048, 0, 1e-5f, 10000, POL_ROPE_NONE, 0, false},
    /* SmolLM2-135M */
    {"{'architectures':['LlamaForCausalLM'],'attention_bias':false,'bos_token_id':0,'eos_token_id':0,'hidden_act':'silu',"
     "'hidden_size':576,'intermediate_size':1536,'is_llama_config':true,'max_position_embeddings':8192,'model_type':'llama',"
     "'num_attention_heads':9,'num_hidden_layers':30,'num_key_value_heads':3,'pretraining_tp':1,'rms_norm_eps':1e-05,"
     "'rope_interleaved':false,'rope_scaling':null,'rope_theta':100000,'tie_word_embeddings':true,'vocab_size':49152}",
     "llama", 30, 576, 3, 3, 64, 1536, 49152, 8192, 0, 1e-5f, 100000, POL_ROPE_NONE, 0, true},
    /* Yi-6B */
    {"{'architectures':['LlamaForCausalLM'],'attention_bias':false,'bos_token_id':1,'eos_token_id':2,'hidden_act':'silu',"
     "'hidden_size':4096,'intermediate_size':11008,'max_position_embeddings':4096,'model_type':'llama','num_attention_heads':32,"
     "'num_hidden_layers':32,'num_key_value_heads':4,'pad_token_id':0,'pretraining_tp':1,'rms_norm_eps':1e-05,"
     "'rope_scaling':null,'rope_theta':5000000.0,'tie_word_embeddings':false,'vocab_size':64000}",
     "llama", 32, 4096, 4, 8, 128, 11008, 64000, 4096, 0, 1e-5f, 5000000, POL_ROPE_NONE, 0, false},
    /* As transformers 5 writes them */
    {"{'architectures':['MistralForCausalLM'],'dtype':'bfloat16','head_dim':64,'hidden_act':'silu','hidden_size':256,"
     "'intermediate_size':512,'layer_types':['sliding_attention','sliding_attention'],'max_position_embeddings':1024,"
     "'model_type':'mistral','num_attention_heads':4,'num_hidden_layers':2,'num_key_value_heads':2,'rms_norm_eps':1e-06,"
     "'rope_parameters':{'rope_theta':10000.0,'rope_type':'default'},'sliding_window':512,'tie_word_embeddings':false,"
     "'vocab_size':320}",
     "mistral", 2, 256, 2, 2, 64, 512, 320, 1024, 512, 1e-6f, 10000, POL_ROPE_NONE, 0, false},
};

static void test_accepted(void **state)
{
    for (size_t i = 0; i < POL_COUNT(published); i++) {
        pol_config c;
        assert_ok(*state, read_json(*state, published[i].text, &c));
        assert_string_equal(c.family, published[i].family);
        assert_int_equal(c.n_layers, published[i].layers);
        assert_int_equal(c.hidden, published[i].hidden);
        assert_int_equal(c.n_groups, published[i].groups);
        assert_int_equal(c.heads_per_group, published[i].per_group);
        assert_int_equal(c.head_dim, published[i].head_dim);
        assert_int_equal(c.ffn, published[i].ffn);
        assert_int_equal(c.vocab, published[i].vocab);
        assert_int_equal(c.max_positions, published[i].positions);
        assert_int_equal(c.window, published[i].window);
        assert_true(c.rms_eps == published[i].eps && c.rope_theta == published[i].theta);
        assert_int_equal(c.rope_scaling, published[i].scaling);
        assert_true(c.rope_factor == published[i].factor);
        assert_int_equal(c.tied, published[i].tied);
        assert_false(c.qkv_bias || c.o_bias || c.mlp_bias);
    }
}

#define SIZES                                                                                                    \
    "'hidden_act':'silu','hidden_size':64,'intermediate_size':96,'num_attention_heads':4,'num_hidden_layers':2," \
    "'num_key_value_heads':2,'rms_norm_eps':1e-05,'vocab_size':320"
#define LLAMA(more) "{'model_type':'llama'," SIZES "," more "}"

static void test_refused_by_name(void **state)
{
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"{'model_type':'qwen2'," SIZES ",'use_sliding_window':false}", "'model_type' is 'qwen2'"},
        {"{'model_type':'mixtral'," SIZES ",'num_local_experts':8}", "'model_type' is 'mixtral'"},
        {"{'model_type':'gemma'," SIZES ",'head_dim':256}", "'model_type' is 'gemma'"},
        {"{'model_type':'phi3'," SIZES "}", "'model_type' is 'phi3'"},
        {"{'model_type':'granite'," SIZES ",'residual_multiplier':0.22}", "'model_type' is 'granite'"},
        {LLAMA("'quantization_config':{'bits':4,'group_size':128,'quant_method':'gptq'}"),
         "'quantization_config' is 'gptq'"},
        {LLAMA("'quantization_config':{'bits':4,'quant_method':'awq','version':'gemm'}"),
         "'quantization_config' is 'awq'"},
        {LLAMA("'quantization_config':{'load_in_4bit':true,'quant_method':'bitsandbytes'}"), "'bitsandbytes'"},
        {LLAMA("'rope_scaling':{'type':'yarn','factor':16.0,'original_max_position_embeddings':4096}"),
         "'rope_type' is 'yarn'"},
        {LLAMA("'rope_scaling':{'type':'dynamic','factor':2.0}"), "'rope_type' is 'dynamic'"},
        {LLAMA("'rope_scaling':{'rope_type':'longrope','long_factor':[1],'short_factor':[1]}"),
         "'rope_type' is 'longrope'"},
        {LLAMA("'rope_parameters':{'full_attention':{'rope_type':'yarn','rope_theta':1e6}}"),
         "rope_parameters: 'full_attention' has parameters of its own"},
        {LLAMA("'layer_types':['full_attention','sliding_attention'],'sliding_window':8"),
         "'layer_types': entry 1 is 'sliding_attention', only 'full_attention'"},
        {"{'model_type':'mistral'," SIZES ",'sliding_window':8,'layer_types':['sliding_attention','full_attention']}",
         "'layer_types': entry 1 is 'full_attention', only 'sliding_attention'"},
        {LLAMA("'layer_types':[7]"), "'layer_types': entry 0 is 'not a string'"},
        {LLAMA("'partial_rotary_factor':0.5"), "'partial_rotary_factor' is 0.5"},
    };
    for (size_t i = 0; i < POL_COUNT(cases); i++) {
        pol_config c;
        assert_fails(*state, read_json(*state, cases[i].text, &c), POL_EUNSUPPORTED, cases[i].part);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_accepted, test_context_open, test_context_close),
        cmocka_unit_test_setup_teardown(test_refused_by_name, test_context_open, test_context_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
