/* test_export.c - exported folders, read back. */
#include "core/export/hf_config.h"
#include "core/model/family.h"
#include "tests/unit/export_model.h"

static void test_values(void **state)
{
    const fixture *f = *state;
    for (int i = 0; i < 8; i++) {
        const flavour m = {.tied = i & 1, .bias = i >> 1 & 1, .hidden = C, .type = POL_F32, .scale = 1};
        const bool by_block_byte = i >> 2 & 1;
        char dense[24], zeros[24], hf[24];
        snprintf(dense, sizeof dense, "dense%d", i);
        snprintf(zeros, sizeof zeros, "zeros%d", i);
        snprintf(hf, sizeof hf, "hf%d", i);
        make_model(f, dense, &m);
        check_model(f, dense, &m, &all, false, false);
        export_model(f, dense, &all, zeros, &some, &zeros_format, by_block_byte);
        check_model(f, zeros, &m, &some, true, false);
        export_model(f, dense, &all, hf, &some, &hf_format, by_block_byte);
        check_model(f, hf, &m, &some, false, false);
        check_pollard_json(f, hf, &some, dense);
    }
}

/* Tensors that take several pieces, in rows of units, in rows with columns moved, and whole. */
static void test_wide(void **state)
{
    const fixture *f = *state;
    flavour m = plain;
    m.hidden = 40000;
    make_model(f, "dense", &m);
    export_model(f, "dense", &all, "zeros", &some, &zeros_format, false);
    check_model(f, "zeros", &m, &some, true, false);
    export_model(f, "dense", &all, "hf", &some, &hf_format, false);
    check_model(f, "hf", &m, &some, false, false);
}

static void test_pruned_twice(void **state)
{
    const fixture *f = *state;
    for (int bias = 0; bias < 2; bias++) {
        flavour m = plain;
        m.bias = bias;
        assert_ok(f->ctx, pol_remove_tree(f->ctx, f->dir));
        assert_ok(f->ctx, pol_make_dir(f->ctx, f->dir));
        make_model(f, "dense", &m);
        export_model(f, "dense", &all, "once", &some, &hf_format, false);
        export_model(f, "once", &some, "twice", &fewer, &hf_format, true);
        check_model(f, "twice", &m, &fewer, false, false);
        check_pollard_json(f, "twice", &fewer, "dense");
        /* Back to the dense shapes, from either; norms of blocks that the source had already lost are 1. */
        export_model(f, "once", &some, "zeros", &some, &zeros_format, false);
        check_model(f, "zeros", &m, &some, true, true);
        export_model(f, "twice", &fewer, "zeros2", &fewer, &zeros_format, false);
        check_model(f, "zeros2", &m, &fewer, true, true);
    }
}

/* With no dtype asked for, 16-bit values come out as they went in. */
static void test_source_type_is_kept(void **state)
{
    const fixture *f = *state;
    for (int i = 0; i < 2; i++) {
        const flavour m = {.tied = true, .hidden = C, .type = i ? POL_BF16 : POL_F16, .scale = 0x1p-8f};
        char dense[24], out[24];
        snprintf(dense, sizeof dense, "dense%d", i);
        snprintf(out, sizeof out, "out%d", i);
        make_model(f, dense, &m);
        export_model(f, dense, &all, out, &all, &hf_format, false);
        pol_source *a = open_source(f, dense), *b = open_source(f, out);
        assert_string_equal(pol_source_dtype(b, POL_T_DOWN, 1), i ? "bf16" : "f16");
        float x[C * F], y[C * F];
        assert_ok(f->ctx, pol_source_read(a, POL_T_DOWN, 1, 0, C, x));
        assert_ok(f->ctx, pol_source_read(b, POL_T_DOWN, 1, 0, C, y));
        assert_memory_equal(x, y, sizeof x);
        pol_source_close(a);
        pol_source_close(b);
    }
}

