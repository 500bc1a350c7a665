/* test_source.c - whole small models, as a folder and as GGUF, good and bad; and the shared real ones. */
#include <math.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/model/source.h"
#include "core/model/tensors.h"
#include "tests/unit/model_files.h"

typedef struct fixture {
    pol_context *ctx;
    char dir[64];
    char path[4][128];
    int warnings;
    char warning[256];
} fixture;

static void keep_warning(void *user, pol_log_level level, const char *line)
{
    fixture *f = user;
    if (level == POL_LOG_WARN && f->warnings++ == 0)
        snprintf(f->warning, sizeof f->warning, "%s", line);
}

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/pollard-source-XXXXXX");
    *state = f;
    if (pol_context_new(NULL, &f->ctx) < 0 || !mkdtemp(f->dir))
        return -1;
    pol_context_log(f->ctx, keep_warning, f, POL_LOG_WARN);
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    pol_remove_tree(f->ctx, f->dir);
    pol_context_free(f->ctx);
    free(f);
    return 0;
}

static const char *write_in(fixture *f, const char *name, pol_bytes b)
{
    static int turn;
    char *path = f->path[turn++ % 4];
    snprintf(path, sizeof f->path[0], "%s/%s", f->dir, name);
    assert_ok(f->ctx, pol_file_write(f->ctx, path, b.data, b.len));
    pol_bytes_free(&b);
    return path;
}

static const char *write_text(fixture *f, const char *name, const char *text)
{
    pol_bytes b = {.ctx = f->ctx};
    put(&b, text, strlen(text));
    return write_in(f, name, b);
}

/* ---- a model of two layers whose every number says where it belongs ---- */

static pol_config small_config(void)
{
    pol_config c = {
        .n_layers = 2, .hidden = 8, .heads_per_group = 2, .head_dim = 4, .n_groups = 2, .ffn = 6, .vocab = 10};
    for (int l = 0; l < 2; l++)
        c.layers[l] = (pol_layer_shape){2, 6};
    return c;
}

static float value_at(pol_tensor_kind kind, int32_t layer, int64_t row, int64_t col)
{
    return (float)(10000 * kind + 5000 * layer + 100 * row + col) / 16;
}

/* What is put into a file in place of the good tensor of that name. */
typedef struct change {
    const char *name; /* NULL: nothing is changed */
    bool drop;
    int64_t rows, cols; /* 0: as they should be */
    float first;        /* 0: as it should be */
} change;

typedef struct piece {
    char name[96];
    int64_t rows, cols; /* rows 0 for a vector */
    float x[256];
} piece;

/* Row r of q and k in the order of GGUF files: adjacent pairs. Written out for D = 4: half-split rows 0 1 2 3 stand at
 * 0 2 1 3. */
static int64_t adjacent(int64_t r)
{
    static const int64_t at[4] = {0, 2, 1, 3};
    return r / 4 * 4 + at[r % 4];
}

static bool make_piece(const pol_config *c, pol_tensor_kind kind, int32_t layer, bool gguf, const change *ch, piece *p)
{
    int64_t rows, cols;
    *p = (piece){0};
    pol_tensor_shape(c, kind, layer, &rows, &cols);
    if (!cols || (layer && pol_tensor_is_global(kind)))
        return false;
    if (gguf)
        pol_tensor_gguf_name(kind, layer, p->name, sizeof p->name);
    else
        pol_tensor_name(kind, layer, p->name, sizeof p->name);
    const bool changed = ch->name && !strcmp(ch->name, p->name);
    if (changed && ch->drop)
        return false;
    if (changed && ch->cols) {
        rows = ch->rows;
        cols = ch->cols;
    }
    const bool turned_rows = gguf && (kind == POL_T_Q || kind == POL_T_K);
    const bool turned_cols = gguf && (kind == POL_T_Q_BIAS || kind == POL_T_K_BIAS);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t q = 0; q < cols; q++)
            p->x[(turned_rows ? adjacent(r) : r) * cols + (turned_cols ? adjacent(q) : q)] =
                value_at(kind, layer, r, q);
    if (changed && ch->first != 0)
        p->x[0] = ch->first;
    p->rows = pol_tensor_is_vector(kind) && !(changed && ch->rows) ? 0 : rows;
    p->cols = cols;
    return true;
}

