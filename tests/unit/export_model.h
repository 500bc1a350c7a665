/* export_model.h - the model that the tests of exporting write, and what an export of it must hold.
 *
 * The model has a different integer in every element of every tensor (element()), so that an output element says where
 * it came from. What must be there is worked out from lists of kept units, without the library's mask functions.
 */
#ifndef POL_TEST_EXPORT_MODEL_H
#define POL_TEST_EXPORT_MODEL_H

#include <dirent.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/export/safetensors_write.h"
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

static inline int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/pollard-export-XXXXXX");
    *state = f;
    return mkdtemp(f->dir) && pol_context_new(NULL, &f->ctx) == POL_OK ? 0 : -1;
}

static inline int teardown(void **state)
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
static inline float element(int kind, int layer, int64_t row, int64_t col)
{
    return (float)(((kind * L + layer) * 64 + row) * 64 + col + 1);
}

/* Writes the dense model. */
static inline void make_model(const fixture *f, const char *name, const flavour *m)
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

static inline pol_source *open_source(const fixture *f, const char *name)
{
    pol_source *src;
    assert_ok(f->ctx, pol_source_open(f->ctx, in(f, name), &src));
    return src;
}

/* The mask over the units of a source that has `have`, keeping `want` of them. `by_block_byte`: blocks of which nothing
 * is wanted are removed by their own byte, with all their units' bytes at 1; else unit by unit. */
static inline uint8_t *make_mask(const pol_units *u, const kept *have, const kept *want, bool by_block_byte)
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
static inline void export_model(const fixture *f, const char *from, const kept *have, const char *to, const kept *want,
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

static inline int find_int(const int *list, int n, int x)
{
    for (int i = 0; i < n; i++)
        if (list[i] == x)
            return i;
    return -1;
}

/* Index in the dense tensor of row or column `i` of an axis made of units of `width`; -1 where ZEROS must have 0. */
static inline int64_t dense_index(const int *list, int n, int64_t width, int64_t i, bool zeros)
{
    const int64_t unit = i / width;
    if (zeros)
        return find_int(list, n, (int)unit) < 0 ? -1 : i;
    assert_true(unit < n);
    return list[unit] * width + i % width;
}

static inline float expected(int kind, int layer, int64_t row, int64_t col, const kept *k, bool zeros)
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
static inline void check_model(const fixture *f, const char *name, const flavour *m, const kept *k, bool zeros,
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
static inline void check_pollard_json(const fixture *f, const char *name, const kept *k, const char *source_name)
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

/* Entries of a folder, "." and ".." included. */
static inline int entries(const char *dir)
{
    DIR *d = opendir(dir);
    assert_non_null(d);
    int n = 0;
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

#endif