static void assert_same_config(const pol_config *a, const pol_config *b)
{
    assert_string_equal(a->family, b->family);
    assert_true(a->n_layers == b->n_layers && a->hidden == b->hidden && a->heads_per_group == b->heads_per_group);
    assert_true(a->head_dim == b->head_dim && a->n_groups == b->n_groups && a->ffn == b->ffn && a->vocab == b->vocab);
    assert_true(a->max_positions == b->max_positions && a->window == b->window && a->rms_eps == b->rms_eps);
    assert_true(a->rope_theta == b->rope_theta && a->rope_scaling == b->rope_scaling &&
                a->rope_factor == b->rope_factor);
    assert_true(a->rope_low_freq == b->rope_low_freq && a->rope_high_freq == b->rope_high_freq);
    assert_true(a->rope_original_positions == b->rope_original_positions && a->tied == b->tied);
    assert_true(a->qkv_bias == b->qkv_bias && a->o_bias == b->o_bias && a->mlp_bias == b->mlp_bias);
    assert_memory_equal(a->layers, b->layers, (size_t)a->n_layers * sizeof *a->layers);
}

/* A configuration made for a GGUF is read back as it was. */
static void test_made_config(void **state)
{
    const fixture *f = *state;
    const pol_config base = {.family = "llama",
                             .n_layers = 2,
                             .hidden = C,
                             .heads_per_group = g,
                             .head_dim = D,
                             .n_groups = G,
                             .ffn = F,
                             .vocab = V,
                             .max_positions = 99,
                             .rms_eps = 1e-5f,
                             .rope_theta = 5e5f,
                             .layers = {{G, F}, {G, F}}};
    pol_config c[4] = {base, base, base, base};
    c[0].tied = true;
    c[1].rope_scaling = POL_ROPE_LINEAR;
    c[1].rope_factor = 4;
    c[1].qkv_bias = c[1].o_bias = c[1].mlp_bias = true;
    c[2].rope_scaling = POL_ROPE_LLAMA3;
    c[2].rope_factor = 8;
    c[2].rope_low_freq = 1;
    c[2].rope_high_freq = 4;
    c[2].rope_original_positions = 33;
    strcpy(c[3].family, "mistral");
    c[3].window = 17;
    for (size_t i = 0; i < 4; i++) {
        json_t *j;
        pol_config back;
        assert_ok(f->ctx, pol_export_make_config(f->ctx, "m.gguf", &c[i], 7, i ? 9 : -1, &j));
        assert_ok(f->ctx, pol_config_from_json(f->ctx, "config.json", j, &back));
        assert_same_config(&back, &c[i]);
        assert_string_equal(json_string_value(json_array_get(json_object_get(j, "architectures"), 0)),
                            i == 3 ? "MistralForCausalLM" : "LlamaForCausalLM");
        assert_int_equal(json_integer_value(json_object_get(j, "bos_token_id")), 7);
        assert_int_equal(json_object_get(j, "eos_token_id") != NULL, i > 0);
        json_decref(j);
    }
    json_t *j;
    c[1].o_bias = false;
    assert_fails(f->ctx, pol_export_make_config(f->ctx, "m.gguf", &c[1], 1, 2, &j), POL_EUNSUPPORTED,
                 "m.gguf: attention biases");
    c[3].mlp_bias = true;
    assert_fails(f->ctx, pol_export_make_config(f->ctx, "m.gguf", &c[3], 1, 2, &j), POL_EUNSUPPORTED, "sliding window");
}

/* A GGUF: the folder made from it has its configuration, weights and vocabulary. */
static void test_from_gguf(void **state)
{
    const fixture *f = *state;
    pol_source *src, *out;
    assert_ok(f->ctx, pol_source_open(f->ctx, shared_file("models/stories260K/stories260K.gguf"), &src));
    const pol_config *c = pol_source_config(src);
    pol_units *u;
    assert_ok(f->ctx, pol_units_new(f->ctx, c, &u));
    uint8_t *mask = malloc((size_t)u->n);
    memset(mask, 1, (size_t)u->n);
    mask[pol_units_section(u, POL_UNIT_GROUP, 1)->first + 2] = 0; /* group 2 of layer 1 */
    assert_ok(f->ctx, pol_export(src, u, mask, &hf_format, in(f, "out")));
    assert_ok(f->ctx, pol_source_open(f->ctx, in(f, "out"), &out));
    pol_config want = *c;
    want.layers[1].n_groups--;
    assert_same_config(pol_source_config(out), &want);
    const int64_t unit = (int64_t)c->heads_per_group * c->head_dim;
    float *a = malloc((size_t)(c->n_groups * unit * c->hidden) * sizeof *a),
          *b = malloc((size_t)(c->n_groups * unit * c->hidden) * sizeof *b);
    assert_ok(f->ctx, pol_source_read(src, POL_T_Q, 1, 0, c->n_groups * unit, a));
    assert_ok(f->ctx, pol_source_read(out, POL_T_Q, 1, 0, (c->n_groups - 1) * unit, b));
    for (int64_t r = 0; r < (c->n_groups - 1) * unit; r++)
        assert_memory_equal(b + r * c->hidden, a + (r < 2 * unit ? r : r + unit) * c->hidden,
                            (size_t)c->hidden * sizeof *a);
    free(a);
    free(b);
    json_t *j;
    assert_ok(f->ctx, pol_json_read(f->ctx, in(f, "out/config.json"), 1 << 20, &j));
    assert_string_equal(json_string_value(json_object_get(j, "torch_dtype")), "float32");
    assert_int_equal(json_integer_value(json_object_get(j, "bos_token_id")), 1);
    assert_int_equal(json_integer_value(json_object_get(j, "eos_token_id")), 2);
    json_decref(j);
    assert_true(pol_path_exists(in(f, "out/tokenizer.json")));
    free(mask);
    pol_units_free(u);
    pol_source_close(out);
    pol_source_close(src);
}