static const char *write_gguf(fixture *f, const pol_config *c, const change *ch)
{
    gguf_file g = gguf_begin(f->ctx);
    gguf_key_str(&g, "general.architecture", "llama");
    gguf_key_u32(&g, "llama.block_count", (uint32_t)c->n_layers);
    gguf_key_u32(&g, "llama.embedding_length", (uint32_t)c->hidden);
    gguf_key_u32(&g, "llama.feed_forward_length", (uint32_t)c->ffn);
    gguf_key_u32(&g, "llama.attention.head_count", (uint32_t)(c->n_groups * c->heads_per_group));
    gguf_key_u32(&g, "llama.attention.head_count_kv", (uint32_t)c->n_groups);
    gguf_key_u32(&g, "llama.attention.key_length", (uint32_t)c->head_dim);
    gguf_key_u32(&g, "llama.attention.value_length", (uint32_t)c->head_dim);
    gguf_key_f32(&g, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    for (int32_t l = 0; l < c->n_layers; l++)
        for (int k = 0; k < POL_T_KINDS; k++) {
            piece p;
            if (make_piece(c, k, l, true, ch, &p))
                gguf_tensor_f32(&g, p.name, p.rows, p.cols, p.x);
        }
    return write_in(f, "model.gguf", gguf_end(&g));
}

/* config.json; `more` is put behind the rest. */
static void write_config(fixture *f, const pol_config *c, const char *more)
{
    char text[512];
    snprintf(
        text, sizeof text,
        "{\"model_type\":\"llama\",\"num_hidden_layers\":%d,\"hidden_size\":%d,\"num_attention_heads\":%d,"
        "\"num_key_value_heads\":%d,\"head_dim\":%d,\"intermediate_size\":%d,\"vocab_size\":%d,\"attention_bias\":%s,"
        "\"mlp_bias\":%s,\"tie_word_embeddings\":%s%s}",
        c->n_layers, c->hidden, c->n_groups * c->heads_per_group, c->n_groups, c->head_dim, c->ffn, c->vocab,
        c->qkv_bias ? "true" : "false", c->mlp_bias ? "true" : "false", c->tied ? "true" : "false", more);
    write_text(f, "config.json", text);
}

static const char *write_folder(fixture *f, const pol_config *c, const change *ch)
{
    write_config(f, c, "");
    safetensors_writer w = safetensors_begin(f->ctx);
    for (int32_t l = 0; l < c->n_layers; l++)
        for (int k = 0; k < POL_T_KINDS; k++) {
            piece p;
            if (make_piece(c, k, l, false, ch, &p))
                safetensors_f32(&w, p.name, p.rows, p.cols, p.x);
        }
    write_in(f, "model.safetensors", safetensors_end(&w));
    return f->dir;
}

/* Every tensor in one go, and every row by itself. */
static void check_values(fixture *f, pol_source *src)
{
    const pol_config *c = pol_source_config(src);
    for (int32_t l = 0; l < c->n_layers; l++)
        for (int k = 0; k < POL_T_KINDS; k++) {
            int64_t rows, cols;
            float all[256], one[16];
            pol_tensor_shape(c, k, l, &rows, &cols);
            assert_ok(f->ctx, pol_source_read(src, k, l, 0, rows, all));
            for (int64_t r = 0; r < rows; r++) {
                assert_ok(f->ctx, pol_source_read(src, k, l, r, 1, one));
                for (int64_t q = 0; q < cols; q++) {
                    const float want = value_at(k, pol_tensor_is_global(k) ? 0 : l, r, q);
                    if (all[r * cols + q] != want || one[q] != want)
                        fail_msg("kind %d, layer %d, row %d, column %d: %g and %g, expected %g", k, l, (int)r, (int)q,
                                 all[r * cols + q], one[q], want);
                }
            }
        }
}

static void test_reads_both_formats(void **state)
{
    fixture *f = *state;
    const change none = {0};
    for (int turn = 0; turn < 8; turn++) {
        pol_config c = small_config();
        c.tied = turn & 1;
        c.qkv_bias = c.o_bias = c.mlp_bias = turn & 2;
        const bool gguf = turn & 4;
        pol_source *src;
        const char *path = gguf ? write_gguf(f, &c, &none) : write_folder(f, &c, &none);
        assert_ok(f->ctx, pol_source_open(f->ctx, path, &src));
        assert_int_equal(f->warnings, 0);
        assert_true(pol_source_is_gguf(src) == gguf);
        assert_true((pol_source_gguf(src) != NULL) == gguf && (pol_source_config_json(src) == NULL) == gguf);
        assert_string_equal(pol_source_path(src), path);
        assert_true(pol_source_config(src)->tied == c.tied && pol_source_config(src)->o_bias == c.o_bias);
        assert_string_equal(pol_source_dtype(src, POL_T_DOWN, 1), "f32");
        check_values(f, src);
        float x[8];
        assert_fails(f->ctx, pol_source_read(src, POL_T_DOWN, 1, 8, 1, x), POL_EARG,
                     "rows 8..9 of tensor 'model.layers.1.mlp.down_proj.weight'");
        assert_fails(f->ctx, pol_source_read(src, POL_T_DOWN, 2, 0, 1, x), POL_EARG, "layer 2 of 2");
        pol_source_close(src);
    }
}

/* A folder with a pollard.json: only what is left of each block is there. */
static void test_reads_pruned_folder(void **state)
{
    fixture *f = *state;
    const change none = {0};
    pol_config c = small_config();
    c.layers[0] = (pol_layer_shape){1, 2};
    c.layers[1] = (pol_layer_shape){0, 6};
    write_folder(f, &c, &none);
    write_text(f, "pollard.json",
               "{\"format\":\"pollard-hf\",\"version\":1,\"layers\":[{\"groups\":[1],\"channels\":[3,4]},"
               "{\"groups\":[],\"channels\":[0,1,2,3,4,5]}]}");
    pol_source *src;
    assert_ok(f->ctx, pol_source_open(f->ctx, f->dir, &src));
    assert_int_equal(f->warnings, 0);
    assert_int_equal(pol_source_config(src)->ffn, 6);
    assert_int_equal(pol_source_config(src)->layers[0].ffn, 2);
    assert_string_equal(pol_source_dtype(src, POL_T_ATTN_NORM, 1), "none");
    check_values(f, src);
    pol_source_close(src);
    write_text(f, "pollard.json",
               "{\"format\":\"pollard-hf\",\"version\":1,\"layers\":[{\"groups\":[1],\"channels\":[3,4]},"
               "{\"groups\":[0],\"channels\":[0,1,2,3,4,5]}]}");
    assert_fails(f->ctx, pol_source_open(f->ctx, f->dir, &src), POL_EFORMAT,
                 "tensor 'model.layers.1.input_layernorm.weight' is missing");
}

/* tie_word_embeddings and the tensors may disagree in three ways. */
static void test_tying(void **state)
{
    fixture *f = *state;
    pol_source *src;
    pol_config c = small_config();
    const change no_output = {.name = "lm_head.weight", .drop = true};
    assert_ok(f->ctx, pol_source_open(f->ctx, write_folder(f, &c, &no_output), &src));
    assert_true(pol_source_config(src)->tied);
    assert_non_null(strstr(f->warning, "no tensor 'lm_head.weight'"));
    pol_source_close(src);

    /* Only the output matrix is there: it is the embedding. */
    const change no_embed = {.name = "model.embed_tokens.weight", .drop = true};
    pol_config tied = c;
    tied.tied = true;
    write_folder(f, &c, &no_embed);
    write_config(f, &tied, "");
    float x[8];
    assert_ok(f->ctx, pol_source_open(f->ctx, f->dir, &src));
    assert_true(pol_source_config(src)->tied);
    assert_ok(f->ctx, pol_source_read(src, POL_T_EMBED, 0, 3, 1, x));
    assert_true(x[2] == value_at(POL_T_OUTPUT, 0, 3, 2));
    pol_source_close(src);

    /* Both, and different: both are used. */
    const change none = {0};
    write_folder(f, &c, &none);
    write_config(f, &tied, "");
    f->warnings = 0;
    assert_ok(f->ctx, pol_source_open(f->ctx, f->dir, &src));
    assert_false(pol_source_config(src)->tied);
    assert_non_null(strstr(
        f->warning, "tie_word_embeddings is true, but 'lm_head.weight' differs from 'model.embed_tokens.weight'"));
    check_values(f, src);
    pol_source_close(src);
}

static void test_extra_tensors(void **state)
{
    fixture *f = *state;
    const change none = {0};
    pol_config c = small_config();
    pol_source *src;
    write_config(f, &c, "");
    safetensors_writer w = safetensors_begin(f->ctx);
    for (int32_t l = 0; l < c.n_layers; l++)
        for (int k = 0; k < POL_T_KINDS; k++) {
            piece p;
            if (make_piece(&c, k, l, false, &none, &p))
                safetensors_f32(&w, p.name, p.rows, p.cols, p.x);
        }
    const float one = 1;
    safetensors_f32(&w, "model.layers.0.self_attn.rotary_emb.inv_freq", 0, 1, &one);
    for (int i = 0; i < 7; i++) {
        char name[32];
        snprintf(name, sizeof name, "zz.extra%d", i);
        safetensors_f32(&w, name, 0, 1, &one);
    }
    write_in(f, "model.safetensors", safetensors_end(&w));
    assert_ok(f->ctx, pol_source_open(f->ctx, f->dir, &src));
    assert_int_equal(f->warnings, 6); /* five by name, then how many more */
    assert_non_null(strstr(f->warning, "tensor 'zz.extra0' is not part of a llama model and is ignored"));
    pol_source_close(src);
}

static void test_bad_models(void **state)
{
    fixture *f = *state;
    static const struct {
        change folder, gguf;
        const char *part, *gguf_part;
    } cases[] = {
        {{.name = "model.layers.1.mlp.up_proj.weight", .drop = true},
         {.name = "blk.1.ffn_up.weight", .drop = true},
         "tensor 'model.layers.1.mlp.up_proj.weight' is missing",
         "model.gguf: tensor 'blk.1.ffn_up.weight' is missing"},
        {{.name = "model.layers.0.self_attn.k_proj.weight", .rows = 7, .cols = 8},
         {.name = "blk.0.attn_k.weight", .rows = 7, .cols = 8},
         "tensor 'model.layers.0.self_attn.k_proj.weight' has shape [7, 8], the configuration asks for [8, 8]",
         "tensor 'blk.0.attn_k.weight' has shape [7, 8], the configuration asks for [8, 8]"},
        {{.name = "model.norm.weight", .rows = 1, .cols = 8},
         {.name = "output_norm.weight", .cols = 7},
         "tensor 'model.norm.weight' has shape [1, 8], the configuration asks for [8]",
         "tensor 'output_norm.weight' has shape [7], the configuration asks for [8]"},
    };
    pol_config c = small_config();
    pol_source *src;
    for (size_t i = 0; i < POL_COUNT(cases); i++) {
        assert_fails(f->ctx, pol_source_open(f->ctx, write_folder(f, &c, &cases[i].folder), &src), POL_EFORMAT,
                     cases[i].part);
        assert_null(src);
        assert_fails(f->ctx, pol_source_open(f->ctx, write_gguf(f, &c, &cases[i].gguf), &src), POL_EFORMAT,
                     cases[i].gguf_part);
        assert_null(src);
    }
    assert_fails(f->ctx, pol_source_open(f->ctx, "/no/such/model", &src), POL_EIO, "/no/such/model: cannot be opened");
    char empty[80];
    snprintf(empty, sizeof empty, "%s/empty", f->dir);
    assert_ok(f->ctx, pol_make_dir(f->ctx, empty));
    assert_fails(f->ctx, pol_source_open(f->ctx, empty, &src), POL_EIO, "empty/config.json: cannot be opened");
}

/* Integer tensors in the place of weights, and blocks in the place of a norm. */
static void test_wrong_types(void **state)
{
    fixture *f = *state;
    pol_source *src;
    write_text(f, "config.json",
               "{\"model_type\":\"llama\",\"num_hidden_layers\":1,\"hidden_size\":32,\"num_attention_heads\":1,"
               "\"intermediate_size\":32,\"vocab_size\":1}");
    write_in(f, "model.safetensors",
             safetensors_file(f->ctx,
                              "{\"model.embed_tokens.weight\":{\"dtype\":\"I8\",\"shape\":[1,32],"
                              "\"data_offsets\":[0,32]}}",
                              NULL, 32));
    assert_fails(f->ctx, pol_source_open(f->ctx, f->dir, &src), POL_EUNSUPPORTED,
                 "tensor 'model.embed_tokens.weight' has type i8, not a float type");

    gguf_file g = gguf_begin(f->ctx);
    gguf_key_str(&g, "general.architecture", "llama");
    gguf_key_u32(&g, "llama.block_count", 1);
    gguf_key_u32(&g, "llama.embedding_length", 32);
    gguf_key_u32(&g, "llama.feed_forward_length", 32);
    gguf_key_u32(&g, "llama.attention.head_count", 1);
    gguf_key_f32(&g, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    static const uint8_t block[34];
    gguf_record(&g, "token_embd.weight", 2, (uint64_t[]){32, 1}, 8, g.data.len);
    put(&g.data, block, sizeof block);
    pad_to(&g.data, 32);
    gguf_record(&g, "output_norm.weight", 1, (uint64_t[]){32}, 8, g.data.len);
    put(&g.data, block, sizeof block);
    assert_fails(f->ctx, pol_source_open(f->ctx, write_in(f, "q.gguf", gguf_end(&g)), &src), POL_EUNSUPPORTED,
                 "tensor 'output_norm.weight' has type q8_0, not f32, f16 or bf16");
}

static void test_weights_must_be_finite(void **state)
{
    fixture *f = *state;
    pol_config c = small_config();
    pol_source *src;
    float x[64];
    const change not_a_number = {.name = "model.layers.1.self_attn.v_proj.weight", .first = NAN};
    assert_ok(f->ctx, pol_source_open(f->ctx, write_folder(f, &c, &not_a_number), &src));
    assert_fails(f->ctx, pol_source_read(src, POL_T_V, 1, 0, 8, x), POL_EFORMAT,
                 "model.safetensors: tensor 'model.layers.1.self_attn.v_proj.weight': value at row 0, column 0 is nan");
    assert_ok(f->ctx, pol_source_read(src, POL_T_V, 1, 1, 7, x));
    pol_source_close(src);
    const change infinite = {.name = "blk.0.ffn_norm.weight", .first = -INFINITY};
    assert_ok(f->ctx, pol_source_open(f->ctx, write_gguf(f, &c, &infinite), &src));
    assert_fails(f->ctx, pol_source_read(src, POL_T_MLP_NORM, 0, 0, 1, x), POL_EFORMAT,
                 "model.gguf: tensor 'blk.0.ffn_norm.weight': value at row 0, column 0 is -inf");
    pol_source_close(src);
}

/* The same for the same model, another for one other weight or another configuration. */
static void test_hash(void **state)
{
    fixture *f = *state;
    const change none = {0}, other = {.name = "model.layers.1.mlp.down_proj.weight", .first = 7};
    char h[4][33];
    for (int i = 0; i < 4; i++) {
        pol_config c = small_config();
        pol_source *src;
        write_folder(f, &c, i == 2 ? &other : &none);
        if (i == 3)
            write_config(f, &c, ",\"rope_theta\":20000");
        assert_ok(f->ctx, pol_source_open(f->ctx, f->dir, &src));
        assert_ok(f->ctx, pol_source_hash(src, h[i]));
        char again[33];
        assert_ok(f->ctx, pol_source_hash(src, again));
        assert_string_equal(h[i], again);
        assert_int_equal(strlen(h[i]), 32);
        pol_source_close(src);
    }
    assert_string_equal(h[0], h[1]);
    assert_string_not_equal(h[0], h[2]);
    assert_string_not_equal(h[0], h[3]);
}

/* ---- memory that runs out ---- */

typedef struct meter {
    int64_t left; /* allocations that still succeed */
} meter;

static void *metered_realloc(void *user, void *block, size_t bytes)
{
    meter *m = user;
    return m->left-- > 0 ? realloc(block, bytes) : NULL;
}

static void metered_free(void *user, void *block)
{
    (void)user;
    free(block);
}

/* Whichever allocation fails, opening says so and leaves nothing behind (a leak is the sanitizer's to see). */
static void test_out_of_memory(void **state)
{
    fixture *f = *state;
    const change none = {0};
    const pol_config c = small_config();
    const char *paths[2] = {write_folder(f, &c, &none), write_gguf(f, &c, &none)};
    for (int i = 0; i < 2; i++) {
        pol_status s = POL_ENOMEM;
        int64_t n = 0;
        for (; s != POL_OK; n++) {
            meter m = {.left = 1};
            const pol_allocator a = {&m, metered_realloc, metered_free};
            pol_context *ctx;
            pol_source *src;
            assert_int_equal(pol_context_new(&a, &ctx), POL_OK);
            m.left = n;
            s = pol_source_open(ctx, paths[i], &src);
            assert_true(s == POL_OK || (s == POL_ENOMEM && !src && strstr(pol_error_text(ctx), "no memory")));
            pol_source_close(src);
            pol_context_free(ctx);
        }
        assert_true(n > 5);
    }
}

/* ---- real models: sums that tests/golden/source_sums.py took from the Python readers ---- */

typedef struct sums {
    double sum, weighted; /* of x, and of x times (row number + 1): the second sees rows out of order */
} sums;

static sums sums_of(fixture *f, pol_source *src, pol_tensor_kind kind, int32_t layer)
{
    int64_t rows, cols;
    pol_tensor_shape(pol_source_config(src), kind, layer, &rows, &cols);
    float *x = malloc((size_t)(rows * cols) * sizeof *x);
    assert_ok(f->ctx, pol_source_read(src, kind, layer, 0, rows, x));
    sums s = {0};
    for (int64_t r = 0; r < rows; r++)
        for (int64_t q = 0; q < cols; q++) {
            s.sum += x[r * cols + q];
            s.weighted += x[r * cols + q] * (double)(r + 1);
        }
    free(x);
    return s;
}

static void check_sums(fixture *f, const char *path, const char *golden)
{
    pol_source *src;
    assert_ok(f->ctx, pol_source_open(f->ctx, path, &src));
    assert_int_equal(f->warnings, 0);
    FILE *in = fopen(test_file(golden), "r");
    assert_non_null(in);
    int seen = 0, expected = 0;
    char line[256], name[96], other[96];
    double sum, weighted;
    while (fgets(line, sizeof line, in)) {
        if (line[0] == '#' || sscanf(line, "%95s %lf %lf", name, &sum, &weighted) != 3)
            continue;
        expected++;
        for (int32_t l = 0; l < pol_source_config(src)->n_layers; l++)
            for (int k = 0; k < POL_T_KINDS; k++) {
                pol_tensor_name(k, l, other, sizeof other);
                if (strcmp(name, other) || (l && pol_tensor_is_global(k)))
                    continue;
                const sums s = sums_of(f, src, k, l);
                assert_near(s.sum, sum, 1e-9 * (1 + fabs(sum)));
                assert_near(s.weighted, weighted, 1e-9 * (1 + fabs(weighted)));
                seen++;
            }
    }
    fclose(in);
    assert_true(expected > 0);
    assert_int_equal(seen, expected);
    pol_source_close(src);
}

static void test_stories260k(void **state)
{
    check_sums(*state, shared_file("models/stories260K/stories260K.gguf"), "sums-stories260K.txt");
}

static void test_tinystories(void **state)
{
    shared_file("models/tinystories-656K/model.safetensors");
    char dir[4096];
    snprintf(dir, sizeof dir, "%s", shared_file("models/tinystories-656K/config.json"));
    *strrchr(dir, '/') = 0;
    check_sums(*state, dir, "sums-tinystories-656K.txt");
}

static void test_smollm2(void **state)
{
    const char *path = getenv("POLLARD_TEST_SMOLLM2");
    if (!path) {
        printf("skipped: POLLARD_TEST_SMOLLM2 does not name the model\n");
        skip();
    }
    check_sums(*state, path, "sums-smollm2-135M-q4_1.txt");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reads_both_formats, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reads_pruned_folder, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tying, setup, teardown),
        cmocka_unit_test_setup_teardown(test_extra_tensors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_models, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_types, setup, teardown),
        cmocka_unit_test_setup_teardown(test_weights_must_be_finite, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hash, setup, teardown),
        cmocka_unit_test_setup_teardown(test_out_of_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stories260k, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tinystories, setup, teardown),
        cmocka_unit_test_setup_teardown(test_smollm2, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
