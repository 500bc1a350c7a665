/* test_export.c - exported folders, read back.
 *
 * The model of these tests has a different integer in every element of every tensor (element()), so that an output
 * element says where it came from. What must be there is worked out from lists of kept units, without the library's
 * mask functions.
 */
#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/rng.h"
#include "core/export/hf_config.h"
#include "core/export/safetensors_write.h"
#include "core/model/family.h"
#include "core/model/half.h"
#include "core/model/tensors.h"
#include "pollard/export.h"
#include "tests/test.h"

enum { L = 3, C = 12, G = 3, g = 2, D = 4, F = 10, V = 20 };

/* Units of the dense model that are still there: what the test's own bookkeeping says. */
typedef struct kept {
    int n_groups[L], groups[L][G];
    int n_channels[L], channels[L][F];
} kept;

static const kept all = {
    {3, 3, 3},
    {{0, 1, 2}, {0, 1, 2}, {0, 1, 2}},
    {10, 10, 10},
    {{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
};

/* What differs between the models of the tests. */
typedef struct flavour {
    bool tied, bias;
    int hidden;
    pol_dtype type;
    float scale; /* of all values */
} flavour;

static const flavour plain = {.hidden = C, .type = POL_F32, .scale = 1};

typedef struct fixture {
    pol_context *ctx;
    char dir[64];
} fixture;

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/pollard-export-XXXXXX");
    *state = f;
    return mkdtemp(f->dir) && pol_context_new(NULL, &f->ctx) == POL_OK ? 0 : -1;
}

static int teardown(void **state)
{
    fixture *f = *state;
    pol_status s = pol_remove_tree(f->ctx, f->dir);
    pol_context_free(f->ctx);
    free(f);
    return s;
}

static const char *in(const fixture *f, const char *name)
{
    static char path[8][256];
    static int turn;
    char *p = path[turn++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", f->dir, name);
    return p;
}

/* Different for every element; below 2^24, so exact in f32. */
static float element(int kind, int layer, int64_t row, int64_t col)
{
    return (float)(((kind * L + layer) * 64 + row) * 64 + col + 1);
}

/* Writes the dense model. */
static void make_model(const fixture *f, const char *name, const flavour *m)
{
    const char *dir = in(f, name);
    assert_ok(f->ctx, pol_make_dir(f->ctx, dir));
    pol_config c = {.n_layers = L,
                    .hidden = m->hidden,
                    .heads_per_group = g,
                    .head_dim = D,
                    .n_groups = G,
                    .ffn = F,
                    .vocab = V,
                    .tied = m->tied,
                    .qkv_bias = m->bias,
                    .o_bias = m->bias,
                    .mlp_bias = m->bias};
    for (int l = 0; l < L; l++)
        c.layers[l] = (pol_layer_shape){G, F};
    struct {
        pol_tensor_kind kind;
        int layer;
        int64_t rows, cols;
    } plan[L * POL_T_KINDS];
    pol_st_tensor t[L * POL_T_KINDS];
    int n = 0;
    for (int l = 0; l < L; l++)
        for (int k = 0; k < POL_T_KINDS; k++) {
            const pol_tensor_kind kind = (pol_tensor_kind)k;
            int64_t rows, cols;
            pol_tensor_shape(&c, kind, l, &rows, &cols);
            if (rows == 0 || (pol_tensor_is_global(kind) && l > 0))
                continue;
            const bool vector = pol_tensor_is_vector(kind);
            plan[n].kind = kind;
            plan[n].layer = l;
            plan[n].rows = rows;
            plan[n].cols = cols;
            t[n] = (pol_st_tensor){.dtype = m->type, .n_dims = vector ? 1 : 2, .shape = {vector ? cols : rows, cols}};
            pol_tensor_name(kind, l, t[n].name, sizeof t[n].name);
            n++;
        }
    pol_st_writer *w;
    assert_ok(f->ctx, pol_st_open(f->ctx, dir, t, n, UINT64_MAX, &w));
    for (int i = 0; i < n; i++)
        for (int64_t r = 0; r < plan[i].rows; r++)
            for (int64_t j = 0; j < plan[i].cols; j++) {
                const float x = m->scale * element(plan[i].kind, plan[i].layer, r, j);
                assert_ok(f->ctx, pol_st_append(w, &x, 1));
            }
    assert_ok(f->ctx, pol_st_finish(w));

    json_t *j = json_pack(
        "{s:[s],s:s,s:s,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:f,s:f,s:b,s:b,s:b,s:s,s:s}", "architectures",
        "LlamaForCausalLM", "model_type", "llama", "hidden_act", "silu", "hidden_size", m->hidden, "intermediate_size",
        F, "num_hidden_layers", L, "num_attention_heads", G * g, "num_key_value_heads", G, "head_dim", D, "vocab_size",
        V, "max_position_embeddings", 64, "rms_norm_eps", 1e-5, "rope_theta", 1e4, "tie_word_embeddings", m->tied,
        "attention_bias", m->bias, "mlp_bias", m->bias, "a_field_of_its_own", "stays", "torch_dtype",
        m->type == POL_F32   ? "float32"
        : m->type == POL_F16 ? "float16"
                             : "bfloat16");
    char *config = pol_path_join(f->ctx, dir, "config.json"),
         *tokenizer = pol_path_join(f->ctx, dir, "tokenizer_config.json");
    assert_ok(f->ctx, pol_json_write(f->ctx, config, j));
    assert_ok(f->ctx, pol_file_write(f->ctx, tokenizer, "{}\n", 3));
    pol_free(f->ctx, config);
    pol_free(f->ctx, tokenizer);
    json_decref(j);
}

static pol_source *open_source(const fixture *f, const char *name)
{
    pol_source *src;
    assert_ok(f->ctx, pol_source_open(f->ctx, in(f, name), &src));
    return src;
}

/* The mask over the units of a source that has `have`, keeping `want` of them. `by_block_byte`: blocks of which nothing
 * is wanted are removed by their own byte, with all their units' bytes at 1; else unit by unit. */
static uint8_t *make_mask(const pol_units *u, const kept *have, const kept *want, bool by_block_byte)
{
    uint8_t *mask = calloc((size_t)u->n, 1);
    for (int l = 0; l < L; l++) {
        const pol_section *sg = pol_units_section(u, POL_UNIT_GROUP, l),
                          *sc = pol_units_section(u, POL_UNIT_CHANNEL, l);
        for (int i = 0; i < have->n_groups[l]; i++)
            for (int k = 0; k < want->n_groups[l]; k++)
                mask[sg->first + i] |= have->groups[l][i] == want->groups[l][k];
        for (int i = 0; i < have->n_channels[l]; i++)
            for (int k = 0; k < want->n_channels[l]; k++)
                mask[sc->first + i] |= have->channels[l][i] == want->channels[l][k];
        const pol_section *sa = pol_units_section(u, POL_UNIT_ATTENTION, l),
                          *sm = pol_units_section(u, POL_UNIT_MLP, l);
        if (sa->count)
            mask[sa->first] = want->n_groups[l] > 0 || !by_block_byte;
        if (sm->count)
            mask[sm->first] = want->n_channels[l] > 0 || !by_block_byte;
        if (by_block_byte && want->n_groups[l] == 0)
            memset(mask + sg->first, 1, (size_t)sg->count);
        if (by_block_byte && want->n_channels[l] == 0)
            memset(mask + sc->first, 1, (size_t)sc->count);
    }
    return mask;
}

/* Exports `from`, which has `have`, to `to`, keeping `want`. */
static void export_model(const fixture *f, const char *from, const kept *have, const char *to, const kept *want,
                         const pol_export_options *o, bool by_block_byte)
{
    pol_source *src = open_source(f, from);
    pol_units *u;
    assert_ok(f->ctx, pol_units_new(f->ctx, pol_source_config(src), &u));
    uint8_t *mask = make_mask(u, have, want, by_block_byte);
    assert_ok(f->ctx, pol_export(src, u, mask, o, in(f, to)));
    free(mask);
    pol_units_free(u);
    pol_source_close(src);
}

static int find_int(const int *list, int n, int x)
{
    for (int i = 0; i < n; i++)
        if (list[i] == x)
            return i;
    return -1;
}

/* Index in the dense tensor of row or column `i` of an axis made of units of `width`; -1 where ZEROS must have 0. */
static int64_t dense_index(const int *list, int n, int64_t width, int64_t i, bool zeros)
{
    const int64_t unit = i / width;
    if (zeros)
        return find_int(list, n, (int)unit) < 0 ? -1 : i;
    assert_true(unit < n);
    return list[unit] * width + i % width;
}

static float expected(int kind, int layer, int64_t row, int64_t col, const kept *k, bool zeros)
{
    const int *gl = k->groups[layer], *cl = k->channels[layer], ng = k->n_groups[layer], nc = k->n_channels[layer];
    int64_t r = row, c = col;
    switch (kind) {
    case POL_T_Q: r = dense_index(gl, ng, g * D, row, zeros); break;
    case POL_T_K:
    case POL_T_V: r = dense_index(gl, ng, D, row, zeros); break;
    case POL_T_O:
    case POL_T_Q_BIAS: c = dense_index(gl, ng, g * D, col, zeros); break;
    case POL_T_K_BIAS:
    case POL_T_V_BIAS: c = dense_index(gl, ng, D, col, zeros); break;
    case POL_T_GATE:
    case POL_T_UP: r = dense_index(cl, nc, 1, row, zeros); break;
    case POL_T_DOWN:
    case POL_T_GATE_BIAS:
    case POL_T_UP_BIAS: c = dense_index(cl, nc, 1, col, zeros); break;
    case POL_T_O_BIAS: r = ng ? 0 : -1; break;
    case POL_T_DOWN_BIAS: r = nc ? 0 : -1; break;
    default: break;
    }
    return r < 0 || c < 0 ? 0 : element(kind, layer, r, c);
}

/* Reads every tensor of the folder: shapes and all values. `lost_norms`: norms of removed blocks are not there to be
 * compared. */
static void check_model(const fixture *f, const char *name, const flavour *m, const kept *k, bool zeros,
                        bool lost_norms)
{
    pol_source *src = open_source(f, name);
    const pol_config *c = pol_source_config(src);
    assert_int_equal(c->n_layers, L);
    for (int l = 0; l < L; l++) {
        const int64_t ng = zeros ? G : k->n_groups[l], nc = zeros ? F : k->n_channels[l];
        assert_int_equal(c->layers[l].n_groups, ng);
        assert_int_equal(c->layers[l].ffn, nc);
        const int64_t a = ng > 0, b = nc > 0, ab = m->bias && a, bb = m->bias && b, out = !m->tied, H = m->hidden;
        /* clang-format off */
        const int64_t shape[POL_T_KINDS][2] = {
            [POL_T_EMBED] = {V, H},
            [POL_T_OUTPUT] = {out * V, out * H},
            [POL_T_OUTPUT_NORM] = {1, H},
            [POL_T_ATTN_NORM] = {a, a * H},
            [POL_T_Q] = {ng * g * D, a * H},
            [POL_T_K] = {ng * D, a * H},
            [POL_T_V] = {ng * D, a * H},
            [POL_T_O] = {a * H, ng * g * D},
            [POL_T_MLP_NORM] = {b, b * H},
            [POL_T_GATE] = {nc, b * H},
            [POL_T_UP] = {nc, b * H},
            [POL_T_DOWN] = {b * H, nc},
            [POL_T_Q_BIAS] = {ab, ab * ng * g * D},
            [POL_T_K_BIAS] = {ab, ab * ng * D},
            [POL_T_V_BIAS] = {ab, ab * ng * D},
            [POL_T_O_BIAS] = {ab, ab * H},
            [POL_T_GATE_BIAS] = {bb, bb * nc},
            [POL_T_UP_BIAS] = {bb, bb * nc},
            [POL_T_DOWN_BIAS] = {bb, bb * H},
        };
        /* clang-format on */
        for (int kind = 0; kind < POL_T_KINDS; kind++) {
            if (pol_tensor_is_global((pol_tensor_kind)kind) && l > 0)
                continue;
            int64_t rows, cols;
            pol_tensor_shape(c, (pol_tensor_kind)kind, l, &rows, &cols);
            assert_int_equal(rows, shape[kind][0]);
            assert_int_equal(cols, shape[kind][1]);
            if (rows == 0)
                continue;
            float *x = malloc((size_t)(rows * cols) * sizeof *x);
            assert_ok(f->ctx, pol_source_read(src, (pol_tensor_kind)kind, l, 0, rows, x));
            const bool lost = lost_norms && ((kind == POL_T_ATTN_NORM && k->n_groups[l] == 0) ||
                                             (kind == POL_T_MLP_NORM && k->n_channels[l] == 0));
            for (int64_t r = 0; r < rows; r++)
                for (int64_t j = 0; j < cols; j++) {
                    const float want = lost ? 1 : m->scale * expected(kind, l, r, j, k, zeros);
                    if (x[r * cols + j] != want)
                        fail_msg("%s: kind %d, layer %d, row %d, column %d: %.9g, expected %.9g", name, kind, l, (int)r,
                                 (int)j, (double)x[r * cols + j], (double)want);
                }
            free(x);
        }
    }
    pol_source_close(src);
}

/* pollard.json says what `k` says, in the dense model's numbers. */
static void check_pollard_json(const fixture *f, const char *name, const kept *k, const char *source_name)
{
    char file[300];
    snprintf(file, sizeof file, "%s/pollard.json", in(f, name));
    json_t *j;
    assert_ok(f->ctx, pol_json_read(f->ctx, file, 1 << 20, &j));
    assert_string_equal(json_string_value(json_object_get(j, "format")), "pollard-hf");
    assert_int_equal(json_integer_value(json_object_get(j, "version")), 1);
    assert_string_equal(json_string_value(json_object_get(j, "pollard")), pol_version());
    assert_string_equal(json_string_value(json_object_get(json_object_get(j, "source"), "name")), source_name);
    assert_int_equal(json_string_length(json_object_get(json_object_get(j, "source"), "hash")), 32);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "dense"), "n_groups")), G);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "dense"), "ffn")), F);
    const json_t *layers = json_object_get(j, "layers");
    assert_int_equal(json_array_size(layers), L);
    for (int l = 0; l < L; l++) {
        const json_t *groups = json_object_get(json_array_get(layers, (size_t)l), "groups");
        const json_t *channels = json_object_get(json_array_get(layers, (size_t)l), "channels");
        assert_int_equal(json_array_size(groups), k->n_groups[l]);
        assert_int_equal(json_array_size(channels), k->n_channels[l]);
        for (int i = 0; i < k->n_groups[l]; i++)
            assert_int_equal(json_integer_value(json_array_get(groups, (size_t)i)), k->groups[l][i]);
        for (int i = 0; i < k->n_channels[l]; i++)
            assert_int_equal(json_integer_value(json_array_get(channels, (size_t)i)), k->channels[l][i]);
    }
    json_decref(j);
}