static void test_folder_files(void **state)
{
    const fixture *f = *state;
    make_model(f, "dense", &plain);
    const pol_export_options o = {.format = POL_EXPORT_ZEROS, .dtype = "bf16"};
    export_model(f, "dense", &all, "out", &some, &o, false);
    json_t *j;
    assert_ok(f->ctx, pol_json_read(f->ctx, in(f, "out/config.json"), 1 << 20, &j));
    assert_string_equal(json_string_value(json_object_get(j, "a_field_of_its_own")), "stays");
    assert_string_equal(json_string_value(json_object_get(j, "torch_dtype")), "bfloat16");
    assert_int_equal(json_integer_value(json_object_get(j, "num_key_value_heads")), G);
    json_decref(j);
    pol_bytes b;
    assert_ok(f->ctx, pol_file_read(f->ctx, in(f, "out/tokenizer_config.json"), 100, &b));
    assert_string_equal(b.data, "{}\n");
    pol_bytes_free(&b);
    assert_false(pol_path_exists(in(f, "out/pollard.json")));
    assert_ok(f->ctx, pol_file_read(f->ctx, in(f, "out/README.md"), 1 << 16, &b));
    /* Groups: 2 + 0 + 1 of 9. Channels: 4 + 7 + 0 of 30. */
    assert_non_null(strstr(b.data, "Kept: 3 of 9 key/value groups, 11 of 30 MLP channels"));
    assert_non_null(strstr(b.data, "| 1 | 0 | 7 |\n"));
    pol_bytes_free(&b);
}

static void test_shards(void **state)
{
    const fixture *f = *state;
    flavour m = plain;
    m.bias = true;
    make_model(f, "dense", &m);
    const pol_export_options o = {.format = POL_EXPORT_HF, .shard_bytes = 2000};
    export_model(f, "dense", &all, "out", &some, &o, false);
    check_model(f, "out", &m, &some, false, false);
    assert_false(pol_path_exists(in(f, "out/model.safetensors")));
    json_t *j;
    assert_ok(f->ctx, pol_json_read(f->ctx, in(f, "out/model.safetensors.index.json"), 1 << 20, &j));
    const char *first =
        json_string_value(json_object_get(json_object_get(j, "weight_map"), "model.embed_tokens.weight"));
    int n = 0, total = 0;
    assert_int_equal(sscanf(first, "model-00001-of-%05d.safetensors", &n), 1);
    assert_in_range(n, 3, 30);
    for (int i = 1; i <= n; i++) {
        char name[300];
        snprintf(name, sizeof name, "%s/model-%05d-of-%05d.safetensors", in(f, "out"), i, n);
        pol_map map;
        assert_ok(f->ctx, pol_map_open(f->ctx, name, &map));
        uint64_t header;
        memcpy(&header, map.data, sizeof header);
        assert_int_equal(header % 8, 0);
        assert_in_range(map.size - 8 - header, 1, 2000);
        total += (int)(map.size - 8 - header);
        pol_map_close(&map);
    }
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "metadata"), "total_size")), total);
    json_decref(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wide, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pruned_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(test_source_type_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_made_config, setup, teardown),
        cmocka_unit_test_setup_teardown(test_from_gguf, setup, teardown),
        cmocka_unit_test_setup_teardown(test_folder_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shards, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
