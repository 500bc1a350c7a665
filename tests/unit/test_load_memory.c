/* test_load_memory.c - what loading a model takes at its highest: the weights and one tensor. */
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/export/safetensors_write.h"
#include "core/model/tensors.h"
#include "pollard/model.h"
#include "tests/test.h"

/* The embedding is the largest tensor by far, and larger than what the loader needs besides the weights. */
enum { LAYERS = 4, HIDDEN = 256, GROUPS = 4, HEADS_PER_GROUP = 1, HEAD_DIM = 64, FFN = 512, VOCAB = 16000 };

static const int64_t EMBED_BYTES = (int64_t)VOCAB * HIDDEN * sizeof(float);

/* Sanitizers keep freed memory and shadow what is used. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RESIDENT_MEANS_LITTLE 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RESIDENT_MEANS_LITTLE 1
#endif
#endif

static int64_t resident(void)
{
    long total, pages;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld %ld", &total, &pages), 2);
    fclose(f);
    return (int64_t)pages * sysconf(_SC_PAGESIZE);
}

/* Counts what is allocated, and looks at the resident set whenever that changes. */
typedef struct counter {
    int64_t live, peak, peak_resident;
} counter;

enum { HEADER = 16 }; /* before each block: its size, at malloc's alignment */

static void look(counter *c)
{
    if (c->live > c->peak)
        c->peak = c->live;
    const int64_t now = resident();
    if (now > c->peak_resident)
        c->peak_resident = now;
}

static void *counted_realloc(void *user, void *block, size_t bytes)
{
    counter *c = user;
    char *old = block ? (char *)block - HEADER : NULL;
    const size_t old_bytes = old ? *(size_t *)(void *)old : 0;
    char *new = realloc(old, HEADER + bytes);
    if (!new)
        return NULL;
    *(size_t *)(void *)new = bytes;
    c->live += (int64_t)bytes - (int64_t)old_bytes;
    look(c);
    return new + HEADER;
}

static void counted_free(void *user, void *block)
{
    counter *c = user;
    char *old = (char *)block - HEADER;
    look(c);
    c->live -= (int64_t) * (size_t *)(void *)old;
    free(old);
}

/* A model folder of that shape; every value is small and finite. */
static void write_model(const char *dir, pol_dtype dtype)
{
    static float row[HIDDEN * 8];
    pol_context *ctx;
    assert_int_equal(pol_context_new(NULL, &ctx), POL_OK);
    pol_config c = {.n_layers = LAYERS,
                    .hidden = HIDDEN,
                    .heads_per_group = HEADS_PER_GROUP,
                    .head_dim = HEAD_DIM,
                    .n_groups = GROUPS,
                    .ffn = FFN,
                    .vocab = VOCAB,
                    .tied = true};
    for (int l = 0; l < LAYERS; l++)
        c.layers[l] = (pol_layer_shape){GROUPS, FFN};
    pol_st_tensor t[LAYERS * POL_T_KINDS];
    int64_t values[LAYERS * POL_T_KINDS];
    int64_t n = 0;
    for (int l = 0; l < LAYERS; l++)
        for (int k = 0; k < POL_T_KINDS; k++) {
            const pol_tensor_kind kind = (pol_tensor_kind)k;
            int64_t rows, cols;
            pol_tensor_shape(&c, kind, l, &rows, &cols);
            if (rows == 0 || (pol_tensor_is_global(kind) && l > 0))
                continue;
            const bool vector = pol_tensor_is_vector(kind);
            t[n] = (pol_st_tensor){.dtype = dtype, .n_dims = vector ? 1 : 2, .shape = {vector ? cols : rows, cols}};
            pol_tensor_name(kind, l, t[n].name, sizeof t[n].name);
            values[n++] = rows * cols;
        }
    for (size_t i = 0; i < POL_COUNT(row); i++)
        row[i] = (float)(i % 7) * 0.125f;
    pol_st_writer *w;
    assert_ok(ctx, pol_st_open(ctx, dir, t, n, UINT64_MAX, &w));
    for (int64_t i = 0; i < n; i++)
        for (int64_t at = 0; at < values[i]; at += (int64_t)POL_COUNT(row))
            assert_ok(ctx, pol_st_append(w, row, pol_min_i64((int64_t)POL_COUNT(row), values[i] - at)));
    assert_ok(ctx, pol_st_finish(w));
    json_t *j =
        json_pack("{s:[s],s:s,s:s,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:f,s:f,s:b}", "architectures", "LlamaForCausalLM",
                  "model_type", "llama", "hidden_act", "silu", "hidden_size", HIDDEN, "intermediate_size", FFN,
                  "num_hidden_layers", LAYERS, "num_attention_heads", GROUPS * HEADS_PER_GROUP, "num_key_value_heads",
                  GROUPS, "head_dim", HEAD_DIM, "vocab_size", VOCAB, "max_position_embeddings", 64, "rms_norm_eps",
                  1e-5, "rope_theta", 1e4, "tie_word_embeddings", true);
    char *config = pol_path_join(ctx, dir, "config.json");
    assert_ok(ctx, pol_json_write(ctx, config, j));
    pol_free(ctx, config);
    json_decref(j);
    pol_context_free(ctx);
}

static void check_load(pol_dtype dtype)
{
    char dir[] = "/tmp/pollard-load-XXXXXX";
    assert_non_null(mkdtemp(dir));
    write_model(dir, dtype);

    counter count = {0};
    pol_context *ctx;
    pol_source *src;
    pol_backend *be;
    pol_model *model;
    assert_int_equal(pol_context_new(&(pol_allocator){&count, counted_realloc, counted_free}, &ctx), POL_OK);
    assert_ok(ctx, pol_source_open(ctx, dir, &src));
    assert_ok(ctx, pol_backend_open(ctx, &(pol_backend_options){.name = "cpu", .threads = 1}, &be));

    const int64_t weights = (int64_t)pol_model_bytes(pol_source_config(src), be, NULL);
    const int64_t before = count.live, before_resident = resident();
    count.peak = count.peak_resident = 0;
    assert_ok(ctx, pol_model_load(src, be, NULL, &model));
    look(&count);
    printf("%.1f MB of weights: %.1f MB allocated at the highest, %.1f MB resident\n", (double)weights / 1e6,
           (double)(count.peak - before) / 1e6, (double)(count.peak_resident - before_resident) / 1e6);
    assert_true(count.live - before >= weights);
    assert_true(count.live - before < weights + weights / 100);
    assert_true(count.peak - before <= weights + EMBED_BYTES);
#ifndef RESIDENT_MEANS_LITTLE
    /* Pages of the file that have been read are given back: they would come to the weights once more. */
    const int64_t slack = 4 << 20; /* page tables, the C library's heap, code */
    assert_true(count.peak_resident - before_resident <= weights + EMBED_BYTES + slack);
#endif

    pol_model_free(model);
    pol_backend_close(be);
    pol_source_close(src);
    assert_ok(ctx, pol_remove_tree(ctx, dir));
    pol_context_free(ctx);
    assert_int_equal(count.live, 0);
}

static void test_f32(void **state) { (void)state, check_load(POL_F32); }
static void test_bf16(void **state) { (void)state, check_load(POL_BF16); }

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_f32), cmocka_unit_test(test_bf16)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