/* Layer 0 thinned, layer 1 without attention, layer 2 without MLP. */
static const kept some = {{2, 0, 1}, {{0, 2}, {0}, {1}}, {4, 7, 0}, {{1, 2, 5, 9}, {0, 1, 2, 3, 4, 7, 8}, {0}}};
/* A subset of it: layer 0 loses its MLP, layer 2 its last group. */
static const kept fewer = {{1, 0, 0}, {{2}, {0}, {0}}, {0, 3, 0}, {{0}, {1, 4, 8}, {0}}};

static const pol_export_options zeros_format = {.format = POL_EXPORT_ZEROS}, hf_format = {.format = POL_EXPORT_HF};

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

/* Nearest value with `digits` binary digits after the leading one and exponents from `least`, ties to even: by the
 * definition, in double. */
static double nearest(double x, int digits, int least)
{
    int e;
    frexp(x, &e);
    const double ulp = ldexp(1, (e - 1 < least ? least : e - 1) - digits);
    return nearbyint(x / ulp) * ulp;
}

static void test_rounding(void **state)
{
    const fixture *f = *state;
    enum { N = 40000 };
    static float x[2 * N];
    pol_normal(3, POL_STREAM_TEST, 0, 0, N, x);
    for (int i = 0; i < N;
         i++) { /* from below the smallest subnormal of f16 to its largest; every third a tie of one of the types */
        x[i] = ldexpf(x[i], i % 36 - 24);
        if (i % 3 == 0)
            x[i] = (float)nearest((double)x[i], i % 2 ? 11 : 8, -200);
        if (fabsf(x[i]) >= 65504)
            x[i] = 65504;
    }
    memcpy(x + N, x, N * sizeof *x);
    const pol_st_tensor t[] = {{"a", POL_F16, 1, {N, 0}}, {"b", POL_BF16, 2, {4, N / 4}}};
    pol_st_writer *w;
    assert_ok(f->ctx, pol_st_open(f->ctx, f->dir, t, 2, UINT64_MAX, &w));
    for (int i = 0; i < 2 * N; i += 100) /* in pieces */
        assert_ok(f->ctx, pol_st_append(w, x + i, 100));
    assert_ok(f->ctx, pol_st_finish(w));
    pol_map m;
    assert_ok(f->ctx, pol_map_open(f->ctx, in(f, "model.safetensors"), &m));
    uint64_t header;
    memcpy(&header, m.data, sizeof header);
    assert_int_equal(m.size, 8 + header + 2 * 2 * N);
    for (int i = 0; i < 2 * N; i++) {
        uint16_t h;
        memcpy(&h, m.data + 8 + header + 2 * i, 2);
        const double got = i < N ? (double)pol_f16_to_f32(h) : (double)pol_bf16_to_f32(h);
        const double want = i < N ? nearest((double)x[i], 10, -14) : nearest((double)x[i], 7, -126);
        if (got != want)
            fail_msg("%.17g written as %.17g, expected %.17g", (double)x[i], got, want);
    }
    pol_map_close(&m);
}

static void test_writer_refuses(void **state)
{
    const fixture *f = *state;
    pol_st_writer *w;
    const pol_st_tensor narrow_first[] = {{"a", POL_F16, 1, {3, 0}}, {"b", POL_F32, 1, {3, 0}}};
    assert_fails(f->ctx, pol_st_open(f->ctx, f->dir, narrow_first, 2, 100, &w), POL_EARG, "'b' is declared after 'a'");
    const pol_st_tensor huge = {"a", POL_F32, 2, {INT64_MAX / 2, INT64_MAX / 2}}, empty = {"a", POL_F32, 1, {0, 0}};
    assert_fails(f->ctx, pol_st_open(f->ctx, f->dir, &huge, 1, 100, &w), POL_EARG, "'a'");
    assert_fails(f->ctx, pol_st_open(f->ctx, f->dir, &empty, 1, 100, &w), POL_EARG, "'a'");
    const pol_st_tensor t = {"a", POL_F16, 1, {3, 0}};
    const float x[4] = {1, 2, 65520, NAN}; /* 65520 is the first that rounds to infinity */
    assert_ok(f->ctx, pol_st_open(f->ctx, f->dir, &t, 1, 100, &w));
    assert_fails(f->ctx, pol_st_append(w, x, 4), POL_EARG, "4 values are more than the 3");
    assert_fails(f->ctx, pol_st_append(w, x + 2, 1), POL_ENUMERIC, "tensor 'a': value 65520 cannot be written as F16");
    assert_fails(f->ctx, pol_st_append(w, x + 3, 1), POL_ENUMERIC, "value nan");
    assert_ok(f->ctx, pol_st_append(w, x, 2));
    assert_fails(f->ctx, pol_st_finish(w), POL_EARG, "'a' lacks 1 values");
    assert_false(pol_path_exists(in(f, "model.safetensors")));
}

static int entries(const char *dir)
{
    DIR *d = opendir(dir);
    assert_non_null(d);
    int n = 0;
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static void test_failures_leave_nothing(void **state)
{
    const fixture *f = *state;
    flavour m = plain;
    m.bias = true;
    make_model(f, "dense", &m);
    make_model(f, "nan", &m);
    FILE *file =
        fopen(in(f, "nan/model.safetensors"), "r+b"); /* the last value of the last tensor, layer 2's down bias */
    assert_non_null(file);
    const float nan = NAN;
    assert_int_equal(fseek(file, -4, SEEK_END), 0);
    assert_int_equal(fwrite(&nan, 4, 1, file), 1);
    fclose(file);

    pol_source *src = open_source(f, "dense"), *bad = open_source(f, "nan");
    pol_units *u, *other;
    assert_ok(f->ctx, pol_units_new(f->ctx, pol_source_config(src), &u));
    uint8_t *mask = make_mask(u, &all, &all, false);
    const int before = entries(f->dir);

    assert_fails(f->ctx, pol_export(src, u, mask, &zeros_format, in(f, "dense")), POL_EIO, "exists already");
    assert_fails(f->ctx, pol_export(src, u, mask, &zeros_format, in(f, "no/such/place")), POL_EIO, "no/such/place");
    assert_fails(f->ctx, pol_export(bad, u, mask, &hf_format, in(f, "out")), POL_EFORMAT,
                 "layers.2.mlp.down_proj.bias");
    const pol_export_options narrow = {.format = POL_EXPORT_HF, .dtype = "f16"},
                             odd = {.format = POL_EXPORT_HF, .dtype = "f8"};
    assert_fails(f->ctx, pol_export(src, u, mask, &narrow, in(f, "out")), POL_ENUMERIC, "cannot be written as F16");
    assert_fails(f->ctx, pol_export(src, u, mask, &odd, in(f, "out")), POL_EARG, "'f8'");
    pol_config c = *pol_source_config(src);
    c.layers[1].ffn--;
    assert_ok(f->ctx, pol_units_new(f->ctx, &c, &other));
    assert_fails(f->ctx, pol_export(src, other, mask, &hf_format, in(f, "out")), POL_EARG,
                 "layer 1: the mask has 9 channels");
    pol_units_free(other);

    pol_context_stop(f->ctx);
    assert_fails(f->ctx, pol_export(src, u, mask, &hf_format, in(f, "out")), POL_EINTERRUPTED, "stopped");
    pol_context_resume(f->ctx);

    /* A disk that fills up in the middle of the weights. */
    struct rlimit old, low;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    low = old;
    low.rlim_cur = 9000;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    const pol_status s = pol_export(src, u, mask, &hf_format, in(f, "out"));
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    assert_int_equal(s, POL_EIO);
    assert_non_null(strstr(pol_error_text(f->ctx), "model.safetensors: cannot be written"));

    assert_int_equal(entries(f->dir), before);
    free(mask);
    pol_units_free(u);
    pol_source_close(src);
    pol_source_close(bad);
}

/* Lets `left` more blocks be made. */
static void *limited_realloc(void *user, void *block, size_t bytes)
{
    int *left = user;
    return (*left)-- > 0 ? realloc(block, bytes) : NULL;
}

static void limited_free(void *user, void *block)
{
    (void)user;
    free(block);
}

/* Whichever block cannot be had: a code, nothing left behind, and (under the address sanitizer) nothing leaked. */
static void test_memory_runs_out(void **state)
{
    const fixture *f = *state;
    make_model(f, "dense", &plain);
    export_model(f, "dense", &all, "once", &some, &hf_format, false);
    int left = INT32_MAX;
    const pol_allocator limited = {&left, limited_realloc, limited_free};
    pol_context *ctx;
    pol_source *src;
    pol_units *u;
    assert_int_equal(pol_context_new(&limited, &ctx), POL_OK);
    assert_ok(ctx, pol_source_open(ctx, in(f, "once"), &src));
    assert_ok(ctx, pol_units_new(ctx, pol_source_config(src), &u));
    uint8_t *mask = make_mask(u, &some, &fewer, false);
    const pol_export_options o = {.format = POL_EXPORT_HF, .shard_bytes = 2000};
    const int before = entries(f->dir);
    pol_status s = POL_ENOMEM;
    int n = 0;
    for (; s != POL_OK; n++) {
        left = n;
        s = pol_export(src, u, mask, &o, in(f, "out"));
        left = INT32_MAX;
        if (s != POL_OK) {
            assert_int_equal(s, POL_ENOMEM);
            assert_int_equal(entries(f->dir), before);
        }
    }
    assert_in_range(n, 20, 1000);
    check_model(f, "out", &plain, &fewer, false, false);
    free(mask);
    pol_units_free(u);
    pol_source_close(src);
    pol_context_free(ctx);
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
        cmocka_unit_test_setup_teardown(test_rounding, setup, teardown),
        cmocka_unit_test_setup_teardown(test_writer_refuses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failures_leave_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory_runs_out, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
